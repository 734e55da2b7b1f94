//! JSON bodies: read whole, in time, up to a limit.

use axum::extract::Request;
use serde_json::{Map, Value};

use crate::config::Limits;
use crate::core::port::Fault;
use crate::server::error::ApiError;
use crate::server::form::{content_type, text_body, unsupported};
use crate::wire::realtime::kind;

const JSON: &str = "application/json";

/// Reads a JSON object. A body that is not there is an empty one.
pub(crate) async fn json_object(request: Request, limits: &Limits) -> Result<Value, ApiError> {
    let given = content_type(request.headers());
    let text = text_body(request, "The body", limits.body.0, limits).await?;
    if text.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    if given != JSON {
        return Err(unsupported(&given, JSON));
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
