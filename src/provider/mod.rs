//! Talks to one upstream, once, and reports how it went.

pub mod calls;
mod handed;
pub mod realtime;
mod refusal;

use std::fmt;
use std::time::Duration;

use crate::core::port::{Fault, FaultKind};

/// Where a provider is, and the credential it wants.
#[derive(Clone)]
pub struct Upstream {
    /// `https://api.openai.com/v1` or another base of the same shape; `http:` is plain text.
    pub base_url: String,
    pub api_key: String,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// How patient a link is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For TCP, TLS, the upgrade and `session.created` together.
    pub open: Duration,
    /// For one message to be taken by the socket.
    pub send: Duration,
    /// For any sign of life. The relay pings at a third of it.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            open: Duration::from_secs(10),
            send: Duration::from_secs(10),
            silence: Duration::from_secs(15),
        }
    }
}

/// Why no link could be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The client asked for something that the provider does not do: ask for something else.
    #[error("the provider refuses the request: {}", .0.message)]
    Refused(Fault),
    /// The provider does not accept the relay's credential: the operator must act.
    #[error("the provider refuses the relay's credential: {0}")]
    Credential(String),
    /// The provider is over a limit: ask again later.
    #[error("the provider is over its limit: {message}")]
    Busy {
        message: String,
        retry_after: Option<Duration>,
    },
    /// The provider was not asked: it has failed too often lately.
    #[error("the provider has failed too often lately, and is asked again in {retry_after:?}")]
    Resting { retry_after: Duration },
    /// The provider cannot be reached, or does not answer as it should.
    #[error("the provider cannot be reached: {0}")]
    Unreachable(String),
}

impl OpenError {
    /// Tells whether the provider does not know the call that was to be joined. It may in a moment,
    /// if the call is new.
    pub fn is_unknown_call(&self) -> bool {
        match self {
            Self::Refused(fault) => refusal::UNKNOWN_CALL.contains(&fault.code.as_ref()),
            Self::Credential(_)
            | Self::Busy { .. }
            | Self::Resting { .. }
            | Self::Unreachable(_) => false,
        }
    }

    /// Returns what to tell the client. What only the operator can mend is not spelled out.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(fault) => fault.clone(),
            Self::Credential(_) => Fault::server(
                "provider_credential_refused",
                "The voice provider refuses this relay's credential. Its operator has to set a valid provider key.",
            ),
            Self::Busy { .. } => Fault {
                kind: FaultKind::Server,
                ..Fault::invalid(
                    "provider_busy",
                    "The voice provider is over its limit. Try again in a moment.",
                )
            },
            Self::Resting { .. } => Fault::server(
                "provider_unreachable",
                "The voice provider has failed too often lately, and is being left alone for a while. \
                 Try again later.",
            ),
            Self::Unreachable(_) => Fault::server(
                "provider_unreachable",
                "The voice provider cannot be reached. Try again in a moment.",
            ),
        }
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3).
pub(crate) fn query_value(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
