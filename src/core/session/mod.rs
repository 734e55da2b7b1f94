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
//! **Invariants**
//! - Nothing of a cut response reaches the device after [`ToClient::Flush`]: no sound, no text.
//! - A response is cancelled at most once, and only while it is open.
//! - The provider is never told that more was heard than it sent.
//! - Nothing waits for ever: THINKING, CANCELLING and RECOVERING have a deadline.
//! - [`ToClient::Close`] and [`Effect::Close`] come last, once.

mod input;
mod recent;
mod speaker;
mod turns;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::core::audio::{Format, Frame};
use crate::core::ids::ResponseId;
use crate::core::latency::{Hop, Sample};
use crate::core::playout::PlayoutConfig;
use crate::core::port::{
    ClientEvent, CloseReason, FromClient, FromVoice, Json, LinkEnd, Notice, Output, State,
    ToClient, ToVoice, VoiceSession,
};
use crate::core::session::input::InputClock;
use crate::core::session::recent::Recent;
use crate::core::session::speaker::Speaker;

/// Limits of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    pub playback: Playback,
    /// How long the provider may take from the end of speech to the first sound.
    pub thinking_timeout: Duration,
    /// How long the provider may take to confirm that it has stopped.
    pub cancel_timeout: Duration,
    /// How long both sides may be silent.
    pub idle_after: Duration,
    /// How long a shutdown waits for the answer that is sounding.
    pub drain: Duration,
}

/// Who paces the assistant's sound and knows what was heard of it.
#[derive(Clone, Copy, Debug)]
pub enum Playback {
    /// The relay does, and truncates by itself (WebRTC, as at OpenAI).
    Relay(PlayoutConfig),
    /// The client does, and truncates by itself (WebSocket, as at OpenAI).
    Client,
}

impl SessionConfig {
    pub fn new(playback: Playback) -> Self {
        Self {
            playback,
            thinking_timeout: Duration::from_secs(20),
            cancel_timeout: Duration::from_secs(2),
            idle_after: Duration::from_secs(600),
            drain: Duration::from_secs(10),
        }
    }
}

/// Something happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    Client(FromClient),
    Voice(FromVoice),
    /// A neighbor has gone, or has let its queue fill up, which comes to the same.
    Lost(Neighbor, Loss),
    /// The relay is shutting down.
    Shutdown,
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
    Client(ToClient),
    Voice(ToVoice),
    Record(Sample),
    Close(CloseReason),
}

/// The state of one conversation.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    voice: Link,
    speaker: Speaker,
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
    drain_until: Option<Instant>,
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
    Down(LinkEnd),
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
            config,
            phase: Phase::Idle,
            voice: Link::Opening,
            speaker: Speaker::new(config.playback, now),
            input: InputClock::default(),
            hearing: false,
            turn: Turn::None,
            turns: 0,
            open: Recent::default(),
            aside: Recent::default(),
            cut: Recent::default(),
            over: Recent::default(),
            last_activity: now,
            drain_until: None,
            effects: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, input: Input, now: Instant) {
        if let Phase::Closed = self.phase {
            return;
        }
        match input {
            Input::Client(message) => self.handle_client(message, now),
            Input::Voice(message) => self.handle_voice(message, now),
            Input::Lost(Neighbor::Client, Loss::Gone) => self.close(CloseReason::Hangup),
            Input::Lost(Neighbor::Client, Loss::Overrun) => self.close(CloseReason::Overrun),
            Input::Lost(Neighbor::Voice, _) => self.on_down(LinkEnd::Lost, now),
            Input::Shutdown => self.on_shutdown(now),
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
            self.drain_until,
            Some(self.idle_at()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle_client(&mut self, message: FromClient, now: Instant) {
        match message {
            FromClient::Audio { payload, received } => {
                if let Link::Up(session) = self.voice {
                    let frame = Frame {
                        format: session.input,
                        payload,
                    };
                    self.input.advance(frame.duration(), received);
                    self.say(ToVoice::Audio { frame, received });
                }
            }
            FromClient::Event(event, json) => {
                self.last_activity = now;
                self.on_client_event(event, now);
                self.say(ToVoice::Event(json));
            }
            FromClient::ClearOutput => {
                self.last_activity = now;
                self.clear_output(now);
            }
            FromClient::Played(played) => self.speaker.report(played),
            FromClient::Extended
            | FromClient::TokenAcknowledged(_)
            | FromClient::TokenPresented(_) => {}
            FromClient::Hangup => self.close(CloseReason::Hangup),
        }
    }

    fn on_client_event(&mut self, event: ClientEvent, now: Instant) {
        match event {
            ClientEvent::CreateResponse => {
                if let Phase::Listening = self.phase {
                    self.enter(Phase::Thinking {
                        until: now + self.config.thinking_timeout,
                        requested: true,
                    });
                }
            }
            ClientEvent::Other => {}
        }
    }

    /// Does what time and the last input allow.
    fn advance(&mut self, now: Instant) {
        while let Some(release) = self.speaker.poll_frame(now) {
            self.last_activity = now;
            if release.first {
                self.show(ToClient::Output(Output::Started, release.response.clone()));
                self.report_latency(&release.response, now);
            }
            self.show(ToClient::Play {
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
        if let Some(reason) = self.time_to_close(now) {
            self.close(reason);
        }
    }

    fn time_to_close(&self, now: Instant) -> Option<CloseReason> {
        if let Some(until) = self.drain_until {
            let busy = !self.speaker.is_silent() || !self.open.is_empty() || self.hearing;
            let reason = match self.voice {
                Link::Down(end) => end.into(),
                Link::Opening | Link::Up(_) => CloseReason::Shutdown,
            };
            return (!busy || until <= now).then_some(reason);
        }

        (self.idle_at() <= now).then_some(CloseReason::Idle)
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

    fn close(&mut self, reason: CloseReason) {
        if let Phase::Closed = self.phase {
            return;
        }
        self.phase = Phase::Closed;
        self.show(ToClient::Close(reason));
        self.effects.push_back(Effect::Close(reason));
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

    fn show(&mut self, message: ToClient) {
        self.effects.push_back(Effect::Client(message));
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
            Link::Opening | Link::Down(_) => Format::default(),
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

impl From<LinkEnd> for CloseReason {
    fn from(end: LinkEnd) -> Self {
        match end {
            LinkEnd::Expired => Self::Expired,
            LinkEnd::Lost => Self::ProviderGone,
        }
    }
}
