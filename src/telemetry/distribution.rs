//! What the samples of a while come to.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::core::port::Source;
use crate::telemetry::scale;

/// The percentiles of a curve.
const CURVE: [f64; 12] = [
    0.0, 25.0, 50.0, 75.0, 80.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 100.0,
];

/// How long something took, in many samples.
#[derive(Clone, Debug)]
pub struct Distribution {
    histogram: Histogram<u64>,
    estimated: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            histogram: scale::histogram(),
            estimated: 0,
        }
    }
}

impl Distribution {
    /// Adds up many places at once, which is much cheaper than one by one.
    pub(super) fn of(counts: &[u64], estimated: u64) -> Self {
        let mut histogram = scale::histogram();
        let counted = counts.iter().enumerate();
        for (place, count) in counted.filter(|(_, count)| **count > 0) {
            histogram.saturating_record_n(scale::least(place), *count);
        }

        Self {
            histogram,
            estimated,
        }
    }

    pub(super) fn add(&mut self, place: usize, count: u64, source: Source) {
        self.histogram
            .saturating_record_n(scale::least(place), count);
        if source == Source::Estimated {
            self.estimated += count;
        }
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// How many of them are estimates.
    pub fn estimated(&self) -> u64 {
        self.estimated
    }

    /// Returns what this share of the samples took at most, such as 0.95; zero if there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_quantile(quantile))
    }

    pub fn max(&self) -> Duration {
        Duration::from_micros(self.histogram.max())
    }

    /// How many took longer, as far as three digits tell.
    pub fn over(&self, limit: Duration) -> u64 {
        let place = scale::place(scale::micros(limit));
        match scale::most(place) + 1 {
            from if from > scale::LONGEST => 0,
            from => self.histogram.count_between(from, scale::LONGEST),
        }
    }

    /// Returns percentiles, from 0 to 100, and what they took at most.
    pub fn curve(&self) -> impl Iterator<Item = (f64, Duration)> {
        CURVE.map(|at| (at, self.quantile(at / 100.0))).into_iter()
    }

    /// The samples in HdrHistogram's own form, in microseconds.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let mut distribution = Distribution::default();
        for millis in 1..=1_000 {
            distribution.add(scale::place(millis * 1_000), 1, Source::Reported);
        }
        distribution.add(scale::place(1_000_000), 1, Source::Estimated);

        assert_eq!(distribution.count(), 1_001);
        assert_eq!(distribution.estimated(), 1);
        for (quantile, millis) in [(0.5, 501), (0.95, 951), (0.99, 991), (1.0, 1_000)] {
            let found = distribution.quantile(quantile);
            let off = found.abs_diff(Duration::from_millis(millis));
            assert!(off <= Duration::from_millis(millis) / 1_000, "{found:?}");
        }
        let curve: Vec<_> = distribution.curve().collect();
        assert!(curve.is_sorted_by_key(|(_, took)| *took));
        assert_eq!(curve.last(), Some(&(100.0, distribution.max())));
    }

    #[test]
    fn what_took_longer_than_a_limit_is_counted() {
        let mut distribution = Distribution::default();
        for millis in [100, 700, 702, 900, 60_000] {
            distribution.add(scale::place(millis * 1_000), 1, Source::Reported);
        }
        assert_eq!(distribution.over(Duration::from_millis(700)), 3);
        assert_eq!(distribution.over(Duration::from_secs(60)), 0);
        assert_eq!(distribution.over(Duration::MAX), 0);
        assert_eq!(Distribution::default().over(Duration::ZERO), 0);
    }

    #[test]
    fn of_nothing_there_are_no_figures() {
        let nothing = Distribution::default();
        assert_eq!(nothing.count(), 0);
        assert_eq!(nothing.quantile(0.95), Duration::ZERO);
        assert_eq!(nothing.max(), Duration::ZERO);
    }
}
