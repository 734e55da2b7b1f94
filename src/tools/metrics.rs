//! Counts calls of tools, and how long they take.
//!
//! **Invariant:** its labels are names from the file and outcomes of this program, nothing that
//! anybody says.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds, in seconds.
const BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<String, OfTool>>);

#[derive(Debug, Default)]
struct OfTool {
    outcomes: BTreeMap<&'static str, u64>,
    /// How many took at most as long as each bound, beyond the one before.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: Duration,
}

impl Metrics {
    pub(crate) fn record(&self, tool: &str, outcome: &'static str, took: Duration) {
        let mut tools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tool = match tools.get_mut(tool) {
            Some(of_tool) => of_tool,
            None => tools.entry(tool.to_owned()).or_default(),
        };
        *of_tool.outcomes.entry(outcome).or_default() += 1;
        of_tool.count += 1;
        of_tool.sum += took;
        let bucket = BUCKETS
            .iter()
            .position(|bound| took.as_secs_f64() <= *bound);
        if let Some(bucket) = bucket {
            of_tool.buckets[bucket] += 1;
        }
    }

    /// Returns all in Prometheus' text format.
    pub(crate) fn prometheus(&self) -> String {
        let tools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = "voxline_tool_calls_total";
        let mut page = format!(
            "# HELP {name} Calls of the relay's own tools, by how they ended.\n\
             # TYPE {name} counter\n"
        );
        for (tool, of_tool) in tools.iter() {
            for (outcome, count) in &of_tool.outcomes {
                let labels = format!("tool=\"{tool}\",outcome=\"{outcome}\"");
                let _ = writeln!(page, "{name}{{{labels}}} {count}");
            }
        }
        let name = "voxline_tool_call_seconds";
        let _ = write!(
            page,
            "# HELP {name} From a tool's call to its output, with the wait for its turn.\n\
             # TYPE {name} histogram\n"
        );
        for (tool, of_tool) in tools.iter() {
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(of_tool.buckets) {
                below += count;
                let _ = writeln!(
                    page,
                    "{name}_bucket{{tool=\"{tool}\",le=\"{bound}\"}} {below}"
                );
            }
            let (count, sum) = (of_tool.count, of_tool.sum.as_secs_f64());
            let _ = writeln!(page, "{name}_bucket{{tool=\"{tool}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(page, "{name}_sum{{tool=\"{tool}\"}} {sum}");
            let _ = writeln!(page, "{name}_count{{tool=\"{tool}\"}} {count}");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_what_was_recorded() {
        let metrics = Metrics::default();
        metrics.record("weather", "ok", Duration::from_millis(80));
        metrics.record("weather", "ok", Duration::from_millis(700));
        metrics.record("weather", "timeout", Duration::from_secs(40));
        let page = metrics.prometheus();
        for line in [
            "voxline_tool_calls_total{tool=\"weather\",outcome=\"ok\"} 2\n",
            "voxline_tool_calls_total{tool=\"weather\",outcome=\"timeout\"} 1\n",
            "voxline_tool_call_seconds_bucket{tool=\"weather\",le=\"0.05\"} 0\n",
            "voxline_tool_call_seconds_bucket{tool=\"weather\",le=\"0.1\"} 1\n",
            "voxline_tool_call_seconds_bucket{tool=\"weather\",le=\"30\"} 2\n",
            "voxline_tool_call_seconds_bucket{tool=\"weather\",le=\"+Inf\"} 3\n",
            "voxline_tool_call_seconds_count{tool=\"weather\"} 3\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
    }
}
