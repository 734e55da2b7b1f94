//! Bytes <-> typed messages. Nothing that a peer sends can make it panic.

pub mod realtime;
pub mod voxline;
