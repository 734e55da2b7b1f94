//! The whiles that are looked at, and the slots of time that they are made of.
//!
//! **Invariants**
//! - A window holds all that was counted within its length, and what was counted up to one slot before.
//! - What is kept for the windows grows with the number of slots, not with that of the samples.

use std::collections::VecDeque;
use std::time::Duration;

use crate::telemetry::live::Counts;
use crate::telemetry::scale::PLACES;

/// The shortest slot of time.
pub(super) const SLOT: Duration = Duration::from_secs(5);

/// Slots in the minute that longer windows are made of.
const MINUTE: u64 = 12;
/// Slots in the longest window that is made of slots.
const FIVE_MINUTES: u64 = 60;
/// Minutes in the longest window that is made of minutes.
const HOUR: u64 = 60;

/// A while that is looked at.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Window {
    Minute,
    #[default]
    FiveMinutes,
    Hour,
    /// Since the start.
    Lifetime,
}

/// What was counted, by when it was.
#[derive(Debug)]
pub(super) struct Past {
    /// Of the last five minutes, with the number of each slot.
    slots: VecDeque<(u64, Counts)>,
    /// Of the last hour, with the number of each minute.
    minutes: VecDeque<(u64, Counts)>,
    lifetime: Box<[u64]>,
}

impl Window {
    pub const ALL: [Self; 4] = [Self::Minute, Self::FiveMinutes, Self::Hour, Self::Lifetime];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
            Self::Lifetime => "all",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.name() == name)
    }
}

impl Default for Past {
    fn default() -> Self {
        Self {
            slots: VecDeque::new(),
            minutes: VecDeque::new(),
            lifetime: vec![0; PLACES].into(),
        }
    }
}

impl Past {
    /// Adds what was counted in a slot that is over.
    pub(super) fn add(&mut self, slot: u64, counts: Counts) {
        for (place, count) in counts.iter() {
            self.lifetime[place] += count;
        }
        let minute = slot / MINUTE;
        match self.minutes.back_mut().filter(|(last, _)| *last == minute) {
            Some((_, sum)) => sum.merge(&counts),
            None => self.minutes.push_back((minute, counts.clone())),
        }
        self.slots.push_back((slot, counts));
    }

    /// Forgets what no window holds any more.
    pub(super) fn forget(&mut self, current: u64) {
        let is_old = |first: Option<&(u64, Counts)>, now: u64, kept: u64| {
            first.is_some_and(|(number, _)| number + kept < now)
        };
        while is_old(self.slots.front(), current, FIVE_MINUTES) {
            self.slots.pop_front();
        }
        while is_old(self.minutes.front(), current / MINUTE, HOUR) {
            self.minutes.pop_front();
        }
    }

    /// Returns what a window holds besides the current slot, in pieces: the first slot and the length of
    /// each, in slots, and its counts. The whole life is no piece; [`Past::lifetime`] has it.
    pub(super) fn pieces(
        &self,
        window: Window,
        current: u64,
    ) -> impl Iterator<Item = (u64, u64, &Counts)> {
        let (pieces, length, kept) = match window {
            Window::Minute => (Some(&self.slots), 1, MINUTE),
            Window::FiveMinutes => (Some(&self.slots), 1, FIVE_MINUTES),
            Window::Hour => (Some(&self.minutes), MINUTE, HOUR),
            Window::Lifetime => (None, 1, 0),
        };
        let pieces = pieces.into_iter().flatten();
        let pieces = pieces.filter(move |(number, _)| number + kept >= current / length);

        pieces.map(move |(number, counts)| (number * length, length, counts))
    }

    /// Calls with each place and its count.
    pub(super) fn each(&self, window: Window, current: u64, mut visit: impl FnMut(usize, u64)) {
        if window == Window::Lifetime {
            let counted = self.lifetime.iter().enumerate();
            let counted = counted.filter(|(_, count)| **count > 0);
            counted.for_each(|(place, count)| visit(place, *count));
        }
        for (_, _, counts) in self.pieces(window, current) {
            counts.iter().for_each(|(place, count)| visit(place, count));
        }
    }
}
