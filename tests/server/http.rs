//! Plain HTTP: health, pages, and how requests fail.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::harness::{KEY, PATIENCE, Relay};

#[tokio::test]
async fn a_running_relay_is_healthy_and_ready() {
    let relay = Relay::start(&[]).await;
    for path in ["/healthz", "/readyz"] {
        let answer = reqwest::get(relay.url(path)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    let metrics = reqwest::get(relay.url("/metrics")).await.unwrap();
    let page = metrics.text().await.unwrap();
    assert!(page.contains("# TYPE voxline_hop_seconds histogram\n"));
    assert!(page.contains("voxline_sessions 0\n"));
}

#[tokio::test]
async fn the_control_of_the_embedded_provider_is_not_on_the_relay_s_port() {
    let relay = Relay::start(&[]).await;
    for (method, path) in [
        (Method::GET, "/sim/sessions"),
        (Method::POST, "/sim/faults"),
    ] {
        for path in [path, &format!("/v1{path}")] {
            let request = Client::new().request(method.clone(), relay.url(path));
            let answer = request.bearer_auth(KEY).send().await.unwrap();
            assert_eq!(answer.status(), 404, "{path}");
        }
    }
    // In this process the provider can be reached all the same.
    assert!(relay.sim.sessions().await.is_empty());
}

#[tokio::test]
async fn every_failed_request_has_an_id_and_openai_s_shape() {
    let relay = Relay::start(&[]).await;
    for (method, path, status, code) in [
        (Method::GET, "/v1/nothing", 404, "unknown_url"),
        (Method::POST, "/nothing", 404, "unknown_url"),
        (Method::POST, "/", 405, "method_not_supported"),
        (Method::POST, "/healthz", 405, "method_not_supported"),
        (
            Method::GET,
            "/v1/realtime/calls",
            405,
            "method_not_supported",
        ),
        (Method::GET, "/v1/realtime", 426, "upgrade_required"),
        (Method::POST, "/v1/realtime/calls", 401, "invalid_api_key"),
        (
            Method::DELETE,
            "/v1/realtime/calls/rtc_1",
            401,
            "invalid_api_key",
        ),
    ] {
        let request = Client::new().request(method, relay.url(path));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let id = answer.headers()["x-request-id"].to_str().unwrap();
        assert!(id.starts_with("req_"), "{path}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], code, "{path}: {body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(body["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn a_page_may_load_nothing_from_elsewhere() {
    let relay = Relay::start(&[]).await;
    for path in ["/", "/dashboard"] {
        let answer = reqwest::get(relay.url(path)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with("text/html"));
        assert!(header("content-security-policy").starts_with("default-src 'self'"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
        let page = answer.text().await.unwrap();
        assert!(
            !page.contains("style=") && !page.contains("<style"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn only_a_browser_on_this_machine_is_given_the_development_key() {
    let relay = Relay::start(&[("api_key", "")]).await;
    let page = async |host: &str| {
        let request = Client::new().get(relay.url("/")).header("host", host);
        request.send().await.unwrap().text().await.unwrap()
    };
    assert!(!page("rebound.example").await.contains("vx_dev_"));
    assert!(!page("192.168.0.7:8080").await.contains("vx_dev_"));
    let is_built = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("web-demo/dist/index.html")
        .exists();
    let ours = page("localhost:8080").await;
    assert_eq!(ours.contains("content=\"vx_dev_"), is_built, "{ours}");
    assert_eq!(ours.contains("content=\"embedded\""), is_built, "{ours}");
}

#[tokio::test]
async fn a_configured_key_is_in_no_page() {
    let relay = Relay::start(&[]).await;
    let page = reqwest::get(relay.url("/")).await.unwrap();
    assert!(!page.text().await.unwrap().contains(KEY));
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let relay = Relay::start(&[("limits.request_time", "200ms")]).await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    end.expect("the connection ends").unwrap();
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_its_turn() {
    let relay = Relay::start(&[("limits.connections", "1")]).await;
    let first = TcpStream::connect(relay.address).await.unwrap();
    let mut second = TcpStream::connect(relay.address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    second.write_all(request).await.unwrap();
    let mut answer = [0; 12];
    let early = timeout(Duration::from_millis(200), second.read_exact(&mut answer)).await;
    assert!(early.is_err(), "it was served beside the first");
    drop(first);
    let read = timeout(PATIENCE, second.read_exact(&mut answer)).await;
    read.expect("its turn comes").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_loses_its_connection() {
    let limits = [("limits.connections", "1"), ("limits.write_time", "200ms")];
    let relay = Relay::start(&limits).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(relay.address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    let asking = async { while stream.write_all(&request).await.is_ok() {} };
    let ended = timeout(PATIENCE, asking).await;
    ended.expect("the connection ends");
    let answer = timeout(PATIENCE, reqwest::get(relay.url("/healthz"))).await;
    let answer = answer.expect("the next one is served").unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let relay = Relay::start(&[("limits.request_time", "200ms")]).await;
    let answer = raw(
        &relay,
        "POST /v1/realtime/calls HTTP/1.1\r\nhost: x\r\nauthorization: Bearer relay-test-key\r\n\
         content-type: application/sdp\r\ncontent-length: 100\r\n\r\nv=0",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
}

#[tokio::test]
async fn a_key_is_judged_before_the_body_is_read() {
    let relay = Relay::start(&[]).await;
    // The body never comes.
    let answer = raw(&relay, UNWANTED).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
}

#[tokio::test]
async fn a_refusal_reaches_a_client_whose_body_comes_after_it() {
    let relay = Relay::start(&[]).await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(UNWANTED.as_bytes()).await.unwrap();
    stream.peek(&mut [0]).await.unwrap();
    for _ in 0..10 {
        stream.write_all(&[b'x'; 10]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    let reading = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    reading.expect("the connection ends").unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_nobody_reads_keeps_its_connection_only_for_a_while() {
    let relay = Relay::start(&[("limits.connections", "1")]).await;
    let mut stays = TcpStream::connect(relay.address).await.unwrap();
    stays.write_all(UNWANTED.as_bytes()).await.unwrap();
    stays.peek(&mut [0]).await.unwrap();
    let next = timeout(PATIENCE, reqwest::get(relay.url("/healthz"))).await;
    let status = next.expect("its turn comes").unwrap().status();
    assert_eq!(status, StatusCode::OK);
}

/// The head of a request that is refused before its body is read.
const UNWANTED: &str = "POST /v1/realtime/calls HTTP/1.1\r\nhost: x\r\n\
     authorization: Bearer wrong-key\r\ncontent-type: application/sdp\r\n\
     content-length: 100\r\n\r\n";

/// Sends a request as it is and returns the head of the answer and what comes with it.
async fn raw(relay: &Relay, request: &str) -> String {
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while !String::from_utf8_lossy(&answer).contains("\"error\"") {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "it ended early");
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer comes");
    String::from_utf8(answer).unwrap()
}
