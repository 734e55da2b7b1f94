//! `voxline.v1`: what a client that asks for more than OpenAI's events says and hears.
//!
//! Over WebRTC a client opens two more data channels beside `oai-events`: `voxline` (reliable,
//! ordered; the relay's `voxline.*` events) and `voxline.timing` (unordered, no retransmits;
//! playout reports and pings, which are worthless when late). Over WebSocket it offers the
//! subprotocol `voxline.v1`, and the events share the one stream.

use std::time::Duration;

/// Said by a client that speaks `voxline.v1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FromDevice {
    /// `{"type":"voxline.playout","rtp_timestamp":u32,"age_ms":f64,"output_latency_ms":f64}`:
    /// the RTP timestamp last played out (`RTCRtpReceiver.getSynchronizationSources()`), how
    /// long ago that was, and the delay between there and the ear.
    Playout {
        rtp_timestamp: u32,
        age: Duration,
        output_latency: Duration,
    },
    /// `{"type":"voxline.ping","id":u64}`; answered by `{"type":"voxline.pong","id":u64}`.
    Ping { id: u64 },
}

/// Parses a `voxline.*` message; `None` if it is not one.
pub fn decode(_text: &str) -> Option<FromDevice> {
    todo!()
}

/// Encodes the answer to a ping.
pub fn pong(_id: u64) -> String {
    todo!()
}
