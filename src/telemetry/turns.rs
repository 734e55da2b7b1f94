//! The answered turns of all sessions, for those who look at them one by one.
//!
//! **Invariant:** no more than [`KEPT`] turns are kept, whoever has them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::core::ids::SessionId;
use crate::core::latency::TurnTrace;
use crate::core::latency::budget::Verdict;
use crate::core::share::{Lately, Share};

/// The turns that are shown.
const KEPT: usize = 200;

/// How long turns are counted for the burn rate.
const LONGEST: Duration = Duration::from_secs(3_600);
const SLOT: Duration = Duration::from_secs(5);

/// The turns that have ended lately.
#[derive(Debug)]
pub struct Turns(Mutex<Lasting>);

#[derive(Debug)]
struct Lasting {
    last: VecDeque<Arc<Turn>>,
    over: Share,
}

/// A turn that has ended.
#[derive(Clone, Debug)]
pub struct Turn {
    pub session: SessionId,
    pub at: SystemTime,
    pub trace: TurnTrace,
    pub verdict: Verdict,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Mutex::new(Lasting {
            last: VecDeque::new(),
            over: Share::new(LONGEST, SLOT),
        }))
    }
}

impl Turns {
    /// Takes a turn that has ended.
    pub fn add(&self, turn: Turn, now: Instant) {
        let mut lasting = self.lock();
        lasting.over.count(turn.verdict.breach.is_some(), now);
        if lasting.last.len() == KEPT {
            lasting.last.pop_front();
        }
        lasting.last.push_back(Arc::new(turn));
    }

    /// Returns the last turns, the latest first.
    pub fn last(&self) -> Vec<Arc<Turn>> {
        self.lock().last.iter().rev().cloned().collect()
    }

    /// Returns how many turns there were within this while, an hour at most, and how many of them were
    /// over the budget.
    pub fn within(&self, a_while: Duration, now: Instant) -> Lately {
        self.lock().over.within(a_while, now)
    }

    fn lock(&self) -> MutexGuard<'_, Lasting> {
        // Turns are whole after every call, whoever panicked while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::core::latency::budget::Budget;
    use crate::core::latency::{Hop, Stretch, Transport};
    use crate::core::port::Source;

    #[test]
    fn the_last_turns_are_kept_and_all_of_the_hour_are_counted() {
        let t0 = clock::now();
        let turns = Turns::default();
        for millis in 600..900 {
            turns.add(turn(millis, t0), t0);
        }

        let last = turns.last();
        assert_eq!(last.len(), KEPT);
        assert_eq!(last[0].trace.total, Duration::from_millis(899));
        let an_hour = turns.within(LONGEST, t0 + LONGEST);
        assert_eq!(
            an_hour,
            Lately {
                all: 300,
                such: 199
            }
        );
        let minutes = turns.within(Duration::from_secs(300), t0 + LONGEST);
        assert_eq!(minutes, Lately::default());
    }

    fn turn(millis: u64, began: Instant) -> Turn {
        let mut hops = [None; Hop::ALL.len()];
        hops[Hop::Inference as usize] = Some(Stretch {
            took: Duration::from_millis(millis),
            source: Source::Reported,
        });
        let trace = TurnTrace {
            turn: 1,
            response: "resp_1".into(),
            transport: Transport::WebRtc,
            began,
            hops,
            total: Duration::from_millis(millis),
            uncertainty: Duration::ZERO,
        };
        Turn {
            session: "sess_1".into(),
            at: clock::wall(),
            verdict: Budget::default().judge(&trace),
            trace,
        }
    }
}
