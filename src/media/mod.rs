//! Turns one encoding of sound into another, evens out the network, detects speech.
//!
//! Everything here computes; nothing waits or reads a clock.

pub mod ear;
pub mod echo;
#[cfg(test)]
mod fixtures;
pub mod g711;
pub mod jitter;
pub mod opus;
pub mod receiver;
pub mod resample;
pub mod speech;

/// The rate of every PCM stream in the relay: 24 kHz mono, as OpenAI's `audio/pcm`.
pub const SAMPLE_RATE: u32 = 24_000;

/// Samples of one 20 ms frame at [`SAMPLE_RATE`].
pub const FRAME_SAMPLES: usize = 480;
