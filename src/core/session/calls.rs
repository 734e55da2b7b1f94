//! Calls of the relay's own tools in the course of a conversation.

use std::time::Instant;

use crate::core::ids::ResponseId;
use crate::core::item::{Body, Item};
use crate::core::port::{ClientEvent, FromTools, Json, ToTools, ToVoice};
use crate::core::session::tools::{Called, Next};
use crate::core::session::upstream::{Link, Owed};
use crate::core::session::{Effect, Phase, Session};

impl Session {
    /// An item of a response, of which only a call that is complete is of interest.
    pub(super) fn on_output_item(
        &mut self,
        response: ResponseId,
        item: Item,
        whole: bool,
        json: Json,
        now: Instant,
    ) {
        self.pass_on(json);
        let Body::Call {
            call,
            name,
            arguments,
        } = item.body
        else {
            return;
        };
        // One beside the conversation has no place in it for an output.
        if !whole || self.aside.contains(&response) {
            return;
        }
        let id = call.clone();
        let call = ToTools::Call {
            call,
            name,
            arguments,
        };
        let wanted = !self.over.contains(&response) && !self.hearing;
        match self.tools.call(&response, call, wanted, now) {
            Called::Foreign => {}
            Called::Run(call) => self.effects.push_back(Effect::Tool(call)),
            Called::Refused(output) => self.on_tool(FromTools::Output { call: id, output }, now),
        }
    }

    /// The conversation has an item. Tells whether the relay has put it there.
    pub(super) fn is_own_output(&mut self, item: &Item) -> bool {
        match &item.body {
            Body::Output { call, .. } => self.tools.confirm(call),
            Body::Message { .. } | Body::Call { .. } | Body::Other(_) => false,
        }
    }

    pub(super) fn on_tool(&mut self, message: FromTools, now: Instant) {
        let FromTools::Output { call, output } = message;
        self.last_activity = now;
        self.tools.output(&call, &output);
        self.say(ToVoice::ToolOutput { call, output });
        let next = self.tools.settle();
        self.follow_tools(next, now);
    }

    pub(super) fn follow_tools(&mut self, next: Next, now: Instant) {
        match next {
            Next::Nothing => return,
            Next::PassOn(json) => self.pass_up(ClientEvent::CreateResponse, json, now),
            // The answer to a new turn is on its way.
            Next::Ask if self.hearing || self.is_answering() || !self.cut.is_empty() => return,
            Next::Ask => match self.voice {
                Link::Up(_) => self.say(ToVoice::Respond),
                // The next link is asked, once it knows the outputs.
                Link::Lost(_) => return self.upstream.owed = Owed::Answer,
                Link::Opening | Link::Down => return,
            },
        }
        if let Phase::Listening | Phase::Thinking { .. } = self.phase {
            self.think(now);
        }
    }

    /// The client asks for an answer while a tool runs: it is asked for once its output is there.
    pub(super) fn waits_for_tools(&mut self, event: ClientEvent, json: &Json) -> bool {
        match event {
            ClientEvent::CreateResponse => self.tools.hold(json),
            ClientEvent::CommitAudio => {
                self.tools.on_new_turn();
                false
            }
            ClientEvent::UpdateSession
            | ClientEvent::ClearAudio
            | ClientEvent::CreateItem
            | ClientEvent::Other => false,
        }
    }

    /// Nothing is to be heard, and nothing comes of the provider, until a tool has answered.
    pub(super) fn rest(&mut self, now: Instant) {
        if self.tools.is_awaited(now) && !self.hearing {
            self.think(now);
        } else {
            self.enter(Phase::Listening);
        }
    }

    fn is_answering(&self) -> bool {
        self.open.iter().any(|open| !self.aside.contains(open))
    }
}
