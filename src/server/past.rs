//! Conversations that are over, kept for a while so that their operator can see what became of
//! them.
//!
//! **Invariant:** at most `most` are kept, and none is shown for longer than `keep_for`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Diagnosis;
use crate::core::ids::SessionId;
use crate::server::sessions::Conversation;

pub(crate) struct Past {
    settings: Diagnosis,
    kept: VecDeque<Ended>,
}

/// A conversation that is over.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) at: Instant,
    pub(crate) conversation: Arc<Conversation>,
}

impl Past {
    pub(crate) fn new(settings: Diagnosis) -> Self {
        Self {
            settings,
            kept: VecDeque::new(),
        }
    }

    pub(crate) fn add(&mut self, conversation: Arc<Conversation>, now: Instant) {
        self.forget(now);
        if self.settings.ended == 0 {
            return;
        }
        if self.kept.len() == self.settings.ended {
            self.kept.pop_front();
        }
        let at = now;
        self.kept.push_back(Ended { at, conversation });
    }

    pub(crate) fn find(&mut self, id: &SessionId, now: Instant) -> Option<Ended> {
        self.forget(now);
        let found = self.kept.iter().find(|ended| ended.conversation.id == *id);

        found.cloned()
    }

    /// All of them, the latest first.
    pub(crate) fn all(&mut self, now: Instant) -> Vec<Ended> {
        self.forget(now);

        self.kept.iter().rev().cloned().collect()
    }

    fn forget(&mut self, now: Instant) {
        let keep_for = self.settings.ended_for;
        while let Some(oldest) = self.kept.front()
            && now.saturating_duration_since(oldest.at) >= keep_for
        {
            self.kept.pop_front();
        }
    }
}
