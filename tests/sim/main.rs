//! The embedded provider behaves as OpenAI's Realtime API does, on a real socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod admission;
mod calls;
mod control;
#[path = "../support/peer.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod device;
mod errors;
mod functions;
mod interruption;
mod items;
mod limits;
mod links;
mod responses;
mod schema;
mod secrets;
mod session;
#[path = "../support/speech.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod speech;
mod support;
mod transcription;
mod turns;
