//! Decides what happens next in a conversation.
//!
//! An input and an instant go in, effects come out. Nothing here waits, locks, logs, reads a
//! clock or knows a wire format; `tests/layering.rs` checks it.

pub mod audio;
pub mod ids;
pub mod item;
pub mod journal;
pub mod latency;
pub mod limit;
pub mod playout;
pub mod port;
pub mod random;
pub mod resilience;
pub mod session;
pub mod share;
pub mod tally;
pub mod token;
