//! What the relay itself adds to a conversation's latency.
//!
//! The relay runs as a process of its own with the embedded provider; WebRTC callers in this
//! process talk and are answered. The figures are the relay's own, from its histograms
//! (`/admin/latency/histograms`):
//!
//! - `packet_in`: microphone packet read from the socket -> its upstream message handed to the
//!   socket. It contains the jitter buffer, which holds sound back on purpose.
//! - `packet_out`: sound due (its delta has arrived and its turn has come) -> its RTP packet handed
//!   to the socket.
//!
//! `cargo bench --bench relay -- 1 10 50` sets how many calls there are at once.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends where it cannot go on"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use tokio::task::JoinSet;

use crate::support::peer::Peer;
use crate::support::speech::{packets, speech};

const KEY: &str = "bench-bench";
const ADMIN_KEY: &str = "bench-bench-admin";
const CALLS: [usize; 3] = [1, 10, 40];
/// How long everybody talks, in 20 ms packets.
const PACKETS: usize = 1000;
/// Silence after each sentence, in packets: room for an answer.
const PAUSE: usize = 150;
/// An Opus packet of 20 ms of silence (RFC 6716: a frame of no bytes).
const SILENCE: [u8; 1] = [0x48];

#[tokio::main]
async fn main() {
    let counts: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let counts = if counts.is_empty() {
        CALLS.to_vec()
    } else {
        counts
    };

    println!("calls  measure            samples      p50      p90      p99      max   (ms)");
    for calls in counts {
        let relay = Relay::start();
        talk(&relay.url, calls).await;
        for measure in ["packet_in", "packet_out", "silence_wait", "inference"] {
            print(calls, measure, &histogram(&relay.url, measure).await);
        }
    }
}

async fn talk(url: &str, calls: usize) {
    let packets = packets(&speech());
    let mut callers = JoinSet::new();
    for index in 0..calls {
        let (url, packets) = (url.to_owned(), packets.clone());
        callers.spawn(async move {
            let mut peer = Peer::new(&["oai-events"]).await;
            let answer = http()
                .post(format!("{url}/v1/realtime/calls"))
                .bearer_auth(KEY)
                .header("content-type", "application/sdp")
                .body(peer.offer().await)
                .send()
                .await
                .unwrap();
            let answer = answer.error_for_status().unwrap().text().await.unwrap();
            peer.connect(&answer).await;

            let mut tick = tokio::time::interval(Duration::from_millis(20));
            let turn = packets.len() + PAUSE;
            for sent in 0..PACKETS {
                tick.tick().await;
                // The callers do not all speak at once.
                let place = (sent + index * 37) % turn;
                let payload = packets
                    .get(place)
                    .cloned()
                    .unwrap_or_else(|| SILENCE.to_vec());
                peer.speak(payload, sent as u32 * 960).await;
                while peer.messages.try_recv().is_ok() {}
                while peer.sound.try_recv().is_ok() {}
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

/// Reads all that was recorded of a measure.
async fn histogram(url: &str, measure: &str) -> Histogram<u64> {
    let file = http()
        .get(format!(
            "{url}/admin/latency/histograms/{measure}?window=all"
        ))
        .bearer_auth(ADMIN_KEY)
        .send()
        .await
        .unwrap();
    let log = file.error_for_status().unwrap().text().await.unwrap();
    let mut all = Histogram::new(3).unwrap();
    for entry in IntervalLogIterator::new(log.as_bytes()) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            let one: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            all.add(one).unwrap();
        }
    }
    all
}

fn print(calls: usize, measure: &str, samples: &Histogram<u64>) {
    let ms = |micros: u64| micros as f64 / 1000.0;
    let quantile = |quantile| ms(samples.value_at_quantile(quantile));
    println!(
        "{calls:5}  {measure:16} {count:9} {p50:8.2} {p90:8.2} {p99:8.2} {max:8.2}",
        count = samples.len(),
        p50 = quantile(0.5),
        p90 = quantile(0.9),
        p99 = quantile(0.99),
        max = ms(samples.max()),
    );
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The relay as a process; it ends with the bench.
struct Relay {
    process: Child,
    url: String,
}

impl Relay {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_voxline"))
            .args(["serve", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args([
                "--provider",
                "embedded",
                "--sim-agent",
                "tone",
                "--log-filter",
                "error",
            ])
            .env("VOXLINE_API_KEY", KEY)
            .env("VOXLINE_ADMIN_KEY", ADMIN_KEY)
            .env_remove("OPENAI_API_KEY")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines
            .map_while(Result::ok)
            .find_map(|line| {
                Some(
                    line[line.find("http://")?..]
                        .trim_end_matches('/')
                        .to_owned(),
                )
            })
            .expect("the relay says on standard error why it does not start");

        Self { process, url }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
