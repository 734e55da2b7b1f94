//! Asks a relay that runs what is wrong with its sessions.

use std::fmt::Write;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde_json::Value;

use crate::diagnosis::Report;

/// How long the relay may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a relay is, and the key that opens its admin API.
pub struct Admin {
    pub url: String,
    pub key: String,
}

/// Why nothing was learnt. All of these are for the person who asks.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("`{url}` is not an http or https address")]
    Url { url: String },
    #[error("the relay cannot be reached: {0}")]
    Unreachable(String),
    #[error("the relay answers {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("the answer is not one of a voxline relay of this version: {0}")]
    Strange(#[from] serde_json::Error),
}

/// Returns the report of a session, or the list of sessions, as the relay gives it or to be read
/// by people.
pub async fn inspect(
    admin: &Admin,
    session: Option<&str>,
    as_json: bool,
) -> Result<String, RemoteError> {
    let body = fetch(admin, session).await?;
    if as_json {
        return Ok(body + "\n");
    }
    if session.is_some() {
        let report: Report = serde_json::from_str(&body)?;
        return Ok(report.to_text());
    }

    Ok(table(&serde_json::from_str(&body)?))
}

async fn fetch(admin: &Admin, session: Option<&str>) -> Result<String, RemoteError> {
    // Whoever embeds the relay may have chosen before; then theirs is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let refuse = || RemoteError::Url {
        url: admin.url.clone(),
    };
    let mut url = Url::parse(&admin.url).map_err(|_| refuse())?;
    {
        let mut path = url.path_segments_mut().map_err(|()| refuse())?;
        path.pop_if_empty().extend(["admin", "sessions"]);
        path.extend(session);
    }
    let client = Client::builder().timeout(PATIENCE).no_proxy().build();
    let asked = async { client?.get(url).bearer_auth(&admin.key).send().await };
    let answer = asked
        .await
        .map_err(|error| RemoteError::Unreachable(error.without_url().to_string()))?;
    let status = answer.status();
    let body = answer
        .text()
        .await
        .map_err(|error| RemoteError::Unreachable(error.to_string()))?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    let error: Value = serde_json::from_str(&body).unwrap_or_default();
    let message = error["error"]["message"].as_str();

    Err(RemoteError::Refused {
        status,
        message: message.unwrap_or("it says no more").to_owned(),
    })
}

/// Lists sessions for people, each with what is wrong with it.
fn table(list: &Value) -> String {
    let lines = list["data"].as_array().map_or(&[][..], Vec::as_slice);
    let mut page = format!("{} sessions\n", lines.len());
    for line in lines {
        let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
        let seconds = line["lasted_ms"].as_u64().unwrap_or_default() / 1000;
        let _ = writeln!(
            page,
            "{}  {:<11} {:<10} {seconds:>5} s  {:<9} {}/{}  {}",
            text("id"),
            text("status"),
            text("state"),
            text("transport"),
            text("tenant"),
            text("user"),
            text("diagnosis"),
        );
    }

    page
}
