//! The WebRTC leg.
