//! Between a session and the person's device.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::core::audio::Frame;
use crate::core::ids::{EventId, ItemId, ResponseId, SessionId, TokenId};
use crate::core::latency::{Transport, TurnTrace};
use crate::core::port::{Accuracy, Credential, Fault, Json, Network, Speech, Stats, Token, Ways};
use crate::core::session::{Fallback, Reason};

/// Said by the person's device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromClient {
    /// Sound from the microphone, in the session's input format, and when it reached the relay.
    Audio { payload: Bytes, received: Instant },
    /// An event for the provider.
    Event(ClientEvent, Json),
    /// `conversation.item.truncate`: it plays by itself, and this much was heard of the item.
    Truncate {
        item: ItemId,
        heard: Duration,
        json: Json,
    },
    /// `output_audio_buffer.clear`: drop what has not been heard (where the relay owns playback).
    ClearOutput,
    /// How far the ear has got.
    Played(Played),
    /// How the network between it and the relay is.
    Network(Network),
    /// How long the ways between it and the relay are.
    Ways(Ways),
    /// What it tells of its sound, both ways.
    Stats(Stats),
    /// The first sound of an answer, for this position, has left for it at this instant.
    Sent { position: Duration, at: Instant },
    /// What the relay's own detector hears in its microphone.
    Speech(Speech),
    /// Its connection is open: it hears what is said from now on.
    Ready,
    /// It speaks `voxline.v1`: it takes notices and can come back.
    Extended,
    /// `voxline.ack`: so many events have come on this connection, this one last.
    Acknowledged { received: u64, last: EventId },
    /// `voxline.heard`: the ear has got to this position, and what was sent for later ones is not
    /// heard any more.
    Heard(Duration),
    /// Nothing reaches it now: sound waits until it says where its ear is.
    Away,
    /// It is there, and promises to be heard of this often.
    Alive { every: Duration },
    /// It has sent what is no event, and is to be told so in its turn.
    Rejected(Fault),
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
    /// `session.update`
    UpdateSession,
    /// `input_audio_buffer.commit`
    CommitAudio,
    /// `input_audio_buffer.clear`
    ClearAudio,
    /// `conversation.item.create`
    CreateItem,
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
    /// Whether the instant is by the device's own clock; else the report is older than it says,
    /// by its own way here.
    pub exact: bool,
}

/// What is known of a device when it attaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Device {
    /// How far sound is sent ahead of its time.
    pub lead: Duration,
    /// From a position's instant to the ear, until the device reports: network, jitter buffer and
    /// loudspeaker.
    pub ear_delay: Duration,
    /// Whether it drops what it has not played when it is told to.
    pub flushes: bool,
    /// How its sound travels.
    pub transport: Transport,
    /// Where its ear has got to, if it plays nothing more of what its last connection has brought.
    pub heard: Option<Duration>,
}

/// Said to the person's device.
#[derive(Clone, Debug, PartialEq)]
pub enum ToClient {
    /// An event of the provider.
    Event(Json),
    /// For one who joins a session that runs: the latest `session.created` or `session.updated`,
    /// to be sent as `session.created`. Who comes back is told which of the session's events,
    /// counted from 1, is the next one.
    Created { session: Json, next: Option<u64> },
    /// For a client that was away, or has another connection: what it may not have, in order.
    Missed(Vec<Self>),
    /// Sound for the speaker (where the relay owns playback): 20 ms, at `position` on the
    /// session's playout timeline, which also runs through silence. `due` is when it should
    /// leave the relay: whatever comes on top is the relay's own delay.
    Play {
        frame: Frame,
        position: Duration,
        due: Instant,
        /// Whether it is the first of an answer: when it leaves is to be told
        /// ([`FromClient::Sent`]).
        first: bool,
    },
    /// Drop what has been handed over and not sent yet.
    Flush,
    /// `output_audio_buffer.started`, `.stopped` or `.cleared`.
    Output(Output, ResponseId),
    /// `response.done`, failed: the provider was lost while it worked on this response.
    Failed(ResponseId),
    /// `conversation.item.truncated`, of an item that the relay has cut in the provider's place.
    Truncated { item: ItemId, heard: Duration },
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
        accuracy: Accuracy,
    },
    /// `voxline.paused`: the relay hears the person; nothing more of this response is sent until
    /// the provider agrees (`voxline.interrupted`) or does not (`voxline.resumed`).
    Paused { response: ResponseId },
    /// `voxline.resumed`: after so long what follows is sent again, from where it was paused.
    Resumed { paused: Duration },
    /// `voxline.latency`: a turn's first sound was heard, as far as that is known.
    Latency(Box<TurnTrace>),
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
    /// `voxline.degraded`: the provider was lost; this is what is done about it.
    Degraded { reason: Reason, fallback: Fallback },
    /// `voxline.restored`: there is a provider again, after this time.
    Restored { after: Duration },
    /// `voxline.waiting`: nothing was heard of the client for too long; sound waits until it says
    /// where its ear is.
    Waiting,
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

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Listening => "listening",
            Self::Thinking => "thinking",
            Self::Speaking => "speaking",
            Self::Cancelling => "cancelling",
            Self::Recovering => "recovering",
        }
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

impl CloseReason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hangup => "hangup",
            Self::Overrun => "overrun",
            Self::Idle => "idle",
            Self::ProviderGone => "provider_gone",
            Self::Expired => "expired",
            Self::Shutdown => "shutdown",
            Self::Revoked => "revoked",
            Self::TooLong => "too_long",
            Self::Replaced => "replaced",
            Self::Crowded => "crowded",
        }
    }
}
