//! The session object of a session that transcribes and does not answer: an input, and nothing
//! else.

use serde::Serialize;
use serde_json::{Value, json};

use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::format::AudioFormat;
use crate::sim::protocol::reader::{Fields, Read, list, nullable, word};
use crate::sim::protocol::session::{AudioInput, INCLUDED, SessionConfig, Transcription};
use crate::sim::protocol::turn_detection::TurnDetection;

/// The models that take audio as it comes, and so leave it to the client to say when a turn ends.
const WITHOUT_DETECTION: [&str; 2] = ["gpt-realtime-whisper", "gpt-live-transcribe"];

impl SessionConfig {
    /// Returns what a transcription session begins with.
    pub(crate) fn transcription() -> Self {
        let mut config = Self::default();
        config.audio.input.transcription = Some(Transcription::by("gpt-transcribe"));
        config
    }

    /// Returns the configuration after `update`, the `session` of a `session.update`.
    pub(crate) fn transcription_updated(&self, update: Value) -> Read<Self> {
        let mut next = self.clone();
        let mut fields = Fields::open(update, "session")?;
        fields.required("type", word(&["transcription"]))?;
        fields.optional("audio", |value, path| {
            let mut fields = Fields::open(value, path)?;
            let input = &mut next.audio.input;
            fields.optional("input", |value, path| input.update(value, path))?;
            fields.finish()
        })?;
        fields.set("include", &mut next.include, nullable(list(word(INCLUDED))))?;
        fields.finish()?;
        detectable(&next.audio.input)?;
        Ok(next)
    }

    /// Returns what is shown of a transcription session, beside what all sessions have.
    pub(crate) fn transcription_object(&self) -> TranscriptionObject<'_> {
        TranscriptionObject {
            audio: Audio {
                input: Input::of(&self.audio.input),
            },
            include: self.include.as_deref(),
        }
    }
}

/// What is not set is left out, for OpenAI's schemas know no `null` here but that of
/// `turn_detection`.
#[derive(Serialize)]
pub(crate) struct TranscriptionObject<'a> {
    audio: Audio<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<&'a [&'static str]>,
}

#[derive(Serialize)]
struct Audio<'a> {
    input: Input<'a>,
}

#[derive(Serialize)]
struct Input<'a> {
    format: AudioFormat,
    #[serde(skip_serializing_if = "Option::is_none")]
    transcription: Option<&'a Transcription>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise_reduction: Option<Value>,
    turn_detection: Option<Value>,
}

impl<'a> Input<'a> {
    fn of(input: &'a AudioInput) -> Self {
        let noise_reduction = input.noise_reduction.as_ref();
        Self {
            format: input.format,
            transcription: input.transcription.as_ref(),
            noise_reduction: noise_reduction.map(|reduction| json!(reduction)),
            turn_detection: input.turn_detection.as_ref().map(detector),
        }
    }
}

/// There is no response to create or to interrupt.
fn detector(detection: &TurnDetection) -> Value {
    let mut shown = json!(detection);
    if let Some(fields) = shown.as_object_mut() {
        for only_with_responses in ["create_response", "interrupt_response", "idle_timeout_ms"] {
            fields.remove(only_with_responses);
        }
    }
    shown
}

fn detectable(input: &AudioInput) -> Read<()> {
    const PARAM: &str = "session.audio.input.turn_detection";
    let Some(detection) = &input.turn_detection else {
        return Ok(());
    };
    if let TurnDetection::SemanticVad { .. } = detection {
        let message = "A transcription session detects turns by 'server_vad' only.";
        return Err(ApiError::invalid_value(PARAM, message));
    }
    let model = input.transcription.as_ref().and_then(Transcription::model);
    match model.filter(|model| WITHOUT_DETECTION.contains(model)) {
        Some(model) => {
            let message = format!(
                "'{model}' does not detect turns: set '{PARAM}' to null, and commit the audio."
            );
            Err(ApiError::invalid_value(PARAM, message))
        }
        None => Ok(()),
    }
}
