//! How long an answer may take, and which hop is to blame if it takes longer.
//!
//! **Invariants**
//! - A turn is over the budget if one of its hops, or the whole of it, takes longer than it may; then
//!   one hop is to blame: the one that is furthest over its own limit; if none is over, the one that
//!   uses most of it.
//! - What is not known breaks nothing: a turn of which some hops are unknown is judged by the others, and
//!   its whole is what is known of it. An estimate counts as what it estimates, and says so.

use std::time::Duration;

use crate::core::latency::{Hop, TurnTrace};
use crate::core::port::Source;
use crate::core::share::Lately;

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// By [`Hop`].
    pub limits: [Duration; Hop::ALL.len()],
    /// Of all hops together.
    pub end_to_end: Duration,
    /// Which percentile of many turns is held against the limits.
    pub percentile: u8,
    /// The share of turns that is to be within the budget; less than one.
    pub objective: f64,
}

/// What a turn was, held against the budget.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub breach: Option<Breach>,
    /// Whether the provider took too long for its own part, if that is known.
    pub slow_provider: Option<bool>,
}

/// The budget was broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Breach {
    /// Which hop is to blame.
    pub hop: Hop,
    pub took: Duration,
    pub limit: Duration,
    /// How much longer than it may all together took; zero if only the hop is over its limit.
    pub total_over: Duration,
    /// What is known of the hop is an estimate.
    pub estimated: bool,
}

impl Default for Budget {
    fn default() -> Self {
        let limit = |hop| match hop {
            Hop::Capture | Hop::Uplink => 150,
            Hop::RelayIn => 60,
            Hop::SilenceWait => 600,
            Hop::Inference => 700,
            Hop::RelayOut => 40,
            Hop::Downlink => 120,
            Hop::Playback => 250,
        };
        Self {
            limits: Hop::ALL.map(|hop| Duration::from_millis(limit(hop))),
            end_to_end: Duration::from_millis(1500),
            percentile: 95,
            objective: 0.95,
        }
    }
}

impl Budget {
    pub const fn limit(&self, hop: Hop) -> Duration {
        self.limits[hop as usize]
    }

    /// Holds a turn against the budget.
    pub fn judge(&self, turn: &TurnTrace) -> Verdict {
        let hops = turn.hops.map(|hop| hop.map(|stretch| stretch.took));
        let source = |hop| turn.hop(hop).map(|stretch| stretch.source);
        let breach = self.breach(&hops, Some(turn.total)).map(|breach| Breach {
            estimated: source(breach.hop) == Some(Source::Estimated),
            ..breach
        });
        let blamed = breach.map(|breach| breach.hop);
        // How long it waits for silence is what it was asked for; how long it thinks is not.
        let inference = turn.hop(Hop::Inference);
        let slow_provider = inference.map(|inference| {
            inference.took > self.limit(Hop::Inference) || blamed == Some(Hop::Inference)
        });

        Verdict {
            breach,
            slow_provider,
        }
    }

    /// Holds what is known of one turn, or one percentile of many, against the limits.
    pub fn breach(
        &self,
        hops: &[Option<Duration>; Hop::ALL.len()],
        total: Option<Duration>,
    ) -> Option<Breach> {
        let total_over = total.unwrap_or_default().saturating_sub(self.end_to_end);
        let known = Hop::ALL.into_iter().zip(hops);
        let known = known.filter_map(|(hop, took)| Some((hop, (*took)?, self.limit(hop))));
        // Of equals the first.
        let (hop, took, limit) = known.rev().max_by(|one, other| {
            let over = |(_, took, limit): &(Hop, Duration, Duration)| took.saturating_sub(*limit);
            let used = |(_, took, limit): &(Hop, Duration, Duration)| used(*took, *limit);
            let by_used = used(one).total_cmp(&used(other));
            over(one).cmp(&over(other)).then(by_used)
        })?;

        (took > limit || !total_over.is_zero()).then_some(Breach {
            hop,
            took,
            limit,
            total_over,
            estimated: false,
        })
    }

    /// Says for people what is wrong with this percentile of many turns.
    pub fn says(&self, breach: &Breach) -> String {
        let Breach {
            hop,
            took,
            limit,
            total_over,
            ..
        } = *breach;
        let (hop, percentile) = (hop.name(), self.percentile);
        let [took_ms, limit_ms, over_ms, total_ms, end_to_end_ms, late_ms] = [
            took,
            limit,
            breach.over(),
            self.end_to_end + total_over,
            self.end_to_end,
            total_over,
        ]
        .map(|time| time.as_millis());
        if breach.over().is_zero() {
            let used = used(took, limit) * 100.0;
            return format!(
                "{percentile} of 100 answers are heard within {total_ms} ms, {late_ms} ms more than \
                 the budget of {end_to_end_ms} ms allows. No hop is over its own limit; `{hop}` uses \
                 most of it ({took_ms} of {limit_ms} ms, {used:.0} %)."
            );
        }
        let whole = if total_over.is_zero() {
            format!("Answers are still heard within the {end_to_end_ms} ms of the whole.")
        } else {
            format!("Answers are heard within {total_ms} ms, {late_ms} ms too late.")
        };

        format!(
            "`{hop}` takes up to {took_ms} ms in {percentile} of 100 answers, {over_ms} ms more than \
             its budget of {limit_ms} ms. {whole}"
        )
    }

    /// How fast the turns over the budget that are allowed for are used up: with 1 there are exactly
    /// as many as there may be, with 2 twice as many.
    pub fn burn_rate(&self, turns: Lately) -> f64 {
        turns.share().unwrap_or_default() / (1.0 - self.objective)
    }
}

impl Breach {
    /// How far the hop is over its own limit; zero if only all together took too long.
    pub fn over(&self) -> Duration {
        self.took.saturating_sub(self.limit)
    }
}

/// How much of its limit a hop uses.
fn used(took: Duration, limit: Duration) -> f64 {
    took.as_secs_f64() / limit.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::core::ids::ResponseId;
    use crate::core::latency::{Stretch, Transport};
    use proptest::prelude::*;

    const WITHIN: [u64; 8] = [20, 40, 30, 500, 300, 5, 40, 80];

    #[test]
    fn a_turn_within_all_limits_breaks_nothing() {
        let verdict = Budget::default().judge(&turn(WITHIN));
        assert_eq!(verdict.breach, None);
        assert_eq!(verdict.slow_provider, Some(false));
    }

    #[test]
    fn the_hop_that_is_furthest_over_its_limit_is_to_blame() {
        for (hop, took, over) in [
            (Hop::Capture, 151, 1),
            (Hop::Uplink, 300, 150),
            (Hop::RelayIn, 100, 40),
            (Hop::SilenceWait, 700, 100),
            (Hop::Inference, 900, 200),
            (Hop::RelayOut, 60, 20),
            (Hop::Downlink, 200, 80),
            (Hop::Playback, 400, 150),
        ] {
            let mut hops = WITHIN;
            hops[hop as usize] = took;
            let breach = Budget::default().judge(&turn(hops)).breach.unwrap();
            assert_eq!((breach.hop, breach.over()), (hop, ms(over)));
        }
        let two = [20, 40, 30, 700, 950, 5, 40, 80];
        let breach = Budget::default().judge(&turn(two)).breach.unwrap();
        assert_eq!((breach.hop, breach.over()), (Hop::Inference, ms(250)));
        assert_eq!(breach.total_over, ms(365));
    }

    #[test]
    fn if_only_the_whole_takes_too_long_the_hop_that_uses_most_of_its_limit_is_to_blame() {
        let breach = Budget::default()
            .judge(&turn([100, 100, 30, 450, 690, 30, 100, 100]))
            .breach
            .unwrap();
        assert_eq!((breach.hop, breach.over()), (Hop::Inference, ms(0)));
        assert_eq!(breach.total_over, ms(100));
    }

    #[test]
    fn what_is_not_known_breaks_nothing() {
        let mut turn = turn(WITHIN);
        turn.hops = [None; 8];
        turn.total = ms(9_000);
        let verdict = Budget::default().judge(&turn);
        assert_eq!(verdict.breach, None);
        assert_eq!(verdict.slow_provider, None);

        turn.hops[Hop::Inference as usize] = Some(stretch(701));
        turn.total = ms(701);
        let breach = Budget::default().judge(&turn).breach.unwrap();
        assert_eq!(breach.hop, Hop::Inference);
    }

    #[test]
    fn an_estimate_is_judged_and_says_that_it_is_one() {
        let mut turn = turn([20, 40, 30, 500, 300, 5, 40, 300]);
        turn.hops[Hop::Playback as usize] = Some(Stretch {
            took: ms(300),
            source: Source::Estimated,
        });
        let breach = Budget::default().judge(&turn).breach.unwrap();
        assert_eq!((breach.hop, breach.estimated), (Hop::Playback, true));
    }

    #[test]
    fn only_what_it_thinks_counts_against_the_provider() {
        let budget = Budget::default();
        let slow = |hops| budget.judge(&turn(hops)).slow_provider;
        assert_eq!(slow([20, 40, 30, 2_000, 300, 5, 40, 80]), Some(false));
        assert_eq!(slow([20, 900, 30, 500, 701, 5, 40, 80]), Some(true));
        assert_eq!(slow([100, 100, 30, 450, 690, 30, 100, 100]), Some(true));
    }

    #[test]
    fn people_are_told_in_a_sentence() {
        let budget = Budget::default();
        let says = |hops: [u64; 8], total| {
            let breach = budget.breach(&hops.map(|hop| Some(ms(hop))), Some(ms(total)));
            budget.says(&breach.unwrap())
        };
        assert_eq!(
            says([20, 40, 30, 500, 912, 5, 40, 80], 1_400),
            "`inference` takes up to 912 ms in 95 of 100 answers, 212 ms more than its budget of \
             700 ms. Answers are still heard within the 1500 ms of the whole."
        );
        assert_eq!(
            says([20, 40, 30, 500, 912, 5, 40, 80], 1_627),
            "`inference` takes up to 912 ms in 95 of 100 answers, 212 ms more than its budget of \
             700 ms. Answers are heard within 1627 ms, 127 ms too late."
        );
        assert_eq!(
            says([100, 100, 30, 450, 690, 30, 100, 100], 1_600),
            "95 of 100 answers are heard within 1600 ms, 100 ms more than the budget of 1500 ms \
             allows. No hop is over its own limit; `inference` uses most of it (690 of 700 ms, 99 %)."
        );
    }

    #[test]
    fn the_budget_burns_at_one_if_as_many_turns_are_over_it_as_may_be() {
        let budget = Budget::default();
        let rate = |all, such| budget.burn_rate(Lately { all, such });
        assert!((rate(100, 5) - 1.0).abs() < 1e-9);
        assert!((rate(40, 3) - 1.5).abs() < 1e-9);
        assert!(rate(0, 0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn a_turn_is_over_the_budget_exactly_if_a_hop_or_the_whole_is(
            hops: [u16; 8],
            divisor in 1_u64..64,
        ) {
            let budget = Budget::default();
            let turn = turn(hops.map(|hop| u64::from(hop) / divisor / 8));
            let known = turn.known();
            let is_over = known.into_iter().any(|(hop, it)| it.took > budget.limit(hop))
                || turn.total > budget.end_to_end;
            prop_assert_eq!(budget.judge(&turn).breach.is_some(), is_over);
        }
    }

    fn turn(hops: [u64; 8]) -> TurnTrace {
        TurnTrace {
            turn: 1,
            response: ResponseId::from("resp_1".to_owned()),
            transport: Transport::WebRtc,
            began: clock::now(),
            hops: hops.map(|hop| Some(stretch(hop))),
            total: ms(hops.iter().sum()),
            uncertainty: Duration::ZERO,
        }
    }

    fn stretch(millis: u64) -> Stretch {
        Stretch {
            took: ms(millis),
            source: Source::Reported,
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
