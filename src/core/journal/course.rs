//! How a session has gone so far: what was counted, and when things were last seen.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::ids::TokenId;
use crate::core::journal::entry::Word;
use crate::core::latency::TurnTrace;
use crate::core::port::{
    CloseReason, FromClient, FromIssuer, FromVoice, Notice, State, ToClient, ToIssuer,
};
use crate::core::session::{Effect, Input, Loss, Neighbor};
use crate::core::tally::Tally;

/// How many of each kind are remembered; the oldest is forgotten for the next.
pub(super) const KEPT: usize = 16;

/// Instants are times since the session began.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Frames of the person's sound.
    pub audio_in: u64,
    pub client_heard: Option<Duration>,
    pub provider_heard: Option<Duration>,
    /// When the client came, or came back.
    pub connected: Option<Duration>,
    /// How often a connection took the place of the one before.
    pub attached: u32,
    pub parked: u32,
    pub client_losses: Last<Loss>,
    pub link_losses: Last<Word>,
    /// Codes of the errors that the provider has reported.
    pub provider_errors: Last<Word>,
    /// Codes of the faults that the client was told.
    pub faults: Last<Word>,
    pub rotated: u32,
    pub rotations_failed: u32,
    pub resume_issued: bool,
    /// The latest credential that the client was sent, and when that expires (seconds since 1970).
    pub token: Option<(TokenId, u64)>,
    /// The last step of a renewal, or of its failure.
    pub renewal: Option<(Duration, Word)>,
    pub states: Last<State>,
    pub turns: Last<TurnTrace>,
    pub interruptions: u32,
    pub closed: Option<(Duration, CloseReason)>,
}

/// The last few of a kind, with when they were, and how many there were in all.
#[derive(Clone, Debug)]
pub struct Last<T> {
    kept: VecDeque<(Duration, T)>,
    count: u64,
}

impl<T> Last<T> {
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Duration, T)> {
        self.kept.iter()
    }

    pub fn latest(&self) -> Option<&(Duration, T)> {
        self.kept.back()
    }

    /// How many there were since `at`, as far as they are remembered.
    pub fn since(&self, at: Duration) -> usize {
        self.kept.iter().filter(|(when, _)| *when >= at).count()
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    fn push(&mut self, at: Duration, one: T) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((at, one));
        self.count += 1;
    }
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            kept: VecDeque::new(),
            count: 0,
        }
    }
}

impl Course {
    pub(super) fn hear(&mut self, input: &Input, at: Duration) {
        match input {
            Input::Client(message) => self.on_client(message, at),
            Input::Voice(message) => self.on_voice(message, at),
            Input::Issuer(answer) => match answer {
                FromIssuer::Resume(_) => {}
                FromIssuer::Issued(_) => self.renewal = Some((at, Word::new("issued"))),
                FromIssuer::Refused(fault) => self.renewal = Some((at, Word::of(&fault.code))),
                FromIssuer::Unavailable => self.renewal = Some((at, Word::new("unavailable"))),
            },
            Input::Next(_) | Input::Dialer(_) => {}
            Input::Attached(_) => {
                self.attached += 1;
                self.connected = Some(at);
                self.client_heard = Some(at);
            }
            Input::Lost(Neighbor::Client, loss) => self.client_losses.push(at, *loss),
            Input::Lost(Neighbor::Voice, _) => self.link_losses.push(at, Word::new("gone")),
            Input::Tool(_) | Input::Shutdown | Input::Revoked | Input::HungUp => {}
        }
    }

    fn on_client(&mut self, message: &FromClient, at: Duration) {
        self.client_heard = Some(at);
        if let FromClient::Audio { .. } = message {
            self.audio_in += 1;
        } else if let FromClient::Ready = message {
            self.connected = Some(at);
        } else if let FromClient::TokenAcknowledged(_) = message {
            self.renewal = Some((at, Word::new("acknowledged")));
        } else if let FromClient::TokenPresented(_) = message {
            self.renewal = Some((at, Word::new("presented")));
        }
    }

    fn on_voice(&mut self, message: &FromVoice, at: Duration) {
        self.provider_heard = Some(at);
        if let FromVoice::Error { code, .. } = message {
            self.provider_errors.push(at, Word::of(code));
        } else if let FromVoice::Down(end) = message {
            self.link_losses.push(at, Word::new(end.name()));
        }
    }

    pub(super) fn say(&mut self, effect: &Effect, at: Duration) {
        match effect {
            Effect::Everyone(message) | Effect::Client(message) | Effect::Sidebands(message) => {
                self.on_reply(message, at);
            }
            Effect::Count(tally) => match tally {
                Tally::Rotated => self.rotated += 1,
                Tally::RotationFailed => {
                    self.rotations_failed += 1;
                    self.renewal = Some((at, Word::new("lapsed")));
                }
                Tally::Parked => self.parked += 1,
                Tally::LinkLost(reason) => self.link_losses.push(at, Word::new(reason.name())),
                Tally::Resumed
                | Tally::Abandoned
                | Tally::Cut(_)
                | Tally::Paused
                | Tally::FalseAlarm
                | Tally::LinkRestored(_)
                | Tally::RolledOver
                | Tally::LinkGivenUp
                | Tally::Received(_)
                | Tally::Arrived(_)
                | Tally::Interrupted
                | Tally::InterruptionUnconfirmed
                | Tally::Used(_) => {}
            },
            Effect::Issuer(ToIssuer::Renew) => self.renewal = Some((at, Word::new("due"))),
            Effect::Close(reason) => self.closed = Some((at, *reason)),
            Effect::Issuer(ToIssuer::Resume | ToIssuer::Check(_))
            | Effect::Voice(_)
            | Effect::Next(_)
            | Effect::Switch
            | Effect::HangUp
            | Effect::Dialer(_)
            | Effect::Tool(_)
            | Effect::Record(_)
            | Effect::Turn(_)
            | Effect::Save(_) => {}
        }
    }

    fn on_reply(&mut self, message: &ToClient, at: Duration) {
        if let ToClient::Notice(notice) = message {
            self.on_notice(notice, at);
        } else if let ToClient::Fault(fault) = message {
            self.faults.push(at, Word::of(&fault.code));
            if fault.code.starts_with("token_") {
                self.renewal = Some((at, Word::of(&fault.code)));
            }
        }
    }

    fn on_notice(&mut self, notice: &Notice, at: Duration) {
        match notice {
            // Whoever comes back is told again.
            Notice::State(state) if self.state() == Some(*state) => {}
            Notice::State(state) => self.states.push(at, *state),
            Notice::Latency(latency) => self.turns.push(at, (**latency).clone()),
            Notice::Interrupted { .. } => self.interruptions += 1,
            Notice::Session { .. } | Notice::Reconnect { .. } => self.resume_issued = true,
            Notice::Token(credential) => {
                self.token = Some((credential.id.clone(), credential.expires_unix));
                self.renewal = Some((at, Word::new("offered")));
            }
            Notice::TokenExpiring { .. } => self.renewal = Some((at, Word::new("announced"))),
            Notice::Waiting
            | Notice::Paused { .. }
            | Notice::Resumed { .. }
            | Notice::Degraded { .. }
            | Notice::Restored { .. }
            | Notice::Closing { .. } => {}
        }
    }

    pub fn state(&self) -> Option<State> {
        self.states.latest().map(|(_, state)| *state)
    }
}
