//! When each moment of the person's sound reached the relay.
//!
//! Providers speak of positions in the input audio; latency is a matter of instants.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back positions can be looked up.
const KEPT: usize = 1500;

/// The recent past of one input stream.
#[derive(Debug, Default)]
pub(super) struct InputClock {
    length: Duration,
    /// Where each piece of sound ended, and when it was received.
    pieces: VecDeque<(Duration, Instant)>,
}

impl InputClock {
    /// Notes that this much more sound was received.
    pub(super) fn advance(&mut self, length: Duration, received: Instant) {
        self.length += length;
        if self.pieces.len() == KEPT {
            self.pieces.pop_front();
        }
        self.pieces.push_back((self.length, received));
    }

    /// How much sound there was.
    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// Returns when the sound at `position` was received, and how much more of it came with it in
    /// one piece, if that is still known.
    pub(super) fn received(&self, position: Duration) -> Option<(Instant, Duration)> {
        let index = self.pieces.partition_point(|(end, _)| *end < position);
        if index == 0 && self.pieces.len() == KEPT {
            return None;
        }

        let (end, received) = *self.pieces.get(index)?;

        Some((received, end.saturating_sub(position)))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_received_with_the_piece_that_holds_it() {
        let t0 = Instant::now();
        let mut clock = InputClock::default();
        for piece in 1..=3 {
            clock.advance(ms(20), t0 + ms(100 * piece));
        }

        assert_eq!(clock.received(ms(20)), Some((t0 + ms(100), ms(0))));
        assert_eq!(clock.received(ms(21)), Some((t0 + ms(200), ms(19))));
        assert_eq!(clock.received(ms(61)), None, "not received yet");
    }

    #[test]
    fn only_the_recent_past_is_kept() {
        let t0 = Instant::now();
        let mut clock = InputClock::default();
        (0..10_000).for_each(|_| clock.advance(ms(20), t0));

        assert_eq!(clock.pieces.len(), KEPT);
        assert_eq!(clock.received(ms(20)), None, "forgotten");
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
