//! What the operator learns of latency: the metrics of turns, and files for HdrHistogram's tools.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::calling::call;
use crate::harness::{KEY, PATIENCE, Relay};
use crate::support::speech::{packets, speech};

const ADMIN_KEY: &str = "admin-test-key";

const TURNS: &str = "voxline_turns_total{provider=\"embedded\",transport=\"webrtc\"}";

/// An Opus packet of 20 ms of silence (RFC 6716: a frame of no bytes).
const SILENCE: [u8; 1] = [0x48];

#[tokio::test]
async fn an_answered_turn_is_in_the_metrics_hop_by_hop() {
    // Nobody answers within a millisecond.
    let relay = relay(&[("sim.agent", "tone"), ("budget.inference", "1ms")]).await;
    answered(&relay).await;

    let page = page(&relay).await;
    assert!(page.contains(&format!("{TURNS} 1\n")), "{page}");
    let blamed = "voxline_turns_over_budget_total{hop=\"inference\"} 1\n";
    assert!(page.contains(blamed), "{page}");
    let inference = "voxline_hop_seconds_count{hop=\"inference\",provider=\"embedded\",\
                     transport=\"webrtc\",source=\"reported\"} 1\n";
    assert!(page.contains(inference), "{page}");
    let whole = "voxline_end_to_end_seconds_count{provider=\"embedded\",transport=\"webrtc\"";
    assert!(page.contains(whole), "{page}");
    assert!(
        page.contains("voxline_budget_seconds{hop=\"inference\"} 0.001\n"),
        "{page}"
    );
    assert!(page.contains("voxline_budget_objective 0.95\n"), "{page}");
    let health = "{name=\"voice\",provider=\"embedded\"}";
    assert!(
        page.contains(&format!("voxline_breaker_state{health} 0\n")),
        "{page}"
    );
    let share = format!("voxline_provider_slow_share{health} 1\n");
    assert!(page.contains(&share), "{page}");
    assert!(
        page.contains(&format!("voxline_provider_slow{health} 0\n")),
        "one turn is few"
    );
}

/// Holds a call over WebRTC until a spoken turn is answered.
pub(crate) async fn answered(relay: &Relay) {
    let (mut peer, _) = call(relay, KEY, "").await;
    let talking = async {
        let mut tick = interval(Duration::from_millis(20));
        let mut spoken = packets(&speech()).into_iter();
        for sent in 0_u32.. {
            tick.tick().await;
            let packet = spoken.next().unwrap_or_else(|| SILENCE.to_vec());
            peer.speak(packet, sent * 960).await;
            while peer.messages.try_recv().is_ok() {}
            while peer.sound.try_recv().is_ok() {}
        }
    };
    let told = async {
        // Until then the line is not there.
        while !page(relay).await.contains(TURNS) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let talked = async {
        tokio::select! { () = talking => {}, () = told => {} }
    };
    timeout(PATIENCE, talked).await.expect("an answer");
}

#[tokio::test]
async fn hdrhistogram_reads_what_is_downloaded() {
    let relay = relay(&[]).await;
    let mut client = relay.connect().await;
    let silence = json!({"type": "input_audio_buffer.append", "audio": "AAAA".repeat(640)});
    for _ in 0..10 {
        client.send(silence.clone()).await;
    }
    client
        .send(json!({"type": "input_audio_buffer.commit"}))
        .await;
    client.event_of("input_audio_buffer.committed").await;

    for window in ["1m", "5m", "1h", "all"] {
        let query = format!("packet_in?format=hlog&window={window}");
        let answer = download(&relay, &query).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let name = answer.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            name,
            format!("attachment; filename=\"packet_in-{window}.hlog\"")
        );
        let log = answer.text().await.unwrap();
        assert_eq!(counted(&log, "packet_in"), 10, "{window}: {log}");
    }
    let of = async |provider: &str| {
        let query = format!("packet_in?provider={provider}");
        counted(
            &download(&relay, &query).await.text().await.unwrap(),
            "packet_in",
        )
    };
    assert_eq!(of("embedded").await, 10);
    assert_eq!(of("nobody").await, 0);
    let answer = download(&relay, "packet_in?format=percentiles").await;
    let text = answer.text().await.unwrap();
    assert!(text.contains("Total count    =           10]"), "{text}");
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_named() {
    let relay = relay(&[]).await;
    for (query, status, param) in [
        ("nothing", StatusCode::NOT_FOUND, "measure"),
        ("silence?format=csv", StatusCode::BAD_REQUEST, "format"),
        ("silence?window=2m", StatusCode::BAD_REQUEST, "window"),
        (
            "silence?transport=pigeon",
            StatusCode::BAD_REQUEST,
            "transport",
        ),
    ] {
        let answer = download(&relay, query).await;
        assert_eq!(answer.status(), status, "{query}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["param"], param, "{query}");
    }
}

/// How many samples there are under a tag.
fn counted(log: &str, tag: &str) -> u64 {
    let entries = IntervalLogIterator::new(log.as_bytes());
    let intervals = entries.filter_map(|entry| match entry.unwrap() {
        LogEntry::Interval(interval) => Some(interval),
        LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
    });
    let tagged = intervals.filter(|interval| interval.tag().unwrap().as_str() == tag);
    let counts = tagged.map(|interval| {
        let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        read.len()
    });

    counts.sum()
}

async fn relay(settings: &[(&'static str, &str)]) -> Relay {
    let own = [("admin_key", ADMIN_KEY)];
    let all: Vec<_> = own.iter().chain(settings).copied().collect();

    Relay::start(&all).await
}

async fn download(relay: &Relay, query: &str) -> Response {
    let url = relay.url(&format!("/admin/latency/histograms/{query}"));

    Client::new()
        .get(url)
        .bearer_auth(ADMIN_KEY)
        .send()
        .await
        .unwrap()
}

async fn page(relay: &Relay) -> String {
    let metrics = reqwest::get(relay.url("/metrics")).await.unwrap();

    metrics.text().await.unwrap()
}
