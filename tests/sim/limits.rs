//! Every session, frame and queue has a bound; what happens there is told.

use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Error, Message};
use voxline::sim::Settings;

use crate::support::{Provider, fast, silence, slow};

#[tokio::test]
async fn a_session_ends_at_its_maximum_duration() {
    let provider = Provider::start(Settings {
        max_session: Duration::from_millis(50),
        ..fast()
    });
    let mut client = provider.client().await;
    let error = client.expect("error").await;
    assert_eq!(error["error"]["code"], "session_expired");
    let frame = client.closed().await;
    assert_eq!(u16::from(frame.code), 1001);
    let expected = "Your session hit the maximum duration of 50 milliseconds.";
    assert_eq!(frame.reason, expected);
}

#[tokio::test]
async fn one_session_too_many_is_refused_until_another_ends() {
    let provider = Provider::start(Settings {
        max_sessions: 1,
        ..fast()
    });
    let first = provider.client().await;
    let request = || provider.request("?model=gpt-realtime-2.1");
    match connect_async(request()).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
    drop(first);
    while connect_async(request()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_event_over_the_limit_ends_its_session_and_no_other() {
    let provider = Provider::start(fast());
    let mut other = provider.client().await;
    let mut client = provider.client().await;
    let audio = "A".repeat((15 << 20) + 4);
    let error = client
        .refused(json!({"type": "input_audio_buffer.append", "audio": audio}))
        .await;
    assert_eq!(error["param"], "audio");
    let _ = client.try_send(Message::text("x".repeat(17 << 20))).await;
    // The close may be lost, since the client is still writing.
    while client.receive().await.is_ok() {}
    other.update(json!({})).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.manual().await;
    client.append(&silence(Duration::from_secs(10))).await;
    client
        .send(json!({"type": "input_audio_buffer.commit"}))
        .await;
    let item_id = client.until("conversation.item.added").await["item"]["id"].take();
    for _ in 0..100 {
        client
            .send(json!({"type": "conversation.item.retrieve", "item_id": item_id}))
            .await;
    }
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(60)).await;
    tokio::time::resume();
    let mut retrieved = 0;
    while client.receive().await.is_ok() {
        retrieved += 1;
    }
    assert!(retrieved < 100, "{retrieved}");
}

#[tokio::test]
async fn shutting_down_tells_the_clients_and_ends_soon() {
    let provider = Provider::start(slow());
    let mut client = provider.client().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.output_audio.delta").await;
    let silent = provider.client().await;
    provider.cancel.cancel();
    assert_eq!(u16::from(client.closed().await.code), 1001);
    provider.ended().await;
    drop(silent);
}
