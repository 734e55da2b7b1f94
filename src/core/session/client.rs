//! What the client says, and what becomes of its seat.

use std::time::Instant;

use bytes::Bytes;

use crate::core::audio::Frame;
use crate::core::ids::EventId;
use crate::core::latency::Measure;
use crate::core::port::{
    ClientEvent, CloseReason, Device, Fault, FromClient, Json, Notice, Source, ToClient, ToVoice,
};
use crate::core::session::reach::Reach;
use crate::core::session::recovery::{Cause, Plan, plan};
use crate::core::session::seat::Seat;
use crate::core::session::{Effect, Link, Loss, Phase, Playback, Session};
use crate::core::tally::Tally;

impl Session {
    /// What anyone who joins is told first: the session as it is.
    pub fn introduction(&self) -> Vec<ToClient> {
        self.introduce(None)
    }

    /// The event that the client has acknowledged last.
    pub fn last_ack_event_id(&self) -> Option<&EventId> {
        self.outbox.last_acknowledged()
    }

    fn introduce(&self, next: Option<u64>) -> Vec<ToClient> {
        let created = self.described.clone();
        let created = created.map(|session| ToClient::Created { session, next });
        let state = self.phase.state().map(Notice::State).map(ToClient::Notice);

        created.into_iter().chain(state).collect()
    }

    pub(super) fn handle_client(&mut self, message: FromClient, now: Instant) {
        self.reach.hear(now);
        match message {
            FromClient::Audio { payload, received } => self.on_microphone(payload, received),
            FromClient::Event(event, json) => {
                self.last_activity = now;
                self.on_client_event(event, now);
                if !self.waits_for_tools(event, &json) {
                    self.pass_up(event, json, now);
                }
            }
            FromClient::Truncate { item, heard, json } => {
                self.on_client_truncates(item, heard, json, now);
            }
            FromClient::ClearOutput => {
                self.last_activity = now;
                self.clear_output(now);
            }
            FromClient::Played(played) => self.on_played(played, now),
            FromClient::Ways(ways) => self.trace.measure(ways),
            FromClient::Stats(stats) => self.on_stats(stats),
            FromClient::Sent { position, at } => self.trace.sent(position, at, now),
            FromClient::Network(network) => self.speaker.measure(network, now),
            FromClient::Speech(speech) => self.on_speech(speech, now),
            FromClient::Ready => {}
            FromClient::Acknowledged { received, last } => self.outbox.acknowledge(received, last),
            FromClient::Heard(position) => {
                if self.reach.come_back(now) {
                    // What was on its way is void.
                    self.tell(ToClient::Flush);
                    self.speaker.rewind(position, now);
                }
            }
            FromClient::Away => {
                let until = self.reach.until(now);
                self.reach.leave();
                self.speaker.pause(until);
            }
            FromClient::Alive { every } => self.reach.promise(every),
            FromClient::Rejected(fault) => self.reply(fault),
            FromClient::Extended => self.on_extended(now),
            FromClient::TokenAcknowledged(token) => self.on_acknowledged(&token, now),
            FromClient::TokenPresented(token) => self.on_presented(token),
            FromClient::Hangup if self.is_direct() => self.seat = Seat::Vacant,
            FromClient::Hangup => self.close(CloseReason::Hangup),
        }
    }

    /// Sound for the provider, and for the next one, should this one be lost before it has answered.
    fn on_microphone(&mut self, payload: Bytes, received: Instant) {
        self.sounds += 1;
        let session = self.upstream.latest;
        if self.is_direct() || matches!(self.voice, Link::Opening | Link::Down) {
            return;
        }
        let frame = Frame {
            format: session.input,
            payload,
        };
        if self.upstream.recovers() {
            // While there is no link, nobody tells speech from silence.
            let detects = session.detects && matches!(self.voice, Link::Up(_));
            self.upstream.uplink.hear(&frame, received, detects);
        }
        if let Link::Up(_) = self.voice {
            self.input.advance(frame.duration(), received);
            self.loudness.hear(&frame);
            self.say(ToVoice::Audio { frame, received });
        }
    }

    /// An event for the provider, or for the next one.
    pub(super) fn pass_up(&mut self, event: ClientEvent, json: Json, now: Instant) {
        let linked = !matches!(self.voice, Link::Lost(_));
        if self.upstream.recovers() {
            let kept = self.upstream.uplink.say(event, &json, linked, now);
            if kept.is_err() && !linked {
                return self.show(ToClient::Fault(not_taken()));
            }
        }
        self.say(ToVoice::Event(json));
    }

    fn on_client_event(&mut self, event: ClientEvent, now: Instant) {
        match event {
            ClientEvent::CreateResponse => {
                self.upstream.forgive();
                self.on_requested(now);
                if let Phase::Listening = self.phase {
                    self.enter(Phase::Thinking {
                        until: now + self.config.thinking_timeout,
                        requested: true,
                    });
                }
            }
            ClientEvent::UpdateSession
            | ClientEvent::CommitAudio
            | ClientEvent::ClearAudio
            | ClientEvent::CreateItem
            | ClientEvent::Other => {}
        }
    }

    /// The client's connection is gone. One that can come back is waited for.
    pub(super) fn on_client_lost(&mut self, loss: Loss, now: Instant) {
        let Seat::Taken { .. } = self.seat else {
            return;
        };
        let (cause, reason) = match loss {
            Loss::Gone => (Cause::ClientLost, CloseReason::Hangup),
            Loss::Overrun => (Cause::ClientOverrun, CloseReason::Overrun),
        };
        match plan(cause) {
            _ if self.is_direct() => self.seat = Seat::Vacant,
            Plan::Transport { .. } if self.keys.can_return() => {
                self.speaker.pause(self.reach.until(now));
                self.outbox.part();
                self.seat = Seat::Parked {
                    until: now + self.config.resume_window,
                };
                self.let_go(now);
                self.count(Tally::Parked);
            }
            Plan::Transport { .. } | Plan::Session { .. } | Plan::GoOn | Plan::End => {
                self.close(reason);
            }
        }
    }

    pub(super) fn on_attached(&mut self, device: Device, now: Instant) {
        self.last_activity = now;
        let before = std::mem::replace(&mut self.seat, Seat::Taken { extended: false });
        let (next, owed) = self.outbox.attach(self.described.iter().count());
        let returns = !matches!(before, Seat::Vacant);
        for message in self.introduce(returns.then_some(next)) {
            self.tell(message);
        }
        if !owed.is_empty() {
            self.tell(ToClient::Missed(owed));
        }
        if let Seat::Parked { until } = before {
            self.count(Tally::Resumed);
            let away = self
                .config
                .resume_window
                .saturating_sub(until.saturating_duration_since(now));
            self.record(Measure::Return, away, Source::Reported);
        } else {
            self.speaker.pause(now);
        }
        self.reach = Reach::new(now);
        self.trace.attach(device.transport);
        self.speaker.resume(device, now);
        self.let_go(now);
    }

    /// Has sound wait for a client that breaks its promise to be heard of.
    pub(super) fn watch_reach(&mut self, now: Instant) {
        if self.reach_timeout().is_some() && self.reach.is_lost(now) {
            self.speaker.pause(self.reach.until(now));
            self.tell(ToClient::Flush);
            self.tell(ToClient::Notice(Notice::Waiting));
        }
    }

    pub(super) fn reach_timeout(&self) -> Option<Instant> {
        match (&self.seat, self.config.playback) {
            (Seat::Taken { .. }, Playback::Relay(_)) => self.reach.poll_timeout(),
            (Seat::Taken { .. }, Playback::Client | Playback::Provider)
            | (Seat::Vacant | Seat::Parked { .. }, _) => None,
        }
    }

    /// Answers the client alone, by an event among those that all get.
    pub(super) fn reply(&mut self, fault: Fault) {
        if let Seat::Taken { .. } = self.seat {
            let message = ToClient::Fault(fault);
            self.outbox.push(&message);
            self.effects.push_back(Effect::Client(message));
        }
    }

    pub(super) fn is_direct(&self) -> bool {
        matches!(self.config.playback, Playback::Provider)
    }
}

fn not_taken() -> Fault {
    Fault::server(
        "provider_gone",
        "The voice provider is being reconnected, and enough events wait for it. Send this one again \
         after `voxline.restored`, or in a moment.",
    )
}
