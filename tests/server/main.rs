//! The relay as its clients meet it: real sockets, the embedded provider, nothing mocked.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

mod admin;
mod calls;
mod harness;
mod http;
mod limits;
mod openapi;
mod origin;
mod process;
mod secrets;
mod shutdown;
mod tls;
mod websocket;
