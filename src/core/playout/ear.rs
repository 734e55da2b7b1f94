//! How far the ear is behind the timeline.
//!
//! Best known from the device's own reports. A report tells the delay once; the median of the last
//! few is believed, so that a single mad one changes little. Reports that are no longer fresh still
//! say more than a guess, for a while. Without any it is reckoned from what the network does.
//!
//! **Invariant:** the delay changes with what is learned, never by itself: what is due stays due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::core::port::{Accuracy, Network, Played, Source};

/// An ear further behind than this is a mistaken report.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(5);

/// How many reports count.
const REPORTS: usize = 5;

/// How long they tell where the ear is, ...
const FRESH: Duration = Duration::from_secs(5);

/// ... and for how long, about where.
const STALE: Duration = Duration::from_secs(30);

/// What a report cannot tell: where in its packet the ear is.
const GRAIN: Duration = Duration::from_millis(20);

/// A jitter buffer holds so much at least, with what it has decoded ahead, ...
const BUFFER: Duration = Duration::from_millis(80);

/// ... and grows with the jitter: it wants all but a few packets in time.
const BUFFER_PER_JITTER: u32 = 3;

/// From the jitter buffer to the air: the sound card's own buffers.
const DEVICE: Duration = Duration::from_millis(40);

/// Where an ear is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hearing {
    /// From a position's instant until it is heard.
    pub delay: Duration,
    pub accuracy: Accuracy,
}

/// What is known of one device's ear.
#[derive(Debug)]
pub(super) struct Ear {
    guess: Duration,
    lead: Duration,
    network: Option<Network>,
    /// The delays that were reported last, and when; the newest at the back.
    reports: VecDeque<(Instant, Duration)>,
}

impl Ear {
    /// An ear that is about `guess` behind, of sound that leaves `lead` before its time.
    pub(super) fn new(guess: Duration, lead: Duration) -> Self {
        Self {
            guess,
            lead,
            network: None,
            reports: VecDeque::new(),
        }
    }

    /// Takes a report of the ear's delay. One whose instant is that of its arrival is older than it
    /// says: by the way here.
    pub(super) fn report(&mut self, delay: Duration, Played { at, exact, .. }: Played) {
        let way = if exact { Duration::ZERO } else { self.way() };
        let delay = delay.saturating_sub(way);
        if delay > MAX_DELAY {
            return;
        }
        if self.reports.len() == REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back((at, delay));
    }

    /// Learns how the network is; reports from long ago are forgotten.
    pub(super) fn measure(&mut self, network: Network, now: Instant) {
        self.network = Some(network);
        if self.reports.back().is_some_and(|(at, _)| *at + STALE < now) {
            self.reports.clear();
        }
    }

    /// How long it takes until a device that drops what it has not played is silent: the word's way
    /// to it, and what its sound card has taken already.
    pub(super) fn silenced_after(&self) -> Duration {
        self.way() + DEVICE
    }

    fn way(&self) -> Duration {
        self.network
            .map_or(Duration::ZERO, |network| network.round_trip / 2)
    }

    /// Returns from when on a position's sound is heard.
    pub(super) fn delay(&self) -> Duration {
        self.reported()
            .map_or_else(|| self.reckoned().delay, |(delay, _)| delay)
    }

    /// Returns the same, and how well it is known at `now`.
    pub(super) fn hearing(&self, now: Instant) -> Hearing {
        let Some(((delay, spread), (newest, _))) = self.reported().zip(self.reports.back()) else {
            return self.reckoned();
        };
        let (source, uncertainty) = if now.saturating_duration_since(*newest) <= FRESH {
            (Source::Reported, GRAIN + spread / 2)
        } else {
            (Source::Estimated, GRAIN * 2 + spread / 2)
        };

        Hearing {
            delay,
            accuracy: Accuracy {
                source,
                uncertainty,
            },
        }
    }

    /// The middle of what was reported together, and how far that is apart.
    fn reported(&self) -> Option<(Duration, Duration)> {
        let (newest, _) = self.reports.back()?;
        let together = self.reports.iter().filter(|(at, _)| *at + FRESH >= *newest);
        let mut delays: Vec<_> = together.map(|(_, delay)| *delay).collect();
        delays.sort_unstable();
        let spread = *delays.last()? - *delays.first()?;

        Some((*delays.get(delays.len() / 2)?, spread))
    }

    /// Network, jitter buffer and loudspeaker; what was sent ahead of its time waits in the
    /// buffer, and is part of what it holds.
    fn reckoned(&self) -> Hearing {
        let Some(Network { jitter, .. }) = self.network else {
            return estimated(self.guess, self.guess);
        };
        let (way, held) = (self.way(), BUFFER.max(jitter * BUFFER_PER_JITTER));
        let delay = (way + held + DEVICE).saturating_sub(self.lead);

        estimated(delay, DEVICE + held / 2 + way / 4)
    }
}

fn estimated(delay: Duration, uncertainty: Duration) -> Hearing {
    Hearing {
        delay: delay.min(MAX_DELAY),
        accuracy: Accuracy {
            source: Source::Estimated,
            uncertainty,
        },
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    #[test]
    fn one_mad_report_among_others_changes_little() {
        let (mut ear, t0) = ear();
        for (at, delay) in [(0, 100), (100, 104), (200, 3_000), (300, 0), (400, 102)] {
            ear.report(ms(delay), played(t0 + ms(at), false));
        }

        let hearing = ear.hearing(t0 + ms(400));
        assert_eq!(hearing.delay, ms(102));
        assert_eq!(hearing.accuracy.source, Source::Reported);
        assert!(hearing.accuracy.uncertainty > ms(1_000), "and is doubted");
    }

    #[test]
    fn a_report_of_a_moment_that_cannot_be_is_none() {
        let (mut ear, t0) = ear();
        ear.report(ms(5_001), played(t0, false));

        assert_eq!(ear.hearing(t0).delay, ms(80));
    }

    #[test]
    fn old_reports_count_as_an_estimate_and_then_not_at_all() {
        let (mut ear, t0) = ear();
        ear.report(ms(200), played(t0, false));

        let at = |ear: &Ear, after| ear.hearing(t0 + ms(after)).accuracy;
        assert_eq!(at(&ear, 5_000), accuracy(Source::Reported, 20));
        assert_eq!(at(&ear, 5_001), accuracy(Source::Estimated, 40));
        ear.measure(network(0, 0), t0 + ms(30_000));
        assert_eq!(ear.delay(), ms(200));
        ear.measure(network(0, 0), t0 + ms(30_001));
        assert_eq!(ear.delay(), ms(80));
    }

    #[test]
    fn reports_from_before_a_silence_do_not_outvote_the_first_after_it() {
        let (mut ear, t0) = ear();
        (0..4).for_each(|at| ear.report(ms(100), played(t0 + ms(at), false)));
        ear.report(ms(300), played(t0 + ms(9_000), false));

        assert_eq!(ear.hearing(t0 + ms(9_000)).delay, ms(300));
    }

    #[test]
    fn a_report_is_older_than_it_says_by_its_own_way() {
        let (mut ear, t0) = ear();
        ear.measure(network(200, 0), t0);
        ear.report(ms(350), played(t0, false));

        assert_eq!(ear.hearing(t0).delay, ms(250));
        (0..5).for_each(|_| ear.report(ms(350), played(t0, true)));
        assert_eq!(
            ear.hearing(t0).delay,
            ms(350),
            "not one that tells the time"
        );
    }

    #[test]
    fn a_longer_way_and_more_jitter_put_the_ear_further_behind() {
        let (mut ear, t0) = ear();
        let mut at = |round_trip, jitter| {
            ear.measure(network(round_trip, jitter), t0);
            ear.hearing(t0)
        };

        assert_eq!(at(0, 0).delay, ms(80));
        assert_eq!(at(200, 0).delay, ms(180));
        assert_eq!(at(200, 40).delay, ms(220));
        assert!(at(200, 40).accuracy.uncertainty > at(0, 0).accuracy.uncertainty);
        assert_eq!(at(60_000, 0).delay, MAX_DELAY);
    }

    fn played(at: Instant, exact: bool) -> Played {
        Played {
            position: ms(0),
            at,
            exact,
        }
    }

    fn ear() -> (Ear, Instant) {
        (Ear::new(ms(80), ms(40)), Instant::now())
    }

    fn network(round_trip: u64, jitter: u64) -> Network {
        Network {
            round_trip: ms(round_trip),
            jitter: ms(jitter),
        }
    }

    fn accuracy(source: Source, uncertainty: u64) -> Accuracy {
        Accuracy {
            source,
            uncertainty: ms(uncertainty),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
