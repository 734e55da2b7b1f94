//! Sessions that write down what is said, and do not answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::calling::call;
use crate::harness::{BEARER, Client, KEY, Relay};

const INTENT: &str = "?intent=transcription";
const COMPLETED: &str = "conversation.item.input_audio_transcription.completed";

#[tokio::test]
async fn an_intent_opens_one_that_its_client_sets_up() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect_as(KEY, INTENT).await;
    let created = client.event().await;
    assert_eq!(created["type"], "session.created");
    assert_eq!(created["session"]["type"], "transcription");
    let input = json!({
        "turn_detection": null,
        "transcription": {"model": "gpt-realtime-whisper"},
    });
    let session = json!({"type": "transcription", "audio": {"input": input}});
    client
        .send(json!({"type": "session.update", "session": session}))
        .await;
    let updated = client.event_of("session.updated").await;
    assert_eq!(
        updated["session"]["audio"]["input"]["transcription"]["model"],
        "gpt-realtime-whisper"
    );
    transcribe(&mut client).await;
}

#[tokio::test]
async fn a_client_secret_for_one_needs_no_more() {
    let relay = Relay::start(&[]).await;
    let secret = relay.mint(json!({"session": session()})).await;
    for query in ["", INTENT] {
        let mut client = relay.connect_as(&secret, query).await;
        let created = client.event().await;
        assert_eq!(created["session"]["type"], "transcription", "{created}");
        let detection = &created["session"]["audio"]["input"]["turn_detection"];
        assert_eq!(*detection, Value::Null);
        transcribe(&mut client).await;
    }
}

#[tokio::test]
async fn a_client_secret_is_for_one_kind_of_session() {
    let relay = Relay::start(&[]).await;
    let transcribes = relay.mint(json!({"session": session()})).await;
    let talks = relay
        .mint(json!({"session": {"type": "realtime", "model": "gpt-realtime-2.1"}}))
        .await;
    for (secret, query) in [(&transcribes, "?model=gpt-realtime-2.1"), (&talks, INTENT)] {
        let mut client = relay.connect_as(secret, query).await;
        let error = client.event().await;
        assert_eq!(error["error"]["code"], "invalid_value", "{error}");
        assert_eq!(error["error"]["param"], "session.type");
        assert_eq!(client.close().await.0, 4000);
    }
}

#[tokio::test]
async fn a_list_of_models_holds_for_transcriptions() {
    let relay = Relay::start(&[]).await;
    let secret = relay
        .mint(json!({"voxline": {"models": ["gpt-realtime-2.1"]}}))
        .await;
    let mut client = relay.connect_as(&secret, INTENT).await;
    let error = client.event().await;
    assert_eq!(error["error"]["code"], "model_not_allowed", "{error}");
    assert_eq!(client.close().await.0, 4000);
}

#[tokio::test]
async fn a_call_transcribes_as_well() {
    let relay = Relay::start(&[]).await;
    let secret = relay.mint(json!({"session": session()})).await;
    for (credential, query) in [(secret.as_str(), ""), (KEY, INTENT)] {
        let (mut peer, _) = call(&relay, credential, query).await;
        let created: Value = serde_json::from_str(&peer.message("oai-events").await).unwrap();
        assert_eq!(created["type"], "session.created");
        assert_eq!(created["session"]["type"], "transcription");
    }
}

#[tokio::test]
async fn what_belongs_to_conversations_is_refused_and_the_session_goes_on() {
    let relay = Relay::start(&[]).await;
    let headers = [("authorization", BEARER)];
    let mut client = relay.connect_with(INTENT, &headers).await.unwrap();
    client.event_of("session.created").await;
    client
        .send(json!({"type": "response.create", "event_id": "mine"}))
        .await;
    let error = client.event_of("error").await;
    assert_eq!(error["error"]["event_id"], "mine", "{error}");
    client
        .send(json!({"type": "input_audio_buffer.clear"}))
        .await;
    client.event_of("input_audio_buffer.cleared").await;
}

/// Settings by which the client says when a turn ends.
fn session() -> Value {
    let transcription = json!({"model": "gpt-realtime-whisper"});
    let input = json!({"turn_detection": null, "transcription": transcription});
    json!({"type": "transcription", "audio": {"input": input}})
}

/// Has two seconds and more written down.
async fn transcribe(client: &mut Client) {
    let sound = STANDARD.encode(vec![0; 48 * 2_300]);
    client
        .send(json!({"type": "input_audio_buffer.append", "audio": sound}))
        .await;
    client
        .send(json!({"type": "input_audio_buffer.commit"}))
        .await;
    let completed = client.event_of(COMPLETED).await;
    assert_eq!(completed["transcript"], "[speech, 2.3 s]");
}
