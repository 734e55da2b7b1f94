//! One line of a journal.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::core::ids::{ItemId, ResponseId};

/// The longest word.
const LONGEST: usize = 64;

/// A word of a protocol, such as the name of an event or a code: nothing that people say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Word(Cow<'static, str>);

impl Word {
    /// A word of our own.
    pub const fn new(word: &'static str) -> Self {
        Self(Cow::Borrowed(word))
    }

    /// A word of somebody else's; what has no shape of one becomes `?`.
    pub fn of(text: &str) -> Self {
        let is_word = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(is_plain);
        if is_word {
            Self(Cow::Owned(text.to_owned()))
        } else {
            Self::new("?")
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who says something, or is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Party {
    Client,
    Relay,
    Provider,
    /// Who issues the session's credentials.
    Issuer,
    Operator,
}

impl Party {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Relay => "relay",
            Self::Provider => "provider",
            Self::Issuer => "issuer",
            Self::Operator => "operator",
        }
    }
}

/// Something that was said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    pub from: Party,
    pub to: Party,
    pub kind: Word,
    pub response: Option<ResponseId>,
    pub item: Option<ItemId>,
    /// What there is to know beyond that: a state, a code, a reason.
    pub detail: Option<Word>,
    pub bytes: u64,
    /// How much sound it is, or how long something took.
    pub length: Duration,
    /// It is one of many: the next of the same is counted with it.
    pub streams: bool,
}

impl Note {
    pub(super) fn new(from: Party, to: Party, kind: Word) -> Self {
        Self {
            from,
            to,
            kind,
            response: None,
            item: None,
            detail: None,
            bytes: 0,
            length: Duration::ZERO,
            streams: false,
        }
    }

    pub(super) fn on(self, response: &ResponseId) -> Self {
        Self {
            response: Some(response.clone()),
            ..self
        }
    }

    pub(super) fn of(self, item: &ItemId) -> Self {
        Self {
            item: Some(item.clone()),
            ..self
        }
    }

    pub(super) fn detailed(self, detail: Word) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }

    pub(super) fn sized(self, bytes: usize) -> Self {
        Self {
            bytes: bytes as u64,
            ..self
        }
    }

    pub(super) fn lasting(self, length: Duration) -> Self {
        Self { length, ..self }
    }

    pub(super) fn streaming(self) -> Self {
        Self {
            streams: true,
            ..self
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.streams
            && self.kind == other.kind
            && self.from == other.from
            && self.to == other.to
            && self.response == other.response
            && self.item == other.item
            && self.detail == other.detail
    }
}

/// One line: something that was said, or a run of the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// When it was said first, since the session began ...
    pub at: Duration,
    /// ... and last.
    pub until: Duration,
    pub count: u32,
    /// How often it was passed on, as it came.
    pub passed_on: u32,
    pub note: Note,
}

impl Entry {
    pub(super) fn new(note: Note, at: Duration) -> Self {
        Self {
            at,
            until: at,
            count: 1,
            passed_on: 0,
            note,
        }
    }

    /// Counts the note with the ones before, if it is like them and `longest` allows.
    pub(super) fn merge(&mut self, note: &Note, at: Duration, longest: Duration) -> bool {
        if !note.is_like(&self.note) || at.saturating_sub(self.at) >= longest {
            return false;
        }
        self.until = at;
        self.count += 1;
        self.note.bytes += note.bytes;
        self.note.length += note.length;

        true
    }
}
