//! The client's connection and its credentials: lost and back, renewed or not.

use std::time::{Duration, Instant};

use voxline::core::ids::TokenId;
use voxline::core::latency::Transport;
use voxline::core::port::{
    CloseReason, Credential, Device, Fault, FromClient, FromIssuer, FromVoice, Notice, ToClient,
    ToIssuer,
};
use voxline::core::session::{Access, Input, Loss, Neighbor, Reason, SessionConfig};
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
    /// It acknowledges events.
    acknowledges: bool,
    /// The events of the session so far.
    said: Vec<ToClient>,
    /// How many of them were sent on the connection that is there, or was last, ...
    sent: usize,
    /// ... how many have arrived, ...
    has: usize,
    /// ... and came before those of this connection.
    before: usize,
    /// Whether an introduction came first on it.
    introduced: usize,
    has_acknowledged: bool,
    began_late: bool,
    /// It promises to be heard of, and was last heard of then.
    promises: bool,
    promised: bool,
    heard_at: Instant,
    /// Where its ear is, while it is out of reach.
    frozen: Option<Duration>,
    waiting: bool,
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
            life,
            ends_by: config
                .max_length
                .map(|length| origin + length + config.drain),
            speaks: random.below(4) > 0,
            answers: random.below(3) > 0,
            acknowledges: random.below(2) == 0,
            promises: random.below(3) == 0,
            held_until: life.map(|life| origin + life),
            ..Self::steady(config, origin)
        }
    }

    /// A client that stays.
    pub(crate) fn steady(config: &SessionConfig, origin: Instant) -> Self {
        Self {
            window: config.resume_window,
            ends_by: None,
            life: None,
            speaks: false,
            answers: false,
            here: true,
            parked_since: None,
            introduction: None,
            away: vec![],
            acknowledges: false,
            said: vec![],
            sent: 0,
            has: 0,
            before: 0,
            introduced: 0,
            has_acknowledged: false,
            began_late: false,
            promises: false,
            promised: false,
            heard_at: origin,
            frozen: None,
            waiting: false,
            extended: false,
            can_return: false,
            held_until: None,
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
        if !self.presence.here {
            return match chance {
                0..30 => vec![Input::Attached(self.device(true))],
                _ => vec![],
            };
        }
        if chance == 198 && self.presence.can_return {
            return vec![Input::Attached(self.device(false))];
        }
        if self.presence.waiting && chance < 50 {
            return vec![Input::Client(FromClient::Heard(self.ear_of_its_own()))];
        }
        if self.presence.extended && chance.is_multiple_of(5) {
            if self.presence.acknowledges && chance < 100 {
                return vec![self.acknowledgement()];
            }
            if self.presence.promises && chance < 120 {
                let every = Duration::from_secs(1);
                return vec![Input::Client(FromClient::Alive { every })];
            }
        }
        let presence = &mut self.presence;
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
            195..=197 if returns => vec![Input::Lost(Neighbor::Client, Loss::Gone)],
            199 if self.random.below(40) == 0 => vec![Input::Lost(Neighbor::Client, Loss::Gone)],
            _ => vec![],
        }
    }

    /// What comes to take the client's place; one that was lost may say what it has heard.
    fn device(&mut self, lost: bool) -> Device {
        let says = lost && self.random.below(2) == 0;
        Device {
            transport: Transport::WebRtc,
            lead: self.config.lead,
            ear_delay: self.config.ear_delay,
            flushes: self.config.flushes,
            heard: says.then(|| self.ear_of_its_own()),
        }
    }

    /// Somewhere near to where the relay believes it.
    fn ear_of_its_own(&mut self) -> Duration {
        let near = Duration::from_millis(self.random.below(600));
        (self.ear() + near).saturating_sub(Duration::from_millis(300))
    }

    fn acknowledgement(&mut self) -> Input {
        self.arrive();
        if !std::mem::replace(&mut self.presence.has_acknowledged, true) {
            // Little is kept for who may never acknowledge.
            let open = &self.presence.said[self.presence.has..];
            let kept: usize = open.iter().map(size).sum();
            self.presence.began_late = open.len() > 64 || kept > 64 << 10;
        }
        self.saw("acknowledged");
        let presence = &self.presence;
        let own = presence.has - presence.before.min(presence.has);
        Input::Client(FromClient::Acknowledged {
            received: (own + presence.introduced) as u64,
            last: "e".into(),
        })
    }

    /// Some of what is on its way has come.
    fn arrive(&mut self) {
        let on_the_way = self.presence.sent.saturating_sub(self.presence.has);
        self.presence.has += self.random.below(on_the_way as u64 + 1) as usize;
    }

    pub(crate) fn ear(&self) -> Duration {
        let hearing = self.session.hearing(self.now).expect("the relay plays");
        let reckoned = (self.now - self.origin).saturating_sub(hearing.delay);
        self.presence.frozen.unwrap_or(reckoned)
    }

    /// Nothing sounds for who is not there, or cannot be reached.
    pub(crate) fn is_away(&self) -> bool {
        !self.presence.here || self.presence.waiting
    }

    /// Nobody speaks who is not there, except one who listens from beside.
    pub(crate) fn allows(&self, input: &Input) -> bool {
        let own = match input {
            Input::Client(FromClient::Event(..) | FromClient::ClearOutput) => false,
            Input::Client(_) | Input::Lost(Neighbor::Client, _) => true,
            Input::Voice(_)
            | Input::Next(_)
            | Input::Dialer(_)
            | Input::Tool(_)
            | Input::Issuer(_)
            | Input::Attached(_)
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
        if let Input::Client(_) = input
            && !self.presence.waiting
        {
            self.presence.heard_at = self.now;
        }
        match input {
            Input::Attached(device) => {
                if self.presence.here {
                    self.saw("replaced");
                }
                self.take_back(device.heard);
                self.arrive();
                if !self.presence.has_acknowledged {
                    self.presence.has = self.presence.sent;
                }
                let presence = &mut self.presence;
                presence.introduced = usize::from(presence.described);
                presence.before = presence.has;
                presence.heard_at = self.now;
                presence.promised = false;
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
                self.freeze();
                let presence = &mut self.presence;
                presence.here = false;
                presence.waiting = false;
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
            Input::Client(FromClient::Heard(heard)) => {
                self.take_back(Some(*heard));
                self.presence.heard_at = self.now;
            }
            Input::Client(FromClient::Alive { .. }) => self.presence.promised = true,
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
            | Input::Tool(_)
            | Input::Issuer(_)
            | Input::Lost(Neighbor::Voice, _)
            | Input::Shutdown => {}
        }
    }

    /// The ear is taken to have stopped when the client was last within reach.
    fn freeze(&mut self) {
        let reached = match self.presence.promised {
            true => self.presence.heard_at,
            false => self.now,
        };
        let hearing = self.session.hearing(self.now).expect("the relay plays");
        let ear = (reached - self.origin).saturating_sub(hearing.delay);
        self.presence.frozen.get_or_insert(ear);
        let reckoned = (self.now - self.origin).saturating_sub(hearing.delay);
        for item in self.items.values_mut() {
            let whole = item.received < item.played() + FRAME;
            let last = item.played.last().map(|position| *position + FRAME);
            item.over |= whole && last.is_some_and(|end| end <= reckoned);
        }
    }

    /// What was on its way to the ear counts as not played.
    fn take_back(&mut self, heard: Option<Duration>) {
        let ear = heard.unwrap_or_else(|| self.ear());
        self.presence.frozen = None;
        self.presence.waiting = false;
        let mut unheard = 0;
        for item in self.items.values_mut() {
            let before = item.played.len();
            // Older sound is not kept.
            let sure = item.last_played.saturating_sub(Duration::from_secs(5));
            let heard = ear.max(sure);
            item.played.retain(|position| *position + FRAME <= heard);
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
        self.count_event(message);
        self.presence.sent = self.presence.said.len();
    }

    fn count_event(&mut self, message: &ToClient) {
        if let ToClient::Event(_)
        | ToClient::Output(..)
        | ToClient::Failed(_)
        | ToClient::Truncated { .. }
        | ToClient::Fault(_) = message
        {
            self.presence.said.push(message.clone());
        }
    }

    pub(crate) fn check_sidebands(&mut self, message: &ToClient) {
        self.promise(!self.presence.here, "who is there is not left out");
        if !is_state(message) && !matches!(message, ToClient::Close(_)) {
            self.presence.away.push(message.clone());
            self.count_event(message);
        }
    }

    /// What is said to the client alone.
    pub(crate) fn check_confidence(&mut self, message: ToClient) {
        self.promise(self.presence.here, "a client that is away hears no ghosts");
        if let Some(told) = &mut self.presence.introduction {
            told.push(message.clone());
        }
        match message {
            ToClient::Created { next, .. } => {
                let first = matches!(self.presence.introduction.as_deref(), Some([_]));
                self.promise(first, "the session is told first");
                self.presence.before = next.expect("it was there before") as usize - 1;
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
                ..
            } => {
                self.saw("play");
                self.promise(
                    self.presence.away.is_empty(),
                    "sound follows what was missed",
                );
                self.check_play(&frame.payload, position, due);
            }
            ToClient::Flush => self.saw("flush"),
            ToClient::Notice(Notice::Waiting) => {
                self.saw("waiting");
                let silent = self.now - self.presence.heard_at >= Duration::from_secs(2);
                self.promise(silent, "who is heard of is within reach");
                self.freeze();
                self.presence.waiting = true;
            }
            ToClient::Fault(fault) => {
                self.saw("token_refused");
                self.promise(fault.code.starts_with("token_"), "it is the client's own");
                self.count_event(&ToClient::Fault(fault));
                self.presence.sent = self.presence.said.len();
            }
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
            | ToClient::Close(_) => self.promise(false, "what is for all is told to all"),
        }
    }

    fn check_missed(&mut self, missed: &[ToClient]) {
        let away = std::mem::take(&mut self.presence.away);
        let (lost, kept) = match missed {
            [ToClient::Fault(fault), kept @ ..] if fault.code == "events_lost" => (true, kept),
            all => (false, all),
        };
        let in_order = kept.ends_with(&away) || lost && away.ends_with(kept);
        self.promise(in_order, "what was missed is told in order");
        let is_event = |message: &&ToClient| !matches!(message, ToClient::Notice(_));
        let told: Vec<_> = kept.iter().filter(is_event).collect();
        let first = self.presence.before + usize::from(lost);
        let owed: Vec<_> = self.presence.said.iter().skip(first).collect();
        // Before the provider has described its session there is nothing to tell numbers by.
        let numbered = told == owed || !self.presence.described;
        self.promise(numbered, "each event has its number");
        let has = self.presence.has;
        self.promise(lost || self.presence.before <= has, "no event is lost");
        let late = lost || self.presence.has_acknowledged || self.presence.before == has;
        self.promise(late, "who acknowledges nothing is told what it missed only");
        self.presence.sent = self.presence.said.len();
        if told.len() > away.len() {
            self.saw("told again");
        }
        if lost {
            self.saw("events lost");
            let mut told = 0;
            for message in missed {
                if let ToClient::Event(json) = message {
                    told += json.as_str().len();
                }
            }
            let much = told > 400_000 || missed.len() > 2_000 || self.presence.began_late;
            self.promise(much, "little is not lost");
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
            | Notice::Waiting
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
            Tally::LinkLost(reason) => {
                self.saw(reason.name());
                self.check_lost(reason == Reason::Silent);
            }
            Tally::LinkRestored(after) => self.check_restored(after),
            Tally::LinkGivenUp => self.check_given_up(),
            Tally::RolledOver => self.saw("rolled over"),
            Tally::Interrupted => self.saw("interrupted"),
            Tally::InterruptionUnconfirmed => self.saw("interruption unconfirmed"),
            Tally::Arrived(_)
            | Tally::Cut(_)
            | Tally::Paused
            | Tally::Received(_)
            | Tally::Used(_) => {}
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

fn size(message: &ToClient) -> usize {
    if let ToClient::Event(json) = message {
        json.as_str().len()
    } else {
        256
    }
}

fn is_state(message: &ToClient) -> bool {
    matches!(message, ToClient::Notice(Notice::State(_)))
}
