//! The session object: what `session.update` may say, and what is echoed.
//!
//! **Invariants:** an update is applied whole or not at all; the echo has every field that
//! OpenAI's has, with its effective value.

use serde::Serialize;
use serde_json::Value;

use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::format::AudioFormat;
use crate::sim::protocol::reader::{
    Fields, Read, boolean, list, nullable, number, object, string, word, words,
};
use crate::sim::protocol::tools::{MaxTokens, Modality, Reasoning, prompt, tool, tool_choice};
use crate::sim::protocol::turn_detection::TurnDetection;

const INSTRUCTIONS: &str = "You are a line-test agent: you help a person to test a voice \
    connection. Greet them, play their own voice back, say how long you heard them and how fast \
    you answered, tell a story that may be interrupted, count, and say the time.";

/// What a client may ask to be told besides.
pub(crate) const INCLUDED: &[&str] = &["item.input_audio_transcription.logprobs"];

/// What a session is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// To talk with this model.
    Conversation { model: String },
    /// To have written down what is said.
    Transcription,
}

/// Everything a client can set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SessionConfig {
    pub(crate) output_modalities: Modality,
    pub(crate) instructions: String,
    pub(crate) audio: Audio,
    pub(crate) max_output_tokens: MaxTokens,
    pub(crate) truncation: Value,
    pub(crate) tools: Vec<Value>,
    pub(crate) tool_choice: Value,
    pub(crate) tracing: Option<Value>,
    pub(crate) prompt: Option<Value>,
    pub(crate) include: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<Reasoning>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Audio {
    pub(crate) input: AudioInput,
    pub(crate) output: AudioOutput,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct AudioInput {
    pub(crate) format: AudioFormat,
    pub(crate) transcription: Option<Transcription>,
    pub(crate) noise_reduction: Option<NoiseReduction>,
    pub(crate) turn_detection: Option<TurnDetection>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct AudioOutput {
    pub(crate) format: AudioFormat,
    pub(crate) voice: Voice,
    pub(crate) speed: f64,
}

/// `audio.input.transcription`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Transcription {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    languages: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keywords: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<Delay>,
}

words! {
    /// `audio.input.transcription.delay`
    Delay { Minimal = "minimal", Low = "low", Medium = "medium", High = "high", XHigh = "xhigh" }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NoiseReduction {
    #[serde(rename = "type")]
    kind: Field,
    #[serde(skip_serializing_if = "Option::is_none")]
    strength: Option<f64>,
}

words! {
    /// Where the microphone is.
    Field { Near = "near_field", Far = "far_field" }
}

/// A voice's name, or `{"id": "voice_..."}`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Voice {
    BuiltIn(&'static str),
    Custom { id: String },
}

/// What an update is measured against, beside the configuration itself.
pub(crate) struct Rules<'a> {
    pub(crate) purpose: &'a Purpose,
    /// Audio has been produced in this voice.
    pub(crate) voice_locked: bool,
}

impl Purpose {
    /// Returns what such a session begins with.
    pub(crate) fn config(&self) -> SessionConfig {
        match self {
            Self::Conversation { .. } => SessionConfig::default(),
            Self::Transcription => SessionConfig::transcription(),
        }
    }
}

impl Rules<'_> {
    /// The model that answers; none does in a transcription session.
    pub(crate) fn model(&self) -> &str {
        match self.purpose {
            Purpose::Conversation { model } => model,
            Purpose::Transcription => "",
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            output_modalities: Modality::Audio,
            instructions: INSTRUCTIONS.to_owned(),
            audio: Audio {
                input: AudioInput {
                    format: AudioFormat::default(),
                    transcription: None,
                    noise_reduction: None,
                    turn_detection: Some(TurnDetection::default()),
                },
                output: AudioOutput {
                    format: AudioFormat::default(),
                    voice: Voice::BuiltIn("alloy"),
                    speed: 1.0,
                },
            },
            max_output_tokens: MaxTokens::Infinite,
            truncation: "auto".into(),
            tools: Vec::new(),
            tool_choice: "auto".into(),
            tracing: None,
            prompt: None,
            include: None,
            reasoning: None,
        }
    }
}

impl SessionConfig {
    /// Returns the configuration after `update`, the `session` of a `session.update`.
    pub(crate) fn updated(&self, update: Value, rules: &Rules<'_>) -> Read<Self> {
        match rules.purpose {
            Purpose::Conversation { .. } => self.conversation_updated(update, rules),
            Purpose::Transcription => self.transcription_updated(update),
        }
    }

    fn conversation_updated(&self, update: Value, rules: &Rules<'_>) -> Read<Self> {
        let mut next = self.clone();
        let mut fields = Fields::open(update, "session")?;
        fields.required("type", word(&["realtime"]))?;
        fields.optional("model", |value, path| same_model(value, path, rules))?;
        fields.set(
            "output_modalities",
            &mut next.output_modalities,
            Modality::read,
        )?;
        fields.set("instructions", &mut next.instructions, string)?;
        fields.optional("audio", |value, path| next.audio.update(value, path, rules))?;
        fields.set(
            "max_output_tokens",
            &mut next.max_output_tokens,
            MaxTokens::read,
        )?;
        fields.set("truncation", &mut next.truncation, truncation)?;
        fields.set("tools", &mut next.tools, list(tool))?;
        fields.set("tool_choice", &mut next.tool_choice, tool_choice)?;
        fields.set("tracing", &mut next.tracing, |value, path| {
            unchanged_once_on(self.tracing.as_ref(), value, path)
        })?;
        fields.set("prompt", &mut next.prompt, nullable(prompt))?;
        fields.set("include", &mut next.include, nullable(list(word(INCLUDED))))?;
        let reasoning = fields.optional("reasoning", |value, path| {
            reasons(rules.model(), path)?;
            nullable(Reasoning::read)(value, path)
        })?;
        next.reasoning = reasoning.unwrap_or(next.reasoning);
        // Taken, but not echoed, as nothing calls tools.
        fields.optional("parallel_tool_calls", |value, path| {
            reasons(rules.model(), path)?;
            boolean(value, path)
        })?;
        fields.finish()?;
        Ok(next)
    }
}

impl Audio {
    fn update(&mut self, value: Value, path: &str, rules: &Rules<'_>) -> Read<()> {
        let mut fields = Fields::open(value, path)?;
        fields.optional("input", |value, path| self.input.update(value, path))?;
        fields.optional("output", |value, path| {
            self.output.update(value, path, rules)
        })?;
        fields.finish()
    }
}

impl AudioInput {
    pub(crate) fn update(&mut self, value: Value, path: &str) -> Read<()> {
        let mut fields = Fields::open(value, path)?;
        fields.set("format", &mut self.format, AudioFormat::read)?;
        let transcription = nullable(Transcription::read);
        fields.set("transcription", &mut self.transcription, transcription)?;
        let noise_reduction = nullable(NoiseReduction::read);
        fields.set(
            "noise_reduction",
            &mut self.noise_reduction,
            noise_reduction,
        )?;
        let current = self.turn_detection.clone();
        let turn_detection =
            nullable(|value, path: &str| TurnDetection::read(current.as_ref(), value, path));
        fields.set("turn_detection", &mut self.turn_detection, turn_detection)?;
        fields.finish()
    }
}

impl AudioOutput {
    /// Takes an update; a response may override `format` and `voice`, not `speed`.
    fn update(&mut self, value: Value, path: &str, rules: &Rules<'_>) -> Read<()> {
        let mut fields = Fields::open(value, path)?;
        fields.set("format", &mut self.format, AudioFormat::read)?;
        let voice = fields.optional("voice", Voice::read)?;
        let param = fields.path_of("voice");
        fields.set("speed", &mut self.speed, number(0.25..=1.5))?;
        fields.finish()?;
        self.choose_voice(voice, &param, rules)
    }

    pub(crate) fn choose_voice(
        &mut self,
        voice: Option<Voice>,
        param: &str,
        rules: &Rules<'_>,
    ) -> Read<()> {
        let Some(voice) = voice.filter(|voice| *voice != self.voice) else {
            return Ok(());
        };
        if rules.voice_locked {
            let message = "Cannot update a conversation's voice if assistant audio is present.";
            return Err(ApiError::new("cannot_update_voice", message).at(param));
        }
        self.voice = voice;
        Ok(())
    }
}

impl Transcription {
    pub(crate) fn by(model: &'static str) -> Self {
        Self {
            model: Some(model),
            ..Self::default()
        }
    }

    pub(crate) fn model(&self) -> Option<&'static str> {
        self.model
    }

    fn read(value: Value, path: &str) -> Read<Self> {
        const MODELS: &[&str] = &[
            "gpt-transcribe",
            "gpt-live-transcribe",
            "gpt-realtime-whisper",
            "whisper-1",
            "gpt-4o-transcribe",
            "gpt-4o-mini-transcribe",
            "gpt-4o-mini-transcribe-2025-12-15",
            "gpt-4o-transcribe-diarize",
        ];
        let mut fields = Fields::open(value, path)?;
        let read = Self {
            model: fields.optional("model", word(MODELS))?,
            language: fields.optional("language", nullable(string))?.flatten(),
            languages: fields
                .optional("languages", nullable(list(string)))?
                .flatten(),
            keywords: fields
                .optional("keywords", nullable(list(string)))?
                .flatten(),
            prompt: fields.optional("prompt", nullable(string))?.flatten(),
            delay: fields.optional("delay", nullable(Delay::read))?.flatten(),
        };
        fields.finish()?;
        Ok(read)
    }
}

impl NoiseReduction {
    fn read(value: Value, path: &str) -> Read<Self> {
        let mut fields = Fields::open(value, path)?;
        let read = Self {
            kind: fields.required("type", Field::read)?,
            strength: fields.optional("strength", number(0.0..=1.0))?,
        };
        fields.finish()?;
        Ok(read)
    }
}

impl Voice {
    const NAMES: &'static [&'static str] = &[
        "alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar",
    ];

    pub(crate) fn read(value: Value, path: &str) -> Read<Self> {
        if !value.is_object() {
            return word(Self::NAMES)(value, path).map(Self::BuiltIn);
        }
        let mut fields = Fields::open(value, path)?;
        let id = fields.required("id", string)?;
        fields.finish()?;
        Ok(Self::Custom { id })
    }
}

/// Refuses what only models that reason know, as OpenAI does: the whole update.
pub(crate) fn reasons(model: &str, param: &str) -> Read<()> {
    let generation = model.strip_prefix("gpt-realtime-").unwrap_or_default();
    let generation = generation.split('-').next().unwrap_or_default();
    if generation == "2" || generation.starts_with("2.") {
        return Ok(());
    }
    let message = format!("Unsupported parameter: '{param}' is not supported with '{model}'.");
    Err(ApiError::invalid_value(param, message))
}

fn same_model(value: Value, path: &str, rules: &Rules<'_>) -> Read<()> {
    if string(value, path)? == rules.model() {
        return Ok(());
    }
    let message = format!(
        "A session's model is fixed when it connects; this one's is '{}'.",
        rules.model()
    );
    Err(ApiError::invalid_value(path, message))
}

fn truncation(value: Value, path: &str) -> Read<Value> {
    if value.is_string() {
        return word(&["auto", "disabled"])(value, path).map(Value::from);
    }
    let kept = value.clone();
    let mut fields = Fields::open(value, path)?;
    fields.required("type", word(&["retention_ratio"]))?;
    fields.required("retention_ratio", number(0.0..=1.0))?;
    fields.optional("token_limits", |value, path| {
        let mut limits = Fields::open(value, path)?;
        let any = crate::sim::protocol::reader::integer(0..=u64::MAX);
        limits.optional("post_instructions", any)?;
        limits.finish()
    })?;
    fields.finish()?;
    Ok(kept)
}

fn tracing(value: Value, path: &str) -> Read<Option<Value>> {
    if value.is_null() {
        return Ok(None);
    }
    if value.is_string() {
        return word(&["auto"])(value, path).map(|auto| Some(auto.into()));
    }
    let kept = value.clone();
    let mut fields = Fields::open(value, path)?;
    fields.optional("workflow_name", string)?;
    fields.optional("group_id", string)?;
    fields.optional("metadata", object)?;
    fields.finish()?;
    Ok(Some(kept))
}

fn unchanged_once_on(current: Option<&Value>, value: Value, path: &str) -> Read<Option<Value>> {
    let next = tracing(value, path)?;
    if current.is_some() && current != next.as_ref() {
        let message = "Tracing cannot be changed once it is enabled for a session.";
        return Err(ApiError::invalid_value(path, message));
    }
    Ok(next)
}
