//! Measures where the time goes, counts what happens, and sets up the log.
//!
//! **Invariant:** no counter has more than [`VALUES`] values of its label, whoever chooses them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tracing_subscriber::EnvFilter;

use crate::core::latency::{Measure, Recorder, Sample};
use crate::core::port::{Source, Usage};
use crate::core::tally::{Ledger, Tally};

/// The longest stretch that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

/// One histogram for each hop: microseconds, two significant digits, a few kilobytes each.
#[derive(Debug)]
pub struct Latencies([Mutex<Histogram<u64>>; Measure::ALL.len()]);

/// What a hop's samples come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    pub hop: Measure,
    pub count: u64,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub max: Duration,
    pub sum: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Measure::ALL.map(|_| {
            let longest = LONGEST.as_micros() as u64;
            Mutex::new(Histogram::new_with_bounds(1, longest, 2).expect("the bounds are in order"))
        }))
    }
}

impl Latencies {
    /// Returns where shells put their samples.
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        let latencies = Arc::clone(self);
        Arc::new(move |sample| latencies.record(sample))
    }

    /// Takes one sample; whatever is longer than a minute counts as a minute.
    pub fn record(&self, sample: Sample) {
        let micros = sample.took.as_micros().try_into().unwrap_or(u64::MAX);
        self.with(sample.measure, |histogram| {
            histogram.saturating_record(micros)
        });
    }

    pub fn summary(&self, hop: Measure) -> Summary {
        self.with(hop, |histogram| {
            let quantile = |q| Duration::from_micros(histogram.value_at_quantile(q));
            let count = histogram.len();
            Summary {
                hop,
                count,
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
                max: Duration::from_micros(histogram.max()),
                sum: Duration::from_micros((histogram.mean() * count as f64) as u64),
            }
        })
    }

    /// Returns all summaries in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let name = "voxline_hop_seconds";
        let mut page = format!(
            "# HELP {name} Time spent on a stretch of the way, on the relay's clock.\n\
             # TYPE {name} summary\n"
        );
        for summary in Measure::ALL.map(|hop| self.summary(hop)) {
            let hop = summary.hop.name();
            let quantiles = [
                ("0.5", summary.p50),
                ("0.9", summary.p90),
                ("0.99", summary.p99),
                ("1", summary.max),
            ];
            for (quantile, value) in quantiles {
                let value = value.as_secs_f64();
                let labels = format!("hop=\"{hop}\",quantile=\"{quantile}\"");
                let _ = writeln!(page, "{name}{{{labels}}} {value}");
            }
            let sum = summary.sum.as_secs_f64();
            let _ = writeln!(page, "{name}_sum{{hop=\"{hop}\"}} {sum}");
            let _ = writeln!(page, "{name}_count{{hop=\"{hop}\"}} {}", summary.count);
        }
        page
    }

    fn with<T>(&self, hop: Measure, read: impl FnOnce(&mut Histogram<u64>) -> T) -> T {
        let histogram = &self.0[hop.index()];
        // A histogram is whole after every call, whoever panicked while holding it.
        read(&mut histogram.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Something that is counted, as Prometheus shows it.
#[derive(Debug)]
pub struct Counter {
    pub name: &'static str,
    pub help: &'static str,
    /// What its values are told apart by, if anything.
    pub label: Option<&'static str>,
}

/// How many values a label may have; all others count as `other`.
const VALUES: usize = 64;

const RENEWALS: Counter = Counter {
    name: "voxline_token_renewals_total",
    help: "Clients that hold a renewed token, by in-band rotation or their own fetch.",
    label: None,
};
const ROTATE_FAIL: Counter = Counter {
    name: "session_rotate_fail_total",
    help: "Tokens that expired before their client took the next one.",
    label: None,
};
const PARKED: Counter = Counter {
    name: "voxline_sessions_parked_total",
    help: "Sessions that lost their client and waited for it.",
    label: None,
};
const RESUMED: Counter = Counter {
    name: "voxline_sessions_resumed_total",
    help: "Parked sessions whose client came back.",
    label: None,
};
const ABANDONED: Counter = Counter {
    name: "voxline_sessions_abandoned_total",
    help: "Parked sessions that ended without their client.",
    label: None,
};
const CUTS: Counter = Counter {
    name: "voxline_cuts_total",
    help: "Answers that were cut, by how it was known what was heard of them.",
    label: Some("source"),
};
const PAUSES: Counter = Counter {
    name: "voxline_pauses_total",
    help: "Answers that were paused on the relay's own word that the person speaks.",
    label: None,
};
const FALSE_ALARMS: Counter = Counter {
    name: "voxline_false_alarms_total",
    help: "Pauses that the provider did not confirm: the answer sounded on.",
    label: None,
};
const LINKS_LOST: Counter = Counter {
    name: "voxline_provider_links_lost_total",
    help: "Links to the provider that were lost while their conversation went on, by reason.",
    label: Some("reason"),
};
const LINKS_RESTORED: Counter = Counter {
    name: "voxline_provider_links_restored_total",
    help: "Lost links that another one has replaced.",
    label: None,
};
const LINKS_ROLLED_OVER: Counter = Counter {
    name: "voxline_provider_links_rolled_over_total",
    help: "Links that were replaced before the provider's session reached its greatest length.",
    label: None,
};
const LINKS_GIVEN_UP: Counter = Counter {
    name: "voxline_provider_links_given_up_total",
    help: "Conversations that ended because no other link could be had in time.",
    label: None,
};
const PROVIDER_TOKENS: Counter = Counter {
    name: "voxline_provider_tokens_total",
    help: "Tokens that providers bill for; `input_cached` is part of the other inputs.",
    label: Some("kind"),
};

/// What has happened since the start.
#[derive(Debug)]
pub struct Counters(Mutex<BTreeMap<&'static str, Family>>);

/// A counter's values, by that of its label; without one, by the empty text.
#[derive(Debug)]
struct Family {
    counter: &'static Counter,
    values: BTreeMap<String, u64>,
}

impl Counters {
    /// Starts all at zero: sessions' own counters, and these.
    pub fn new(others: &[&'static Counter]) -> Self {
        let own = [
            &RENEWALS,
            &ROTATE_FAIL,
            &PARKED,
            &RESUMED,
            &ABANDONED,
            &PAUSES,
            &FALSE_ALARMS,
            &LINKS_LOST,
            &LINKS_RESTORED,
            &LINKS_ROLLED_OVER,
            &LINKS_GIVEN_UP,
        ];
        let counters = Self(Mutex::default());
        for counter in own.iter().chain(others) {
            match counter.label {
                None => counters.add(counter, "", 0),
                Some(_) => counters.family(counter, |_| {}),
            }
        }
        counters.used(Usage::default());
        counters.cut(Source::Reported, 0);
        counters.cut(Source::Estimated, 0);
        counters
    }

    /// Returns where sessions put what they count.
    pub fn ledger(self: &Arc<Self>) -> Ledger {
        let counters = Arc::clone(self);
        Arc::new(move |tally| counters.count(tally))
    }

    /// Adds to a counter; `value` is that of its label, and empty if it has none.
    pub fn add(&self, counter: &'static Counter, value: &str, more: u64) {
        self.family(counter, |values| {
            let full = values.len() >= VALUES && !values.contains_key(value);
            let value = if full { "other" } else { value };
            *values.entry(value.to_owned()).or_default() += more;
        });
    }

    /// Returns all counters in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let mut page = String::new();
        for Family { counter, values } in self.lock().values() {
            let Counter { name, help, label } = counter;
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} counter");
            for (value, count) in values {
                let _ = match label {
                    None => writeln!(page, "{name} {count}"),
                    Some(label) => {
                        let value = escaped(value);
                        writeln!(page, "{name}{{{label}=\"{value}\"}} {count}")
                    }
                };
            }
        }
        page
    }

    fn count(&self, tally: Tally) {
        match tally {
            Tally::Received(_) => {}
            Tally::Rotated => self.add(&RENEWALS, "", 1),
            Tally::RotationFailed => self.add(&ROTATE_FAIL, "", 1),
            Tally::Parked => self.add(&PARKED, "", 1),
            Tally::Resumed => self.add(&RESUMED, "", 1),
            Tally::Abandoned => self.add(&ABANDONED, "", 1),
            Tally::Cut(source) => self.cut(source, 1),
            Tally::Paused => self.add(&PAUSES, "", 1),
            Tally::FalseAlarm => self.add(&FALSE_ALARMS, "", 1),
            Tally::LinkLost(reason) => self.add(&LINKS_LOST, reason.name(), 1),
            Tally::LinkRestored(_) => self.add(&LINKS_RESTORED, "", 1),
            Tally::RolledOver => self.add(&LINKS_ROLLED_OVER, "", 1),
            Tally::LinkGivenUp => self.add(&LINKS_GIVEN_UP, "", 1),
            Tally::Used(usage) => self.used(usage),
        }
    }

    fn cut(&self, source: Source, more: u64) {
        self.add(&CUTS, source.name(), more);
    }

    fn used(&self, usage: Usage) {
        let Usage {
            input_text,
            input_audio,
            input_cached,
            output_text,
            output_audio,
        } = usage;
        for (kind, tokens) in [
            ("input_text", input_text),
            ("input_audio", input_audio),
            ("input_cached", input_cached),
            ("output_text", output_text),
            ("output_audio", output_audio),
        ] {
            self.add(&PROVIDER_TOKENS, kind, tokens);
        }
    }

    fn family(&self, counter: &'static Counter, change: impl FnOnce(&mut BTreeMap<String, u64>)) {
        let mut families = self.lock();
        let family = families.entry(counter.name).or_insert_with(|| Family {
            counter,
            values: BTreeMap::new(),
        });
        change(&mut family.values);
    }

    /// Counts are whole after every call, whoever panicked while holding the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As Prometheus' text format has it.
fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

/// Starts the log on standard error. The filter is one that `EnvFilter` understands.
pub fn start_log(filter: &str, json: bool) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // There is a log already only if a test has started one.
    let _ = if json {
        tracing::subscriber::set_global_default(log.json().with_span_list(false).finish())
    } else {
        tracing::subscriber::set_global_default(log.finish())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(hop: Measure, millis: u64) -> Sample {
        let took = Duration::from_millis(millis);
        Sample {
            measure: hop,
            took,
            transport: None,
            source: Source::Reported,
        }
    }

    fn is_about(measured: Duration, millis: u64) -> bool {
        measured.abs_diff(Duration::from_millis(millis)) <= Duration::from_millis(millis / 50)
    }

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let latencies = Arc::new(Latencies::default());
        let record = latencies.recorder();
        for millis in 1..=100 {
            record(sample(Measure::PacketIn, millis));
        }
        let summary = latencies.summary(Measure::PacketIn);
        assert_eq!(summary.count, 100);
        assert!(is_about(summary.p50, 50), "{summary:?}");
        assert!(is_about(summary.p90, 90), "{summary:?}");
        assert!(is_about(summary.p99, 99), "{summary:?}");
        assert!(is_about(summary.max, 100), "{summary:?}");
        assert!(is_about(summary.sum, 5050), "{summary:?}");
        assert_eq!(latencies.summary(Measure::PacketOut).count, 0);
    }

    #[test]
    fn nothing_is_too_short_or_too_long() {
        let latencies = Latencies::default();
        latencies.record(sample(Measure::EndToEnd, 0));
        latencies.record(sample(Measure::EndToEnd, u64::MAX));
        let summary = latencies.summary(Measure::EndToEnd);
        assert_eq!(summary.count, 2);
        assert!(is_about(summary.max, 60_000), "{summary:?}");
    }

    #[test]
    fn the_page_has_every_hop() {
        let latencies = Latencies::default();
        latencies.record(sample(Measure::PacketOut, 2));
        let page = latencies.prometheus();
        for hop in Measure::ALL {
            assert!(page.contains(&format!("_count{{hop=\"{}\"}}", hop.name())));
        }
        assert!(page.contains("voxline_hop_seconds_count{hop=\"packet_out\"} 1\n"));
    }

    #[test]
    fn counters_are_there_before_anything_happens() {
        let page = Counters::new(&[]).prometheus();
        for line in [
            "# TYPE session_rotate_fail_total counter",
            "session_rotate_fail_total 0",
            "voxline_token_renewals_total 0",
            "voxline_sessions_parked_total 0",
            "voxline_sessions_resumed_total 0",
            "voxline_sessions_abandoned_total 0",
            "voxline_pauses_total 0",
            "voxline_false_alarms_total 0",
            "voxline_cuts_total{source=\"reported\"} 0",
            "voxline_provider_tokens_total{kind=\"input_cached\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn what_sessions_tell_is_counted() {
        let counters = Arc::new(Counters::new(&[]));
        let tell = counters.ledger();
        tell(Tally::RotationFailed);
        tell(Tally::RotationFailed);
        let usage = Usage {
            output_audio: 7,
            ..Usage::default()
        };
        tell(Tally::Used(usage));
        tell(Tally::Used(usage));
        let page = counters.prometheus();
        assert!(page.contains("\nsession_rotate_fail_total 2\n"), "{page}");
        let spoken = "voxline_provider_tokens_total{kind=\"output_audio\"} 14\n";
        assert!(page.contains(spoken), "{page}");
    }

    #[test]
    fn a_label_has_a_bounded_number_of_values() {
        const SEEN: Counter = Counter {
            name: "seen_total",
            help: "Things seen.",
            label: Some("thing"),
        };
        let counters = Counters::new(&[&SEEN]);
        for thing in 0..1_000 {
            counters.add(&SEEN, &format!("a \"{thing}\""), 1);
        }
        let page = counters.prometheus();
        let lines = page.lines().filter(|line| line.starts_with("seen_total"));
        assert_eq!(lines.count(), VALUES + 1);
        assert!(
            page.contains("seen_total{thing=\"a \\\"7\\\"\"} 1\n"),
            "{page}"
        );
        assert!(page.contains("seen_total{thing=\"other\"} 936\n"), "{page}");
    }
}
