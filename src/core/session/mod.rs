//! One conversation.
//!
//! ```text
//!          link is up           spoken            first sound
//!   IDLE ─────────────▶ LISTENING ────▶ THINKING ─────────────▶ SPEAKING
//!                         ▲  ▲  ▲          │ time-out, failure     │  │ heard to its end
//!                         │  │  └ RECOVERING ◀                     │  └─────▶ LISTENING
//!                         │  └─────── CANCELLING ◀─── interrupted ─┘
//!                         └ told so by the provider, or in time
//! ```
//!
//! RECOVERING gives way to SPEAKING where sound that was received before is still to be heard.
//!
//! The client has a seat of its own: it may be lost and come back, or another connection take its
//! place, while the conversation stays where it is.
//!
//! **Invariants**
//! - Nothing of a cut response reaches the device after [`ToClient::Flush`]: no sound, no text.
//! - What sounds is paused on the relay's own suspicion only for a while, and is then cut or sounds
//!   on.
//! - A response is cancelled at most once, and only while it is open.
//! - The provider is never told that more was heard than it sent.
//! - Nothing waits for ever: THINKING, CANCELLING and RECOVERING have a deadline.
//! - A client that comes back is told what it missed, once and in order, or that it cannot be.
//! - Credentials are told to the client alone, and only to one that asked for more than OpenAI's
//!   events.
//! - [`ToClient::Close`] and [`Effect::Close`] come last, once.

mod access;
mod barge_in;
mod client;
mod ending;
pub mod facts;
mod input;
mod recent;
mod seat;
mod speaker;
mod turns;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::core::audio::Format;
use crate::core::ids::{ResponseId, SessionId};
use crate::core::latency::{Hop, Sample};
use crate::core::playout::{Hearing, PlayoutConfig};
use crate::core::port::{
    CloseReason, FromClient, FromIssuer, FromVoice, Json, LinkEnd, Notice, Output, State, ToClient,
    ToIssuer, ToVoice, VoiceSession,
};
use crate::core::session::access::Keys;
use crate::core::session::barge_in::BargeIn;
use crate::core::session::ending::Ending;
use crate::core::session::input::InputClock;
use crate::core::session::recent::Recent;
use crate::core::session::seat::Seat;
use crate::core::session::speaker::Speaker;
use crate::core::tally::Tally;
use crate::core::token::{Renewal, RotationConfig};

/// What a session is for, and its limits.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    pub id: SessionId,
    pub playback: Playback,
    pub access: Access,
    /// Sets what this session does at a random moment apart from what others do.
    pub seed: u64,
    /// How long the provider may take from the end of speech to the first sound.
    pub thinking_timeout: Duration,
    /// How long the provider may take to confirm that it has stopped.
    pub cancel_timeout: Duration,
    /// How long an answer pauses on the relay's own word that the person speaks, until the
    /// provider says so too; zero: it does not.
    pub barge_in_wait: Duration,
    /// How long both sides may be silent.
    pub idle_after: Duration,
    /// How long a shutdown waits for the answer that is sounding.
    pub drain: Duration,
    /// How long a session waits for a client that it has lost.
    pub resume_window: Duration,
    /// How long a session may last until it is brought to its end.
    pub max_length: Option<Duration>,
}

/// How long the client's credential is good.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// For ever, as far as the session cares.
    Lasting,
    /// It is renewed while the session runs.
    Expiring {
        expires_at: Instant,
        renewal: Renewal,
        rotation: RotationConfig,
    },
}

/// Who paces the assistant's sound and knows what was heard of it.
#[derive(Clone, Copy, Debug)]
pub enum Playback {
    /// The relay does, and truncates by itself (WebRTC, as at OpenAI).
    Relay(PlayoutConfig),
    /// The client does, and truncates by itself (WebSocket, as at OpenAI).
    Client,
    /// The provider does, and truncates by itself: sound goes past the relay. The session ends
    /// with the voice link, with or without a client.
    Provider,
}

impl SessionConfig {
    pub fn new(id: SessionId, playback: Playback) -> Self {
        Self {
            id,
            playback,
            access: Access::Lasting,
            seed: 0,
            thinking_timeout: Duration::from_secs(20),
            cancel_timeout: Duration::from_secs(2),
            barge_in_wait: Duration::from_millis(700),
            idle_after: Duration::from_secs(600),
            drain: Duration::from_secs(10),
            resume_window: Duration::from_secs(30),
            max_length: None,
        }
    }
}

/// Something happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    Client(FromClient),
    Voice(FromVoice),
    /// The answer to the earliest question that has none.
    Issuer(FromIssuer),
    /// A client takes the place of the one before, who may still have been there.
    Attached,
    /// A neighbor has gone, or has let its queue fill up, which comes to the same.
    Lost(Neighbor, Loss),
    /// The relay is shutting down.
    Shutdown,
    /// The operator has revoked the session, or who runs it.
    Revoked,
    /// The call was hung up by a request, not by its client's own connection.
    HungUp,
}

/// Whom a session talks to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Neighbor {
    Client,
    Voice,
}

/// How a neighbor was lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    Gone,
    Overrun,
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// For the client, and for all who listen beside it.
    Everyone(ToClient),
    /// For the client alone.
    Client(ToClient),
    /// For those who listen beside the client, who is not there.
    Sidebands(ToClient),
    Voice(ToVoice),
    Issuer(ToIssuer),
    Record(Sample),
    Count(Tally),
    Close(CloseReason),
}

/// The state of one conversation.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    seat: Seat,
    keys: Keys,
    voice: Link,
    /// The latest that the provider has said of its session.
    described: Option<Json>,
    speaker: Speaker,
    barge_in: BargeIn,
    input: InputClock,
    /// The person is speaking.
    hearing: bool,
    turn: Turn,
    turns: u64,
    /// Responses that the provider is working on.
    open: Recent,
    /// Responses that do not belong to the conversation: the provider lets nobody's speech cut
    /// them, and no turn waits for them.
    aside: Recent,
    /// Responses that were cut, and that the provider has not confirmed to be over.
    cut: Recent,
    /// Responses that are done or were cut: what still arrives of them is dropped.
    over: Recent,
    last_activity: Instant,
    ending: Ending,
    effects: VecDeque<Effect>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle,
    Listening,
    Thinking {
        until: Instant,
        /// It was the client that asked for an answer, not the person by speaking.
        requested: bool,
    },
    /// The provider has until then to go on, if it has more to say.
    Speaking {
        until: Instant,
    },
    Cancelling {
        until: Instant,
    },
    Recovering {
        until: Instant,
    },
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Opening,
    Up(VoiceSession),
    Down,
}

/// What is known of the turn that is being answered.
#[derive(Clone, Debug)]
enum Turn {
    /// The person has not spoken since the last answer.
    None,
    /// The person stopped speaking.
    Asked {
        silence_wait: Duration,
        stopped_at: Instant,
        /// The response that has begun since.
        answer: Option<ResponseId>,
    },
    /// The answer's first sound has arrived and waits for its release.
    Answered {
        silence_wait: Duration,
        inference: Duration,
        arrived_at: Instant,
        answer: ResponseId,
    },
}

impl Session {
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            phase: Phase::Idle,
            seat: Seat::new(config.playback),
            keys: Keys::new(&config, now),
            voice: Link::Opening,
            described: None,
            speaker: Speaker::new(config.playback, now),
            barge_in: BargeIn::new(now),
            input: InputClock::default(),
            hearing: false,
            turn: Turn::None,
            turns: 0,
            open: Recent::default(),
            aside: Recent::default(),
            cut: Recent::default(),
            over: Recent::default(),
            last_activity: now,
            ending: Ending::new(config.max_length, now),
            effects: VecDeque::new(),
            config,
        }
    }

    pub fn handle(&mut self, input: Input, now: Instant) {
        if let Phase::Closed = self.phase {
            return;
        }
        match input {
            Input::Client(message) => self.handle_client(message, now),
            Input::Voice(message) => self.handle_voice(message, now),
            Input::Issuer(answer) => self.handle_issuer(answer, now),
            Input::Attached => self.on_attached(now),
            Input::Lost(Neighbor::Client, loss) => self.on_client_lost(loss, now),
            Input::Lost(Neighbor::Voice, _) => self.on_down(LinkEnd::Lost, now),
            Input::Shutdown => self.on_shutdown(now),
            Input::Revoked => self.on_revoked(),
            Input::HungUp => self.close(CloseReason::Hangup),
        }
        self.advance(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if let Phase::Closed = self.phase {
            return;
        }
        match self.phase {
            Phase::Thinking { until, .. } if until <= now => self.on_stall(now),
            Phase::Speaking { until } if until <= now && !self.open.is_empty() => {
                self.on_stall(now);
            }
            Phase::Cancelling { until } | Phase::Recovering { until } if until <= now => {
                self.cut = Recent::default();
                self.settle(now);
            }
            Phase::Idle
            | Phase::Listening
            | Phase::Thinking { .. }
            | Phase::Speaking { .. }
            | Phase::Cancelling { .. }
            | Phase::Recovering { .. }
            | Phase::Closed => {}
        }
        self.advance(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns how far behind the ear is, and how well that is known; `None` where the relay does
    /// not play.
    pub fn hearing(&self, now: Instant) -> Option<Hearing> {
        self.speaker.hearing(now)
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = match self.phase {
            Phase::Closed => return None,
            Phase::Idle | Phase::Listening => None,
            Phase::Speaking { until } => (!self.open.is_empty()).then_some(until),
            Phase::Thinking { until, .. }
            | Phase::Cancelling { until }
            | Phase::Recovering { until } => Some(until),
        };

        [
            deadline,
            self.speaker.poll_timeout(),
            self.barge_in.poll_timeout(),
            self.ending.poll_timeout(),
            self.seat.poll_timeout(),
            self.renewal_timeout(),
            Some(self.idle_at()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what time and the last input allow.
    fn advance(&mut self, now: Instant) {
        self.let_go_in_time(now);
        while let Some(release) = self.speaker.poll_frame(now) {
            self.last_activity = now;
            if release.first {
                self.show(ToClient::Output(Output::Started, release.response.clone()));
                self.report_latency(&release.response, now);
            }
            self.tell(ToClient::Play {
                frame: release.frame,
                position: release.position,
                due: release.due,
            });
        }
        while let Some(response) = self.speaker.poll_finished(now) {
            self.last_activity = now;
            self.show(ToClient::Output(Output::Stopped, response));
        }
        if let Phase::Speaking { .. } = self.phase
            && self.speaker.is_silent()
        {
            if self.open.is_empty() || self.hearing {
                self.enter(Phase::Listening);
            } else {
                self.think(now);
            }
        }
        self.renew(now);
        self.end_in_time(now);
    }

    fn think(&mut self, now: Instant) {
        self.enter(Phase::Thinking {
            until: now + self.config.thinking_timeout,
            requested: false,
        });
    }

    /// Comes out of CANCELLING or RECOVERING.
    fn settle(&mut self, now: Instant) {
        if self.speaker.is_silent() {
            self.enter(Phase::Listening);
        } else {
            let until = now + self.config.thinking_timeout;
            self.enter(Phase::Speaking { until });
        }
    }

    fn enter(&mut self, phase: Phase) {
        let before = self.phase.state();
        self.phase = phase;
        if let Some(state) = phase.state()
            && before != Some(state)
        {
            self.notice(Notice::State(state));
        }
    }

    fn record(&mut self, hop: Hop, took: Duration) {
        self.effects.push_back(Effect::Record(Sample { hop, took }));
    }

    fn pass_on(&mut self, json: Json) {
        self.show(ToClient::Event(json));
    }

    fn notice(&mut self, notice: Notice) {
        self.show(ToClient::Notice(notice));
    }

    /// For everybody who listens; a client that is away will be told when it is back.
    fn show(&mut self, message: ToClient) {
        let effect = match &mut self.seat {
            Seat::Taken { .. } => Effect::Everyone(message),
            Seat::Vacant => Effect::Sidebands(message),
            Seat::Parked { missed, .. } => {
                missed.push(&message);
                Effect::Sidebands(message)
            }
        };
        self.effects.push_back(effect);
    }

    /// For the client alone, if it is there.
    fn tell(&mut self, message: ToClient) {
        if let Seat::Taken { .. } = self.seat {
            self.effects.push_back(Effect::Client(message));
        }
    }

    fn count(&mut self, tally: Tally) {
        self.effects.push_back(Effect::Count(tally));
    }

    fn say(&mut self, message: ToVoice) {
        if let Link::Up(_) = self.voice {
            self.effects.push_back(Effect::Voice(message));
        }
    }

    fn interrupts(&self) -> bool {
        matches!(
            self.voice,
            Link::Up(VoiceSession {
                interrupts: true,
                ..
            })
        )
    }

    fn output(&self) -> Format {
        match self.voice {
            Link::Up(session) => session.output,
            Link::Opening | Link::Down => Format::default(),
        }
    }

    fn idle_at(&self) -> Instant {
        self.last_activity + self.config.idle_after
    }
}

impl Phase {
    fn state(self) -> Option<State> {
        match self {
            Self::Idle => Some(State::Idle),
            Self::Listening => Some(State::Listening),
            Self::Thinking { .. } => Some(State::Thinking),
            Self::Speaking { .. } => Some(State::Speaking),
            Self::Cancelling { .. } => Some(State::Cancelling),
            Self::Recovering { .. } => Some(State::Recovering),
            Self::Closed => None,
        }
    }
}
