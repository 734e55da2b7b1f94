//! Calls whose sound goes straight between the client and the provider.

use axum::Router;
use axum::http::StatusCode as Status;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::calling::{call, heard};
use crate::harness::{Heard, KEY, Relay};

const DIRECT: &str = "?media=direct";

#[tokio::test]
async fn a_device_talks_to_the_provider_and_the_relay_follows() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let (mut peer, id) = call(&relay, &secret, DIRECT).await;
    assert!(id.starts_with("rtc_"), "{id}");
    let mut server = relay.connect_as(KEY, &format!("?call_id={id}")).await;
    assert_eq!(server.event().await["type"], "session.created");
    heard(&mut peer, "session.created").await;

    peer.send("oai-events", r#"{"type":"response.create"}"#)
        .await;
    peer.hear().await;
    for kind in ["response.created", "output_audio_buffer.started"] {
        let [theirs, ours] = [heard(&mut peer, kind).await, server.event_of(kind).await];
        assert_eq!(theirs["response_id"], ours["response_id"], "{kind}");
    }
    server
        .send(json!({"type": "output_audio_buffer.clear"}))
        .await;
    heard(&mut peer, "output_audio_buffer.cleared").await;
    let done = heard(&mut peer, "response.done").await;
    assert_eq!(
        server.event_of("response.done").await["response"],
        done["response"]
    );
    relay.until("voxline_sessions", 1).await;
    assert!(
        relay
            .metric("voxline_provider_tokens_total{kind=\"output_audio\"}")
            .await
            > 0
    );
}

#[tokio::test]
async fn a_call_that_is_hung_up_here_ends_there() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let (mut peer, id) = call(&relay, &secret, DIRECT).await;
    heard(&mut peer, "session.created").await;
    let answer = reqwest::Client::new()
        .post(relay.url(&format!("/v1/realtime/calls/{id}/hangup")))
        .bearer_auth(&secret)
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    assert_eq!(peer.closed.recv().await.as_deref(), Some("oai-events"));
    relay.until("voxline_sessions", 0).await;
}

#[tokio::test]
async fn a_call_that_ends_there_ends_here() {
    let relay = Relay::start(&[]).await;
    let (mut peer, id) = call(&relay, KEY, DIRECT).await;
    heard(&mut peer, "session.created").await;
    let mut server = relay.connect_as(KEY, &format!("?call_id={id}")).await;
    server.event_of("session.created").await;
    peer.hang_up().await;
    server.close().await;
    relay.until("voxline_sessions", 0).await;
    let mut late = relay.connect_as(KEY, &format!("?call_id={id}")).await;
    assert_eq!(late.event().await["error"]["code"], "call_not_found");
}

#[tokio::test]
async fn its_own_client_joins_for_what_is_the_relay_s() {
    let relay = Relay::start(&[]).await;
    let [anna, bert] = [relay.secret_of("anna").await, relay.secret_of("bert").await];
    let (_peer, id) = call(&relay, &anna, DIRECT).await;
    let query = format!("?call_id={id}");
    let mut foreign = relay.connect_extended(&bert, &query).await;
    assert_eq!(foreign.event().await["error"]["code"], "call_not_found");
    let mut own = relay.connect_extended(&anna, &query).await;
    own.event_of("session.created").await;
    own.event_of("voxline.state").await;
    let session = own.event_of("voxline.session").await;
    assert_eq!(session["session_id"], id.as_str());
    // It may go and come as it likes: the call is elsewhere.
    drop(own);
    let mut own = relay.connect_extended(&anna, &query).await;
    own.event_of("session.created").await;
    relay.stop();
    let mut closing = None;
    loop {
        match own.hear().await {
            Heard::Event(event) if event["type"] == "voxline.closing" => closing = Some(event),
            Heard::Event(_) => {}
            Heard::Close(code, _) => {
                assert_eq!(code, 1012);
                break;
            }
        }
    }
    assert_eq!(closing.unwrap()["reason"], "shutdown");
}

#[tokio::test]
async fn the_mode_is_a_setting_and_a_request_may_choose_the_other() {
    let relay = Relay::start(&[("media.mode", "direct")]).await;
    for (query, patched) in [("", 405), ("?media=relay", 428)] {
        let (_peer, id) = call(&relay, KEY, query).await;
        let answer = reqwest::Client::new()
            .patch(relay.url(&format!("/v1/realtime/calls/{id}")))
            .bearer_auth(KEY)
            .header("content-type", "application/trickle-ice-sdpfrag")
            .send()
            .await;
        assert_eq!(answer.unwrap().status(), patched, "{query}");
    }
    let answer = relay.offer(KEY, "?media=other", "v=0\r\n").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["param"], "media");
}

#[tokio::test]
async fn an_offer_that_the_provider_refuses_is_refused_here() {
    let relay = Relay::start(&[("limits.sessions", "1")]).await;
    for _ in 0..2 {
        let answer = relay.offer(KEY, DIRECT, "hello").await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["code"].is_string(), "{body}");
        relay.until("voxline_sessions", 0).await;
    }
}

#[tokio::test]
async fn a_provider_without_calls_is_named_as_such() {
    let router = Router::new().fallback(async || Status::NOT_FOUND);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut provider = JoinSet::new();
    provider.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let relay = Relay::start(&[("openai.base_url", &upstream)]).await;
    let answer = relay.offer(KEY, DIRECT, "v=0\r\n").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "media_mode_not_supported", "{body}");
    assert_eq!(body["error"]["param"], "media");
}
