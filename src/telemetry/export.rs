//! Histograms as files that HdrHistogram's own tools read.
//!
//! **Invariant:** values are microseconds in the log, as they were recorded, and milliseconds in the
//! text for people.

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::core::latency::Measure;
use crate::core::port::Source;
use crate::telemetry::latencies::Interval;

/// Lines for each halving of the distance to 100 %, as HdrHistogram's own tools have it.
const TICKS: u32 = 5;

/// What begins a log that Java's `HistogramLogReader` knows.
const VERSION: &str = "[Histogram log format version 1.3]";

/// Microseconds in the unit of the text, and of a log's greatest values.
const MILLISECOND: f64 = 1000.0;

/// Tells the time of day at an instant.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    pub wall: SystemTime,
}

/// Writes a log of intervals (`.hlog`): a line each, tagged with the name of what was measured, and
/// where it was estimated, with `.estimated` after it.
pub fn log(measure: Measure, intervals: &[Interval], began: Instant, now: Now) -> String {
    let mut bytes = vec![];
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(VERSION)
        .add_comment("Values are in microseconds; Interval_Max is in milliseconds.")
        .with_start_time(UNIX_EPOCH + now.since_1970(began))
        .with_max_value_divisor(MILLISECOND);
    let mut writer = builder
        .begin_log_with(&mut bytes, &mut serializer)
        .expect("memory takes everything");
    for interval in intervals {
        let name = match interval.source {
            Source::Reported => measure.name().to_owned(),
            Source::Estimated => format!("{}.estimated", measure.name()),
        };
        writer
            .write_histogram(
                interval.distribution.histogram(),
                now.since_1970(interval.began),
                interval.ended - interval.began,
                Tag::new(&name),
            )
            .expect("memory takes everything, and the counts fit");
    }

    String::from_utf8(bytes).expect("the log is text")
}

/// Writes the percentiles of a histogram (`.hgrm`), as HdrHistogram's `outputPercentileDistribution` does.
pub fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / MILLISECOND;
        let quantile = step.quantile_iterated_to();
        let _ = write!(text, "{value:12.3} {quantile:2.12} {total:10}");
        let _ = if quantile < 1.0 {
            writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text)
        };
    }
    let [mean, deviation, max] = [histogram.mean(), histogram.stdev(), histogram.max() as f64]
        .map(|micros| micros / MILLISECOND);
    let (count, buckets) = (histogram.len(), histogram.buckets());
    let steps = 2 * 10_u32.pow(u32::from(histogram.sigfig()));
    let steps = steps.next_power_of_two();
    let _ = writeln!(
        text,
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n\
         #[Max     = {max:12.3}, Total count    = {count:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {steps:12}]"
    );

    text
}

impl Now {
    fn since_1970(&self, at: Instant) -> Duration {
        let ago = self.instant.saturating_duration_since(at);
        let now = self.wall.duration_since(UNIX_EPOCH);

        now.unwrap_or_default().saturating_sub(ago)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::core::latency::Sample;
    use crate::telemetry::{Filter, Latencies, Window};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_reads_back_as_what_was_recorded() {
        let t0 = clock::now();
        let wall = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let latencies = Latencies::new(t0);
        let record = latencies.recorder("embedded");
        let at = |secs| t0 + Duration::from_secs(secs);
        for second in 0..130 {
            latencies.advance(at(second));
            record(sample(second, Source::Reported));
            record(sample(2 * second, Source::Estimated));
        }
        let now = at(130);
        let all = Filter::default();
        let intervals = latencies.intervals(Measure::Silence, Window::FiveMinutes, &all, now);

        let now = Now { instant: now, wall };
        let text = log(Measure::Silence, &intervals, t0, now);

        let (mut reported, mut estimated, mut lines) = (0, 0, 0);
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let interval = match entry.unwrap() {
                LogEntry::Interval(interval) => interval,
                LogEntry::StartTime(began) => {
                    assert_eq!(began.as_secs(), 1_764_000_000 - 130);
                    continue;
                }
                LogEntry::BaseTime(_) => panic!("times are absolute"),
            };
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            let began = interval.start_timestamp().as_secs() - (1_764_000_000 - 130);
            assert_eq!(interval.duration(), Duration::from_secs(5));
            assert_eq!(read.len(), 5);
            let factor = match interval.tag().unwrap().as_str() {
                "silence" => {
                    reported += read.len();
                    1
                }
                "silence.estimated" => {
                    estimated += read.len();
                    2
                }
                other => panic!("{other}"),
            };
            let max = (began + 4) * factor * 1_000;
            assert_eq!(read.max(), read.highest_equivalent(max));
            assert!((interval.max() - read.max() as f64 / 1e3).abs() < 0.001);
            lines += 1;
        }
        assert_eq!((reported, estimated, lines), (130, 130, 52));
    }

    #[test]
    fn percentiles_are_written_as_hdrhistogram_writes_them() {
        let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        for millis in [1, 2, 3, 4] {
            histogram.record(millis * 1_000).unwrap();
        }
        let text = percentiles(&histogram);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "       Value     Percentile TotalCount 1/(1-Percentile)"
        );
        assert_eq!(lines[1], "");
        assert_eq!(
            lines[2],
            "       1.000 0.000000000000          1           1.00"
        );
        let last = lines
            .iter()
            .position(|line| line.contains(" 1.0000"))
            .unwrap();
        assert_eq!(lines[last], "       4.001 1.000000000000          4");
        assert_eq!(
            lines[last + 1..],
            [
                "#[Mean    =        2.501, StdDeviation   =        1.118]",
                "#[Max     =        4.001, Total count    =            4]",
                "#[Buckets =           16, SubBuckets     =         2048]",
            ]
        );
    }

    #[test]
    fn of_nothing_there_is_a_log_and_a_text_all_the_same() {
        let t0 = clock::now();
        let now = Now {
            instant: t0,
            wall: UNIX_EPOCH,
        };
        let text = log(Measure::EndToEnd, &[], t0, now);
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"));
        let mut entries = IntervalLogIterator::new(text.as_bytes());
        assert!(matches!(entries.next(), Some(Ok(LogEntry::StartTime(_)))));
        assert_eq!(entries.next(), None);
        let text = percentiles(
            Latencies::new(t0)
                .distribution(Measure::EndToEnd, Window::Hour, &Filter::default(), t0)
                .histogram(),
        );
        assert!(text.contains("Total count    =            0]"), "{text}");
    }

    fn sample(millis: u64, source: Source) -> Sample {
        Sample {
            measure: Measure::Silence,
            took: Duration::from_millis(millis),
            transport: None,
            source,
        }
    }
}
