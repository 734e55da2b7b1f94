//! Decides what the embedded provider says.

mod line_test;
mod script;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::sim::agent::line_test::LineTest;
use crate::sim::settings::AgentKind;
use crate::sim::speech::{Clip, Speech};
use crate::sim::voice::{Voice, VoiceError};

/// What agents have in common, prepared once for all sessions.
#[derive(Clone)]
pub(crate) enum Cast {
    LineTest(Arc<Voice>),
    Scripted(Speech),
}

/// Who answers in one session.
pub(crate) enum Agent {
    LineTest(LineTest),
    Scripted(Speech),
}

/// What an answer is about.
pub(crate) struct Prompt<'a> {
    /// The item that the answer will be.
    pub(crate) item_id: &'a str,
    pub(crate) occasion: Occasion,
    /// From the person's last sound to the first sound of the last answer.
    pub(crate) answered_in: Option<Duration>,
    pub(crate) wall: SystemTime,
}

/// Why there is an answer.
pub(crate) enum Occasion {
    Spoken(Heard),
    /// With this text.
    Typed(String),
    /// Tools have answered this.
    Answered(Vec<String>),
    /// The person has said nothing for long.
    Silence,
    /// The client wants an answer, to nothing new.
    Asked,
}

/// A spoken turn.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) sound: Arc<Clip>,
    /// How much of it was speech.
    pub(crate) lasted: Duration,
    /// When its last sound came.
    pub(crate) ended: Instant,
}

impl Cast {
    pub(crate) fn new(kind: &AgentKind) -> Result<Self, VoiceError> {
        Ok(match kind {
            AgentKind::LineTest => Self::LineTest(Voice::shared()?),
            AgentKind::Scripted(script) => Self::Scripted(script::speech(script)),
        })
    }

    /// Returns an agent for a new session.
    pub(crate) fn agent(&self) -> Agent {
        match self {
            Self::LineTest(voice) => Agent::LineTest(LineTest::new(Arc::clone(voice))),
            Self::Scripted(speech) => Agent::Scripted(speech.clone()),
        }
    }
}

impl Occasion {
    /// Returns when the person's last sound came.
    pub(crate) fn ended(&self) -> Option<Instant> {
        match self {
            Self::Spoken(heard) => Some(heard.ended),
            Self::Typed(_) | Self::Answered(_) | Self::Silence | Self::Asked => None,
        }
    }
}

impl Agent {
    /// Returns the next thing to say in the conversation.
    pub(crate) fn answer(&mut self, prompt: Prompt<'_>) -> Speech {
        match self {
            Self::LineTest(agent) => agent.answer(prompt),
            Self::Scripted(speech) => match &prompt.occasion {
                Occasion::Answered(outputs) => script::told(outputs, speech),
                Occasion::Spoken(_) | Occasion::Typed(_) | Occasion::Silence | Occasion::Asked => {
                    speech.clone()
                }
            },
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
