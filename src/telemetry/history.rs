//! What was counted in the slots of time that are over.
//!
//! **Invariant:** a slot is ended once, and what was counted in it is in every window that holds it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::core::latency::{Measure, Transport};
use crate::telemetry::distribution::Distribution;
use crate::telemetry::key::{Filter, Key};
use crate::telemetry::live::Counts;
use crate::telemetry::series::{Line, POINTS, Point};
use crate::telemetry::window::{Past, SLOT, Window};

/// What was taken away from the live counts.
#[derive(Debug)]
pub(super) struct History {
    began: Instant,
    /// In which samples are counted now.
    slot: u64,
    /// By provider and key.
    past: BTreeMap<(usize, usize), Past>,
    /// By what is looked at.
    series: BTreeMap<(Option<usize>, Option<Transport>), Line>,
}

/// A stretch of slots.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Stretch {
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl History {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            slot: 0,
            past: BTreeMap::new(),
            series: BTreeMap::new(),
        }
    }

    /// Ends the slots that are over. `taken` takes away what was counted, by provider and key, of so many
    /// providers.
    pub(super) fn advance(
        &mut self,
        providers: usize,
        taken: impl IntoIterator<Item = ((usize, usize), Counts)>,
        now: Instant,
    ) {
        let current = self.number(now);
        if current <= self.slot {
            return;
        }
        for (key, counts) in taken {
            self.past.entry(key).or_default().add(self.slot, counts);
        }
        // What lies further back than the series goes need not be drawn.
        let first = (self.slot + 1).max(current.saturating_sub(POINTS as u64));
        for slot in first..=current {
            self.slot = slot;
            self.draw(providers);
        }
        let pasts = self.past.values_mut();
        pasts.for_each(|past| past.forget(current));
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.number(now) > self.slot
    }

    /// Calls with each place and its count, within a window without the current slot.
    pub(super) fn each(
        &self,
        provider: usize,
        key: Key,
        window: Window,
        visit: impl FnMut(usize, u64),
    ) {
        if let Some(past) = self.past.get(&(provider, key.index())) {
            past.each(window, self.slot, visit);
        }
    }

    /// Returns the same in the pieces in which it is kept. The whole life is in none.
    pub(super) fn pieces(
        &self,
        provider: usize,
        key: Key,
        window: Window,
    ) -> impl Iterator<Item = (Stretch, &Counts)> {
        let past = self.past.get(&(provider, key.index())).into_iter();
        let pieces = past.flat_map(move |past| past.pieces(window, self.slot));

        pieces.map(|(first, length, counts)| {
            let ended = (first + length).min(self.slot);
            let (began, ended) = (self.start(first), self.start(ended));
            (Stretch { began, ended }, counts)
        })
    }

    /// When the current slot began.
    pub(super) fn current(&self) -> Instant {
        self.start(self.slot)
    }

    pub(super) fn line(&self, provider: Option<usize>, filter: &Filter) -> Option<&Line> {
        self.series.get(&(provider, filter.transport))
    }

    /// Draws the next point of each line.
    fn draw(&mut self, providers: usize) {
        let transports = || Transport::ALL.into_iter().map(Some).chain([None]);
        let providers = (0..providers).map(Some).chain([None]);
        for (provider, transport) in
            providers.flat_map(|provider| transports().map(move |transport| (provider, transport)))
        {
            if let Some(minute) = self.last_minute(provider, transport) {
                let point = Point {
                    at: self.current(),
                    p50: minute.quantile(0.5),
                    p95: minute.quantile(0.95),
                    turns: minute.count(),
                };
                let line = self.series.entry((provider, transport));
                line.or_default().push(point);
            }
        }
    }

    /// Returns what the answers of the last minute took, up to the current slot.
    fn last_minute(
        &self,
        provider: Option<usize>,
        transport: Option<Transport>,
    ) -> Option<Distribution> {
        let mut found = None;
        let filter = Filter {
            transport,
            ..Filter::default()
        };
        for key in filter.keys(Measure::EndToEnd) {
            let pasts = self.past.iter();
            let pasts = pasts.filter(|((of, at), _)| {
                *at == key.index() && provider.is_none_or(|provider| provider == *of)
            });
            for (_, past) in pasts {
                past.each(Window::Minute, self.slot, |place, count| {
                    let distribution = found.get_or_insert_with(Distribution::default);
                    distribution.add(place, count, key.source);
                });
            }
        }

        found
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / SLOT.as_secs()
    }

    fn start(&self, slot: u64) -> Instant {
        self.began + Duration::from_secs(slot * SLOT.as_secs())
    }
}
