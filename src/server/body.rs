//! JSON bodies: read whole, in time, up to a limit.

use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::config::Limits;
use crate::core::port::Fault;
use crate::server::error::ApiError;
use crate::server::fields::{kind, shown};
use crate::server::form::{content_type, text_body};

const JSON: &str = "application/json";

/// Reads a JSON object. A body that is not there is an empty one.
pub(crate) async fn json_object(request: Request, limits: &Limits) -> Result<Value, ApiError> {
    let given = content_type(request.headers());
    let text = text_body(request, "The body", limits.body.0, limits).await?;
    if text.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    if given != JSON {
        let message = format!(
            "The body's Content-Type is {:?}; send {JSON}.",
            shown(&given)
        );
        let fault = Fault::invalid("unsupported_content_type", message);
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault));
    }
    let body: Value = serde_json::from_str(&text).map_err(|error| {
        let message = format!("The body is not JSON: {error}.");
        ApiError::bad_request(Fault::invalid("invalid_json", message))
    })?;
    if body.is_object() {
        return Ok(body);
    }
    let message = format!("The body must be a JSON object, not {}.", kind(&body));
    let fault = Fault::invalid("invalid_type", message);
    Err(ApiError::bad_request(fault))
}
