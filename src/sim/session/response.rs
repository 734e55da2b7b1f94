//! A response while it is being made.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sim::codec::Encoder;
use crate::sim::protocol::item::{Body, Content, Item, Role, Spoken, Status, text_tokens};
use crate::sim::protocol::response::{Place, ResponseParams};
use crate::sim::protocol::server::{
    FailureBody, InputTokens, OutputTokens, Part, PartId, ResponseAudioObject, ResponseObject,
    StatusDetails, Usage,
};
use crate::sim::protocol::tools::Modality;
use crate::sim::session::calling::{Call, Calling};
use crate::sim::speech::{Speech, duration};

pub(crate) struct Response {
    pub(crate) id: String,
    pub(crate) item_id: String,
    pub(crate) params: ResponseParams,
    /// What is said first; the calls follow.
    pub(crate) speech: Speech,
    pub(crate) calls: VecDeque<Call>,
    /// The items that are done, as they are shown.
    pub(crate) output: Vec<Value>,
    /// The tokens of these.
    pub(crate) said: OutputTokens,
    pub(crate) input: InputTokens,
    /// When the person's last sound came, if this answers it.
    pub(crate) answers: Option<Instant>,
    pub(crate) stage: Stage,
    /// A fault has silenced it.
    pub(crate) stalled: bool,
}

pub(crate) enum Stage {
    /// Nothing has been said yet.
    Thinking {
        until: Instant,
    },
    Speaking(Speaking),
    Calling(Calling),
}

pub(crate) struct Speaking {
    pub(crate) since: Instant,
    pub(crate) next: Instant,
    /// How many samples and words have been sent.
    pub(crate) sent: usize,
    pub(crate) words: usize,
    pub(crate) text: String,
    pub(crate) encoder: Encoder,
    /// What the item keeps: all of it, unless it is truncated.
    pub(crate) kept: Spoken,
}

/// How a response ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Completed,
    Cancelled(&'static str),
    Incomplete(&'static str),
    Failed,
}

impl Response {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let next = match &self.stage {
            Stage::Thinking { until } => *until,
            Stage::Speaking(speaking) => speaking.next,
            Stage::Calling(calling) => calling.next,
        };
        (!self.stalled).then_some(next)
    }

    pub(crate) fn is_in_conversation(&self) -> bool {
        self.params.conversation == Place::Conversation
    }

    /// Whether it is about to say this item.
    pub(crate) fn writes(&self, item_id: &str) -> bool {
        match &self.stage {
            Stage::Thinking { .. } | Stage::Speaking(_) => self.item_id == item_id,
            Stage::Calling(_) => false,
        }
    }

    /// Returns the item that it is at, if it is this one.
    pub(crate) fn item_so_far(&self, item_id: &str) -> Option<Item> {
        match &self.stage {
            Stage::Speaking(speaking) if self.item_id == item_id => Some(Item {
                status: Status::InProgress,
                ..self.spoken_item(speaking, Status::Incomplete)
            }),
            Stage::Calling(calling) if calling.item_id == item_id => {
                Some(calling.item(Status::InProgress))
            }
            Stage::Thinking { .. } | Stage::Speaking(_) | Stage::Calling(_) => None,
        }
    }

    /// Begins to speak.
    pub(crate) fn open(&mut self, now: Instant) {
        self.stage = Stage::Speaking(Speaking {
            since: now,
            next: now,
            sent: 0,
            words: 0,
            text: String::new(),
            encoder: Encoder::new(self.params.audio.format.0),
            kept: Spoken {
                speech: self.speech.clone(),
                samples: 0,
                transcript: Some(String::new()),
            },
        });
    }

    pub(crate) fn spoken_mut(&mut self) -> Option<&mut Spoken> {
        match (&mut self.stage, self.params.modality) {
            (Stage::Speaking(speaking), Modality::Audio) => Some(&mut speaking.kept),
            (
                Stage::Speaking(_) | Stage::Thinking { .. } | Stage::Calling(_),
                Modality::Audio | Modality::Text,
            ) => None,
        }
    }

    pub(crate) fn part_id(&self) -> PartId {
        PartId {
            response_id: self.id.clone(),
            item_id: self.item_id.clone(),
            output_index: 0,
            content_index: 0,
        }
    }

    pub(crate) fn part(&self, text: String) -> Part {
        match self.params.modality {
            Modality::Audio => Part::Audio { transcript: text },
            Modality::Text => Part::Text { text },
        }
    }

    /// Returns what is said as an item, as it stands.
    pub(crate) fn item(&self, status: Status) -> Item {
        match &self.stage {
            Stage::Speaking(speaking) => self.spoken_item(speaking, status),
            Stage::Thinking { .. } | Stage::Calling(_) => self.message(Vec::new(), status),
        }
    }

    fn spoken_item(&self, speaking: &Speaking, status: Status) -> Item {
        let content = match (self.params.modality, status) {
            (_, Status::InProgress) => Vec::new(),
            (Modality::Audio, _) => vec![Content::OutputAudio(speaking.kept.clone())],
            (Modality::Text, _) => vec![Content::OutputText(speaking.text.clone())],
        };
        self.message(content, status)
    }

    fn message(&self, content: Vec<Content>, status: Status) -> Item {
        Item {
            id: self.item_id.clone(),
            status,
            body: Body::Message {
                role: Role::Assistant,
                content,
            },
        }
    }

    /// Returns the tokens that have been said.
    pub(crate) fn output_tokens(&self) -> OutputTokens {
        let (text, audio) = match &self.stage {
            Stage::Thinking { .. } => (0, 0),
            Stage::Speaking(speaking) => (
                text_tokens(&speaking.text),
                match self.params.modality {
                    Modality::Audio => duration(speaking.sent).as_millis() as u64 / 50,
                    Modality::Text => 0,
                },
            ),
            Stage::Calling(calling) => calling.item(Status::Incomplete).tokens(),
        };
        OutputTokens {
            text_tokens: self.said.text_tokens + text,
            audio_tokens: self.said.audio_tokens + audio,
        }
    }

    /// Returns how much of what has been sent cannot have been heard yet.
    pub(crate) fn unheard(&self, now: Instant) -> Duration {
        match (&self.stage, self.params.modality) {
            (Stage::Speaking(speaking), Modality::Audio) => duration(speaking.sent)
                .saturating_sub(now.saturating_duration_since(speaking.since)),
            (Stage::Speaking(_) | Stage::Thinking { .. } | Stage::Calling(_), _) => Duration::ZERO,
        }
    }

    /// Returns the response as `response.created` (without an outcome) and `response.done` show it.
    pub(crate) fn object(&self, outcome: Option<Outcome>, conversation_id: &str) -> ResponseObject {
        let output = match outcome {
            Some(_) => self.output.clone(),
            None => Vec::new(),
        };
        ResponseObject {
            object: "realtime.response",
            id: self.id.clone(),
            status: outcome.map_or("in_progress", Outcome::status),
            status_details: outcome.and_then(Outcome::details),
            output,
            conversation_id: self
                .is_in_conversation()
                .then(|| conversation_id.to_owned()),
            output_modalities: self.params.modality,
            max_output_tokens: self.params.max_output_tokens,
            audio: ResponseAudioObject {
                output: self.params.audio.clone(),
            },
            usage: outcome.map(|_| self.usage()),
            metadata: self.params.metadata.clone(),
        }
    }

    /// Returns what it cost, once it is over. A response that said nothing cost nothing.
    pub(crate) fn usage(&self) -> Usage {
        let output = match &self.stage {
            Stage::Thinking { .. } => return Usage::default(),
            Stage::Speaking(_) | Stage::Calling(_) => self.said,
        };
        let input_tokens = self.input.text_tokens + self.input.audio_tokens;
        let output_tokens = output.text_tokens + output.audio_tokens;
        Usage {
            total_tokens: input_tokens + output_tokens,
            input_tokens,
            output_tokens,
            input_token_details: self.input,
            output_token_details: output,
        }
    }
}

impl Outcome {
    pub(crate) fn item_status(self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Cancelled(_) | Self::Incomplete(_) | Self::Failed => Status::Incomplete,
        }
    }

    fn status(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled(_) => "cancelled",
            Self::Incomplete(_) => "incomplete",
            Self::Failed => "failed",
        }
    }

    fn details(self) -> Option<StatusDetails> {
        let (reason, error) = match self {
            Self::Completed => return None,
            Self::Cancelled(reason) | Self::Incomplete(reason) => (Some(reason), None),
            Self::Failed => {
                let error = FailureBody {
                    kind: "server_error",
                    code: "server_error",
                    message: "The server had an error while processing your request.",
                };
                (None, Some(error))
            }
        };
        Some(StatusDetails {
            kind: self.status(),
            reason,
            error,
        })
    }
}
