//! Web pages: whose may use the relay, and what they may read.

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Error;

use crate::harness::{BEARER, MODEL, Relay};

const CALLS: &str = "/v1/realtime/calls";

#[tokio::test]
async fn a_foreign_page_is_refused_before_anything_else() {
    let relay = Relay::start(&[]).await;
    for (method, path) in [
        (Method::POST, CALLS),
        (Method::POST, "/v1/realtime/client_secrets"),
        (Method::GET, "/.well-known/jwks.json"),
        (Method::GET, "/healthz"),
        (Method::GET, "/"),
        (Method::OPTIONS, CALLS),
        (Method::GET, "/nothing"),
    ] {
        for origin in [
            "https://app.example",
            "null",
            "http://localhost.example",
            "nonsense",
        ] {
            let request = Client::new().request(method.clone(), relay.url(path));
            let request = request
                .header("origin", origin)
                .header("authorization", BEARER)
                .header("access-control-request-method", "POST");
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path} {origin}");
            assert_eq!(allowing(&answer), Vec::<String>::new(), "{path} {origin}");
            assert!(varies(&answer));
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["error"]["code"], "origin_not_allowed");
        }
    }
}

#[tokio::test]
async fn a_foreign_page_gets_no_websocket() {
    let relay = Relay::start(&[]).await;
    let query = format!("?model={MODEL}");
    let headers = [("authorization", BEARER), ("origin", "https://app.example")];
    match relay.connect_with(&query, &headers).await {
        Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 403),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
    let headers = [
        ("authorization", BEARER),
        ("origin", "http://localhost:5173"),
    ];
    let mut client = relay.connect_with(&query, &headers).await.unwrap();
    client.event_of("session.created").await;
}

#[tokio::test]
async fn two_origins_are_nobody_s() {
    let relay = Relay::start(&[]).await;
    let request = Client::new().get(relay.url("/healthz"));
    let request = request.header("origin", "http://localhost");
    let answer = request.header("origin", "http://localhost").send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_page_from_this_machine_may_use_a_relay_that_listens_on_loopback() {
    let relay = Relay::start(&[]).await;
    for origin in [
        "http://localhost:5173",
        "https://127.0.0.1",
        "http://[::1]:3000",
    ] {
        let answer = preflight(&relay, origin, "authorization,content-type").await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.headers()["access-control-allow-origin"], origin);
        assert!(varies(&answer));
    }
}

#[tokio::test]
async fn listed_sites_may_use_the_relay_and_others_not() {
    let relay = Relay::start(&[("origins", "https://app.example")]).await;
    let ask = async |origin: &str| preflight(&relay, origin, "authorization").await.status();
    assert_eq!(ask("https://app.example").await, StatusCode::NO_CONTENT);
    assert_eq!(ask("http://localhost:5173").await, StatusCode::FORBIDDEN);
    let own = format!("http://{}", relay.address);
    assert_eq!(
        ask(&own).await,
        StatusCode::NO_CONTENT,
        "its own pages always may"
    );
}

#[tokio::test]
async fn a_star_lets_everybody_in() {
    let relay = Relay::start(&[("origins", "*")]).await;
    for origin in ["https://app.example", "null"] {
        let answer = preflight(&relay, origin, "authorization").await;
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    }
}

#[tokio::test]
async fn pages_may_send_what_openai_s_clients_send() {
    let relay = Relay::start(&[]).await;
    let asked = "authorization,content-type,x-openai-agents-sdk,x-stainless-lang,\
                 X-Stainless-Retry-Count,openai-organization,voxline-device,x-other";
    let answer = preflight(&relay, "http://localhost:1", asked).await;
    let allowed = answer.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap();
    let allowed: Vec<_> = allowed.split(", ").map(str::to_lowercase).collect();
    for name in asked.split(',').map(str::to_lowercase) {
        assert_eq!(
            allowed.contains(&name),
            name != "x-other",
            "{name}: {allowed:?}"
        );
    }
    let methods = answer.headers()["access-control-allow-methods"]
        .to_str()
        .unwrap();
    assert!(
        ["GET", "POST", "PATCH", "DELETE"]
            .iter()
            .all(|method| methods.contains(method))
    );
}

#[tokio::test]
async fn an_allowed_page_may_read_where_its_call_is_and_why_it_failed() {
    let relay = Relay::start(&[]).await;
    let request = Client::new()
        .post(relay.url(CALLS))
        .header("origin", "http://localhost:1");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer.headers()["access-control-allow-origin"],
        "http://localhost:1"
    );
    let exposed = answer.headers()["access-control-expose-headers"]
        .to_str()
        .unwrap();
    for name in ["location", "retry-after", "x-request-id", "etag", "link"] {
        assert!(
            exposed.split(", ").any(|exposed| exposed == name),
            "{name}: {exposed}"
        );
    }
}

#[tokio::test]
async fn pages_and_figures_are_never_read_across_origins() {
    let relay = Relay::start(&[("origins", "*")]).await;
    for path in ["/", "/metrics", "/nothing"] {
        let request = Client::new().get(relay.url(path));
        let answer = request.header("origin", "https://app.example").send().await;
        assert_eq!(allowing(&answer.unwrap()), Vec::<String>::new(), "{path}");
    }
}

#[tokio::test]
async fn whoever_is_no_page_is_not_asked_where_it_is_from() {
    let relay = Relay::start(&[]).await;
    let answer = Client::new().post(relay.url(CALLS)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(allowing(&answer), Vec::<String>::new());
    assert!(varies(&answer), "a cache may hold it for a page");
}

async fn preflight(relay: &Relay, origin: &str, headers: &str) -> Response {
    let request = Client::new().request(Method::OPTIONS, relay.url(CALLS));
    let request = request
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", headers);
    request.send().await.unwrap()
}

/// The headers that would let a page of another origin do or read something.
fn allowing(answer: &Response) -> Vec<String> {
    let names = answer.headers().keys().map(|name| name.as_str().to_owned());
    names
        .filter(|name| name.starts_with("access-control-"))
        .collect()
}

fn varies(answer: &Response) -> bool {
    let varies = answer.headers().get_all("vary").into_iter();
    varies
        .into_iter()
        .any(|by| by.to_str().unwrap().eq_ignore_ascii_case("origin"))
}
