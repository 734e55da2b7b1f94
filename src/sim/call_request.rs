//! `POST /v1/realtime/calls` and `…/hangup`: from HTTP to calls.
//!
//! **Invariants:** a key is judged before anything is read; a body is bounded in size and in time;
//! every refusal has OpenAI's shape.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::clock;
use crate::core::port::Fault;
use crate::sim::admission::{self, Key};
use crate::sim::calls::{Calls, MAX_OFFER};
use crate::sim::control::Control;
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::reader::{Read, object, string, word};
use crate::sim::protocol::session::Purpose;
use crate::sim::secrets::Secrets;
use crate::sim::server::rejection_of;
use crate::sim::settings::Settings;
use crate::wire::realtime::error_body;

const SDP: &str = "application/sdp";

/// The largest request: instructions and tools fit many times.
const MAX_BODY: usize = 1 << 20;
/// How long a request may take to arrive.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// What a client asks for.
pub(crate) struct CallRequest {
    pub(crate) offer: String,
    pub(crate) model: String,
    pub(crate) session: Value,
}

/// A refusal in OpenAI's shape, with its HTTP status.
#[derive(Debug)]
pub(crate) struct Refused {
    status: u16,
    body: String,
}

#[derive(Clone)]
struct Desk {
    settings: std::sync::Arc<Settings>,
    control: Control,
    secrets: Secrets,
    calls: Calls,
}

#[derive(Deserialize)]
struct Params {
    model: Option<String>,
}

/// Serves calls.
pub(crate) fn router(
    settings: std::sync::Arc<Settings>,
    control: Control,
    secrets: Secrets,
    calls: Calls,
) -> Router {
    Router::new()
        .route("/v1/realtime/calls", post(create))
        .route("/v1/realtime/calls/{id}/hangup", post(hang_up))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Desk {
            settings,
            control,
            secrets,
            calls,
        })
}

async fn create(
    State(desk): State<Desk>,
    Query(params): Query<Params>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refused> {
    let faults = desk.control.current();
    if let Some(rejection) = faults.rejection {
        return Ok(rejection_of(rejection));
    }
    let key = Key::of(&headers);
    let attached = key
        .opens_session(&desk.settings, &faults, &desk.secrets, clock::now())
        .map_err(|error| (401, error))?;
    let form = timeout(READ_WITHIN, read(request)).await;
    let Form { offer, session } = form.map_err(|_late| {
        let error = ApiError::new("request_timeout", "The body did not arrive in time.");
        (408, error)
    })??;
    let secret = attached.map(|attached| attached.purpose);
    let model = model(&session, params.model, secret).map_err(|error| (400, error.bounded()))?;
    let request = CallRequest {
        offer,
        model,
        session,
    };
    let placed = desk.calls.place(&key, request).await?;
    let location = format!("/v1/realtime/calls/{}", placed.id);
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, location),
    ];
    Ok((StatusCode::CREATED, headers, placed.answer).into_response())
}

async fn hang_up(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let opened = Key::of(&headers).opens_all(&desk.settings, &desk.control.current());
    opened.map_err(|error| (401, error))?;
    if desk.calls.hang_up(&id) {
        return Ok(StatusCode::OK);
    }
    let error = ApiError::new("call_id_not_found", "No call with this id is in progress.");
    Err((404, error.at("call_id")).into())
}

/// What a request brings.
#[derive(Default)]
struct Form {
    offer: String,
    /// Null if the offer came by itself.
    session: Value,
}

async fn read(request: Request) -> Result<Form, Refused> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    let form = if kind.eq_ignore_ascii_case(SDP) {
        let body = Bytes::from_request(request, &()).await;
        let body = body.map_err(|rejection: BytesRejection| {
            unreadable(rejection.status(), &rejection.body_text())
        })?;
        Form {
            offer: text("sdp", body.into())?,
            session: json!({"type": "realtime"}),
        }
    } else if kind.eq_ignore_ascii_case("multipart/form-data") {
        multipart(request).await?
    } else {
        let message = format!("Unsupported content type: send '{SDP}' or 'multipart/form-data'.");
        return Err((415, ApiError::new("unsupported_content_type", message)).into());
    };
    if form.offer.trim().is_empty() {
        return Err((400, ApiError::missing("sdp")).into());
    }
    if form.offer.len() > MAX_OFFER {
        let message = format!("The SDP offer may have at most {MAX_OFFER} bytes.");
        return Err((413, ApiError::new("request_too_large", message).at("sdp")).into());
    }
    Ok(form)
}

async fn multipart(request: Request) -> Result<Form, Refused> {
    let failed = |error: MultipartError| unreadable(error.status(), &error.body_text());
    let parts = Multipart::from_request(request, &()).await;
    let mut parts =
        parts.map_err(|rejection| unreadable(rejection.status(), &rejection.body_text()))?;
    let mut form = Form::default();
    let mut session = None;
    while let Some(part) = parts.next_field().await.map_err(failed)? {
        let name = part.name().unwrap_or_default().to_owned();
        let bytes = part.bytes().await.map_err(failed)?;
        match name.as_str() {
            "sdp" => form.offer = text("sdp", bytes.into())?,
            "session" => session = Some(bytes),
            // Others have no meaning; they are read and forgotten.
            _ => {}
        }
    }
    let session = session.ok_or_else(|| (400, ApiError::missing("session")))?;
    form.session = self::session(&session).map_err(|error| (400, error.bounded()))?;
    Ok(form)
}

fn session(bytes: &[u8]) -> Read<Value> {
    let session = serde_json::from_slice(bytes).map_err(|fault| {
        let message = format!("Invalid JSON in 'session': {fault}.");
        ApiError::new("invalid_json", message).at("session")
    })?;
    let session = object(session, "session")?;
    match session.get("type") {
        Some(kind) => word(&["realtime"])(kind.clone(), "session.type")?,
        None => return Err(ApiError::missing("session.type")),
    };
    Ok(session)
}

/// Returns the session's model, which a client secret may have named before.
fn model(session: &Value, named: Option<String>, secret: Option<Purpose>) -> Read<String> {
    if let Some(model) = session.get("model") {
        let model = string(model.clone(), "session.model")?;
        return admission::model(model).map_err(|error| error.at("session.model"));
    }
    match (named, secret) {
        (Some(named), _) => admission::model(named),
        (None, Some(Purpose::Conversation { model })) => Ok(model),
        (None, Some(Purpose::Transcription)) => {
            let message = "The client secret is for a transcription; a call is a conversation.";
            Err(ApiError::invalid_value("session.type", message))
        }
        (None, None) => Err(ApiError::missing("session.model")),
    }
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, Refused> {
    String::from_utf8(bytes).map_err(|_| {
        let message = format!("Invalid '{name}': expected UTF-8 text.");
        (400, ApiError::invalid_value(name, message)).into()
    })
}

fn unreadable(status: StatusCode, why: &str) -> Refused {
    (status.as_u16(), ApiError::new("invalid_request", why)).into()
}

impl From<(u16, ApiError)> for Refused {
    fn from((status, error): (u16, ApiError)) -> Self {
        let body = json!({"error": error}).to_string();
        Self { status, body }
    }
}

impl From<(u16, Fault)> for Refused {
    fn from((status, fault): (u16, Fault)) -> Self {
        let body = error_body(&fault);
        Self { status, body }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        let json = [(header::CONTENT_TYPE, "application/json")];
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, json, self.body).into_response()
    }
}
