//! What the dashboard is fed with: who may see it, and what becomes of many who do.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use crate::harness::{KEY, PATIENCE, Relay};
use crate::latency::answered;

const ADMIN_KEY: &str = "admin-test-key";
const PATHS: [&str; 3] = [
    "/admin/latency",
    "/admin/latency/events",
    "/admin/latency/histograms/end_to_end",
];

/// As many as may look at one time.
const VIEWERS: usize = 16;

#[tokio::test]
async fn whoever_sits_at_the_machine_sees_the_figures_without_a_key() {
    let relay = Relay::start(&[("admin_key", ADMIN_KEY)]).await;
    for path in PATHS {
        let port = relay.address.port();
        for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
            let request = get(&relay, path).header("host", host.as_str());
            assert_eq!(status(request).await, StatusCode::OK, "{path} {host}");
            let own = get(&relay, path)
                .header("host", host.as_str())
                .header("origin", format!("http://{host}"))
                .header("sec-fetch-site", "same-origin");
            assert_eq!(status(own).await, StatusCode::OK, "{path} {host}");
        }
    }
}

#[tokio::test]
async fn whatever_may_come_from_elsewhere_needs_the_admin_key() {
    let relay = Relay::start(&[("admin_key", ADMIN_KEY), ("origins", "*")]).await;
    for path in PATHS {
        for (name, value) in [
            ("host", "rebound.example"),
            ("host", "192.168.0.7:8080"),
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "localhost"),
            ("x-real-ip", "127.0.0.1"),
            ("via", "1.1 proxy"),
            ("origin", "https://app.example"),
            ("origin", "http://localhost:5173"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let ask = || get(&relay, path).header(name, value);
            let refused = ask().send().await.unwrap();
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path} {name}");
            assert_eq!(code(refused).await, "invalid_api_key");
            let wrong = ask().bearer_auth(KEY);
            assert_eq!(
                status(wrong).await,
                StatusCode::UNAUTHORIZED,
                "{path} {name}"
            );
            let right = ask().bearer_auth(ADMIN_KEY);
            assert_eq!(status(right).await, StatusCode::OK, "{path} {name}");
        }
    }
}

#[tokio::test]
async fn a_relay_that_others_can_reach_shows_its_figures_for_the_admin_key_only() {
    let listen = ("listen", "0.0.0.0:0");
    let relay = Relay::start(&[listen, ("admin_key", ADMIN_KEY)]).await;
    let keyless = Relay::start(&[listen]).await;
    for path in PATHS {
        let refused = status(get(&relay, path)).await;
        assert_eq!(refused, StatusCode::UNAUTHORIZED, "{path}");
        let shown = get(&relay, path).bearer_auth(ADMIN_KEY);
        assert_eq!(status(shown).await, StatusCode::OK, "{path}");
        let answer = get(&keyless, path).bearer_auth(ADMIN_KEY).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(code(answer).await, "admin_disabled");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_not_let_in_by_a_listed_origin_either() {
    let origin = "https://app.example";
    let relay = Relay::start(&[("admin_key", ADMIN_KEY), ("origins", origin)]).await;
    for path in PATHS {
        let answer = get(&relay, path).header("origin", origin).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let allows = answer.headers().contains_key("access-control-allow-origin");
        assert!(!allows, "{path}");
    }
}

#[tokio::test]
async fn what_is_shown_is_what_was_asked_for() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect().await;
    client.event_of("session.created").await;
    let query = "?window=1h&provider=embedded&transport=websocket";
    let shown = snapshot(&relay, query).await;
    assert_eq!(shown["window"], "1h");
    assert_eq!(shown["provider"], "embedded");
    assert_eq!(shown["transport"], "websocket");
    assert_eq!(shown["budget"]["limits_ms"]["end_to_end"], 1500.0);
    assert_eq!(shown["culprit"], Value::Null);
    assert_eq!(shown["series"], Value::Array(vec![]));
    assert_eq!(shown["sessions"][0]["transport"], "websocket");
    assert_eq!(shown["sessions"][0]["link"], "up");
    assert_eq!(shown["sessions_more"], 0);
    assert_eq!(shown["breakers"][0]["state"], "closed");
    assert_eq!(shown["counters"]["rotations_failed"], 0);
    let names = shown["measures"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|one| one["name"].as_str().unwrap()).collect();
    let hops = ["capture", "uplink", "relay_in", "silence_wait", "inference"];
    assert_eq!(names[..5], hops);
}

#[tokio::test]
async fn an_answered_turn_is_shown_and_the_hop_to_blame() {
    // Nobody answers within a millisecond.
    let relay = Relay::start(&[("sim.agent", "tone"), ("budget.inference", "1ms")]).await;
    answered(&relay).await;
    let shown = snapshot(&relay, "?transport=webrtc").await;
    assert_eq!(shown["culprit"]["hop"], "inference", "{shown}");
    let turn = &shown["turns"][0];
    assert_eq!(turn["culprit"], "inference");
    assert_eq!(turn["transport"], "webrtc");
    assert!(turn["session"].as_str().unwrap().starts_with("rtc_"));
    let hops = turn["hops_ms"].as_object().unwrap().values();
    let sum: f64 = hops.map(|took| took.as_f64().unwrap()).sum();
    let total = turn["total_ms"].as_f64().unwrap();
    assert!((sum - total).abs() < 2.0, "{sum} of {total}");
    let measure = |name: &str| {
        let mut all = shown["measures"].as_array().unwrap().iter();
        all.find(|one| one["name"] == name).unwrap().clone()
    };
    assert_eq!(measure("end_to_end")["count"], 1);
    assert_eq!(measure("inference")["over"], 1);
    assert_eq!(shown["burn"][0]["over"], 1);
    assert_eq!(shown["transports"], serde_json::json!(["webrtc"]));
    for other in ["?transport=websocket", "?provider=another"] {
        let shown = snapshot(&relay, other).await;
        assert_eq!(shown["turns"], Value::Array(vec![]), "{other}");
        assert_eq!(shown["culprit"], Value::Null, "{other}");
    }
}

#[tokio::test]
async fn a_wish_that_nobody_understands_is_refused_by_name() {
    let relay = Relay::start(&[]).await;
    for path in PATHS {
        for (query, param) in [("window=2m", "window"), ("transport=pigeon", "transport")] {
            let answer = get(&relay, &format!("{path}?{query}")).send().await;
            let answer = answer.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}?{query}");
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["error"]["param"], param);
        }
    }
}

#[tokio::test]
async fn a_viewer_is_told_each_second() {
    let relay = Relay::start(&[]).await;
    let mut viewer = Viewer::look(&relay, "").await;
    let mut at = 0;
    for _ in 0..3 {
        let snapshot = viewer.snapshot().await;
        let now = snapshot["at"].as_u64().unwrap();
        assert!(now > at, "{now} after {at}");
        at = now;
    }
}

#[tokio::test]
async fn only_so_many_look_at_one_time() {
    let relay = Relay::start(&[]).await;
    let mut viewers = vec![];
    for _ in 0..VIEWERS {
        let mut viewer = Viewer::look(&relay, "").await;
        viewer.snapshot().await;
        viewers.push(viewer);
    }
    let refused = get(&relay, PATHS[1]).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(code(refused).await, "too_many_viewers");
    let one_look = status(get(&relay, PATHS[0])).await;
    assert_eq!(one_look, StatusCode::OK, "whoever only looks once may");

    viewers.pop();
    until_there_is_room(&relay).await;
    for viewer in &mut viewers {
        viewer.snapshot().await;
    }
}

#[tokio::test]
async fn nobody_who_looks_holds_up_the_shutdown() {
    let relay = Relay::start(&[("limits.drain", "1h")]).await;
    let mut viewer = Viewer::look(&relay, "").await;
    viewer.snapshot().await;
    relay.stop();
    relay.stopped().await;
    while viewer.next().await.is_some() {}
}

struct Viewer {
    answer: Response,
    heard: String,
}

impl Viewer {
    async fn look(relay: &Relay, query: &str) -> Self {
        let path = format!("{}{query}", PATHS[1]);
        let answer = get(relay, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Self {
            answer,
            heard: String::new(),
        }
    }

    async fn snapshot(&mut self) -> Value {
        loop {
            if let Some((event, rest)) = self.heard.split_once("\n\n") {
                let data = event.strip_prefix("event: snapshot\ndata: ").unwrap();
                let data = serde_json::from_str(data).unwrap();
                self.heard = rest.to_owned();
                return data;
            }
            let more = self.next().await.expect("it goes on");
            self.heard.push_str(&more);
        }
    }

    /// What comes next; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let next = timeout(PATIENCE, self.answer.chunk()).await;
        let next = next.expect("something comes, or it ends").unwrap();
        next.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }
}

/// Waits until this alert fires.
pub(crate) async fn until_it_fires(relay: &Relay, name: &str) {
    let waiting = async {
        loop {
            let shown = snapshot(relay, "").await;
            let mut alerts = shown["alerts"].as_array().unwrap().iter();
            if alerts.any(|alert| alert["name"] == name) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it fires");
}

async fn snapshot(relay: &Relay, query: &str) -> Value {
    let answer = get(relay, &format!("{}{query}", PATHS[0])).send().await;

    answer.unwrap().json().await.unwrap()
}

async fn until_there_is_room(relay: &Relay) {
    let waiting = async {
        while status(get(relay, PATHS[1])).await != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("there is room");
}

fn get(relay: &Relay, path: &str) -> RequestBuilder {
    // Each with a connection of its own, that ends with it.
    let client = Client::builder().pool_max_idle_per_host(0).build();
    client
        .unwrap()
        .get(format!("http://127.0.0.1:{}{path}", relay.address.port()))
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

async fn code(answer: Response) -> String {
    let body: Value = answer.json().await.unwrap();
    body["error"]["code"].as_str().unwrap().to_owned()
}
