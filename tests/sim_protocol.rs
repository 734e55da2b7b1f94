//! The embedded provider holds a conversation as OpenAI's Realtime API does.

mod sim_support;

use std::time::Duration;

use serde_json::{Value, json};
use sim_support::{Provider, fast, silence};

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
    let _: Value = client.seen[0].clone();
}
