//! A realtime voice relay that keeps the conversation going.
//!
//! Decisions live in [`core`], which never reads a clock, opens a socket or takes a lock.
//! Everything else carries sound and messages to it and carries its decisions out. The code map
//! is `docs/ARCHITECTURE.md`; `tests/layering.rs` holds it true.

pub mod auth;
pub mod client;
pub mod clock;
pub mod config;
pub mod core;
pub mod diagnosis;
pub mod doctor;
pub mod driver;
pub mod gateway;
pub mod media;
pub mod otlp;
pub mod provider;
pub mod server;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod tools;
pub mod wire;
