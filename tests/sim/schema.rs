//! Every event that is ever sent validates against OpenAI's schemas.
//!
//! `tests/schema/realtime.json` is the extract, `exceptions.json` what the API sends beyond it:
//! each with its reason, and each needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jsonschema::Validator;
use serde::Deserialize;
use serde_json::{Value, json};
use voxline::sim::{Fault, Settings};

use crate::support::{Client, Provider, fast, http, silence, slow, speech};

/// What calls have beside: who plays the sound says so.
const OF_CALLS: [&str; 3] = [
    "output_audio_buffer.cleared",
    "output_audio_buffer.started",
    "output_audio_buffer.stopped",
];

/// All that the embedded provider can send over a WebSocket.
const KINDS: [&str; 30] = [
    "conversation.item.added",
    "conversation.item.deleted",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.retrieved",
    "conversation.item.truncated",
    "error",
    "input_audio_buffer.cleared",
    "input_audio_buffer.committed",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.timeout_triggered",
    "rate_limits.updated",
    "response.content_part.added",
    "response.content_part.done",
    "response.created",
    "response.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.delta",
    "response.output_audio_transcript.done",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "response.output_text.done",
    "session.created",
    "session.updated",
];

/// What the API sends and the extract does not know.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    /// A JSON pointer into the extract, to a schema.
    at: String,
    /// The value is allowed to be null.
    #[serde(default)]
    null: bool,
    /// These properties are allowed, with these schemas.
    #[serde(default)]
    properties: BTreeMap<String, Value>,
    /// An object with these properties is allowed too.
    #[serde(default)]
    object: BTreeMap<String, Value>,
    because: String,
}

#[tokio::test]
async fn every_event_of_every_kind_is_valid() {
    let events = conversations().await;
    let seen: BTreeSet<&str> = events.iter().filter_map(|e| e["type"].as_str()).collect();
    assert_eq!(seen, BTreeSet::from(KINDS));
    let ids: BTreeSet<&str> = events
        .iter()
        .filter_map(|e| e["event_id"].as_str())
        .collect();
    assert_eq!(ids.len(), events.len(), "every event has an id of its own");

    let exceptions = exceptions();
    let faults = faults(&events);
    assert!(faults.is_empty(), "{}", Vec::from_iter(faults).join("\n"));

    for index in 0..exceptions.len() {
        let mut others = exceptions.clone();
        let without = others.remove(index);
        let validators = validators_with(&others);
        let needed = events
            .iter()
            .any(|event| fault(&validators, event).is_some());
        assert!(
            needed,
            "no longer needed: {} ({})",
            without.at, without.because
        );
    }
}

fn exceptions() -> Vec<Exception> {
    serde_json::from_str(include_str!("../schema/exceptions.json")).unwrap()
}

/// Returns the validator of each event by its type.
fn validators_with(exceptions: &[Exception]) -> BTreeMap<String, Validator> {
    let mut extract: Value = serde_json::from_str(include_str!("../schema/realtime.json")).unwrap();
    // What is deeper comes first, since the way to it may change.
    let mut exceptions = exceptions.to_vec();
    exceptions.sort_by_key(|exception| std::cmp::Reverse(exception.at.matches('/').count()));
    for exception in exceptions {
        let schema = extract.pointer_mut(&exception.at);
        let schema = schema.unwrap_or_else(|| panic!("nothing is at {}", exception.at));
        for (name, property) in &exception.properties {
            schema["properties"][name] = property.clone();
        }
        if exception.null {
            *schema = json!({"anyOf": [schema.take(), {"type": "null"}]});
        }
        if !exception.object.is_empty() {
            let object = json!({"type": "object", "properties": exception.object,
                "additionalProperties": false});
            *schema = json!({"anyOf": [schema.take(), object]});
        }
    }
    let definitions = extract["$defs"].as_object().unwrap();
    let events = definitions.iter().filter_map(|(name, schema)| {
        let event = name.starts_with("RealtimeServerEvent");
        let kind = event.then(|| schema.pointer("/properties/type/enum/0"))??;
        Some((kind.as_str()?.to_owned(), name))
    });
    events
        .filter(|(kind, _)| KINDS.iter().chain(&OF_CALLS).any(|known| known == kind))
        .map(|(kind, name)| {
            let schema = json!({"$ref": format!("#/$defs/{name}"), "$defs": definitions});
            (kind, jsonschema::validator_for(&schema).unwrap())
        })
        .collect()
}

/// Returns what is wrong with events.
pub(crate) fn faults(events: &[Value]) -> BTreeSet<String> {
    let validators = validators_with(&exceptions());
    events
        .iter()
        .filter_map(|event| fault(&validators, event))
        .collect()
}

/// Returns what is wrong with an event.
fn fault(validators: &BTreeMap<String, Validator>, event: &Value) -> Option<String> {
    let kind = event["type"].as_str().unwrap_or_default();
    let Some(validator) = validators.get(kind) else {
        return Some(format!("{kind} is no event of the extract"));
    };
    let error = validator.iter_errors(event).next()?;
    Some(format!("{kind} at {}: {error:.300}", error.instance_path()))
}

/// Holds conversations in which everything is said that can be said.
async fn conversations() -> Vec<Value> {
    let mut events = Vec::new();
    events.extend(spoken_turns().await);
    events.extend(interrupted_turn().await);
    events.extend(typed_items().await);
    events.extend(settings_of_all_kinds().await);
    events.extend(function_calls().await);
    events.extend(idle_person().await);
    events.extend(failures().await);
    events.extend(transcriptions().await);
    events.extend(sessions_of_secrets().await);
    events
}

async fn spoken_turns() -> Vec<Value> {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.patient().await;
    client
        .update(json!({"audio": {"input": {"transcription": {"model": "gpt-transcribe"}}}}))
        .await;
    client.append(&speech()).await;
    let completed = "conversation.item.input_audio_transcription.completed";
    let item_id = client.until(completed).await["item_id"].take();
    retrieve(&mut client, &item_id).await;
    client.append(&silence(Duration::from_millis(200))).await;
    client
        .send(json!({"type": "input_audio_buffer.clear"}))
        .await;
    client.until("input_audio_buffer.cleared").await;
    client.seen
}

async fn interrupted_turn() -> Vec<Value> {
    let provider = Provider::start(slow());
    let mut client = provider.client().await;
    client.patient().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.output_audio.delta").await;
    client.append(&speech()).await;
    let item_id = client.until("response.output_item.done").await["item"]["id"].take();
    client
        .send(
            json!({"type": "conversation.item.truncate", "item_id": item_id,
            "content_index": 0, "audio_end_ms": 50}),
        )
        .await;
    client.until("conversation.item.truncated").await;
    retrieve(&mut client, &item_id).await;
    client.seen
}

async fn typed_items() -> Vec<Value> {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let items = [
        json!({"id": "a", "type": "message", "role": "system", "content": [{"type": "input_text", "text": "s"}]}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}]}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "AAAA", "transcript": "u"}]}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}]}),
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}),
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
        json!({"type": "function_call_output", "call_id": "c", "output": "1"}),
    ];
    for item in items {
        client
            .send(json!({"type": "conversation.item.create", "item": item}))
            .await;
        client.until("conversation.item.done").await;
    }
    client
        .send(json!({"type": "conversation.item.delete", "item_id": "a"}))
        .await;
    for response in [
        json!({"output_modalities": ["text"], "metadata": {"a": "b"}}),
        json!({"conversation": "none", "input": []}),
        json!({"max_output_tokens": 4}),
    ] {
        client
            .send(json!({"type": "response.create", "response": response}))
            .await;
        client.until("rate_limits.updated").await;
    }
    client.seen
}

async fn settings_of_all_kinds() -> Vec<Value> {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    for session in [
        json!({"audio": {"input": {"turn_detection": null, "noise_reduction": {"type": "far_field", "strength": 0.5}}}}),
        json!({"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}}}),
        json!({"audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}, "voice": {"id": "voice_1"}}}}),
        json!({"audio": {"input": {"transcription": {"model": "gpt-transcribe", "languages": ["en"], "keywords": ["voxline"], "prompt": "", "delay": "low"}}}}),
        json!({"reasoning": {"effort": "low"}, "parallel_tool_calls": true, "max_output_tokens": 100}),
        json!({"tools": [{"type": "function", "name": "f", "description": "d", "parameters": {}}, {"type": "mcp", "server_label": "m", "server_url": "https://example.com"}]}),
        json!({"tool_choice": {"type": "function", "name": "f"}, "tracing": "auto", "include": ["item.input_audio_transcription.logprobs"]}),
        json!({"truncation": {"type": "retention_ratio", "retention_ratio": 0.8}, "prompt": {"id": "p"}}),
    ] {
        client.update(session).await;
    }
    client.seen
}

async fn function_calls() -> Vec<Value> {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let tool = json!({"type": "function", "name": "weather", "parameters": {"type": "object"}});
    client.update(json!({"tools": [tool]})).await;
    client
        .type_in("say\ncall weather {\"city\": \"Oslo\", \"days\": [1, 2, 3]}")
        .await;
    client.send(json!({"type": "response.create"})).await;
    let call = client.until("response.function_call_arguments.done").await;
    client.until("response.done").await;
    let item = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "{}"});
    client.create(item).await;
    client.send(json!({"type": "response.create"})).await;
    client.until("rate_limits.updated").await;
    retrieve(&mut client, &call["item_id"]).await;
    client.seen
}

async fn idle_person() -> Vec<Value> {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let detection = json!({"type": "server_vad", "idle_timeout_ms": 5_000});
    client
        .update(json!({"audio": {"input": {"turn_detection": detection}}}))
        .await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.done").await;
    tokio::time::pause();
    client.until("input_audio_buffer.timeout_triggered").await;
    tokio::time::resume();
    client.seen
}

async fn failures() -> Vec<Value> {
    let provider = Provider::start(Settings {
        fault: Some(Fault::FailResponses),
        ..fast()
    });
    let mut client = provider.client().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.done").await;
    client.send(json!({"type": "response.cancel"})).await;
    client.until("error").await;
    let mut refused = provider.dial(provider.request("")).await;
    refused.closed().await;
    client.seen.extend(refused.seen);
    client.seen
}

async fn transcriptions() -> Vec<Value> {
    let provider = Provider::start(fast());
    let mut client = provider
        .dial(provider.request("?intent=transcription"))
        .await;
    let detection = json!({"type": "server_vad", "silence_duration_ms": 500});
    for input in [
        json!({"turn_detection": null, "noise_reduction": {"type": "near_field"}}),
        json!({"transcription": null, "format": {"type": "audio/pcma"}}),
        json!({"turn_detection": detection, "format": {"type": "audio/pcm"},
            "transcription": {"model": "gpt-4o-transcribe", "language": "en"}}),
    ] {
        let session = json!({"type": "transcription", "audio": {"input": input},
            "include": ["item.input_audio_transcription.logprobs"]});
        client
            .send(json!({"type": "session.update", "session": session}))
            .await;
    }
    client.append(&speech()).await;
    let completed = "conversation.item.input_audio_transcription.completed";
    client.until(completed).await;
    client.seen
}

/// The session in the answer to `POST /v1/realtime/client_secrets` is that of `session.created`.
async fn sessions_of_secrets() -> Vec<Value> {
    let provider = Provider::start(fast());
    let url = format!("http://{}/v1/realtime/client_secrets", provider.addr);
    let mut events = Vec::new();
    for kind in ["realtime", "transcription"] {
        let wish = json!({"session": {"type": kind}});
        let request = http().post(&url).bearer_auth("sk-test").json(&wish);
        let mut made: Value = request.send().await.unwrap().json().await.unwrap();
        events.push(
            json!({"type": "session.created", "event_id": format!("of {kind}"),
            "session": made["session"].take()}),
        );
    }
    events
}

async fn retrieve(client: &mut Client, item_id: &Value) {
    client
        .send(json!({"type": "conversation.item.retrieve", "item_id": item_id}))
        .await;
    client.until("conversation.item.retrieved").await;
}
