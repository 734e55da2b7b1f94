//! Sessions that write down what is said, and do not answer.

use std::time::Duration;

use serde_json::{Value, json};
use voxline::sim::Settings;

use crate::support::{Client, Provider, fast, silence, speech};

const COMPLETED: &str = "conversation.item.input_audio_transcription.completed";

#[tokio::test]
async fn it_begins_with_the_session_as_a_transcription_has_it() {
    let provider = Provider::start(fast());
    let mut client = provider.dial(provider.request(INTENT)).await;

    let session = client.expect("session.created").await["session"].take();

    assert_eq!(session["type"], "transcription");
    assert_eq!(session["object"], "realtime.transcription_session");
    assert!(session["id"].as_str().unwrap().starts_with("sess_"));
    let detection = json!({"type": "server_vad", "threshold": 0.5,
        "prefix_padding_ms": 300, "silence_duration_ms": 200});
    assert_eq!(session["audio"]["input"]["turn_detection"], detection);
    for absent in ["model", "output_modalities", "tools"] {
        assert!(session.get(absent).is_none(), "{absent}");
    }
    assert!(session["audio"].get("output").is_none());
}

#[tokio::test]
async fn speech_becomes_an_item_and_its_transcript_and_nothing_answers() {
    let provider = Provider::start(fast());
    let mut client = transcription(&provider).await;
    let detection = json!({"type": "server_vad", "silence_duration_ms": 500,
        "create_response": true});
    update(&mut client, json!({"turn_detection": detection})).await;

    client.append(&speech()).await;
    let completed = client.until(COMPLETED).await;

    let transcript = completed["transcript"].as_str().unwrap();
    assert!(transcript.starts_with("[speech, "), "{transcript}");
    assert_eq!(completed["usage"]["type"], "duration");
    assert_eq!(
        client.kinds()[2..],
        [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.input_audio_transcription.delta",
            COMPLETED,
        ]
    );
}

#[tokio::test]
async fn without_detection_the_client_says_when_a_turn_ends() {
    let provider = Provider::start(fast());
    let mut client = transcription(&provider).await;
    let model = json!({"model": "gpt-realtime-whisper"});
    let input = json!({"turn_detection": null, "transcription": model});
    let session = update(&mut client, input).await;
    assert_eq!(session["audio"]["input"]["turn_detection"], Value::Null);
    assert_eq!(session["audio"]["input"]["transcription"], model);

    for turn in [1, 2] {
        client.append(&silence(Duration::from_millis(2_300))).await;
        let commit = json!({"type": "input_audio_buffer.commit"});
        client.send(commit).await;
        let completed = client.until(COMPLETED).await;
        assert_eq!(completed["transcript"], "[speech, 2.3 s]", "turn {turn}");
    }
}

#[tokio::test]
async fn what_belongs_to_conversations_is_refused_and_the_session_goes_on() {
    let provider = Provider::start(fast());
    let mut client = transcription(&provider).await;
    let input = |input: Value| {
        let session = json!({"type": "transcription", "audio": {"input": input}});
        json!({"type": "session.update", "session": session})
    };
    let session = |session: Value| json!({"type": "session.update", "session": session});
    let cases = [
        (json!({"type": "response.create"}), "type"),
        (session(json!({"type": "realtime"})), "session.type"),
        (session(json!({})), "session.type"),
        (
            session(json!({"type": "transcription", "instructions": "i"})),
            "session.instructions",
        ),
        (
            session(json!({"type": "transcription", "audio": {"output": {}}})),
            "session.audio.output",
        ),
        (
            input(json!({"turn_detection": {"type": "semantic_vad"}})),
            "session.audio.input.turn_detection",
        ),
        (
            input(json!({"transcription": {"model": "gpt-realtime-whisper"}})),
            "session.audio.input.turn_detection",
        ),
    ];
    for (mut event, param) in cases {
        event["event_id"] = "mine".into();
        let error = client.refused(event).await;
        assert_eq!(error["param"], param, "{error}");
        assert_eq!(error["event_id"], "mine");
    }
    update(&mut client, json!({})).await;
}

#[tokio::test]
async fn a_client_says_once_what_it_comes_for() {
    let provider = Provider::start(Settings {
        api_key: Some("sk-test".to_owned()),
        ..fast()
    });
    let both = "?model=gpt-realtime-2.1&intent=transcription";
    let cases = [
        (both, "invalid_value", "model"),
        (
            "?call_id=rtc_1&intent=transcription",
            "invalid_value",
            "model",
        ),
        ("?intent=translation", "invalid_value", "intent"),
        ("?call_id=rtc_1", "call_id_not_found", "call_id"),
        ("?intent=", "missing_model", "model"),
    ];
    for (query, code, param) in cases {
        let mut client = provider.dial(provider.request(query)).await;
        let error = client.expect("error").await["error"].take();
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!(code), &json!(param))
        );
        let frame = client.closed().await;
        assert_eq!(u16::from(frame.code), 4000, "{query}");
        assert_eq!(frame.reason, format!("invalid_request_error.{code}"));
    }
}

const INTENT: &str = "?intent=transcription";

async fn transcription(provider: &Provider) -> Client {
    let mut client = provider.dial(provider.request(INTENT)).await;
    client.expect("session.created").await;
    client
}

async fn update(client: &mut Client, input: Value) -> Value {
    let session = json!({"type": "transcription", "audio": {"input": input}});
    client
        .send(json!({"type": "session.update", "session": session}))
        .await;
    client.expect("session.updated").await["session"].take()
}
