//! Events from and to a client.
//!
//! **Invariant:** any text decodes to an event or to a [`Fault`] that says what to do about it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::{Map, Value, json};

use crate::core::ids::ResponseId;
use crate::core::latency::{Hop, TurnTrace};
use crate::core::port::{
    ClientEvent, Fault, FaultKind, FromClient, Json, Notice, Output, Source, ToClient,
};
use crate::core::session::Fallback;
use crate::wire::realtime::session::pin_formats;
use crate::wire::realtime::{Carrier, event_id};

const EVENTS: [&str; 10] = [
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "conversation.item.delete",
    "response.create",
    "response.cancel",
];
const CLEAR_OUTPUT: &str = "output_audio_buffer.clear";

/// OpenAI's limit for a client's event id.
const MAX_EVENT_ID: usize = 512;

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Append<'a> {
    #[serde(borrow)]
    audio: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Create<'a> {
    #[serde(borrow)]
    response: Option<Settings<'a>>,
}

#[derive(Deserialize)]
struct Truncate<'a> {
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    audio_end_ms: u64,
}

#[derive(Deserialize)]
struct Settings<'a> {
    #[serde(borrow)]
    conversation: Option<Cow<'a, str>>,
}

/// Parses a client's event. A fault is for an `error` event; the session goes on.
pub fn decode_client(text: &str, carrier: Carrier, now: Instant) -> Result<FromClient, Fault> {
    let head: Head<'_> = serde_json::from_str(text).map_err(|error| not_an_event(&error))?;
    let event_id = head.event_id.map(Cow::into_owned);
    if let Some(id) = &event_id
        && id.chars().count() > MAX_EVENT_ID
    {
        return Err(Fault::invalid(
            "invalid_value",
            format!("`event_id` is longer than {MAX_EVENT_ID} characters; choose a shorter one."),
        )
        .at("event_id"));
    }

    decode_kind(&head.kind, text, carrier, now).map_err(|fault| fault.caused_by(event_id))
}

fn decode_kind(
    kind: &str,
    text: &str,
    carrier: Carrier,
    now: Instant,
) -> Result<FromClient, Fault> {
    let event = match kind {
        "input_audio_buffer.append" if !carrier.has_tracks() => return decode_append(text, now),
        "input_audio_buffer.append" => {
            return Err(Fault::invalid(
                "invalid_value",
                "In a WebRTC call sound travels on the audio track; `input_audio_buffer.append` is for WebSocket sessions.",
            )
            .at("type"));
        }
        CLEAR_OUTPUT if carrier.relay_plays() => return Ok(FromClient::ClearOutput),
        "session.update" if carrier.relay_plays() => {
            let event = without_formats(text, "session")?;
            return Ok(FromClient::Event(ClientEvent::UpdateSession, event));
        }
        "response.create" => {
            let event = match carrier.relay_plays() {
                true => without_formats(text, "response")?,
                false => Json::from(text),
            };
            return Ok(FromClient::Event(creation(text), event));
        }
        "session.update" => ClientEvent::UpdateSession,
        "input_audio_buffer.commit" => ClientEvent::CommitAudio,
        "input_audio_buffer.clear" => ClientEvent::ClearAudio,
        "conversation.item.create" => ClientEvent::CreateItem,
        "conversation.item.truncate" => return Ok(truncation(text)),
        kind if EVENTS.contains(&kind) => ClientEvent::Other,
        kind => return Err(unknown_event(kind, carrier)),
    };

    Ok(FromClient::Event(event, Json::from(text)))
}

fn decode_append(text: &str, now: Instant) -> Result<FromClient, Fault> {
    let append: Append<'_> = serde_json::from_str(text).map_err(|_| {
        Fault::invalid(
            "missing_required_parameter",
            "`input_audio_buffer.append` needs `audio`: a string of base64-encoded sound in the session's input format.",
        )
        .at("audio")
    })?;
    let payload = STANDARD.decode(append.audio.as_bytes()).map_err(|error| {
        let error = error.to_string();
        let why = error.trim_end_matches('.');
        Fault::invalid(
            "invalid_value",
            format!("`audio` is not base64 (RFC 4648, section 4): {why}."),
        )
        .at("audio")
    })?;

    Ok(FromClient::Audio {
        payload: payload.into(),
        received: now,
    })
}

/// What does not say which item, or how much of it, is the provider's to refuse.
fn truncation(text: &str) -> FromClient {
    match serde_json::from_str::<Truncate<'_>>(text) {
        Ok(truncate) => FromClient::Truncate {
            item: truncate.item_id.as_ref().into(),
            heard: Duration::from_millis(truncate.audio_end_ms),
            json: Json::from(text),
        },
        Err(_) => FromClient::Event(ClientEvent::Other, Json::from(text)),
    }
}

/// A response outside the conversation is no turn of it.
fn creation(text: &str) -> ClientEvent {
    let outside = serde_json::from_str::<Create<'_>>(text).is_ok_and(|create| {
        create.response.and_then(|response| response.conversation) == Some(Cow::Borrowed("none"))
    });

    if outside {
        ClientEvent::Other
    } else {
        ClientEvent::CreateResponse
    }
}

/// Where the relay plays it speaks PCM upstream, whatever the client's leg has.
fn without_formats(text: &str, holder: &str) -> Result<Json, Fault> {
    let mut event: Value = serde_json::from_str(text).map_err(|error| not_an_event(&error))?;
    if let Some(settings) = event.get_mut(holder) {
        pin_formats(settings);
    }

    Ok(Json::from(event.to_string()))
}

fn not_an_event(error: &serde_json::Error) -> Fault {
    match error.classify() {
        Category::Io | Category::Syntax | Category::Eof => Fault::invalid(
            "invalid_json",
            format!("The event is not JSON: {error}. Send one JSON object per message."),
        ),
        Category::Data => Fault::invalid(
            "invalid_event",
            "An event is a JSON object with a string `type` and, if any, a string `event_id`.",
        )
        .at("type"),
    }
}

fn unknown_event(kind: &str, carrier: Carrier) -> Fault {
    let mut known = EVENTS.to_vec();
    if carrier.has_tracks() {
        known.retain(|kind| *kind != "input_audio_buffer.append");
    }
    if carrier.relay_plays() {
        known.push(CLEAR_OUTPUT);
    }
    let shown: String = kind.chars().take(64).collect();

    Fault::invalid(
        "invalid_value",
        format!(
            "Invalid value: '{shown}'. Supported values are: '{}'.",
            known.join("', '")
        ),
    )
    .at("type")
}

/// Encodes what the session says to a client as the JSON text of one event; `None` for what
/// is not an event (sound, flush, close) or is several.
///
/// Notices are encoded too: to send them only to a client that negotiated `voxline.v1` is the
/// leg's duty.
pub fn encode_client(message: &ToClient) -> Option<String> {
    let event = match message {
        ToClient::Event(json) => return Some(json.as_str().to_owned()),
        ToClient::Created { session, next } => created(session, *next),
        ToClient::Play { .. } | ToClient::Flush | ToClient::Missed(_) | ToClient::Close(_) => {
            return None;
        }
        ToClient::Output(output, response) => json!({
            "type": match output {
                Output::Started => "output_audio_buffer.started",
                Output::Stopped => "output_audio_buffer.stopped",
                Output::Cleared => "output_audio_buffer.cleared",
            },
            "event_id": event_id("event_"),
            "response_id": response.as_str(),
        }),
        ToClient::Failed(response) => failed(response),
        ToClient::Truncated { item, heard } => json!({
            "type": "conversation.item.truncated",
            "event_id": event_id("event_"),
            "item_id": item.as_str(),
            "content_index": 0,
            "audio_end_ms": u64::try_from(heard.as_millis()).unwrap_or(u64::MAX),
        }),
        ToClient::Notice(notice) => encode_notice(notice),
        ToClient::Fault(fault) => json!({
            "type": "error",
            "event_id": event_id("event_"),
            "error": error_object(fault),
        }),
    };

    Some(event.to_string())
}

/// The session as it is, for one who was not there when it was created.
fn created(described: &Json, next: Option<u64>) -> Value {
    let mut event: Value = serde_json::from_str(described.as_str()).unwrap_or_default();
    event["type"] = Value::from("session.created");
    event["event_id"] = Value::from(event_id("event_"));
    if let Some(next) = next {
        event["voxline"] = json!({ "next_event": next });
    }

    event
}

/// A response whose provider was lost, in OpenAI's shape for one that has failed.
fn failed(response: &ResponseId) -> Value {
    json!({
        "type": "response.done",
        "event_id": event_id("event_"),
        "response": {
            "id": response.as_str(),
            "object": "realtime.response",
            "status": "failed",
            "status_details": { "type": "failed", "error": {
                "type": "server_error",
                "code": "provider_lost",
                "message": "The connection to the voice provider was lost. The relay connects \
                            anew and asks for the answer again.",
            } },
            "output": [],
            "conversation_id": null,
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "audio": { "output": { "format": { "type": "audio/pcm", "rate": 24_000 }, "voice": "alloy" } },
            "usage": null,
            "metadata": null,
        },
    })
}

fn encode_notice(notice: &Notice) -> Value {
    let event_id = event_id("event_");
    match notice {
        Notice::State(state) => json!({
            "type": "voxline.state",
            "event_id": event_id,
            "state": state.name(),
        }),
        Notice::Interrupted {
            response,
            heard,
            accuracy,
        } => json!({
            "type": "voxline.interrupted",
            "event_id": event_id,
            "response_id": response.as_str(),
            "heard_ms": millis(*heard),
            "source": accuracy.source.name(),
            "uncertainty_ms": millis(accuracy.uncertainty),
        }),
        Notice::Paused { response } => json!({
            "type": "voxline.paused",
            "event_id": event_id,
            "response_id": response.as_str(),
        }),
        Notice::Resumed { paused } => json!({
            "type": "voxline.resumed",
            "event_id": event_id,
            "paused_ms": millis(*paused),
        }),
        Notice::Latency(trace) => latency(trace, &event_id),
        Notice::Session { id, resume, window } => json!({
            "type": "voxline.session",
            "event_id": event_id,
            "session_id": id.as_str(),
            "resume_token": resume.expose(),
            "resume_window_ms": window.as_millis() as u64,
        }),
        Notice::Token(credential) => json!({
            "type": "voxline.token",
            "event_id": event_id,
            "token_id": credential.id.as_str(),
            "token": credential.token.expose(),
            "expires_at": credential.expires_unix,
            "resume_token": credential.resume.expose(),
        }),
        Notice::TokenExpiring { within } => json!({
            "type": "voxline.token_expiring",
            "event_id": event_id,
            "within_ms": within.as_millis() as u64,
        }),
        Notice::Reconnect { resume, within } => json!({
            "type": "voxline.reconnect",
            "event_id": event_id,
            "resume_token": resume.expose(),
            "within_ms": within.as_millis() as u64,
        }),
        Notice::Waiting => json!({
            "type": "voxline.waiting",
            "event_id": event_id,
        }),
        Notice::Degraded { reason, fallback } => json!({
            "type": "voxline.degraded",
            "event_id": event_id,
            "reason": reason.name(),
            "rung": match fallback {
                Fallback::Wait => "waiting",
            },
        }),
        Notice::Restored { after } => json!({
            "type": "voxline.restored",
            "event_id": event_id,
            "after_ms": millis(*after),
        }),
        Notice::Closing { reason, within } => json!({
            "type": "voxline.closing",
            "event_id": event_id,
            "reason": reason.name(),
            "within_ms": millis(*within),
        }),
    }
}

fn latency(trace: &TurnTrace, event_id: &str) -> Value {
    let took = |hop| trace.hop(hop).map(|stretch| millis(stretch.took));
    let mut hops = Map::new();
    let mut estimated = vec![];
    for (hop, stretch) in trace.known() {
        hops.insert(format!("{}_ms", hop.name()), json!(micros(stretch.took)));
        if stretch.source == Source::Estimated {
            estimated.push(hop.name());
        }
    }

    json!({
        "type": "voxline.latency",
        "event_id": event_id,
        "turn": trace.turn,
        "response_id": trace.response.as_str(),
        "silence_wait_ms": took(Hop::SilenceWait),
        "inference_ms": took(Hop::Inference),
        "relay_out_ms": took(Hop::RelayOut),
        "total_ms": micros(trace.total),
        "hops": hops,
        "estimated": estimated,
        "uncertainty_ms": millis(trace.uncertainty),
    })
}

/// Milliseconds, to the microsecond: what is added up stays equal.
fn micros(span: Duration) -> f64 {
    span.as_micros() as f64 / 1000.0
}

fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The body of a failed HTTP request: `{"error":{…}}`.
pub fn error_body(fault: &Fault) -> String {
    json!({ "error": error_object(fault) }).to_string()
}

fn error_object(fault: &Fault) -> Value {
    json!({
        "type": match fault.kind {
            FaultKind::InvalidRequest => "invalid_request_error",
            FaultKind::Server => "server_error",
        },
        "code": fault.code,
        "message": fault.message,
        "param": fault.param,
        "event_id": fault.event_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_append_carries_its_sound() {
        let text = r#"{"type":"input_audio_buffer.append","audio":"AAEC"}"#;
        let now = crate::clock::now();

        let event = decode_client(text, Carrier::WebSocket, now);

        let expected = FromClient::Audio {
            payload: vec![0, 1, 2].into(),
            received: now,
        };
        assert_eq!(event, Ok(expected));
    }

    #[test]
    fn a_webrtc_client_cannot_change_the_formats() {
        for (text, expected) in [
            (
                r#"{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcmu"},"turn_detection":null}}}}"#,
                json!({"type": "session.update", "session": {"audio": {"input": {"turn_detection": null}}}}),
            ),
            (
                r#"{"type":"response.create","response":{"audio":{"output":{"format":{"type":"audio/pcmu"},"voice":"sage"}}}}"#,
                json!({"type": "response.create", "response": {"audio": {"output": {"voice": "sage"}}}}),
            ),
        ] {
            let event = decode_client(text, Carrier::WebRtc, crate::clock::now());

            let Ok(FromClient::Event(_, json)) = event else {
                panic!("{event:?}");
            };
            let sent: Value = serde_json::from_str(json.as_str()).unwrap();
            assert_eq!(sent, expected);
        }
    }

    #[test]
    fn only_a_response_of_the_conversation_is_a_turn_of_it() {
        for (text, kind) in [
            (r#"{"type":"response.create"}"#, ClientEvent::CreateResponse),
            (
                r#"{"type":"response.create","response":{"conversation":"auto"}}"#,
                ClientEvent::CreateResponse,
            ),
            (
                r#"{"type":"response.create","response":{"conversation":"none"}}"#,
                ClientEvent::Other,
            ),
        ] {
            let event = decode_client(text, Carrier::WebSocket, crate::clock::now());

            assert_eq!(event, Ok(FromClient::Event(kind, text.into())));
        }
    }

    #[test]
    fn every_fault_names_its_code_its_place_and_its_cause() {
        let cases = [
            ("{", "invalid_json", None, None),
            ("[]", "invalid_event", Some("type"), None),
            (r#"{"event_id":"e1"}"#, "invalid_event", Some("type"), None),
            (r#"{"type":7}"#, "invalid_event", Some("type"), None),
            (
                r#"{"type":"response.audio","event_id":"e1"}"#,
                "invalid_value",
                Some("type"),
                Some("e1"),
            ),
            (
                r#"{"type":"input_audio_buffer.append","event_id":"e1"}"#,
                "missing_required_parameter",
                Some("audio"),
                Some("e1"),
            ),
            (
                r#"{"type":"input_audio_buffer.append","audio":"*","event_id":"e1"}"#,
                "invalid_value",
                Some("audio"),
                Some("e1"),
            ),
        ];

        for (text, code, param, event_id) in cases {
            let fault = decode_client(text, Carrier::WebSocket, crate::clock::now()).unwrap_err();
            assert_eq!(fault.code, code, "{text}");
            assert_eq!(fault.param.as_deref(), param, "{text}");
            assert_eq!(fault.event_id.as_deref(), event_id, "{text}");
        }
    }

    #[test]
    fn only_where_the_relay_plays_there_is_an_output_buffer_to_clear() {
        let text = r#"{"type":"output_audio_buffer.clear"}"#;
        let now = crate::clock::now();

        for carrier in [Carrier::WebRtc, Carrier::Playout] {
            assert_eq!(
                decode_client(text, carrier, now),
                Ok(FromClient::ClearOutput)
            );
        }
        assert!(decode_client(text, Carrier::WebSocket, now).is_err());
    }

    #[test]
    fn a_client_whose_sound_the_relay_plays_appends_and_chooses_no_format() {
        let now = crate::clock::now();
        let append = r#"{"type":"input_audio_buffer.append","audio":"AAEC"}"#;
        assert!(decode_client(append, Carrier::Playout, now).is_ok());
        assert!(decode_client(append, Carrier::WebRtc, now).is_err());

        let update = r#"{"type":"session.update","session":{"audio":{"output":{"format":{"type":"audio/pcmu"},"voice":"sage"}}}}"#;
        let Ok(FromClient::Event(_, json)) = decode_client(update, Carrier::Playout, now) else {
            panic!("it is an event");
        };
        assert!(!json.as_str().contains("pcmu") && json.as_str().contains("sage"));
    }

    #[test]
    fn who_comes_back_is_told_which_event_is_next() {
        let created = |next| {
            let session = Json::from(r#"{"type":"session.updated","session":{}}"#);
            let text = encode_client(&ToClient::Created { session, next }).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        };

        assert_eq!(created(Some(7))["voxline"]["next_event"], 7);
        assert!(created(None).get("voxline").is_none());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}", kind in 0..EVENTS.len(), webrtc: bool) {
            let carrier = if webrtc { Carrier::WebRtc } else { Carrier::Playout };
            let now = crate::clock::now();
            let _ = decode_client(&text, carrier, now);
            let event = format!(r#"{{"type":"{}","session":{text},"audio":"{text}"}}"#, EVENTS[kind]);
            let _ = decode_client(&event, carrier, now);
        }
    }
}
