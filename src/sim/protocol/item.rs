//! Items of a conversation: how a client creates them, how they are kept, how they are shown.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::sim::codec::{Decoder, Encoder};
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::format::AudioFormat;
use crate::sim::protocol::reader::{
    Fields, Read, list, nullable, short_string, string, word, words,
};
use crate::sim::speech::{Clip, Speech, duration};

/// Base64 of audio in a retrieved item is left out beyond this, since many clients close the
/// connection on a frame of more than 1 MiB.
const LONGEST_RETRIEVED_AUDIO: usize = 960 << 10;

/// An id that a client may choose.
pub(crate) const LONGEST_ID: usize = 512;

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) body: Body,
}

words! {
    /// `status`
    Status { Completed = "completed", Incomplete = "incomplete", InProgress = "in_progress" }
}

words! {
    /// `role`
    Role { System = "system", User = "user", Assistant = "assistant" }
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Message {
        role: Role,
        content: Vec<Content>,
    },
    FunctionCall {
        call_id: String,
        name: String,
        arguments: String,
    },
    FunctionCallOutput {
        call_id: String,
        output: String,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    InputText(String),
    InputImage {
        url: String,
        detail: &'static str,
    },
    InputAudio {
        sound: Arc<Clip>,
        transcript: Option<String>,
    },
    OutputText(String),
    OutputAudio(Spoken),
}

/// What has been said of a speech.
#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    pub(crate) speech: Speech,
    /// How many samples have been sent, or remain after a truncation.
    pub(crate) samples: usize,
    /// `None` once truncated, since nobody knows which words were heard.
    pub(crate) transcript: Option<String>,
}

/// Whether sound itself is shown, and in which formats.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sound {
    Omitted,
    Included {
        input: AudioFormat,
        output: AudioFormat,
    },
}

impl Item {
    /// Reads an item as a client creates it; `fresh_id` is used if it brings none of its own.
    pub(crate) fn read(
        value: Value,
        path: &str,
        input: AudioFormat,
        fresh_id: impl FnOnce() -> String,
    ) -> Read<Self> {
        let mut fields = Fields::open(value, path)?;
        let id = fields.optional("id", nullable(short_string(LONGEST_ID)))?;
        let id = id.flatten().unwrap_or_else(fresh_id);
        fields.optional("object", word(&["realtime.item"]))?;
        let status = fields.optional("status", Status::read)?;
        let kind = fields.required(
            "type",
            word(&["message", "function_call", "function_call_output"]),
        )?;
        let body = match kind {
            "message" => {
                let role = fields.required("role", Role::read)?;
                let read = |value, path: &str| Content::read(value, path, role, input);
                let content = fields.required("content", list(read))?;
                Body::Message { role, content }
            }
            "function_call" => Body::FunctionCall {
                call_id: fields.required("call_id", short_string(LONGEST_ID))?,
                name: fields.required("name", string)?,
                arguments: fields.required("arguments", string)?,
            },
            _ => Body::FunctionCallOutput {
                call_id: fields.required("call_id", short_string(LONGEST_ID))?,
                output: fields.required("output", string)?,
            },
        };
        fields.finish()?;
        Ok(Self {
            id,
            status: status.unwrap_or(Status::Completed),
            body,
        })
    }

    /// Returns the item as events show it. Fields without a value are left out, since clients
    /// refuse `null` in most of them; only the transcript of input audio is `null` until known.
    pub(crate) fn to_json(&self, sound: Sound) -> Value {
        let Self { id, status, .. } = self;
        let object = "realtime.item";
        match &self.body {
            Body::Message { role, content } => {
                let content: Vec<Value> = content.iter().map(|part| part.to_json(sound)).collect();
                json!({"id": id, "object": object, "type": "message", "status": status,
                    "role": role, "content": content})
            }
            Body::FunctionCall {
                call_id,
                name,
                arguments,
            } => {
                json!({"id": id, "object": object, "type": "function_call", "status": status,
                    "call_id": call_id, "name": name, "arguments": arguments})
            }
            Body::FunctionCallOutput { call_id, output } => {
                json!({"id": id, "object": object, "type": "function_call_output",
                    "status": status, "call_id": call_id, "output": output})
            }
        }
    }

    /// Returns what a person has written in it, if it is so.
    pub(crate) fn typed_text(&self) -> Option<String> {
        let Body::Message {
            role: Role::User,
            content,
        } = &self.body
        else {
            return None;
        };
        let mut texts = content.iter().filter_map(|part| match part {
            Content::InputText(text) => Some(text.as_str()),
            Content::InputImage { .. }
            | Content::InputAudio { .. }
            | Content::OutputText(_)
            | Content::OutputAudio(_) => None,
        });
        let first = texts.next()?.to_owned();
        Some(texts.fold(first, |all, text| all + "\n" + text))
    }

    /// Returns what a tool answered.
    pub(crate) fn output(&self) -> Option<&str> {
        match &self.body {
            Body::FunctionCallOutput { output, .. } => Some(output),
            Body::Message { .. } | Body::FunctionCall { .. } => None,
        }
    }

    /// Says what the person said in it.
    pub(crate) fn set_transcript(&mut self, text: &str) {
        for content in self.contents_mut() {
            if let Content::InputAudio { transcript, .. } = content {
                *transcript = Some(text.to_owned());
            }
        }
    }

    /// Returns the assistant's audio in it.
    pub(crate) fn spoken_mut(&mut self, content_index: usize) -> Option<&mut Spoken> {
        match self.contents_mut().get_mut(content_index)? {
            Content::OutputAudio(spoken) => Some(spoken),
            Content::InputText(_)
            | Content::InputImage { .. }
            | Content::InputAudio { .. }
            | Content::OutputText(_) => None,
        }
    }

    fn contents_mut(&mut self) -> &mut [Content] {
        match &mut self.body {
            Body::Message { content, .. } => content,
            Body::FunctionCall { .. } | Body::FunctionCallOutput { .. } => &mut [],
        }
    }

    /// Returns about how many bytes the item keeps in memory.
    pub(crate) fn weight(&self) -> usize {
        let held = match &self.body {
            Body::Message { content, .. } => content.iter().map(Content::weight).sum(),
            Body::FunctionCall {
                call_id,
                name,
                arguments,
            } => call_id.len() + name.len() + arguments.len(),
            Body::FunctionCallOutput { call_id, output } => call_id.len() + output.len(),
        };
        held + size_of::<Self>() + self.id.len()
    }

    /// Returns the tokens of text and of audio that the item costs as input.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        match &self.body {
            Body::Message { content, .. } => content
                .iter()
                .map(Content::tokens)
                .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1)),
            Body::FunctionCall {
                name, arguments, ..
            } => (text_tokens(name) + text_tokens(arguments), 0),
            Body::FunctionCallOutput { output, .. } => (text_tokens(output), 0),
        }
    }
}

impl Content {
    fn read(value: Value, path: &str, role: Role, input: AudioFormat) -> Read<Self> {
        let mut fields = Fields::open(value, path)?;
        let kinds: &'static [&'static str] = match role {
            Role::System => &["input_text"],
            Role::User => &["input_text", "input_audio", "input_image"],
            Role::Assistant => &["output_text"],
        };
        let content = match fields.required("type", word(kinds))? {
            "input_text" => Self::InputText(fields.required("text", string)?),
            "output_text" => Self::OutputText(fields.required("text", string)?),
            "input_image" => Self::InputImage {
                url: fields.required("image_url", string)?,
                detail: fields
                    .optional("detail", word(&["auto", "low", "high"]))?
                    .unwrap_or("auto"),
            },
            _ => {
                let bytes = fields.required("audio", base64_bytes)?;
                Self::InputAudio {
                    sound: Arc::new(Clip::sound(Decoder::new(input.0).decode(&bytes))),
                    transcript: fields.optional("transcript", nullable(string))?.flatten(),
                }
            }
        };
        fields.finish()?;
        Ok(content)
    }

    fn to_json(&self, sound: Sound) -> Value {
        let mut shown = match self {
            Self::InputText(text) => json!({"type": "input_text", "text": text}),
            Self::InputImage { url, detail } => {
                json!({"type": "input_image", "image_url": url, "detail": detail})
            }
            Self::InputAudio { transcript, .. } => {
                json!({"type": "input_audio", "transcript": transcript})
            }
            Self::OutputText(text) => json!({"type": "output_text", "text": text}),
            Self::OutputAudio(spoken) => match &spoken.transcript {
                Some(transcript) => json!({"type": "output_audio", "transcript": transcript}),
                None => json!({"type": "output_audio"}),
            },
        };
        if let Some(audio) = self.audio(sound) {
            shown["audio"] = audio.into();
        }
        shown
    }

    /// Returns the sound in base64, if it is asked for and of a size that clients take.
    fn audio(&self, sound: Sound) -> Option<String> {
        let Sound::Included { input, output } = sound else {
            return None;
        };
        let bytes = match self {
            Self::InputAudio { sound, .. } => Encoder::new(input.0).encode(&sound.pcm),
            Self::OutputAudio(spoken) => {
                Encoder::new(output.0).encode(&spoken.speech.read(0..spoken.samples))
            }
            Self::InputText(_) | Self::InputImage { .. } | Self::OutputText(_) => return None,
        };
        (bytes.len() / 3 * 4 <= LONGEST_RETRIEVED_AUDIO).then(|| STANDARD.encode(bytes))
    }

    fn weight(&self) -> usize {
        match self {
            Self::InputText(text) | Self::OutputText(text) => text.len(),
            Self::InputImage { url, .. } => url.len(),
            Self::InputAudio { sound, transcript } => {
                sound.pcm.len() * 2 + transcript.as_ref().map_or(0, String::len)
            }
            // The clips are shared.
            Self::OutputAudio(spoken) => spoken.transcript.as_ref().map_or(0, String::len),
        }
    }

    /// OpenAI's rates: 100 ms of a person's speech and 50 ms of the assistant's are a token each.
    fn tokens(&self) -> (u64, u64) {
        match self {
            Self::InputText(text) | Self::OutputText(text) => (text_tokens(text), 0),
            Self::InputImage { .. } => (0, 0),
            Self::InputAudio { sound, .. } => {
                (0, duration(sound.pcm.len()).as_millis() as u64 / 100)
            }
            Self::OutputAudio(spoken) => (
                spoken.transcript.as_deref().map_or(0, text_tokens),
                duration(spoken.samples).as_millis() as u64 / 50,
            ),
        }
    }
}

/// The usual estimate: four characters a token.
pub(crate) fn text_tokens(text: &str) -> u64 {
    text.len().div_ceil(4) as u64
}

pub(crate) fn base64_bytes(value: Value, path: &str) -> Read<Vec<u8>> {
    let text = string(value, path)?;
    STANDARD.decode(text).map_err(|fault| {
        let message = format!("Invalid '{path}'. Expected base64-encoded audio bytes: {fault}.");
        ApiError::invalid_value(path, message)
    })
}
