//! What the client says, and what becomes of its seat.

use std::time::Instant;

use bytes::Bytes;

use crate::core::audio::Frame;
use crate::core::port::{
    ClientEvent, CloseReason, Fault, FromClient, Json, Notice, ToClient, ToVoice,
};
use crate::core::session::seat::{Missed, Seat};
use crate::core::session::{Link, Loss, Phase, Playback, Session};
use crate::core::tally::Tally;

impl Session {
    /// What anyone who joins is told first: the session as it is.
    pub fn introduction(&self) -> Vec<ToClient> {
        let created = self.described.clone().map(ToClient::Created);
        let state = self.phase.state().map(Notice::State).map(ToClient::Notice);

        created.into_iter().chain(state).collect()
    }

    pub(super) fn handle_client(&mut self, message: FromClient, now: Instant) {
        match message {
            FromClient::Audio { payload, received } => self.on_microphone(payload, received),
            FromClient::Event(event, json) => {
                self.last_activity = now;
                self.on_client_event(event, now);
                self.pass_up(event, json);
            }
            FromClient::Truncate { item, heard, json } => {
                self.on_client_truncates(item, heard, json, now);
            }
            FromClient::ClearOutput => {
                self.last_activity = now;
                self.clear_output(now);
            }
            FromClient::Played(played) => self.speaker.report(played),
            FromClient::Network(network) => self.speaker.measure(network, now),
            FromClient::Speech(speech) => self.on_speech(speech, now),
            FromClient::Ready => {}
            FromClient::Extended => self.on_extended(now),
            FromClient::TokenAcknowledged(token) => self.on_acknowledged(&token, now),
            FromClient::TokenPresented(token) => self.on_presented(token),
            FromClient::Hangup if self.is_direct() => self.seat = Seat::Vacant,
            FromClient::Hangup => self.close(CloseReason::Hangup),
        }
    }

    /// Sound for the provider, and for the next one, should this one be lost before it has answered.
    fn on_microphone(&mut self, payload: Bytes, received: Instant) {
        let session = self.upstream.latest;
        if self.is_direct() || matches!(self.voice, Link::Opening | Link::Down) {
            return;
        }
        let frame = Frame {
            format: session.input,
            payload,
        };
        if self.upstream.recovers() {
            let detects = session.detects;
            self.upstream.uplink.hear(&frame, received, detects);
        }
        if let Link::Up(_) = self.voice {
            self.input.advance(frame.duration(), received);
            self.say(ToVoice::Audio { frame, received });
        }
    }

    /// An event for the provider, or for the next one.
    pub(super) fn pass_up(&mut self, event: ClientEvent, json: Json) {
        let linked = !matches!(self.voice, Link::Lost(_));
        if self.upstream.recovers() {
            let kept = self.upstream.uplink.say(event, &json, linked);
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
        match loss {
            Loss::Gone | Loss::Overrun if self.is_direct() => self.seat = Seat::Vacant,
            Loss::Gone if self.keys.can_return() => {
                self.speaker.pause(now);
                self.seat = Seat::Parked {
                    until: now + self.config.resume_window,
                    missed: Missed::new(self.config.playback),
                };
                self.let_go(now);
                self.count(Tally::Parked);
            }
            Loss::Gone => self.close(CloseReason::Hangup),
            Loss::Overrun => self.close(CloseReason::Overrun),
        }
    }

    pub(super) fn on_attached(&mut self, now: Instant) {
        self.last_activity = now;
        let before = std::mem::replace(&mut self.seat, Seat::Taken { extended: false });
        for message in self.introduction() {
            self.tell(message);
        }
        if let Seat::Parked { missed, .. } = before {
            let missed = missed.into_messages();
            if !missed.is_empty() {
                self.tell(ToClient::Missed(missed));
            }
            self.count(Tally::Resumed);
        } else {
            self.speaker.pause(now);
        }
        self.speaker.resume(now);
        self.let_go(now);
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
