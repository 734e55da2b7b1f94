//! The items of the conversation, as the provider tells of them.
//!
//! **Invariant:** what a link says about items that it was only told of is no news, and not passed
//! on.

use std::time::{Duration, Instant};

use crate::core::ids::ItemId;
use crate::core::item::{Body, Item, Role};
use crate::core::port::{ClientEvent, Json, Stage, ToClient};
use crate::core::session::{Link, Session};

impl Session {
    pub(super) fn on_item(&mut self, item: Item, after: Option<&ItemId>, stage: Stage, json: Json) {
        if self.upstream.told.knows(&item.id) {
            return;
        }
        let own = self.is_own_output(&item);
        let number = self.upstream.number;
        let committed = self.committed.take_if(|id| *id == item.id).is_some();
        if stage == Stage::Added && !committed && !own && self.is_from_client(&item) {
            self.upstream.uplink.answered(ClientEvent::CreateItem);
        }
        self.upstream.history.note(item, after, stage, number);
        self.pass_on(json);
    }

    /// An item that no response writes was made by the client.
    fn is_from_client(&self, item: &Item) -> bool {
        match &item.body {
            Body::Message {
                role: Role::User | Role::System,
                ..
            }
            | Body::Output { .. } => true,
            Body::Message {
                role: Role::Assistant,
                ..
            }
            | Body::Call { .. }
            | Body::Other(_) => [&self.open, &self.aside, &self.cut, &self.unconfirmed]
                .iter()
                .all(|responses| responses.is_empty()),
        }
    }

    pub(super) fn on_item_deleted(&mut self, item: &ItemId, json: Json) {
        if self.upstream.told.is_stale(item) {
            return;
        }
        self.upstream.told.forget(item);
        self.upstream.history.remove(item);
        self.pass_on(json);
    }

    pub(super) fn on_item_truncated(&mut self, item: &ItemId, heard: Duration, json: Json) {
        self.upstream.history.cut(item, heard);
        self.pass_on(json);
    }

    pub(super) fn on_committed(&mut self, item: ItemId, json: Json) {
        let until = self.upstream.stopped_at.take();
        let sound = self.upstream.uplink.commit(until);
        self.committed = Some(item.clone());
        self.upstream.history.ask(item, sound);
        self.pass_on(json);
    }

    /// The client, which plays by itself, tells how much was heard.
    pub(super) fn on_client_truncates(
        &mut self,
        item: ItemId,
        heard: Duration,
        json: Json,
        now: Instant,
    ) {
        self.last_activity = now;
        let native = self.upstream.history.is_native(&item, self.upstream.number);
        if let (Link::Up(_), true) = (self.voice, native) {
            return self.pass_up(ClientEvent::Other, json, now);
        }
        self.cut_item(item.clone(), 0, heard);
        self.show(ToClient::Truncated { item, heard });
    }
}
