//! What an input means for what the links must know, before the session hears of it.

use std::time::Duration;

use voxline::core::ids::ItemId;
use voxline::core::item::{Body, Item, Role};
use voxline::core::port::{ClientEvent, FromClient, FromVoice, ResponseOutcome, Stage};
use voxline::core::session::{Input, Neighbor};

use crate::record::Sound;
use crate::upstream::Upstream;
use crate::{World, link};

impl World {
    /// Notes what an input means, before the session hears of it.
    pub(crate) fn foresee_upstream(&mut self, input: &Input) {
        if self.closed || self.upstream.is_none() {
            return;
        }
        match input {
            Input::Voice(message) => self.foresee_voice(message),
            Input::Lost(Neighbor::Voice, _) => self.foresee_loss(),
            Input::Client(FromClient::Audio { payload, .. }) => {
                let linked = self.link_up;
                let upstream = self.upstream.as_mut().expect("there is a provider");
                let first = link::serials(payload).next();
                // The client was away for a part of it.
                if self.ever_up && first == Some(upstream.said) {
                    upstream.said += link::serials(payload).count() as u32;
                    upstream.keep(linked);
                }
            }
            Input::Client(FromClient::ClearOutput) if !self.link_up => self.cut_unseen(),
            Input::Client(FromClient::Event(event, json)) => {
                let linked = self.link_up;
                let upstream = self.upstream.as_mut().expect("there is a provider");
                upstream.said_by_client(*event, json, linked, self.now);
            }
            _ => {}
        }
    }

    fn foresee_loss(&mut self) {
        self.link_up = false;
        let upstream = self.upstream.as_mut().expect("there is a provider");
        upstream.link = None;
    }

    fn foresee_voice(&mut self, message: &FromVoice) {
        let interrupts = self.upstream.as_ref().is_some_and(Upstream::interrupts);
        let upstream = self.upstream.as_mut().expect("there is a provider");
        match message {
            FromVoice::Session(..) if !self.ever_up => {
                self.ever_up = true;
                self.link_up = true;
            }
            FromVoice::Session(..) => {
                upstream.answered(ClientEvent::UpdateSession);
            }
            FromVoice::SpeechStarted { at, .. } => {
                let link = upstream.link.as_ref().expect("somebody says so");
                let at = link.sound[at.as_millis() as usize];
                upstream.turn = true;
                upstream.floor = upstream.floor.max(at);
                upstream.need = upstream.need.max(at);
                upstream.forgive();
                if interrupts {
                    self.silenced.extend(self.open.iter().cloned());
                    self.flushed.extend(self.open.iter().cloned());
                }
            }
            FromVoice::Committed { item, .. } => {
                let link = upstream.link.as_ref().expect("somebody says so");
                let mut end = link.commits.get(item).copied().unwrap_or_default();
                if !upstream.session.detects {
                    // One that comes too late is taken for the answer to the next, or to all.
                    let answered = upstream.answered(ClientEvent::CommitAudio);
                    end = answered.map_or(upstream.said, |(_, at)| at);
                }
                upstream.turn = false;
                let (floor, need) = (upstream.floor, upstream.need);
                upstream.record.ask(item, Sound { floor, need, end });
                upstream.floor = end;
                upstream.need = need.max(end);
            }
            FromVoice::Cleared { .. } => {
                let answered = upstream.answered(ClientEvent::ClearAudio);
                let at = answered.map_or(upstream.said, |(_, at)| at);
                upstream.floor = upstream.floor.max(at);
                upstream.need = upstream.need.max(at);
            }
            FromVoice::ResponseCreated {
                response,
                conversation,
                ..
            } => {
                if conversation.is_some() {
                    self.open.insert(response.clone());
                    if let Some((request, _)) = upstream.answered(ClientEvent::CreateResponse) {
                        upstream.request = Some(request);
                        upstream.asked_again = false;
                    }
                    upstream.owed = false;
                } else {
                    upstream.asides.insert(response.clone());
                }
            }
            FromVoice::Audio {
                response,
                item,
                payload,
                ..
            } => {
                let label = u16::from_le_bytes([payload[0], payload[1]]);
                let length = Duration::from_millis(payload.len() as u64 / 48);
                if self.receive(response, item, label, length) {
                    let upstream = self.upstream.as_mut().expect("there is a provider");
                    upstream.record.sound(item, length);
                }
            }
            FromVoice::Delta { response, said, .. } => {
                if let Some(said) = said
                    && !self.silenced.contains(response)
                {
                    upstream.record.say(said);
                }
            }
            FromVoice::ResponseDone {
                response, outcome, ..
            } => {
                self.open.remove(response);
                let aside = upstream.asides.remove(response);
                if !aside && *outcome != ResponseOutcome::Failed {
                    upstream.record.answered();
                }
            }
            FromVoice::Item {
                item, after, stage, ..
            } => {
                let link = upstream.link.as_ref().expect("somebody says so");
                if !link.told_of.contains(&item.id) {
                    upstream.note(item, after.as_ref(), *stage);
                }
            }
            FromVoice::ItemDeleted { item, .. } => {
                let link = upstream.link.as_ref().expect("somebody says so");
                let rewritten = link.items.iter().any(|known| known.item.id == *item);
                if !rewritten {
                    upstream.record.remove(item);
                }
            }
            FromVoice::ItemTruncated { item, heard, .. } => upstream.record.cut(item, *heard),
            FromVoice::Transcribed { item, text, .. } => {
                upstream.record.transcribe(item, &text.0);
            }
            FromVoice::Error { refuses, .. } => {
                if let Some(event) = refuses {
                    upstream.answered(*event);
                }
            }
            FromVoice::Down(_) => self.foresee_loss(),
            FromVoice::SpeechStopped { .. }
            | FromVoice::AudioDone { .. }
            | FromVoice::Output(..)
            | FromVoice::OutputItem { .. }
            | FromVoice::Event(_) => {}
        }
    }

    /// What is cut while there is no link is known by nobody but the session.
    pub(crate) fn cut_unseen(&mut self) {
        let Some(upstream) = &mut self.upstream else {
            return;
        };
        for (item, heard) in &self.items {
            if !self.flushed.contains(&heard.response) {
                upstream.record.cut_unseen(item, heard.received);
            }
        }
        let all = self.items.values().map(|heard| heard.response.clone());
        self.flushed.extend(all);
    }
}

impl Upstream {
    pub(crate) fn note(&mut self, item: &Item, after: Option<&ItemId>, stage: Stage) {
        if stage == Stage::Added {
            let by_client = matches!(
                item.body,
                Body::Output { .. }
                    | Body::Message {
                        role: Role::User,
                        ..
                    }
            );
            if by_client && !item.id.as_str().starts_with('u') {
                self.answered(ClientEvent::CreateItem);
            }
        }
        if stage == Stage::Done {
            match &item.body {
                Body::Message {
                    role: Role::Assistant,
                    words,
                } if words.sound.is_some() => {
                    self.whole.push(item.id.clone());
                }
                Body::Call { call, .. } => self.calls.push(call.to_string()),
                _ => {}
            }
        }
        self.record.note(item, after, stage);
    }
}
