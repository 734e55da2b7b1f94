//! Carries one device's sound and messages: one leg per transport.
//!
//! A leg is given the far end of its session's queues, runs until either side is gone, and owns
//! nothing that outlives it.

mod ear;
mod timing;
pub mod webrtc;
pub mod websocket;
