//! Stops asking a provider that keeps failing, and asks again later, with one request at a time.
//!
//! ```text
//!          `failures` in a row              `open_for` is over
//!   CLOSED ───────────────────▶ OPEN ─────────────────────────▶ HALF-OPEN
//!     ▲                          ▲                                  │   │
//!     │                          └──── the probe fails, or is late ─┘   │
//!     └──────────────────────────────────────────── the probe succeeds ─┘
//! ```
//!
//! **Invariants**
//! - While it is not closed, at most one request is on its way, and only half-open.
//! - An answer to a request from before a change of state changes nothing.
//! - A probe of which nothing is heard blocks nobody for longer than `probe_for`.

use std::time::{Duration, Instant};

/// When to stop asking, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open.
    pub open_for: Duration,
    /// How long a probe may take.
    pub probe_for: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(30),
            probe_for: Duration::from_secs(15),
        }
    }
}

/// The health of one provider, as far as requests have told.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    /// Counts the changes of state.
    epoch: u64,
}

/// The right to make one request; [`Breaker::settle`] takes it back.
#[derive(Debug)]
#[must_use = "how the request went must be told"]
pub struct Ticket {
    epoch: u64,
}

/// How a request went, as far as the provider's health is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Success,
    Failure,
    /// It says nothing about health: the caller gave up, or asked for what nobody grants.
    Neutral,
}

/// Where a breaker stands, for people to see.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    Closed,
    Open,
    HalfOpen,
}

/// The provider is not to be asked for this long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resting {
    pub retry_after: Duration,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { probe_until: Instant },
}

impl Breaker {
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed { failures: 0 },
            epoch: 0,
        }
    }

    /// Asks whether a request may be made.
    pub fn admit(&mut self, now: Instant) -> Result<Ticket, Resting> {
        let until = match self.state {
            State::Closed { .. } => return Ok(self.ticket()),
            State::Open { until } => until,
            State::HalfOpen { probe_until } => probe_until,
        };
        if now < until {
            return Err(Resting {
                retry_after: until - now,
            });
        }
        self.enter(State::HalfOpen {
            probe_until: now + self.config.probe_for,
        });

        Ok(self.ticket())
    }

    /// Hears how a request went.
    pub fn settle(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) {
        if ticket.epoch != self.epoch {
            return;
        }
        match (&mut self.state, outcome) {
            (State::Closed { failures }, Outcome::Failure) => {
                *failures += 1;
                if *failures >= self.config.failures {
                    self.open(now);
                }
            }
            (State::Closed { failures }, Outcome::Success) => *failures = 0,
            (State::Closed { .. }, Outcome::Neutral) => {}
            (State::HalfOpen { .. }, Outcome::Success) => {
                self.enter(State::Closed { failures: 0 });
            }
            (State::HalfOpen { .. }, Outcome::Failure) => self.open(now),
            // The next one is the probe.
            (State::HalfOpen { .. }, Outcome::Neutral) => self.enter(State::Open { until: now }),
            // No ticket is given while it is open.
            (State::Open { .. }, _) => {}
        }
    }

    pub fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::Closed { .. } => Standing::Closed,
            State::Open { until } if now < until => Standing::Open,
            State::Open { .. } | State::HalfOpen { .. } => Standing::HalfOpen,
        }
    }

    fn ticket(&self) -> Ticket {
        Ticket { epoch: self.epoch }
    }

    fn open(&mut self, now: Instant) {
        self.enter(State::Open {
            until: now + self.config.open_for,
        });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;

    const CONFIG: BreakerConfig = BreakerConfig {
        failures: 2,
        open_for: Duration::from_secs(30),
        probe_for: Duration::from_secs(10),
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn ask(breaker: &mut Breaker, outcome: Outcome, now: Instant) {
        let ticket = breaker.admit(now).unwrap();
        breaker.settle(ticket, outcome, now);
    }

    fn tripped(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(CONFIG);
        ask(&mut breaker, Outcome::Failure, now);
        ask(&mut breaker, Outcome::Failure, now);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_for_a_time() {
        let t0 = clock::now();
        let mut breaker = tripped(t0);

        assert_eq!(breaker.standing(t0), Standing::Open);
        let resting = breaker.admit(t0 + secs(10)).unwrap_err();
        assert_eq!(resting.retry_after, secs(20));
    }

    #[test]
    fn a_success_in_between_begins_the_row_anew() {
        let t0 = clock::now();
        let mut breaker = Breaker::new(CONFIG);

        for outcome in [Outcome::Failure, Outcome::Success, Outcome::Failure] {
            ask(&mut breaker, outcome, t0);
        }

        assert_eq!(breaker.standing(t0), Standing::Closed);
    }

    #[test]
    fn what_says_nothing_of_health_neither_opens_nor_mends() {
        let t0 = clock::now();
        let mut breaker = Breaker::new(CONFIG);
        ask(&mut breaker, Outcome::Failure, t0);
        ask(&mut breaker, Outcome::Neutral, t0);
        ask(&mut breaker, Outcome::Failure, t0);
        assert_eq!(breaker.standing(t0), Standing::Open);

        ask(&mut breaker, Outcome::Neutral, t0 + secs(30));
        assert_eq!(breaker.standing(t0 + secs(30)), Standing::HalfOpen);
        assert!(breaker.admit(t0 + secs(30)).is_ok(), "the next one probes");
    }

    #[test]
    fn one_probe_closes_it_or_opens_it_again() {
        let t0 = clock::now();
        let then = t0 + secs(30);
        for (outcome, standing) in [
            (Outcome::Success, Standing::Closed),
            (Outcome::Failure, Standing::Open),
        ] {
            let mut breaker = tripped(t0);
            let probe = breaker.admit(then).unwrap();
            assert!(breaker.admit(then).is_err(), "one at a time");

            breaker.settle(probe, outcome, then);

            assert_eq!(breaker.standing(then), standing);
        }
    }

    #[test]
    fn a_lost_probe_gives_way_to_the_next() {
        let t0 = clock::now();
        let mut breaker = tripped(t0);
        let lost = breaker.admit(t0 + secs(30)).unwrap();

        let resting = breaker.admit(t0 + secs(31)).unwrap_err();
        assert_eq!(resting.retry_after, secs(9));
        let next = breaker.admit(t0 + secs(40)).unwrap();

        breaker.settle(lost, Outcome::Success, t0 + secs(41));
        assert_eq!(breaker.standing(t0 + secs(41)), Standing::HalfOpen);
        breaker.settle(next, Outcome::Success, t0 + secs(41));
        assert_eq!(breaker.standing(t0 + secs(41)), Standing::Closed);
    }

    #[test]
    fn an_answer_from_before_a_change_changes_nothing() {
        let t0 = clock::now();
        let mut breaker = Breaker::new(CONFIG);
        let slow = breaker.admit(t0).unwrap();
        ask(&mut breaker, Outcome::Failure, t0);
        ask(&mut breaker, Outcome::Failure, t0);

        breaker.settle(slow, Outcome::Success, t0);

        assert_eq!(breaker.standing(t0), Standing::Open);
    }

    proptest! {
        #[test]
        fn while_it_is_not_closed_at_most_one_request_is_on_its_way(
            steps in prop::collection::vec((0_u64..20, 0_u8..4), 1..200),
        ) {
            let mut now = clock::now();
            let mut breaker = Breaker::new(CONFIG);
            let mut probes: Vec<(Ticket, Instant)> = vec![];
            for (wait, act) in steps {
                now += secs(wait);
                let was = breaker.standing(now);
                match (act, breaker.admit(now)) {
                    (_, Err(resting)) => prop_assert!(resting.retry_after <= CONFIG.open_for),
                    (0, Ok(ticket)) => breaker.settle(ticket, Outcome::Success, now),
                    (1, Ok(ticket)) => breaker.settle(ticket, Outcome::Failure, now),
                    (_, Ok(ticket)) if was == Standing::Closed => {
                        breaker.settle(ticket, Outcome::Neutral, now);
                    }
                    (_, Ok(ticket)) => probes.push((ticket, now)),
                }
                let alive = probes.iter().filter(|(ticket, at)| {
                    ticket.epoch == breaker.epoch && now < *at + CONFIG.probe_for
                });
                prop_assert!(alive.count() <= 1);
            }
        }
    }
}
