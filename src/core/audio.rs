//! Sound as the core sees it: encoded bytes, and how long they last.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// How a provider encodes sound. All are mono.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Format {
    /// `audio/pcm`: signed 16-bit little-endian samples at 24 kHz.
    #[default]
    Pcm,
    /// `audio/pcmu`: G.711 µ-law at 8 kHz.
    Pcmu,
    /// `audio/pcma`: G.711 A-law at 8 kHz.
    Pcma,
}

impl Format {
    pub const fn bytes_per_ms(self) -> usize {
        match self {
            Self::Pcm => 48,
            Self::Pcmu | Self::Pcma => 8,
        }
    }

    /// Returns how long `bytes` of this format last.
    pub const fn duration(self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 1_000_000 / self.bytes_per_ms() as u64)
    }
}

/// A piece of sound. Cloning shares the payload.
#[derive(Clone, Eq, PartialEq)]
pub struct Frame {
    pub format: Format,
    pub payload: Bytes,
}

impl Frame {
    pub fn duration(&self) -> Duration {
        self.format.duration(self.payload.len())
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.format, self.duration())
    }
}
