//! The WebSocket leg.
