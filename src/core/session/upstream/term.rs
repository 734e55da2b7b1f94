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
        let expires_at = session.expires_at.filter(|_| !self.config.began.is_zero());
        let left = expires_at.map(|at| {
            let elapsed = now.saturating_duration_since(self.began);
            Duration::from_secs(at).saturating_sub(self.config.began + elapsed)
        });
        // What has ended before it began, or never does, is a clock that is wrong.
        let left = left.filter(|left| !left.is_zero());
        let told = left.and_then(|left| now.checked_add(left));
        let longest = opened + config.link_length;
        let ends_at = told.map_or(longest, |told| longest.min(told));
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;
    use crate::core::port::FromVoice;
    use crate::core::session::{Input, Playback, RecoveryConfig, SessionConfig};

    #[test]
    fn an_end_that_makes_no_sense_replaces_no_link() {
        let now = Instant::now();
        for (expires_at, replaced_within) in [(1_600, 600), (1, 3_600), (u64::MAX, 3_600)] {
            let config = SessionConfig {
                recovery: Some(RecoveryConfig::default()),
                began: Duration::from_secs(1_000),
                ..SessionConfig::new("sess".into(), Playback::Client)
            };
            let mut session = Session::new(config, now);
            let described = VoiceSession {
                expires_at: Some(expires_at),
                ..VoiceSession::default()
            };
            session.handle(
                Input::Voice(FromVoice::Session(described, "{}".into())),
                now,
            );

            let term = session.upstream.term.unwrap();
            let until = (term.replace_at - now).as_secs();
            assert!(
                until < replaced_within && until + 90 > replaced_within,
                "{until}"
            );
        }
    }
}
