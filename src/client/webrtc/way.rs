//! How the network to a client is: how long a round trip takes, and how unevenly packets come.
//!
//! Round trips are those of our own connectivity checks. The jitter is that of the client's sound
//! on its way here; what is on the way there shares most of the path.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::client::webrtc::stun::Transaction;
use crate::core::port::Network;

/// Round trips that count: checks are some 2 s apart.
const KEPT: usize = 5;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Way {
    asked: Option<(Transaction, Instant)>,
    round_trips: VecDeque<Duration>,
    /// The packet before: its arrival, and its place on the sender's clock of 48 kHz.
    last: Option<(Instant, u32)>,
    jitter: Duration,
    changed: bool,
}

impl Way {
    /// Our check has left.
    pub(crate) fn asked(&mut self, transaction: Transaction, now: Instant) {
        self.asked = Some((transaction, now));
    }

    /// A check was answered.
    pub(crate) fn answered(&mut self, transaction: Transaction, now: Instant) {
        let Some((_, asked)) = self.asked.take_if(|(asked, _)| *asked == transaction) else {
            return;
        };
        let took = now.saturating_duration_since(asked);
        if took > PATIENCE {
            return;
        }
        if self.round_trips.len() == KEPT {
            self.round_trips.pop_front();
        }
        self.round_trips.push_back(took);
        self.changed = true;
    }

    /// A packet of the client's sound has arrived (RFC 3550, section 6.4.1).
    pub(crate) fn arrived(&mut self, timestamp: u32, now: Instant) {
        if let Some((before, stamp)) = self.last.replace((now, timestamp)) {
            let sent = timestamp.wrapping_sub(stamp).cast_signed();
            let Ok(sent) = u32::try_from(sent) else {
                return;
            };
            let sent = Duration::from_secs(1) * sent / 48_000;
            let came = now.saturating_duration_since(before);
            let off = came.abs_diff(sent);
            // A microphone that paused says nothing of the network.
            if off < PAUSE {
                self.jitter = self.jitter * 15 / 16 + off / 16;
            }
        }
    }

    /// Returns how it is, once a round trip was measured, and then again when it has changed.
    pub(crate) fn news(&mut self) -> Option<Network> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut sorted: Vec<_> = self.round_trips.iter().copied().collect();
        sorted.sort_unstable();

        Some(Network {
            round_trip: *sorted.get(sorted.len() / 2)?,
            jitter: self.jitter,
        })
    }
}

/// A gap in a stream that no network makes.
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    #[test]
    fn a_check_and_its_answer_are_a_round_trip_and_the_middle_one_counts() {
        let (mut way, t0) = (Way::default(), Instant::now());
        let mut trip = |took| {
            way.asked([1; 12], t0);
            way.answered([1; 12], t0 + ms(took));
            way.news().map(|network| network.round_trip)
        };

        assert_eq!(trip(30), Some(ms(30)));
        trip(900);
        trip(31);
        assert_eq!(trip(29), Some(ms(31)));
        assert_eq!(trip(20_000), None, "too late to be an answer");
    }

    #[test]
    fn the_answer_to_another_check_says_nothing() {
        let (mut way, t0) = (Way::default(), Instant::now());
        way.asked([1; 12], t0);
        way.answered([2; 12], t0 + ms(5));
        assert_eq!(way.news(), None);

        way.answered([1; 12], t0 + ms(10));
        assert_eq!(way.news().unwrap().round_trip, ms(10));
        assert_eq!(way.news(), None, "it has not changed");
    }

    #[test]
    fn jitter_is_how_unevenly_packets_come_whatever_is_paused_or_out_of_order() {
        let (mut way, t0) = (Way::default(), Instant::now());
        for packet in 0..500_u32 {
            let late = if packet % 2 == 0 { 0 } else { 8 };
            way.arrived(packet * 960, t0 + ms(u64::from(packet) * 20 + late));
        }
        way.arrived(900, t0 + ms(10_000));
        way.arrived(48_000 * 60, t0 + ms(90_000));
        way.asked([1; 12], t0);
        way.answered([1; 12], t0);

        let jitter = way.news().unwrap().jitter;
        assert!(jitter.abs_diff(ms(8)) < ms(1), "{jitter:?}");
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
