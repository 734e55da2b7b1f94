//! Reads the body of a request for a call: an SDP offer, and the session that is wanted.
//!
//! **Invariant:** no more of a body is kept than its limits allow, and nobody takes longer than
//! `limits.request_time` to send it.

use axum::body::Body;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

use crate::config::Limits;
use crate::core::port::Fault;
use crate::server::error::ApiError;
use crate::server::fields::shown;

pub(crate) const SDP: &str = "application/sdp";

/// What a client sends: its offer, and the session it wants.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) offer: String,
    pub(crate) session: Option<Value>,
}

/// The same while it is read.
#[derive(Debug, Default)]
struct Parts {
    sdp: Option<String>,
    session: Option<Value>,
}

impl Form {
    pub(crate) async fn read(request: Request, limits: &Limits) -> Result<Self, ApiError> {
        let Parts { sdp, session } = timeout(limits.request_time, read(request, limits))
            .await
            .map_err(|_late| too_slow())??;
        match sdp.filter(|sdp| !sdp.trim().is_empty()) {
            Some(offer) => Ok(Self { offer, session }),
            None => Err(missing("sdp", "the SDP offer")),
        }
    }
}

/// Reads a body that is one text of this kind.
pub(crate) async fn text_body(
    request: Request,
    what: &str,
    limit: usize,
    limits: &Limits,
) -> Result<String, ApiError> {
    timeout(limits.request_time, raw(request.into_body(), what, limit))
        .await
        .map_err(|_late| too_slow())?
}

async fn read(request: Request, limits: &Limits) -> Result<Parts, ApiError> {
    match content_type(request.headers()).as_str() {
        SDP => Ok(Parts {
            sdp: Some(raw(request.into_body(), "The SDP offer", limits.sdp.0).await?),
            session: None,
        }),
        "multipart/form-data" => multipart(request, limits).await,
        other => {
            let wanted = format!(
                "the offer as {SDP}, or as multipart/form-data with the parts `sdp` and `session`"
            );
            Err(unsupported(other, &wanted))
        }
    }
}

pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = text.split(';').next().unwrap_or("");
    essence.trim().to_ascii_lowercase()
}

async fn raw(body: Body, what: &str, limit: usize) -> Result<String, ApiError> {
    let bytes = axum::body::to_bytes(body, limit).await.map_err(|error| {
        if is_over_limit(&error) {
            too_large(what, limit)
        } else {
            broken_off()
        }
    })?;
    text(what, bytes.into())
}

async fn multipart(request: Request, limits: &Limits) -> Result<Parts, ApiError> {
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
    let mut form = Parts::default();
    while let Some(mut part) = parts.next_field().await.map_err(refuse)? {
        let name = part.name().unwrap_or("").to_owned();
        let limit = match name.as_str() {
            "sdp" => limits.sdp.0,
            "session" => limits.body.0,
            // Others have no meaning here; they are read and forgotten.
            _ => continue,
        };
        if (name == "sdp" && form.sdp.is_some()) || (name == "session" && form.session.is_some()) {
            return Err(malformed(
                "body",
                &format!("it has the part `{name}` twice"),
            ));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = part.chunk().await.map_err(refuse)? {
            if bytes.len() + chunk.len() > limit {
                return Err(too_large(&format!("The part `{name}`"), limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = text(&format!("`{name}`"), bytes)?;
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
        Some("realtime" | "transcription") => Ok(session),
        None if session["type"].is_null() => {
            let message =
                "`session.type` is missing; it is `realtime` or `transcription`.".to_owned();
            invalid("missing_required_parameter", message, "session.type")
        }
        Some(_) | None => {
            let kind = shown(&session["type"].to_string());
            let message =
                format!("`session.type` is {kind}; it can be `realtime` or `transcription`.");
            invalid("invalid_value", message, "session.type")
        }
    }
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, ApiError> {
    String::from_utf8(bytes).map_err(|_| malformed("body", &format!("{name} is not UTF-8 text")))
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

/// The body is of another type than the one that is `wanted`.
pub(crate) fn unsupported(given: &str, wanted: &str) -> ApiError {
    let given = shown(given);
    let message = format!("The body's Content-Type is {given:?}; send {wanted}.");
    let fault = Fault::invalid("unsupported_content_type", message);
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault)
}

pub(crate) fn malformed(what: &str, why: &str) -> ApiError {
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
