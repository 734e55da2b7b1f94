//! The last events of a session, as they are shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::journal::Entry;

/// Something that was said, or a run of the same.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Event {
    /// Milliseconds since the session began.
    pub at_ms: u64,
    /// When the last of a run was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    pub from: String,
    pub to: String,
    pub kind: String,
    pub count: u32,
    /// How many of them were passed on to the other side.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passed_on: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// How much sound it was, or how long it took.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub length_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    pub(super) fn of(entry: &Entry) -> Self {
        let note = &entry.note;
        Self {
            at_ms: ms(entry.at),
            until_ms: (entry.count > 1).then(|| ms(entry.until)),
            from: note.from.name().to_owned(),
            to: note.to.name().to_owned(),
            kind: note.kind.to_string(),
            count: entry.count,
            passed_on: entry.passed_on.into(),
            response_id: note.response.as_ref().map(ToString::to_string),
            item_id: note.item.as_ref().map(ToString::to_string),
            detail: note.detail.as_ref().map(ToString::to_string),
            bytes: note.bytes,
            length_ms: ms(note.length),
        }
    }
}

pub(super) fn ms(span: Duration) -> u64 {
    span.as_millis() as u64
}
