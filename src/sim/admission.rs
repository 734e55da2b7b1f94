//! Judges who connects, after the upgrade, as OpenAI does: by an `error` event and a close.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use subtle::ConstantTimeEq;

use crate::sim::protocol::error::ApiError;
use crate::sim::settings::{Fault, Settings};

/// The subprotocol that is selected, if it is offered.
pub(crate) const SUBPROTOCOL: &str = "realtime";

const KEY_SUBPROTOCOL: &str = "openai-insecure-api-key.";
const BETA_SUBPROTOCOL: &str = "openai-beta.";

/// What a client brings to the door.
pub(crate) struct Visitor {
    key: Option<String>,
    beta: bool,
    model: Option<String>,
}

/// Why a client is sent away.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: ApiError,
    pub(crate) close: u16,
    pub(crate) reason: String,
}

impl Visitor {
    pub(crate) fn new(headers: &HeaderMap, model: Option<String>) -> Self {
        let offered: Vec<&str> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(',').map(str::trim))
            .collect();
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim());
        let insecure = offered
            .iter()
            .find_map(|protocol| protocol.strip_prefix(KEY_SUBPROTOCOL));
        Self {
            key: bearer.or(insecure).map(str::to_owned),
            beta: headers.contains_key("openai-beta")
                || offered
                    .iter()
                    .any(|protocol| protocol.starts_with(BETA_SUBPROTOCOL)),
            model: model.filter(|model| !model.is_empty()),
        }
    }

    /// Returns the model that the session is to have.
    pub(crate) fn judge(self, settings: &Settings) -> Result<String, Refusal> {
        let key = self.key.unwrap_or_default();
        if !accepts(settings, &key) {
            let message = "Incorrect API key provided.";
            return Err(Refusal::new(3000, "invalid_api_key", message));
        }
        if self.beta {
            let message = "The Realtime Beta API is no longer supported. Connect without the \
                'OpenAI-Beta' header.";
            return Err(Refusal::new(4000, "beta_api_shape_disabled", message));
        }
        let Some(model) = self.model else {
            let message = "You must provide a model parameter, such as '?model=gpt-realtime-2.1'.";
            return Err(Refusal::new(4000, "missing_model", message));
        };
        if !model.starts_with("gpt-realtime") || model.len() > 128 {
            let message = "The model is not supported in realtime mode; connect with one whose \
                name starts with 'gpt-realtime'.";
            return Err(Refusal::new(4000, "invalid_model", message));
        }
        Ok(model)
    }
}

impl Refusal {
    fn new(close: u16, code: &'static str, message: &str) -> Self {
        Self {
            error: ApiError::new(code, message),
            close,
            reason: format!("invalid_request_error.{code}"),
        }
    }
}

fn accepts(settings: &Settings, key: &str) -> bool {
    if settings.fault == Some(Fault::Unauthorized) {
        return false;
    }
    match &settings.api_key {
        Some(expected) => expected.as_bytes().ct_eq(key.as_bytes()).into(),
        None => !key.is_empty(),
    }
}
