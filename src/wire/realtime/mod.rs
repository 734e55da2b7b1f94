//! OpenAI's Realtime API, GA shapes, as far as the relay itself reads and writes it.

use std::time::Instant;

use crate::core::port::{Fault, FromClient, FromVoice, ToClient, ToVoice};

/// How a client's sound travels, which decides what its events may say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// Sound has its own tracks; the relay owns playback and fixes both audio formats.
    WebRtc,
    /// Sound is in the events; the client owns playback.
    WebSocket,
}

/// Parses a client's event. The fault, if any, is for an `error` event; the session goes on.
pub fn decode_client(_text: &str, _carrier: Carrier, _now: Instant) -> Result<FromClient, Fault> {
    todo!()
}

/// Encodes what the session says to a client as the JSON text of one event; `None` for sound.
/// Notices are encoded too: sending them only to a client that negotiated `voxline.v1` is the
/// leg's duty.
pub fn encode_client(_message: &ToClient) -> Option<String> {
    todo!()
}

/// Parses a provider's event; `None` if it cannot be understood at all.
pub fn decode_voice(_text: &str) -> Option<FromVoice> {
    todo!()
}

/// Encodes what the session says to a provider.
pub fn encode_voice(_message: &ToVoice) -> String {
    todo!()
}

/// The body of a failed HTTP request: `{"error":{...}}`.
pub fn error_body(_fault: &Fault) -> String {
    todo!()
}
