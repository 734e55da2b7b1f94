//! Server events.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::response::ResponseAudio;
use crate::sim::protocol::session::{Purpose, SessionConfig};
use crate::sim::protocol::tools::{MaxTokens, Modality};

/// An event as it goes over the wire.
#[derive(Debug, Serialize)]
pub(crate) struct Envelope {
    pub(crate) event_id: String,
    #[serde(flatten)]
    pub(crate) event: ServerEvent,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(crate) enum ServerEvent {
    #[serde(rename = "session.created")]
    SessionCreated { session: Box<SessionObject> },
    #[serde(rename = "session.updated")]
    SessionUpdated { session: Box<SessionObject> },
    #[serde(rename = "input_audio_buffer.speech_started")]
    SpeechStarted {
        audio_start_ms: u64,
        item_id: String,
    },
    #[serde(rename = "input_audio_buffer.speech_stopped")]
    SpeechStopped { audio_end_ms: u64, item_id: String },
    #[serde(rename = "input_audio_buffer.timeout_triggered")]
    TimeoutTriggered {
        audio_start_ms: u64,
        audio_end_ms: u64,
        item_id: String,
    },
    #[serde(rename = "input_audio_buffer.committed")]
    AudioCommitted {
        item_id: String,
        previous_item_id: Option<String>,
    },
    #[serde(rename = "input_audio_buffer.cleared")]
    AudioCleared,
    #[serde(rename = "conversation.item.added")]
    ItemAdded {
        item: Value,
        previous_item_id: Option<String>,
    },
    #[serde(rename = "conversation.item.done")]
    ItemDone {
        item: Value,
        previous_item_id: Option<String>,
    },
    #[serde(rename = "conversation.item.retrieved")]
    ItemRetrieved { item: Value },
    #[serde(rename = "conversation.item.deleted")]
    ItemDeleted { item_id: String },
    #[serde(rename = "conversation.item.truncated")]
    ItemTruncated {
        item_id: String,
        content_index: usize,
        audio_end_ms: u64,
    },
    #[serde(rename = "conversation.item.input_audio_transcription.delta")]
    TranscriptionDelta {
        item_id: String,
        content_index: u32,
        delta: String,
        obfuscation: String,
    },
    #[serde(rename = "conversation.item.input_audio_transcription.completed")]
    TranscriptionCompleted {
        item_id: String,
        content_index: u32,
        transcript: String,
        usage: TranscriptionUsage,
    },
    #[serde(rename = "response.created")]
    ResponseCreated { response: Box<ResponseObject> },
    #[serde(rename = "response.output_item.added")]
    OutputItemAdded {
        response_id: String,
        output_index: u32,
        item: Value,
    },
    #[serde(rename = "response.content_part.added")]
    ContentPartAdded {
        #[serde(flatten)]
        at: PartId,
        part: Part,
    },
    #[serde(rename = "response.output_audio.delta")]
    AudioDelta {
        #[serde(flatten)]
        at: PartId,
        delta: String,
    },
    #[serde(rename = "response.output_audio_transcript.delta")]
    TranscriptDelta {
        #[serde(flatten)]
        at: PartId,
        delta: String,
        obfuscation: String,
    },
    #[serde(rename = "response.output_text.delta")]
    TextDelta {
        #[serde(flatten)]
        at: PartId,
        delta: String,
        obfuscation: String,
    },
    #[serde(rename = "response.output_audio.done")]
    AudioDone {
        #[serde(flatten)]
        at: PartId,
    },
    #[serde(rename = "response.output_audio_transcript.done")]
    TranscriptDone {
        #[serde(flatten)]
        at: PartId,
        transcript: String,
    },
    #[serde(rename = "response.output_text.done")]
    TextDone {
        #[serde(flatten)]
        at: PartId,
        text: String,
    },
    #[serde(rename = "response.function_call_arguments.delta")]
    ArgumentsDelta {
        #[serde(flatten)]
        at: CallPlace,
        delta: String,
    },
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone {
        #[serde(flatten)]
        at: CallPlace,
        name: String,
        arguments: String,
    },
    #[serde(rename = "response.content_part.done")]
    ContentPartDone {
        #[serde(flatten)]
        at: PartId,
        part: Part,
    },
    #[serde(rename = "response.output_item.done")]
    OutputItemDone {
        response_id: String,
        output_index: u32,
        item: Value,
    },
    #[serde(rename = "response.done")]
    ResponseDone { response: Box<ResponseObject> },
    #[serde(rename = "rate_limits.updated")]
    RateLimitsUpdated { rate_limits: Vec<RateLimit> },
    #[serde(rename = "error")]
    Error { error: ErrorBody },
}

/// A session as it is shown: with its effective settings.
#[derive(Debug)]
pub(crate) struct SessionObject {
    pub(crate) id: String,
    /// Seconds since 1970; 0 for a session that has not begun.
    pub(crate) expires_at: u64,
    pub(crate) purpose: Purpose,
    pub(crate) config: SessionConfig,
}

impl Serialize for SessionObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a, T> {
            #[serde(rename = "type")]
            kind: &'static str,
            object: &'static str,
            id: &'a str,
            expires_at: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            model: Option<&'a str>,
            #[serde(flatten)]
            config: T,
        }
        let Self { id, expires_at, .. } = self;
        match &self.purpose {
            Purpose::Conversation { model } => Shown {
                kind: "realtime",
                object: "realtime.session",
                id,
                expires_at: *expires_at,
                model: Some(model),
                config: &self.config,
            }
            .serialize(serializer),
            Purpose::Transcription => Shown {
                kind: "transcription",
                object: "realtime.transcription_session",
                id,
                expires_at: *expires_at,
                model: None,
                config: self.config.transcription_object(),
            }
            .serialize(serializer),
        }
    }
}

/// Which part of which item of which response an event is about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PartId {
    pub(crate) response_id: String,
    pub(crate) item_id: String,
    pub(crate) output_index: u32,
    pub(crate) content_index: u32,
}

/// Which function call of which response an event is about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CallPlace {
    pub(crate) response_id: String,
    pub(crate) item_id: String,
    pub(crate) output_index: u32,
    pub(crate) call_id: String,
}

/// A content part; its type names differ from those of an item's content.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Part {
    Audio { transcript: String },
    Text { text: String },
}

#[derive(Debug, Serialize)]
pub(crate) struct ResponseObject {
    pub(crate) object: &'static str,
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) status_details: Option<StatusDetails>,
    pub(crate) output: Vec<Value>,
    pub(crate) conversation_id: Option<String>,
    pub(crate) output_modalities: Modality,
    pub(crate) max_output_tokens: MaxTokens,
    pub(crate) audio: ResponseAudioObject,
    pub(crate) usage: Option<Usage>,
    pub(crate) metadata: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ResponseAudioObject {
    pub(crate) output: ResponseAudio,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct StatusDetails {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<FailureBody>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct FailureBody {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
}

/// What a response cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Usage {
    pub(crate) total_tokens: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) input_token_details: InputTokens,
    pub(crate) output_token_details: OutputTokens,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct InputTokens {
    pub(crate) text_tokens: u64,
    pub(crate) audio_tokens: u64,
    pub(crate) image_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) cached_tokens_details: CachedTokens,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct CachedTokens {
    pub(crate) text_tokens: u64,
    pub(crate) audio_tokens: u64,
    pub(crate) image_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct OutputTokens {
    pub(crate) text_tokens: u64,
    pub(crate) audio_tokens: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct TranscriptionUsage {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) seconds: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct RateLimit {
    pub(crate) name: &'static str,
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    #[serde(flatten)]
    error: ApiError,
    /// The client's event that caused it.
    event_id: Option<String>,
}

impl ErrorBody {
    pub(crate) fn new(error: ApiError, event_id: Option<String>) -> Self {
        let error = error.bounded();
        Self { error, event_id }
    }
}

impl Envelope {
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("server events have string keys and finite numbers")
    }
}
