//! The client's place in a session, whether it is there or not.
//!
//! **Invariant:** at most [`MESSAGES`] messages and as many bytes as [`limit`] says wait for a
//! client that is away; from the first that does not fit on, nothing is kept, and it is told so.

use std::time::Instant;

use crate::core::port::{Fault, Notice, ToClient};
use crate::core::session::Playback;

/// How many messages wait.
const MESSAGES: usize = 2048;

/// What a message without a text counts for.
const SMALL: usize = 256;

#[derive(Debug)]
pub(super) enum Seat {
    /// Nobody has come, or nobody is waited for.
    Vacant,
    Taken {
        /// It speaks `voxline.v1`.
        extended: bool,
    },
    /// The client was lost, and may come back until then.
    Parked { until: Instant, missed: Missed },
}

/// What a client is to be told when it is back.
#[derive(Debug)]
pub(super) struct Missed {
    messages: Vec<ToClient>,
    bytes: usize,
    limit: usize,
    lost: usize,
}

impl Seat {
    pub(super) fn new(playback: Playback) -> Self {
        match playback {
            Playback::Relay(_) | Playback::Client => Self::Taken { extended: false },
            Playback::Provider => Self::Vacant,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Parked { until, .. } => Some(*until),
            Self::Vacant | Self::Taken { .. } => None,
        }
    }
}

impl Missed {
    pub(super) fn new(playback: Playback) -> Self {
        Self {
            messages: vec![],
            bytes: 0,
            limit: limit(playback),
            lost: 0,
        }
    }

    pub(super) fn push(&mut self, message: &ToClient) {
        let bytes = match message {
            // Whoever comes back is told where the conversation stands then.
            ToClient::Notice(Notice::State(_)) => return,
            ToClient::Event(json) | ToClient::Created(json) => json.as_str().len(),
            ToClient::Missed(_)
            | ToClient::Play { .. }
            | ToClient::Flush
            | ToClient::Output(..)
            | ToClient::Failed(_)
            | ToClient::Truncated { .. }
            | ToClient::Notice(_)
            | ToClient::Fault(_)
            | ToClient::Close(_) => SMALL,
        };
        let fits = self.messages.len() < MESSAGES && self.bytes + bytes <= self.limit;
        if self.lost > 0 || !fits {
            self.lost += 1;
            return;
        }
        self.bytes += bytes;
        self.messages.push(message.clone());
    }

    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// How many more there were than are kept.
    pub(super) fn lost(&self) -> usize {
        self.lost
    }

    /// Returns what is to be told, in order.
    pub(super) fn into_messages(self) -> Vec<ToClient> {
        let Self {
            mut messages, lost, ..
        } = self;
        if lost > 0 {
            let message = format!(
                "While the client was away {lost} events more were sent than are kept for it. \
                 Retrieve the items of the conversation that are missing."
            );
            messages.push(ToClient::Fault(Fault::server("events_lost", message)));
        }

        messages
    }
}

/// How many bytes of events wait. A WebRTC client gets no sound in its events, and its data
/// channel takes no more than this at once; on a WebSocket this is half a minute of sound.
fn limit(playback: Playback) -> usize {
    match playback {
        Playback::Relay(_) | Playback::Provider => 512 << 10,
        Playback::Client => 2 << 20,
    }
}
