//! Whether a client that has promised to be heard of is within reach.
//!
//! A dead network says nothing: neither UDP nor TCP tells for many seconds that nobody is there. A
//! client that pings promises how often it does; if nothing at all is heard of it for twice as
//! long, the sound that is on its way to it since counts as not heard, and waits until the client
//! says where its ear is.

use std::time::{Duration, Instant};

/// What a client may promise; less often is as good as no promise.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// How long it may be silent.
    patience: Option<Duration>,
    heard_at: Instant,
    lost: bool,
}

impl Reach {
    /// Somebody is there, who has promised nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            patience: None,
            heard_at: now,
            lost: false,
        }
    }

    /// Until when the client was surely within reach; who has promised nothing is taken to be so
    /// until now.
    pub(super) fn until(&self, now: Instant) -> Instant {
        self.patience.map_or(now, |_| self.heard_at)
    }

    /// Something is heard of the client.
    pub(super) fn hear(&mut self, now: Instant) {
        if !self.lost {
            self.heard_at = now;
        }
    }

    /// The client promises to be heard of so often.
    pub(super) fn promise(&mut self, every: Duration) {
        self.patience = (every <= LONGEST).then(|| every.max(SHORTEST) * 2);
    }

    /// The client says that it is out of reach.
    pub(super) fn leave(&mut self) {
        self.lost = true;
    }

    /// The client says that it is back; returns whether it was out of reach.
    pub(super) fn come_back(&mut self, now: Instant) -> bool {
        self.heard_at = now;

        std::mem::take(&mut self.lost)
    }

    /// Returns whether the client is out of reach since now.
    pub(super) fn is_lost(&mut self, now: Instant) -> bool {
        let lost = self.poll_timeout().is_some_and(|due| due <= now);
        self.lost |= lost;

        lost
    }

    /// When it would be out of reach.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let patience = self.patience.filter(|_| !self.lost)?;

        Some(self.heard_at + patience)
    }
}
