//! The relay as its clients meet it: real sockets, the embedded provider, nothing mocked.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

mod admin;
#[path = "../support/mod.rs"]
mod support;

mod calling;
mod calls;
mod dashboard;
mod direct;
mod harness;
mod http;
mod inspection;
mod latency;
mod limits;
mod metrics;
mod openapi;
mod origin;
mod otlp;
mod process;
mod resume;
mod rotation;
mod secrets;
mod shutdown;
mod sideband;
mod switch;
mod tls;
mod tools;
mod transcription;
mod websocket;
mod whip;
