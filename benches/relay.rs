//! What the relay itself adds to a conversation's latency.
//!
//! The relay runs as a process of its own with the embedded provider; WebRTC callers in this
//! process talk and are answered. The figures are the relay's own, read from `/metrics`:
//!
//! - `relay_in`: microphone packet read from the socket -> its upstream message handed to the
//!   socket. It contains the jitter buffer, which holds sound back on purpose.
//! - `relay_out`: sound due (its delta has arrived and its turn has come) -> its RTP packet handed
//!   to the socket.
//!
//! `cargo bench -- 1 10 50` sets how many calls there are at once.

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

use tokio::task::JoinSet;

use crate::support::peer::Peer;
use crate::support::speech::{packets, speech};

const KEY: &str = "bench-bench";
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

    println!("calls  hop                samples      p50      p90      p99      max   (ms)");
    for calls in counts {
        let relay = Relay::start();
        talk(&relay.url, calls).await;
        let page = http()
            .get(format!("{}/metrics", relay.url))
            .bearer_auth(KEY)
            .send()
            .await
            .unwrap();
        print(calls, &page.text().await.unwrap());
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

fn print(calls: usize, page: &str) {
    for hop in ["relay_in", "relay_out", "silence_wait", "inference"] {
        let figure = |suffix: &str, labels: &str| -> f64 {
            let name = format!("{suffix}{{hop=\"{hop}\"{labels}}} ");
            let line = page.lines().find_map(|line| line.split_once(&name));
            line.map_or(f64::NAN, |(_, figure)| figure.parse().unwrap())
        };
        let quantile = |quantile: &str| figure("", &format!(",quantile=\"{quantile}\"")) * 1000.0;
        println!(
            "{calls:5}  {hop:16} {count:9} {p50:8.2} {p90:8.2} {p99:8.2} {max:8.2}",
            count = figure("_count", ""),
            p50 = quantile("0.5"),
            p90 = quantile("0.9"),
            p99 = quantile("0.99"),
            max = quantile("1"),
        );
    }
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
