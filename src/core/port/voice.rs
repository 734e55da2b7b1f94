//! Between a session and a voice provider.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::core::audio::{Format, Frame};
use crate::core::ids::{CallId, ConversationId, ItemId, ResponseId};
use crate::core::item::{Item, Said};
use crate::core::port::{ClientEvent, Json, Output};

/// Said by the voice provider. Each carries the provider's event for the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromVoice {
    /// `session.created` or `session.updated`.
    Session(VoiceSession, Json),
    /// `input_audio_buffer.speech_started`, at this position of the input audio.
    SpeechStarted { at: Duration, json: Json },
    /// `input_audio_buffer.speech_stopped`, at this position of the input audio, which by OpenAI's
    /// definition includes [`VoiceSession::silence`].
    SpeechStopped {
        at: Duration,
        /// When the last of their speech was handed to the provider's socket, if that is known.
        handed: Option<Instant>,
        json: Json,
    },
    /// `response.created`
    ResponseCreated {
        response: ResponseId,
        /// The conversation that it adds to; one that adds to none is out of band, and nobody's
        /// speech cuts it.
        conversation: Option<ConversationId>,
        json: Json,
    },
    /// `response.output_audio.delta`
    Audio {
        response: ResponseId,
        item: ItemId,
        content_index: u32,
        payload: Bytes,
        json: Json,
    },
    /// A delta of a response's text, transcript or function call. `said` is what it adds to the
    /// words of an item.
    Delta {
        response: ResponseId,
        said: Option<Utterance>,
        json: Json,
    },
    /// `conversation.item.added` or `.done`: an item of the conversation, as it is by then, after
    /// the one named, or first.
    Item {
        item: Item,
        after: Option<ItemId>,
        stage: Stage,
        json: Json,
    },
    /// `response.output_item.added` or `.done`: an item of a response, as it is by then.
    OutputItem {
        response: ResponseId,
        item: Item,
        stage: Stage,
        /// The provider has said all of it (`status`).
        whole: bool,
        json: Json,
    },
    /// `conversation.item.deleted`
    ItemDeleted { item: ItemId, json: Json },
    /// `conversation.item.truncated`
    ItemTruncated {
        item: ItemId,
        heard: Duration,
        json: Json,
    },
    /// `conversation.item.input_audio_transcription.completed`: what the person said, in writing.
    Transcribed {
        item: ItemId,
        text: Said,
        json: Json,
    },
    /// `input_audio_buffer.committed`: the sound so far has become this item.
    Committed { item: ItemId, json: Json },
    /// `input_audio_buffer.cleared`
    Cleared { json: Json },
    /// `response.output_audio.done`: all the audio of this item has been sent.
    AudioDone {
        response: ResponseId,
        item: ItemId,
        json: Json,
    },
    /// `response.done`
    ResponseDone {
        response: ResponseId,
        outcome: ResponseOutcome,
        usage: Usage,
        json: Json,
    },
    /// `output_audio_buffer.started`, `.stopped` or `.cleared`, where the provider owns playback.
    Output(Output, ResponseId, Json),
    /// `error`. `answers_relay` if a message of the relay's own caused it; `refuses` is the kind of
    /// event that it turns down, as far as it says so.
    Error {
        code: String,
        answers_relay: bool,
        refuses: Option<ClientEvent>,
        json: Json,
    },
    /// Any other event.
    Event(Json),
    /// The link has ended.
    Down(LinkEnd),
}

/// Words of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Utterance {
    pub item: ItemId,
    pub text: Said,
    /// They are spoken, and their sound comes beside them.
    pub aloud: bool,
}

/// How far an item has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    Added,
    Done,
}

/// What matters of the provider's session object.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VoiceSession {
    pub input: Format,
    pub output: Format,
    /// Whether the provider cuts its response when the person speaks.
    pub interrupts: bool,
    /// Whether the provider answers when the person has spoken.
    pub responds: bool,
    /// How long the person is silent before the provider takes it that they have stopped; zero
    /// where it does not say.
    pub silence: Duration,
    /// Whether the provider tells turns from silence by itself.
    pub detects: bool,
    /// Whether what the person says is given in writing, too.
    pub transcribes: bool,
    /// When the provider's session ends, in seconds since 1970.
    pub expires_at: Option<u64>,
}

/// What the provider bills: `response.usage`, in tokens.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    pub input_text: u64,
    pub input_audio: u64,
    pub input_cached: u64,
    pub output_text: u64,
    pub output_audio: u64,
}

/// How a response ended: `response.status`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseOutcome {
    Completed,
    Cancelled,
    Failed,
    Incomplete,
}

/// Why a voice link ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkEnd {
    /// The provider's session has reached its maximum duration.
    Expired,
    /// The connection broke, or the provider closed it.
    Lost,
    /// The provider has turned the relay's credential down.
    Refused,
    /// The provider says what makes no sense.
    Garbled,
}

impl LinkEnd {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Garbled => "garbled",
        }
    }
}

/// Said to the voice provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ToVoice {
    /// `input_audio_buffer.append`; `received` is when the sound reached the relay.
    Audio { frame: Frame, received: Instant },
    /// The client's own event.
    Event(Json),
    /// `response.cancel`
    Cancel(ResponseId),
    /// `conversation.item.truncate`: the person heard only this much of the item.
    Truncate {
        item: ItemId,
        content_index: u32,
        heard: Duration,
    },
    /// `conversation.item.delete`: the person heard nothing of it, and truncating to nothing is
    /// refused by providers.
    Delete(ItemId),
    /// `output_audio_buffer.clear`, where the provider owns playback.
    ClearOutput,
    /// Is anybody there? `response.cancel` without anything to cancel, which is refused.
    Probe,
    /// `conversation.item.create`: what one of the relay's own tools has answered.
    ToolOutput { call: CallId, output: Said },
    /// `response.create`: the answer that another link owed.
    Respond,
    /// `conversation.item.create`: an item of the conversation that this link does not know.
    Restore(Restored),
    /// All of these, in this order.
    All(Vec<Self>),
}

/// An item as it is told to another link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restored {
    pub item: Item,
    /// The item before it; `None` if it is the first.
    pub after: Option<ItemId>,
    /// What the person said, where it has no answer yet; and how it is encoded.
    pub sound: Option<Frame>,
}
