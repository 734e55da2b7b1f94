//! Where the person's sound really ended.
//!
//! Detectors hear on for a moment after the last sound, so where a provider says that speech has
//! ended is a little late. The relay has the same sound, and looks close by.
//!
//! **Invariant:** what is found is at most [`LATE`] before what the provider says, and never after.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::audio::{Format, Frame};

/// How finely loudness is told.
const BLOCK: Duration = Duration::from_millis(2);
const BLOCK_BYTES: usize = 2 * Format::Pcm.bytes_per_ms();

/// How far back it is known: ten seconds.
const KEPT: usize = 5_000;

/// By how much a provider can be late.
const LATE: Duration = Duration::from_millis(100);

/// What was said last is compared with this much before it, ...
const SPEECH: Duration = Duration::from_millis(500);

/// ... and is over where it is quieter than a tenth of that: 20 dB. A codec rings for longer below.
const QUIET: u16 = 10;

/// Sound of which nobody knows how loud it is.
const UNKNOWN: u16 = u16::MAX;

/// How loud one input stream was.
#[derive(Debug, Default)]
pub struct Loudness {
    /// The peaks of the last blocks.
    peaks: VecDeque<u16>,
    /// How many blocks there were in all.
    blocks: u64,
    /// What there is of the next one: its bytes and its peak.
    begun: (usize, u16),
}

impl Loudness {
    pub fn hear(&mut self, frame: &Frame) {
        if frame.format != Format::Pcm {
            return self.skip(frame.duration());
        }
        let (samples, _) = frame.payload.as_chunks();
        for sample in samples {
            self.add(2, i16::from_le_bytes(*sample).unsigned_abs());
        }
    }

    /// There was this much sound, and it is not known how loud.
    pub fn skip(&mut self, length: Duration) {
        let samples = length.as_micros() * 24 / 1_000;
        (0..samples).for_each(|_| self.add(2, UNKNOWN));
    }

    /// Returns where the last sound before `said` was, if that is close by; else `said`.
    pub fn last_sound(&self, said: Duration) -> Duration {
        self.find(said).unwrap_or(said)
    }

    fn find(&self, said: Duration) -> Option<Duration> {
        let end = u64::try_from(said.as_nanos() / BLOCK.as_nanos()).ok()?;
        let first = self.blocks - self.peaks.len() as u64;
        let known = usize::try_from(end.checked_sub(first)?).ok()?;
        let speech = known.checked_sub(blocks(SPEECH))?;
        let peaks = || self.peaks.range(speech..known).copied();
        let loudest = (known <= self.peaks.len()).then(|| peaks().max())??;
        if loudest == UNKNOWN {
            return None;
        }
        let quiet = peaks().rev().take_while(|peak| *peak < loudest / QUIET);
        let quiet = u64::try_from(quiet.count()).ok()?;
        let found = BLOCK.checked_mul(u32::try_from(end - quiet).ok()?)?;

        (quiet > 0 && said.saturating_sub(found) <= LATE).then_some(found)
    }

    fn add(&mut self, bytes: usize, peak: u16) {
        let (had, loudest) = self.begun;
        self.begun = (had + bytes, loudest.max(peak));
        if self.begun.0 < BLOCK_BYTES {
            return;
        }
        if self.peaks.len() == KEPT {
            self.peaks.pop_front();
        }
        self.peaks.push_back(self.begun.1);
        self.blocks += 1;
        self.begun = (0, 0);
    }
}

const fn blocks(length: Duration) -> usize {
    (length.as_millis() / BLOCK.as_millis()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speech of one second, and what comes after it, in pieces of 7 ms.
    fn heard(after: &[(i16, u64)]) -> Loudness {
        let mut loudness = Loudness::default();
        let parts = [(8_000, 1_000)].iter().chain(after);
        let pcm: Vec<u8> = parts
            .flat_map(|(sample, ms)| sample.to_le_bytes().repeat(*ms as usize * 24))
            .collect();
        for piece in pcm.chunks(7 * Format::Pcm.bytes_per_ms()) {
            loudness.hear(&pcm_frame(piece));
        }
        loudness
    }

    #[test]
    fn what_a_detector_hears_beyond_the_last_sound_is_left_out() {
        let loudness = heard(&[(100, 600)]);

        assert_eq!(loudness.last_sound(ms(1_033)), ms(1_000));
        assert_eq!(loudness.last_sound(ms(1_100)), ms(1_000));
        assert_eq!(loudness.last_sound(ms(1_000)), ms(1_000));
    }

    #[test]
    fn a_provider_that_is_further_off_is_taken_at_its_word() {
        let loudness = heard(&[(100, 600)]);

        assert_eq!(loudness.last_sound(ms(1_106)), ms(1_106));
        assert_eq!(loudness.last_sound(ms(5_000)), ms(5_000), "never came");
        assert_eq!(loudness.last_sound(ms(300)), ms(300), "too little before");
    }

    #[test]
    fn the_rest_of_a_word_is_not_silence() {
        // -18 dB, and a room that is as loud as that.
        assert_eq!(heard(&[(1_000, 600)]).last_sound(ms(1_033)), ms(1_033));
        assert_eq!(
            heard(&[(100, 20), (1_000, 10), (100, 600)]).last_sound(ms(1_063)),
            ms(1_030)
        );
    }

    #[test]
    fn where_loudness_is_not_known_the_provider_is_taken_at_its_word() {
        let mut loudness = heard(&[]);
        loudness.skip(ms(100));
        loudness.hear(&pcm_frame(&[0; 48_000]));

        assert_eq!(loudness.last_sound(ms(1_150)), ms(1_150));
        assert_eq!(Loudness::default().last_sound(ms(20)), ms(20));
    }

    #[test]
    fn only_the_recent_past_is_kept() {
        let mut loudness = heard(&[]);
        for _ in 0..30 {
            loudness.hear(&pcm_frame(&[0; 48_000]));
        }

        assert_eq!(loudness.peaks.len(), KEPT);
        assert_eq!(loudness.last_sound(ms(1_033)), ms(1_033), "forgotten");
    }

    fn pcm_frame(pcm: &[u8]) -> Frame {
        Frame {
            format: Format::Pcm,
            payload: pcm.to_vec().into(),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
