//! A WebRTC client in the test's own process, a bad network, and the two ends of a call.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod call;
pub(crate) mod network;
pub(crate) mod peer;
pub(crate) mod speech;
