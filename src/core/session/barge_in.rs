//! The relay's own ear: an answer pauses at the first sign that the person speaks, ahead of the
//! provider's word for it.
//!
//! **Invariants**
//! - Only what the person's speech would cut is paused, and for no longer than
//!   [`SessionConfig::barge_in_wait`](super::SessionConfig::barge_in_wait).
//! - A pause ends in one of two ways: the provider hears the person too, and the answer is cut at
//!   what was heard; or the answer sounds on from where it stopped, nothing twice, nothing left
//!   out.
//! - A detector that is wrong again and again is believed less and less.

use std::time::{Duration, Instant};

use crate::core::latency::Measure;
use crate::core::playout::Cut;
use crate::core::port::{Notice, Speech};
use crate::core::session::{Seat, Session};
use crate::core::tally::Tally;

/// How long the provider may still take once the relay's own detector hears nothing any more.
const GRACE: Duration = Duration::from_millis(150);

/// How long nothing is paused after a false alarm; twice as long after each further one, ...
const DEAF: Duration = Duration::from_secs(1);

/// ... up to this.
const MOST_DEAF: Duration = Duration::from_secs(8);

/// What the relay's own detector has led to.
#[derive(Debug)]
pub(super) struct BargeIn {
    /// When the speech that is heard now first reached the relay.
    speech: Option<Instant>,
    pause: Option<Pause>,
    /// What is heard before then pauses nothing.
    deaf_until: Instant,
    /// For how long the next false alarm makes deaf.
    deaf_for: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    since: Instant,
    until: Instant,
}

impl BargeIn {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            speech: None,
            pause: None,
            deaf_until: now,
            deaf_for: DEAF,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.pause.map(|pause| pause.until)
    }
}

impl Session {
    pub(super) fn on_speech(&mut self, speech: Speech, now: Instant) {
        match speech {
            Speech::Began { received } => {
                self.barge_in.speech = Some(received);
                self.hold(now);
            }
            Speech::Ended => {
                self.barge_in.speech = None;
                if let Some(pause) = &mut self.barge_in.pause {
                    pause.until = pause.until.min(now + GRACE);
                }
            }
        }
    }

    /// Pauses the answer that sounds, if the person's speech would cut it.
    fn hold(&mut self, now: Instant) {
        let wait = self.config.barge_in_wait;
        if let Some(pause) = &mut self.barge_in.pause {
            pause.until = pause.since + wait;
            return;
        }
        let Seat::Taken { .. } = self.seat else {
            return;
        };
        if wait.is_zero() || now < self.barge_in.deaf_until || !self.interrupts() {
            return;
        }
        let Some(response) = self.speaker.hold() else {
            return;
        };
        self.barge_in.pause = Some(Pause {
            since: now,
            until: now + wait,
        });
        self.notice(Notice::Paused { response });
        self.count(Tally::Paused);
    }

    /// Sounds on if it is time, or if nobody is left who could confirm.
    pub(super) fn let_go_in_time(&mut self, now: Instant) {
        if self.barge_in.pause.is_some_and(|pause| pause.until <= now) {
            let deaf_for = self.barge_in.deaf_for;
            self.barge_in.deaf_until = now + deaf_for;
            self.barge_in.deaf_for = (deaf_for * 2).min(MOST_DEAF);
            self.count(Tally::FalseAlarm);
            self.let_go(now);
        } else if self.speaker.is_silent() || !self.interrupts() {
            self.let_go(now);
        }
    }

    /// Ends a pause, if there is one, without a cut.
    pub(super) fn let_go(&mut self, now: Instant) {
        if let Some(Pause { since, .. }) = self.barge_in.pause.take() {
            self.speaker.let_go(now);
            self.notice(Notice::Resumed {
                paused: now.saturating_duration_since(since),
            });
        }
    }

    /// What sounds is cut; says how long the person waits for silence, from the first of their
    /// speech that reached the relay, as far as it has heard it itself.
    pub(super) fn on_cut(&mut self, cut: &Cut, now: Instant) {
        if cut.silenced.is_empty() {
            // Nobody is told of an interruption.
            self.let_go(now);
        }
        self.barge_in.pause = None;
        self.barge_in.deaf_until = now;
        self.barge_in.deaf_for = DEAF;
        self.count(Tally::Cut(cut.hearing.accuracy.source));
        let spoke = self.barge_in.speech.unwrap_or(now);
        let silence = cut.silent_at.saturating_duration_since(spoke);
        self.record(Measure::Silence, silence, cut.hearing.accuracy.source);
        // Something of it was heard, but there may be no word of it any more.
        self.tell_turn_unreported(now);
    }
}
