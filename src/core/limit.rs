//! How often something may happen, for each of many keys: a rate, and a burst on top of it.
//!
//! It is the generic cell rate algorithm (GCRA): all there is to remember of a key is the instant
//! at which it will have used up what it took, and once that is past there is nothing to remember.
//!
//! **Invariants**
//! - In any span of time a key takes at most its burst, plus what its rate yields in that span.
//! - At most the set number of keys is remembered. Beyond it a new key waits for an old one to be
//!   forgotten; no key is forgotten that would gain by it.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Keys that are remembered before the first look for those that can be forgotten.
const FEW: usize = 64;

/// How often something may happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many may happen at once, after a pause. Zero is taken for one.
    pub burst: u32,
    /// How long it takes until one more may happen.
    pub interval: Duration,
}

impl Rate {
    /// So many a minute, all of them at once if need be. Zero is taken for one.
    pub fn per_minute(count: u32) -> Self {
        let count = count.max(1);

        Self {
            burst: count,
            interval: Duration::from_secs(60) / count,
        }
    }
}

/// Counts by key.
#[derive(Debug)]
pub struct RateLimiter<K> {
    most: usize,
    /// When there are this many keys it is time to forget some.
    sweep_at: usize,
    /// When each key will have used up what it took.
    spent_until: HashMap<K, Instant>,
}

impl<K: Eq + Hash> RateLimiter<K> {
    /// Remembers at most so many keys.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            sweep_at: most.min(FEW),
            spent_until: HashMap::new(),
        }
    }

    /// Takes one for this key, or tells how long to wait for it.
    pub fn take(&mut self, key: K, rate: Rate, now: Instant) -> Result<(), Duration> {
        if !self.spent_until.contains_key(&key) {
            self.make_room(now)?;
        }
        let spent_until = self.spent_until.entry(key).or_insert(now);
        let ahead = spent_until.saturating_duration_since(now);
        let allowed = rate.interval * (rate.burst.max(1) - 1);
        if ahead > allowed {
            return Err(ahead - allowed);
        }
        *spent_until = now + ahead + rate.interval;

        Ok(())
    }

    fn make_room(&mut self, now: Instant) -> Result<(), Duration> {
        if self.spent_until.len() < self.sweep_at {
            return Ok(());
        }
        self.spent_until.retain(|_, spent_until| *spent_until > now);
        // Twice what is left, so that looking costs each key that comes only a little.
        self.sweep_at = (2 * self.spent_until.len()).max(FEW).min(self.most);
        if self.spent_until.len() < self.most {
            return Ok(());
        }
        let next = self.spent_until.values().min();

        Err(next.map_or(Duration::ZERO, |next| *next - now))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        interval: Duration::from_secs(10),
    };

    #[test]
    fn a_burst_passes_and_then_one_by_one_at_the_rate() {
        let t0 = Instant::now();
        let mut limiter = RateLimiter::new(10);
        for _ in 0..3 {
            assert_eq!(limiter.take("a", RATE, t0), Ok(()));
        }
        assert_eq!(limiter.take("a", RATE, t0), Err(secs(10)));
        assert_eq!(limiter.take("a", RATE, t0 + secs(4)), Err(secs(6)));
        assert_eq!(limiter.take("a", RATE, t0 + secs(10)), Ok(()));
        assert_eq!(limiter.take("a", RATE, t0 + secs(10)), Err(secs(10)));
    }

    #[test]
    fn whoever_waits_as_long_as_told_is_let_through() {
        let t0 = Instant::now();
        let mut limiter = RateLimiter::new(10);
        let mut now = t0;
        for _ in 0..100 {
            if let Err(wait) = limiter.take("a", RATE, now) {
                now += wait;
                assert_eq!(limiter.take("a", RATE, now), Ok(()));
            }
        }
        assert!(now - t0 <= RATE.interval * 97, "{:?}", now - t0);
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let t0 = Instant::now();
        let mut limiter = RateLimiter::new(10);
        let taken = (0..600)
            .filter(|second| limiter.take("a", RATE, t0 + secs(*second)).is_ok())
            .count();
        assert_eq!(taken, 3 + 59);
    }

    #[test]
    fn a_pause_gives_the_burst_back_and_no_more() {
        let t0 = Instant::now();
        let mut limiter = RateLimiter::new(10);
        let burst = |limiter: &mut RateLimiter<_>, now| {
            let taken = (0..10).filter(|_| limiter.take("a", RATE, now).is_ok());
            taken.count()
        };
        assert_eq!(burst(&mut limiter, t0), 3);
        assert_eq!(burst(&mut limiter, t0 + secs(3600)), 3);
    }

    #[test]
    fn keys_do_not_count_for_each_other() {
        let t0 = Instant::now();
        let mut limiter = RateLimiter::new(10);
        while limiter.take("a", RATE, t0).is_ok() {}
        assert_eq!(limiter.take("b", RATE, t0), Ok(()));
    }

    #[test]
    fn a_minute_s_worth_may_come_at_once() {
        let t0 = Instant::now();
        let mut limiter = RateLimiter::new(10);
        let rate = Rate::per_minute(6);
        for _ in 0..6 {
            assert_eq!(limiter.take("a", rate, t0), Ok(()));
        }
        assert_eq!(limiter.take("a", rate, t0), Err(secs(10)));
        assert_eq!(Rate::per_minute(0), Rate::per_minute(1));
    }

    #[test]
    fn no_more_keys_are_remembered_than_allowed() {
        let t0 = Instant::now();
        let mut limiter = RateLimiter::new(100);
        for key in 0..100 {
            assert_eq!(limiter.take(key, RATE, t0), Ok(()));
        }
        assert_eq!(limiter.take(100, RATE, t0), Err(secs(10)));
        assert_eq!(limiter.take(0, RATE, t0), Ok(()), "it is known");
        assert_eq!(limiter.spent_until.len(), 100);
        assert_eq!(limiter.take(100, RATE, t0 + secs(10)), Ok(()));
        assert_eq!(limiter.spent_until.len(), 2, "those that are over, and it");
    }

    #[test]
    fn many_keys_that_come_once_are_forgotten() {
        let t0 = Instant::now();
        let mut limiter = RateLimiter::new(10_000);
        for key in 0..100_000_u64 {
            assert_eq!(limiter.take(key, RATE, t0 + secs(key)), Ok(()));
        }
        assert!(limiter.spent_until.len() <= FEW);
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }
}
