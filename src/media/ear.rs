//! Hears at once that a person speaks over what is being played to them.
//!
//! It is the relay's first guess, which the provider's word confirms or not: so it prefers being
//! early to being sure. Two stages: the first 32 ms that may well be speech count ([`Sound::Began`]),
//! and are taken back soon ([`Sound::Ended`]) if what follows is none.
//!
//! **Invariants.** Began and ended alternate. What the guard takes for an echo begins nothing. The
//! sound itself is only looked at: nothing of it is held back.

use std::time::Duration;

use crate::media::SAMPLE_RATE;
use crate::media::echo::{Guard, HOP};
use crate::media::resample::Resampler;

/// What an ear hears.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sound {
    /// A person speaks; the first of it was so long before the end of what was pushed last.
    Began { before: Duration },
    /// They have stopped, or it was no speech.
    Ended,
}

/// Listens to one microphone.
pub struct Ear {
    guard: Guard,
    resampler: Resampler,
    model: Box<earshot::Detector>,
    /// Samples that do not fill a hop of the guard's, or a frame of the model's, yet.
    hops: Vec<i16>,
    frames: Vec<i16>,
    /// How many hops in a row were the person's, if anybody's, up to the newest.
    near: u32,
    /// Frames the model has heard.
    heard: u64,
    phase: Phase,
}

enum Phase {
    /// So many frames in a row may have been speech.
    Silent { voiced: u32 },
    /// It has begun with the frame `since`; `sure` frames in a row surely were speech.
    Suspected { since: u64, sure: u32 },
    /// The last sound was in this frame.
    Speaking { last: u64 },
}

/// The model listens to frames of 16 ms at 16 kHz.
const MODEL_RATE: u32 = 16_000;
const MODEL_FRAME: usize = 256;
const FRAME: Duration = Duration::from_millis(16);

/// The model takes this many frames, 400 ms, to find its feet; until then it cries wolf.
const COLD: u64 = 25;

/// What may be speech, and for how many frames in a row.
const MAYBE: f32 = 0.35;
const ONSET: u32 = 2;

/// What surely is, for how many frames in a row, and within how many it must show.
const SURELY: f32 = 0.5;
const CONFIRMED: u32 = 3;
const DOUBT: u64 = 12;

/// Frames of silence, 256 ms, after which the person has stopped.
const SILENCE: u64 = 16;

const HOP_SAMPLES: usize = SAMPLE_RATE as usize / 100;

impl Default for Ear {
    fn default() -> Self {
        Self::new()
    }
}

impl Ear {
    pub fn new() -> Self {
        Self {
            guard: Guard::new(),
            resampler: Resampler::new(SAMPLE_RATE, MODEL_RATE),
            model: earshot::Detector::default_boxed(),
            hops: Vec::new(),
            frames: Vec::new(),
            near: 0,
            heard: 0,
            phase: Phase::Silent { voiced: 0 },
        }
    }

    /// Takes what is played, from this position of the playout timeline on.
    pub fn play(&mut self, pcm: &[i16], position: Duration) {
        self.guard.play(pcm, position);
    }

    /// Takes the microphone's next samples, any number, of which the last was heard at this
    /// position of the playout timeline; appends what it finds.
    pub fn push(&mut self, pcm: &[i16], position: Duration, sounds: &mut Vec<Sound>) {
        let mut hops = std::mem::take(&mut self.hops);
        hops.extend_from_slice(pcm);
        let mut whole = hops.chunks_exact(HOP_SAMPLES);
        let count = whole.len() as u32;
        for (index, hop) in (0..count).zip(&mut whole) {
            let at = position.saturating_sub(HOP * (count - index));
            self.near = match self.guard.hear(hop, at) {
                true => self.near + 1,
                false => 0,
            };
        }
        self.hops = whole.remainder().to_vec();

        let mut frames = std::mem::take(&mut self.frames);
        self.resampler.process(pcm, &mut frames);
        let mut whole = frames.chunks_exact(MODEL_FRAME);
        for frame in &mut whole {
            let score = self.model.predict_i16(frame);
            self.heard += 1;
            sounds.extend(self.on_score(score));
        }
        self.frames = whole.remainder().to_vec();
    }

    fn on_score(&mut self, score: f32) -> Option<Sound> {
        if self.heard <= COLD {
            return None;
        }
        let near = self.near > 0;
        match &mut self.phase {
            Phase::Silent { voiced } => {
                *voiced = if near && score >= MAYBE {
                    *voiced + 1
                } else {
                    0
                };
                if *voiced < ONSET {
                    return None;
                }
                let before = FRAME * *voiced;
                self.phase = Phase::Suspected {
                    since: self.heard,
                    sure: 0,
                };
                Some(Sound::Began { before })
            }
            Phase::Suspected { since, sure } => {
                *sure = if near && score >= SURELY {
                    *sure + 1
                } else {
                    0
                };
                if *sure >= CONFIRMED {
                    self.phase = Phase::Speaking { last: self.heard };
                    return None;
                }
                let doubtful = self.heard - *since >= DOUBT;
                doubtful.then(|| self.end())
            }
            Phase::Speaking { last } => {
                if near && score >= SURELY {
                    *last = self.heard;
                }
                let over = self.heard - *last >= SILENCE;
                over.then(|| self.end())
            }
        }
    }

    fn end(&mut self) -> Sound {
        self.phase = Phase::Silent { voiced: 0 };
        Sound::Ended
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::fixtures::voice;

    #[test]
    fn a_voice_begins_soon_and_ends_after_a_while() {
        let found = heard(&[silence(1.0), voice(1.0), silence(1.0)].concat());

        let [(began, Sound::Began { before }), (ended, Sound::Ended)] = found[..] else {
            panic!("{found:?}");
        };
        assert!((1_020..=1_140).contains(&began), "{began}");
        assert_eq!(before, FRAME * ONSET);
        assert!((2_200..=2_500).contains(&ended), "{ended}");
    }

    #[test]
    fn what_was_no_speech_after_all_is_taken_back() {
        let mut ear = Ear::new();
        ear.heard = COLD;
        ear.near = 1;
        let mut sounds = vec![];
        for score in [MAYBE, MAYBE].into_iter().chain([0.0; 20]) {
            ear.heard += 1;
            sounds.extend(ear.on_score(score).map(|sound| (ear.heard - COLD, sound)));
        }

        let before = FRAME * ONSET;
        let taken_back = u64::from(ONSET) + DOUBT;
        assert_eq!(
            sounds,
            [(2, Sound::Began { before }), (taken_back, Sound::Ended)]
        );
    }

    #[test]
    fn its_own_echo_is_no_person() {
        let played = [silence(1.0), voice(3.0), silence(0.5)].concat();
        let mut ear = Ear::new();
        let mut sounds = vec![];
        let mut at = Duration::ZERO;
        for (index, frame) in played.chunks(480).enumerate() {
            ear.play(frame, at);
            at += Duration::from_millis(20);
            let echo = index.checked_sub(6).map(|index| &played[index * 480..]);
            let echo: Vec<i16> = match echo {
                Some(echo) => echo[..480].iter().map(|sample| sample / 4).collect(),
                None => vec![0; 480],
            };
            ear.push(&echo, at, &mut sounds);
        }

        assert_eq!(sounds, []);
    }

    proptest! {
        #[test]
        fn began_and_ended_alternate_whatever_comes(
            blocks in prop::collection::vec((any::<i16>(), 0usize..4_000, 0u64..3_000, any::<bool>()), 0..40),
        ) {
            let voice = voice(0.2);
            let mut ear = Ear::new();
            let mut sounds = vec![];
            for (level, length, position, voiced) in blocks {
                let pcm = if voiced { voice[..length].to_vec() } else { vec![level; length] };
                let at = Duration::from_millis(position);
                ear.play(&pcm, at);
                ear.push(&pcm, at, &mut sounds);
            }
            for (index, sound) in sounds.iter().enumerate() {
                prop_assert_eq!(*sound == Sound::Ended, index % 2 == 1);
            }
        }
    }

    /// What is heard of a microphone, with the milliseconds at which it is told, while nothing
    /// plays.
    fn heard(pcm: &[i16]) -> Vec<(u64, Sound)> {
        let mut ear = Ear::new();
        let mut found = vec![];
        for (index, frame) in (1..).zip(pcm.chunks(480)) {
            let mut sounds = vec![];
            ear.push(frame, Duration::from_millis(20 * index), &mut sounds);
            found.extend(sounds.into_iter().map(|sound| (20 * index, sound)));
        }

        found
    }

    fn silence(seconds: f64) -> Vec<i16> {
        vec![0; (seconds * f64::from(SAMPLE_RATE)) as usize]
    }
}
