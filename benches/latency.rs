//! What measuring costs: recording a sample, the memory of all histograms, a page of metrics, a look at a
//! window.
//!
//! Time is made up and runs ahead of the clock's, so that an hour of a thousand sessions passes in seconds.
//! `cargo bench --bench latency`

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench looks at the clock, prints, and ends where it cannot go on"
)]

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use voxline::core::latency::budget::Budget;
use voxline::core::latency::{Hop, Measure, Recorder, Sample, Stretch, Transport, TurnTrace};
use voxline::core::port::Source;
use voxline::telemetry::{Filter, Latencies, Window};

const SAMPLES: u64 = 5_000_000;
const THREADS: [u64; 3] = [1, 2, 4];
const SESSIONS: u64 = 1_000;
const SLOT: Duration = Duration::from_secs(5);
const HOUR: u32 = 720;
/// Packets of a session in a slot of time, each way.
const PACKETS: u64 = 250;

fn main() {
    println!("recording a sample, ns each of {SAMPLES}, all threads in one histogram");
    println!("threads   recorder   hdrhistogram behind a mutex   ratio");
    for threads in THREADS {
        let latencies = Latencies::new(Instant::now());
        let ours = latencies.recorder("embedded");
        let ours = timed(threads, &ours);
        let histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
        let histogram = Mutex::new(histogram);
        let theirs: Recorder = Arc::new(move |sample| {
            let micros = sample.took.as_micros() as u64;
            histogram.lock().unwrap().saturating_record(micros);
        });
        let theirs = timed(threads, &theirs);
        println!(
            "{threads:7} {ours:10.1} {theirs:29.1} {:7.1}",
            theirs / ours
        );
    }

    let before = resident();
    let latencies = Latencies::new(Instant::now());
    let recorders: Vec<_> = (0..SESSIONS)
        .map(|_| latencies.recorder("embedded"))
        .collect();
    let idle = resident() - before;
    println!("\nmemory of {SESSIONS} sessions' recorders, before any sample: {idle} KiB");
    let began = Instant::now();
    let end = live(&latencies, &recorders, began);
    let full = resident() - before;
    println!(
        "memory of all histograms after an hour of {SESSIONS} sessions, 12 turns a minute and 50 \
         packets a second each way: {full} KiB"
    );

    let began = Instant::now();
    let page = latencies.prometheus(&Budget::default(), end);
    let took = began.elapsed();
    println!("a page of metrics: {took:.1?}, {} KiB", page.len() / 1024);
    for window in Window::ALL {
        let began = Instant::now();
        for measure in Measure::ALL {
            let all = latencies.distribution(measure, window, &Filter::default(), end);
            black_box(all.curve().count());
        }
        let (name, took) = (window.name(), began.elapsed());
        println!("all measures of {name}, with their curves: {took:.1?}");
    }
    let began = Instant::now();
    let points = latencies.series(&Filter::default(), None, end);
    println!(
        "the series, {} points: {:.1?}",
        points.len(),
        began.elapsed()
    );
}

/// Nanoseconds that one sample takes of a thread.
fn timed(threads: u64, record: &Recorder) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut random = thread + 1;
                for _ in 0..SAMPLES {
                    record(packet(Measure::PacketIn, next(&mut random) % 40_000));
                }
            });
        }
    });

    began.elapsed().as_nanos() as f64 / SAMPLES as f64
}

/// Lets the sessions talk for an hour.
fn live(latencies: &Latencies, recorders: &[Recorder], began: Instant) -> Instant {
    let mut random = 7;
    for slot in 0..HOUR {
        latencies.advance(began + SLOT * slot);
        for record in recorders {
            for _ in 0..PACKETS {
                record(packet(
                    Measure::PacketIn,
                    20_000 + next(&mut random) % 20_000,
                ));
                record(packet(Measure::PacketOut, next(&mut random) % 5_000));
            }
            latencies.turn(&turn(&mut random, began), "embedded");
        }
    }
    let end = began + SLOT * HOUR;
    latencies.advance(end);

    end
}

fn packet(measure: Measure, micros: u64) -> Sample {
    Sample {
        measure,
        took: Duration::from_micros(micros),
        transport: None,
        source: Source::Reported,
    }
}

fn turn(random: &mut u64, began: Instant) -> TurnTrace {
    let estimated = next(random).is_multiple_of(4);
    let mut hop = |hop| {
        let most = Budget::default().limit(hop).as_micros() as u64;
        let took = Duration::from_micros(next(random) % most);
        let source = if estimated {
            Source::Estimated
        } else {
            Source::Reported
        };
        Some(Stretch { took, source })
    };
    let hops = Hop::ALL.map(&mut hop);
    let total = hops.iter().flatten().map(|hop| hop.took).sum();

    TurnTrace {
        turn: 1,
        response: "resp_1".into(),
        transport: Transport::ALL[(next(random) % 3) as usize],
        began,
        hops,
        total,
        uncertainty: Duration::ZERO,
    }
}

/// Marsaglia's xorshift.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// Kibibytes of this process in memory; zero where nobody says.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().next());

    words.and_then(|word| word.parse().ok()).unwrap_or_default()
}
