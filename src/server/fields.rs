//! The fields of a JSON object, and what is said of those that are wrong: OpenAI's words for it.

use std::time::Duration;

use serde_json::Value;

use crate::core::port::Fault;
use crate::server::error::ApiError;
use crate::wire::realtime::kind;

/// Characters of a client's words that an error repeats.
const LONGEST_SHOWN: usize = 64;

/// Refuses what is no object, and fields that mean nothing here: whoever sends one means something.
pub(crate) fn known(value: &Value, param: &str, names: &[&str]) -> Result<(), Fault> {
    let Some(fields) = value.as_object() else {
        return Err(wrong_type(value, param, "an object"));
    };
    let Some(unknown) = fields.keys().find(|name| !names.contains(&name.as_str())) else {
        return Ok(());
    };
    let unknown = shown(unknown);
    let path = if param.is_empty() {
        unknown
    } else {
        format!("{param}.{unknown}")
    };
    let message = format!("Unknown parameter: '{path}'.");
    Err(Fault::invalid("unknown_parameter", message).at(path))
}

pub(crate) fn text(value: &Value, param: &str) -> Result<Option<String>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(wrong_type(value, param, "a string"))
        }
    }
}

pub(crate) fn wrong_type(value: &Value, param: &str, wanted: &str) -> Fault {
    let kind = kind(value);
    let message = format!("Invalid type for '{param}': expected {wanted}, but got {kind} instead.");
    Fault::invalid("invalid_type", message).at(param)
}

pub(crate) fn unsupported(given: &str, param: &str, supported: &str) -> Fault {
    let given = shown(given);
    let message = format!("Invalid value: '{given}'. Supported values are: {supported}.");
    Fault::invalid("invalid_value", message).at(param)
}

/// Reads `heard_ms`: how far a client that comes back has heard.
pub(crate) fn heard(millis: Option<f64>) -> Result<Option<Duration>, ApiError> {
    let heard = millis.map(|millis| Duration::try_from_secs_f64(millis / 1000.0));
    heard.transpose().map_err(|_| {
        let message = "`heard_ms` is a time on the session's timeline, in milliseconds.";
        ApiError::bad_request(Fault::invalid("invalid_value", message).at("heard_ms"))
    })
}

/// As much of a client's words as an error repeats.
pub(crate) fn shown(words: &str) -> String {
    match words.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words.to_owned(),
    }
}
