//! The conversation's items: created, ordered, retrieved, truncated, deleted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Provider, fast, silence};

#[tokio::test]
async fn items_are_inserted_where_the_client_says() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let first = create(&mut client, "b", None).await;
    assert_eq!(first["previous_item_id"], Value::Null);
    let last = create(&mut client, "d", None).await;
    assert_eq!(last["previous_item_id"], "b");
    let middle = create(&mut client, "c", Some("b")).await;
    assert_eq!(middle["previous_item_id"], "b");
    let root = create(&mut client, "a", Some("root")).await;
    assert_eq!(root["previous_item_id"], Value::Null);
    let end = create(&mut client, "e", None).await;
    assert_eq!(end["previous_item_id"], "d");

    let text = message("a");
    let event = json!({"type": "conversation.item.create", "event_id": "mine", "item": text});
    let error = client.refused(event).await;
    assert_eq!(error["code"], "item_create_duplicate_item_id");
    assert_eq!(error["event_id"], "mine");
    let item = message("f");
    let event = json!({"type": "conversation.item.create", "previous_item_id": "x", "item": item});
    let error = client.refused(event).await;
    assert_eq!(error["param"], "previous_item_id");
}

#[tokio::test]
async fn items_of_every_kind_are_kept_and_shown_without_nulls() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let items = [
        json!({"type": "message", "role": "system", "content": [{"type": "input_text", "text": "s"}]}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}, {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}]}),
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}),
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
        json!({"type": "function_call_output", "call_id": "c", "output": "1"}),
    ];
    for (index, mut item) in items.into_iter().enumerate() {
        item["id"] = format!("item_{index}").into();
        client
            .send(json!({"type": "conversation.item.create", "item": item}))
            .await;
        let added = client.expect("conversation.item.added").await;
        client.expect("conversation.item.done").await;
        item["object"] = "realtime.item".into();
        item["status"] = "completed".into();
        assert_eq!(added["item"], item);
        client
            .send(json!({"type": "conversation.item.retrieve", "item_id": item["id"]}))
            .await;
        let retrieved = client.expect("conversation.item.retrieved").await;
        assert_eq!(retrieved["item"], item);
    }
}

#[tokio::test]
async fn a_retrieved_item_brings_its_sound() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.manual().await;
    client.append(&silence(Duration::from_millis(200))).await;
    client
        .send(json!({"type": "input_audio_buffer.commit"}))
        .await;
    let added = client.until("conversation.item.added").await;
    client.expect("conversation.item.done").await;
    assert!(added["item"]["content"][0].get("audio").is_none());
    client
        .send(json!({"type": "conversation.item.retrieve", "item_id": added["item"]["id"]}))
        .await;
    let retrieved = client.expect("conversation.item.retrieved").await;
    let audio = retrieved["item"]["content"][0]["audio"].as_str().unwrap();
    assert_eq!(audio.len(), 200 * 48 / 3 * 4);
}

#[tokio::test]
async fn truncation_cuts_the_sound_and_drops_the_transcript() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let item_id = answer(&mut client).await;
    let truncate = |ms: u64| {
        json!({"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0,
            "audio_end_ms": ms})
    };
    let error = client.refused(truncate(1_001)).await;
    assert_eq!(error["code"], "invalid_value");
    let message = error["message"].as_str().unwrap();
    assert_eq!(
        message,
        "Audio content of 1000ms is already shorter than 1001ms"
    );

    client.send(truncate(400)).await;
    let truncated = client.expect("conversation.item.truncated").await;
    assert_eq!(truncated["audio_end_ms"], 400);
    client
        .send(json!({"type": "conversation.item.retrieve", "item_id": item_id}))
        .await;
    let retrieved = client.expect("conversation.item.retrieved").await;
    let content = &retrieved["item"]["content"][0];
    assert_eq!(content["audio"].as_str().unwrap().len(), 400 * 48 / 3 * 4);
    assert!(content.get("transcript").is_none());
    let error = client.refused(truncate(401)).await;
    assert_eq!(error["code"], "invalid_value");
}

#[tokio::test]
async fn only_the_assistants_audio_can_be_truncated_and_not_to_nothing() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    create(&mut client, "typed", None).await;
    let item_id = answer(&mut client).await;
    for (item_id, content_index, ms) in [("typed", 0, 100), (&*item_id, 0, 0), (&*item_id, 1, 100)]
    {
        let error = client
            .refused(
                json!({"type": "conversation.item.truncate", "item_id": item_id,
                "content_index": content_index, "audio_end_ms": ms}),
            )
            .await;
        assert_eq!(error["code"], Value::Null);
        assert_eq!(error["param"], Value::Null);
        let expected = "Only model output audio messages can be truncated";
        assert_eq!(error["message"], expected);
    }
}

#[tokio::test]
async fn a_deleted_item_is_gone() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    create(&mut client, "a", None).await;
    let delete = json!({"type": "conversation.item.delete", "item_id": "a"});
    client.send(delete.clone()).await;
    let deleted = client.expect("conversation.item.deleted").await;
    assert_eq!(deleted["item_id"], "a");
    let error = client.refused(delete).await;
    assert_eq!(error["code"], "item_delete_invalid_item_id");
    create(&mut client, "a", None).await;
}

/// Creates a typed message and returns `conversation.item.added`.
async fn create(client: &mut Client, id: &str, previous: Option<&str>) -> Value {
    let mut event = json!({"type": "conversation.item.create", "item": message(id)});
    if let Some(previous) = previous {
        event["previous_item_id"] = previous.into();
    }
    client.send(event).await;
    let added = client.expect("conversation.item.added").await;
    let done = client.expect("conversation.item.done").await;
    assert_eq!(added["item"]["id"], id);
    assert_eq!(added["previous_item_id"], done["previous_item_id"]);
    added
}

/// Has a response made and returns its item's id.
async fn answer(client: &mut Client) -> String {
    client.send(json!({"type": "response.create"})).await;
    let done = client.until("response.done").await;
    client.expect("rate_limits.updated").await;
    done["response"]["output"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn message(id: &str) -> Value {
    let content = json!([{"type": "input_text", "text": "hi"}]);
    json!({"type": "message", "role": "user", "id": id, "content": content})
}
