//! The links to the provider: the one in use, and the next one beside it.
//!
//! ```text
//!            it is lost: dial                    its end is near: dial
//!   no link ◀────────────────── link in use ──────────────────────────▶ link in use, next one dialed
//!      │                         ▲       ▲                                   │
//!      └─ there is one: tell it ─┘       └──── there is one: tell it; switch ┘
//!         what was said                        at a turn's end, or just before the end
//! ```
//!
//! **Invariants**
//! - At most one link is in use, and at most one more is being opened or ready.
//! - A link in use knows what was said and heard before it, or a summary, and the sound and the
//!   events that have no answer yet.
//! - An answer that was cut off by the loss of its link is asked for again once; nothing of another
//!   link's answer is added to it.
//! - Without a link the session waits no longer than the set window, with growing pauses.

mod outage;
mod term;

use std::time::{Duration, Instant};

use crate::core::ids::{ConversationId, ItemId};
use crate::core::latency::Measure;
use crate::core::latency::input::InputClock;
use crate::core::latency::loudness::Loudness;
use crate::core::port::{
    ClientEvent, FromVoice, Json, Notice, Source, ToDialer, ToVoice, VoiceSession,
};
use crate::core::random::Random;
use crate::core::resilience::Backoff;
use crate::core::session::ending::Ending;
use crate::core::session::history::{History, Told};
use crate::core::session::recovery::{Reason, RecoveryConfig};
use crate::core::session::uplink::Uplink;
use crate::core::session::{Effect, Phase, Session, SessionConfig};
use crate::core::tally::Tally;

/// The latest moment for a switch, before the end of the link in use.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// What the next link is told of an answer that it is asked for again.
const CUT_OFF: &str = "The answer above was cut off by a fault of the line, not by the user. Give it \
                       again from its beginning, without a word about the fault.";

/// The link in use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Link {
    /// The first one is being opened.
    Opening,
    Up(VoiceSession),
    /// It was lost, and another is looked for.
    Lost(Outage),
    /// It was lost, and no other is wanted.
    Down,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    since: Instant,
    /// Then the session gives up.
    until: Instant,
    reason: Reason,
}

impl Outage {
    pub(super) fn until(self) -> Instant {
        self.until
    }
}

/// What a session needs to go on with another link.
#[derive(Debug)]
pub(super) struct Upstream {
    config: Option<RecoveryConfig>,
    random: Random,
    /// Counts the links.
    pub(super) number: u64,
    /// What the latest link said of its session.
    pub(super) latest: VoiceSession,
    /// When the link in use is to be replaced, and by when it must be.
    term: Option<Term>,
    next: Next,
    pub(super) history: History,
    pub(super) uplink: Uplink,
    /// The conversation of the link in use, as the provider names it.
    pub(super) conversation: Option<ConversationId>,
    /// When the provider said something last.
    pub(super) heard: Instant,
    /// What the link in use was told, and says again in its own words.
    pub(super) told: Told,
    pub(super) owed: Owed,
    /// The answer that is owed was asked for again before.
    asked_again: bool,
    /// With these words the client has asked for the answer that is being given.
    pub(super) request: Option<Json>,
    /// Where the person's last turn ended, on the link's timeline.
    pub(super) stopped_at: Option<Duration>,
}

/// Whether the provider owes an answer that nobody asks for any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owed {
    Nothing,
    /// It was lost with its link.
    Answer,
    /// It was asked for again, and has not begun.
    Asked,
}

/// What the next link would be told, were this one lost now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplayFacts {
    /// The link in use, counted from 1.
    pub link: u64,
    /// Items of the conversation, and bytes of the summary of those before them.
    pub items: usize,
    pub summary: usize,
    /// The person's sound that has no answer yet.
    pub sound: Duration,
    /// Events of the client's that the provider has not answered.
    pub events: usize,
    /// The provider owes an answer that was lost with its link.
    pub owes: bool,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    replace_at: Instant,
    ends_by: Instant,
}

/// The link beside the one in use.
#[derive(Debug)]
enum Next {
    Unwanted,
    Dialing(Backoff),
    Resting(Backoff, Instant),
    Ready {
        session: VoiceSession,
        described: Json,
        told: Told,
        opened: Instant,
    },
}

impl Upstream {
    pub(super) fn new(config: &SessionConfig, now: Instant) -> Self {
        let recovery = config.recovery.unwrap_or_default();

        Self {
            config: config.recovery,
            random: Random::new(config.seed),
            number: 0,
            latest: VoiceSession::default(),
            term: None,
            next: Next::Unwanted,
            history: History::new(recovery.history),
            uplink: Uplink::new(recovery.sound),
            conversation: None,
            heard: now,
            told: Told::default(),
            owed: Owed::Nothing,
            asked_again: false,
            request: None,
            stopped_at: None,
        }
    }

    /// Tells whether the session outlives its link.
    pub(super) fn recovers(&self) -> bool {
        self.config.is_some()
    }

    /// An answer begins: the one that was asked for.
    pub(super) fn begun(&mut self) {
        if let Some(request) = self.uplink.answered(ClientEvent::CreateResponse) {
            self.request = Some(request);
            self.asked_again = false;
        }
        self.owed = Owed::Nothing;
    }

    /// A new turn: what was owed is forgotten.
    pub(super) fn forgive(&mut self) {
        self.owed = Owed::Nothing;
        self.asked_again = false;
        self.request = None;
    }
}

impl Session {
    /// Returns what the next link would be told.
    pub fn replay(&self) -> ReplayFacts {
        let Upstream {
            number,
            history,
            uplink,
            owed,
            ..
        } = &self.upstream;
        let (items, summary) = history.facts();

        ReplayFacts {
            link: *number,
            items,
            summary,
            sound: uplink.sound(),
            events: uplink.events(),
            owes: *owed != Owed::Nothing,
        }
    }

    /// The link in use says that it is there, or what has become of its session.
    pub(super) fn on_session(&mut self, session: VoiceSession, json: Json, now: Instant) {
        if let Link::Opening = self.voice {
            self.upstream.number = 1;
            self.begin_term(session, now, now);
        } else if let Some(update) = self.upstream.uplink.answered(ClientEvent::UpdateSession) {
            // Whoever is ready to take over must know it, too.
            if let Next::Ready { .. } = self.upstream.next {
                self.effects
                    .push_back(Effect::Next(ToVoice::Event(update.clone())));
            }
            if self.upstream.config.is_some() {
                self.effects
                    .push_back(Effect::Dialer(ToDialer::Adopt(update)));
            }
        }
        self.upstream.latest = session;
        self.voice = Link::Up(session);
        self.described = Some(json.clone());
        self.pass_on(json);
        if let Phase::Idle = self.phase {
            self.enter(Phase::Listening);
        }
    }

    /// The link beside the one in use says something.
    pub(super) fn on_next(&mut self, message: FromVoice, now: Instant) {
        match (&mut self.upstream.next, message) {
            (Next::Dialing(_), FromVoice::Session(session, described)) => {
                self.upstream.next = Next::Ready {
                    session,
                    described,
                    told: Told::default(),
                    opened: now,
                };
                if let Link::Lost(_) = self.voice {
                    self.switch(now);
                } else {
                    self.prime();
                }
            }
            (
                Next::Ready {
                    session, described, ..
                },
                FromVoice::Session(now, json),
            ) => {
                (*session, *described) = (now, json);
            }
            (Next::Dialing(backoff), FromVoice::Down(_)) => {
                let wait = backoff.next(None, &mut self.upstream.random);
                self.upstream.next = Next::Resting(backoff.clone(), now + wait);
            }
            (Next::Ready { .. }, FromVoice::Down(_)) => {
                self.upstream.next = Next::Unwanted;
                self.dial();
            }
            // It answers to what it is told, which nobody else has to know.
            (Next::Unwanted | Next::Resting(..) | Next::Dialing(_) | Next::Ready { .. }, _) => {}
        }
    }

    /// Tells the next link what was said so far, so that there is little to tell at the switch.
    fn prime(&mut self) {
        if let Next::Ready { told, .. } = &mut self.upstream.next {
            let (messages, now_told) = self.upstream.history.restore(told);
            *told = now_told;
            if !messages.is_empty() {
                self.effects.push_back(Effect::Next(ToVoice::All(messages)));
            }
        }
    }

    /// The next link takes the place of the one in use.
    fn switch(&mut self, now: Instant) {
        let next = std::mem::replace(&mut self.upstream.next, Next::Unwanted);
        let Next::Ready {
            session,
            described,
            told,
            opened,
        } = next
        else {
            self.upstream.next = next;
            return;
        };
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        self.fail(unconfirmed);
        self.effects.push_back(Effect::Switch);
        let before = std::mem::replace(&mut self.voice, Link::Up(session));
        self.described = Some(described);
        self.begin_term(session, opened, now);
        let outputs = self.tools.unconfirmed();
        let upstream = &mut self.upstream;
        upstream.number += 1;
        upstream.latest = session;
        upstream.heard = now;
        upstream.stopped_at = None;
        let (mut messages, told) = upstream.history.restore(&told);
        upstream.told = told;
        messages.extend(outputs);
        let (input, loudness) = (&mut self.input, &mut self.loudness);
        *input = InputClock::default();
        *loudness = Loudness::default();
        let asks = upstream.uplink.expects(ClientEvent::CreateResponse);
        messages.extend(upstream.uplink.retell(now, |length, at| {
            input.advance(length, at);
            loudness.skip(length);
        }));
        let again = upstream.owed == Owed::Answer;
        if again {
            upstream.owed = Owed::Asked;
            upstream.asked_again = true;
            messages.push(
                upstream
                    .request
                    .clone()
                    .map_or(ToVoice::Respond, ToVoice::Event),
            );
        }
        if !messages.is_empty() {
            self.say(ToVoice::All(messages));
        }
        let waits = self.tools.is_awaited(now);
        match before {
            Link::Lost(outage) => {
                let after = now.saturating_duration_since(outage.since);
                self.count(Tally::LinkRestored(after));
                self.record(Measure::Recovery, after, Source::Reported);
                self.notice(Notice::Restored { after });
            }
            Link::Opening | Link::Up(_) | Link::Down => self.count(Tally::RolledOver),
        }
        match self.phase {
            Phase::Recovering { .. } | Phase::Thinking { .. } if again || asks || waits => {
                self.think(now);
            }
            Phase::Recovering { .. } | Phase::Cancelling { .. } => self.settle(now),
            Phase::Thinking { .. } => self.enter(Phase::Listening),
            Phase::Idle | Phase::Listening | Phase::Speaking { .. } | Phase::Closed => {}
        }
    }

    /// Does what is due about the links.
    pub(super) fn tend_links(&mut self, now: Instant) {
        if let Link::Lost(outage) = self.voice
            && outage.until <= now
        {
            return self.give_up(outage);
        }
        if let Next::Resting(backoff, until) = &self.upstream.next
            && *until <= now
        {
            self.upstream.next = Next::Dialing(backoff.clone());
            self.effects.push_back(Effect::Dialer(ToDialer::Open));
        }
        let (Link::Up(_), Some(term)) = (self.voice, self.upstream.term) else {
            return;
        };
        self.upstream.uplink.settle(now);
        if term.replace_at <= now && !self.is_ending() {
            self.dial();
        }
        if let Next::Ready { .. } = self.upstream.next {
            if self.is_between_turns() {
                self.switch(now);
            } else if term.ends_by <= now {
                self.drop_answers(false, now);
                self.switch(now);
            }
        }
    }

    pub(super) fn links_timeout(&self) -> Option<Instant> {
        let outage = match self.voice {
            Link::Lost(outage) => Some(outage.until),
            Link::Opening | Link::Up(_) | Link::Down => None,
        };
        let term = self
            .upstream
            .term
            .filter(|_| matches!(self.voice, Link::Up(_)));
        let next = match &self.upstream.next {
            Next::Unwanted if self.is_ending() => None,
            Next::Unwanted => term.map(|term| term.replace_at),
            Next::Dialing(_) => None,
            Next::Resting(_, until) => Some(*until),
            Next::Ready { .. } => term.map(|term| term.ends_by),
        };

        [outage, next].into_iter().flatten().min()
    }

    /// Cuts an item down to what was heard of it, whichever link has it.
    pub(super) fn cut_item(&mut self, item: ItemId, content_index: u32, heard: Duration) {
        let native = self.upstream.history.is_native(&item, self.upstream.number);
        self.upstream.history.cut(&item, heard);
        // Providers count whole milliseconds, and refuse to truncate to none.
        let unheard = heard < Duration::from_millis(1);
        let message = match (native, unheard) {
            (_, true) => ToVoice::Delete(item),
            (true, false) => ToVoice::Truncate {
                item,
                content_index,
                heard,
            },
            // It was told in writing, and has no sound to be cut.
            (false, false) => {
                let message =
                    self.upstream
                        .history
                        .rewrite(&item, &self.upstream.told, self.upstream.number);
                if let Link::Up(_) = self.voice {
                    self.upstream.told.replace(item);
                }
                message
            }
        };
        self.say(message);
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.ending, Ending::Draining { .. })
    }
}
