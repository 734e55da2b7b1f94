//! From RTP packets as the network delivers them to an even stream of 20 ms PCM frames.
//!
//! **Invariant:** the stream's length follows the sender's RTP clock: what is lost is concealed
//! (Opus in-band FEC, then concealment), what is late or doubled is dropped.

use std::time::Instant;

use bytes::Bytes;

/// An RTP packet's payload and the header fields that order it.
#[derive(Clone, Debug)]
pub struct Packet {
    pub sequence: u16,
    /// 48 kHz clock (RFC 7587).
    pub timestamp: u32,
    pub payload: Bytes,
    /// When the datagram was read from the socket.
    pub received: Instant,
}

/// 20 ms of PCM: 480 samples, 24 kHz mono.
#[derive(Clone, Debug)]
pub struct Pcm {
    pub samples: Vec<i16>,
    /// When the packet that carried it (or, if concealed, revealed the gap) was received.
    pub received: Instant,
}

/// A jitter buffer and a decoder.
pub struct Receiver(());

impl Receiver {
    pub fn new() -> Self {
        todo!()
    }

    /// Takes a packet as it comes from the network.
    pub fn push(&mut self, _packet: Packet, _now: Instant) {}

    /// Returns the next frame that is due at `now`.
    pub fn poll_frame(&mut self, _now: Instant) -> Option<Pcm> {
        todo!()
    }

    /// Returns when [`poll_frame`](Self::poll_frame) is to be asked next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
}
