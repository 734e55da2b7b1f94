//! Responses that a client asks for.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use voxline::media::g711::{Encoder, Law};

use crate::support::{Client, Provider, fast, silence, slow, speech};

#[tokio::test]
async fn metadata_and_settings_are_echoed_in_created_and_done() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let response = json!({
        "metadata": {"client_event_id": "response_create_1"},
        "max_output_tokens": 4096,
        "audio": {"output": {"format": {"type": "audio/pcmu"}, "voice": "cedar"}},
        "instructions": "Say hello.",
    });
    client
        .send(json!({"type": "response.create", "response": response}))
        .await;
    let created = client.expect("response.created").await["response"].take();
    let done = client.until("response.done").await["response"].take();
    for response in [&created, &done] {
        let metadata = json!({"client_event_id": "response_create_1"});
        assert_eq!(response["metadata"], metadata);
        assert_eq!(response["max_output_tokens"], 4096);
        let output = json!({"format": {"type": "audio/pcmu"}, "voice": "cedar"});
        assert_eq!(response["audio"]["output"], output);
        assert!(
            response["conversation_id"]
                .as_str()
                .unwrap()
                .starts_with("conv_")
        );
        assert_eq!(response["id"], created["id"]);
    }
    assert_eq!(created["status"], "in_progress");
    assert_eq!(created["usage"], Value::Null);
    assert_eq!(created["output"], json!([]));
    assert_eq!(done["status"], "completed");
    assert_eq!(done["status_details"], Value::Null);
}

#[tokio::test]
async fn instructions_of_null_are_those_of_the_session() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let response = json!({"instructions": null});
    client
        .send(json!({"type": "response.create", "response": response}))
        .await;
    client.expect("response.created").await;
    let done = client.until("response.done").await;
    assert_eq!(done["response"]["status"], "completed");
}

#[tokio::test]
async fn text_comes_as_text() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let response = json!({"output_modalities": ["text"]});
    client
        .send(json!({"type": "response.create", "response": response}))
        .await;
    client.until("response.done").await;
    let mut kinds = client.kinds().split_off(1);
    kinds.dedup();
    let expected = [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ];
    assert_eq!(kinds, expected);
    let done = client.seen.last().unwrap();
    let content = json!([{"type": "output_text", "text": "tone tone tone tone"}]);
    assert_eq!(done["response"]["output"][0]["content"], content);
    let tokens = &done["response"]["usage"]["output_token_details"];
    assert_eq!(tokens["audio_tokens"], 0);
}

#[tokio::test]
async fn only_one_response_at_a_time_writes_to_the_conversation() {
    let provider = Provider::start(slow());
    let mut client = provider.client().await;
    client.send(json!({"type": "response.create"})).await;
    let first = client.expect("response.created").await;
    client
        .send(json!({"type": "response.create", "event_id": "second"}))
        .await;
    let error = client.until("error").await;
    let code = "conversation_already_has_active_response";
    assert_eq!(error["error"]["code"], code);
    assert_eq!(error["error"]["event_id"], "second");

    let beside = json!({"conversation": "none", "input": [], "metadata": {"purpose": "title"}});
    client
        .send(json!({"type": "response.create", "response": beside}))
        .await;
    let second = client.until("response.created").await["response"].take();
    assert_eq!(second["conversation_id"], Value::Null);
    client
        .send(json!({"type": "response.cancel", "response_id": second["id"]}))
        .await;
    let done = client.until("response.done").await;
    assert_eq!(done["response"]["id"], second["id"]);
    client.send(json!({"type": "response.cancel"})).await;
    let done = client.until("response.done").await;
    assert_eq!(done["response"]["id"], first["response"]["id"]);
}

#[tokio::test]
async fn a_response_beside_the_conversation_leaves_no_item_in_it() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let item = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]});
    let beside = json!({"conversation": "none", "input": [item]});
    client
        .send(json!({"type": "response.create", "response": beside}))
        .await;
    let done = client.until("response.done").await;
    assert!(
        !client
            .kinds()
            .iter()
            .any(|kind| kind.starts_with("conversation.item"))
    );
    let item_id = &done["response"]["output"][0]["id"];
    client.expect("rate_limits.updated").await;
    let error = client
        .refused(json!({"type": "conversation.item.retrieve", "item_id": item_id}))
        .await;
    assert_eq!(error["code"], "item_retrieve_invalid_item_id");
}

#[tokio::test]
async fn a_response_ends_where_its_tokens_do() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client
        .send(json!({"type": "response.create", "response": {"max_output_tokens": 8}}))
        .await;
    let done = client.until("response.done").await["response"].take();
    assert_eq!(done["status"], "incomplete");
    assert_eq!(done["status_details"]["reason"], "max_output_tokens");
    assert_eq!(done["output"][0]["status"], "incomplete");
}

#[tokio::test]
async fn usage_counts_the_whole_conversation_at_the_rates_of_openai() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.manual().await;
    client
        .update(json!({"instructions": "x".repeat(400)}))
        .await;
    let first = turn(&mut client).await;
    assert_eq!(first["input_token_details"]["text_tokens"], 100);
    assert_eq!(first["input_token_details"]["audio_tokens"], 20);
    assert_eq!(first["output_token_details"]["audio_tokens"], 20);
    assert_eq!(first["input_token_details"]["cached_tokens"], 0);
    let second = turn(&mut client).await;
    assert_eq!(second["input_token_details"]["audio_tokens"], 60);
    let cached = &second["input_token_details"]["cached_tokens_details"];
    assert_eq!(cached["audio_tokens"], 20);
    assert_eq!(cached["text_tokens"], 100);
    let sum = second["input_tokens"].as_u64().unwrap() + second["output_tokens"].as_u64().unwrap();
    assert_eq!(second["total_tokens"], sum);
}

#[tokio::test]
async fn g711_is_understood_and_spoken() {
    let provider = Provider::start(fast());
    for (name, law) in [("audio/pcmu", Law::Mu), ("audio/pcma", Law::A)] {
        let mut client = provider.client().await;
        client.patient().await;
        let format = json!({"type": name});
        client
            .update(json!({"audio": {"input": {"format": format}, "output": {"format": format}}}))
            .await;
        let bytes = Encoder::new(law).encode(&speech());
        for frame in bytes.chunks(160) {
            let audio = STANDARD.encode(frame);
            client
                .send(json!({"type": "input_audio_buffer.append", "audio": audio}))
                .await;
        }
        client.expect("input_audio_buffer.speech_started").await;
        client.expect("input_audio_buffer.speech_stopped").await;
        client.until("response.done").await;
        let deltas = client
            .seen
            .iter()
            .filter(|event| event["type"] == "response.output_audio.delta");
        let sent: usize = deltas
            .map(|event| {
                STANDARD
                    .decode(event["delta"].as_str().unwrap())
                    .unwrap()
                    .len()
            })
            .sum();
        assert!((7_900..=8_000).contains(&sent), "{sent}");
    }
}

async fn turn(client: &mut Client) -> Value {
    client.append(&silence(Duration::from_secs(2))).await;
    client
        .send(json!({"type": "input_audio_buffer.commit"}))
        .await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.done").await["response"]["usage"].take()
}
