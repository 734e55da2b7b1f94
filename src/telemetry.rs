//! Measures where the time goes, and sets up the log.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tracing_subscriber::EnvFilter;

use crate::core::latency::{Hop, Recorder, Sample};

/// The longest stretch that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

/// One histogram for each hop: microseconds, two significant digits, a few kilobytes each.
#[derive(Debug)]
pub struct Latencies([Mutex<Histogram<u64>>; Hop::ALL.len()]);

/// What a hop's samples come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    pub hop: Hop,
    pub count: u64,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub max: Duration,
    pub sum: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Hop::ALL.map(|_| {
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
        self.with(sample.hop, |histogram| histogram.saturating_record(micros));
    }

    pub fn summary(&self, hop: Hop) -> Summary {
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
        for summary in Hop::ALL.map(|hop| self.summary(hop)) {
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

    fn with<T>(&self, hop: Hop, read: impl FnOnce(&mut Histogram<u64>) -> T) -> T {
        let [relay_in, silence_wait, inference, relay_out] = &self.0;
        let histogram = match hop {
            Hop::RelayIn => relay_in,
            Hop::SilenceWait => silence_wait,
            Hop::Inference => inference,
            Hop::RelayOut => relay_out,
        };
        // A histogram is whole after every call, whoever panicked while holding it.
        read(&mut histogram.lock().unwrap_or_else(PoisonError::into_inner))
    }
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

    fn sample(hop: Hop, millis: u64) -> Sample {
        let took = Duration::from_millis(millis);
        Sample { hop, took }
    }

    fn is_about(measured: Duration, millis: u64) -> bool {
        measured.abs_diff(Duration::from_millis(millis)) <= Duration::from_millis(millis / 50)
    }

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let latencies = Arc::new(Latencies::default());
        let record = latencies.recorder();
        for millis in 1..=100 {
            record(sample(Hop::RelayIn, millis));
        }
        let summary = latencies.summary(Hop::RelayIn);
        assert_eq!(summary.count, 100);
        assert!(is_about(summary.p50, 50), "{summary:?}");
        assert!(is_about(summary.p90, 90), "{summary:?}");
        assert!(is_about(summary.p99, 99), "{summary:?}");
        assert!(is_about(summary.max, 100), "{summary:?}");
        assert!(is_about(summary.sum, 5050), "{summary:?}");
        assert_eq!(latencies.summary(Hop::RelayOut).count, 0);
    }

    #[test]
    fn nothing_is_too_short_or_too_long() {
        let latencies = Latencies::default();
        latencies.record(Sample {
            hop: Hop::Inference,
            took: Duration::ZERO,
        });
        latencies.record(Sample {
            hop: Hop::Inference,
            took: Duration::MAX,
        });
        let summary = latencies.summary(Hop::Inference);
        assert_eq!(summary.count, 2);
        assert!(is_about(summary.max, 60_000), "{summary:?}");
    }

    #[test]
    fn the_page_has_every_hop() {
        let latencies = Latencies::default();
        latencies.record(sample(Hop::RelayOut, 2));
        let page = latencies.prometheus();
        for hop in Hop::ALL {
            assert!(page.contains(&format!("_count{{hop=\"{}\"}}", hop.name())));
        }
        assert!(page.contains("voxline_hop_seconds_count{hop=\"relay_out\"} 1\n"));
    }
}
