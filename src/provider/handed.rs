//! When each moment of the person's sound was handed to the provider's socket.
//!
//! The provider speaks of positions in all the sound that its session was sent; the link counts it,
//! and says of the end of speech when that was on its way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::latency::input::InputClock;
use crate::core::port::{FromVoice, ToVoice};

/// Shared by the two directions of a link.
#[derive(Debug, Default)]
pub(super) struct Handed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    clock: InputClock,
    /// How much silence the provider waits for before it says that speech has ended.
    silence: Duration,
}

impl Handed {
    /// The provider waits for this much silence from now on.
    pub(super) fn waits(&self, silence: Duration) {
        self.state().silence = silence;
    }

    /// This much more sound was handed over.
    pub(super) fn pass(&self, sound: Duration, now: Instant) {
        if !sound.is_zero() {
            self.state().clock.advance(sound, now);
        }
    }

    /// Adds to the end of speech when its last sound was handed over.
    pub(super) fn stamp(&self, event: &mut FromVoice) {
        if let FromVoice::Session(session, _) = event {
            self.waits(session.silence);
        } else if let FromVoice::SpeechStopped { at, handed, .. } = event {
            let state = self.state();
            let passed = state.clock.passed(at.saturating_sub(state.silence));
            *handed = passed.map(|(passed, _)| passed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of the person's sound is in a message.
pub(super) fn length(message: &ToVoice) -> Duration {
    match message {
        ToVoice::Audio { frame, .. } => frame.duration(),
        ToVoice::All(messages) => messages.iter().map(length).sum(),
        ToVoice::Event(_)
        | ToVoice::Cancel(_)
        | ToVoice::Truncate { .. }
        | ToVoice::Delete(_)
        | ToVoice::ClearOutput
        | ToVoice::Probe
        | ToVoice::ToolOutput { .. }
        | ToVoice::Respond
        | ToVoice::Restore(_) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::core::audio::{Format, Frame};
    use crate::core::port::VoiceSession;

    #[test]
    fn the_end_of_speech_says_when_its_last_sound_was_handed_over() {
        let (handed, t0) = (Handed::default(), clock::now());
        let session = VoiceSession {
            silence: ms(500),
            ..VoiceSession::default()
        };
        handed.stamp(&mut FromVoice::Session(session, "{}".into()));
        for piece in 1..=100 {
            handed.pass(ms(20), t0 + ms(20 * piece));
        }

        // 1,500 ms, of which the last 500 are silence.
        let stamped = |at| {
            let mut event = stopped(at, None);
            handed.stamp(&mut event);
            event
        };
        assert_eq!(stamped(1_500), stopped(1_500, Some(t0 + ms(1_000))));
        assert_eq!(stamped(9_000), stopped(9_000, None), "it was never sent");
    }

    #[test]
    fn sound_that_is_told_again_counts() {
        let frame = Frame {
            format: Format::Pcm,
            payload: vec![0; 960].into(),
        };
        let sound = ToVoice::Audio {
            frame,
            received: clock::now(),
        };

        assert_eq!(length(&sound), ms(20));
        let all = ToVoice::All(vec![sound.clone(), ToVoice::Respond, sound]);
        assert_eq!(length(&all), ms(40));
    }

    fn stopped(at: u64, handed: Option<Instant>) -> FromVoice {
        FromVoice::SpeechStopped {
            at: ms(at),
            handed,
            json: "{}".into(),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
