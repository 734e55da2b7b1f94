//! What an OpenTelemetry collector is told of a conversation.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use voxline::core::latency::Hop;

use crate::harness::{BEARER, Client, MODEL, PATIENCE, Relay};
use crate::support::peer::Peer;
use crate::support::speech;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_collector_is_told_where_the_time_of_a_turn_went() {
    let mut collector = Collector::start().await;
    let relay = collector.relay(&[]).await;
    let headers = [
        ("sec-websocket-protocol", "voxline.v1, voxline.playout"),
        ("authorization", BEARER),
        ("traceparent", TRACEPARENT),
        ("tracestate", "vendor=said"),
    ];
    let query = format!("?model={MODEL}");
    let mut client = relay.connect_with(&query, &headers).await.unwrap();
    let session = client.event_of("voxline.session").await;
    say_something(&mut client).await;
    let response = client.event_of("response.created").await;

    let spans = collector.turn().await;
    let turn = &spans[0];
    assert_eq!(hex(&turn.trace_id), &TRACEPARENT[3..35]);
    assert_eq!(hex(&turn.parent_span_id), &TRACEPARENT[36..52]);
    assert_eq!(turn.kind(), SpanKind::Server);
    assert_eq!(turn.trace_state, "vendor=said");
    let said = attributes(&turn.attributes);
    assert_eq!(said["gen_ai.conversation.id"], session["session_id"]);
    assert_eq!(said["gen_ai.response.id"], response["response"]["id"]);
    assert_eq!(said["gen_ai.request.model"], MODEL);
    assert_eq!(said["gen_ai.provider.name"], "embedded");
    assert_eq!(said["voxline.transport"], "websocket");
    assert_eq!(said["voxline.turn"], "1");
    add_up(&spans);
    let inference = spans.iter().find(|span| span.name == "inference").unwrap();
    assert_eq!(inference.kind(), SpanKind::Client);
    let said = attributes(&inference.attributes);
    assert!(said.contains_key("gen_ai.response.time_to_first_chunk"));

    let told = format!("{spans:?}");
    assert!(!told.contains("transcript") && !told.contains(BEARER));
    client.socket.close(None).await.unwrap();
    relay.stop();
    relay.stopped().await;
}

#[tokio::test]
async fn a_call_belongs_to_the_trace_of_the_page_that_made_it() {
    let mut collector = Collector::start().await;
    let relay = collector.relay(&[]).await;
    let mut peer = Peer::new(&["oai-events"]).await;
    let answer = reqwest::Client::new()
        .post(relay.url(&format!("/v1/realtime/calls?model={MODEL}")))
        .header("authorization", BEARER)
        .header("content-type", "application/sdp")
        .header("traceparent", TRACEPARENT)
        .body(peer.offer().await)
        .send()
        .await;
    peer.connect(&answer.unwrap().text().await.unwrap()).await;
    let mut pace = pace();
    for (number, packet) in speech::packets(&sound()).into_iter().enumerate() {
        pace.tick().await;
        peer.speak(packet, number as u32 * 960).await;
    }
    let spans = collector.turn().await;
    assert_eq!(hex(&spans[0].parent_span_id), &TRACEPARENT[36..52]);
    assert_eq!(
        attributes(&spans[0].attributes)["voxline.transport"],
        "webrtc"
    );
    add_up(&spans);
}

#[tokio::test]
async fn a_turn_without_a_client_s_trace_begins_one_of_its_own() {
    let mut collector = Collector::start().await;
    let relay = collector.relay(&[]).await;
    let headers = [
        ("authorization", BEARER),
        ("traceparent", "00-malformed-01"),
    ];
    let query = format!("?model={MODEL}");
    let mut client = relay.connect_with(&query, &headers).await.unwrap();
    client.event_of("session.created").await;
    say_something(&mut client).await;
    let spans = collector.turn().await;
    assert!(spans[0].parent_span_id.is_empty());
    assert!(spans[0].trace_id.iter().any(|byte| *byte != 0));
    assert_eq!(spans[0].flags & 0x200, 0, "no other program's");
    add_up(&spans);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_no_words() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let relay = Relay::start(&[("otlp.endpoint", &address), ("sim.agent", "tone")]).await;
    let mut client = relay.connect().await;
    client.event_of("session.created").await;
    say_something(&mut client).await;
    client.event_of("response.done").await;
    client.socket.close(None).await.unwrap();
    relay.until("voxline_sessions", 0).await;
    relay.stop();
    relay.stopped().await;
}

/// Asserts that the hops follow each other without a gap, and come to the turn.
fn add_up(spans: &[Span]) {
    let [turn, hops @ ..] = spans else {
        panic!("no spans");
    };
    let mut at = turn.start_time_unix_nano;
    let mut order = Hop::ALL.map(Hop::name).into_iter();
    for hop in hops {
        assert_eq!(hop.trace_id, turn.trace_id);
        assert_eq!(hop.parent_span_id, turn.span_id);
        assert!(order.any(|name| name == hop.name), "{} in order", hop.name);
        assert_eq!(hop.start_time_unix_nano, at, "{}", hop.name);
        at = hop.end_time_unix_nano;
    }
    assert!(hops.len() >= 4, "{hops:?}");
    let apart = at.abs_diff(turn.end_time_unix_nano);
    assert!(apart <= 2_000_000, "{apart} ns");
}

/// Takes spans.
struct Collector {
    address: String,
    told: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    _tasks: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = mpsc::unbounded_channel();
        let take = async move |headers: HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            assert_eq!(headers["api-key"], "sesame, open");
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            tell.send(request).unwrap();
        };
        let routes = Router::new().route("/v1/traces", post(take));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            address,
            told,
            _tasks: tasks,
        }
    }

    async fn relay(&self, settings: &[(&'static str, &str)]) -> Relay {
        let own = [
            ("otlp.endpoint", self.address.as_str()),
            ("otlp.headers", "api-key=sesame%2C%20open"),
            ("sim.agent", "tone"),
        ];
        let all: Vec<_> = own.into_iter().chain(settings.iter().copied()).collect();
        Relay::start(&all).await
    }

    /// Waits for the next turns, and returns the spans of the first.
    async fn turn(&mut self) -> Vec<Span> {
        let request = timeout(PATIENCE, self.told.recv()).await;
        let request = request.expect("a turn is told").unwrap();
        let resource = request.resource_spans.into_iter().next().unwrap();
        let whose = resource.resource.unwrap().attributes;
        assert_eq!(attributes(&whose)["service.name"], "voxline");
        let spans = resource.scope_spans.into_iter().next().unwrap().spans;
        let trace = spans[0].clone();
        let turn = spans
            .into_iter()
            .filter(|span| span.span_id == trace.span_id || span.parent_span_id == trace.span_id);
        turn.collect()
    }
}

/// Says a sentence, as fast as a person does.
pub(crate) async fn say_something(client: &mut Client) {
    let mut pace = pace();
    for frame in sound().chunks(480) {
        pace.tick().await;
        let bytes: Vec<u8> = frame
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        let audio = BASE64_STANDARD.encode(bytes);
        client
            .send(json!({"type": "input_audio_buffer.append", "audio": audio}))
            .await;
    }
}

/// Speech, and then silence in which its end is heard.
fn sound() -> Vec<i16> {
    let mut sound = speech::speech();
    sound.truncate(24_000 * 3 / 2);
    sound.resize(24_000 * 3, 0);
    sound
}

fn pace() -> tokio::time::Interval {
    let mut pace = interval(Duration::from_millis(20));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    pace
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |pair: &KeyValue| match pair.value.clone().unwrap().value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        _ => panic!("{pair:?}"),
    };
    let pairs = pairs.iter();
    pairs.map(|pair| (pair.key.as_str(), text(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
