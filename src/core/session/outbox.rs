//! What the client was told and may not have, be it that it is away.
//!
//! The session's events for its client are counted from 1: all but notices, which have a channel of
//! their own over WebRTC. A client that acknowledges them has those kept that it has not
//! acknowledged. When it attaches anew it is told the number of the first that follows, so that it
//! can pass over what it has: none is lost, and none comes twice.
//!
//! **Invariants**
//! - At most [`EVENTS`] messages and as many bytes as [`limit`] says are kept. At the bound the
//!   oldest are given up; a client that comes back without having them is told so, in their place.
//! - Of a client that acknowledges nothing only what it missed while it was away is kept.

use std::collections::VecDeque;

use crate::core::ids::EventId;
use crate::core::port::{Fault, Notice, ToClient};
use crate::core::session::Playback;

/// How many messages are kept.
const EVENTS: usize = 2048;

/// What is kept for a client that may begin to acknowledge.
const FEW: usize = 64;
const FEW_BYTES: usize = 64 << 10;

/// More events than a session says between two of its snapshots.
const UNCOUNTED: u64 = 1 << 20;

/// What a message without a text counts for.
const SMALL: usize = 256;

#[derive(Debug)]
pub(super) struct Outbox {
    /// The number of the latest event.
    said: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
    limit: usize,
    /// The number of the latest event that is not kept any more without an acknowledgement.
    given_up: u64,
    /// What the client has, as far as it has said so; if it never says so, what it had been sent
    /// when it was lost.
    had: u64,
    /// The number of the last event before those of the connection that is there, ...
    before: u64,
    /// ... and how many events more came first on it.
    introduction: u64,
    away: bool,
    acknowledges: bool,
    last: Option<EventId>,
}

#[derive(Debug)]
struct Kept {
    message: ToClient,
    bytes: usize,
    /// Notices have none.
    number: Option<u64>,
}

impl Outbox {
    pub(super) fn new(playback: Playback) -> Self {
        Self {
            said: 0,
            kept: VecDeque::new(),
            bytes: 0,
            limit: limit(playback),
            given_up: 0,
            had: 0,
            before: 0,
            introduction: 0,
            away: false,
            acknowledges: false,
            last: None,
        }
    }

    /// How many events there were.
    pub(super) fn said(&self) -> u64 {
        self.said
    }

    /// Goes on after so many events in a life before, and those that nobody has counted since: what
    /// follows must not be taken for what the client has.
    pub(super) fn go_on(&mut self, said: u64, last: Option<EventId>) {
        self.said = said.saturating_add(UNCOUNTED);
        self.had = self.said;
        self.given_up = self.said;
        self.last = last;
        self.away = true;
    }

    /// How many messages wait for the client, or for its acknowledgement.
    pub(super) fn waiting(&self) -> usize {
        self.kept.len()
    }

    /// How many events more there were than are kept.
    pub(super) fn lost(&self) -> u64 {
        self.given_up.saturating_sub(self.had)
    }

    /// The client is told this, or misses it.
    pub(super) fn push(&mut self, message: &ToClient) {
        if is_event(message) {
            self.said += 1;
            self.keep(message, Some(self.said));
        } else if let ToClient::Notice(notice) = message
            && self.away
            // Whoever comes back is told where the conversation stands then.
            && !matches!(notice, Notice::State(_))
        {
            self.keep(message, None);
        }
    }

    /// The client has received so many events on its connection, this one last.
    pub(super) fn acknowledge(&mut self, received: u64, last: EventId) {
        let own = received.saturating_sub(self.introduction);
        let number = self.before.saturating_add(own);
        let is_old = self.acknowledges && number < self.had;
        if self.away || number > self.said || is_old {
            return;
        }
        self.acknowledges = true;
        self.had = number;
        self.last = Some(last);
        while let Some(kept) = self.kept.front()
            && kept.number <= Some(number)
        {
            self.drop_oldest();
        }
    }

    /// Returns the event that the client has acknowledged last.
    pub(super) fn last_acknowledged(&self) -> Option<&EventId> {
        self.last.as_ref()
    }

    /// The connection is gone.
    pub(super) fn part(&mut self) {
        if !self.away && !self.acknowledges {
            self.take_for_granted();
        }
        self.away = true;
    }

    /// Another connection is there, and is told the session as it is by so many events. Returns
    /// what is to be told next, in order, and the number of the first event of that, or after it.
    pub(super) fn attach(&mut self, introduction: usize) -> (u64, Vec<ToClient>) {
        self.part();
        let lost = self.lost();
        let fault = (lost > 0).then(|| ToClient::Fault(events_lost(lost)));
        let kept = self.kept.iter().map(|kept| kept.message.clone());
        let messages: Vec<_> = fault.into_iter().chain(kept).collect();
        let events = messages.iter().filter(|message| is_event(message)).count() as u64;
        self.before = self.said - events;
        self.introduction = introduction as u64;
        self.away = false;
        self.kept.retain(|kept| kept.number.is_some());
        self.bytes = self.kept.iter().map(|kept| kept.bytes).sum();
        if !self.acknowledges {
            self.had = self.said;
            self.trim();
        }

        (self.before + 1, messages)
    }

    /// What was sent counts as received.
    fn take_for_granted(&mut self) {
        self.kept.clear();
        self.bytes = 0;
        self.had = self.said;
    }

    fn keep(&mut self, message: &ToClient, number: Option<u64>) {
        let bytes = if let ToClient::Event(json) = message {
            json.as_str().len()
        } else {
            SMALL
        };
        self.bytes += bytes;
        self.kept.push_back(Kept {
            message: message.clone(),
            bytes,
            number,
        });
        self.trim();
    }

    fn trim(&mut self) {
        let (events, limit) = match self.acknowledges || self.away {
            true => (EVENTS, self.limit),
            false => (FEW, FEW_BYTES),
        };
        while self.kept.len() > events || self.bytes > limit {
            self.given_up = self.drop_oldest().unwrap_or(self.given_up);
        }
    }

    fn drop_oldest(&mut self) -> Option<u64> {
        let kept = self.kept.pop_front()?;
        self.bytes -= kept.bytes;

        kept.number
    }
}

/// What counts as an event.
fn is_event(message: &ToClient) -> bool {
    match message {
        ToClient::Event(_)
        | ToClient::Output(..)
        | ToClient::Failed(_)
        | ToClient::Truncated { .. }
        | ToClient::Fault(_) => true,
        ToClient::Created { .. }
        | ToClient::Missed(_)
        | ToClient::Play { .. }
        | ToClient::Flush
        | ToClient::Notice(_)
        | ToClient::Close(_) => false,
    }
}

/// How many bytes of events are kept. A client whose sound the relay plays gets none in its events,
/// and its data channel takes no more than this at once; for others this is half a minute of sound.
fn limit(playback: Playback) -> usize {
    match playback {
        Playback::Relay(_) | Playback::Provider => 512 << 10,
        Playback::Client => 2 << 20,
    }
}

fn events_lost(count: u64) -> Fault {
    let message = format!(
        "While the client was away {count} events more were sent than are kept for it. Retrieve \
         the items of the conversation that are missing."
    );

    Fault::server("events_lost", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::port::Json;

    #[test]
    fn what_is_not_acknowledged_comes_again_and_nothing_else() {
        let mut outbox = acknowledging();
        say(&mut outbox, 1..=5);
        outbox.acknowledge(3, "e3".into());
        outbox.part();
        say(&mut outbox, 6..=7);

        assert_eq!(outbox.attach(1), (4, events(4..=7)));
        assert_eq!(outbox.last_acknowledged(), Some(&"e3".into()));
    }

    #[test]
    fn an_acknowledgement_counts_what_came_on_its_own_connection() {
        let mut outbox = acknowledging();
        say(&mut outbox, 1..=5);
        outbox.acknowledge(2, "e2".into());
        outbox.attach(1);
        // `session.created`, and events 3 and 4.
        outbox.acknowledge(3, "e4".into());

        assert_eq!(outbox.attach(1), (5, events(5..=5)));
    }

    #[test]
    fn a_connection_that_breaks_before_it_acknowledges_costs_nothing() {
        let mut outbox = acknowledging();
        say(&mut outbox, 1..=3);
        for _ in 0..3 {
            assert_eq!(outbox.attach(1), (1, events(1..=3)));
            outbox.part();
        }
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_said_is_none() {
        let mut outbox = acknowledging();
        say(&mut outbox, 1..=3);
        outbox.acknowledge(4, "e4".into());
        outbox.acknowledge(u64::MAX, "e".into());
        outbox.acknowledge(2, "e2".into());
        outbox.acknowledge(1, "e1".into());

        assert_eq!(outbox.attach(1), (3, events(3..=3)));
    }

    #[test]
    fn who_acknowledges_nothing_is_told_what_it_missed_once() {
        let mut outbox = Outbox::new(Playback::Client);
        say(&mut outbox, 1..=3);
        outbox.part();
        say(&mut outbox, 4..=5);

        assert_eq!(outbox.attach(1), (4, events(4..=5)));
        assert_eq!(outbox.attach(1), (6, vec![]));
    }

    #[test]
    fn what_came_before_the_first_acknowledgement_is_kept_as_well() {
        let mut outbox = Outbox::new(Playback::Client);
        say(&mut outbox, 1..=40);
        outbox.acknowledge(10, "e10".into());

        assert_eq!(outbox.attach(1), (11, events(11..=40)));
    }

    #[test]
    fn a_first_acknowledgement_takes_back_what_was_taken_for_granted() {
        let mut outbox = Outbox::new(Playback::Client);
        say(&mut outbox, 1..=3);
        outbox.part();
        say(&mut outbox, 4..=6);
        outbox.attach(1);
        // `session.created` and event 4 have come; the rest is on its way.
        outbox.acknowledge(2, "e4".into());

        assert_eq!(outbox.attach(1), (5, events(5..=6)));
    }

    #[test]
    fn at_the_bound_the_oldest_is_given_up_and_who_lacks_it_is_told_so_in_its_place() {
        let mut outbox = acknowledging();
        let count = EVENTS as u64 + 10;
        say(&mut outbox, 1..=count);

        let (next, told) = outbox.attach(1);

        assert_eq!((next, told.len()), (10, EVENTS + 1));
        assert!(matches!(&told[0], ToClient::Fault(fault) if fault.code == "events_lost"));
        assert_eq!(told[1..], events(11..=count));
        // The client had them all but had not yet said so: it passes over the first eleven.
        outbox.acknowledge(EVENTS as u64 + 2, "e".into());
        assert_eq!(outbox.attach(1), (count + 1, vec![]));
    }

    #[test]
    fn little_is_kept_for_who_has_never_acknowledged() {
        let mut outbox = Outbox::new(Playback::Client);
        say(&mut outbox, 1..=1_000);
        assert_eq!(outbox.kept.len(), FEW);
        outbox.push(&ToClient::Event("x".repeat(FEW_BYTES + 1).into()));
        assert_eq!((outbox.kept.len(), outbox.bytes), (0, 0));
    }

    #[test]
    fn notices_are_kept_only_while_the_client_is_away_and_told_once() {
        let notice = ToClient::Notice(Notice::Waiting);
        let mut outbox = acknowledging();
        outbox.push(&notice);
        outbox.part();
        outbox.push(&notice);
        say(&mut outbox, 1..=1);

        let [event] = &events(1..=1)[..] else {
            panic!("it is one");
        };
        assert_eq!(outbox.attach(1), (1, vec![notice, event.clone()]));
        assert_eq!(outbox.attach(1), (1, vec![event.clone()]));
    }

    fn acknowledging() -> Outbox {
        let mut outbox = Outbox::new(Playback::Client);
        outbox.acknowledge(0, "e0".into());
        outbox
    }

    fn say(outbox: &mut Outbox, numbers: std::ops::RangeInclusive<u64>) {
        for event in events(numbers) {
            outbox.push(&event);
        }
    }

    fn events(numbers: std::ops::RangeInclusive<u64>) -> Vec<ToClient> {
        numbers
            .map(|number| ToClient::Event(Json::from(format!("event {number}"))))
            .collect()
    }
}
