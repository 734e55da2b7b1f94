//! The relay's own ear on a device whose playback it paces: what it hears in the microphone while it
//! knows what the loudspeaker says.

use std::time::{Duration, Instant};

use crate::core::audio::{Format, Frame};
use crate::core::port::{FromClient, Speech};
use crate::media::SAMPLE_RATE;
use crate::media::ear::{Ear, Sound};

/// How far the microphone's samples may be off what the clock says before that is believed: the
/// network delivers unevenly, and a microphone that pauses sends nothing.
const DRIFT: Duration = Duration::from_millis(60);

/// Listens to one device.
pub(crate) struct Listener {
    ear: Ear,
    /// An instant, and the position of the playout timeline that is sent then.
    anchor: Option<(Instant, Duration)>,
    /// Where on the timeline the microphone is.
    at: Duration,
}

impl Listener {
    pub(crate) fn new() -> Self {
        Self {
            ear: Ear::new(),
            anchor: None,
            at: Duration::ZERO,
        }
    }

    /// Takes what the device is sent to play.
    pub(crate) fn play(&mut self, frame: &Frame, position: Duration, now: Instant) {
        if frame.format != Format::Pcm {
            return;
        }
        self.anchor.get_or_insert((now, position));
        let (pairs, _) = frame.payload.as_chunks();
        let pcm: Vec<i16> = pairs.iter().copied().map(i16::from_le_bytes).collect();
        self.ear.play(&pcm, position);
    }

    /// Takes sound of the microphone, the last of which reached the relay at `received`; returns
    /// what the session is to know.
    pub(crate) fn hear(&mut self, pcm: &[i16], received: Instant, now: Instant) -> Vec<FromClient> {
        self.at += Duration::from_secs(1) * pcm.len() as u32 / SAMPLE_RATE;
        if let Some((at, position)) = self.anchor {
            let due = position + now.saturating_duration_since(at);
            if self.at.abs_diff(due) > DRIFT {
                self.at = due;
            }
        }
        let mut sounds = vec![];
        self.ear.push(pcm, self.at, &mut sounds);
        let speech = sounds.into_iter().map(|sound| match sound {
            Sound::Began { before } => Speech::Began {
                received: received.checked_sub(before).unwrap_or(received),
            },
            Sound::Ended => Speech::Ended,
        });

        speech.map(FromClient::Speech).collect()
    }
}
