//! What crosses the border of a session, one pair of enums for each neighbor.
//!
//! They are the session's inputs and effects *and* the types of the channels to its shells, so a
//! new transport or provider is a new shell that speaks one pair; the session does not change.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::core::audio::{Format, Frame};
use crate::core::ids::{ItemId, ResponseId, SessionId, TokenId};

/// A JSON message that the session passes on without reading it.
#[derive(Clone, Eq, PartialEq)]
pub struct Json(Arc<str>);

impl Json {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// What people say must not reach a log by way of `{:?}`.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

/// A credential of the relay's own, which opens doors: it is shown to its owner only.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(Arc<str>);

impl Token {
    /// Returns the text, for the one who must send or check it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What a client holds, to connect again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// By which it is acknowledged.
    pub id: TokenId,
    pub token: Token,
    /// Attaches to this very session.
    pub resume: Token,
    pub expires_at: Instant,
    /// The same in seconds since 1970, for the client.
    pub expires_unix: u64,
}

/// Said to whoever issues this session's credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ToIssuer {
    /// A token to attach to this session with, beside the one that the client holds.
    Resume,
    /// A fresh credential.
    Renew,
    /// The client has fetched a token by itself: is it one for this session's user?
    Check(Token),
}

/// Said by whoever issues this session's credentials; each request is answered at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromIssuer {
    Resume(Token),
    /// To be told to the client.
    Issued(Credential),
    /// The client's token is not accepted; it holds the one before.
    Refused(Fault),
    /// Nothing can be issued now.
    Unavailable,
}

/// Said by the person's device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromClient {
    /// Sound from the microphone, in the session's input format, and when it reached the relay.
    Audio { payload: Bytes, received: Instant },
    /// An event for the provider.
    Event(ClientEvent, Json),
    /// `output_audio_buffer.clear`: drop what has not been heard (where the relay owns playback).
    ClearOutput,
    /// How far the ear has got.
    Played(Played),
    /// Its connection is open: it hears what is said from now on.
    Ready,
    /// It speaks `voxline.v1`: it takes notices and can come back.
    Extended,
    /// `voxline.token_ack`: this token has arrived and is kept.
    TokenAcknowledged(TokenId),
    /// `voxline.token_present`: a token that the client has fetched by itself.
    TokenPresented(Token),
    /// The person has hung up.
    Hangup,
}

/// Which event a client sent, as far as the session cares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientEvent {
    /// `response.create`, for a response of the conversation.
    CreateResponse,
    /// Any other event that providers know.
    Other,
}

/// A device's report of what has come out of its speaker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Played {
    /// The position on the playout timeline (see [`ToClient::Play`]) that was at the ear ...
    pub position: Duration,
    /// ... at this instant.
    pub at: Instant,
}

/// Said to the person's device.
#[derive(Clone, Debug, PartialEq)]
pub enum ToClient {
    /// An event of the provider.
    Event(Json),
    /// For one who joins a session that runs: the latest `session.created` or `session.updated`,
    /// to be sent as `session.created`.
    Created(Json),
    /// For a client that was away: what was said meanwhile, in order.
    Missed(Vec<Self>),
    /// Sound for the speaker (where the relay owns playback): 20 ms, at `position` on the
    /// session's playout timeline, which also runs through silence. `due` is when it should
    /// leave the relay: whatever comes on top is the relay's own delay.
    Play {
        frame: Frame,
        position: Duration,
        due: Instant,
    },
    /// Drop what has been handed over and not sent yet.
    Flush,
    /// `output_audio_buffer.started`, `.stopped` or `.cleared`.
    Output(Output, ResponseId),
    /// For clients that speak `voxline.v1`; others do not get it.
    Notice(Notice),
    /// A fault of the relay's own, or of the provider behind it, in OpenAI's error shape.
    Fault(Fault),
    /// The session has ended; nothing follows. A WebSocket leg sends the close code that fits.
    Close(CloseReason),
}

/// What became of the audio that the relay plays to the person.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    Started,
    Stopped,
    Cleared,
}

/// News for clients that asked for more than OpenAI's events.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// `voxline.state`
    State(State),
    /// `voxline.interrupted`: a response was cut after this much of it had been heard.
    Interrupted {
        response: ResponseId,
        heard: Duration,
    },
    /// `voxline.latency`: a turn's first audio has left the relay.
    Latency(TurnLatency),
    /// `voxline.session`: this session's name, and how to come back to it within `window` of
    /// losing the connection.
    Session {
        id: SessionId,
        resume: Token,
        window: Duration,
    },
    /// `voxline.token`: a fresh credential, to be acknowledged.
    Token(Credential),
    /// `voxline.token_expiring`: fetch a token, and present it within this time.
    TokenExpiring { within: Duration },
    /// `voxline.reconnect`: the token was not renewed; attach anew with this one, within this
    /// time. The session goes on meanwhile.
    Reconnect { resume: Token, within: Duration },
    /// `error`: the token that the client has presented is not accepted.
    TokenRefused(Fault),
    /// `voxline.closing`: the session ends within this time.
    Closing {
        reason: CloseReason,
        within: Duration,
    },
}

/// Where a conversation stands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// No voice upstream yet.
    Idle,
    /// Waiting for the person, or hearing them.
    Listening,
    /// The person has spoken; no answer is sounding yet.
    Thinking,
    /// An answer is sounding.
    Speaking,
    /// An answer has been cut; the provider has not confirmed it.
    Cancelling,
    /// Something went wrong; the session is finding its way back.
    Recovering,
}

/// How long a turn took, from the person's last sound to the first sound of the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TurnLatency {
    /// Counts the answered turns of the session from 1.
    pub turn: u64,
    /// From the last sound of the person's speech (as it reached the relay) to the provider
    /// saying that they had stopped.
    pub silence_wait: Duration,
    /// From there to the first audio of the answer reaching the relay.
    pub inference: Duration,
    /// From there to its release to the device; longer than nothing if an earlier answer was
    /// still sounding.
    pub relay_out: Duration,
}

impl TurnLatency {
    pub fn total(&self) -> Duration {
        self.silence_wait + self.inference + self.relay_out
    }
}

/// Why a session ended, or one of its clients was let go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// The client hung up or has gone.
    Hangup,
    /// The client did not keep up with its messages.
    Overrun,
    /// Both sides were silent for too long.
    Idle,
    /// The provider cannot be reached, or has gone.
    ProviderGone,
    /// The provider's session has reached its maximum duration.
    Expired,
    /// The relay is shutting down.
    Shutdown,
    /// The operator has revoked it, or who runs it.
    Revoked,
    /// It has lasted as long as a session may.
    TooLong,
    /// The session goes on, with another connection of the client's.
    Replaced,
    /// The session goes on, and has no room for one more to listen beside its client.
    Crowded,
}

/// Something to tell the client about in an `error` event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    /// OpenAI's code where there is one, else a voxline one.
    pub code: Cow<'static, str>,
    /// What was wrong, where, what is allowed, what to do.
    pub message: String,
    /// The offending field.
    pub param: Option<String>,
    /// The `event_id` of the client's event that caused it.
    pub event_id: Option<String>,
}

impl Fault {
    /// A fault in what the client sent.
    pub fn invalid(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::InvalidRequest,
            code: code.into(),
            message: message.into(),
            param: None,
            event_id: None,
        }
    }

    /// A fault of the relay's, or of the provider behind it.
    pub fn server(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::Server,
            ..Self::invalid(code, message)
        }
    }

    #[must_use]
    pub fn at(self, param: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    #[must_use]
    pub fn caused_by(self, event_id: Option<String>) -> Self {
        Self { event_id, ..self }
    }
}

/// OpenAI's `error.type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// `invalid_request_error`
    InvalidRequest,
    /// `server_error`
    Server,
}

/// Said by the voice provider. Each carries the provider's event for the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromVoice {
    /// `session.created` or `session.updated`.
    Session(VoiceSession, Json),
    /// `input_audio_buffer.speech_started`, at this position of the input audio.
    SpeechStarted { at: Duration, json: Json },
    /// `input_audio_buffer.speech_stopped`, at this position of the input audio, which by OpenAI's
    /// definition includes [`VoiceSession::silence`].
    SpeechStopped { at: Duration, json: Json },
    /// `response.created`
    ResponseCreated {
        response: ResponseId,
        /// Whether it adds to the conversation; if not it is out of band, and nobody's speech
        /// cuts it.
        in_conversation: bool,
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
    /// A delta of a response's text, transcript or function call.
    Delta { response: ResponseId, json: Json },
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
    /// `error`. `answers_relay` if a message of the relay's own caused it.
    Error {
        code: String,
        answers_relay: bool,
        json: Json,
    },
    /// Any other event.
    Event(Json),
    /// The link has ended.
    Down(LinkEnd),
}

/// What matters of the provider's session object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
}
