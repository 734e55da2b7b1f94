//! What is left of items that are older than the window: who said what, shortly.
//!
//! **Invariant:** at most [`BYTES`] are kept; the oldest lines go first, and are counted.

use std::collections::VecDeque;

use crate::core::ids::ItemId;
use crate::core::item::{Body, Item, Role, Said, Words};
use crate::core::session::snapshot::Abridged;

/// How long a summary may be.
pub(super) const BYTES: usize = 4 << 10;

/// How many characters of one item are kept.
const LINE: usize = 100;

/// Room for what is said above the lines.
const HEAD: usize = 128;

/// What it says of itself.
const ID: &str = "item_voxline_summary";

#[derive(Debug, Default)]
pub(super) struct Summary {
    lines: VecDeque<String>,
    bytes: usize,
    /// Items of which nothing is left.
    forgotten: u32,
    revision: u32,
}

impl Summary {
    /// Takes an item that leaves the window.
    pub(super) fn add(&mut self, body: &Body) {
        let line = match body {
            Body::Message { role, words } => {
                let who = match role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                match words.text.0.trim() {
                    "" => format!("{who}: (spoken, without a transcript)"),
                    text => format!("{who}: {}", shortened(text)),
                }
            }
            Body::Call {
                name, arguments, ..
            } => format!("called {}({})", shortened(name), shortened(&arguments.0)),
            Body::Output { output, .. } => format!("got {}", shortened(&output.0)),
            Body::Other(_) => "(an item of another kind)".to_owned(),
        };
        self.revision += 1;
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > BYTES - HEAD
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
            self.forgotten += 1;
        }
    }

    /// Takes what was kept of one.
    pub(super) fn of(kept: &Abridged) -> Self {
        let lines: VecDeque<_> = kept.lines.iter().map(|line| line.0.clone()).collect();

        Self {
            bytes: lines.iter().map(String::len).sum(),
            revision: u32::from(!lines.is_empty()),
            forgotten: kept.forgotten,
            lines,
        }
    }

    /// Returns what is kept of it elsewhere.
    pub(super) fn lines(&self) -> Abridged {
        Abridged {
            lines: self.lines.iter().cloned().map(Said).collect(),
            forgotten: self.forgotten,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.revision == 0
    }

    pub(super) fn revision(&self) -> u32 {
        self.revision
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Returns what stands in for all of them.
    pub(super) fn item(&self) -> Option<Item> {
        if self.is_empty() {
            return None;
        }
        let mut text = "Summary of the earlier part of this conversation".to_owned();
        if self.forgotten > 0 {
            text += &format!(" ({} items before it are left out)", self.forgotten);
        }
        text.push(':');
        for line in &self.lines {
            text.push('\n');
            text += line;
        }

        Some(Item {
            id: ItemId::from(ID),
            body: Body::Message {
                role: Role::System,
                words: Words::written(text),
            },
        })
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LINE) {
        Some((end, _)) => format!("{} ...", text[..end].trim_end()),
        None => text.to_owned(),
    }
}
