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
mod calls;
mod client;
mod config;
mod ending;
pub mod facts;
mod history;
mod interruption;
mod io;
mod items;
mod outbox;
mod reach;
mod recent;
mod recovery;
mod seat;
mod snapshot;
mod speaker;
mod tools;
mod trace;
mod turns;
mod uplink;
mod upstream;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::audio::Format;
use crate::core::ids::ItemId;
use crate::core::latency::input::InputClock;
use crate::core::latency::loudness::Loudness;
use crate::core::latency::{Measure, Sample};
use crate::core::playout::Hearing;
use crate::core::port::{
    CloseReason, Json, LinkEnd, Notice, Output, Source, State, ToClient, ToVoice, VoiceSession,
};
use crate::core::session::access::Keys;
use crate::core::session::barge_in::BargeIn;
use crate::core::session::ending::Ending;
use crate::core::session::outbox::Outbox;
use crate::core::session::reach::Reach;
use crate::core::session::recent::Recent;
use crate::core::session::recovery::Cause;
use crate::core::session::seat::Seat;
use crate::core::session::snapshot::Saving;
use crate::core::session::speaker::Speaker;
use crate::core::session::tools::Tools;
use crate::core::session::trace::Trace;
use crate::core::session::upstream::{Link, Owed, Upstream};
use crate::core::tally::Tally;

pub use config::{Access, Playback, SessionConfig};
pub use io::{Effect, Input, Loss, Neighbor};
pub use recovery::{Cause as RecoveryCause, Fallback, Plan, Reason, RecoveryConfig, plan};
pub use snapshot::{Abridged, Snapshot};
pub use upstream::ReplayFacts;

/// The state of one conversation.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    seat: Seat,
    outbox: Outbox,
    reach: Reach,
    keys: Keys,
    began: Instant,
    voice: Link,
    upstream: Upstream,
    /// What the person has said last, which is about to become this item.
    committed: Option<ItemId>,
    /// The latest that the provider has said of its session.
    described: Option<Json>,
    speaker: Speaker,
    barge_in: BargeIn,
    input: InputClock,
    loudness: Loudness,
    /// Counts the pieces of the person's sound.
    sounds: u64,
    /// The person is speaking.
    hearing: bool,
    trace: Trace,
    turns: u64,
    tools: Tools,
    /// Responses that the provider is working on.
    open: Recent,
    /// Responses that do not belong to the conversation: the provider lets nobody's speech cut
    /// them, and no turn waits for them.
    aside: Recent,
    /// Responses that were cut, and that the provider has not confirmed to be over.
    cut: Recent,
    /// Those of them whose confirmation is not waited for any more.
    unconfirmed: Recent,
    /// Responses that are done or were cut: what still arrives of them is dropped.
    over: Recent,
    last_activity: Instant,
    saving: Saving,
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

impl Session {
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            phase: Phase::Idle,
            seat: Seat::new(config.playback),
            outbox: Outbox::new(config.playback),
            reach: Reach::new(now),
            keys: Keys::new(&config, now),
            began: now,
            voice: Link::Opening,
            upstream: Upstream::new(&config, now),
            committed: None,
            described: None,
            speaker: Speaker::new(config.playback, now),
            barge_in: BargeIn::new(now),
            input: InputClock::default(),
            loudness: Loudness::default(),
            sounds: 0,
            hearing: false,
            trace: Trace::new(config.playback.transport()),
            turns: 0,
            tools: Tools::new(Arc::clone(&config.tools)),
            open: Recent::default(),
            aside: Recent::default(),
            cut: Recent::default(),
            unconfirmed: Recent::default(),
            over: Recent::default(),
            last_activity: now,
            saving: Saving::default(),
            ending: Ending::new(config.max_length, now),
            effects: VecDeque::new(),
            config,
        }
    }

    pub fn handle(&mut self, input: Input, now: Instant) {
        if let Phase::Closed = self.phase {
            return;
        }
        self.note_change(&input, now);
        match input {
            Input::Client(message) => self.handle_client(message, now),
            Input::Voice(message) => self.handle_voice(message, now),
            Input::Next(message) => self.on_next(message, now),
            Input::Dialer(answer) => self.on_dialer(answer, now),
            Input::Tool(answer) => self.on_tool(answer, now),
            Input::Issuer(answer) => self.handle_issuer(answer, now),
            Input::Attached(device) => self.on_attached(device, now),
            Input::Lost(Neighbor::Client, loss) => self.on_client_lost(loss, now),
            Input::Lost(Neighbor::Voice, Loss::Gone) => {
                self.on_link_lost(Cause::LinkEnded(LinkEnd::Lost), now);
            }
            Input::Lost(Neighbor::Voice, Loss::Overrun) => {
                self.on_link_lost(Cause::LinkOverrun, now);
            }
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
            // It is not the provider that is waited for.
            Phase::Thinking { until, .. }
                if until <= now && self.open.is_empty() && self.tools.is_awaited(now) =>
            {
                self.think(now);
            }
            Phase::Thinking { until, .. } if until <= now => self.on_stall(now),
            Phase::Speaking { until } if until <= now && !self.open.is_empty() => {
                self.on_stall(now);
            }
            Phase::Cancelling { until } if until <= now => {
                self.count(Tally::InterruptionUnconfirmed);
                self.wait_no_longer();
                self.settle(now);
            }
            Phase::Recovering { until } if until <= now => self.on_unconfirmed(now),
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
            self.trace.poll_timeout(),
            self.ending.poll_timeout(),
            self.seat.poll_timeout(),
            self.reach_timeout(),
            self.renewal_timeout(),
            self.links_timeout(),
            self.save_timeout(),
            Some(self.idle_at()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what time and the last input allow.
    fn advance(&mut self, now: Instant) {
        self.let_go_in_time(now);
        self.tell_turn_in_time(now);
        self.watch_reach(now);
        while let Some(release) = self.speaker.poll_frame(now) {
            self.last_activity = now;
            if release.first {
                self.show(ToClient::Output(Output::Started, release.response.clone()));
                self.on_left(&release.response, Some(release.position), now);
            }
            self.tell(ToClient::Play {
                frame: release.frame,
                position: release.position,
                due: release.due,
                first: release.first,
            });
        }
        while let Some(response) = self.speaker.poll_finished(now) {
            self.last_activity = now;
            self.on_heard_out(&response, now);
            self.show(ToClient::Output(Output::Stopped, response));
        }
        self.tend_links(now);
        if let Phase::Closed = self.phase {
            return;
        }
        if let Phase::Speaking { .. } = self.phase
            && self.speaker.is_silent()
        {
            self.fall_silent(now);
        }
        self.renew(now);
        self.end_in_time(now);
        self.save(now);
    }

    /// All that there was to be heard has been heard.
    fn fall_silent(&mut self, now: Instant) {
        let owed = !self.open.is_empty() || self.upstream.owed == Owed::Asked;
        if let Link::Lost(outage) = self.voice {
            self.enter(Phase::Recovering {
                until: outage.until(),
            });
        } else if owed && !self.hearing {
            self.think(now);
        } else {
            self.rest(now);
        }
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

    fn record(&mut self, measure: Measure, took: Duration, source: Source) {
        self.effects.push_back(Effect::Record(Sample {
            measure,
            took,
            transport: Some(self.trace.transport()),
            source,
        }));
    }

    fn pass_on(&mut self, json: Json) {
        if !json.is_nothing() {
            self.show(ToClient::Event(json));
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.show(ToClient::Notice(notice));
    }

    /// For everybody who listens; a client that is away will be told when it is back.
    fn show(&mut self, message: ToClient) {
        if let Seat::Taken { .. } | Seat::Parked { .. } = self.seat {
            self.outbox.push(&message);
        }
        let effect = match self.seat {
            Seat::Taken { .. } => Effect::Everyone(message),
            Seat::Vacant | Seat::Parked { .. } => Effect::Sidebands(message),
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
        self.upstream.latest.output
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
