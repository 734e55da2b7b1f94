//! How a session comes to its end.

use std::time::{Duration, Instant};

use crate::core::port::{CloseReason, Fault, LinkEnd, Notice, ToClient};
use crate::core::session::seat::Seat;
use crate::core::session::{Effect, Link, Phase, Session};
use crate::core::tally::Tally;

/// When a session ends, and why.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// Not of itself.
    Open,
    /// It has lasted long enough then.
    At(Instant),
    /// With the answer that sounds, or then.
    Draining { until: Instant, reason: CloseReason },
}

impl Ending {
    pub(super) fn new(max_length: Option<Duration>, now: Instant) -> Self {
        max_length.map_or(Self::Open, |length| Self::At(now + length))
    }

    pub(super) fn poll_timeout(self) -> Option<Instant> {
        match self {
            Self::Open => None,
            Self::At(at) => Some(at),
            Self::Draining { until, .. } => Some(until),
        }
    }
}

impl Session {
    /// The voice link has ended, and there will be no other. What has arrived of an answer is still worth hearing.
    pub(super) fn on_down(&mut self, end: LinkEnd, now: Instant) {
        self.voice = Link::Down;
        self.hearing = false;
        for response in self.take_open() {
            self.speaker.finish(&response);
        }
        if self.is_direct() {
            // The provider's link ends with the provider's call: nothing sounds any more.
            self.speaker.cut(now);
        } else if end == LinkEnd::Lost {
            self.show(ToClient::Fault(Fault::server(
                "provider_gone",
                "The connection to the voice provider was lost; the call ends. Call again.",
            )));
        }
        // A shutdown may have set a limit before.
        let until = now + self.config.drain;
        let until = match self.ending {
            Ending::Draining { until: limit, .. } => limit.min(until),
            Ending::Open | Ending::At(_) => until,
        };
        if self.speaker.is_silent() {
            self.enter(Phase::Recovering { until });
        }
        let reason = match end {
            LinkEnd::Expired => CloseReason::Expired,
            LinkEnd::Lost | LinkEnd::Refused | LinkEnd::Garbled if self.is_direct() => {
                CloseReason::Hangup
            }
            LinkEnd::Lost | LinkEnd::Refused | LinkEnd::Garbled => CloseReason::ProviderGone,
        };
        self.ending = Ending::Draining { until, reason };
        self.notice(Notice::Closing {
            reason,
            within: until.saturating_duration_since(now),
        });
    }

    pub(super) fn on_shutdown(&mut self, now: Instant) {
        self.drain(CloseReason::Shutdown, now);
    }

    pub(super) fn on_revoked(&mut self) {
        let reason = CloseReason::Revoked;
        self.notice(Notice::Closing {
            reason,
            within: Duration::ZERO,
        });
        self.close(reason);
    }

    /// Ends the session if it is time.
    pub(super) fn end_in_time(&mut self, now: Instant) {
        if let Ending::At(at) = self.ending
            && at <= now
        {
            self.drain(CloseReason::TooLong, now);
        }
        if let Ending::Draining { until, reason } = self.ending {
            let busy = !self.speaker.is_silent() || !self.open.is_empty() || self.hearing;
            if !busy || until <= now {
                self.close(reason);
            }
        } else if self.idle_at() <= now {
            self.close(CloseReason::Idle);
        }
        if let Seat::Parked { until } = self.seat
            && until <= now
        {
            self.close(CloseReason::Hangup);
        }
    }

    /// Ends the session with the answer that sounds, or soon.
    fn drain(&mut self, reason: CloseReason, now: Instant) {
        if let Ending::Draining { .. } = self.ending {
            return;
        }
        let within = self.config.drain;
        self.ending = Ending::Draining {
            until: now + within,
            reason,
        };
        self.notice(Notice::Closing { reason, within });
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        if let Phase::Closed = self.phase {
            return;
        }
        self.phase = Phase::Closed;
        if let Seat::Parked { .. } = self.seat {
            self.count(Tally::Abandoned);
        }
        if let Some(fault) = last_words(reason) {
            self.show(ToClient::Fault(fault));
        }
        self.show(ToClient::Close(reason));
        self.effects.push_back(Effect::Close(reason));
    }
}

/// What a client that knows no closing notice, nor a close code, is told.
fn last_words(reason: CloseReason) -> Option<Fault> {
    match reason {
        CloseReason::Revoked => Some(Fault::invalid(
            "session_revoked",
            "The session was revoked by the operator of this relay, or its user or device was. \
             A new session needs a credential that is still accepted.",
        )),
        CloseReason::TooLong => Some(Fault::invalid(
            "session_too_long",
            "The session has lasted as long as a session may on this relay; start a new one.",
        )),
        CloseReason::Hangup
        | CloseReason::Overrun
        | CloseReason::Idle
        | CloseReason::ProviderGone
        | CloseReason::Expired
        | CloseReason::Shutdown
        | CloseReason::Replaced
        | CloseReason::Crowded => None,
    }
}
