//! Against a collector that is a real HTTP server, which answers as it is told.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::core::latency::{Hop, Stretch, Transport};
use crate::core::port::Source;
use crate::otlp::*;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_turn_is_told_with_a_span_for_each_hop() {
    let collector = TestCollector::start(vec![]).await;
    let relay = Telling::start(&collector.settings());
    relay.tell(&turn(1));
    let request = collector.told(1).await.remove(0);

    let [spans] = &request.resource_spans[..] else {
        panic!("{request:?}");
    };
    let resource = spans.resource.as_ref().unwrap();
    let service = resource
        .attributes
        .iter()
        .find(|pair| pair.key == "service.name");
    assert_eq!(format!("{service:?}").matches("the-relay").count(), 1);
    let spans = &spans.scope_spans[0].spans;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names[0], "turn");
    assert_eq!(names[1..], Hop::ALL.map(Hop::name));
    let whole = &spans[0];
    assert!(whole.parent_span_id.is_empty());
    let mut at = whole.start_time_unix_nano;
    for hop in &spans[1..] {
        assert_eq!(hop.trace_id, whole.trace_id);
        assert_eq!(hop.parent_span_id, whole.span_id);
        assert_eq!(hop.start_time_unix_nano, at, "they follow each other");
        assert!(hop.end_time_unix_nano > at);
        at = hop.end_time_unix_nano;
    }
    assert_eq!(at, whole.end_time_unix_nano, "and come to the whole");
    assert_eq!(ids(spans).len(), spans.len());
    assert_eq!(collector.header("api-key"), Some("secret".to_owned()));
    let spans = 1 + Hop::ALL.len();
    relay
        .count(&format!("voxline_otlp_spans_total {spans}\n"))
        .await;
}

#[tokio::test]
async fn a_clients_span_is_the_parent_of_its_turns() {
    let collector = TestCollector::start(vec![]).await;
    let relay = Telling::start(&collector.settings());
    let parent = Parent {
        trace: [7; 16],
        span: [9; 8],
        sampled: true,
        state: "a=1".to_owned(),
    };
    let child = Conversation {
        parent: Some(parent.clone()),
        ..conversation()
    };
    let traces = relay.otlp.traces(child, Budget::default()).unwrap();
    traces(&turn(1));
    traces(&turn(2));
    let spans = spans(&collector.told(1).await);
    assert!(spans.iter().all(|span| span.trace_id == [7; 16]));
    assert!(spans.iter().all(|span| span.trace_state == "a=1"));
    let turns: Vec<_> = spans.iter().filter(|span| span.name == "turn").collect();
    assert_eq!(turns.len(), 2);
    assert!(turns.iter().all(|turn| turn.parent_span_id == [9; 8]));

    let unsampled = Some(Parent {
        sampled: false,
        ..parent
    });
    let child = Conversation {
        parent: unsampled,
        ..conversation()
    };
    let traces = relay.otlp.traces(child, Budget::default());
    assert!(traces.is_none(), "a client that keeps no trace");
}

#[tokio::test]
async fn a_turn_over_the_budget_says_which_hop_is_to_blame() {
    let collector = TestCollector::start(vec![]).await;
    let relay = Telling::start(&collector.settings());
    let mut slow = turn(1);
    slow.hops[Hop::Inference as usize] = Some(Stretch {
        took: Duration::from_millis(1_900),
        source: Source::Reported,
    });
    slow.total = slow.hops.iter().flatten().map(|hop| hop.took).sum();
    relay.tell(&slow);
    let spans = spans(&collector.told(1).await);
    let failed = spans.iter().filter(|span| span.status.is_some());
    let failed: Vec<_> = failed.map(|span| span.name.as_str()).collect();
    assert_eq!(failed, ["turn", "inference"]);
    let [breach] = &spans[0].events[..] else {
        panic!("{:?}", spans[0]);
    };
    assert_eq!(breach.name, "voxline.budget.breach");
    let blamed = format!("{:?}", breach.attributes);
    assert!(
        blamed.contains("\"inference\"") && blamed.contains("1.9"),
        "{blamed}"
    );
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again_when_it_says() {
    let busy = (StatusCode::SERVICE_UNAVAILABLE, Some(1), vec![]);
    let collector = TestCollector::start(vec![busy]).await;
    let relay = Telling::start(&collector.settings());
    let began = clock::now();
    relay.tell(&turn(1));
    let told = collector.told(2).await;
    assert!(clock::now() - began >= Duration::from_secs(1));
    assert_eq!(told[0], told[1]);
    relay.count("voxline_otlp_spans_total 9\n").await;
}

#[tokio::test]
async fn a_collector_that_refuses_is_not_asked_again() {
    let refusal = (StatusCode::BAD_REQUEST, None, vec![]);
    let collector = TestCollector::start(vec![refusal]).await;
    let relay = Telling::start(&collector.settings());
    relay.tell(&turn(1));
    relay
        .count("voxline_otlp_spans_dropped_total{reason=\"refused\"} 9\n")
        .await;
    relay.tell(&turn(2));
    relay.count("voxline_otlp_spans_total 9\n").await;
    assert_eq!(collector.told(2).await.len(), 2);
}

#[tokio::test]
async fn spans_that_a_collector_leaves_out_are_counted() {
    let partial = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 4,
            error_message: "too large".to_owned(),
        }),
    };
    let answer = (StatusCode::OK, None, partial.encode_to_vec());
    let collector = TestCollector::start(vec![answer]).await;
    let relay = Telling::start(&collector.settings());
    relay.tell(&turn(1));
    relay.count("voxline_otlp_spans_total 5\n").await;
    relay
        .count("voxline_otlp_spans_dropped_total{reason=\"refused\"} 4\n")
        .await;
}

#[tokio::test]
async fn a_slow_collector_keeps_nobody_waiting() {
    let collector = TestCollector::start(vec![]).await;
    collector.state.hold.store(true, Ordering::Relaxed);
    let settings = Settings {
        queue: 2,
        ..collector.settings()
    };
    let mut relay = Telling::start(&settings);
    relay.tell(&turn(1));
    collector.told(1).await;
    // Two wait in the queue, and what is beyond is dropped at once.
    for number in 2..=6 {
        relay.tell(&turn(number));
    }
    relay
        .count("voxline_otlp_spans_dropped_total{reason=\"full\"} 27\n")
        .await;
    relay.stop.cancel();
    let stopped = timeout(FAREWELL * 2, relay.tasks.join_next()).await;
    stopped.expect("it stops all the same").unwrap().unwrap();
    relay
        .count("voxline_otlp_spans_dropped_total{reason=\"unreachable\"} 27\n")
        .await;
}

#[tokio::test]
async fn what_is_left_is_told_when_the_relay_stops() {
    let collector = TestCollector::start(vec![]).await;
    let mut relay = Telling::start(&collector.settings());
    for number in 1..=3 {
        relay.tell(&turn(number));
    }
    relay.stop.cancel();
    relay.tasks.join_next().await.unwrap().unwrap();
    assert_eq!(spans(&collector.told(1).await).len(), 27);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_its_spans_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    drop(listener);
    let mut relay = Telling::start(&Settings { url, ..settings() });
    relay.tell(&turn(1));
    relay.stop.cancel();
    relay.tasks.join_next().await.unwrap().unwrap();
    relay
        .count("voxline_otlp_spans_dropped_total{reason=\"unreachable\"} 9\n")
        .await;
}

#[tokio::test]
async fn a_collector_that_sends_elsewhere_is_not_followed() {
    let elsewhere = TestCollector::start(vec![]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let moved = [("location", elsewhere.url.clone())];
    let routes = Router::new().route(
        "/v1/traces",
        post(async move || (StatusCode::TEMPORARY_REDIRECT, moved)),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let relay = Telling::start(&Settings { url, ..settings() });
    relay.tell(&turn(1));
    relay
        .count("voxline_otlp_spans_dropped_total{reason=\"refused\"} 9\n")
        .await;
    assert_eq!(elsewhere.header("api-key"), None, "it has no key of ours");
}

#[test]
fn a_share_of_all_traces_is_kept() {
    let mut last = [0; 16];
    for (byte, share, kept) in [
        (0x00, 1.0, true),
        (0xff, 0.0, false),
        (0x80, 0.5, true),
        (0x7f, 0.5, false),
        (0xe6, 0.1, false),
        (0xe7, 0.1, true),
    ] {
        last[9] = byte;
        assert_eq!(is_sampled(last, share), kept, "{byte} {share}");
    }
}

/// A status, when to come again, and a body.
type Answer = (StatusCode, Option<u64>, Vec<u8>);

struct TestCollector {
    url: String,
    state: Arc<Collected>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Collected {
    /// One after the other; then all is taken.
    answers: Mutex<VecDeque<Answer>>,
    told: Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>,
    hold: AtomicBool,
    changed: Notify,
}

impl TestCollector {
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let state = Arc::new(Collected {
            answers: Mutex::new(answers.into()),
            ..Collected::default()
        });
        let routes = Router::new().route("/v1/traces", post(take));
        let routes = routes.with_state(Arc::clone(&state));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            url,
            state,
            _tasks: tasks,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            url: self.url.clone(),
            ..settings()
        }
    }

    /// Waits for so many requests, and returns all.
    async fn told(&self, requests: usize) -> Vec<ExportTraceServiceRequest> {
        let waiting = async {
            loop {
                let changed = self.state.changed.notified();
                let told: Vec<_> = {
                    let told = self.state.told.lock().unwrap();
                    told.iter().map(|(_, request)| request.clone()).collect()
                };
                if told.len() >= requests {
                    return told;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("it is told")
    }

    fn header(&self, name: &str) -> Option<String> {
        let told = self.state.told.lock().unwrap();
        let value = told.first()?.0.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }
}

async fn take(
    State(state): State<Arc<Collected>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, Vec<u8>) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    state.told.lock().unwrap().push((headers, request));
    state.changed.notify_waiters();
    if state.hold.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let answer = state.answers.lock().unwrap().pop_front();
    let (status, wait, body) = answer.unwrap_or((StatusCode::OK, None, vec![]));
    let mut headers = HeaderMap::new();
    if let Some(wait) = wait {
        headers.insert("retry-after", wait.into());
    }
    (status, headers, body)
}

/// What tells a collector.
struct Telling {
    otlp: Otlp,
    traces: Traces,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Telling {
    fn start(settings: &Settings) -> Self {
        let (otlp, export) = Otlp::open(settings.clone()).unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(export.run(stop.clone()));
        Self {
            traces: otlp.traces(conversation(), Budget::default()).unwrap(),
            otlp,
            stop,
            tasks,
        }
    }

    fn tell(&self, turn: &TurnTrace) {
        (self.traces)(turn);
    }

    /// Waits until the metrics have this line.
    async fn count(&self, line: &str) {
        let waiting = async {
            while !self.otlp.prometheus().contains(line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("no {line}in {}", self.otlp.prometheus()));
    }
}

fn settings() -> Settings {
    let mut headers = HeaderMap::new();
    headers.insert("api-key", "secret".parse().unwrap());
    Settings {
        url: String::new(),
        headers,
        service: "the-relay".to_owned(),
        sampling: 1.0,
        queue: 100,
        timeout: Duration::from_secs(10),
    }
}

fn conversation() -> Conversation {
    Conversation {
        session: "sess_1".into(),
        provider: "openai".to_owned(),
        model: Some("gpt-realtime-2.1".to_owned()),
        server: Some(("api.openai.com".to_owned(), 443)),
        parent: None,
    }
}

fn turn(number: u64) -> TurnTrace {
    let hops = Hop::ALL.map(|hop| {
        Some(Stretch {
            took: Duration::from_millis(10 + hop as u64),
            source: Source::Reported,
        })
    });
    TurnTrace {
        turn: number,
        response: "resp_1".into(),
        transport: Transport::WebRtc,
        began: clock::now() - Duration::from_secs(1),
        hops,
        total: hops.iter().flatten().map(|stretch| stretch.took).sum(),
        uncertainty: Duration::from_millis(1),
    }
}

fn spans(requests: &[ExportTraceServiceRequest]) -> Vec<Span> {
    let resources = requests.iter().flat_map(|request| &request.resource_spans);
    let scopes = resources.flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

fn ids(spans: &[Span]) -> std::collections::BTreeSet<&[u8]> {
    spans.iter().map(|span| span.span_id.as_slice()).collect()
}
