//! What went wrong, in OpenAI's shape.

use std::borrow::Cow;

/// Something to tell the client about in an `error` event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    /// OpenAI's code where there is one, else a voxline one.
    pub code: Cow<'static, str>,
    /// What was wrong, where, what is allowed, what to do.
    pub message: String,
    /// The offending field.
    pub param: Option<String>,
    /// The `event_id` of the client's event that caused it.
    pub event_id: Option<String>,
}

impl Fault {
    /// A fault in what the client sent.
    pub fn invalid(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::InvalidRequest,
            code: code.into(),
            message: message.into(),
            param: None,
            event_id: None,
        }
    }

    /// A fault of the relay's, or of the provider behind it.
    pub fn server(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::Server,
            ..Self::invalid(code, message)
        }
    }

    #[must_use]
    pub fn at(self, param: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    #[must_use]
    pub fn caused_by(self, event_id: Option<String>) -> Self {
        Self { event_id, ..self }
    }
}

/// OpenAI's `error.type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// `invalid_request_error`
    InvalidRequest,
    /// `server_error`
    Server,
}
