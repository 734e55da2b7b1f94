//! Reads why a provider refuses: in its words, by who can mend it.

use std::time::Duration;

use serde_json::Value;

use crate::core::port::Fault;
use crate::provider::OpenError;

/// The codes of a call that the provider does not know (yet, or any more): OpenAI's, and this
/// relay's own.
pub(crate) const UNKNOWN_CALL: [&str; 2] = ["call_id_not_found", "call_not_found"];

/// Tells the client's mistakes from the relay's own, by the `error` object of an event or of a
/// response's body.
pub(crate) fn refusal(error: &Value) -> OpenError {
    let code = error["code"].as_str().unwrap_or("provider_refused");
    let message = error["message"].as_str().unwrap_or("no reason given");
    let message = message.to_owned();

    match code {
        "invalid_api_key"
        | "account_deactivated"
        | "insufficient_quota"
        | "billing_hard_limit_reached"
        | "credit_balance_exhausted" => OpenError::Credential(format!("{code}: {message}")),
        "rate_limit_exceeded" | "inference_rate_limit_exceeded" => OpenError::Busy {
            message,
            retry_after: None,
        },
        "server_error" => OpenError::Unreachable(message),
        _ => {
            let mut fault = Fault::invalid(code.to_owned(), message);
            fault.param = error["param"].as_str().map(str::to_owned);
            OpenError::Refused(fault)
        }
    }
}

/// What an HTTP status says, with the `Retry-After` and the body that came with it.
pub(crate) fn http_refusal(
    what: &str,
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
) -> OpenError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = body["error"].as_object().map(|_| refusal(&body["error"]));
    let message = body["error"]["message"]
        .as_str()
        .unwrap_or("no reason given");
    let message = format!("{what} got {status}: {message}");

    match (status, error) {
        (401 | 403, _) => OpenError::Credential(message),
        (429 | 503, Some(OpenError::Credential(why))) => OpenError::Credential(why),
        (429 | 503, _) => OpenError::Busy {
            message,
            // The form that is a date is not worth reading: it is sent by caches.
            retry_after: retry_after
                .and_then(|seconds| seconds.trim().parse().ok())
                .map(Duration::from_secs),
        },
        (400..=499, Some(error)) => error,
        _ => OpenError::Unreachable(message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_told_apart_by_who_can_mend_it() {
        let refused = |code: &str| refusal(&json!({ "code": code, "message": "m", "param": "p" }));

        assert!(
            matches!(refused("invalid_model"), OpenError::Refused(fault) if fault.param.as_deref() == Some("p"))
        );
        assert!(matches!(
            refused("invalid_api_key"),
            OpenError::Credential(_)
        ));
        assert!(matches!(
            refused("rate_limit_exceeded"),
            OpenError::Busy { .. }
        ));
        assert!(matches!(refused("server_error"), OpenError::Unreachable(_)));
    }

    #[test]
    fn a_status_is_told_apart_by_who_can_mend_it() {
        let got = |status: u16, body: Value| {
            http_refusal("it", status, Some("7"), body.to_string().as_bytes())
        };
        let named = |code: &str| json!({ "error": { "code": code, "message": "m" } });

        assert!(matches!(got(401, Value::Null), OpenError::Credential(_)));
        assert!(matches!(got(403, named("x")), OpenError::Credential(_)));
        for status in [429, 503] {
            let busy = got(status, named("rate_limit_exceeded"));
            let OpenError::Busy { retry_after, .. } = busy else {
                panic!("{busy:?}");
            };
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        assert!(matches!(
            got(429, named("insufficient_quota")),
            OpenError::Credential(_)
        ));
        assert!(
            matches!(got(400, named("invalid_value")), OpenError::Refused(fault) if fault.code == "invalid_value" && fault.message == "m")
        );
        // A proxy's page, or another server altogether.
        assert!(matches!(got(404, json!("no")), OpenError::Unreachable(_)));
        assert!(matches!(got(500, named("x")), OpenError::Unreachable(_)));
    }
}
