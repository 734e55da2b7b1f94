//! The embedded provider holds a conversation as OpenAI's Realtime API does.

use std::time::Duration;

use crate::support::{Provider, fast, silence, speech};
use serde_json::json;

#[tokio::test]
async fn speech_is_detected_announced_committed_and_answered() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.patient().await;
    let pcm = speech();
    let length = pcm.len() as u64 / 24;
    client.append(&pcm).await;
    let started = client.expect("input_audio_buffer.speech_started").await;
    let stopped = client.expect("input_audio_buffer.speech_stopped").await;
    let committed = client.expect("input_audio_buffer.committed").await;
    let added = client.expect("conversation.item.added").await;
    client.expect("conversation.item.done").await;
    client.expect("response.created").await;
    let (start, end) = (&started["audio_start_ms"], &stopped["audio_end_ms"]);
    assert!((200..700).contains(&start.as_u64().unwrap()), "{start}");
    assert!(
        (length - 1_000..length).contains(&end.as_u64().unwrap()),
        "{end}"
    );
    for event in [&started, &stopped, &committed] {
        assert_eq!(event["item_id"], added["item"]["id"]);
    }
    let content = json!([{"type": "input_audio", "transcript": null}]);
    assert_eq!(added["item"]["content"], content);
    client.until("response.done").await;
}

#[tokio::test]
async fn a_committed_turn_is_answered_in_the_order_that_was_captured() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.manual().await;
    client.seen.clear();
    client.append(&silence(Duration::from_millis(500))).await;
    client
        .send(json!({"type": "input_audio_buffer.commit"}))
        .await;
    client.send(json!({"type": "response.create"})).await;
    client.until("rate_limits.updated").await;
    let mut kinds = client.kinds();
    kinds.dedup();
    let (head, tail) = (&kinds[..8], &kinds[kinds.len() - 8..]);
    assert_eq!(
        head,
        [
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
        ]
    );
    assert_eq!(
        tail,
        [
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
            "rate_limits.updated",
        ]
    );
}
