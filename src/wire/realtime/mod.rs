//! OpenAI's Realtime API, GA shapes, as far as the relay itself reads and writes it.
//!
//! The relay reads only what it acts on and passes the rest on as it came, so that what a
//! provider adds tomorrow reaches the client today. Event names and shapes: OpenAI's API
//! description and SDK types, November 2026.

mod client;
mod item;
mod name;
mod session;
mod toolbox;
mod voice;

use serde_json::Value;

pub use client::{decode_client, encode_client, error_body};
pub use name::event_name;
pub use session::{Pinned, call_session, session_update};
pub use toolbox::{Function, Toolbox, Veil};
pub use voice::{decode_voice, encode_voice, split_voice};

/// How a client's sound travels, which decides what its events may say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// Sound has its own tracks; the relay owns playback and fixes both audio formats.
    WebRtc,
    /// Sound is in the events; the client owns playback.
    WebSocket,
    /// Sound is in the events; the relay owns playback and fixes both audio formats.
    Playout,
}

impl Carrier {
    /// Whether the relay owns playback, which decides on the formats too.
    pub fn relay_plays(self) -> bool {
        match self {
            Self::WebRtc | Self::Playout => true,
            Self::WebSocket => false,
        }
    }

    fn has_tracks(self) -> bool {
        match self {
            Self::WebRtc => true,
            Self::WebSocket | Self::Playout => false,
        }
    }
}

/// Begins the `event_id` of every event that the relay itself sends on one link, so that it knows
/// a provider's answer to it. Nobody else can guess it, be it another relay on the way.
#[derive(Clone, Debug)]
pub struct Mark(String);

impl Mark {
    pub fn random() -> Self {
        Self(event_id("voxline_") + "_")
    }

    fn event_id(&self) -> String {
        event_id(&self.0)
    }

    fn is_on(&self, event_id: &str) -> bool {
        event_id.starts_with(&self.0)
    }
}

fn event_id(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::new_v4().simple())
}

/// Names the type of a value, as OpenAI's errors do.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
