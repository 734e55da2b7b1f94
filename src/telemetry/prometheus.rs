//! Prometheus' text format, and the histograms in it.
//!
//! **Invariant:** every limit of the budget is a bound of a bucket, whatever is configured.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::core::latency::Measure;
use crate::core::latency::budget::Budget;
use crate::telemetry::key::{Filter, Key};
use crate::telemetry::latencies::Latencies;
use crate::telemetry::scale;
use crate::telemetry::window::Window;

/// The upper bounds of buckets, in microseconds; the budget's limits are added.
const BOUNDS: [u64; 29] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000, 80_000, 100_000, 200_000, 300_000,
    400_000, 500_000, 800_000, 1_000_000, 1_250_000, 1_750_000, 2_000_000, 2_500_000, 3_000_000,
    4_000_000, 5_000_000, 7_500_000, 10_000_000, 20_000_000, 30_000_000, 60_000_000,
];

/// What was counted for one set of labels.
struct Buckets {
    counts: Vec<u64>,
    count: u64,
    /// In microseconds.
    sum: u64,
}

impl Latencies {
    /// Returns all that was timed since the start as histograms in Prometheus' text format.
    ///
    /// A sample is in the bucket of the shortest length that it cannot be told from in three digits.
    pub fn prometheus(&self, budget: &Budget, now: Instant) -> String {
        let bounds = bounds(budget);
        let mut page = String::new();
        let mut last = None;
        for measure in Measure::ALL {
            let (name, help) = family(measure);
            if last != Some(name.clone()) {
                head(&mut page, &name, help, "histogram");
            }
            for (labels, buckets) in self.buckets(measure, &bounds, now) {
                buckets.write(&mut page, &name, &labels, &bounds);
            }
            last = Some(name);
        }

        page
    }

    /// Returns the buckets of each set of labels.
    fn buckets(&self, measure: Measure, bounds: &[u64], now: Instant) -> Vec<(String, Buckets)> {
        let mut found: Vec<(String, Buckets)> = vec![];
        // The places of one key come one after the other, and so do keys with the same labels.
        let mut last: Option<(String, Key)> = None;
        let visit = |provider: &str, key: Key, place, count| {
            let is_last = |(name, at): &(String, Key)| *at == key && name == provider;
            if !last.as_ref().is_some_and(is_last) {
                last = Some((provider.to_owned(), key));
                let labels = labels_of(measure, provider, key);
                if found.last().is_none_or(|(before, _)| *before != labels) {
                    found.push((labels, Buckets::new(bounds.len())));
                }
            }
            if let Some((_, buckets)) = found.last_mut() {
                buckets.add(place, count, bounds);
            }
        };
        self.each(measure, Window::Lifetime, &Filter::default(), now, visit);

        found
    }
}

fn labels_of(measure: Measure, provider: &str, key: Key) -> String {
    let transport = key.transport.map_or("", |transport| transport.name());
    let mut pairs = vec![("provider", provider), ("transport", transport)];
    if let Measure::Hop(hop) = measure {
        pairs.insert(0, ("hop", hop.name()));
    }
    if let Measure::Hop(_) | Measure::EndToEnd = measure {
        pairs.push(("source", key.source.name()));
    }

    labels(&pairs)
}

impl Buckets {
    fn new(bounds: usize) -> Self {
        Self {
            counts: vec![0; bounds],
            count: 0,
            sum: 0,
        }
    }

    fn add(&mut self, place: usize, count: u64, bounds: &[u64]) {
        let bucket = bounds.partition_point(|bound| *bound < scale::least(place));
        if let Some(bucket) = self.counts.get_mut(bucket) {
            *bucket += count;
        }
        self.count += count;
        self.sum += count * scale::middle(place);
    }

    fn write(&self, page: &mut String, name: &str, labels: &str, bounds: &[u64]) {
        let mut below = 0;
        let infinite = (f64::INFINITY, self.count);
        let finite = bounds.iter().zip(&self.counts).map(|(bound, count)| {
            below += count;
            (seconds(*bound), below)
        });
        for (bound, count) in finite.chain([infinite]) {
            let bound = if bound.is_finite() {
                bound.to_string()
            } else {
                "+Inf".to_owned()
            };
            let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(page, "{name}_sum{{{labels}}} {}", seconds(self.sum));
        let _ = writeln!(page, "{name}_count{{{labels}}} {}", self.count);
    }
}

/// What a family of histograms is called, and what it is for.
fn family(measure: Measure) -> (String, &'static str) {
    let help = match measure {
        Measure::Hop(_) => "Time of an answered turn that was spent on a hop.",
        Measure::EndToEnd => {
            "From the person's last sound to the first sound of the answer at their ear."
        }
        Measure::FirstByte => {
            "From the provider's word that the person has stopped to its first word of the response."
        }
        Measure::FullTurn => {
            "From the person's last sound to the last sound of the answer at their ear."
        }
        Measure::Silence => {
            "From the first sound of an interruption that is received to silence at the ear."
        }
        Measure::Rotation => "From the offer of a fresh token until the client holds it.",
        Measure::Recovery => "From the loss of the link to the provider until there is one again.",
        Measure::Return => "From the loss of a client until it is back.",
        Measure::JitterBuffer => "Time that sound waits in the client's jitter buffer.",
        Measure::PacketIn => {
            "From a microphone packet's receipt until its message is at the provider's socket."
        }
        Measure::PacketOut => "From the time at which sound is due until its packet is sent.",
    };
    let name = if let Measure::Hop(_) = measure {
        "hop"
    } else {
        measure.name()
    };

    (format!("voxline_{name}_seconds"), help)
}

/// All bounds of buckets, in order.
fn bounds(budget: &Budget) -> Vec<u64> {
    let budgets = [*budget, Budget::default()];
    let limits = budgets.iter().flat_map(|budget| {
        let limits = budget.limits.iter().chain([&budget.end_to_end]);
        limits.map(|limit: &Duration| scale::micros(*limit))
    });
    let mut all: Vec<_> = BOUNDS.into_iter().chain(limits).collect();
    all.sort_unstable();
    all.dedup();

    all
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Begins a family of metrics.
pub fn head(page: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writes labels as they stand between the braces; those without a value are left out, which is the same.
pub fn labels<'a>(pairs: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> String {
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let written: Vec<_> = pairs
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();

    written.join(",")
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");

    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::core::latency::{Hop, Sample, Transport};
    use crate::core::port::Source;

    #[test]
    fn every_limit_is_a_bound() {
        let mut budget = Budget::default();
        budget.limits[Hop::Inference as usize] = Duration::from_millis(777);
        budget.end_to_end = Duration::from_millis(1_234);

        let bounds = bounds(&budget);

        assert!(bounds.is_sorted());
        for millis in [150, 60, 600, 700, 40, 120, 250, 1_500, 777, 1_234] {
            assert!(bounds.contains(&(millis * 1_000)), "{millis}");
        }
        // What a hop is expected to take.
        for millis in [80, 150, 250, 700, 50, 120, 800, 1_500] {
            assert!(bounds.contains(&(millis * 1_000)), "{millis}");
        }
    }

    #[test]
    fn buckets_are_cumulative_and_hold_what_is_not_longer_than_their_bound() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let record = latencies.recorder("embedded");
        for millis in [100, 149, 150, 151, 700, 100_000] {
            record(Sample {
                measure: Measure::Hop(Hop::Capture),
                took: Duration::from_millis(millis),
                transport: Some(Transport::WebRtc),
                source: Source::Reported,
            });
        }
        let later = t0 + Duration::from_secs(7_200);
        for now in [t0, later] {
            let page = latencies.prometheus(&Budget::default(), now);
            let labels = "hop=\"capture\",provider=\"embedded\",transport=\"webrtc\",\
                          source=\"reported\"";
            for (bound, count) in [
                ("0.08", 0),
                ("0.1", 1),
                ("0.15", 3),
                ("0.2", 4),
                ("0.7", 5),
                ("30", 5),
                ("60", 6),
                ("+Inf", 6),
            ] {
                let line =
                    format!("voxline_hop_seconds_bucket{{{labels},le=\"{bound}\"}} {count}\n");
                assert!(page.contains(&line), "{line}{page}");
            }
            let count = format!("voxline_hop_seconds_count{{{labels}}} 6\n");
            assert!(page.contains(&count), "{page}");
            let sum = format!("voxline_hop_seconds_sum{{{labels}}} ");
            let (_, sum) = page.split_once(&sum).unwrap();
            let (sum, _) = sum.split_once('\n').unwrap();
            let sum: f64 = sum.parse().unwrap();
            assert!((sum - 61.25).abs() < 0.062, "{sum}");
        }
    }

    #[test]
    fn every_family_is_there_from_the_start_and_begins_once() {
        let t0 = clock::now();
        let page = Latencies::new(t0).prometheus(&Budget::default(), t0);
        let types = page.lines().filter(|line| line.starts_with("# TYPE"));
        let types: Vec<_> = types.collect();
        assert_eq!(types.len(), Measure::ALL.len() - Hop::ALL.len() + 1);
        assert!(types.contains(&"# TYPE voxline_hop_seconds histogram"));
        assert!(types.contains(&"# TYPE voxline_end_to_end_seconds histogram"));
        assert!(types.contains(&"# TYPE voxline_packet_in_seconds histogram"));
    }

    #[test]
    fn the_source_is_told_of_turns_only() {
        let t0 = clock::now();
        let latencies = Latencies::new(t0);
        let record = latencies.recorder("a \"b\"");
        for source in [Source::Reported, Source::Estimated] {
            record(Sample {
                measure: Measure::Silence,
                took: Duration::from_millis(30),
                transport: None,
                source,
            });
        }
        let page = latencies.prometheus(&Budget::default(), t0);
        let line = "voxline_silence_seconds_count{provider=\"a \\\"b\\\"\"} 2\n";
        assert!(page.contains(line), "{page}");
    }
}
