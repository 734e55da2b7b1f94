//! Counts what becomes of spans.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why spans are not where they were to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Loss {
    /// The queue had no room.
    Full,
    /// The collector did not want them.
    Refused,
    /// The collector could not be reached, or was busy, for too long.
    Unreachable,
}

impl Loss {
    const ALL: [Self; 3] = [Self::Full, Self::Refused, Self::Unreachable];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    exported: AtomicU64,
    dropped: [AtomicU64; Loss::ALL.len()],
}

impl Metrics {
    pub(crate) fn export(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn lose(&self, loss: Loss, spans: u64) {
        self.dropped[loss as usize].fetch_add(spans, Ordering::Relaxed);
    }

    /// Returns all in Prometheus' text format.
    pub(crate) fn prometheus(&self) -> String {
        let (exported, dropped) = (
            "voxline_otlp_spans_total",
            "voxline_otlp_spans_dropped_total",
        );
        let mut page = format!(
            "# HELP {exported} Spans that an OpenTelemetry collector has taken.\n\
             # TYPE {exported} counter\n\
             {exported} {}\n\
             # HELP {dropped} Spans that no collector has, by the reason.\n\
             # TYPE {dropped} counter\n",
            self.exported.load(Ordering::Relaxed)
        );
        for (loss, count) in Loss::ALL.into_iter().zip(&self.dropped) {
            let (reason, count) = (loss.name(), count.load(Ordering::Relaxed));
            let _ = writeln!(page, "{dropped}{{reason=\"{reason}\"}} {count}");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_spans_is_counted_from_the_start() {
        let metrics = Metrics::default();
        metrics.export(9);
        metrics.lose(Loss::Full, 18);
        let page = metrics.prometheus();
        for line in [
            "voxline_otlp_spans_total 9\n",
            "voxline_otlp_spans_dropped_total{reason=\"full\"} 18\n",
            "voxline_otlp_spans_dropped_total{reason=\"refused\"} 0\n",
            "voxline_otlp_spans_dropped_total{reason=\"unreachable\"} 0\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
    }
}
