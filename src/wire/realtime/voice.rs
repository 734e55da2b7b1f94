//! Events from and to a provider.
//!
//! **Invariant:** an event that is not understood is passed on as it came; it never ends a link.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::port::{
    ClientEvent, FromVoice, Json, Output, ResponseOutcome, ToVoice, Usage, Utterance,
};
use crate::wire::realtime::item::{creation, item_event, output_item};
use crate::wire::realtime::session::voice_session;
use crate::wire::realtime::{Mark, event_id};

/// The most sound in one event: 512 KiB of base64, of whole samples and without padding.
const MAX_SOUND: usize = 384 << 10;

/// Parses a provider's event; `None` if it is not an event at all. `mark` is the link's own.
pub fn decode_voice(text: &str, mark: &Mark) -> Option<FromVoice> {
    let head: Head<'_> = serde_json::from_str(text).ok()?;
    let json = Json::from(text);
    let known = match head.kind.as_ref() {
        "session.created" | "session.updated" => session(text, &json),
        "input_audio_buffer.speech_started" => {
            parse(text).map(|event: SpeechStarted| FromVoice::SpeechStarted {
                at: Duration::from_millis(event.audio_start_ms),
                json: json.clone(),
            })
        }
        "input_audio_buffer.speech_stopped" => {
            parse(text).map(|event: SpeechStopped| FromVoice::SpeechStopped {
                handed: None,
                at: Duration::from_millis(event.audio_end_ms),
                json: json.clone(),
            })
        }
        "response.created" => {
            parse(text).map(|event: WithResponse<'_>| FromVoice::ResponseCreated {
                response: event.response.id.as_ref().into(),
                conversation: event.response.conversation_id.as_deref().map(Into::into),
                json: json.clone(),
            })
        }
        "response.output_audio.delta" => audio(text, &json),
        "response.output_audio.done" => parse(text).map(|event: OfItem<'_>| FromVoice::AudioDone {
            response: event.response_id.as_ref().into(),
            item: event.item_id.as_ref().into(),
            json: json.clone(),
        }),
        kind if kind.starts_with("response.") && kind.ends_with(".delta") => {
            parse(text).map(|event: Delta<'_>| FromVoice::Delta {
                said: said(kind, &event),
                response: event.response_id.as_ref().into(),
                json: json.clone(),
            })
        }
        kind if kind.starts_with("conversation.item.") => item_event(kind, text, &json),
        kind if kind.starts_with("response.output_item.") => output_item(kind, text, &json),
        "input_audio_buffer.committed" => parse(text).map(|event: Named<'_>| {
            let item = event.item_id.as_ref().into();
            FromVoice::Committed {
                item,
                json: json.clone(),
            }
        }),
        "input_audio_buffer.cleared" => Some(FromVoice::Cleared { json: json.clone() }),
        "response.done" => parse(text).map(|event: WithResponse<'_>| FromVoice::ResponseDone {
            response: event.response.id.as_ref().into(),
            outcome: outcome(event.response.status.as_deref()),
            usage: usage(text),
            json: json.clone(),
        }),
        "output_audio_buffer.started" => output(Output::Started, text, &json),
        "output_audio_buffer.stopped" => output(Output::Stopped, text, &json),
        "output_audio_buffer.cleared" => output(Output::Cleared, text, &json),
        "error" => parse(text).map(|event: WithError<'_>| FromVoice::Error {
            refuses: refused(&event.error),
            code: event.error.code.unwrap_or_default().into_owned(),
            answers_relay: event.error.event_id.is_some_and(|id| mark.is_on(&id)),
            json: json.clone(),
        }),
        _ => None,
    };

    Some(known.unwrap_or(FromVoice::Event(json)))
}

/// What a delta adds to the words of a message.
fn said(kind: &str, event: &Delta<'_>) -> Option<Utterance> {
    let aloud = match kind {
        "response.output_audio_transcript.delta" => true,
        "response.output_text.delta" => false,
        _ => return None,
    };

    Some(Utterance {
        item: event.item_id.as_deref()?.into(),
        text: event.delta.as_deref()?.into(),
        aloud,
    })
}

/// Which of a client's events an error turns down. OpenAI names the event only if the client has
/// given it an id, but it names the field, or has a code for it.
fn refused(error: &ErrorObject<'_>) -> Option<ClientEvent> {
    let code = error.code.as_deref().unwrap_or_default();
    let param = error.param.as_deref().unwrap_or_default();
    let field = param.split(['.', '[']).next().unwrap_or_default();
    match (code, field) {
        ("input_audio_buffer_commit_empty", _) => Some(ClientEvent::CommitAudio),
        ("conversation_already_has_active_response", _) | (_, "response") => {
            Some(ClientEvent::CreateResponse)
        }
        ("cannot_update_voice", _) | (_, "session") => Some(ClientEvent::UpdateSession),
        (_, "item" | "previous_item_id") => Some(ClientEvent::CreateItem),
        _ => None,
    }
}

/// Cuts a long piece of sound into several events, each small enough for clients that refuse
/// messages over 1 MiB. All other events stay as they are.
pub fn split_voice(event: FromVoice) -> Vec<FromVoice> {
    let FromVoice::Audio {
        response,
        item,
        content_index,
        payload,
        json,
    } = &event
    else {
        return vec![event];
    };
    if payload.len() <= MAX_SOUND {
        return vec![event];
    }
    let pieces = (0..payload.len()).step_by(MAX_SOUND).map(|from| {
        let piece = payload.slice(from..payload.len().min(from + MAX_SOUND));
        FromVoice::Audio {
            response: response.clone(),
            item: item.clone(),
            content_index: *content_index,
            json: with_sound(json, &piece, from == 0),
            payload: piece,
        }
    });

    pieces.collect()
}

/// The same event, with this sound in it. Two events do not share an id.
fn with_sound(json: &Json, sound: &[u8], first: bool) -> Json {
    let mut event: Value = serde_json::from_str(json.as_str()).unwrap_or_default();
    event["delta"] = Value::from(STANDARD.encode(sound));
    if !first {
        event["event_id"] = Value::from(event_id("event_"));
    }

    Json::from(event.to_string())
}

fn session(text: &str, json: &Json) -> Option<FromVoice> {
    let event: Value = parse(text)?;

    Some(FromVoice::Session(
        voice_session(&event["session"]),
        json.clone(),
    ))
}

fn audio(text: &str, json: &Json) -> Option<FromVoice> {
    let event: AudioDelta<'_> = parse(text)?;
    let payload = STANDARD.decode(event.delta.as_bytes()).ok()?;

    Some(FromVoice::Audio {
        response: event.response_id.as_ref().into(),
        item: event.item_id.as_ref().into(),
        content_index: event.content_index,
        payload: payload.into(),
        json: json.clone(),
    })
}

fn output(output: Output, text: &str, json: &Json) -> Option<FromVoice> {
    let event: OfResponse<'_> = parse(text)?;
    let response = event.response_id.as_ref().into();

    Some(FromVoice::Output(output, response, json.clone()))
}

/// What is not said is not counted; a response is over, whatever it has cost.
fn usage(text: &str) -> Usage {
    let Some(WithUsage {
        response: Billed { usage },
    }) = parse(text)
    else {
        return Usage::default();
    };
    let UsageObject {
        input_token_details: input,
        output_token_details: output,
    } = usage.unwrap_or_default();

    Usage {
        input_text: input.text_tokens,
        input_audio: input.audio_tokens,
        input_cached: input.cached_tokens,
        output_text: output.text_tokens,
        output_audio: output.audio_tokens,
    }
}

fn outcome(status: Option<&str>) -> ResponseOutcome {
    match status {
        Some("cancelled") => ResponseOutcome::Cancelled,
        Some("failed") => ResponseOutcome::Failed,
        Some("incomplete") => ResponseOutcome::Incomplete,
        _ => ResponseOutcome::Completed,
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct SpeechStarted {
    audio_start_ms: u64,
}

#[derive(Deserialize)]
struct SpeechStopped {
    audio_end_ms: u64,
}

#[derive(Deserialize)]
struct WithResponse<'a> {
    #[serde(borrow)]
    response: Response<'a>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    /// Absent in older captures; `null` for an out-of-band response.
    #[serde(default = "absent", borrow)]
    conversation_id: Option<Cow<'a, str>>,
}

fn absent() -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(""))
}

#[derive(Deserialize)]
struct WithUsage {
    response: Billed,
}

#[derive(Deserialize)]
struct Billed {
    usage: Option<UsageObject>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UsageObject {
    input_token_details: TokenDetails,
    output_token_details: TokenDetails,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenDetails {
    text_tokens: u64,
    audio_tokens: u64,
    cached_tokens: u64,
}

#[derive(Deserialize)]
struct OfResponse<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    delta: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    item_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct OfItem<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct AudioDelta<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    #[serde(default)]
    content_index: u32,
    #[serde(borrow)]
    delta: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WithError<'a> {
    #[serde(borrow)]
    error: ErrorObject<'a>,
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    param: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_id: Option<Cow<'a, str>>,
}

/// Encodes what the session says to a provider, as one event or several.
pub fn encode_voice(message: &ToVoice, mark: &Mark) -> Vec<String> {
    let event_id = || mark.event_id();
    let event = match message {
        ToVoice::All(messages) => {
            let messages = messages.iter();
            return messages
                .flat_map(|message| encode_voice(message, mark))
                .collect();
        }
        ToVoice::Event(json) => return vec![json.as_str().to_owned()],
        ToVoice::Audio { frame, .. } => {
            let mut event = String::with_capacity(frame.payload.len() * 4 / 3 + 64);
            event.push_str(r#"{"type":"input_audio_buffer.append","audio":""#);
            STANDARD.encode_string(&frame.payload, &mut event);
            event.push_str(r#""}"#);
            return vec![event];
        }
        ToVoice::Cancel(response) => json!({
            "type": "response.cancel",
            "event_id": event_id(),
            "response_id": response.as_str(),
        }),
        ToVoice::Truncate {
            item,
            content_index,
            heard,
        } => json!({
            "type": "conversation.item.truncate",
            "event_id": event_id(),
            "item_id": item.as_str(),
            "content_index": content_index,
            "audio_end_ms": u64::try_from(heard.as_millis()).unwrap_or(u64::MAX),
        }),
        ToVoice::Delete(item) => json!({
            "type": "conversation.item.delete",
            "event_id": event_id(),
            "item_id": item.as_str(),
        }),
        ToVoice::ClearOutput => json!({
            "type": "output_audio_buffer.clear",
            "event_id": event_id(),
        }),
        ToVoice::Probe => json!({ "type": "response.cancel", "event_id": event_id() }),
        ToVoice::ToolOutput { call, output } => json!({
            "type": "conversation.item.create",
            "event_id": event_id(),
            "item": {
                "type": "function_call_output",
                "call_id": call.as_str(),
                "output": output.0,
            },
        }),
        ToVoice::Respond => json!({ "type": "response.create", "event_id": event_id() }),
        ToVoice::Restore(restored) => creation(restored, event_id()),
    };

    vec![event.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::audio::{Format, Frame};
    use proptest::prelude::*;

    #[test]
    fn an_audio_delta_carries_its_sound_and_its_place() {
        let text = r#"{"type":"response.output_audio.delta","event_id":"e","response_id":"r","item_id":"i","output_index":0,"content_index":1,"delta":"AAEC"}"#;

        let event = decode(text);

        let expected = FromVoice::Audio {
            response: "r".into(),
            item: "i".into(),
            content_index: 1,
            payload: vec![0, 1, 2].into(),
            json: text.into(),
        };
        assert_eq!(event, Some(expected));
    }

    #[test]
    fn a_long_piece_of_sound_is_cut_into_events_that_strict_clients_take() {
        let sound: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
        let text = json!({
            "type": "response.output_audio.delta", "event_id": "e", "response_id": "r",
            "item_id": "i", "output_index": 3, "content_index": 1, "delta": STANDARD.encode(&sound),
        });
        let event = decode(&text.to_string()).unwrap();

        let mut heard = vec![];
        let mut ids = std::collections::BTreeSet::new();
        for piece in split_voice(event) {
            let FromVoice::Audio { payload, json, .. } = piece else {
                panic!("{piece:?}");
            };
            assert!(json.as_str().len() < 1 << 20);
            let event: Value = serde_json::from_str(json.as_str()).unwrap();
            assert_eq!(event["output_index"], 3);
            assert_eq!(
                STANDARD.decode(event["delta"].as_str().unwrap()).unwrap(),
                payload
            );
            ids.insert(event["event_id"].to_string());
            heard.extend(payload);
        }

        assert_eq!((heard, ids.len()), (sound, 3));
        let short = FromVoice::Event("short".into());
        assert_eq!(split_voice(short.clone()), [short]);
    }

    #[test]
    fn what_a_response_costs_is_read_where_it_is_said() {
        let usage = |usage: Value| {
            let event = json!({"type": "response.done", "response": {"id": "r", "usage": usage}});
            let Some(FromVoice::ResponseDone { usage, .. }) = decode(&event.to_string()) else {
                panic!("{event}");
            };
            usage
        };

        let all = usage(json!({
            "total_tokens": 253, "input_tokens": 132, "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 119, "audio_tokens": 13, "image_tokens": 0, "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        }));

        let expected = Usage {
            input_text: 119,
            input_audio: 13,
            input_cached: 64,
            output_text: 30,
            output_audio: 91,
        };
        assert_eq!(all, expected);
        for odd in [
            json!(null),
            json!({}),
            json!("much"),
            json!({"input_token_details": 7}),
        ] {
            assert_eq!(usage(odd), Usage::default());
        }
    }

    #[test]
    fn a_provider_that_plays_says_so() {
        for (kind, output) in [
            ("started", Output::Started),
            ("stopped", Output::Stopped),
            ("cleared", Output::Cleared),
        ] {
            let text = format!(r#"{{"type":"output_audio_buffer.{kind}","response_id":"r"}}"#);
            let json = Json::from(text.as_str());

            let event = FromVoice::Output(output, "r".into(), json);
            assert_eq!(decode(&text), Some(event));
        }
    }

    #[test]
    fn turn_detection_off_or_told_not_to_does_not_interrupt() {
        for (turns, interrupts) in [
            ("null", false),
            (r#"{"type":"server_vad"}"#, true),
            (r#"{"type":"server_vad","interrupt_response":false}"#, false),
        ] {
            let text = format!(
                r#"{{"type":"session.updated","session":{{"audio":{{"input":{{"format":{{"type":"audio/pcma"}},"turn_detection":{turns}}}}}}}}}"#
            );
            let Some(FromVoice::Session(session, _)) = decode(&text) else {
                panic!("not a session event");
            };
            assert_eq!(session.interrupts, interrupts, "{turns}");
            assert_eq!((session.input, session.output), (Format::Pcma, Format::Pcm));
        }
    }

    #[test]
    fn an_error_that_answers_the_relay_is_known_by_its_event_id() {
        let mark = Mark::random();
        let cancel = encode_voice(&ToVoice::Cancel("r".into()), &mark);
        let sent: Value = serde_json::from_str(&cancel[0]).unwrap();
        let text = json!({"type": "error", "error": {"code": "response_cancel_not_active", "event_id": sent["event_id"]}});

        let event = decode_voice(&text.to_string(), &mark);
        let elsewhere = decode(&text.to_string());

        assert!(matches!(
            elsewhere,
            Some(FromVoice::Error {
                answers_relay: false,
                ..
            })
        ));
        assert!(
            matches!(event, Some(FromVoice::Error { answers_relay: true, code, .. }) if code == "response_cancel_not_active")
        );
    }

    #[test]
    fn what_is_not_understood_is_passed_on() {
        for text in [
            r#"{"type":"response.hologram.delta","delta":{}}"#,
            r#"{"type":"response.output_audio.delta","delta":7}"#,
        ] {
            assert_eq!(decode(text), Some(FromVoice::Event(text.into())));
        }
        assert_eq!(decode("[]"), None);
    }

    #[test]
    fn sound_is_appended_as_base64() {
        let message = ToVoice::Audio {
            frame: Frame {
                format: Format::Pcm,
                payload: vec![0, 1, 2].into(),
            },
            received: crate::clock::now(),
        };

        let event = r#"{"type":"input_audio_buffer.append","audio":"AAEC"}"#;
        assert_eq!(encode_voice(&message, &Mark::random()), [event]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = decode(&text);
            for kind in ["session.created", "error", "response.done", "response.output_audio.delta"] {
                let _ = decode(&format!(r#"{{"type":"{kind}","session":{text},"error":{text},"response":{text}}}"#));
            }
        }
    }

    fn decode(text: &str) -> Option<FromVoice> {
        decode_voice(text, &Mark::random())
    }
}
