//! What an operator should be woken for, by the relay's own figures. The rules for Prometheus
//! (`docs/prometheus`) have the same names and thresholds.
//!
//! **Invariants**
//! - Pure: counts and instants go in, and what fires comes out.
//! - No more than [`READINGS`] readings are kept, however often it looks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// What counts as lately.
const LATELY: Duration = Duration::from_secs(15 * 60);
/// What a rise is held against: so long before that, of which something must be known.
const BEFORE: Duration = Duration::from_secs(2 * 60 * 60);

/// How far readings are apart, at least.
const STEP: Duration = Duration::from_secs(15);
/// Readings that are kept.
const READINGS: usize = ((LATELY.as_secs() + BEFORE.as_secs()) / STEP.as_secs()) as usize + 1;

/// Fewer turns in five minutes have no percentile worth a night's sleep.
const LEAST_TURNS: u64 = 10;
/// Fewer interruptions in 15 minutes have no share.
const LEAST_INTERRUPTIONS: u64 = 20;
/// Of so many interruptions one may fail.
const FAILED_ONE_IN: u64 = 20;
/// Fewer ICE restarts in 15 minutes are no rise.
const LEAST_RESTARTS: u64 = 10;
/// A rise is sharp from so many times what was usual.
const SHARP: u64 = 3;

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) rotations_failed: u64,
    /// Answers that were to end before their time, ...
    pub(crate) interruptions: u64,
    /// ... and those whose end the provider did not confirm in time.
    pub(crate) interruptions_failed: u64,
    pub(crate) ice_restarts: u64,
}

/// How long answers took in the last five minutes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FirstAudio {
    pub(crate) turns: u64,
    pub(crate) percentile: u8,
    /// What so many of a hundred took at most.
    pub(crate) reached: Duration,
    pub(crate) limit: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    FirstAudioSlow,
    TokenRotationFailed,
    InterruptRecoveryFailing,
    IceRestartsRising,
}

/// A rule that fires.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Alert {
    pub(crate) rule: Rule,
    pub(crate) since: Instant,
    pub(crate) says: String,
}

/// Looks at what was counted, and remembers it for as long as a rule looks back.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    readings: VecDeque<(Instant, Counts)>,
    firing: Vec<Alert>,
}

impl Rule {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FirstAudioSlow => "FirstAudioSlow",
            Self::TokenRotationFailed => "TokenRotationFailed",
            Self::InterruptRecoveryFailing => "InterruptRecoveryFailing",
            Self::IceRestartsRising => "IceRestartsRising",
        }
    }
}

impl Watch {
    /// Takes the counts as they are now. To be called every few seconds.
    pub(crate) fn look(&mut self, counts: Counts, first_audio: FirstAudio, now: Instant) {
        let then = self.at(now, LATELY).unwrap_or_default();
        let lately = counts.since(then);
        let before = self
            .at(now, LATELY + BEFORE)
            .map(|long_ago| then.since(long_ago));
        let findings = [
            (Rule::FirstAudioSlow, slow(first_audio)),
            (Rule::TokenRotationFailed, not_renewed(lately)),
            (Rule::InterruptRecoveryFailing, not_recovered(lately)),
            (Rule::IceRestartsRising, restarting(lately, before)),
        ];
        let findings = findings
            .into_iter()
            .filter_map(|(rule, says)| Some((rule, says?)));
        let fired = std::mem::take(&mut self.firing);
        self.firing = findings
            .map(|(rule, says)| {
                let before = fired.iter().find(|alert| alert.rule == rule);
                let since = before.map_or(now, |alert| alert.since);
                Alert { rule, since, says }
            })
            .collect();
        self.remember(counts, now);
    }

    /// What fires, since the last look.
    pub(crate) fn firing(&self) -> &[Alert] {
        &self.firing
    }

    /// The counts as they were, if it has looked so long ago.
    fn at(&self, now: Instant, ago: Duration) -> Option<Counts> {
        let is_older = |(at, _): &&(Instant, Counts)| now.saturating_duration_since(*at) >= ago;
        let reading = self.readings.iter().rev().find(is_older);

        reading.map(|(_, counts)| *counts)
    }

    fn remember(&mut self, counts: Counts, now: Instant) {
        let is_due = self
            .readings
            .back()
            .is_none_or(|(last, _)| now.saturating_duration_since(*last) >= STEP);
        if !is_due {
            return;
        }
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back((now, counts));
    }
}

impl Counts {
    fn since(self, then: Self) -> Self {
        Self {
            rotations_failed: self.rotations_failed.saturating_sub(then.rotations_failed),
            interruptions: self.interruptions.saturating_sub(then.interruptions),
            interruptions_failed: self
                .interruptions_failed
                .saturating_sub(then.interruptions_failed),
            ice_restarts: self.ice_restarts.saturating_sub(then.ice_restarts),
        }
    }
}

fn slow(first_audio: FirstAudio) -> Option<String> {
    let FirstAudio {
        turns,
        percentile,
        reached,
        limit,
    } = first_audio;
    let [reached_ms, limit_ms] = [reached, limit].map(|time| time.as_millis());

    (turns >= LEAST_TURNS && reached > limit).then(|| {
        format!(
            "{percentile} of 100 answers are heard within {reached_ms} ms, and not within \
             {limit_ms} ms ({turns} turns in 5 minutes)."
        )
    })
}

fn not_renewed(lately: Counts) -> Option<String> {
    let failed = lately.rotations_failed;

    (failed > 0).then(|| {
        let tokens = if failed == 1 { "token" } else { "tokens" };
        format!(
            "{failed} {tokens} expired in {} minutes before the client held the next one.",
            minutes(LATELY)
        )
    })
}

fn not_recovered(lately: Counts) -> Option<String> {
    let Counts {
        interruptions: all,
        interruptions_failed: failed,
        ..
    } = lately;

    (all >= LEAST_INTERRUPTIONS && failed * FAILED_ONE_IN > all).then(|| {
        format!(
            "{failed} of {all} interruptions in {} minutes were not confirmed in time by the provider.",
            minutes(LATELY)
        )
    })
}

fn restarting(lately: Counts, before: Option<Counts>) -> Option<String> {
    let before = before?;
    let times = BEFORE.as_secs() / LATELY.as_secs();
    let restarts = lately.ice_restarts;
    let is_sharp = restarts * times > SHARP * before.ice_restarts;

    (restarts >= LEAST_RESTARTS && is_sharp).then(|| {
        format!(
            "{restarts} ICE restarts in {} minutes; in the {} minutes before there were {}.",
            minutes(LATELY),
            minutes(BEFORE),
            before.ice_restarts
        )
    })
}

fn minutes(time: Duration) -> u64 {
    time.as_secs() / MINUTE.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const NOTHING: Counts = Counts {
        rotations_failed: 0,
        interruptions: 0,
        interruptions_failed: 0,
        ice_restarts: 0,
    };

    #[test]
    fn nothing_fires_while_all_is_well() {
        let mut watch = Watch::default();
        watch.look(NOTHING, audio(1_000, 1_500), clock::now());
        assert_eq!(watch.firing(), []);
    }

    #[test]
    fn slow_answers_fire_if_there_are_enough_of_them() {
        for (turns, reached, fires) in [(10, 1_501, true), (10, 1_500, false), (9, 9_000, false)] {
            let mut watch = Watch::default();
            watch.look(NOTHING, audio(turns, reached), clock::now());
            assert_eq!(rules(&watch) == [Rule::FirstAudioSlow], fires, "{turns}");
        }
        let mut watch = Watch::default();
        watch.look(NOTHING, audio(40, 1_790), clock::now());
        assert_eq!(
            watch.firing()[0].says,
            "95 of 100 answers are heard within 1790 ms, and not within 1500 ms (40 turns in 5 \
             minutes)."
        );
    }

    #[test]
    fn a_token_that_was_not_renewed_fires_for_fifteen_minutes() {
        let mut watch = Watch::default();
        let t0 = clock::now();
        watch.look(NOTHING, audio(0, 0), t0);
        let failed = Counts {
            rotations_failed: 1,
            ..NOTHING
        };
        for second in (5..2_000).step_by(5) {
            watch.look(failed, audio(0, 0), t0 + Duration::from_secs(second));
            // The reading that it is held against may be a step old.
            if second < LATELY.as_secs() {
                assert_eq!(rules(&watch), [Rule::TokenRotationFailed], "at {second} s");
            } else if second > LATELY.as_secs() + 2 * STEP.as_secs() {
                assert_eq!(rules(&watch), [], "at {second} s");
            }
        }
    }

    #[test]
    fn an_alert_keeps_the_instant_of_its_beginning() {
        let mut watch = Watch::default();
        let t0 = clock::now();
        let at = |second| t0 + Duration::from_secs(second);
        watch.look(NOTHING, audio(30, 2_000), at(0));
        watch.look(NOTHING, audio(40, 3_000), at(5));
        assert_eq!(watch.firing()[0].since, at(0));
        assert!(watch.firing()[0].says.contains("3000 ms"));
        watch.look(NOTHING, audio(40, 1_000), at(10));
        watch.look(NOTHING, audio(40, 2_000), at(15));
        assert_eq!(watch.firing()[0].since, at(15));
    }

    #[test]
    fn interruptions_fire_if_more_than_one_in_twenty_fails() {
        for (interruptions_failed, interruptions, fires) in [
            (2, 40, false),
            (3, 40, true),
            (19, 19, false),
            (20, 20, true),
        ] {
            let mut watch = Watch::default();
            let counts = Counts {
                interruptions,
                interruptions_failed,
                ..NOTHING
            };
            watch.look(counts, audio(0, 0), clock::now());
            let found = rules(&watch) == [Rule::InterruptRecoveryFailing];
            assert_eq!(found, fires, "{interruptions_failed} of {interruptions}");
        }
    }

    #[test]
    fn ice_restarts_fire_if_they_are_three_times_what_they_were_in_the_hours_before() {
        for (usual, lately, fires) in [
            (0, 9, false),
            (0, 10, true),
            (80, 30, false),
            (80, 31, true),
        ] {
            let mut watch = Watch::default();
            let t0 = clock::now();
            let hours = BEFORE.as_secs();
            // The hours before, evenly; then the last 15 minutes.
            for second in (0..=hours).step_by(15) {
                let so_far = usual * second / hours;
                watch.look(
                    restarts(so_far),
                    audio(0, 0),
                    t0 + Duration::from_secs(second),
                );
            }
            let now = t0 + BEFORE + LATELY;
            watch.look(restarts(usual + lately), audio(0, 0), now);
            let found = rules(&watch) == [Rule::IceRestartsRising];
            assert_eq!(found, fires, "{lately} after {usual} in two hours");
        }
    }

    #[test]
    fn without_anything_to_hold_them_against_ice_restarts_are_no_rise() {
        let mut watch = Watch::default();
        let t0 = clock::now();
        watch.look(NOTHING, audio(0, 0), t0);
        watch.look(restarts(500), audio(0, 0), t0 + LATELY);
        assert_eq!(rules(&watch), []);
    }

    #[test]
    fn no_more_is_remembered_than_a_rule_looks_back() {
        let mut watch = Watch::default();
        let t0 = clock::now();
        for second in 0..20_000 {
            watch.look(NOTHING, audio(0, 0), t0 + Duration::from_secs(second));
        }
        assert_eq!(watch.readings.len(), READINGS);
        let oldest = watch.readings[0].0;
        let back = t0 + Duration::from_secs(19_999) - oldest;
        assert!(back >= LATELY + BEFORE, "{back:?}");
    }

    fn rules(watch: &Watch) -> Vec<Rule> {
        watch.firing().iter().map(|alert| alert.rule).collect()
    }

    fn restarts(ice_restarts: u64) -> Counts {
        Counts {
            ice_restarts,
            ..NOTHING
        }
    }

    fn audio(turns: u64, reached_ms: u64) -> FirstAudio {
        FirstAudio {
            turns,
            percentile: 95,
            reached: Duration::from_millis(reached_ms),
            limit: Duration::from_millis(1_500),
        }
    }
}
