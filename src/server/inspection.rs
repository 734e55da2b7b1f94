//! `/admin/sessions`: what is known of the sessions that run, and of those that ended lately.
//!
//! **Invariant:** nothing that people say is shown, and no credential.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures_util::future::join_all;
use serde::Serialize;

use crate::clock;
use crate::config::Provider;
use crate::core::ids::SessionId;
use crate::core::latency::Transport;
use crate::core::port::Fault;
use crate::core::session::facts::Facts;
use crate::diagnosis::{Report, Subject, headline};
use crate::driver::Seen;
use crate::server::App;
use crate::server::admin::Admin;
use crate::server::error::ApiError;
use crate::server::past::Ended;
use crate::server::sessions::{Conversation, Media};

/// A list, in OpenAI's shape.
#[derive(Serialize)]
pub(crate) struct List {
    object: &'static str,
    data: Vec<Line>,
}

/// A session in a list: what its own report says at more length.
#[derive(Serialize)]
struct Line {
    id: String,
    status: &'static str,
    began_at: u64,
    lasted_ms: u64,
    close_reason: Option<String>,
    tenant: String,
    user: Option<String>,
    transport: String,
    state: Option<String>,
    diagnosis: Option<String>,
}

/// `GET /admin/sessions`: those that run, then those that ended, the latest first.
pub(crate) async fn list(_: Admin, State(app): State<Arc<App>>) -> Json<List> {
    let running = app.sessions.running().into_iter().map(|one| (one, None));
    let ended = app.sessions.ended().into_iter();
    let ended = ended.map(|one| (Arc::clone(&one.conversation), Some(one)));
    let all: Vec<_> = running.chain(ended).collect();
    let reports = all
        .iter()
        .map(|(conversation, ended)| report(&app, conversation, ended.as_ref()));
    let mut data = vec![];
    for report in join_all(reports).await {
        let found = headline(&report.diagnosis).map(|found| found.says.clone());
        data.push(Line {
            id: report.id,
            status: report.status.name(),
            began_at: report.began_at,
            lasted_ms: report.lasted_ms,
            close_reason: report.close_reason,
            tenant: report.auth.tenant,
            user: report.auth.user,
            transport: report.connectivity.transport,
            state: report.state_machine.state,
            diagnosis: found,
        });
    }
    Json(List {
        object: "list",
        data,
    })
}

/// `GET /admin/sessions/{id}`
pub(crate) async fn one(
    _: Admin,
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Report>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let found = app.sessions.look_up(&SessionId::from(id));
    let (conversation, ended) = found.ok_or_else(|| {
        let message = "There is no such session, or it ended too long ago \
                       (`diagnosis.ended`, `diagnosis.ended_for`).";
        let fault = Fault::invalid("session_not_found", message).at("id");
        ApiError::new(StatusCode::NOT_FOUND, fault)
    })?;
    Ok(Json(report(&app, &conversation, ended.as_ref()).await))
}

/// Names how a client's sound travels. While a session does not answer, and its client may change,
/// nobody knows.
pub(crate) fn transport(conversation: &Conversation, facts: Option<&Facts>) -> &'static str {
    match (conversation.media, facts) {
        (_, Some(facts)) => facts.transport.name(),
        (Media::WebSocket, None) => Transport::WebSocket.name(),
        (Media::Direct, None) => Transport::Direct.name(),
        (Media::Relay, None) => "unknown",
    }
}

async fn report(app: &App, conversation: &Conversation, ended: Option<&Ended>) -> Report {
    let facts = match conversation.view.facts().await {
        Seen::Running(facts) | Seen::Ended(facts) => Some(facts),
        Seen::Silent => None,
    };
    let owner = &conversation.owner;
    let subject = Subject {
        id: conversation.id.to_string(),
        began_at: clock::unix(conversation.began),
        ended: ended.map(|ended| ended.at),
        tenant: owner.tenant.id.clone(),
        user: owner.user.clone(),
        device: owner.device.clone(),
        token: conversation.token().map(|token| token.to_string()),
        transport: transport(conversation, facts.as_ref()),
        provider: match &app.config.provider {
            Provider::Embedded => "embedded".to_owned(),
            Provider::OpenAi { base_url, .. } => base_url.as_str().to_owned(),
        },
    };
    let journal = conversation.view.journal();
    let budget = &app.config.budget;
    Report::new(subject, facts.as_ref(), &journal, budget, clock::now())
}
