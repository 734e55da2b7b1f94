//! What a client's clock says in the relay's time, and how long the ways between the two are.
//!
//! Each ping and its answer are one exchange of four instants, as in NTP (RFC 5905, section 8): the
//! client's when it sent and when it received, the relay's when it received and when it sent. Half
//! of what an exchange leaves open is the time on the network: an exchange that was quick knows the
//! offset of the two clocks better than a slow one, and an old one worse than a new one, since
//! clocks drift. The best one counts, carried on by the drift.
//!
//! **Invariant:** the truth is within [`Synced::uncertainty`] of what is said, for any client whose
//! clock drifts less than [`MOST_DRIFT`]; how unequal the two ways are is unknown, and inside of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// For how long the best exchange counts, ...
const STRETCH: Duration = Duration::from_secs(10);

/// ... and how many such stretches do.
const STRETCHES: usize = 60;

/// Stretches from which drift is told from noise.
const ENOUGH: usize = 6;

/// A quartz is off by less, in parts of a million.
const MOST_DRIFT: i64 = 100;

/// What is left of that once the drift has been measured.
const KNOWN_DRIFT: i64 = 15;

/// How many of the latest exchanges say how long the ways are now.
const LATEST: usize = 5;

/// An exchange that took longer says nothing.
const LONGEST: Duration = Duration::from_secs(5);

/// One ping and its answer. The client's times are since a moment of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exchange {
    pub sent: Duration,
    pub received: Instant,
    pub answered: Instant,
    pub back: Duration,
}

/// What is known of a client's clock.
#[derive(Debug, Default)]
pub struct ClientClock {
    /// What the relay's times are counted from.
    origin: Option<Instant>,
    /// The best exchange of each stretch, the newest at the back.
    best: VecDeque<Point>,
    latest: VecDeque<Trip>,
}

/// The clock as it is now, and the ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Synced {
    pub up: Duration,
    pub down: Duration,
    pub uncertainty: Duration,
    /// How much faster the client's clock runs, in parts of a million.
    pub drift: i64,
}

/// What an exchange says of the offset. All in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: i64,
    /// The relay's time less the client's.
    offset: i64,
    round_trip: i64,
}

/// The same instants as an [`Exchange`].
#[derive(Clone, Copy, Debug)]
struct Trip {
    sent: i64,
    received: i64,
    answered: i64,
    back: i64,
}

impl ClientClock {
    /// Learns from an exchange; one that cannot be is none.
    pub fn learn(&mut self, exchange: Exchange) {
        let origin = *self.origin.get_or_insert(exchange.received);
        let Some(trip) = Trip::new(exchange, origin) else {
            return;
        };
        let round_trip = (trip.back - trip.sent) - (trip.answered - trip.received);
        if !(0..=nanos(LONGEST)).contains(&round_trip) {
            return;
        }
        let point = Point {
            at: trip.received,
            offset: ((trip.received - trip.sent) + (trip.answered - trip.back)) / 2,
            round_trip,
        };
        match self.best.back_mut() {
            Some(last) if point.at / nanos(STRETCH) == last.at / nanos(STRETCH) => {
                if point.round_trip <= last.round_trip {
                    *last = point;
                }
            }
            _ => {
                if self.best.len() == STRETCHES {
                    self.best.pop_front();
                }
                self.best.push_back(point);
            }
        }
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(trip);
    }

    /// Returns what is known; `None` before the first exchange.
    pub fn synced(&self) -> Option<Synced> {
        let now = self.latest.back()?.received;
        let (offset, uncertainty) = self.offset(now)?;
        let ways = |way: fn(&Trip, i64) -> i64| {
            let mut ways: Vec<_> = self.latest.iter().map(|trip| way(trip, offset)).collect();
            ways.sort_unstable();
            ways.get(ways.len() / 2).copied().map(duration)
        };

        Some(Synced {
            up: ways(|trip, offset| trip.received - trip.sent - offset)?,
            down: ways(|trip, offset| trip.back + offset - trip.answered)?,
            uncertainty: duration(uncertainty),
            drift: self.drift().unwrap_or_default(),
        })
    }

    /// Returns what the relay's clock says when the client's says this.
    pub fn instant(&self, client: Duration) -> Option<Instant> {
        let client = i64::try_from(client.as_nanos()).ok()?;
        let last = self.latest.back()?;
        let (offset, _) = self.offset(last.received)?;
        let at = client.checked_add(offset)?;

        later(self.origin?, at)
    }

    /// Returns the offset at `now`, and how far it may be off.
    fn offset(&self, now: i64) -> Option<(i64, i64)> {
        let (drift, unknown) = self
            .drift()
            .map_or((0, MOST_DRIFT), |drift| (drift, KNOWN_DRIFT));
        let uncertain =
            |point: &Point| point.round_trip / 2 + parts((now - point.at).abs(), unknown);
        let best = self.best.iter().min_by_key(|point| uncertain(point))?;
        // A client's clock that is fast gets ahead of the relay's: the offset shrinks.
        let offset = best.offset - parts(now - best.at, drift);

        Some((offset, uncertain(best)))
    }

    /// Returns by how much the client's clock is fast: the middle of the slopes between all points
    /// that know the offset about as well as the best does (Theil and Sen).
    fn drift(&self) -> Option<i64> {
        let quickest = self.best.iter().map(|point| point.round_trip).min()?;
        let good = |point: &&Point| point.round_trip <= quickest + quickest / 4 + 2_000_000;
        let points: Vec<_> = self.best.iter().filter(good).collect();
        if points.len() < ENOUGH {
            return None;
        }
        let pairs = points.iter().enumerate().flat_map(|(index, first)| {
            let later = points.iter().skip(index + 1);
            later.map(move |second| (first, second))
        });
        let mut slopes: Vec<_> = pairs
            .filter(|(first, second)| second.at - first.at >= nanos(STRETCH) / 2)
            .map(|(first, second)| {
                let change = i128::from(first.offset - second.offset) * 1_000_000;
                (change / i128::from(second.at - first.at)) as i64
            })
            .collect();
        slopes.sort_unstable();

        slopes
            .get(slopes.len() / 2)
            .map(|slope| (*slope).clamp(-MOST_DRIFT, MOST_DRIFT))
    }
}

impl Trip {
    fn new(exchange: Exchange, origin: Instant) -> Option<Self> {
        let since = |at: Instant| match at.checked_duration_since(origin) {
            Some(since) => i64::try_from(since.as_nanos()).ok(),
            None => Some(-i64::try_from((origin - at).as_nanos()).ok()?),
        };
        let client = |time: Duration| {
            let nanos = i64::try_from(time.as_nanos()).ok()?;
            // Ten years leave room to reckon with.
            (nanos < 10 * 365 * 86_400 * 1_000_000_000).then_some(nanos)
        };

        Some(Self {
            sent: client(exchange.sent)?,
            received: since(exchange.received)?,
            answered: since(exchange.answered)?,
            back: client(exchange.back)?,
        })
    }
}

fn later(origin: Instant, nanos: i64) -> Option<Instant> {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 {
        origin.checked_sub(distance)
    } else {
        origin.checked_add(distance)
    }
}

fn parts(of: i64, per_million: i64) -> i64 {
    (i128::from(of) * i128::from(per_million) / 1_000_000) as i64
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.max(0).unsigned_abs())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    /// A client whose clock is 100 s behind, and a network.
    struct World {
        t0: Instant,
        clock: ClientClock,
        /// In parts of a million.
        drift: i64,
    }

    impl World {
        fn new(drift: i64) -> Self {
            let (t0, clock) = (Instant::now(), ClientClock::default());
            Self { t0, clock, drift }
        }

        fn client(&self, at: Duration) -> Duration {
            let fast = parts(nanos(at), self.drift);
            duration(nanos(at) + fast + nanos(ms(7_000)))
        }

        /// The client sends at `at`.
        fn exchange(&mut self, at: Duration, up: u64, down: u64) {
            self.clock.learn(Exchange {
                sent: self.client(at),
                received: self.t0 + at + ms(up),
                answered: self.t0 + at + ms(up + 1),
                back: self.client(at + ms(up + 1 + down)),
            });
        }

        fn synced(&self) -> Synced {
            self.clock.synced().unwrap()
        }

        /// By how much the client's clock is misread at `at`.
        fn error(&self, at: Duration) -> Duration {
            let truth = self.t0 + at;
            let said = self.clock.instant(self.client(at)).unwrap();
            said.max(truth) - said.min(truth)
        }
    }

    #[test]
    fn nothing_is_known_before_the_first_exchange() {
        let clock = ClientClock::default();

        assert_eq!(clock.synced(), None);
        assert_eq!(clock.instant(ms(5)), None);
    }

    #[test]
    fn one_exchange_tells_both_ways_if_they_are_equal() {
        let mut world = World::new(0);
        world.exchange(ms(0), 40, 40);

        let synced = world.synced();
        assert_eq!((synced.up, synced.down), (ms(40), ms(40)));
        assert_eq!(synced.uncertainty, ms(40));
        assert_eq!(world.error(ms(500)), ms(0));
    }

    #[test]
    fn the_quickest_exchange_counts_and_shows_a_way_that_has_grown_longer() {
        let mut world = World::new(0);
        world.exchange(ms(0), 20, 20);
        for ping in 1..=20 {
            world.exchange(ms(500 * ping), 20, 120);
        }

        let synced = world.synced();
        assert_eq!(synced.up, ms(20));
        assert_eq!(synced.down, ms(120));
        assert!(synced.uncertainty < ms(22), "{synced:?}");
    }

    #[test]
    fn a_slow_exchange_among_others_changes_nothing() {
        let mut world = World::new(0);
        for ping in 0..20 {
            let late = if ping % 5 == 3 { 300 } else { 0 };
            world.exchange(ms(500 * ping), 30, 30 + late);
        }

        let synced = world.synced();
        assert_eq!((synced.up, synced.down), (ms(30), ms(30)));
    }

    #[test]
    fn drift_is_learnt_and_carried_on_while_the_network_is_slow() {
        for drift in [-80, 0, 60] {
            let mut world = World::new(drift);
            for ping in 0..240 {
                world.exchange(ms(500 * ping), 25, 25);
            }
            assert!((world.synced().drift - drift).abs() <= 2, "{drift}");
            for ping in 240..480 {
                world.exchange(ms(500 * ping), 25, 325);
            }

            let error = world.error(ms(240_000));
            assert!(error < ms(3), "{drift}: {error:?}");
            let synced = world.synced();
            assert!(synced.down.abs_diff(ms(325)) < ms(3), "{synced:?}");
            assert!(synced.uncertainty >= ms(25), "{synced:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let mut world = World::new(0);
        world.exchange(ms(0), 10, 10);
        let before = world.synced();
        // Received before it was sent; took too long; from the end of time.
        for (sent, back) in [
            (ms(9_000), ms(8_000)),
            (ms(7_000), ms(20_000)),
            (Duration::MAX, Duration::MAX),
        ] {
            world.clock.learn(Exchange {
                sent,
                received: world.t0 + ms(2_000),
                answered: world.t0 + ms(2_000),
                back,
            });
        }

        assert_eq!(world.synced(), before);
        assert_eq!(world.clock.instant(Duration::MAX), None);
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
