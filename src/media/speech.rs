//! Tells speech from everything else.

use std::time::Duration;

/// The person has begun or stopped speaking, at this position of the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Edge {
    Started { at: Duration },
    Stopped { at: Duration },
}

/// OpenAI's `server_vad` settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensitivity {
    /// 0..1
    pub threshold: f32,
    /// How much sound before the detected start belongs to the turn.
    pub prefix_padding: Duration,
    /// How long silence lasts before speech counts as stopped.
    pub silence: Duration,
}

/// A speech detector over one stream of 24 kHz mono PCM.
pub struct Detector(());

impl Detector {
    pub fn new(_sensitivity: Sensitivity) -> Self {
        todo!()
    }

    /// Takes the next samples, any number; appends what it found to `edges`.
    pub fn push(&mut self, _pcm: &[i16], _edges: &mut Vec<Edge>) {}
}
