//! OpenAI's GA Realtime protocol as a server reads and writes it.
//!
//! **Invariants:** what a client sends is parsed once, deeply, and refused as a whole if any part
//! of it is wrong; a refusal names the field by its path; nothing a client sends panics.

pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod format;
pub(crate) mod ids;
pub(crate) mod item;
pub(crate) mod reader;
pub(crate) mod response;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod tools;
pub(crate) mod transcription;
pub(crate) mod turn_detection;
