//! The last few responses of a kind.

use std::collections::{VecDeque, vec_deque};

use crate::core::ids::ResponseId;

/// How many are remembered; the oldest is forgotten for the next.
const KEPT: usize = 32;

/// A set of responses that forgets.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<ResponseId>);

impl Recent {
    /// Returns whether it was new.
    pub(super) fn insert(&mut self, response: ResponseId) -> bool {
        if self.contains(&response) {
            return false;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(response);

        true
    }

    pub(super) fn contains(&self, response: &ResponseId) -> bool {
        self.0.contains(response)
    }

    /// Returns whether it was there.
    pub(super) fn remove(&mut self, response: &ResponseId) -> bool {
        let before = self.0.len();
        self.0.retain(|kept| kept != response);

        self.0.len() < before
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ResponseId> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Recent {
    type Item = ResponseId;
    type IntoIter = vec_deque::IntoIter<ResponseId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
