//! The client's place in a session, whether it is there or not.

use std::time::Instant;

use crate::core::session::Playback;

#[derive(Debug)]
pub(super) enum Seat {
    /// Nobody has come, or nobody is waited for.
    Vacant,
    Taken {
        /// It speaks `voxline.v1`.
        extended: bool,
    },
    /// The client was lost, and may come back until then.
    Parked { until: Instant },
}

impl Seat {
    pub(super) fn new(playback: Playback) -> Self {
        match playback {
            Playback::Relay(_) | Playback::Client => Self::Taken { extended: false },
            Playback::Provider => Self::Vacant,
        }
    }

    /// Nobody is there, and somebody is waited for until then.
    pub(super) fn parked(until: Instant) -> Self {
        Self::Parked { until }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Parked { until } => Some(*until),
            Self::Vacant | Self::Taken { .. } => None,
        }
    }
}
