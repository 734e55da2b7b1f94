//! Decides what the embedded provider says.

pub(crate) mod line_test;
pub(crate) mod script;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::sim::agent::line_test::LineTest;
use crate::sim::settings::AgentKind;
use crate::sim::speech::{Clip, Speech};
use crate::sim::voice::Voice;

/// What an answer is about.
pub(crate) struct Prompt<'a> {
    /// The item that the answer will be.
    pub(crate) item_id: &'a str,
    /// What the person has said since the last answer, if they have spoken.
    pub(crate) heard: Option<Heard>,
    /// From the person's last sound to the first sound of the last answer.
    pub(crate) answered_in: Option<Duration>,
    pub(crate) wall: SystemTime,
}

/// A spoken turn.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) sound: Arc<Clip>,
    /// How much of it was speech.
    pub(crate) lasted: Duration,
}

/// Who answers.
pub(crate) enum Agent {
    LineTest(LineTest),
    Scripted(Speech),
}

impl Agent {
    pub(crate) fn new(kind: &AgentKind, voice: Arc<Voice>) -> Self {
        match kind {
            AgentKind::LineTest => Self::LineTest(LineTest::new(voice)),
            AgentKind::Scripted(script) => Self::Scripted(script::speech(script)),
        }
    }

    /// Returns the next thing to say in the conversation.
    pub(crate) fn answer(&mut self, prompt: Prompt<'_>) -> Speech {
        match self {
            Self::LineTest(agent) => agent.answer(prompt),
            Self::Scripted(speech) => speech.clone(),
        }
    }

    /// Returns something to say beside the conversation.
    pub(crate) fn aside(&self) -> Speech {
        match self {
            Self::LineTest(agent) => agent.aside(),
            Self::Scripted(speech) => speech.clone(),
        }
    }

    /// Learns that only this many words of an item were heard.
    pub(crate) fn on_cut(&mut self, item_id: &str, words: usize) {
        match self {
            Self::LineTest(agent) => agent.on_cut(item_id, words),
            Self::Scripted(_) => {}
        }
    }
}
