//! What the embedded provider knows of a session, for tests to look at.
//!
//! **Invariant:** a report is bounded: the last [`MAX_ITEMS`] items, and of each text its first
//! [`MAX_TEXT`] characters.

use serde::Serialize;

use crate::sim::protocol::item::{Body, Content, Item, Role, Status};
use crate::sim::speech::duration;

/// The most items of a report.
pub(crate) const MAX_ITEMS: usize = 512;
/// The most characters of a text in it.
const MAX_TEXT: usize = 4_096;

/// A session, live or ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionReport {
    pub id: String,
    /// `None` for a transcription.
    pub model: Option<String>,
    /// In milliseconds since 1970.
    pub began_at_ms: u64,
    pub ended: Option<Ended>,
    /// The conversation in its order, as the model would read it.
    pub items: Vec<ItemReport>,
    /// How many older items are not shown.
    pub items_left_out: usize,
    /// All audio that came in, whatever became of it.
    pub input_audio_ms: u64,
    pub responses_created: u64,
    pub responses_cancelled: u64,
    /// Truncations that were carried out.
    pub truncates: u64,
}

/// How a session ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Ended {
    /// In milliseconds since 1970.
    pub at_ms: u64,
    pub how: End,
    /// What the provider closed with, if it did.
    pub close: Option<(u16, String)>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The client closed it, or it broke.
    Gone,
    /// The session closed it.
    Closed,
    /// A fault ended it without a close.
    HungUp,
    /// A fault reset it.
    Reset,
    /// The client did not read.
    Slow,
    Shutdown,
}

/// An item of a conversation. What does not belong to its kind is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ItemReport {
    pub id: String,
    /// `message`, `function_call` or `function_call_output`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub status: &'static str,
    pub role: Option<&'static str>,
    /// What is written in it, or said if that is known.
    pub text: Option<String>,
    /// How much sound it has.
    pub audio_ms: Option<u64>,
    /// It was cut, so that nobody knows its words.
    pub truncated: bool,
    pub call_id: Option<String>,
    pub name: Option<String>,
    pub arguments: Option<String>,
    pub output: Option<String>,
}

impl ItemReport {
    pub(crate) fn of(item: &Item) -> Self {
        let report = Self {
            id: item.id.clone(),
            status: match item.status {
                Status::Completed => "completed",
                Status::Incomplete => "incomplete",
                Status::InProgress => "in_progress",
            },
            ..Self::default()
        };
        match &item.body {
            Body::Message { role, content } => {
                let mut report = Self {
                    kind: "message",
                    role: Some(match role {
                        Role::System => "system",
                        Role::User => "user",
                        Role::Assistant => "assistant",
                    }),
                    ..report
                };
                for part in content {
                    report.add(part);
                }
                report
            }
            Body::FunctionCall {
                call_id,
                name,
                arguments,
            } => Self {
                kind: "function_call",
                call_id: Some(call_id.clone()),
                name: Some(bounded(name)),
                arguments: Some(bounded(arguments)),
                ..report
            },
            Body::FunctionCallOutput { call_id, output } => Self {
                kind: "function_call_output",
                call_id: Some(call_id.clone()),
                output: Some(bounded(output)),
                ..report
            },
        }
    }

    fn add(&mut self, part: &Content) {
        match part {
            Content::InputText(text) | Content::OutputText(text) => self.write(text),
            Content::InputAudio { sound, transcript } => {
                self.sound(sound.pcm.len());
                if let Some(transcript) = transcript {
                    self.write(transcript);
                }
            }
            Content::OutputAudio(spoken) => {
                self.sound(spoken.samples);
                match &spoken.transcript {
                    Some(transcript) => self.write(transcript),
                    None => self.truncated = true,
                }
            }
            Content::InputImage { .. } => {}
        }
    }

    fn write(&mut self, text: &str) {
        let written = self.text.take().unwrap_or_default();
        self.text = Some(bounded(&(written + text)));
    }

    fn sound(&mut self, samples: usize) {
        let ms = duration(samples).as_millis() as u64;
        self.audio_ms = Some(self.audio_ms.unwrap_or(0) + ms);
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
