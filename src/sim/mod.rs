//! The embedded provider: a real server on a real socket that speaks OpenAI's GA Realtime
//! protocol, so that the relay talks to it through the very code that talks to OpenAI, and a device
//! can call it as it would call OpenAI.
//!
//! It detects turns, answers, is interrupted, keeps the 60-minute cap, refuses what OpenAI
//! refuses, calls a tool if it is told to, and misbehaves on command ([`Fault`], and [`Control`]
//! while it runs). It understands nothing of what is said: its
//! agent lets a person test the line, and says so.
//!
//! **Invariants:** every task is owned by [`Sim::run`] and ends with it; nothing that a client
//! sends ends anything but its own session.

mod admission;
mod agent;
mod call_request;
mod calls;
mod codec;
mod connection;
mod control;
mod faults;
mod protocol;
mod report;
mod secrets;
mod server;
mod session;
mod settings;
mod speech;
mod voice;
mod wire;

pub use crate::sim::control::Control;
pub use crate::sim::faults::{Act, Fault};
pub use crate::sim::report::{End, Ended, ItemReport, SessionReport};
pub use crate::sim::server::Sim;
pub use crate::sim::settings::{AgentKind, Script, Settings, SpokenCall};
