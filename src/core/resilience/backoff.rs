//! When to try again: at once, then later and later, at random.
//!
//! **Invariants**
//! - The first attempt waits for nothing. Each later one waits at random up to a bound that doubles
//!   (full jitter), so that those who failed together do not come back together.
//! - No wait is longer than the cap, unless whoever refused has asked for more.

use std::time::Duration;

use crate::core::random::Random;

/// How waits grow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackoffConfig {
    /// The bound of the second attempt's wait.
    pub base: Duration,
    /// The largest bound.
    pub cap: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(200),
            cap: Duration::from_secs(5),
        }
    }
}

/// Counts attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    config: BackoffConfig,
    attempts: u32,
}

impl Backoff {
    pub fn new(config: BackoffConfig) -> Self {
        Self {
            config,
            attempts: 0,
        }
    }

    /// How many attempts have failed.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt has failed; returns how long to wait for the next. `asked` is how long the one who
    /// refused wants to be left alone.
    pub fn next(&mut self, asked: Option<Duration>, random: &mut Random) -> Duration {
        let doubled = 2u32.saturating_pow(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        let bound = self.config.base.saturating_mul(doubled);
        let wait = random.below(bound.min(self.config.cap));

        asked.map_or(wait, |asked| asked + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_are_random_below_a_bound_that_doubles_to_the_cap(seed: u64) {
            let mut random = Random::new(seed);
            let mut backoff = Backoff::new(BackoffConfig::default());
            for bound in [200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
                prop_assert!(backoff.next(None, &mut random) <= Duration::from_millis(bound));
            }
        }
    }

    #[test]
    fn whoever_asks_for_more_time_is_given_it_and_some_at_random() {
        let mut random = Random::new(7);
        let mut backoff = Backoff::new(BackoffConfig::default());
        let asked = Duration::from_secs(20);

        let wait = backoff.next(Some(asked), &mut random);

        assert!(wait >= asked && wait <= asked + Duration::from_millis(200));
    }
}
