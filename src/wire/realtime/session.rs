//! The session object, as far as the relay reads and changes it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::core::audio::Format;
use crate::core::port::{Fault, VoiceSession};
use crate::wire::realtime::{Carrier, RELAY_EVENT, event_id};

/// A client's session settings, made fit to be sent as the first `session.update`.
#[derive(Clone, Debug, Default)]
pub struct Pinned(Map<String, Value>);

impl Pinned {
    /// Takes the session object of a `POST /v1/realtime/calls` form.
    pub fn new(session: Value, carrier: Carrier) -> Result<Self, Fault> {
        let mut session = session;
        if carrier == Carrier::WebRtc {
            pin_formats(&mut session);
        }
        let Value::Object(mut fields) = session else {
            return Err(Fault::invalid(
                "invalid_type",
                "`session` is a JSON object with `type` set to `realtime`.",
            )
            .at("session"));
        };
        fields.remove("model");

        Ok(Self(fields))
    }

    /// Returns whether there is nothing to tell the provider.
    pub fn is_empty(&self) -> bool {
        self.0.keys().all(|key| key == "type")
    }
}

/// Encodes the relay's first `session.update` on a link.
pub fn session_update(session: &Pinned) -> String {
    let mut session = session.0.clone();
    session
        .entry("type")
        .or_insert_with(|| Value::from("realtime"));
    let event_id = event_id(RELAY_EVENT);

    json!({ "type": "session.update", "event_id": event_id, "session": session }).to_string()
}

/// Takes the audio formats out of a session object.
pub(super) fn pin_formats(session: &mut Value) {
    for side in ["input", "output"] {
        let side = session
            .get_mut("audio")
            .and_then(|audio| audio.get_mut(side))
            .and_then(Value::as_object_mut);
        if let Some(side) = side {
            side.remove("format");
        }
    }
}

/// Reads what matters of a provider's effective session.
pub(super) fn voice_session(session: &Value) -> VoiceSession {
    let input = &session["audio"]["input"];
    let turns = &input["turn_detection"];

    VoiceSession {
        input: format(&input["format"]),
        output: format(&session["audio"]["output"]["format"]),
        interrupts: turns.is_object() && turns["interrupt_response"] != Value::Bool(false),
        responds: turns.is_object() && turns["create_response"] != Value::Bool(false),
        silence: Duration::from_millis(turns["silence_duration_ms"].as_u64().unwrap_or_default()),
    }
}

fn format(format: &Value) -> Format {
    match format["type"].as_str() {
        Some("audio/pcmu") => Format::Pcmu,
        Some("audio/pcma") => Format::Pcma,
        _ => Format::Pcm,
    }
}
