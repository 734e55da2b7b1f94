//! Function calls: the model of the embedded provider makes them when it is told to.
//!
//! A typed message of lines `call NAME ARGUMENTS` is answered by these calls, if the session has
//! functions of these names; a line `say` before them has something said first. What the tools
//! answer is told by the next answer.

use std::time::Instant;

use serde_json::Value;

use crate::sim::agent::Occasion;
use crate::sim::protocol::item::{Body, Item, Sound, Status};
use crate::sim::protocol::response::ResponseParams;
use crate::sim::protocol::server::{CallPlace, ServerEvent};
use crate::sim::session::Session;
use crate::sim::session::conversation::Position;
use crate::sim::session::response::{Outcome, Response, Stage};

/// The most calls of one response.
const MAX_CALLS: usize = 16;
/// Characters of arguments in a delta.
const DELTA: usize = 16;
/// The most outputs that an answer tells of, and the most characters of each.
const MAX_OUTPUTS: usize = 16;
const MAX_OUTPUT: usize = 1_000;

/// A call that is to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// A call while it is being made.
pub(crate) struct Calling {
    pub(crate) item_id: String,
    pub(crate) call_id: String,
    pub(crate) call: Call,
    /// How many bytes of the arguments have been sent.
    pub(crate) sent: usize,
    pub(crate) next: Instant,
}

/// What a response is to do instead of only speaking.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) calls: Vec<Call>,
    /// Something is said before them.
    pub(crate) speaks: bool,
}

impl Plan {
    /// Reads what a person wrote.
    fn read(text: &str) -> Self {
        let mut plan = Self::default();
        for line in text.lines().map(str::trim) {
            if line == "say" {
                plan.speaks = true;
            }
            let Some(call) = line.strip_prefix("call ") else {
                continue;
            };
            let (name, arguments) = call
                .trim()
                .split_once(' ')
                .unwrap_or_else(|| (call.trim(), "{}"));
            if plan.calls.len() < MAX_CALLS {
                plan.calls.push(Call {
                    name: name.to_owned(),
                    arguments: arguments.trim().to_owned(),
                });
            }
        }
        plan
    }
}

impl Calling {
    /// Returns the item as it stands.
    pub(crate) fn item(&self, status: Status) -> Item {
        Item {
            id: self.item_id.clone(),
            status,
            body: Body::FunctionCall {
                call_id: self.call_id.clone(),
                name: self.call.name.clone(),
                arguments: self.call.arguments[..self.sent].to_owned(),
            },
        }
    }

    /// Takes the next piece of the arguments, if there is one.
    fn take_delta(&mut self) -> Option<String> {
        let rest = &self.call.arguments[self.sent..];
        let end = rest.char_indices().nth(DELTA).map_or(rest.len(), |at| at.0);
        let delta = rest[..end].to_owned();
        self.sent += end;
        (!delta.is_empty()).then_some(delta)
    }
}

impl Session {
    /// Decides which calls answer this, and whether something is said before.
    pub(crate) fn plan(&mut self, occasion: &Occasion, params: &ResponseParams) -> Plan {
        let mut plan = match occasion {
            Occasion::Typed(text) => Plan::read(text),
            Occasion::Spoken(_) => {
                self.spoken_turns = self.spoken_turns.saturating_add(1);
                let call = self.settings.spoken_call.as_ref();
                let due = call.filter(|call| call.turn == self.spoken_turns);
                let calls = due.map(|call| Call {
                    name: call.name.clone(),
                    arguments: call.arguments.clone(),
                });
                Plan {
                    calls: calls.into_iter().collect(),
                    speaks: false,
                }
            }
            Occasion::Answered(_) | Occasion::Silence | Occasion::Asked => Plan::default(),
        };
        let may = params.tool_choice != "none";
        plan.calls.retain(|call| {
            may && params
                .tools
                .iter()
                .any(|tool| is_function(tool, &call.name))
        });
        plan
    }

    /// Notes what a tool answered, for the next answer to tell.
    pub(crate) fn on_output(&mut self, output: String) {
        let output = output.chars().take(MAX_OUTPUT).collect();
        match &mut self.occasion {
            Some(Occasion::Answered(outputs)) if outputs.len() < MAX_OUTPUTS => {
                outputs.push(output);
            }
            Some(Occasion::Answered(_)) => {}
            Some(
                Occasion::Spoken(_) | Occasion::Typed(_) | Occasion::Silence | Occasion::Asked,
            )
            | None => self.occasion = Some(Occasion::Answered(vec![output])),
        }
    }

    /// Begins the next call of a response.
    pub(crate) fn open_call(&mut self, index: usize, call: Call, now: Instant) {
        let calling = Calling {
            item_id: self.ids.next("item"),
            call_id: self.ids.next("call"),
            call,
            sent: 0,
            next: now + self.delta_interval(),
        };
        let item = calling.item(Status::InProgress);
        let response = &mut self.responses[index];
        let output_index = response.output.len() as u32;
        let response_id = response.id.clone();
        let in_conversation = response.is_in_conversation();
        response.stage = Stage::Calling(calling);
        let shown = item.to_json(Sound::Omitted);
        self.emit(ServerEvent::OutputItemAdded {
            response_id,
            output_index,
            item: shown.clone(),
        });
        if in_conversation {
            let previous_item_id = self.conversation.last_id();
            self.conversation
                .insert(item, Position::End)
                .expect("no item has the id that was just made for this one");
            self.emit(ServerEvent::ItemAdded {
                item: shown,
                previous_item_id,
            });
        }
    }

    /// Sends the next piece of a call's arguments, or ends the call.
    pub(crate) fn call_on(&mut self, index: usize, now: Instant) {
        let interval = self.delta_interval();
        let response = &mut self.responses[index];
        let at = response.call_place();
        let (Stage::Calling(calling), Some(at)) = (&mut response.stage, at) else {
            return;
        };
        calling.next = now + interval;
        match calling.take_delta() {
            Some(delta) => self.emit(ServerEvent::ArgumentsDelta { at, delta }),
            None => self.go_on(index, now),
        }
    }

    /// Ends what a response has done so far, and goes on to its next call or its end.
    pub(crate) fn go_on(&mut self, index: usize, now: Instant) {
        if self.responses[index].calls.is_empty() {
            return self.finish(index, Outcome::Completed, now);
        }
        let mut response = self.responses.remove(index);
        self.close_item(&mut response, Outcome::Completed);
        let call = response.calls.pop_front();
        self.responses.insert(index, response);
        if let Some(call) = call {
            self.open_call(index, call, now);
        }
    }

    /// Ends a call.
    pub(crate) fn close_call(&mut self, response: &Response, calling: &Calling, item: &Item) {
        let Some(at) = response.call_place() else {
            return;
        };
        let (response_id, output_index) = (at.response_id.clone(), at.output_index);
        self.emit(ServerEvent::ArgumentsDone {
            at,
            name: calling.call.name.clone(),
            arguments: calling.call.arguments[..calling.sent].to_owned(),
        });
        self.close_output(response, response_id, output_index, item);
    }
}

impl Response {
    fn call_place(&self) -> Option<CallPlace> {
        match &self.stage {
            Stage::Calling(calling) => Some(CallPlace {
                response_id: self.id.clone(),
                item_id: calling.item_id.clone(),
                output_index: self.output.len() as u32,
                call_id: calling.call_id.clone(),
            }),
            Stage::Thinking { .. } | Stage::Speaking(_) => None,
        }
    }
}

fn is_function(tool: &Value, name: &str) -> bool {
    tool["type"] == "function" && tool["name"] == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_lines_and_the_rest_is_talk() {
        let plan = Plan::read("hello\nsay\n call weather {\"city\": \"Oslo\"} \ncall now\ncalling");
        assert!(plan.speaks);
        let calls: Vec<(&str, &str)> = plan
            .calls
            .iter()
            .map(|call| (call.name.as_str(), call.arguments.as_str()))
            .collect();
        assert_eq!(calls, [("weather", "{\"city\": \"Oslo\"}"), ("now", "{}")]);
    }
}
