//! The relay's own tools in a session: put in on the way to the provider, taken out on the way back.
//!
//! **Invariants**
//! - A client's own tools pass as they came; one with the name of a relay's gives way to it.
//! - What a client is told names none of the relay's tools, their calls and their outputs, and no
//!   item that it does not know.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::ids::{CallId, ItemId};
use crate::core::item::{Body, Item};
use crate::core::port::{FromVoice, Json};

/// Hidden items and calls that are remembered; the oldest are forgotten.
const KEPT: usize = 1_024;

/// A function, as providers are told of it.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub description: String,
    /// A JSON schema.
    pub parameters: Value,
}

/// The functions that the relay carries out itself. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Toolbox(Arc<[Function]>);

impl Toolbox {
    pub fn new(functions: impl IntoIterator<Item = Function>) -> Self {
        Self(functions.into_iter().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|function| function.name.as_str())
    }

    /// Adds them to the tools of a session; what is no list is the provider's to refuse.
    pub(super) fn add_to(&self, tools: &mut Value) {
        if self.is_empty() {
            return;
        }
        if let Some(tools) = tools.as_array_mut() {
            tools.retain(|tool| !self.is_own(tool));
            tools.extend(self.0.iter().map(Function::definition));
        }
    }

    /// Adds them to what a client's `session.update` replaces; `None` if it replaces no tools.
    pub fn update(&self, event: &str) -> Option<String> {
        // An event that does not even name them is not worth a second look.
        let named = ["session.update", "tools"];
        if self.is_empty() || !named.iter().all(|name| event.contains(name)) {
            return None;
        }
        let mut event: Value = serde_json::from_str(event).ok()?;
        if event["type"] != "session.update" {
            return None;
        }
        self.add_to(event.get_mut("session")?.get_mut("tools")?);
        Some(event.to_string())
    }

    fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|function| function.name == name)
    }

    fn is_own(&self, object: &Value) -> bool {
        let is_call = ["function", "function_call"].map(Value::from);
        is_call.contains(&object["type"])
            && object["name"].as_str().is_some_and(|name| self.knows(name))
    }
}

impl Function {
    fn definition(&self) -> Value {
        json!({
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        })
    }
}

/// Hides the relay's tools in what a provider says on one link.
#[derive(Debug)]
pub struct Veil {
    toolbox: Toolbox,
    /// Hidden items, each with the last item before it that is not.
    items: VecDeque<(ItemId, Option<ItemId>)>,
    calls: VecDeque<CallId>,
}

impl Veil {
    pub fn new(toolbox: Toolbox) -> Self {
        Self {
            toolbox,
            items: VecDeque::new(),
            calls: VecDeque::new(),
        }
    }

    /// Returns the event with what the client may see of it, which may be nothing.
    pub fn cover(&mut self, mut event: FromVoice) -> FromVoice {
        if self.toolbox.is_empty() {
            return event;
        }
        match &mut event {
            FromVoice::Session(_, json) => {
                edit(json, |event| {
                    let tools = event.pointer_mut("/session/tools")?.as_array_mut()?;
                    tools.retain(|tool| !self.toolbox.is_own(tool));
                    Some(())
                });
            }
            FromVoice::ResponseDone { json, .. } => {
                edit(json, |event| {
                    let output = event.pointer_mut("/response/output")?.as_array_mut()?;
                    output.retain(|item| !self.toolbox.is_own(item));
                    Some(())
                });
            }
            FromVoice::OutputItem { item, json, .. } => {
                if self.hides(item) {
                    self.remember(item, None);
                    *json = Json::nothing();
                }
            }
            FromVoice::Item {
                item, after, json, ..
            } => {
                let before = after.as_ref().map(|after| self.seen_before(after));
                if self.hides(item) {
                    self.remember(item, before.flatten());
                    *json = Json::nothing();
                } else if let (Some(before), Some(after)) = (before, after)
                    && before.as_ref() != Some(after)
                {
                    put_after(json, before.as_ref());
                }
            }
            FromVoice::Committed { json, .. } | FromVoice::Event(json)
                if !self.items.is_empty() =>
            {
                self.cover_other(json);
            }
            FromVoice::Delta {
                said: None, json, ..
            } if !self.items.is_empty() => self.cover_other(json),
            FromVoice::ItemDeleted { item, json } | FromVoice::ItemTruncated { item, json, .. } => {
                if self.is_hidden(item) {
                    *json = Json::nothing();
                }
            }
            FromVoice::SpeechStarted { .. }
            | FromVoice::SpeechStopped { .. }
            | FromVoice::ResponseCreated { .. }
            | FromVoice::Audio { .. }
            | FromVoice::Delta { .. }
            | FromVoice::Transcribed { .. }
            | FromVoice::Committed { .. }
            | FromVoice::Cleared { .. }
            | FromVoice::AudioDone { .. }
            | FromVoice::Output(..)
            | FromVoice::Error { .. }
            | FromVoice::Event(_)
            | FromVoice::Down(_) => {}
        }
        event
    }

    /// Hides an event about a hidden item; one that comes after a hidden item comes after the last
    /// one that is not.
    fn cover_other(&self, json: &mut Json) {
        let Ok(about) = serde_json::from_str::<About<'_>>(json.as_str()) else {
            return;
        };
        let named = about.item.and_then(|item| item.id);
        let id = about.item_id.or(named);
        let id = id.map(|id| ItemId::from(id.as_ref()));
        let after = about.previous_item_id.map(|id| ItemId::from(id.as_ref()));
        if id.is_some_and(|id| self.is_hidden(&id)) {
            *json = Json::nothing();
        } else if let Some(after) = after.filter(|after| self.is_hidden(after)) {
            put_after(json, self.seen_before(&after).as_ref());
        }
    }

    fn hides(&self, item: &Item) -> bool {
        match &item.body {
            Body::Call { name, .. } => self.toolbox.knows(name),
            Body::Output { call, .. } => self.calls.contains(call),
            Body::Message { .. } | Body::Other(_) => false,
        }
    }

    fn remember(&mut self, item: &Item, before: Option<ItemId>) {
        let known = self.items.iter_mut().find(|(id, _)| *id == item.id);
        match known {
            Some((_, known)) if before.is_some() => *known = before,
            Some(_) => {}
            None => push(&mut self.items, (item.id.clone(), before)),
        }
        if let Body::Call { call, .. } = &item.body
            && !self.calls.contains(call)
        {
            push(&mut self.calls, call.clone());
        }
    }

    fn is_hidden(&self, id: &ItemId) -> bool {
        self.items.iter().any(|(hidden, _)| hidden == id)
    }

    /// Returns this item, or the last one before it that the client knows.
    fn seen_before(&self, id: &ItemId) -> Option<ItemId> {
        match self.items.iter().find(|(hidden, _)| hidden == id) {
            Some((_, before)) => before.clone(),
            None => Some(id.clone()),
        }
    }
}

fn push<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(new);
}

fn put_after(json: &mut Json, before: Option<&ItemId>) {
    edit(json, |event| {
        event["previous_item_id"] = before.map_or(Value::Null, |id| Value::from(id.as_str()));
        Some(())
    });
}

fn edit(json: &mut Json, change: impl FnOnce(&mut Value) -> Option<()>) {
    if let Ok(mut event) = serde_json::from_str::<Value>(json.as_str())
        && change(&mut event).is_some()
    {
        *json = Json::from(event.to_string());
    }
}

/// Which item an event is about.
#[derive(Deserialize)]
struct About<'a> {
    #[serde(borrow)]
    item_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    item: Option<Named<'a>>,
    #[serde(borrow)]
    previous_item_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::realtime::{Mark, decode_voice};

    #[test]
    fn tools_are_put_in_on_the_way_up_and_taken_out_on_the_way_down() {
        let mut tools = json!([{"type": "function", "name": "theirs"},
            {"type": "function", "name": "weather", "description": "not this one"},
            {"type": "mcp", "name": "weather", "server_label": "m"}]);
        toolbox().add_to(&mut tools);
        assert_eq!(names_of(&tools), ["theirs", "weather", "weather"]);
        assert_eq!(tools[2]["description"], "Tells the weather.");

        let updated = json!({"type": "session.updated", "session": {"tools": tools}});
        let shown = cover(&mut veil(), &updated).unwrap();
        assert_eq!(names_of(&shown["session"]["tools"]), ["theirs", "weather"]);
        assert_eq!(shown["session"]["tools"][1]["type"], "mcp");
    }

    #[test]
    fn only_an_update_of_the_tools_is_changed() {
        let update = |event: Value| toolbox().update(&event.to_string());
        let changed = update(json!({"type": "session.update", "session": {"tools": []}}));
        let changed: Value = serde_json::from_str(&changed.unwrap()).unwrap();
        assert_eq!(names_of(&changed["session"]["tools"]), ["weather"]);
        for other in [
            json!({"type": "session.update", "session": {"instructions": "no tools"}}),
            json!({"type": "response.create", "response": {"instructions": "session.update",
                "tools": []}}),
            json!({"type": "session.update", "tools": []}),
        ] {
            assert_eq!(update(other.clone()), None, "{other}");
        }
        let nonsense = json!({"type": "session.update", "session": {"tools": 7}});
        let passed: Value = serde_json::from_str(&update(nonsense.clone()).unwrap()).unwrap();
        assert_eq!(passed, nonsense);
    }

    #[test]
    fn nothing_of_a_call_is_seen_and_the_chain_of_items_has_no_gap() {
        let mut veil = veil();
        let call = json!({"id": "i2", "type": "function_call", "call_id": "c", "name": "weather",
            "arguments": "{}"});
        let output = json!({"id": "i3", "type": "function_call_output", "call_id": "c",
            "output": "{}"});
        let said = json!({"id": "i4", "type": "message", "role": "assistant", "content": []});
        let of = |kind: &str, item: &Value, after: &str| json!({"type": kind, "item": item, "previous_item_id": after, "response_id": "r"});
        for hidden in [
            of("response.output_item.added", &call, ""),
            of("conversation.item.added", &call, "i1"),
            json!({"type": "response.function_call_arguments.delta", "response_id": "r",
                "item_id": "i2", "delta": "{}"}),
            json!({"type": "response.function_call_arguments.done", "response_id": "r",
                "item_id": "i2", "arguments": "{}"}),
            of("conversation.item.done", &call, "i1"),
            of("response.output_item.done", &call, ""),
            of("conversation.item.added", &output, "i2"),
            of("conversation.item.done", &output, "i2"),
            json!({"type": "conversation.item.retrieved", "item": call}),
            json!({"type": "conversation.item.deleted", "item_id": "i3"}),
        ] {
            assert_eq!(cover(&mut veil, &hidden), None, "{hidden}");
        }
        let added = cover(&mut veil, &of("conversation.item.added", &said, "i3")).unwrap();
        assert_eq!(added["previous_item_id"], "i1");
        let committed = json!({"type": "input_audio_buffer.committed", "item_id": "i5",
            "previous_item_id": "i3"});
        let committed = cover(&mut veil, &committed).unwrap();
        assert_eq!(committed["previous_item_id"], "i1");
        let done = json!({"type": "response.done", "response": {"id": "r", "status": "completed",
            "output": [call, said]}});
        let done = cover(&mut veil, &done).unwrap();
        assert_eq!(done["response"]["output"], json!([said]));
    }

    #[test]
    fn what_is_the_clients_passes_as_it_came() {
        let mut veil = veil();
        let call = json!({"id": "i2", "type": "function_call", "call_id": "c", "name": "theirs",
            "arguments": "{}"});
        for event in [
            json!({"type": "response.output_item.added", "item": call, "response_id": "r"}),
            json!({"type": "conversation.item.added", "item": call, "previous_item_id": null}),
            json!({"type": "response.function_call_arguments.done", "item_id": "i2"}),
            json!({"type": "conversation.item.added", "previous_item_id": "i2", "item":
                {"id": "i3", "type": "function_call_output", "call_id": "c", "output": ""}}),
        ] {
            assert_eq!(cover(&mut veil, &event), Some(event));
        }
    }

    fn toolbox() -> Toolbox {
        Toolbox::new([Function {
            name: "weather".to_owned(),
            description: "Tells the weather.".to_owned(),
            parameters: json!({"type": "object"}),
        }])
    }

    fn veil() -> Veil {
        Veil::new(toolbox())
    }

    /// Returns what the client sees of an event.
    fn cover(veil: &mut Veil, event: &Value) -> Option<Value> {
        let decoded = decode_voice(&event.to_string(), &Mark::random()).unwrap();
        let shown = json_of(veil.cover(decoded)).expect("the event is one that can be hidden");
        (!shown.is_nothing()).then(|| serde_json::from_str(shown.as_str()).unwrap())
    }

    fn json_of(event: FromVoice) -> Option<Json> {
        if let FromVoice::Session(_, json)
        | FromVoice::ResponseDone { json, .. }
        | FromVoice::OutputItem { json, .. }
        | FromVoice::Item { json, .. }
        | FromVoice::ItemDeleted { json, .. }
        | FromVoice::Committed { json, .. }
        | FromVoice::Delta { json, .. }
        | FromVoice::Event(json) = event
        {
            return Some(json);
        }
        None
    }

    fn names_of(tools: &Value) -> Vec<&str> {
        let tools = tools.as_array().unwrap().iter();
        tools.filter_map(|tool| tool["name"].as_str()).collect()
    }
}
