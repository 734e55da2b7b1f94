//! When the link in use must make room for the next one, and when it may.

use std::time::{Duration, Instant};

use crate::core::port::VoiceSession;
use crate::core::session::upstream::{LAST_MOMENT, Link, Owed, Term};
use crate::core::session::{Phase, Session};

impl Session {
    /// Notes when the link in use must be replaced.
    pub(super) fn begin_term(&mut self, session: VoiceSession, opened: Instant, now: Instant) {
        let Some(config) = self.upstream.config else {
            return;
        };
        let told = session.expires_at.filter(|_| !self.config.began.is_zero());
        let left = told.map(|at| {
            let elapsed = now.saturating_duration_since(self.began);
            Duration::from_secs(at).saturating_sub(self.config.began + elapsed)
        });
        let longest = opened + config.link_length;
        let ends_at = left.map_or(longest, |left| longest.min(now + left));
        let life = ends_at.saturating_duration_since(opened);
        let lead = config.rollover_lead.min(life / 3);
        // Links that were opened together are not replaced together.
        let early = self.upstream.random.below(lead / 4);
        self.upstream.term = Some(Term {
            replace_at: ends_at - lead - early,
            ends_by: ends_at - LAST_MOMENT.min(life / 10),
        });
    }

    /// Nobody speaks to the provider, and it owes nothing.
    pub(super) fn is_between_turns(&self) -> bool {
        let Link::Up(session) = self.voice else {
            return false;
        };
        let quiet = match self.phase {
            Phase::Listening | Phase::Speaking { .. } => true,
            Phase::Idle
            | Phase::Thinking { .. }
            | Phase::Cancelling { .. }
            | Phase::Recovering { .. }
            | Phase::Closed => false,
        };
        let transcribed = !session.transcribes || !self.upstream.history.expects_transcript();
        let complete = self.upstream.history.is_complete();
        let waits = self.upstream.uplink.expects_any() || self.upstream.owed != Owed::Nothing;

        quiet
            && transcribed
            && complete
            && !waits
            && !self.hearing
            && self.open.is_empty()
            && self.aside.is_empty()
            && self.cut.is_empty()
    }
}
