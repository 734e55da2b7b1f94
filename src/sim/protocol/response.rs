//! What `response.create` may ask for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::sim::protocol::format::AudioFormat;
use crate::sim::protocol::item::{Item, LONGEST_ID};
use crate::sim::protocol::reader::{
    Fields, Read, boolean, list, nullable, short_string, string, word,
};
use crate::sim::protocol::session::{AudioOutput, Rules, SessionConfig, Voice, reasons};
use crate::sim::protocol::tools::{
    MaxTokens, Modality, Reasoning, metadata, prompt, tool, tool_choice,
};

/// A response's settings: the session's, with what `response.create` overrides.
#[derive(Clone, Debug)]
pub(crate) struct ResponseParams {
    pub(crate) conversation: Place,
    /// Replaces the conversation as context.
    pub(crate) input: Option<Vec<Input>>,
    pub(crate) instructions: String,
    pub(crate) modality: Modality,
    pub(crate) audio: ResponseAudio,
    pub(crate) tools: Vec<Value>,
    pub(crate) tool_choice: Value,
    pub(crate) max_output_tokens: MaxTokens,
    pub(crate) metadata: Option<BTreeMap<String, String>>,
}

/// Where a response writes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// `conversation: "auto"`
    Conversation,
    /// `conversation: "none"`
    OutOfBand,
}

#[derive(Clone, Debug)]
pub(crate) enum Input {
    Item(Item),
    Reference { id: String, param: String },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ResponseAudio {
    pub(crate) format: AudioFormat,
    pub(crate) voice: Voice,
}

impl ResponseParams {
    /// A response that nothing but the session's settings shapes.
    pub(crate) fn of(config: &SessionConfig) -> Self {
        let AudioOutput { format, voice, .. } = config.audio.output.clone();
        Self {
            conversation: Place::Conversation,
            input: None,
            instructions: config.instructions.clone(),
            modality: config.output_modalities,
            audio: ResponseAudio { format, voice },
            tools: config.tools.clone(),
            tool_choice: config.tool_choice.clone(),
            max_output_tokens: config.max_output_tokens,
            metadata: None,
        }
    }

    /// Reads the `response` of a `response.create`.
    pub(crate) fn read(
        value: Value,
        config: &SessionConfig,
        rules: &Rules<'_>,
        mut fresh_id: impl FnMut() -> String,
    ) -> Read<Self> {
        let mut params = Self::of(config);
        let mut fields = Fields::open(value, "response")?;
        if let Some("none") = fields.optional("conversation", word(&["auto", "none"]))? {
            params.conversation = Place::OutOfBand;
        }
        let format = config.audio.input.format;
        let mut inputs = Vec::new();
        let values = fields.optional("input", list(|value, path| Ok((value, path.to_owned()))))?;
        for (value, path) in values.iter().flatten() {
            inputs.push(Input::read(value.clone(), path, format, &mut fresh_id)?);
        }
        params.input = values.map(|_| inputs);
        let instructions = fields.optional("instructions", nullable(string))?;
        params.instructions = instructions.flatten().unwrap_or(params.instructions);
        fields.set("output_modalities", &mut params.modality, Modality::read)?;
        fields.optional("audio", |value, path| {
            params.audio.update(value, path, config, rules)
        })?;
        fields.set("tools", &mut params.tools, list(tool))?;
        fields.set("tool_choice", &mut params.tool_choice, tool_choice)?;
        fields.set(
            "max_output_tokens",
            &mut params.max_output_tokens,
            MaxTokens::read,
        )?;
        fields.set("metadata", &mut params.metadata, nullable(metadata))?;
        fields.optional("prompt", nullable(prompt))?;
        fields.optional("parallel_tool_calls", |value, path| {
            reasons(rules.model(), path)?;
            boolean(value, path)
        })?;
        fields.optional("reasoning", |value, path| {
            reasons(rules.model(), path)?;
            nullable(Reasoning::read)(value, path)
        })?;
        fields.finish()?;
        Ok(params)
    }
}

impl Input {
    fn read(
        value: Value,
        path: &str,
        format: AudioFormat,
        fresh_id: impl FnOnce() -> String,
    ) -> Read<Self> {
        if value.get("type").and_then(Value::as_str) != Some("item_reference") {
            return Item::read(value, path, format, fresh_id).map(Self::Item);
        }
        let mut fields = Fields::open(value, path)?;
        fields.required("type", string)?;
        let id = fields.required("id", short_string(LONGEST_ID))?;
        let param = fields.path_of("id");
        fields.finish()?;
        Ok(Self::Reference { id, param })
    }
}

impl ResponseAudio {
    fn update(
        &mut self,
        value: Value,
        path: &str,
        config: &SessionConfig,
        rules: &Rules<'_>,
    ) -> Read<()> {
        let mut fields = Fields::open(value, path)?;
        fields.optional("output", |value, path| {
            let mut output = Fields::open(value, path)?;
            output.set("format", &mut self.format, AudioFormat::read)?;
            let voice = output.optional("voice", Voice::read)?;
            let param = output.path_of("voice");
            output.finish()?;
            let mut chosen = config.audio.output.clone();
            chosen.choose_voice(voice, &param, rules)?;
            self.voice = chosen.voice;
            Ok(())
        })?;
        fields.finish()
    }
}
