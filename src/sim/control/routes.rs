//! `POST /sim/faults` and `GET /sim/sessions`: the control, for tests that start processes.
//!
//! **Invariant:** whoever shows no API key changes nothing and sees nothing; a fault that takes no
//! key for valid does not lock out the one who set it.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use crate::sim::admission::Key;
use crate::sim::control::Control;
use crate::sim::faults::{Act, Fault, Faults, MAX_FAULTS};
use crate::sim::protocol::error::ApiError;
use crate::sim::settings::Settings;

const MAX_BODY: usize = 64 << 10;

#[derive(Clone)]
struct Desk {
    settings: Arc<Settings>,
    control: Control,
}

/// What is to go wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    /// From now on, in place of what went wrong before.
    faults: Option<Vec<Fault>>,
    /// Once, in this order.
    #[serde(default)]
    now: Vec<Act>,
    /// In this session only.
    session: Option<String>,
}

/// Serves the control.
pub(crate) fn router(settings: Arc<Settings>, control: Control) -> Router {
    Router::new()
        .route("/sim/faults", post(command).get(faults))
        .route("/sim/sessions", get(sessions))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Desk { settings, control })
}

async fn command(State(desk): State<Desk>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = desk.refusal(&headers) {
        return refusal;
    }
    let command: Command = match serde_json::from_slice(&body) {
        Ok(command) => command,
        Err(fault) => {
            let error = ApiError::new("invalid_json", fault.to_string()).bounded();
            return refused(StatusCode::BAD_REQUEST, &error);
        }
    };
    if let Some(faults) = command.faults {
        if faults.len() > MAX_FAULTS {
            let message = format!("At most {} faults at one time.", MAX_FAULTS);
            let error = ApiError::invalid_value("faults", message);
            return refused(StatusCode::BAD_REQUEST, &error);
        }
        desk.control.set_faults(faults);
    }
    let reached = command.now.iter().map(|act| match &command.session {
        Some(session) => usize::from(desk.control.act_on(session, act)),
        None => desk.control.act(act),
    });
    let reached = reached.max().unwrap_or(0);
    let shown = json!({"faults": desk.control.faults(), "sessions": reached});
    axum::Json(shown).into_response()
}

async fn faults(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    let refusal = desk.refusal(&headers);
    refusal.unwrap_or_else(|| axum::Json(json!({"faults": desk.control.faults()})).into_response())
}

async fn sessions(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    if let Some(refusal) = desk.refusal(&headers) {
        return refusal;
    }
    let sessions = desk.control.sessions().await;
    axum::Json(json!({"sessions": sessions})).into_response()
}

impl Desk {
    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let opened = Key::of(headers).opens_all(&self.settings, &Faults::default());
        let error = opened.err()?;
        Some(refused(StatusCode::UNAUTHORIZED, &error))
    }
}

fn refused(status: StatusCode, error: &ApiError) -> Response {
    (status, axum::Json(json!({"error": error}))).into_response()
}
