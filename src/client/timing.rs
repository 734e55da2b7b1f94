//! How far away a client is, and what its clock says.
//!
//! A client that speaks `voxline.v1` tells its own times with its pings; of any other the round trip
//! is known, and half of it counts for each way, as an estimate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::core::latency::offset::{ClientClock, Exchange};
use crate::core::port::{Source, Ways};
use crate::wire::voxline::{Last, Ping, When};

/// Pings whose answers may still be told of.
const ASKED: usize = 8;

/// What has crossed the network to one client, and when.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    clock: ClientClock,
    asked: VecDeque<Asked>,
    /// The relay's own ping, which has no answer yet.
    pinged_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u64,
    received: Instant,
    answered: Instant,
}

impl Timing {
    /// Takes a ping of the client's, and when it was received and answered; returns what it tells
    /// of the one before.
    pub(crate) fn ping(
        &mut self,
        ping: &Ping,
        received: Instant,
        answered: Instant,
    ) -> Option<Ways> {
        let of = |last: &Last| self.asked.iter().position(|asked| asked.id == last.id);
        let before = ping.last.as_ref().and_then(of);
        let before = before.and_then(|index| self.asked.remove(index));
        if self.asked.len() == ASKED {
            self.asked.pop_front();
        }
        let id = ping.id;
        self.asked.push_back(Asked {
            id,
            received,
            answered,
        });
        let (last, before) = ping.last.zip(before)?;
        self.clock.learn(Exchange {
            sent: last.sent,
            received: before.received,
            answered: before.answered,
            back: last.received,
        });
        let synced = self.clock.synced()?;

        Some(Ways {
            up: synced.up,
            down: synced.down,
            uncertainty: synced.uncertainty,
            source: Source::Reported,
        })
    }

    /// The relay asks whether the client is there.
    pub(crate) fn asks(&mut self, now: Instant) {
        self.pinged_at = Some(now);
    }

    /// The client has answered that.
    pub(crate) fn answered(&mut self, now: Instant) -> Option<Ways> {
        let pinged_at = self.pinged_at.take()?;

        self.round_trip(now.saturating_duration_since(pinged_at))
    }

    /// A round trip took so long; returns what that tells while the client tells nothing itself.
    pub(crate) fn round_trip(&self, took: Duration) -> Option<Ways> {
        let half = took / 2;

        self.clock.synced().is_none().then_some(Ways {
            up: half,
            down: half,
            uncertainty: half,
            source: Source::Estimated,
        })
    }

    /// Returns when a client's report was so, and whether that is by its own clock.
    pub(crate) fn instant(&self, when: When, now: Instant) -> Option<(Instant, bool)> {
        match when {
            When::Age(age) => Some((now.checked_sub(age)?, false)),
            When::At(time) => match self.clock.instant(time) {
                Some(at) => Some((at.min(now), true)),
                // Its pings will tell how its clock goes; until then the report is about now.
                None => Some((now, false)),
            },
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    #[test]
    fn a_ping_tells_of_the_one_before_and_reports_are_by_the_clients_clock_from_then_on() {
        let (mut timing, t0) = (Timing::default(), Instant::now());
        assert_eq!(
            timing.instant(When::At(ms(9_000)), t0),
            Some((t0, false)),
            "its clock is not known"
        );
        assert!(timing.round_trip(ms(80)).is_some());
        // The client's clock says 5 s at `t0`; each way takes 30 ms.
        let ways = timing.ping(&ping(1, None), t0 + ms(30), t0 + ms(31));
        assert_eq!(ways, None);
        let last = Last {
            id: 1,
            sent: ms(5_000),
            received: ms(5_061),
        };
        let ways = timing.ping(&ping(2, Some(last)), t0 + ms(530), t0 + ms(531));

        let expected = Ways {
            up: ms(30),
            down: ms(30),
            uncertainty: ms(30),
            source: Source::Reported,
        };
        assert_eq!(ways, Some(expected));
        let at = timing.instant(When::At(ms(5_500)), t0 + ms(700));
        assert_eq!(at, Some((t0 + ms(500), true)));
        let ahead = timing.instant(When::At(ms(9_000)), t0 + ms(700));
        assert_eq!(ahead, Some((t0 + ms(700), true)), "nothing is from later");
        assert_eq!(timing.round_trip(ms(80)), None, "it is known better");
    }

    #[test]
    fn a_ping_that_was_never_asked_or_is_long_forgotten_tells_nothing() {
        let (mut timing, t0) = (Timing::default(), Instant::now());
        for id in 1..=ASKED as u64 + 1 {
            timing.ping(&ping(id, Some(last(99))), t0, t0);
        }

        assert_eq!(timing.ping(&ping(20, Some(last(1))), t0, t0), None);
        assert_eq!(timing.ping(&ping(21, Some(last(77))), t0, t0), None);
        assert!(timing.ping(&ping(22, Some(last(9))), t0, t0).is_some());
        assert_eq!(timing.asked.len(), ASKED);
    }

    #[test]
    fn a_client_that_tells_no_times_is_half_a_round_trip_away() {
        let (mut timing, t0) = (Timing::default(), Instant::now());
        assert_eq!(timing.answered(t0), None, "nobody has asked");
        timing.asks(t0);
        let ways = timing.answered(t0 + ms(50)).unwrap();

        assert_eq!((ways.up, ways.down), (ms(25), ms(25)));
        assert_eq!(ways.source, Source::Estimated);
        let at = timing.instant(When::Age(ms(100)), t0 + ms(500));
        assert_eq!(at, Some((t0 + ms(400), false)));
    }

    fn ping(id: u64, last: Option<Last>) -> Ping {
        Ping {
            id,
            every: None,
            last,
        }
    }

    fn last(id: u64) -> Last {
        Last {
            id,
            sent: ms(1_000),
            received: ms(1_001),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
