//! Items of a conversation: read as a provider tells of them, written so that another can be told.
//!
//! **Invariant:** what is written is what was read, less the sound, which no provider gives back:
//! an answer becomes its words, and what a person said its transcript, or how long it was.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::core::item::{Body, Item, Role, Said, Words};
use crate::core::port::{FromVoice, Json, Restored, Stage};

/// Reads one of the events `response.output_item.*`.
pub(super) fn output_item(kind: &str, text: &str, json: &Json) -> Option<FromVoice> {
    let stage = match kind {
        "response.output_item.added" => Stage::Added,
        "response.output_item.done" => Stage::Done,
        _ => return None,
    };
    let mut event: OfResponse<'_> = serde_json::from_str(text).ok()?;
    let id = event.item.get("id")?.as_str()?.into();
    let status = event.item.get("status").and_then(Value::as_str);
    let whole = stage == Stage::Done && status != Some("incomplete");
    let body = body(&mut event.item);

    Some(FromVoice::OutputItem {
        response: event.response_id.as_ref().into(),
        item: Item { id, body },
        stage,
        whole,
        json: json.clone(),
    })
}

/// Reads one of the events `conversation.item.*`.
pub(super) fn item_event(kind: &str, text: &str, json: &Json) -> Option<FromVoice> {
    let stage = match kind {
        "conversation.item.added" | "conversation.item.created" => Stage::Added,
        "conversation.item.done" => Stage::Done,
        "conversation.item.deleted" | "conversation.item.truncated" => {
            let event: OfItem<'_> = serde_json::from_str(text).ok()?;
            let (item, json) = (event.item_id.as_ref().into(), json.clone());
            return Some(match event.audio_end_ms {
                Some(heard) => {
                    let heard = Duration::from_millis(heard);
                    FromVoice::ItemTruncated { item, heard, json }
                }
                None => FromVoice::ItemDeleted { item, json },
            });
        }
        "conversation.item.input_audio_transcription.completed" => {
            let event: Transcribed<'_> = serde_json::from_str(text).ok()?;
            return Some(FromVoice::Transcribed {
                item: event.item_id.as_ref().into(),
                text: event.transcript.as_ref().into(),
                json: json.clone(),
            });
        }
        _ => return None,
    };
    let mut event: WithItem<'_> = serde_json::from_str(text).ok()?;
    let id = event.item.get("id")?.as_str()?.into();
    let body = body(&mut event.item);

    Some(FromVoice::Item {
        item: Item { id, body },
        after: event.previous_item_id.map(|id| id.as_ref().into()),
        stage,
        json: json.clone(),
    })
}

fn body(item: &mut Map<String, Value>) -> Body {
    let text = |item: &Map<String, Value>, field: &str| {
        let value = item.get(field).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let known = match item.get("type").and_then(Value::as_str) {
        Some("message") => message(item),
        Some("function_call") => Some(Body::Call {
            call: text(item, "call_id").into(),
            name: text(item, "name"),
            arguments: Said(text(item, "arguments")),
        }),
        Some("function_call_output") => Some(Body::Output {
            call: text(item, "call_id").into(),
            output: Said(text(item, "output")),
        }),
        _ => None,
    };

    known.unwrap_or_else(|| {
        for field in ["object", "status"] {
            item.remove(field);
        }
        Body::Other(Value::Object(std::mem::take(item)).to_string().into())
    })
}

/// `None` if there is more in it than words and sound.
fn message(item: &Map<String, Value>) -> Option<Body> {
    let role = match item.get("role").and_then(Value::as_str)? {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return None,
    };
    let mut words = Words::default();
    for part in item.get("content").and_then(Value::as_array)? {
        let (said, sounds) = match part["type"].as_str()? {
            "input_text" | "output_text" | "text" => (&part["text"], false),
            "input_audio" | "output_audio" | "audio" => (&part["transcript"], true),
            _ => return None,
        };
        words.text.0.push_str(said.as_str().unwrap_or_default());
        if sounds {
            words.sound = Some(Duration::ZERO);
        }
    }

    Some(Body::Message { role, words })
}

/// Encodes the `conversation.item.create` for an item that another link does not know.
pub(super) fn creation(restored: &Restored, event_id: String) -> Value {
    let Restored { item, after, sound } = restored;
    let sound = sound.as_ref().map(|frame| STANDARD.encode(&frame.payload));
    let mut object = match &item.body {
        Body::Message { role, words } => written(*role, words, sound),
        Body::Call {
            call,
            name,
            arguments,
        } => json!({
            "type": "function_call", "call_id": call.as_str(), "name": name,
            "arguments": arguments.0,
        }),
        Body::Output { call, output } => json!({
            "type": "function_call_output", "call_id": call.as_str(), "output": output.0,
        }),
        Body::Other(json) => serde_json::from_str(json.as_str()).unwrap_or_default(),
    };
    object["id"] = Value::from(item.id.as_str());

    json!({
        "type": "conversation.item.create",
        "event_id": event_id,
        "previous_item_id": after.as_ref().map_or("root", |id| id.as_str()),
        "item": object,
    })
}

fn written(role: Role, words: &Words, sound: Option<String>) -> Value {
    let text = match words.sound {
        Some(length) if words.text.0.is_empty() => untranscribed(length),
        Some(_) | None => words.text.0.clone(),
    };
    let (role, part) = match role {
        Role::System => ("system", json!({ "type": "input_text", "text": text })),
        Role::User => match sound {
            Some(audio) => ("user", json!({ "type": "input_audio", "audio": audio })),
            None => ("user", json!({ "type": "input_text", "text": text })),
        },
        Role::Assistant => ("assistant", json!({ "type": "output_text", "text": text })),
    };

    json!({ "type": "message", "role": role, "content": [part] })
}

/// What stands for speech of which there is no transcript.
fn untranscribed(length: Duration) -> String {
    match length.as_secs_f64() {
        0.0 => "[speech, without a transcript]".to_owned(),
        seconds => format!("[speech of {seconds:.1} s, without a transcript]"),
    }
}

#[derive(Deserialize)]
struct WithItem<'a> {
    item: Map<String, Value>,
    #[serde(borrow)]
    previous_item_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct OfResponse<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
    item: Map<String, Value>,
}

#[derive(Deserialize)]
struct OfItem<'a> {
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    audio_end_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Transcribed<'a> {
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    #[serde(borrow)]
    transcript: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::audio::{Format, Frame};

    #[test]
    fn what_is_read_can_be_told_to_another_link() {
        let cases = [
            (
                json!({"type": "message", "role": "user", "status": "completed",
                    "content": [{"type": "input_text", "text": "hi"}]}),
                json!({"type": "message", "role": "user",
                    "content": [{"type": "input_text", "text": "hi"}]}),
            ),
            (
                json!({"type": "message", "role": "user",
                    "content": [{"type": "input_audio", "transcript": null}]}),
                json!({"type": "message", "role": "user",
                    "content": [{"type": "input_text", "text": "[speech, without a transcript]"}]}),
            ),
            (
                json!({"type": "message", "role": "assistant", "object": "realtime.item",
                    "content": [{"type": "output_audio", "transcript": "hello"}]}),
                json!({"type": "message", "role": "assistant",
                    "content": [{"type": "output_text", "text": "hello"}]}),
            ),
            (
                json!({"type": "function_call", "status": "completed", "call_id": "c",
                    "name": "f", "arguments": "{}"}),
                json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
            ),
            (
                json!({"type": "function_call_output", "call_id": "c", "output": "7"}),
                json!({"type": "function_call_output", "call_id": "c", "output": "7"}),
            ),
            (
                json!({"type": "message", "role": "user", "status": "completed",
                    "content": [{"type": "input_image", "image_url": "data:,"}]}),
                json!({"type": "message", "role": "user",
                    "content": [{"type": "input_image", "image_url": "data:,"}]}),
            ),
        ];
        for (mut item, expected) in cases {
            item["id"] = Value::from("i");
            let restored = Restored {
                item: read(&item),
                after: None,
                sound: None,
            };

            let mut event = creation(&restored, "e".to_owned());

            assert_eq!(event["previous_item_id"], "root");
            let mut created = event["item"].take();
            assert_eq!(created["id"].take(), "i");
            created.as_object_mut().unwrap().remove("id");
            assert_eq!(created, expected);
        }
    }

    #[test]
    fn what_has_no_answer_is_told_in_the_persons_own_voice() {
        let item = read(&json!({"id": "i", "type": "message", "role": "user",
            "content": [{"type": "input_audio", "transcript": "hm"}]}));
        let restored = Restored {
            item,
            after: Some("h".into()),
            sound: Some(Frame {
                format: Format::Pcm,
                payload: vec![0, 1, 2].into(),
            }),
        };

        let event = creation(&restored, "e".to_owned());

        let content = json!([{"type": "input_audio", "audio": "AAEC"}]);
        assert_eq!(event["item"]["content"], content);
        assert_eq!(event["previous_item_id"], "h");
    }

    fn read(item: &Value) -> Item {
        let text = json!({"type": "conversation.item.done", "item": item, "previous_item_id": "h"})
            .to_string();
        let event = item_event("conversation.item.done", &text, &Json::from(text.as_str()));
        let Some(FromVoice::Item { item, after, .. }) = event else {
            panic!("{event:?}");
        };
        assert_eq!(after, Some("h".into()));
        item
    }
}
