//! A message that is passed on as it came.

use std::fmt;
use std::sync::Arc;

/// A JSON message that the session passes on without reading it.
#[derive(Clone, Eq, PartialEq)]
pub struct Json(Arc<str>);

impl Json {
    /// Nothing that the client may see.
    pub fn nothing() -> Self {
        Self::from("")
    }

    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// What people say must not reach a log by way of `{:?}`.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}
