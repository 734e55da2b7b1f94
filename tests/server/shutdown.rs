//! How a relay stops.

use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{BEARER, Heard, KEY, MODEL, Relay};

#[tokio::test]
async fn a_relay_without_sessions_stops_at_once() {
    let relay = Relay::start(&[("limits.drain", "1h")]).await;
    reqwest::get(relay.url("/healthz")).await.unwrap();
    relay.stop();
    relay.stopped().await;
}

#[tokio::test]
async fn sessions_are_told_and_closed_with_a_cue_to_come_again() {
    let relay = Relay::start(&[]).await;
    let offer = format!("voxline.v1, openai-insecure-api-key.{KEY}");
    let headers = [("sec-websocket-protocol", offer.as_str())];
    let query = format!("?model={MODEL}");
    let mut client = relay.connect_with(&query, &headers).await.unwrap();
    client.event_of("session.created").await;
    relay.stop();
    let closing = client.event_of("voxline.closing").await;
    assert_eq!(closing["reason"], "shutdown");
    assert_eq!(client.close().await.0, 1012);
    relay.stopped().await;
}

#[tokio::test]
async fn while_a_conversation_ends_nobody_new_is_let_in() {
    let relay = Relay::start(&[("limits.drain", "1h")]).await;
    let mut talking = relay.connect().await;
    talking.send(json!({"type": "response.create"})).await;
    talking.event_of("response.output_audio.delta").await;
    relay.stop();
    while reqwest::get(relay.url("/readyz")).await.unwrap().status() != 503 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        reqwest::get(relay.url("/healthz")).await.unwrap().status(),
        StatusCode::OK
    );
    let call = reqwest::Client::new()
        .post(relay.url("/v1/realtime/calls"))
        .header("authorization", BEARER)
        .send()
        .await
        .unwrap();
    assert_eq!(call.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(call.headers().contains_key("retry-after"));
    // The answer that is sounding is heard to its end.
    let done = talking.event_of("response.done").await;
    assert_eq!(done["response"]["status"], "completed");
    assert_eq!(talking.close().await.0, 1012);
    relay.stopped().await;
}

#[tokio::test]
async fn at_the_drain_limit_conversations_are_closed() {
    let relay = Relay::start(&[("limits.drain", "200ms")]).await;
    let mut talking = relay.connect().await;
    talking.send(json!({"type": "response.create"})).await;
    talking.event_of("response.output_audio.delta").await;
    relay.stop();
    loop {
        match talking.hear().await {
            Heard::Event(event) => assert_ne!(event["type"], "response.done"),
            Heard::Close(code, _) => {
                assert_eq!(code, 1012);
                break;
            }
        }
    }
    relay.stopped().await;
}
