//! Barge-in over WebSocket, where the client owns playback.

use std::time::Duration;

use serde_json::{Value, json};
use voxline::sim::Settings;

use crate::support::{Client, Provider, fast, slow, speech};

const TAIL: [&str; 7] = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
];

#[tokio::test]
async fn speech_cuts_the_response_that_is_being_made() {
    let provider = Provider::start(slow());
    let mut client = provider.client().await;
    client.patient().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.output_audio.delta").await;
    client.append(&speech()).await;
    client.until("input_audio_buffer.speech_started").await;
    let tail = tail(&mut client).await;
    let done = &tail[5]["response"];
    assert_eq!(done["status"], "cancelled");
    let details = json!({"type": "cancelled", "reason": "turn_detected"});
    assert_eq!(done["status_details"], details);
    assert_eq!(done["output"][0]["status"], "incomplete");
    let said: String = client
        .seen
        .iter()
        .filter(|event| event["type"] == "response.output_audio_transcript.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(tail[1]["transcript"], said);
    assert_eq!(done["output"][0]["content"][0]["transcript"], said);
    assert!(done["usage"]["output_token_details"]["audio_tokens"].as_u64() > Some(0));
    client.expect("input_audio_buffer.speech_stopped").await;
    client.until("response.created").await;
}

#[tokio::test]
async fn a_response_that_has_said_nothing_is_done_alone() {
    let provider = Provider::start(Settings {
        first_audio: Duration::from_secs(60),
        ..fast()
    });
    let mut client = provider.client().await;
    client.patient().await;
    client.send(json!({"type": "response.create"})).await;
    client.expect("response.created").await;
    client.append(&speech()).await;
    client.expect("input_audio_buffer.speech_started").await;
    let done = client.expect("response.done").await;
    assert_eq!(done["response"]["status"], "cancelled");
    assert_eq!(done["response"]["output"], json!([]));
    assert_eq!(done["response"]["usage"]["total_tokens"], 0);
}

#[tokio::test]
async fn a_response_that_is_complete_is_not_cancelled() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.patient().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("rate_limits.updated").await;
    client.append(&speech()).await;
    client.expect("input_audio_buffer.speech_started").await;
    client.expect("input_audio_buffer.speech_stopped").await;
}

#[tokio::test]
async fn without_interrupt_response_it_speaks_on() {
    let provider = Provider::start(slow());
    let mut client = provider.client().await;
    let detection = json!({"type": "server_vad", "silence_duration_ms": 500,
        "interrupt_response": false, "create_response": false});
    client
        .update(json!({"audio": {"input": {"turn_detection": detection}}}))
        .await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.output_audio.delta").await;
    client.append(&speech()).await;
    client.until("input_audio_buffer.committed").await;
    client.until("response.output_audio.delta").await;
    assert!(!client.kinds().contains(&"response.done".to_owned()));
    client.send(json!({"type": "response.cancel"})).await;
    client.until("response.done").await;
}

#[tokio::test]
async fn a_client_may_cancel_and_an_item_may_be_truncated_while_it_is_spoken() {
    let provider = Provider::start(slow());
    let mut client = provider.client().await;
    client.send(json!({"type": "response.create"})).await;
    let delta = client.until("response.output_audio.delta").await;
    client
        .send(
            json!({"type": "conversation.item.truncate", "item_id": delta["item_id"],
            "content_index": 0, "audio_end_ms": 40}),
        )
        .await;
    client.until("conversation.item.truncated").await;
    client.send(json!({"type": "response.cancel"})).await;
    client.seen.clear();
    let tail = tail_after_deltas(&mut client).await;
    let details = &tail[5]["response"]["status_details"];
    assert_eq!(details["reason"], "client_cancelled");
    let content = &tail[3]["item"]["content"][0];
    assert!(content.get("transcript").is_none(), "{content}");
    let error = client.refused(json!({"type": "response.cancel"})).await;
    assert_eq!(error["code"], "response_cancel_not_active");
    assert_eq!(
        error["message"],
        "Cancellation failed: no active response found"
    );
}

async fn tail(client: &mut Client) -> Vec<Value> {
    let mut tail = Vec::new();
    for kind in TAIL {
        tail.push(client.expect(kind).await);
    }
    tail
}

async fn tail_after_deltas(client: &mut Client) -> Vec<Value> {
    let mut events = vec![client.until(TAIL[0]).await];
    for kind in &TAIL[1..] {
        events.push(client.expect(kind).await);
    }
    events
}
