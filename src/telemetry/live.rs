//! Where samples are counted while they come.
//!
//! **Invariant:** counting neither locks nor allocates, and loses nothing, however many threads count and
//! whoever takes the counts away meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::telemetry::scale::{self, PLACES};

/// The counts of one slot of time: no more than a few seconds', so that they fit.
#[derive(Debug)]
pub(super) struct Live(Box<[AtomicU32]>);

/// Counts, by place on the scale; those of places without any are left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts(Vec<(u16, u32)>);

const _: () = assert!(PLACES <= u16::MAX as usize);

impl Default for Live {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Live {
    pub(super) fn count(&self, micros: u64) {
        // Each count stands for itself: no other memory is to be seen with it.
        self.0[scale::place(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the counts away.
    pub(super) fn take(&self) -> Counts {
        self.collect(|count| count.swap(0, Ordering::Relaxed))
    }

    /// Returns the counts so far.
    pub(super) fn peek(&self) -> Counts {
        self.collect(|count| count.load(Ordering::Relaxed))
    }

    fn collect(&self, read: impl Fn(&AtomicU32) -> u32) -> Counts {
        let places = self.0.iter().enumerate();
        // Most are zero, and reading is much cheaper than swapping.
        let counted = places.filter(|(_, count)| count.load(Ordering::Relaxed) > 0);
        let counts = counted.map(|(place, count)| (place as u16, read(count)));

        Counts(counts.collect())
    }
}

impl Counts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.0.iter();

        counts.map(|(place, count)| (usize::from(*place), u64::from(*count)))
    }

    /// Adds others.
    pub(super) fn merge(&mut self, others: &Self) {
        let mut merged = Vec::with_capacity(self.0.len() + others.0.len());
        let mut mine = self.0.iter().copied().peekable();
        for &(place, count) in &others.0 {
            while let Some(before) = mine.next_if(|(at, _)| *at < place) {
                merged.push(before);
            }
            let same = mine.next_if(|(at, _)| *at == place);
            let same = same.map_or(0, |(_, count)| count);
            merged.push((place, same.saturating_add(count)));
        }
        merged.extend(mine);
        merged.shrink_to_fit();
        self.0 = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::thread;

    #[test]
    fn nothing_is_lost_whoever_counts_and_whoever_takes() {
        const THREADS: u64 = 4;
        const EACH: u64 = 20_000;
        let live = Live::default();
        let mut taken = Counts::default();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let live = &live;
                    scope.spawn(move || (0..EACH).for_each(|turn| live.count(turn % 50 + thread)))
                })
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                taken.merge(&live.take());
            }
        });
        taken.merge(&live.take());

        let all: u64 = taken.iter().map(|(_, count)| count).sum();
        assert_eq!(all, THREADS * EACH);
        assert!(live.peek().is_empty());
    }

    proptest! {
        #[test]
        fn counts_add_up(one: Vec<u32>, other: Vec<u32>) {
            let live = Live::default();
            let count = |samples: &[u32]| {
                samples.iter().for_each(|micros| live.count(u64::from(*micros)));
            };
            count(&one);
            let mut merged = live.take();
            count(&other);
            merged.merge(&live.peek());

            let mut expected = BTreeMap::new();
            for micros in one.iter().chain(&other) {
                *expected.entry(scale::place(u64::from(*micros))).or_insert(0) += 1;
            }
            prop_assert_eq!(merged.iter().collect::<BTreeMap<_, _>>(), expected);
        }
    }
}
