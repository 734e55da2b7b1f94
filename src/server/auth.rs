//! Who may use the relay: whoever shows one of its keys.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};

use crate::config::Keys;
use crate::core::port::Fault;
use crate::server::App;
use crate::server::error::ApiError;

/// How a browser, which cannot set headers, shows its key on a WebSocket.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// Proof that a request showed a key. As an extractor it is judged before the body is read.
pub(crate) struct Authorized;

impl FromRequestParts<Arc<App>> for Authorized {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        judge(&parts.headers, &app.config.keys)
            .map_err(|fault| ApiError::new(StatusCode::UNAUTHORIZED, fault))
    }
}

/// Looks for a key in the headers.
pub(crate) fn judge(headers: &HeaderMap, keys: &Keys) -> Result<Authorized, Fault> {
    let Some(key) = shown(headers) else {
        return Err(Fault::invalid(
            "invalid_api_key",
            "No key was given: send this relay's key as `Authorization: Bearer ...`, or in a \
             browser's WebSocket as the subprotocol `openai-insecure-api-key....`.",
        ));
    };
    if keys.admit(key) {
        Ok(Authorized)
    } else {
        Err(Fault::invalid(
            "invalid_api_key",
            "The key is not one of this relay's; its operator sets them with VOXLINE_API_KEY.",
        ))
    }
}

fn shown(headers: &HeaderMap) -> Option<&str> {
    bearer(headers)
        .or_else(|| protocols(headers).find_map(|protocol| protocol.strip_prefix(KEY_PROTOCOL)))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Lists the subprotocols that a client offers.
pub(crate) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &'static str, value: &'static str) -> bool {
        let keys = Keys::Configured(vec!["the-right-key".into()]);
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        judge(&headers, &keys).is_ok()
    }

    #[test]
    fn a_key_comes_as_a_bearer_or_as_a_subprotocol() {
        assert!(verdict("authorization", "Bearer the-right-key"));
        assert!(verdict("authorization", "bearer the-right-key"));
        let offer = "realtime, openai-insecure-api-key.the-right-key, openai-project.p";
        assert!(verdict("sec-websocket-protocol", offer));
    }

    #[test]
    fn anything_else_is_no_key() {
        assert!(!verdict("authorization", "Bearer the-wrong-key"));
        assert!(!verdict("authorization", "Basic the-right-key"));
        assert!(!verdict("authorization", "the-right-key"));
        assert!(!verdict("sec-websocket-protocol", "the-right-key"));
        assert!(!verdict("x-api-key", "the-right-key"));
    }
}
