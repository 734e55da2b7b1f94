//! JSON bodies: read whole, in time, up to a limit.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

use crate::config::Limits;
use crate::core::port::Fault;
use crate::server::error::ApiError;
use crate::server::fields::{kind, shown};

/// Reads a JSON object. A body that is not there is an empty one.
pub(crate) async fn json_object(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Value, ApiError> {
    let reading = axum::body::to_bytes(body, limits.body.0);
    let Ok(read) = timeout(limits.request_time, reading).await else {
        let fault = Fault::invalid("request_timeout", "The body did not arrive in time.");
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, fault));
    };
    let bytes = read.map_err(|error| unread(&error, limits.body.0))?;
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    require_json(headers)?;
    let body: Value = serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("The body is not JSON: {error}.");
        ApiError::bad_request(Fault::invalid("invalid_json", message))
    })?;
    if body.is_object() {
        return Ok(body);
    }
    let message = format!("The body must be a JSON object, not {}.", kind(&body));
    Err(ApiError::bad_request(Fault::invalid(
        "invalid_type",
        message,
    )))
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = text.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let given = shown(essence);
    let message = format!("The body's Content-Type is {given:?}; send application/json.");
    let fault = Fault::invalid("unsupported_content_type", message);
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault))
}

fn unread(error: &axum::Error, limit: usize) -> ApiError {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            let message = format!("The body is larger than {limit} bytes.");
            let fault = Fault::invalid("request_too_large", message);
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, fault);
        }
        source = error.source();
    }
    let message = "The body cannot be read: it broke off.";
    ApiError::bad_request(Fault::invalid("invalid_request", message))
}
