//! A session as it is at one moment, for whoever has to find out what is wrong with it.
//!
//! Nothing that people say is in it. Times are as seen from that moment.

use std::time::{Duration, Instant};

use crate::core::ids::ResponseId;
use crate::core::latency::Transport;
use crate::core::port::{CloseReason, State};
use crate::core::session::ending::Ending;
use crate::core::session::recent::Recent;
use crate::core::session::seat::Seat;
use crate::core::session::{Link, Phase, Playback, ReplayFacts, Session};
use crate::core::token::Standing;

/// What is so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// What the client holds; `None` if that lasts.
    pub credential: Option<Standing>,
    pub can_return: bool,
    pub presence: Presence,
    /// How the sound of the client travels that is there, or was last.
    pub transport: Transport,
    pub link: LinkState,
    pub replay: ReplayFacts,
    /// `None` once it is closed.
    pub state: Option<State>,
    /// The person is speaking.
    pub hearing: bool,
    /// The assistant is to be heard, or waits to be.
    pub sounding: bool,
    /// Responses that the provider works on.
    pub open: Vec<ResponseId>,
    /// Responses that were cut, and that the provider has not confirmed to be over.
    pub cut: Vec<ResponseId>,
    /// What is due next, and in how long.
    pub next: Option<(Deadline, Duration)>,
    /// Why it comes to its end.
    pub ending: Option<CloseReason>,
    pub turns: u64,
    /// How much sound of the person's the provider was sent.
    pub sent: Duration,
}

/// Where the client is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Presence {
    /// Nobody has come, or nobody is waited for.
    Vacant,
    Present {
        /// It speaks `voxline.v1`.
        extended: bool,
    },
    Away {
        /// How long it is waited for.
        left: Duration,
        /// Messages that wait for it.
        waiting: usize,
        /// Messages more than are kept.
        lost: u64,
    },
}

/// How it stands with the voice provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkState {
    Opening,
    Up,
    /// It was lost, and another is looked for.
    Lost,
    Down,
}

/// Something that will happen if nothing else does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deadline {
    /// The provider owes an answer, or the rest of one.
    Answer,
    /// The provider owes word that it has stopped.
    Cancellation,
    /// Recovering is given up.
    Recovery,
    /// The next sound is let out.
    Sound,
    /// The session ends.
    End,
    /// The client is given up.
    Return,
    /// The client is out of reach, as it has promised to be heard of.
    Reach,
    /// The client's credential is renewed.
    Renewal,
    /// The link is replaced, or looked for again, or given up.
    Link,
    /// Both sides have been silent for too long.
    Idle,
}

impl Deadline {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer_owed",
            Self::Cancellation => "cancellation_owed",
            Self::Recovery => "recovery_ends",
            Self::Sound => "next_sound",
            Self::End => "session_ends",
            Self::Return => "client_given_up",
            Self::Reach => "client_out_of_reach",
            Self::Renewal => "token_renewal",
            Self::Link => "link_due",
            Self::Idle => "idle_timeout",
        }
    }
}

impl LinkState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Up => "up",
            Self::Lost => "lost",
            Self::Down => "down",
        }
    }
}

impl Session {
    /// Returns what is so at `now`.
    pub fn facts(&self, now: Instant) -> Facts {
        let names = |responses: &Recent| responses.iter().cloned().collect();
        Facts {
            credential: self.keys.standing(now),
            can_return: self.keys.can_return(),
            presence: match &self.seat {
                Seat::Vacant => Presence::Vacant,
                Seat::Taken { extended } => Presence::Present {
                    extended: *extended,
                },
                Seat::Parked { until } => Presence::Away {
                    left: until.saturating_duration_since(now),
                    waiting: self.outbox.waiting(),
                    lost: self.outbox.lost(),
                },
            },
            transport: self.trace.transport(),
            link: match self.voice {
                Link::Opening => LinkState::Opening,
                Link::Up(_) => LinkState::Up,
                Link::Lost(_) => LinkState::Lost,
                Link::Down => LinkState::Down,
            },
            replay: self.replay(),
            state: self.phase.state(),
            hearing: self.hearing,
            sounding: !self.speaker.is_silent(),
            open: names(&self.open),
            cut: names(&self.cut),
            next: self.next_deadline(now),
            ending: match self.ending {
                Ending::Draining { reason, .. } => Some(reason),
                Ending::Open | Ending::At(_) => None,
            },
            turns: self.turns,
            sent: self.input.length(),
        }
    }

    fn next_deadline(&self, now: Instant) -> Option<(Deadline, Duration)> {
        let of_phase = match self.phase {
            Phase::Closed => return None,
            Phase::Idle | Phase::Listening => None,
            Phase::Speaking { until } => {
                (!self.open.is_empty()).then_some((Deadline::Answer, until))
            }
            Phase::Thinking { until, .. } => Some((Deadline::Answer, until)),
            Phase::Cancelling { until } => Some((Deadline::Cancellation, until)),
            Phase::Recovering { until } => Some((Deadline::Recovery, until)),
        };
        let others = [
            (Deadline::Sound, self.speaker.poll_timeout()),
            (Deadline::End, self.ending.poll_timeout()),
            (Deadline::Return, self.seat.poll_timeout()),
            (Deadline::Reach, self.reach_timeout()),
            (Deadline::Renewal, self.renewal_timeout()),
            (Deadline::Link, self.links_timeout()),
            (Deadline::Idle, Some(self.idle_at())),
        ];
        let others = others
            .into_iter()
            .filter_map(|(deadline, at)| Some((deadline, at?)));
        let (deadline, at) = of_phase
            .into_iter()
            .chain(others)
            .min_by_key(|(_, at)| *at)?;

        Some((deadline, at.saturating_duration_since(now)))
    }
}

impl Playback {
    /// Names who paces the assistant's sound.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Relay(_) => "relay",
            Self::Client => "client",
            Self::Provider => "provider",
        }
    }
}
