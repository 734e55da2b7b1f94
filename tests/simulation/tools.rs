//! What the provider's model asks of tools, and what becomes of it.

use std::collections::BTreeSet;

use voxline::core::ids::CallId;
use voxline::core::item::{Body, Item};
use voxline::core::port::{FromTools, FromVoice, Json, Stage, ToTools};
use voxline::core::session::Input;

use crate::{World, voice};

/// The relay's own tool.
pub(crate) const OWN: &str = "weather";

#[derive(Default)]
pub(crate) struct Tools {
    count: u64,
    /// Calls that the model has made of the relay's tool, and finished.
    made: BTreeSet<CallId>,
    /// Calls that run ...
    running: BTreeSet<CallId>,
    /// ... that ran ...
    ran: BTreeSet<CallId>,
    /// ... and those of which the provider was told.
    told: BTreeSet<CallId>,
}

impl World {
    /// The model calls a function in the answer that it gives.
    pub(crate) fn call(&mut self) -> Vec<Input> {
        let Some(response) = self.answering() else {
            return vec![];
        };
        self.tools.count += 1;
        let call = CallId::from(format!("call_{}", self.tools.count));
        let own = self.random.below(4) > 0;
        let whole = self.random.below(5) > 0;
        if own && whole {
            self.tools.made.insert(call.clone());
        }
        let said = voice(FromVoice::OutputItem {
            response,
            item: Item {
                id: format!("item_{call}").into(),
                body: Body::Call {
                    call,
                    name: if own { OWN } else { "camera" }.to_owned(),
                    arguments: "{}".into(),
                },
            },
            stage: Stage::Done,
            whole,
            json: if own { Json::nothing() } else { "call".into() },
        });
        // Some providers say it twice.
        vec![said; if self.random.below(10) == 0 { 2 } else { 1 }]
    }

    /// A tool answers.
    pub(crate) fn tool(&mut self) -> Vec<Input> {
        let running = self.tools.running.len() as u64;
        if running == 0 {
            return vec![];
        }
        let index = self.random.below(running) as usize;
        let call = self.tools.running.iter().nth(index).cloned();
        let outputs = call.map(|call| {
            self.tools.running.remove(&call);
            Input::Tool(FromTools::Output {
                call,
                output: "{}".into(),
            })
        });
        outputs.into_iter().collect()
    }

    pub(crate) fn check_tool(&mut self, call: ToTools) {
        self.saw("tool");
        let ToTools::Call { call, name, .. } = call;
        self.promise(name == OWN, "only its own tools are the relay's");
        let made = self.tools.made.contains(&call);
        self.promise(made, "only a call that is whole is carried out");
        let first = self.tools.ran.insert(call.clone());
        self.promise(first, "a call is carried out once");
        self.tools.running.insert(call);
    }

    pub(crate) fn check_output(&mut self, call: CallId) {
        self.saw("tool output");
        let ran = self.tools.made.contains(&call);
        self.promise(ran, "only a call that was made has an output");
        let first = self.tools.told.insert(call);
        self.promise(first, "an output is told once");
    }

    pub(crate) fn check_respond(&mut self) {
        self.saw("respond");
        // One that was cut, and is never confirmed to be over, is not waited for.
        let open = self
            .answering()
            .is_some_and(|open| !self.silenced.contains(&open));
        self.promise(!open, "no answer is asked for while one is given");
        self.promise(!self.hearing, "nobody is talked over");
    }
}
