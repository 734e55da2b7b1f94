//! All histograms: one for each measure, provider, transport and source that there is a sample of.
//!
//! A sample is counted in an array of atomic counts. Every five seconds the counts are taken away, into the
//! slots that the windows are made of; quantiles are reckoned when somebody asks.
//!
//! **Invariants**
//! - Recording takes no lock, and allocates with the first sample of a histogram only.
//! - However many sessions there are, there are no more histograms; and of no more than [`PROVIDERS`]
//!   providers: the others count as `other`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::core::latency::{Measure, Recorder, Sample, Transport, TurnTrace};
use crate::core::port::Source;
use crate::telemetry::distribution::Distribution;
use crate::telemetry::history::{History, Stretch};
use crate::telemetry::key::{Filter, Key};
use crate::telemetry::live::{Counts, Live};
use crate::telemetry::scale;
use crate::telemetry::series::{Line, Point};
use crate::telemetry::window::Window;

/// How many providers are told apart.
const PROVIDERS: usize = 16;

/// All histograms.
#[derive(Debug)]
pub struct Latencies {
    began: Instant,
    providers: Mutex<Vec<Arc<Provider>>>,
    history: Mutex<History>,
}

/// What came of one source in a stretch of time.
#[derive(Clone, Debug)]
pub struct Interval {
    pub began: Instant,
    pub ended: Instant,
    pub source: Source,
    pub distribution: Distribution,
}

/// The counts of one provider in the current slot, by key.
#[derive(Debug)]
struct Provider {
    name: String,
    live: [OnceLock<Live>; Key::COUNT],
}

impl Latencies {
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            providers: Mutex::default(),
            history: Mutex::new(History::new(now)),
        }
    }

    /// Returns where what is timed with this provider is put.
    pub fn recorder(&self, provider: &str) -> Recorder {
        let provider = self.provider(provider);

        Arc::new(move |sample| provider.record(sample))
    }

    /// Records the hops of a turn, and the whole of it.
    pub fn turn(&self, turn: &TurnTrace, provider: &str) {
        let provider = self.provider(provider);
        let record = |measure, took, source| {
            provider.record(Sample {
                measure,
                took,
                transport: Some(turn.transport),
                source,
            });
        };
        for (hop, stretch) in turn.known() {
            record(Measure::Hop(hop), stretch.took, stretch.source);
        }
        let source = if turn.is_estimated() {
            Source::Estimated
        } else {
            Source::Reported
        };
        record(Measure::EndToEnd, turn.total, source);
    }

    /// Since when samples are recorded.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Ends the slots of time that are over. To be called about once a second.
    pub fn advance(&self, now: Instant) {
        drop(self.history(now));
    }

    /// The providers that were seen.
    pub fn providers(&self) -> Vec<String> {
        let providers = self.lock();

        providers.iter().map(|one| one.name.clone()).collect()
    }

    /// The transports that were seen.
    pub fn transports(&self) -> Vec<Transport> {
        let providers = self.lock();
        let live = providers.iter().flat_map(|one| Key::all().zip(&one.live));
        let seen = live.filter(|(_, live)| live.get().is_some());
        let seen: Vec<_> = seen.filter_map(|(key, _)| key.transport).collect();
        let all = Transport::ALL.into_iter();

        all.filter(|transport| seen.contains(transport)).collect()
    }

    /// Returns what the samples of a while come to.
    pub fn distribution(
        &self,
        measure: Measure,
        window: Window,
        filter: &Filter,
        now: Instant,
    ) -> Distribution {
        let mut counts = vec![0; scale::PLACES];
        let mut estimated = 0;
        self.each(measure, window, filter, now, |_, key, place, count| {
            counts[place] += count;
            if key.source == Source::Estimated {
                estimated += count;
            }
        });

        Distribution::of(&counts, estimated)
    }

    /// Returns the same in the stretches of time in which it is kept, the oldest first.
    pub fn intervals(
        &self,
        measure: Measure,
        window: Window,
        filter: &Filter,
        now: Instant,
    ) -> Vec<Interval> {
        let history = self.history(now);
        let mut found = BTreeMap::<_, Distribution>::new();
        for (index, provider) in self.matching(filter) {
            for key in filter.keys(measure) {
                let mut add = |stretch, place, count| {
                    let is_estimated = key.source == Source::Estimated;
                    let distribution = found.entry((stretch, is_estimated)).or_default();
                    distribution.add(place, count, key.source);
                };
                let whole = Stretch {
                    began: self.began,
                    ended: now,
                };
                let mut current = whole;
                if window == Window::Lifetime {
                    history.each(index, key, window, |place, count| add(whole, place, count));
                } else {
                    current.began = history.current();
                    for (stretch, counts) in history.pieces(index, key, window) {
                        let counts = counts.iter();
                        counts.for_each(|(place, count)| add(stretch, place, count));
                    }
                }
                let counts = provider.peek(key);
                let counts = counts.iter();
                counts.for_each(|(place, count)| add(current, place, count));
            }
        }
        let interval = |((stretch, is_estimated), distribution)| {
            let Stretch { began, ended } = stretch;
            Interval {
                began,
                ended,
                source: if is_estimated {
                    Source::Estimated
                } else {
                    Source::Reported
                },
                distribution,
            }
        };

        found.into_iter().map(interval).collect()
    }

    /// Returns how fast answers were after this instant, or in the last hour: a point for each slot of time
    /// with answers in the minute before its end.
    pub fn series(&self, filter: &Filter, since: Option<Instant>, now: Instant) -> Vec<Point> {
        let history = self.history(now);
        let provider = match &filter.provider {
            None => None,
            Some(_) => match self.matching(filter).first() {
                None => return vec![],
                Some((index, _)) => Some(*index),
            },
        };
        let line = history.line(provider, filter);

        line.map_or_else(Vec::new, |line: &Line| line.since(since))
    }

    /// Calls with each place that was counted in a while: the provider, the key, the place, the count.
    pub(super) fn each(
        &self,
        measure: Measure,
        window: Window,
        filter: &Filter,
        now: Instant,
        mut visit: impl FnMut(&str, Key, usize, u64),
    ) {
        let history = self.history(now);
        for (index, provider) in self.matching(filter) {
            for key in filter.keys(measure) {
                let mut visit = |place, count| visit(&provider.name, key, place, count);
                history.each(index, key, window, &mut visit);
                let counts = provider.peek(key);
                counts.iter().for_each(|(place, count)| visit(place, count));
            }
        }
    }

    /// Ends the slots that are over, and returns all that was.
    fn history(&self, now: Instant) -> MutexGuard<'_, History> {
        // It is whole after every call, whoever panicked while holding it.
        let history = self.history.lock();
        let mut history = history.unwrap_or_else(PoisonError::into_inner);
        if history.is_over(now) {
            let providers = self.lock();
            let taken = providers.iter().enumerate().flat_map(|(index, one)| {
                let taken = one.take();
                taken.map(move |(key, counts)| ((index, key), counts))
            });
            history.advance(providers.len(), taken, now);
        }

        history
    }

    fn matching(&self, filter: &Filter) -> Vec<(usize, Arc<Provider>)> {
        let wanted = filter.provider.as_deref();
        let providers = self.lock().clone().into_iter().enumerate();

        providers
            .filter(|(_, one)| wanted.is_none_or(|name| one.name == name))
            .collect()
    }

    fn provider(&self, name: &str) -> Arc<Provider> {
        let mut providers = self.lock();
        let is_full = providers.len() >= PROVIDERS;
        let find = |name: &str| providers.iter().find(|one| one.name == name).cloned();
        let known = find(name).or_else(|| find("other").filter(|_| is_full));

        known.unwrap_or_else(|| {
            let name = if is_full { "other" } else { name };
            let new = Arc::new(Provider::new(name));
            providers.push(Arc::clone(&new));
            new
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Provider>>> {
        // One is pushed or not, whoever panicked while doing it.
        let providers = self.providers.lock();

        providers.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            live: [const { OnceLock::new() }; Key::COUNT],
        }
    }

    fn record(&self, sample: Sample) {
        let live = self.live[Key::from(sample).index()].get_or_init(Live::default);
        live.count(scale::micros(sample.took));
    }

    fn peek(&self, key: Key) -> Counts {
        let live = self.live[key.index()].get();

        live.map_or_else(Counts::default, Live::peek)
    }

    /// Takes the counts away, of those keys that have any.
    fn take(&self) -> impl Iterator<Item = (usize, Counts)> {
        let live = self.live.iter().enumerate();
        let counts = live.filter_map(|(key, live)| Some((key, live.get()?.take())));

        counts.filter(|(_, counts)| !counts.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::core::ids::ResponseId;
    use crate::core::latency::{self, Hop};
    use std::thread;
    use std::time::Duration;

    const ALL: Filter = Filter {
        provider: None,
        transport: None,
    };

    #[test]
    fn samples_are_told_apart_by_provider_and_transport() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let one = latencies.recorder("one");
        let other = latencies.recorder("other");
        one(sample(10, Some(Transport::WebRtc)));
        one(sample(20, Some(Transport::WebSocket)));
        other(sample(30, Some(Transport::WebRtc)));
        other(Sample {
            source: Source::Estimated,
            ..sample(40, None)
        });

        let of = |provider: Option<&str>, transport| {
            let filter = Filter {
                provider: provider.map(str::to_owned),
                transport,
            };
            latencies.distribution(Measure::PacketIn, Window::Minute, &filter, t0)
        };
        assert_eq!(of(None, None).count(), 4);
        assert_eq!(of(None, None).estimated(), 1);
        assert_eq!(of(Some("one"), None).count(), 2);
        assert_eq!(of(None, Some(Transport::WebRtc)).count(), 2);
        assert_eq!(of(Some("other"), Some(Transport::WebRtc)).count(), 1);
        assert_eq!(of(Some("none"), None).count(), 0);
        assert_eq!(latencies.providers(), ["one", "other"]);
        let seen = [Transport::WebRtc, Transport::WebSocket];
        assert_eq!(latencies.transports(), seen);
    }

    #[test]
    fn windows_slide() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let record = latencies.recorder("embedded");
        let at = |secs| t0 + Duration::from_secs(secs);
        // One a second, and each is as long as its second.
        for second in 1..=7_200 {
            latencies.advance(at(second));
            record(sample(second, None));
            if second % 997 != 0 {
                continue;
            }
            for (window, length, slot) in [
                (Window::Minute, 60, 5),
                (Window::FiveMinutes, 300, 5),
                (Window::Hour, 3_600, 60),
                (Window::Lifetime, second, 0),
            ] {
                let now = at(second);
                let found = latencies.distribution(Measure::PacketIn, window, &ALL, now);
                let bounds = length.min(second)..=(length + slot).min(second);
                assert!(bounds.contains(&found.count()), "{window:?} at {second}");
                assert!(found.max() >= Duration::from_millis(second));
                let oldest = Duration::from_millis(second - found.count() + 1);
                let off = found.quantile(0.0).abs_diff(oldest);
                assert!(off <= oldest / 1_000, "{window:?} at {second}: {off:?}");
            }
        }
    }

    #[test]
    fn a_window_forgets_however_long_nothing_was_recorded() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        latencies.recorder("embedded")(sample(10, None));
        let hours = |hours: u64| t0 + Duration::from_secs(hours * 3_600);
        latencies.advance(hours(1));
        let later = hours(100);
        let count = |window| {
            let found = latencies.distribution(Measure::PacketIn, window, &ALL, later);
            found.count()
        };
        assert_eq!(Window::ALL.map(count), [0, 0, 0, 1]);
    }

    #[test]
    fn intervals_hold_what_their_window_holds() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let record = latencies.recorder("embedded");
        let at = |secs| t0 + Duration::from_secs(secs);
        for second in 0..400 {
            latencies.advance(at(second));
            record(sample(second, None));
        }
        let now = at(400);
        for window in Window::ALL {
            let all = latencies.distribution(Measure::PacketIn, window, &ALL, now);
            let intervals = latencies.intervals(Measure::PacketIn, window, &ALL, now);
            let each = intervals.iter().map(|one| one.distribution.count());
            assert_eq!(each.sum::<u64>(), all.count(), "{window:?}");
            for pair in intervals.windows(2) {
                assert!(pair[0].ended <= pair[1].began, "{window:?}");
            }
            for one in intervals {
                let lasted = one.ended - one.began;
                assert_eq!(one.distribution.count(), lasted.as_secs(), "{window:?}");
            }
        }
    }

    #[test]
    fn a_turn_is_recorded_hop_by_hop_and_as_a_whole() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let mut turn = turn(900, t0);
        turn.hops[Hop::Capture as usize] = Some(latency::Stretch {
            took: Duration::from_millis(30),
            source: Source::Estimated,
        });
        latencies.turn(&turn, "embedded");

        let of = |measure| {
            let found = latencies.distribution(measure, Window::Minute, &ALL, t0);
            (found.count(), found.estimated())
        };
        assert_eq!(of(Measure::EndToEnd), (1, 1), "as good as its parts");
        assert_eq!(of(Measure::Hop(Hop::Capture)), (1, 1));
        assert_eq!(of(Measure::Hop(Hop::Inference)), (1, 0));
        assert_eq!(of(Measure::Hop(Hop::Playback)), (0, 0), "it is not known");
    }

    #[test]
    fn the_series_has_a_point_for_each_slot_with_answers_in_the_minute_before() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let at = |secs| t0 + Duration::from_secs(secs);
        for (second, millis) in [(1, 800), (7, 1_200)] {
            latencies.advance(at(second));
            latencies.turn(&turn(millis, t0), "embedded");
        }
        latencies.advance(at(200));

        let points = latencies.series(&ALL, None, at(200));
        let turns: Vec<_> = points.iter().map(|point| point.turns).collect();
        let expected = [vec![1], vec![2; 11], vec![1]].concat();
        assert_eq!(turns, expected);
        assert_eq!(points[0].at, at(5));
        assert_eq!(
            points[1].p95,
            points[1].p95.max(Duration::from_millis(1_200))
        );
        assert_eq!(latencies.series(&ALL, Some(at(60)), at(200)).len(), 1);
        let of = |provider: &str, transport| {
            let filter = Filter {
                provider: Some(provider.to_owned()),
                transport,
            };
            latencies.series(&filter, None, at(200)).len()
        };
        assert_eq!(of("embedded", Some(Transport::WebRtc)), 13);
        assert_eq!(of("embedded", Some(Transport::Direct)), 0);
        assert_eq!(of("nobody", None), 0);
    }

    #[test]
    fn the_series_is_an_hour_long() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let at = |secs| t0 + Duration::from_secs(secs);
        for second in 0..4_000 {
            latencies.advance(at(second));
            latencies.turn(&turn(800, t0), "embedded");
        }
        assert_eq!(latencies.series(&ALL, None, at(4_000)).len(), 720);
    }

    #[test]
    fn nothing_is_lost_between_threads_and_slots() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let end = t0 + Duration::from_secs(3_000);
        thread::scope(|scope| {
            for _ in 0..4 {
                let record = latencies.recorder("embedded");
                scope.spawn(move || (0..10_000).for_each(|turn| record(sample(turn, None))));
            }
            for second in 0..3_000 {
                latencies.advance(t0 + Duration::from_secs(second));
            }
        });
        let all = latencies.distribution(Measure::PacketIn, Window::Lifetime, &ALL, end);
        assert_eq!(all.count(), 40_000);
    }

    #[test]
    fn no_more_providers_are_told_apart_than_there_may_be() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        for provider in 0..100 {
            latencies.recorder(&format!("provider {provider}"))(sample(1, None));
        }
        latencies.recorder("provider 3")(sample(1, None));

        let providers = latencies.providers();
        assert_eq!(providers.len(), PROVIDERS + 1);
        let of = |name: &str| {
            let filter = Filter {
                provider: Some(name.to_owned()),
                ..Filter::default()
            };
            let found = latencies.distribution(Measure::PacketIn, Window::Minute, &filter, t0);
            found.count()
        };
        assert_eq!(of("provider 3"), 2);
        assert_eq!(of("other"), 84);
    }

    fn sample(millis: u64, transport: Option<Transport>) -> Sample {
        Sample {
            measure: Measure::PacketIn,
            took: Duration::from_millis(millis),
            transport,
            source: Source::Reported,
        }
    }

    fn turn(millis: u64, began: Instant) -> TurnTrace {
        let mut hops = [None; Hop::ALL.len()];
        hops[Hop::Inference as usize] = Some(latency::Stretch {
            took: Duration::from_millis(millis),
            source: Source::Reported,
        });
        TurnTrace {
            turn: 1,
            response: ResponseId::from("resp_1"),
            transport: Transport::WebRtc,
            began,
            hops,
            total: Duration::from_millis(millis),
            uncertainty: Duration::ZERO,
        }
    }
}
