//! What the session says, to whom, and whether it may.

use std::time::{Duration, Instant};

use voxline::core::ids::{ItemId, ResponseId};
use voxline::core::port::{Notice, Output, State, ToClient, ToVoice};
use voxline::core::session::Effect;

use crate::{FRAME, World};

impl World {
    pub(crate) fn check_effects(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            self.promise(!self.closed, "nothing is said after closing");
            if self.keeps {
                self.transcript.push(effect.clone());
            }
            match effect {
                Effect::Everyone(message) => {
                    self.check_everyone(&message);
                    self.check_client(message);
                }
                Effect::Sidebands(message) => {
                    self.check_sidebands(&message);
                    self.check_client(message);
                }
                Effect::Client(message) => self.check_confidence(message),
                Effect::Issuer(question) => self.answer(question),
                Effect::Count(tally) => self.check_count(tally),
                Effect::Voice(message) => self.check_voice(message),
                Effect::Next(_)
                | Effect::Switch
                | Effect::HangUp
                | Effect::Dialer(_)
                | Effect::Save(_)
                    if self.upstream.is_none() =>
                {
                    self.promise(false, "a session that ends with its link opens no other");
                }
                Effect::Save(_) => self.saw("save"),
                Effect::Next(message) => self.check_next(&message),
                Effect::Switch => self.check_switch(),
                Effect::HangUp => self.check_hang_up(),
                Effect::Dialer(question) => self.check_dialer(&question),
                Effect::Tool(call) => self.check_tool(call),
                Effect::Record(_) => self.saw("record"),
                Effect::Turn(trace) => self.check_turn(&trace),
                Effect::Close(reason) => {
                    self.closed = true;
                    self.saw("close");
                    self.check_close(reason);
                }
            }
        }
        self.check_taken_over();
        if let (Some(upstream), true) = (&mut self.upstream, self.link_up) {
            upstream.settle(self.now);
        }
    }

    /// The response that the provider works on.
    pub(crate) fn answering(&self) -> Option<ResponseId> {
        self.answer.as_ref().map(|answer| answer.response.clone())
    }

    fn check_client(&mut self, message: ToClient) {
        match message {
            ToClient::Event(json) => {
                self.saw("event");
                self.promise(json.as_str() != "harmless", "its own errors stay inside");
                self.check_shown(&json);
                if let Some(response) = json.as_str().strip_prefix("delta ") {
                    self.promise(
                        !self.silenced.contains(&response.into()),
                        "a cut answer says nothing more",
                    );
                }
            }
            ToClient::Output(Output::Started, response) => {
                self.saw("started");
                self.promise(
                    !self.flushed.contains(&response),
                    "a cut answer does not start",
                );
                let new = self.sounding.insert(response);
                self.promise(new, "an answer starts once");
            }
            ToClient::Output(output, response) => {
                self.saw(match output {
                    Output::Cleared => "cleared",
                    Output::Stopped | Output::Started => "stopped",
                });
                let was = self.sounding.remove(&response);
                self.promise(was, "what ends had started");
                self.silenced.insert(response.clone());
                self.flushed.insert(response);
            }
            ToClient::Notice(Notice::State(state)) => self.check_state(state),
            ToClient::Notice(Notice::Interrupted { .. }) => {
                self.saw("interrupted");
                if self.paused_since.take().is_some() {
                    self.saw("cut while paused");
                }
            }
            ToClient::Notice(Notice::Paused { response }) => {
                self.saw("paused");
                self.promise(self.sounding.contains(&response), "what is paused sounds");
                let before = self.paused_since.replace(self.now);
                self.promise(before.is_none(), "what is paused is not paused again");
            }
            ToClient::Notice(Notice::Resumed { .. }) => {
                self.saw("sounds on");
                let before = self.paused_since.take();
                self.promise(before.is_some(), "what sounds on was paused");
            }
            ToClient::Notice(Notice::Latency(_)) => self.saw("latency"),
            ToClient::Notice(Notice::Closing { .. }) => {
                self.saw("closing");
                self.closing = true;
            }
            ToClient::Notice(Notice::Degraded { .. }) => self.saw("degraded"),
            ToClient::Notice(Notice::Restored { .. }) => self.saw("restored"),
            ToClient::Failed(response) if self.upstream.is_some() => {
                self.saw("failed");
                self.check_ended(&response);
            }
            ToClient::Truncated { item, heard } if self.upstream.is_some() => {
                self.saw("truncated");
                self.cut(&item, heard);
            }
            ToClient::Fault(fault) => {
                self.saw("fault");
                if fault.code == "output_audio_buffer_full" {
                    // What was refused was never received.
                    self.items
                        .values_mut()
                        .for_each(|item| item.received = Duration::MAX);
                }
            }
            ToClient::Close(_) => {}
            ToClient::Notice(
                Notice::Session { .. }
                | Notice::Token(_)
                | Notice::TokenExpiring { .. }
                | Notice::Reconnect { .. }
                | Notice::Waiting,
            )
            | ToClient::Created { .. }
            | ToClient::Failed(_)
            | ToClient::Truncated { .. }
            | ToClient::Missed(_)
            | ToClient::Play { .. }
            | ToClient::Flush => {
                self.promise(false, "what is the client's own is not shown around")
            }
        }
    }

    pub(crate) fn check_play(&mut self, payload: &[u8], position: Duration, due: Instant) {
        let now = self.now - self.origin;
        self.promise(position >= self.played_to, "the timeline goes forward");
        self.promise(
            position <= now + self.config.lead,
            "little unheard sound is out",
        );
        self.promise(due <= self.now, "nothing is released before its time");
        self.promise(self.paused_since.is_none(), "what is paused is silent");
        self.played_to = position + FRAME;

        let label = u16::from_le_bytes([payload[0], payload[1]]);
        let labelled = self.labels.get(usize::from(label));
        let item = labelled.and_then(|item| self.items.get_mut(item));
        let Some(item) = item else {
            return self.promise(false, "only an answer is played");
        };
        item.played.push(position);
        item.last_played = now;
        let (response, received, played) = (item.response.clone(), item.received, item.played());
        self.promise(
            played < received.saturating_add(FRAME),
            "what is played was received",
        );
        self.promise(self.sounding.contains(&response), "what sounds has started");
    }

    /// Sound that was received does not wait while somebody is there to hear it.
    pub(crate) fn check_sound(&self) {
        let mut latest = self.labels.iter().rev().take(50);
        let waits = latest.any(|item| {
            let item = &self.items[item];
            !item.settled
                && !item.over
                && !self.flushed.contains(&item.response)
                && item.received != Duration::MAX
                && item.received >= item.played() + 2 * FRAME
        });
        let sounds = self.played_to > self.now - self.origin;
        let quiet = self.is_away() || self.closed || self.paused_since.is_some();
        self.promise(quiet || sounds || !waits, "what was received sounds");
    }

    fn check_state(&mut self, state: State) {
        self.saw("state");
        let legal = match (self.state, state) {
            (State::Idle, to) => to == State::Listening || to == State::Recovering,
            (State::Listening, to) => {
                matches!(
                    to,
                    State::Thinking | State::Speaking | State::Cancelling | State::Recovering
                )
            }
            (State::Thinking, to) => to != State::Idle,
            (State::Speaking, to) => to != State::Idle,
            (State::Cancelling, to) => {
                if to == State::Listening {
                    self.saw("cancelling -> listening");
                }
                to != State::Idle
            }
            (State::Recovering, to) => to != State::Idle,
        };
        self.promise(legal && self.state != state, "states follow the diagram");
        if (self.state, state) == (State::Thinking, State::Recovering) {
            self.saw("thinking -> recovering");
        }
        self.state = state;
    }

    fn check_voice(&mut self, message: ToVoice) {
        self.promise(self.link_up, "nothing is said to a dead link");
        if self.tell_link(&message) {
            return;
        }
        match message {
            ToVoice::Audio { .. } => self.saw("append"),
            ToVoice::Event(_) => self.saw("client event"),
            ToVoice::Cancel(response) => {
                self.saw("cancel");
                let aside = self
                    .upstream
                    .as_ref()
                    .is_some_and(|it| it.asides.contains(&response));
                self.promise(
                    self.open.contains(&response) || aside,
                    "only an open answer is cancelled",
                );
                let first = self.cancelled.insert(response.clone());
                self.promise(first, "no answer is cancelled twice");
                self.silenced.insert(response);
            }
            ToVoice::Truncate { item, heard, .. } => {
                self.saw("truncate");
                let known = self.settle(&item);
                self.promise(heard <= known.0.min(known.1), "heard <= played <= received");
                self.promise(heard.as_millis() > 0, "nothing is truncated to nothing");
                self.cut(&item, heard);
            }
            ToVoice::Delete(item) => {
                self.saw("delete");
                let (_, _, first) = self.settle(&item);
                let ear = self.ear();
                let reached = self.config.flushes || self.is_away();
                let unheard = match first {
                    Some(first) if reached => ear < first + Duration::from_millis(1),
                    first => first.is_none(),
                };
                self.promise(unheard, "what is heard is not deleted");
                self.cut(&item, Duration::ZERO);
            }
            ToVoice::All(messages) => {
                self.saw("rewritten");
                let [ToVoice::Delete(item), ToVoice::Restore(_)] = &messages[..] else {
                    return self.promise(false, "one item is told anew");
                };
                let (played, ..) = self.settle(item);
                self.cut_between(item, played);
            }
            ToVoice::ToolOutput { call, .. } => self.check_output(call),
            ToVoice::Respond => self.check_respond(),
            ToVoice::Probe => self.saw("probe"),
            ToVoice::ClearOutput | ToVoice::Restore(_) => {
                self.promise(false, "that is only said in other ways");
            }
        }
    }

    fn cut(&mut self, item: &ItemId, heard: Duration) {
        if let Some(upstream) = &mut self.upstream {
            upstream.record.cut(item, heard);
        }
    }

    fn cut_between(&mut self, item: &ItemId, most: Duration) {
        if let Some(upstream) = &mut self.upstream {
            upstream.record.cut_between(item, Duration::ZERO, most);
        }
    }

    fn settle(&mut self, id: &ItemId) -> (Duration, Duration, Option<Duration>) {
        let item = self.items.get_mut(id).expect("the item is known");
        let again = std::mem::replace(&mut item.settled, true);
        let facts = (item.played(), item.received, item.played.first().copied());
        self.promise(!again, "an item is settled once");

        facts
    }
}
