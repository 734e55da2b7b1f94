//! What a test does to a session while it runs, and what it may know of it.

use std::time::Instant;

use crate::clock;
use crate::sim::faults::{Act, Faults, GARBAGE};
use crate::sim::protocol::session::Purpose;
use crate::sim::report::{End, Ended, ItemReport, MAX_ITEMS, SessionReport};
use crate::sim::session::response::Outcome;
use crate::sim::session::{Output, Session};
use crate::sim::speech::duration;

impl Session {
    /// Goes wrong like this from now on.
    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Goes wrong once.
    pub(crate) fn act(&mut self, act: Act, now: Instant) {
        if self.closed {
            return;
        }
        match act {
            Act::Reset => self.break_off(Output::Reset),
            Act::HangUp => self.break_off(Output::HangUp),
            Act::Close { code, reason } => self.close(code, reason),
            Act::Expire => self.expire(),
            Act::Mute => self.muted = true,
            Act::Stall => {
                for response in &mut self.responses {
                    response.stalled = true;
                }
            }
            Act::Fail => {
                while !self.responses.is_empty() {
                    self.finish(0, Outcome::Failed, now);
                }
            }
            Act::Garbage => {
                for kind in 0..=GARBAGE.len() {
                    self.spoil(kind as u64);
                }
            }
        }
    }

    pub(crate) fn break_off(&mut self, how: Output) {
        self.closed = true;
        self.outbox.push_back(how);
    }

    /// Says something that is no event; another kind for each count.
    pub(crate) fn spoil(&mut self, count: u64) {
        let kind = count as usize % (GARBAGE.len() + 1);
        self.outbox.push_back(match GARBAGE.get(kind) {
            Some(text) => Output::Garbage(text),
            None => Output::BinaryGarbage,
        });
    }

    /// Returns what is known of the session.
    pub(crate) fn report(&self, end: Option<End>, now: Instant) -> SessionReport {
        let millis = |at: Instant| clock::since_1970(self.wall(at)).as_millis() as u64;
        let items = self.conversation.items();
        let left_out = items.len().saturating_sub(MAX_ITEMS);
        let written = |id: &str| {
            let mut running = self.responses.iter();
            running.find_map(|response| response.item_so_far(id))
        };
        let shown = items[left_out..]
            .iter()
            .map(|item| match written(&item.id) {
                Some(item) => ItemReport::of(&item),
                None => ItemReport::of(item),
            });
        SessionReport {
            id: self.id.clone(),
            model: match &self.purpose {
                Purpose::Conversation { model } => Some(model.clone()),
                Purpose::Transcription => None,
            },
            began_at_ms: millis(self.started),
            ended: end.map(|how| Ended {
                at_ms: millis(now),
                how,
                close: self.tally.closed_with.clone(),
            }),
            items: shown.collect(),
            items_left_out: left_out,
            input_audio_ms: duration(self.input.position()).as_millis() as u64,
            responses_created: self.tally.responses_created,
            responses_cancelled: self.tally.responses_cancelled,
            truncates: self.tally.truncates,
        }
    }
}
