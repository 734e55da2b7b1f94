//! The session object, as far as the relay reads and changes it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::core::audio::Format;
use crate::core::port::{Fault, Json, VoiceSession};
use crate::wire::realtime::{Carrier, Toolbox, event_id};

/// A client's session settings, made fit to be sent as the first `session.update`.
#[derive(Clone, Debug, Default)]
pub struct Pinned(Map<String, Value>, Toolbox);

impl Pinned {
    /// Takes the session object of a `POST /v1/realtime/calls` form.
    pub fn new(session: Value, carrier: Carrier) -> Result<Self, Fault> {
        let mut session = session;
        if carrier.relay_plays() {
            pin_formats(&mut session);
            name_formats(&mut session);
        }
        let Value::Object(mut fields) = session else {
            return Err(Fault::invalid(
                "invalid_type",
                "`session` is a JSON object with `type` set to `realtime`.",
            )
            .at("session"));
        };
        fields.remove("model");

        Ok(Self(fields, Toolbox::default()))
    }

    /// Takes over what a `session.update` has changed: settings that are objects of settings
    /// themselves keep what it does not name, all others are replaced.
    pub fn adopt(&mut self, update: &Json) {
        let mut update: Value = serde_json::from_str(update.as_str()).unwrap_or_default();
        if let Value::Object(session) = update["session"].take() {
            for (key, value) in session {
                match (self.0.get_mut(&key), value) {
                    (Some(Value::Object(audio)), Value::Object(sides)) if key == "audio" => {
                        adopt_audio(audio, sides);
                    }
                    (_, value) => drop(self.0.insert(key, value)),
                }
            }
            self.0.remove("model");
        }
    }

    /// Returns whether there is nothing to tell the provider.
    pub fn is_empty(&self) -> bool {
        self.0.keys().all(|key| key == "type") && self.1.is_empty()
    }

    /// Offers the relay's own tools beside the client's.
    pub fn with_tools(self, toolbox: Toolbox) -> Self {
        Self(self.0, toolbox)
    }

    /// Returns the relay's own tools in it.
    pub fn toolbox(&self) -> &Toolbox {
        &self.1
    }
}

fn adopt_audio(audio: &mut Map<String, Value>, sides: Map<String, Value>) {
    for (side, settings) in sides {
        match (audio.get_mut(&side), settings) {
            (Some(Value::Object(before)), Value::Object(settings)) => before.extend(settings),
            (_, settings) => drop(audio.insert(side, settings)),
        }
    }
}

/// Encodes the relay's first `session.update` on a link.
pub fn session_update(pinned: &Pinned) -> String {
    let mut session = pinned.0.clone();
    session
        .entry("type")
        .or_insert_with(|| Value::from("realtime"));
    if !pinned.1.is_empty() {
        let tools = session.entry("tools").or_insert_with(|| json!([]));
        pinned.1.add_to(tools);
    }
    let event_id = event_id("voxline_");

    json!({ "type": "session.update", "event_id": event_id, "session": session }).to_string()
}

/// Encodes the session object of the relay's own `POST /v1/realtime/calls`.
pub fn call_session(session: &Pinned, model: &str) -> String {
    let mut session = session.0.clone();
    session
        .entry("type")
        .or_insert_with(|| Value::from("realtime"));
    session.insert("model".to_owned(), Value::from(model));

    Value::Object(session).to_string()
}

/// Names the format of the relay's own sound: not every provider's default is OpenAI's.
fn name_formats(session: &mut Value) {
    let transcribes = session["type"] == "transcription";
    let Some(fields) = session.as_object_mut() else {
        return;
    };
    let sides: &[&str] = if transcribes {
        &["input"]
    } else {
        &["input", "output"]
    };
    let audio = fields.entry("audio").or_insert_with(|| json!({}));
    for side in sides {
        // What is no object is for the provider to refuse.
        let Some(audio) = audio.as_object_mut() else {
            return;
        };
        let side = audio.entry(*side).or_insert_with(|| json!({}));
        if let Some(side) = side.as_object_mut() {
            side.insert(
                "format".to_owned(),
                json!({ "type": "audio/pcm", "rate": 24_000 }),
            );
        }
    }
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
    // A session that transcribes has no responses, and does not say so of its detector.
    let answers = turns.is_object() && session["type"] != "transcription";

    VoiceSession {
        input: format(&input["format"]),
        output: format(&session["audio"]["output"]["format"]),
        interrupts: answers && turns["interrupt_response"] != Value::Bool(false),
        responds: answers && turns["create_response"] != Value::Bool(false),
        silence: Duration::from_millis(turns["silence_duration_ms"].as_u64().unwrap_or_default()),
        detects: turns.is_object(),
        transcribes: input["transcription"].is_object(),
        // Zero where it says nothing, as in a client secret's session.
        expires_at: session["expires_at"].as_u64().filter(|at| *at > 0),
    }
}

fn format(format: &Value) -> Format {
    match format["type"].as_str() {
        Some("audio/pcmu") => Format::Pcmu,
        Some("audio/pcma") => Format::Pcma,
        _ => Format::Pcm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webrtc_session_names_the_relays_format_whatever_the_client_says() {
        let pcm = json!({ "type": "audio/pcm", "rate": 24_000 });
        let pinned = |session: Value| {
            let text = session_update(&Pinned::new(session, Carrier::WebRtc).unwrap());
            let mut event: Value = serde_json::from_str(&text).unwrap();
            event["session"].take()
        };

        let session = pinned(json!({ "type": "realtime", "model": "m", "audio": {
            "input": { "format": { "type": "audio/pcmu" }, "turn_detection": null } } }));
        assert_eq!(session["audio"]["input"]["format"], pcm);
        assert_eq!(session["audio"]["input"]["turn_detection"], Value::Null);
        assert_eq!(session["audio"]["output"], json!({ "format": pcm }));
        assert!(session.get("model").is_none());

        let session = pinned(json!({ "type": "transcription" }));
        assert_eq!(session["audio"], json!({ "input": { "format": pcm } }));

        // Nonsense is the provider's to refuse.
        for audio in [json!(7), json!(null), json!({ "input": [] })] {
            let session = pinned(json!({ "type": "realtime", "audio": audio.clone() }));
            assert_eq!(session["audio"]["input"], audio["input"]);
        }
    }

    #[test]
    fn a_websocket_session_is_passed_on_as_it_came() {
        let session = json!({ "type": "realtime", "audio": {
            "input": { "format": { "type": "audio/pcmu" } } } });
        let pinned = Pinned::new(session.clone(), Carrier::WebSocket).unwrap();
        let event: Value = serde_json::from_str(&session_update(&pinned)).unwrap();
        assert_eq!(event["session"], session);
    }

    #[test]
    fn what_an_update_does_not_name_stays() {
        let mut pinned = Pinned::new(
            json!({ "instructions": "i", "tools": [1], "audio": {
                "input": { "turn_detection": { "type": "server_vad", "threshold": 0.1 } },
                "output": { "voice": "marin" } } }),
            Carrier::WebRtc,
        )
        .unwrap();

        pinned.adopt(&Json::from(
            json!({ "type": "session.update", "session": { "type": "realtime", "tools": [],
                "model": "m", "audio": { "input": { "turn_detection": null } } } })
            .to_string(),
        ));

        let event: Value = serde_json::from_str(&session_update(&pinned)).unwrap();
        let pcm = json!({ "type": "audio/pcm", "rate": 24_000 });
        assert_eq!(
            event["session"],
            json!({ "type": "realtime", "instructions": "i", "tools": [], "audio": {
                "input": { "format": pcm, "turn_detection": null },
                "output": { "format": pcm, "voice": "marin" } } })
        );
        pinned.adopt(&Json::from("nonsense"));
    }

    #[test]
    fn a_transcription_is_not_awaited_to_answer() {
        let of = |kind: &str| {
            let turns = json!({ "type": "server_vad", "silence_duration_ms": 200 });
            voice_session(
                &json!({ "type": kind, "audio": { "input": { "turn_detection": turns } } }),
            )
        };

        assert!(of("realtime").responds && of("realtime").interrupts);
        let transcription = of("transcription");
        assert!(!transcription.responds && !transcription.interrupts);
        assert_eq!(transcription.silence, Duration::from_millis(200));
    }

    #[test]
    fn a_call_is_asked_for_with_a_type_and_a_model() {
        let pinned = Pinned::new(json!({ "instructions": "i" }), Carrier::WebSocket).unwrap();
        let session: Value = serde_json::from_str(&call_session(&pinned, "m")).unwrap();
        assert_eq!(
            session,
            json!({ "type": "realtime", "model": "m", "instructions": "i" })
        );
    }
}
