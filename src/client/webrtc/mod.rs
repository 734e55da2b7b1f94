//! The WebRTC leg: a browser's microphone, speaker and events, as OpenAI's Realtime API has them.
//!
//! An [`Endpoint`] owns one UDP port and answers SDP offers; each answer comes with a [`Leg`] that
//! carries the call. Everything of the WebRTC library stays in this module.
//!
//! - **Up**: datagram, stamped as it is read -> RTP -> jitter buffer and Opus decoder -> 20 ms of
//!   PCM for the session.
//! - **Down**: 20 ms of PCM at a position of the session's playout timeline -> Opus -> RTP with
//!   that position as its timestamp.
//! - **Events**: the data channel `oai-events`; clients that open `voxline` and `voxline.timing`
//!   get and give more (see [`crate::wire::voxline`]).

mod channels;
mod control;
mod endpoint;
mod ice;
mod leg;
mod meter;
mod mux;
mod peer;
mod playback;
mod runtime;
mod sdp;
mod stun;
mod way;

pub use crate::client::webrtc::control::{
    Control, MAX_FRAGMENT, PatchError, Patched, SDP_FRAGMENT,
};
pub use crate::client::webrtc::endpoint::{Endpoint, Settings};
pub use crate::client::webrtc::leg::{End, Leg};
pub use crate::client::webrtc::sdp::OfferError;
