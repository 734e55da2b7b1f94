//! What is told to a client whose event is refused: the body of an `error` event.

use serde::Serialize;

/// The fault in a client's event, or of the server.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct ApiError {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: String,
    /// The path of the offending field, such as `session.audio.input.format`.
    pub(crate) param: Option<String>,
}

impl ApiError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: "invalid_request_error",
            code: Some(code),
            message: message.into(),
            param: None,
        }
    }

    pub(crate) fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Keeps a client's long names from coming back to it whole.
    pub(crate) fn bounded(mut self) -> Self {
        const LONGEST: usize = 1_024;
        self.message = shortened(self.message, LONGEST);
        self.param = self.param.map(|param| shortened(param, LONGEST));
        self
    }

    pub(crate) fn without_code(mut self) -> Self {
        self.code = None;
        self
    }

    pub(crate) fn server(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: "server_error",
            ..Self::new(code, message)
        }
    }

    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::new("missing_required_parameter", message).at(param)
    }

    pub(crate) fn unknown(param: &str) -> Self {
        Self::new(
            "unknown_parameter",
            format!("Unknown parameter: '{param}'."),
        )
        .at(param)
    }

    pub(crate) fn invalid_type(param: &str, expected: &str, got: &str) -> Self {
        let message =
            format!("Invalid type for '{param}': expected {expected}, but got {got} instead.");
        Self::new("invalid_type", message).at(param)
    }

    pub(crate) fn invalid_value(param: &str, message: impl Into<String>) -> Self {
        Self::new("invalid_value", message).at(param)
    }

    /// `'got'` is none of the `supported` words.
    pub(crate) fn unsupported(param: &str, got: &str, supported: &[&str]) -> Self {
        let message = format!(
            "Invalid value: '{}'. Supported values are: {}.",
            shortened(got.to_owned(), 64),
            listed(supported)
        );
        Self::invalid_value(param, message)
    }
}

fn shortened(mut text: String, longest: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(longest) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// `'a', 'b', and 'c'`
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first, last] => format!("{first} and {last}"),
        [all @ .., last] => format!("{}, and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_value_is_answered_with_what_is_supported() {
        let error = ApiError::unsupported("session.type", "talk", &["realtime", "x", "y"]);
        assert_eq!(
            error.message,
            "Invalid value: 'talk'. Supported values are: 'realtime', 'x', and 'y'."
        );
        assert_eq!(error.param.as_deref(), Some("session.type"));
    }

    #[test]
    fn what_is_long_is_not_sent_back_whole() {
        let long = "ä".repeat(10_000);
        let error = ApiError::unsupported("type", &long, &["a"]);
        assert!(error.message.len() < 300);
        let error = ApiError::unknown(&long).bounded();
        assert!(error.message.len() < 3_000 && error.param.unwrap().len() < 3_000);
    }
}
