//! The line-test agent: a partner whose job is to let a person test the line.

use std::sync::Arc;

use crate::sim::agent::Prompt;
use crate::sim::speech::Speech;
use crate::sim::voice::Voice;

pub(crate) struct LineTest {
    voice: Arc<Voice>,
    greeted: bool,
}

impl LineTest {
    pub(crate) fn new(voice: Arc<Voice>) -> Self {
        Self {
            voice,
            greeted: false,
        }
    }

    pub(crate) fn answer(&mut self, prompt: Prompt<'_>) -> Speech {
        let mut speech = Speech::default();
        if !self.greeted {
            self.greeted = true;
            speech.push(self.voice.clip("greeting"));
        }
        if let Some(heard) = prompt.heard {
            speech.push(self.voice.clip("echo-intro"));
            speech.push_as(heard.sound, " [your voice]");
        } else {
            speech.push(self.voice.clip("hint"));
        }
        speech
    }

    pub(crate) fn aside(&self) -> Speech {
        let mut speech = Speech::default();
        speech.push(self.voice.clip("hint"));
        speech
    }

    pub(crate) fn on_cut(&mut self, _item_id: &str, _words: usize) {}
}
