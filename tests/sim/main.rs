//! The embedded provider behaves as OpenAI's Realtime API does, on a real socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod admission;
mod errors;
mod interruption;
mod items;
mod limits;
mod links;
mod responses;
mod schema;
mod secrets;
mod session;
mod support;
mod transcription;
mod turns;
