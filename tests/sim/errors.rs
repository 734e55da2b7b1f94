//! Bad input: a clear error with the client's `event_id`, and the session lives on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Provider, fast, silence};

#[tokio::test]
async fn each_bad_event_is_answered_with_its_code() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.manual().await;
    let create = |item: Value| json!({"type": "conversation.item.create", "item": item});
    let cases = [
        (json!({}), "invalid_event", None),
        (
            json!({"type": "response.audio.delta"}),
            "invalid_value",
            Some("type"),
        ),
        (
            json!({"type": "output_audio_buffer.clear"}),
            "invalid_value",
            Some("type"),
        ),
        (json!({"type": 7}), "invalid_type", Some("type")),
        (
            json!({"type": "session.update"}),
            "missing_required_parameter",
            Some("session"),
        ),
        (
            json!({"type": "session.update", "session": []}),
            "invalid_type",
            Some("session"),
        ),
        (
            json!({"type": "input_audio_buffer.append"}),
            "missing_required_parameter",
            Some("audio"),
        ),
        (
            json!({"type": "input_audio_buffer.append", "audio": 7}),
            "invalid_type",
            Some("audio"),
        ),
        (
            json!({"type": "input_audio_buffer.append", "audio": "*"}),
            "invalid_value",
            Some("audio"),
        ),
        (
            json!({"type": "input_audio_buffer.commit", "foo": 1}),
            "unknown_parameter",
            Some("foo"),
        ),
        (
            json!({"type": "input_audio_buffer.commit"}),
            "input_audio_buffer_commit_empty",
            None,
        ),
        (
            json!({"type": "response.cancel"}),
            "response_cancel_not_active",
            None,
        ),
        (
            json!({"type": "response.create", "response": {"modalities": ["text"]}}),
            "unknown_parameter",
            Some("response.modalities"),
        ),
        (
            json!({"type": "response.create", "response": {"conversation": "other"}}),
            "invalid_value",
            Some("response.conversation"),
        ),
        (
            json!({"type": "response.create", "response": {"metadata": {"a": 1}}}),
            "invalid_type",
            Some("response.metadata.a"),
        ),
        (
            json!({"type": "response.create", "response": {"input": [{"type": "item_reference", "id": "x"}]}}),
            "invalid_value",
            Some("response.input[0].id"),
        ),
        (
            json!({"type": "conversation.item.retrieve", "item_id": "x"}),
            "item_retrieve_invalid_item_id",
            Some("item_id"),
        ),
        (
            json!({"type": "conversation.item.delete", "item_id": "x"}),
            "item_delete_invalid_item_id",
            Some("item_id"),
        ),
        (
            json!({"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 1}),
            "item_truncate_invalid_item_id",
            Some("item_id"),
        ),
        (
            json!({"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": -1}),
            "invalid_value",
            Some("audio_end_ms"),
        ),
        (
            json!({"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 1.5}),
            "invalid_type",
            Some("audio_end_ms"),
        ),
        (
            create(json!({"type": "message", "content": []})),
            "missing_required_parameter",
            Some("item.role"),
        ),
        (
            create(json!({"type": "note"})),
            "invalid_value",
            Some("item.type"),
        ),
        (
            create(
                json!({"type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": ""}]}),
            ),
            "invalid_value",
            Some("item.content[0].type"),
        ),
        (
            create(json!({"type": "message", "role": "user", "content": [{"type": "input_text"}]})),
            "missing_required_parameter",
            Some("item.content[0].text"),
        ),
        (
            create(
                json!({"type": "message", "role": "user", "content": [{"type": "text", "text": "hi"}]}),
            ),
            "invalid_value",
            Some("item.content[0].type"),
        ),
    ];
    for (mut event, code, param) in cases {
        event["event_id"] = "mine".into();
        let error = client.refused(event.clone()).await;
        assert_eq!(
            (error["code"].as_str(), error["param"].as_str()),
            (Some(code), param),
            "{event} {error}"
        );
        assert_eq!(error["event_id"], "mine", "{event}");
    }
    client.update(json!({})).await;
}

#[tokio::test]
async fn frames_that_are_no_events_are_told_so() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    for (frame, code) in [
        (Message::text("{"), "invalid_json"),
        (Message::text(""), "invalid_json"),
        (Message::text("[]"), "invalid_event"),
        (Message::text("null"), "invalid_event"),
        (Message::binary(vec![1, 2, 3]), "invalid_event"),
    ] {
        client.send_frame(frame).await;
        let error = client.expect("error").await;
        assert_eq!(error["error"]["code"], code);
        assert_eq!(error["error"]["event_id"], Value::Null);
    }
    let long = format!(
        r#"{{"type": "response.cancel", "{}": 1}}"#,
        "x".repeat(1 << 20)
    );
    client.send_frame(Message::text(long)).await;
    let error = client.expect("error").await;
    assert_eq!(error["error"]["code"], "unknown_parameter");
    assert!(error.to_string().len() < 5_000, "it is not sent back whole");
    let deep = "[".repeat(100_000);
    client.send_frame(Message::text(deep)).await;
    assert_eq!(
        client.expect("error").await["error"]["code"],
        "invalid_json"
    );
    client.update(json!({})).await;
}

#[tokio::test]
async fn the_list_of_events_is_told_to_who_asks_for_another() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let error = client
        .refused(json!({"type": "transcription_session.update"}))
        .await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("'session.update'") && message.contains("'response.cancel'"));
}

#[tokio::test]
async fn less_than_a_tenth_of_a_second_is_not_committed() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.manual().await;
    client.append(&silence(Duration::from_millis(80))).await;
    let commit = json!({"type": "input_audio_buffer.commit"});
    let error = client.refused(commit.clone()).await;
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("buffer only has 80.00ms of audio"),
        "{message}"
    );
    client.append(&silence(Duration::from_millis(20))).await;
    client.send(commit).await;
    client.expect("input_audio_buffer.committed").await;
}
