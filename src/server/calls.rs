//! WebRTC calls: an SDP offer in, an answer out, and how a call is hung up.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::auth::Caller;
use crate::config::Limits;
use crate::core::ids::SessionId;
use crate::core::port::Fault;
use crate::server::admission::Owner;
use crate::server::error::ApiError;
use crate::server::{App, session};

const SDP: &str = "application/sdp";

/// Characters of a client's words that an error repeats.
const LONGEST_SHOWN: usize = 64;

/// Characters of a model's name. It becomes a part of the provider's URL.
const LONGEST_MODEL: usize = 256;

/// What a client asks for: its offer, and the session it wants.
#[derive(Debug, Default)]
struct Form {
    sdp: Option<String>,
    session: Option<Value>,
}

#[derive(Deserialize)]
pub(crate) struct Wanted {
    model: Option<String>,
}

/// `POST /v1/realtime/calls`
pub(crate) async fn create(
    caller: Caller,
    State(app): State<Arc<App>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let Query(wanted) = wanted.map_err(|error| malformed("query", &error.body_text()))?;
    let slot = app.sessions.admit(Owner::of(&caller))?;
    let handshake = app.admission.handshake()?;
    let limits = &app.config.limits;
    let form = timeout(limits.request_time, read(request, limits))
        .await
        .map_err(|_late| too_slow())??;
    let Some(offer) = form.sdp.filter(|sdp| !sdp.trim().is_empty()) else {
        return Err(missing("sdp", "the SDP offer"));
    };
    let model = model(form.session.as_ref(), wanted.model)?
        .unwrap_or_else(|| app.config.model.as_str().to_owned());
    let id = SessionId::from(format!("rtc_{}", uuid::Uuid::new_v4().simple()));
    let answer = session::call(&app, slot, id.clone(), &offer, model, form.session).await?;
    drop(handshake);
    let location = format!("/v1/realtime/calls/{id}");
    let headers: [(HeaderName, String); 2] = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, location),
    ];
    Ok((StatusCode::CREATED, headers, answer))
}

/// `POST /v1/realtime/calls/{id}/hangup`, and `DELETE /v1/realtime/calls/{id}` as WHIP has it.
pub(crate) async fn hang_up(
    _: Caller,
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = id.map_err(|error| malformed("path", &error.body_text()))?;
    if app.sessions.hang_up(&SessionId::from(id.as_str())) {
        return Ok(StatusCode::OK);
    }
    let fault = Fault::invalid(
        "call_not_found",
        format!("There is no call {:?} (any more).", shown(&id)),
    );
    Err(ApiError::new(StatusCode::NOT_FOUND, fault.at("call_id")))
}

async fn read(request: Request, limits: &Limits) -> Result<Form, ApiError> {
    match content_type(request.headers()).as_str() {
        SDP => Ok(Form {
            sdp: Some(raw(request.into_body(), limits.sdp.0).await?),
            session: None,
        }),
        "multipart/form-data" => multipart(request, limits).await,
        other => {
            let other = shown(other);
            let message = format!(
                "The body's Content-Type is {other:?}; send the offer as {SDP}, or as \
                 multipart/form-data with the parts `sdp` and `session`."
            );
            let fault = Fault::invalid("unsupported_content_type", message);
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault))
        }
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = text.split(';').next().unwrap_or("");
    essence.trim().to_ascii_lowercase()
}

async fn raw(body: Body, limit: usize) -> Result<String, ApiError> {
    let bytes = axum::body::to_bytes(body, limit).await.map_err(|error| {
        if is_over_limit(&error) {
            too_large("The SDP offer", limit)
        } else {
            broken_off()
        }
    })?;
    text("sdp", bytes.into())
}

async fn multipart(request: Request, limits: &Limits) -> Result<Form, ApiError> {
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|error| malformed("body", &error.body_text()))?;
    let refuse = |error: MultipartError| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            too_large("The body", limits.body.0)
        } else {
            malformed("body", &error.body_text())
        }
    };
    let mut form = Form::default();
    while let Some(mut part) = parts.next_field().await.map_err(refuse)? {
        let name = part.name().unwrap_or("").to_owned();
        let limit = match name.as_str() {
            "sdp" => limits.sdp.0,
            "session" => limits.body.0,
            // Others have no meaning here; they are read and forgotten.
            _ => continue,
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = part.chunk().await.map_err(refuse)? {
            if bytes.len() + chunk.len() > limit {
                return Err(too_large(&format!("The part `{name}`"), limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = text(&name, bytes)?;
        if name == "sdp" {
            form.sdp = Some(text);
        } else {
            form.session = Some(session_object(&text)?);
        }
    }
    if form.session.is_none() {
        return Err(missing("session", "a JSON object with `type` and `model`"));
    }
    Ok(form)
}

fn session_object(text: &str) -> Result<Value, ApiError> {
    let invalid = |code: &'static str, message: String, param: &str| {
        Err(ApiError::bad_request(
            Fault::invalid(code, message).at(param),
        ))
    };
    let session: Value = match serde_json::from_str(text) {
        Ok(session) => session,
        Err(error) => {
            let message = format!("The part `session` is not JSON: {error}.");
            return invalid("invalid_json", message, "session");
        }
    };
    if !session.is_object() {
        let message = "The part `session` is not a JSON object.".to_owned();
        return invalid("invalid_type", message, "session");
    }
    match session["type"].as_str() {
        Some("realtime") => Ok(session),
        None if session["type"].is_null() => {
            let message = "`session.type` is missing; this relay takes `realtime`.".to_owned();
            invalid("missing_required_parameter", message, "session.type")
        }
        Some(_) | None => {
            let kind = shown(&session["type"].to_string());
            let message = format!("`session.type` is {kind}; this relay takes `realtime`.");
            invalid("invalid_value", message, "session.type")
        }
    }
}

fn model(session: Option<&Value>, query: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(model) = session.and_then(|session| session.get("model")) else {
        return Ok(query);
    };
    match model.as_str() {
        Some(model) if model.chars().count() > LONGEST_MODEL => {
            let message = format!("`session.model` has more than {LONGEST_MODEL} characters.");
            let fault = Fault::invalid("invalid_value", message).at("session.model");
            Err(ApiError::bad_request(fault))
        }
        Some(model) => Ok(Some(model.to_owned())),
        None => {
            let model = shown(&model.to_string());
            let message = format!("`session.model` is {model}; it must be a string.");
            let fault = Fault::invalid("invalid_type", message).at("session.model");
            Err(ApiError::bad_request(fault))
        }
    }
}

/// As much of a client's words as an error repeats.
fn shown(words: &str) -> String {
    match words.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words.to_owned(),
    }
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, ApiError> {
    String::from_utf8(bytes).map_err(|_| malformed("body", &format!("`{name}` is not UTF-8 text")))
}

fn is_over_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn missing(part: &'static str, what: &str) -> ApiError {
    let message = format!("`{part}` is missing: {what}.");
    ApiError::bad_request(Fault::invalid("missing_required_parameter", message).at(part))
}

fn malformed(what: &str, why: &str) -> ApiError {
    let message = format!("The {what} cannot be read: {}.", why.trim_end_matches('.'));
    ApiError::bad_request(Fault::invalid("invalid_request", message))
}

fn broken_off() -> ApiError {
    malformed("body", "it broke off")
}

fn too_large(what: &str, limit: usize) -> ApiError {
    let message = format!("{what} is larger than {limit} bytes.");
    let fault = Fault::invalid("request_too_large", message);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, fault)
}

fn too_slow() -> ApiError {
    let fault = Fault::invalid("request_timeout", "The body did not arrive in time.");
    ApiError::new(StatusCode::REQUEST_TIMEOUT, fault)
}
