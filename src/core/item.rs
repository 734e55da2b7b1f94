//! Items of a conversation, as far as a session must know them to tell them to another link.

use std::fmt;
use std::time::Duration;

use crate::core::ids::{CallId, ItemId};
use crate::core::port::Json;

/// One item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    pub id: ItemId,
    pub body: Body,
}

impl Item {
    /// How many bytes its words have.
    pub fn weight(&self) -> usize {
        match &self.body {
            Body::Message { words, .. } => words.text.0.len(),
            Body::Call {
                name, arguments, ..
            } => name.len() + arguments.0.len(),
            Body::Output { output, .. } => output.0.len(),
            Body::Other(json) => json.as_str().len(),
        }
    }
}

/// What it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// What somebody said or wrote.
    Message { role: Role, words: Words },
    /// `function_call`
    Call {
        call: CallId,
        name: String,
        arguments: Said,
    },
    /// `function_call_output`
    Output { call: CallId, output: Said },
    /// Of another kind, or with pictures in it: the item object, as it can be created again.
    Other(Json),
}

/// Who says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// What is known of a message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Words {
    /// In writing; empty where there is no transcript (yet).
    pub text: Said,
    /// How long it sounds; `None` if it was written.
    pub sound: Option<Duration>,
}

impl Words {
    pub fn written(text: impl Into<String>) -> Self {
        Self {
            text: Said(text.into()),
            sound: None,
        }
    }
}

/// Something that people or models say, which must not reach a log by way of `{:?}`.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Said(pub String);

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Said({} bytes)", self.0.len())
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
