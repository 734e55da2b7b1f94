//! When each moment of the person's sound passed a place on its way.
//!
//! Providers speak of positions in the input audio; latency is a matter of instants.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back positions can be looked up.
const KEPT: usize = 1500;

/// The recent past of one input stream.
#[derive(Debug, Default)]
pub struct InputClock {
    length: Duration,
    /// Where each piece of sound ended, and when it passed.
    pieces: VecDeque<(Duration, Instant)>,
}

impl InputClock {
    /// Notes that this much more sound has passed.
    pub fn advance(&mut self, length: Duration, passed: Instant) {
        self.length += length;
        if self.pieces.len() == KEPT {
            self.pieces.pop_front();
        }
        self.pieces.push_back((self.length, passed));
    }

    /// How much sound there was.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Returns when the sound at `position` has passed, and how much more of it came with it in
    /// one piece, if that is still known.
    pub fn passed(&self, position: Duration) -> Option<(Instant, Duration)> {
        let index = self.pieces.partition_point(|(end, _)| *end < position);
        if index == 0 && self.pieces.len() == KEPT {
            return None;
        }

        let (end, passed) = *self.pieces.get(index)?;

        Some((passed, end.saturating_sub(position)))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    #[test]
    fn a_position_passes_with_the_piece_that_holds_it() {
        let t0 = Instant::now();
        let mut clock = InputClock::default();
        for piece in 1..=3 {
            clock.advance(ms(20), t0 + ms(100 * piece));
        }

        assert_eq!(clock.passed(ms(20)), Some((t0 + ms(100), ms(0))));
        assert_eq!(clock.passed(ms(21)), Some((t0 + ms(200), ms(19))));
        assert_eq!(clock.passed(ms(61)), None, "it has not come yet");
    }

    #[test]
    fn only_the_recent_past_is_kept() {
        let t0 = Instant::now();
        let mut clock = InputClock::default();
        (0..10_000).for_each(|_| clock.advance(ms(20), t0));

        assert_eq!(clock.pieces.len(), KEPT);
        assert_eq!(clock.passed(ms(20)), None, "forgotten");
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
