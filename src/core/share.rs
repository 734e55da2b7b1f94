//! What share of what happened lately was of one kind.
//!
//! **Invariants**
//! - What happened within a while is counted; what happened before it, at most one slot longer.
//! - It takes as much room as its longest while has slots, however much happens.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counts what happens, and what of it is of the kind that is looked for.
#[derive(Clone, Debug)]
pub struct Share {
    /// The longest while that can be asked about.
    longest: Duration,
    /// How much is counted in one piece.
    slot: Duration,
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    began: Instant,
    lately: Lately,
}

/// What happened within a while.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lately {
    pub all: u64,
    /// Those of the kind that is looked for.
    pub such: u64,
}

impl Share {
    pub fn new(longest: Duration, slot: Duration) -> Self {
        Self {
            longest,
            slot,
            slots: VecDeque::new(),
        }
    }

    /// Something has happened.
    pub fn count(&mut self, is_such: bool, now: Instant) {
        self.forget(now);
        let slot = self.slot;
        let current = self.slots.back_mut();
        let lately = match current.filter(|last| now < last.began + slot) {
            Some(last) => &mut last.lately,
            None => {
                self.slots.push_back(Slot {
                    began: now,
                    lately: Lately::default(),
                });
                &mut self.slots.back_mut().expect("one was pushed").lately
            }
        };
        lately.all += 1;
        lately.such += u64::from(is_such);
    }

    /// Returns what happened within this while before `now`.
    pub fn within(&self, a_while: Duration, now: Instant) -> Lately {
        let slots = self.slots.iter().rev();
        let recent = slots.take_while(|slot| now < slot.began + self.slot + a_while);
        recent.fold(Lately::default(), |sum, slot| Lately {
            all: sum.all + slot.lately.all,
            such: sum.such + slot.lately.such,
        })
    }

    fn forget(&mut self, now: Instant) {
        let kept = self.slot + self.longest;
        while self
            .slots
            .front()
            .is_some_and(|slot| now >= slot.began + kept)
        {
            self.slots.pop_front();
        }
    }
}

impl Lately {
    /// Nothing has no share.
    pub fn share(self) -> Option<f64> {
        (self.all > 0).then(|| self.such as f64 / self.all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SLOT: Duration = Duration::from_secs(5);

    #[test]
    fn what_happened_is_counted_for_the_while_and_one_slot_at_most() {
        let t0 = clock::now();
        let mut share = Share::new(MINUTE, SLOT);
        share.count(true, t0);
        share.count(false, t0 + Duration::from_secs(4));

        let all = Lately { all: 2, such: 1 };
        assert_eq!(share.within(MINUTE, t0 + MINUTE), all);
        assert_eq!(share.within(MINUTE, t0 + MINUTE + SLOT), Lately::default());
        assert_eq!(all.share(), Some(0.5));
        assert_eq!(Lately::default().share(), None);
    }

    proptest! {
        #[test]
        fn nothing_of_the_while_is_missed_and_nothing_much_older_is_counted(
            steps in prop::collection::vec((0_u64..9_000, any::<bool>()), 1..300),
        ) {
            let mut now = clock::now();
            let mut share = Share::new(MINUTE, SLOT);
            let mut happened = vec![];
            for (wait, is_such) in steps {
                now += Duration::from_millis(wait);
                share.count(is_such, now);
                happened.push(now);
                let since = |age| happened.iter().filter(|at| now - **at < age).count() as u64;
                let counted = share.within(MINUTE, now).all;
                prop_assert!(counted >= since(MINUTE));
                prop_assert!(counted <= since(MINUTE + SLOT));
                prop_assert!(share.slots.len() <= 14);
            }
        }
    }
}
