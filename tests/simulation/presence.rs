//! The client's connection and its credentials: lost and back, renewed or not.

use std::time::{Duration, Instant};

use voxline::core::ids::TokenId;
use voxline::core::port::{
    CloseReason, Credential, Fault, FromClient, FromIssuer, FromVoice, Notice, ToClient, ToIssuer,
};
use voxline::core::session::{Access, Input, Loss, Neighbor, SessionConfig};
use voxline::core::tally::Tally;
use voxline::core::token::{Renewal, RotationConfig};

use crate::{FRAME, Random, World};

/// Where the client is, and what it holds.
pub(crate) struct Presence {
    window: Duration,
    ends_by: Option<Instant>,
    life: Option<Duration>,
    /// It asks for more than OpenAI's events.
    speaks: bool,
    /// It answers what it is sent about tokens, most of the time.
    answers: bool,

    here: bool,
    /// The session is to end with this input.
    doomed: bool,
    /// The provider has told of its session.
    described: bool,
    parked_since: Option<Instant>,
    /// What the connection that is here was told so far, up to its introduction's end.
    introduction: Option<Vec<ToClient>>,
    away: Vec<ToClient>,
    extended: bool,
    can_return: bool,

    held_until: Option<Instant>,
    offered: Option<(TokenId, Instant)>,
    takes: Option<Instant>,
    presents: bool,
    issued: u64,
    /// Since the client last took a credential, or a place.
    attempts: u32,
    failures: u32,
    reconnects: u32,
    parked: u32,
    resumed: u32,
    abandoned: u32,
}

impl Presence {
    pub(crate) fn new(config: &mut SessionConfig, random: &mut Random, origin: Instant) -> Self {
        if random.below(4) == 0 {
            config.max_length = Some(Duration::from_secs(1 + random.below(120)));
        }
        let life = (random.below(3) > 0).then(|| Duration::from_secs(1 + random.below(90)));
        if let Some(life) = life {
            config.seed = random.below(1_000);
            config.access = Access::Expiring {
                expires_at: origin + life,
                renewal: match random.below(2) {
                    0 => Renewal::InBand,
                    _ => Renewal::Fetch,
                },
                rotation: RotationConfig::default(),
            };
        }

        Self {
            window: config.resume_window,
            ends_by: config
                .max_length
                .map(|length| origin + length + config.drain),
            life,
            speaks: random.below(4) > 0,
            answers: random.below(3) > 0,
            here: true,
            parked_since: None,
            introduction: None,
            away: vec![],
            extended: false,
            can_return: false,
            held_until: life.map(|life| origin + life),
            offered: None,
            takes: None,
            doomed: false,
            described: false,
            presents: false,
            issued: 0,
            attempts: 0,
            failures: 0,
            reconnects: 0,
            parked: 0,
            resumed: 0,
            abandoned: 0,
        }
    }
}

impl World {
    pub(crate) fn comings_and_goings(&mut self) -> Vec<Input> {
        let chance = self.random.below(200);
        let presence = &mut self.presence;
        if !presence.here {
            return match chance {
                0..30 => vec![Input::Attached],
                _ => vec![],
            };
        }
        if presence.speaks && !presence.extended && chance < 100 {
            return vec![Input::Client(FromClient::Extended)];
        }
        if chance == 194 {
            let other = FromClient::TokenAcknowledged("t0".into());
            return vec![Input::Client(other)];
        }
        let answers = presence.answers && chance < 150;
        if let Some((token, expires_at)) = presence.offered.take_if(|_| answers) {
            presence.takes = Some(expires_at);
            return vec![Input::Client(FromClient::TokenAcknowledged(token))];
        }
        if answers && std::mem::take(&mut presence.presents) {
            let token = match chance % 3 {
                0 => "stolen",
                _ => "fetched",
            };
            presence.takes = presence.life.map(|life| self.now + life);
            return vec![Input::Client(FromClient::TokenPresented(token.into()))];
        }
        let returns = presence.can_return;
        match chance {
            195..198 if returns => vec![Input::Lost(Neighbor::Client, Loss::Gone)],
            198 if returns => vec![Input::Attached],
            199 if self.random.below(40) == 0 => vec![Input::Lost(Neighbor::Client, Loss::Gone)],
            _ => vec![],
        }
    }

    pub(crate) fn is_away(&self) -> bool {
        !self.presence.here
    }

    /// Nobody speaks who is not there, except one who listens from beside.
    pub(crate) fn allows(&self, input: &Input) -> bool {
        let own = match input {
            Input::Client(FromClient::Event(..) | FromClient::ClearOutput) => false,
            Input::Client(_) | Input::Lost(Neighbor::Client, _) => true,
            Input::Voice(_)
            | Input::Next(_)
            | Input::Dialer(_)
            | Input::Issuer(_)
            | Input::Attached
            | Input::Lost(Neighbor::Voice, _)
            | Input::Shutdown
            | Input::Revoked
            | Input::HungUp => false,
        };

        self.presence.here || !own
    }

    /// Notes what the input means for the client, before the session hears of it.
    pub(crate) fn foresee(&mut self, input: &Input) {
        if self.closed {
            return;
        }
        match input {
            Input::Attached => {
                if self.presence.here {
                    self.saw("replaced");
                    self.take_back();
                }
                let presence = &mut self.presence;
                presence.here = true;
                presence.parked_since = None;
                presence.introduction = Some(vec![]);
                presence.extended = false;
            }
            Input::Lost(Neighbor::Client, loss) => {
                if !self.presence.can_return || *loss == Loss::Overrun {
                    self.presence.doomed = true;
                    return;
                }
                self.take_back();
                let presence = &mut self.presence;
                presence.here = false;
                presence.parked_since = Some(self.now);
                presence.away.clear();
                presence.offered = None;
                presence.presents = false;
            }
            Input::Client(FromClient::Extended) => {
                self.presence.extended = true;
                self.presence.attempts = 0;
                self.presence.reconnects = 0;
            }
            Input::Client(FromClient::ClearOutput) if !self.presence.here => {
                self.saw("clear while away");
            }
            Input::Revoked => {
                self.saw("revoked");
                self.presence.doomed = true;
            }
            Input::HungUp | Input::Client(FromClient::Hangup) => self.presence.doomed = true,
            Input::Voice(FromVoice::Session(..)) => self.presence.described = true,
            Input::Client(_)
            | Input::Voice(_)
            | Input::Next(_)
            | Input::Dialer(_)
            | Input::Issuer(_)
            | Input::Lost(Neighbor::Voice, _)
            | Input::Shutdown => {}
        }
    }

    /// What was on its way to the ear counts as not played.
    fn take_back(&mut self) {
        let hearing = self.session.hearing(self.now).expect("the relay plays");
        let ear = (self.now - self.origin).saturating_sub(hearing.delay);
        let mut unheard = 0;
        for item in self.items.values_mut() {
            let before = item.played.len();
            item.played.retain(|position| *position + FRAME <= ear);
            unheard += before - item.played.len();
        }
        if unheard > 0 {
            self.saw("taken back");
        }
    }

    pub(crate) fn check_everyone(&mut self, message: &ToClient) {
        self.promise(self.presence.here, "nobody hears what nobody is there for");
        if let Some(told) = &self.presence.introduction {
            let introduced = told.iter().any(is_state);
            self.promise(introduced, "who joins is introduced first");
            let missed = self.presence.away.is_empty();
            let closing = matches!(message, ToClient::Close(_));
            self.promise(missed || closing, "who is back hears first what it missed");
        }
    }

    pub(crate) fn check_sidebands(&mut self, message: &ToClient) {
        self.promise(!self.presence.here, "who is there is not left out");
        if !is_state(message) && !matches!(message, ToClient::Close(_)) {
            self.presence.away.push(message.clone());
        }
    }

    /// What is said to the client alone.
    pub(crate) fn check_confidence(&mut self, message: ToClient) {
        self.promise(self.presence.here, "a client that is away hears no ghosts");
        if let Some(told) = &mut self.presence.introduction {
            told.push(message.clone());
        }
        match message {
            ToClient::Created(_) => {
                let first = matches!(self.presence.introduction.as_deref(), Some([_]));
                self.promise(first, "the session is told first");
            }
            ToClient::Notice(Notice::State(state)) => {
                let told = self.presence.introduction.as_ref().map(Vec::len);
                let expected = 1 + usize::from(self.presence.described);
                self.promise(told == Some(expected), "the state follows the session");
                self.promise(state == self.state, "the state is told as it is");
            }
            ToClient::Missed(missed) => {
                self.saw("missed");
                self.check_missed(&missed);
            }
            ToClient::Play {
                frame,
                position,
                due,
            } => {
                self.saw("play");
                self.promise(
                    self.presence.away.is_empty(),
                    "sound follows what was missed",
                );
                self.check_play(frame.payload[0], position, due);
            }
            ToClient::Flush => self.saw("flush"),
            ToClient::Notice(notice) => {
                self.promise(
                    self.presence.extended,
                    "only who asked hears of credentials",
                );
                self.check_credentials(notice);
            }
            ToClient::Event(_)
            | ToClient::Failed(_)
            | ToClient::Truncated { .. }
            | ToClient::Output(..)
            | ToClient::Fault(_)
            | ToClient::Close(_) => self.promise(false, "what is for all is told to all"),
        }
    }

    fn check_missed(&mut self, missed: &[ToClient]) {
        let away = std::mem::take(&mut self.presence.away);
        let whole = missed == away;
        let lost = matches!(missed, [kept @ .., ToClient::Fault(fault)]
            if fault.code == "events_lost" && away.starts_with(kept));
        self.promise(whole || lost, "what was missed is told once, in order");
        if !whole {
            self.saw("events lost");
            let mut told = 0;
            for message in missed {
                if let ToClient::Event(json) = message {
                    told += json.as_str().len();
                }
            }
            self.promise(told > 400_000, "little is not lost");
        }
    }

    fn check_credentials(&mut self, notice: Notice) {
        match notice {
            Notice::Session { window, .. } => {
                self.saw("session");
                self.promise(window == self.presence.window, "the window is told");
                self.presence.can_return = true;
            }
            Notice::Token(credential) => {
                self.saw("token");
                self.presence.can_return = true;
                self.presence.attempts += 1;
                let offer = (credential.id, credential.expires_at);
                if self.presence.offered.as_ref() == Some(&offer) {
                    self.saw("token again");
                }
                self.presence.offered = Some(offer);
            }
            Notice::TokenExpiring { within } => {
                self.saw("token_expiring");
                self.promise(!within.is_zero(), "a client has time to fetch");
                self.presence.attempts += 1;
                self.presence.presents = true;
            }
            Notice::TokenRefused(_) => self.saw("token_refused"),
            Notice::Reconnect { .. } => {
                self.saw("reconnect");
                self.presence.can_return = true;
                self.presence.reconnects += 1;
                self.promise(self.presence.reconnects == 1, "one call back a token");
                self.promise(self.presence.failures > 0, "a call back is a failure");
            }
            Notice::State(_)
            | Notice::Degraded { .. }
            | Notice::Restored { .. }
            | Notice::Interrupted { .. }
            | Notice::Paused { .. }
            | Notice::Resumed { .. }
            | Notice::Latency(_)
            | Notice::Closing { .. } => self.promise(false, "news are for all"),
        }
    }

    /// The issuer, which is down at times.
    pub(crate) fn answer(&mut self, question: ToIssuer) {
        let up = self.random.below(4) > 0;
        let presence = &mut self.presence;
        presence.attempts += u32::from(question == ToIssuer::Renew);
        presence.issued += 1;
        let credential = Credential {
            id: format!("t{}", presence.issued).into(),
            token: "ek".into(),
            resume: "rt".into(),
            expires_at: self.now + presence.life.unwrap_or(Duration::from_secs(60)),
            expires_unix: 0,
        };
        let answer = match question {
            _ if !up => FromIssuer::Unavailable,
            ToIssuer::Resume => FromIssuer::Resume("rt".into()),
            ToIssuer::Renew => FromIssuer::Issued(credential),
            ToIssuer::Check(token) if token.expose() == "fetched" => FromIssuer::Issued(credential),
            ToIssuer::Check(_) => FromIssuer::Refused(Fault::invalid("token_signature", "no")),
        };
        self.session.handle(Input::Issuer(answer), self.now);
    }

    pub(crate) fn check_count(&mut self, tally: Tally) {
        match tally {
            Tally::Rotated => {
                self.saw("rotated");
                let took = self.presence.takes.is_some();
                self.promise(took, "what was not sent is not acknowledged");
                let presence = &mut self.presence;
                presence.held_until = presence.takes.take();
                presence.attempts = 0;
                presence.reconnects = 0;
            }
            Tally::RotationFailed => {
                self.saw("rotation failed");
                self.presence.failures += 1;
                let expired = self
                    .presence
                    .held_until
                    .is_some_and(|held| held <= self.now);
                self.promise(expired, "no renewal is given up before the end");
                self.promise(
                    self.presence.attempts > 1,
                    "no renewal fails at the first try",
                );
                self.promise(self.presence.extended, "who knows no tokens fails none");
            }
            Tally::Parked => {
                self.saw("parked");
                self.presence.parked += 1;
            }
            Tally::Resumed => {
                self.saw("resumed");
                self.presence.resumed += 1;
            }
            Tally::Abandoned => {
                self.saw("abandoned");
                self.presence.abandoned += 1;
            }
            Tally::FalseAlarm => self.saw("false alarm"),
            Tally::Cut(_)
            | Tally::Paused
            | Tally::Used(_)
            | Tally::LinkLost(_)
            | Tally::LinkRestored(_)
            | Tally::RolledOver
            | Tally::LinkGivenUp => {}
        }
    }

    pub(crate) fn check_close(&mut self, reason: CloseReason) {
        if reason == CloseReason::TooLong {
            self.saw("too long");
        }
    }

    /// What holds after every input.
    pub(crate) fn check_presence(&mut self) {
        if self.closed {
            return;
        }
        self.promise(!self.presence.doomed, "what ends a session ends it");
        let presence = &mut self.presence;
        presence.introduction = None;
        let waited = presence.parked_since.map(|since| self.now - since);
        let in_time = waited.is_none_or(|waited| waited < presence.window);
        let short = presence.ends_by.is_none_or(|end| self.now < end);
        let returns = presence.here || presence.can_return;
        let told = !presence.here || presence.away.is_empty();
        self.promise(in_time, "a client is waited for no longer than it was told");
        self.promise(short, "no session is too long");
        self.promise(returns, "who cannot come back is not waited for");
        self.promise(told, "who is back knows what it missed");
        let wait = self.longest_pause;
        let paused = self
            .paused_since
            .is_none_or(|since| self.now <= since + wait);
        self.promise(paused, "a pause is no longer than it may be");
    }

    pub(crate) fn check_counts(&self) {
        let Presence {
            parked,
            resumed,
            abandoned,
            ..
        } = self.presence;
        self.promise(
            parked == resumed + abandoned,
            "who was lost is back or given up",
        );
    }
}

fn is_state(message: &ToClient) -> bool {
    matches!(message, ToClient::Notice(Notice::State(_)))
}
