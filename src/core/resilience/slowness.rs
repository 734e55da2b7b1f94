//! Tells a provider that has become slow from one that had a slow moment.
//!
//! ```text
//!            `slow_from` of the last turns or more were slow
//!   PROMPT ───────────────────────────────────────────────▶ SLOW
//!     ▲                                                       │
//!     └─ `prompt_below` or fewer; or too few turns to tell ───┘
//! ```
//!
//! It opens no breaker. A slow provider still answers, and where there is no other one, a late answer is
//! better than none: it stays in use, and people are told. Where there is another, new links go there
//! ([`Slowness::decide`]); then nothing is heard of the slow one any more, and after `window` it is asked
//! again.
//!
//! **Invariants**
//! - Fewer than `least` turns tell nothing.
//! - From one state to the other the share has to pass both thresholds: it does not flap between them.

use std::time::{Duration, Instant};

use crate::core::share::{Lately, Share};

/// What slow is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlownessConfig {
    /// How long a turn is looked at.
    pub window: Duration,
    /// With fewer turns nothing is known.
    pub least: u64,
    /// The share of slow turns from which a provider counts as slow, ...
    pub slow_from: f64,
    /// ... and that up to which it counts as prompt again.
    pub prompt_below: f64,
}

impl Default for SlownessConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            least: 20,
            slow_from: 0.2,
            prompt_below: 0.1,
        }
    }
}

/// How fast one provider answers lately.
#[derive(Debug)]
pub struct Slowness {
    config: SlownessConfig,
    turns: Share,
    pace: Pace,
}

/// How a provider answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    Prompt,
    Slow,
}

/// Where a new link is to go, as far as slowness is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    /// To this provider.
    Stay,
    /// To another one.
    Shift,
}

impl Slowness {
    pub fn new(config: SlownessConfig) -> Self {
        Self {
            config,
            turns: Share::new(config.window, config.window / 60),
            pace: Pace::Prompt,
        }
    }

    /// Hears how the provider's part of a turn went; returns the new pace if it has changed.
    pub fn turn(&mut self, was_slow: bool, now: Instant) -> Option<Pace> {
        let before = self.pace(now);
        self.turns.count(was_slow, now);
        self.pace = before;
        self.pace = self.pace(now);

        (self.pace != before).then_some(self.pace)
    }

    /// Returns the turns that are looked at, and how many of them were slow.
    pub fn lately(&self, now: Instant) -> Lately {
        self.turns.within(self.config.window, now)
    }

    pub fn pace(&self, now: Instant) -> Pace {
        let lately = self.lately(now);
        let share = lately.share().filter(|_| lately.all >= self.config.least);
        match (self.pace, share) {
            (_, None) => Pace::Prompt,
            (Pace::Prompt, Some(share)) if share >= self.config.slow_from => Pace::Slow,
            (Pace::Slow, Some(share)) if share <= self.config.prompt_below => Pace::Prompt,
            (pace, Some(_)) => pace,
        }
    }

    /// Decides where a new link goes; `others` is how many other providers are fit to take it.
    pub fn decide(&self, others: usize, now: Instant) -> Choice {
        match self.pace(now) {
            Pace::Slow if others > 0 => Choice::Shift,
            Pace::Slow | Pace::Prompt => Choice::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_provider_is_slow_from_one_threshold_and_prompt_again_from_the_other() {
        let t0 = clock::now();
        let mut slowness = Slowness::new(SlownessConfig::default());
        feed(&mut slowness, 17, 3, t0);
        assert_eq!(slowness.pace(t0), Pace::Prompt, "3 of 20");

        assert_eq!(slowness.turn(true, t0), None, "4 of 21");
        feed(&mut slowness, 0, 1, t0);
        assert_eq!(slowness.pace(t0), Pace::Slow, "5 of 22");

        feed(&mut slowness, 20, 0, t0);
        assert_eq!(slowness.pace(t0), Pace::Slow, "5 of 42 is not yet prompt");
        feed(&mut slowness, 8, 0, t0);
        assert_eq!(slowness.pace(t0), Pace::Prompt, "5 of 50");
        assert_eq!(slowness.lately(t0), Lately { all: 50, such: 5 });
    }

    #[test]
    fn a_change_is_told_once() {
        let t0 = clock::now();
        let mut slowness = Slowness::new(SlownessConfig::default());
        let told: Vec<_> = (0..40).filter_map(|_| slowness.turn(true, t0)).collect();
        assert_eq!(told, [Pace::Slow]);
    }

    #[test]
    fn few_turns_tell_nothing() {
        let t0 = clock::now();
        let mut slowness = Slowness::new(SlownessConfig::default());
        feed(&mut slowness, 0, 19, t0);
        assert_eq!(slowness.pace(t0), Pace::Prompt);
    }

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let t0 = clock::now();
        let mut slowness = Slowness::new(SlownessConfig::default());
        feed(&mut slowness, 0, 40, t0);
        assert_eq!(slowness.pace(t0 + Duration::from_secs(299)), Pace::Slow);
        assert_eq!(slowness.pace(t0 + Duration::from_secs(310)), Pace::Prompt);
    }

    #[test]
    fn a_slow_provider_is_left_only_for_another_one() {
        let t0 = clock::now();
        let mut slowness = Slowness::new(SlownessConfig::default());
        assert_eq!(slowness.decide(1, t0), Choice::Stay);
        feed(&mut slowness, 0, 40, t0);
        assert_eq!(slowness.decide(0, t0), Choice::Stay);
        assert_eq!(slowness.decide(1, t0), Choice::Shift);
    }

    fn feed(slowness: &mut Slowness, prompt: usize, slow: usize, now: Instant) {
        for _ in 0..prompt {
            slowness.turn(false, now);
        }
        for _ in 0..slow {
            slowness.turn(true, now);
        }
    }
}
