//! The scale on which lengths are counted: HdrHistogram's own, for 1 µs to 60 s and three significant
//! digits.
//!
//! Up to 2,047 µs each microsecond has a place of its own. Each octave above it is cut into 1,024 equal
//! steps, so that no step is longer than a thousandth of what it holds.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest that is told from longer ones, in microseconds.
pub(super) const LONGEST: u64 = 60_000_000;

/// How many places there are.
pub(super) const PLACES: usize = place(LONGEST) + 1;

const DIGITS: u8 = 3;
/// The first power of two from which the digits can be told apart.
const LINEAR: u64 = 2_048;
const STEPS: u64 = LINEAR / 2;

/// Returns where so many microseconds are counted; what is longer than a minute counts as a minute.
pub(super) const fn place(micros: u64) -> usize {
    let micros = if micros < LONGEST { micros } else { LONGEST };
    let octave = (LINEAR - 1).leading_zeros() - (micros | (LINEAR - 1)).leading_zeros();

    octave as usize * STEPS as usize + (micros >> octave) as usize
}

/// Returns the fewest microseconds that are counted at this place.
pub(super) const fn least(place: usize) -> u64 {
    let place = place as u64;
    let octave = (place / STEPS).saturating_sub(1);

    (place - octave * STEPS) << octave
}

/// Returns the most.
pub(super) const fn most(place: usize) -> u64 {
    least(place + 1) - 1
}

/// Returns the ones in the middle.
pub(super) const fn middle(place: usize) -> u64 {
    least(place) + (most(place) - least(place)).div_ceil(2)
}

/// Returns this length in microseconds.
pub(super) fn micros(length: Duration) -> u64 {
    let seconds = length.as_secs().saturating_mul(1_000_000);

    seconds.saturating_add(u64::from(length.subsec_micros()))
}

/// An empty histogram on this scale.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lengths_are_counted_where_hdrhistogram_counts_them(
            digits in 0_u32..27,
            part in 0.0_f64..1.0,
        ) {
            let micros = ((1_u64 << digits) as f64 * (1.0 + part)) as u64;
            let micros = micros.min(LONGEST);
            agrees(micros);
            agrees(least(place(micros)));
            agrees(most(place(micros)));
        }
    }

    #[test]
    fn so_are_the_ends_and_the_seams() {
        for octave in 0..26 {
            for micros in [-1, 0, 1].map(|near| (1_i64 << octave) + near) {
                agrees(micros.try_into().unwrap());
            }
        }
        for micros in [0, LONGEST - 1, LONGEST] {
            agrees(micros);
        }
    }

    #[test]
    fn every_place_has_lengths_and_every_length_one_place() {
        let mut next = 0;
        for at in 0..PLACES {
            assert_eq!(least(at), next);
            assert_eq!(place(least(at)), at);
            assert_eq!(place(most(at).min(LONGEST)), at);
            assert!((least(at)..=most(at)).contains(&middle(at)));
            next = most(at) + 1;
        }
        assert_eq!(place(u64::MAX), PLACES - 1);
    }

    #[track_caller]
    fn agrees(micros: u64) {
        let theirs = histogram();
        let ours = place(micros);
        assert_eq!(least(ours), theirs.lowest_equivalent(micros), "{micros}");
        assert_eq!(most(ours), theirs.highest_equivalent(micros), "{micros}");
        assert_eq!(middle(ours), theirs.median_equivalent(micros), "{micros}");
    }
}
