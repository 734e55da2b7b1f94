//! What is kept of a session outside of it, from which it can be begun again.
//!
//! **Invariants**
//! - What was said is in it as far as it was heard, and never the sound of it.
//! - It is made when something has changed, at most once in [`PAUSE`], and never for a piece of
//!   sound.
//! - A session that is begun again has no client and no link: it waits for the one as long as for
//!   a client that was lost, and looks for the other at once.

use std::time::{Duration, Instant};

use crate::core::ids::{ConversationId, EventId, ResponseId, SessionId};
use crate::core::item::Item;
use crate::core::port::{FromClient, FromVoice, Json, Token};
use crate::core::session::upstream::Owed;
use crate::core::session::{Effect, Input, Phase, Seat, Session, SessionConfig};

/// The least time between two snapshots.
const PAUSE: Duration = Duration::from_millis(200);

/// A session as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub session: SessionId,
    /// As the provider's link named it.
    pub conversation: Option<ConversationId>,
    /// The response that was being made.
    pub response: Option<ResponseId>,
    /// Counts the pieces of the person's sound.
    pub last_user_audio_seq: u64,
    /// Counts the events that the client was told.
    pub events: u64,
    /// The one that it has acknowledged last.
    pub last_ack_event_id: Option<EventId>,
    /// The latest that the provider has said of its session.
    pub described: Option<Json>,
    /// The conversation, from the first item in the window, and what is left of those before it.
    pub items: Vec<Item>,
    pub summary: Abridged,
    pub turns: u64,
    /// The link, counted from 1.
    pub link: u64,
    /// With which its client comes back.
    pub resume: Option<Token>,
}

/// A summary, line by line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Abridged {
    pub lines: Vec<crate::core::item::Said>,
    /// Items of which nothing is left.
    pub forgotten: u32,
}

/// What a snapshot and an item take beside their words, about.
const BESIDE: usize = 512;

impl Snapshot {
    /// How many bytes it takes, about.
    pub fn weight(&self) -> usize {
        let words = self.items.iter().map(|item| BESIDE + item.weight());
        let lines = self.summary.lines.iter().map(|line| line.0.len());
        let described = self
            .described
            .as_ref()
            .map_or(0, |json| json.as_str().len());

        BESIDE + described + words.sum::<usize>() + lines.sum::<usize>()
    }
}

/// Whether there is something to be kept.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// Something has changed, and is to be kept then.
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Saving {
    fn change(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| last + PAUSE);
        self.due = self.due.or_else(|| Some(earliest.max(now)));
    }
}

impl Session {
    /// Begins a session again that was lost with all but this.
    pub fn restore(config: SessionConfig, snapshot: Snapshot, now: Instant) -> Self {
        let mut session = Self::new(config, now);
        session.keys.came_back(snapshot.resume);
        session.seat = Seat::parked(now + session.config.resume_window);
        session
            .outbox
            .go_on(snapshot.events, snapshot.last_ack_event_id);
        session.described = snapshot.described;
        session.turns = snapshot.turns;
        session.sounds = snapshot.last_user_audio_seq;
        let upstream = &mut session.upstream;
        upstream.number = snapshot.link;
        upstream.history.refill(snapshot.items, &snapshot.summary);
        if let Some(response) = snapshot.response {
            session.over.insert(response);
            upstream.owed = Owed::Answer;
        }
        session.look_for_link(now);
        session.saving.change(now);

        session
    }

    /// Returns what is to be kept.
    pub fn snapshot(&self) -> Snapshot {
        let (items, summary) = self.upstream.history.contents();
        Snapshot {
            session: self.config.id.clone(),
            conversation: self.upstream.conversation.clone(),
            response: self.open.iter().last().cloned(),
            last_user_audio_seq: self.sounds,
            events: self.outbox.said(),
            last_ack_event_id: self.outbox.last_acknowledged().cloned(),
            described: self.described.clone(),
            items,
            summary,
            turns: self.turns,
            link: self.upstream.number,
            resume: self.keys.resume(),
        }
    }

    /// Notes whether an input changes what is kept.
    pub(super) fn note_change(&mut self, input: &Input, now: Instant) {
        if self.upstream.recovers() && changes(input) {
            self.saving.change(now);
        }
    }

    /// A session to which nobody can come back is not kept, and so not due either.
    pub(super) fn save_timeout(&self) -> Option<Instant> {
        self.keys.can_return().then_some(self.saving.due)?
    }

    /// Has it kept, if it is time.
    pub(super) fn save(&mut self, now: Instant) {
        if let Phase::Closed = self.phase {
            return;
        }
        if self.saving.due.is_some_and(|due| due <= now) && self.keys.can_return() {
            self.saving = Saving {
                due: None,
                last: Some(now),
            };
            let snapshot = Box::new(self.snapshot());
            self.effects.push_back(Effect::Save(snapshot));
        }
    }
}

fn changes(input: &Input) -> bool {
    matches!(
        input,
        Input::Voice(
            FromVoice::Session(..)
                | FromVoice::SpeechStarted { .. }
                | FromVoice::ResponseCreated { .. }
                | FromVoice::ResponseDone { .. }
                | FromVoice::Item { .. }
                | FromVoice::ItemDeleted { .. }
                | FromVoice::ItemTruncated { .. }
                | FromVoice::Transcribed { .. }
        ) | Input::Client(FromClient::Truncate { .. } | FromClient::ClearOutput)
            | Input::Issuer(_)
    )
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;
    use crate::core::latency::Transport;

    use crate::core::ids::ItemId;
    use crate::core::item::{Body, Role, Words};
    use crate::core::port::{
        Device, FromIssuer, Stage, State, ToClient, ToDialer, ToVoice, VoiceSession,
    };
    use crate::core::session::{Playback, RecoveryConfig};

    #[test]
    fn only_a_session_that_can_be_come_back_to_is_kept_and_not_for_each_change() {
        let now = Instant::now();
        let mut session = Session::new(config(), now);
        tell(&mut session, up(), now);
        add(&mut session, "a", now);
        assert_eq!(saved(&mut session).len(), 0, "nobody could come back to it");
        assert!(session.poll_timeout() > Some(now), "nor is that waited for");

        give_token(&mut session, now);
        assert_eq!(saved(&mut session).len(), 1);
        for name in ["b", "c", "d"] {
            add(&mut session, name, now + PAUSE / 2);
        }
        assert_eq!(saved(&mut session).len(), 0, "it has just been kept");
        assert_eq!(session.poll_timeout(), Some(now + PAUSE));
        session.handle_timeout(now + PAUSE);
        let kept = saved(&mut session);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].items.len(), 4);
        session.handle_timeout(now + PAUSE * 3);
        assert_eq!(saved(&mut session).len(), 0, "nothing has changed");
    }

    #[test]
    fn a_session_that_is_begun_again_tells_its_next_link_what_was_said() {
        let now = Instant::now();
        let mut lost = Session::new(config(), now);
        tell(&mut lost, up(), now);
        give_token(&mut lost, now);
        for name in ["a", "b"] {
            add(&mut lost, name, now);
        }
        let begun = FromVoice::ResponseCreated {
            response: "resp".into(),
            conversation: Some("conv".into()),
            json: json(),
        };
        tell(&mut lost, begun, now);
        let snapshot = lost.snapshot();

        let mut session = Session::restore(config(), snapshot.clone(), now);
        let first: Vec<_> = effects(&mut session);
        assert!(first.contains(&Effect::Dialer(ToDialer::Open)), "{first:?}");
        assert_eq!(session.facts(now).state, Some(State::Recovering));
        session.handle(Input::Next(up()), now);
        let told = effects(&mut session);
        let names: Vec<_> = told.iter().flat_map(restored).collect();
        assert_eq!(names, ["a", "b"], "{told:?}");
        assert!(
            told.iter().any(|effect| matches!(effect, Effect::Voice(ToVoice::All(all)) if all.contains(&ToVoice::Respond))),
            "the answer is asked for again: {told:?}"
        );

        session.handle(Input::Attached(device()), now);
        let told = effects(&mut session);
        assert!(
            matches!(told.first(), Some(Effect::Client(ToClient::Created { next, .. })) if *next > Some(snapshot.events)),
            "{told:?}"
        );
        let again = session.snapshot();
        assert_eq!(again.items, snapshot.items);
        assert_eq!(again.link, snapshot.link + 1);
    }

    #[test]
    fn nobody_is_waited_for_longer_than_for_a_client_that_was_lost() {
        let now = Instant::now();
        let mut lost = Session::new(config(), now);
        tell(&mut lost, up(), now);
        give_token(&mut lost, now);
        let mut session = Session::restore(config(), lost.snapshot(), now);
        session.handle(Input::Next(up()), now);
        effects(&mut session);

        session.handle_timeout(now + config().resume_window);

        let last = effects(&mut session).pop();
        assert!(matches!(last, Some(Effect::Close(_))), "{last:?}");
    }

    fn config() -> SessionConfig {
        SessionConfig {
            recovery: Some(RecoveryConfig::default()),
            ..SessionConfig::new("sess".into(), Playback::Client)
        }
    }

    fn device() -> Device {
        Device {
            transport: Transport::WebRtc,
            lead: Duration::ZERO,
            ear_delay: Duration::ZERO,
            flushes: false,
            heard: None,
        }
    }

    fn tell(session: &mut Session, message: FromVoice, now: Instant) {
        session.handle(Input::Voice(message), now);
    }

    /// An item comes, and is complete.
    fn add(session: &mut Session, name: &str, now: Instant) {
        for stage in [Stage::Added, Stage::Done] {
            tell(session, item(name, stage), now);
        }
    }

    fn give_token(session: &mut Session, now: Instant) {
        session.handle(Input::Client(FromClient::Extended), now);
        session.handle(Input::Issuer(FromIssuer::Resume("rt_1".into())), now);
    }

    fn up() -> FromVoice {
        FromVoice::Session(VoiceSession::default(), json())
    }

    fn item(name: &str, stage: Stage) -> FromVoice {
        let body = Body::Message {
            role: Role::User,
            words: Words::written(name),
        };
        FromVoice::Item {
            item: Item {
                id: ItemId::from(name),
                body,
            },
            after: Some("last".into()),
            stage,
            json: json(),
        }
    }

    fn restored(effect: &Effect) -> Vec<String> {
        let Effect::Voice(ToVoice::All(messages)) = effect else {
            return vec![];
        };
        let restored = messages.iter().filter_map(|message| {
            if let ToVoice::Restore(restored) = message {
                Some(restored.item.id.to_string())
            } else {
                None
            }
        });
        restored.collect()
    }

    fn effects(session: &mut Session) -> Vec<Effect> {
        std::iter::from_fn(|| session.poll_effect()).collect()
    }

    fn saved(session: &mut Session) -> Vec<Snapshot> {
        let saved = effects(session).into_iter().filter_map(|effect| {
            if let Effect::Save(snapshot) = effect {
                Some(*snapshot)
            } else {
                None
            }
        });
        saved.collect()
    }

    fn json() -> Json {
        Json::from("{}")
    }
}
