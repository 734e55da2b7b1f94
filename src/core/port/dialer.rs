//! Between a session and whoever opens its links.

use std::time::Duration;

use crate::core::port::Json;

/// Said to whoever opens links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ToDialer {
    /// Open another link, with the session's settings. Its first word is that it is there.
    Open,
    /// The provider has accepted this `session.update` of the client's: links begin with it now.
    Adopt(Json),
}

/// Said by whoever opens links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromDialer {
    /// No link could be opened.
    Failed(DialFailure),
}

/// Why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DialFailure {
    /// The provider was not asked: it has failed too often lately.
    Resting,
    /// The provider asks to wait, perhaps for so long.
    Busy { retry_after: Option<Duration> },
    /// The provider turns down the relay's credential, or the session's settings.
    Refused,
    /// The provider cannot be reached, or does not answer as it should.
    Unreachable,
}

impl DialFailure {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resting => "resting",
            Self::Busy { .. } => "busy",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}
