//! The client's credentials while the session runs.

use std::collections::VecDeque;
use std::time::Instant;

use crate::core::ids::TokenId;
use crate::core::latency::Measure;
use crate::core::port::{Credential, Fault, FromIssuer, Notice, Source, ToClient, ToIssuer, Token};
use crate::core::session::seat::Seat;
use crate::core::session::{Access, Effect, Session, SessionConfig};
use crate::core::tally::Tally;
use crate::core::token::{Rotation, Standing, Step};

/// What is known of the client's credentials.
#[derive(Debug)]
pub(super) struct Keys {
    rotation: Option<Rotation>,
    /// The latest that the client was given to come back with.
    resume: Option<Token>,
    /// When the client was offered a fresh one that it has not acknowledged.
    offered_at: Option<Instant>,
    /// Questions to the issuer that have no answer yet, the earliest first.
    questions: VecDeque<Question>,
}

/// What an answer of the issuer's is for.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// To introduce the session to a client.
    Introduction,
    /// To give it a fresh credential.
    Renewal,
    /// To judge what it has presented.
    Judgement,
    /// To have it come back.
    Return,
}

impl Keys {
    pub(super) fn new(config: &SessionConfig, now: Instant) -> Self {
        let rotation = match config.access {
            Access::Lasting => None,
            Access::Expiring {
                expires_at,
                renewal,
                rotation,
            } => Some(Rotation::new(
                rotation,
                renewal,
                expires_at,
                config.seed,
                now,
            )),
        };

        Self {
            rotation,
            resume: None,
            offered_at: None,
            questions: VecDeque::new(),
        }
    }

    /// Tells what the client holds, if that does not last.
    pub(super) fn standing(&self, now: Instant) -> Option<Standing> {
        let rotation = self.rotation.as_ref()?;

        Some(rotation.standing(now))
    }

    /// The client was given this to come back with, in a life before.
    pub(super) fn came_back(&mut self, resume: Option<Token>) {
        self.resume = resume;
    }

    pub(super) fn resume(&self) -> Option<Token> {
        self.resume.clone()
    }

    /// Returns whether a client that is lost has the means to come back.
    pub(super) fn can_return(&self) -> bool {
        self.resume.is_some()
    }
}

impl Session {
    pub(super) fn on_extended(&mut self, now: Instant) {
        let Seat::Taken { extended } = &mut self.seat else {
            return;
        };
        *extended = true;
        if let Some(rotation) = &mut self.keys.rotation {
            rotation.attach(now);
        }
        self.ask(Question::Introduction, ToIssuer::Resume);
    }

    pub(super) fn on_acknowledged(&mut self, token: &TokenId, now: Instant) {
        if let Some(rotation) = &mut self.keys.rotation
            && rotation.acknowledge(token, now)
        {
            self.count(Tally::Rotated);
            if let Some(offered_at) = self.keys.offered_at.take() {
                let took = now.saturating_duration_since(offered_at);
                self.record(Measure::Rotation, took, Source::Reported);
            }
        }
    }

    pub(super) fn on_presented(&mut self, token: Token) {
        if self.is_extended() {
            self.ask(Question::Judgement, ToIssuer::Check(token));
        }
    }

    /// Does what is due about the client's credential.
    pub(super) fn renew(&mut self, now: Instant) {
        if !self.is_extended() {
            return;
        }
        let step = self
            .keys
            .rotation
            .as_mut()
            .and_then(|rotation| rotation.poll(now));
        match step {
            Some(Step::Renew) => self.ask(Question::Renewal, ToIssuer::Renew),
            Some(Step::Offer(credential)) => self.give(credential, now),
            Some(Step::Announce { within }) => self.confide(Notice::TokenExpiring { within }),
            Some(Step::Lapse) => {
                self.keys.offered_at = None;
                self.count(Tally::RotationFailed);
                self.ask(Question::Return, ToIssuer::Resume);
            }
            None => {}
        }
    }

    pub(super) fn renewal_timeout(&self) -> Option<Instant> {
        let rotation = self.keys.rotation.as_ref()?;

        self.is_extended().then(|| rotation.poll_timeout())?
    }

    pub(super) fn handle_issuer(&mut self, answer: FromIssuer, now: Instant) {
        match (self.keys.questions.pop_front(), answer) {
            (Some(Question::Introduction), FromIssuer::Resume(resume)) => {
                self.keys.resume = Some(resume.clone());
                self.confide(Notice::Session {
                    id: self.config.id.clone(),
                    resume,
                    window: self.config.resume_window,
                });
            }
            (Some(Question::Return), FromIssuer::Resume(resume)) => self.call_back(resume),
            (Some(Question::Return), FromIssuer::Refused(_) | FromIssuer::Unavailable) => {
                if let Some(resume) = self.keys.resume.clone() {
                    self.call_back(resume);
                }
            }
            (Some(Question::Renewal), FromIssuer::Issued(credential)) => {
                if let Some(rotation) = &mut self.keys.rotation {
                    rotation.offer(credential.clone(), now);
                }
                self.give(credential, now);
            }
            (Some(Question::Renewal), FromIssuer::Refused(_) | FromIssuer::Unavailable) => {
                if let Some(rotation) = &mut self.keys.rotation {
                    rotation.fail(now);
                }
            }
            (Some(Question::Judgement), FromIssuer::Issued(credential)) => {
                self.on_accepted(credential, now);
            }
            (Some(Question::Judgement), FromIssuer::Refused(fault)) => {
                self.reply(fault);
            }
            // Nothing to come back with, nothing judged: the client is as well off as before.
            (
                Some(Question::Introduction),
                FromIssuer::Issued(_) | FromIssuer::Refused(_) | FromIssuer::Unavailable,
            )
            | (Some(Question::Judgement), FromIssuer::Unavailable | FromIssuer::Resume(_))
            | (Some(Question::Renewal), FromIssuer::Resume(_))
            | (Some(Question::Return), FromIssuer::Issued(_))
            | (None, _) => {}
        }
    }

    fn on_accepted(&mut self, credential: Credential, now: Instant) {
        if let Some(rotation) = &mut self.keys.rotation {
            if !rotation.accept(credential.expires_at, now) {
                return self.reply(not_newer());
            }
            self.count(Tally::Rotated);
        }
        self.give(credential, now);
    }

    fn call_back(&mut self, resume: Token) {
        self.keys.resume = Some(resume.clone());
        self.confide(Notice::Reconnect {
            resume,
            within: self.config.resume_window,
        });
    }

    fn give(&mut self, credential: Credential, now: Instant) {
        self.keys.offered_at.get_or_insert(now);
        self.keys.resume = Some(credential.resume.clone());
        self.confide(Notice::Token(credential));
    }

    fn ask(&mut self, question: Question, words: ToIssuer) {
        self.keys.questions.push_back(question);
        self.effects.push_back(Effect::Issuer(words));
    }

    /// Tells what is the client's own business.
    fn confide(&mut self, notice: Notice) {
        if self.is_extended() {
            self.tell(ToClient::Notice(notice));
        }
    }

    fn is_extended(&self) -> bool {
        matches!(self.seat, Seat::Taken { extended: true })
    }
}

fn not_newer() -> Fault {
    Fault::invalid(
        "token_not_newer",
        "The token does not expire later than the one before; fetch a fresh one and present that.",
    )
}
