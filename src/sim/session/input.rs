//! The input audio buffer, and the detector that listens to it.
//!
//! **Invariants:** positions count all audio ever written, whatever has been dropped since;
//! the buffer is bounded: the oldest audio goes first.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::core::audio::Format;
use crate::media::speech::{Detector, Edge, Sensitivity};
use crate::sim::codec::Decoder;
use crate::sim::speech::{duration, samples};

/// The longest turn that is kept whole.
const LONGEST_TURN: Duration = Duration::from_secs(5 * 60);
/// How much is kept while a detector is on and nobody speaks; more than any prefix padding.
const WHILE_SILENT: Duration = Duration::from_secs(15);

pub(crate) struct Input {
    buffer: VecDeque<i16>,
    /// The position after the last sample of the buffer.
    end: usize,
    format: Format,
    decoder: Decoder,
    listener: Option<Listener>,
}

struct Listener {
    sensitivity: Sensitivity,
    detector: Detector,
    /// The position at which the detector began to listen.
    since: usize,
    turn: Option<Turn>,
}

/// Speech that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) item_id: String,
    pub(crate) start: usize,
}

/// A detector's find, as a position of the input.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    Started(usize),
    Stopped(usize),
}

impl Input {
    pub(crate) fn new() -> Self {
        Self {
            buffer: VecDeque::new(),
            end: 0,
            format: Format::Pcm,
            decoder: Decoder::new(Format::Pcm),
            listener: None,
        }
    }

    /// Takes what comes next for audio of this format.
    pub(crate) fn set_format(&mut self, format: Format) {
        if self.format != format {
            self.format = format;
            self.decoder = Decoder::new(format);
        }
    }

    /// Listens for turns from here on; a detector with the same settings is kept.
    pub(crate) fn listen(&mut self, sensitivity: Option<Sensitivity>) {
        let current = self.listener.as_ref().map(|listener| listener.sensitivity);
        if current != sensitivity {
            let since = self.end;
            self.listener = sensitivity.map(|sensitivity| Listener::new(sensitivity, since));
        }
    }

    /// Takes audio and returns what the detector found. The buffer's bound is kept by
    /// [`trim`](Self::trim), once that has been dealt with.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Vec<Found> {
        let pcm = self.decoder.decode(bytes);
        self.end += pcm.len();
        self.buffer.extend(&pcm);
        let Some(listener) = &mut self.listener else {
            return Vec::new();
        };
        let mut edges = Vec::new();
        listener.detector.push(&pcm, &mut edges);
        let position = |at| listener.since + samples(at);
        edges
            .into_iter()
            .map(|edge| match edge {
                Edge::Started { at } => Found::Started(position(at)),
                Edge::Stopped { at } => Found::Stopped(position(at)),
            })
            .collect()
    }

    pub(crate) fn trim(&mut self) {
        let idle = self
            .listener
            .as_ref()
            .is_some_and(|listener| listener.turn.is_none());
        let longest = samples(if idle { WHILE_SILENT } else { LONGEST_TURN });
        let excess = self.buffer.len().saturating_sub(longest);
        self.buffer.drain(..excess);
    }

    /// Returns the turn that is being spoken.
    pub(crate) fn turn(&self) -> Option<&Turn> {
        self.listener.as_ref()?.turn.as_ref()
    }

    pub(crate) fn begin_turn(&mut self, turn: Turn) {
        if let Some(listener) = &mut self.listener {
            listener.turn = Some(turn);
        }
    }

    pub(crate) fn end_turn(&mut self) -> Option<Turn> {
        self.listener.as_mut()?.turn.take()
    }

    /// Takes the audio of this range out, and drops what came before it.
    pub(crate) fn take(&mut self, range: Range<usize>) -> Vec<i16> {
        let start = self.end - self.buffer.len();
        let from = range.start.saturating_sub(start).min(self.buffer.len());
        let to = range.end.saturating_sub(start).min(self.buffer.len());
        let mut taken: Vec<i16> = self.buffer.drain(..to.max(from)).collect();
        taken.drain(..from);
        taken
    }

    /// Takes all audio, as the client asks; speech that has begun ends here, unannounced.
    pub(crate) fn take_all(&mut self) -> Vec<i16> {
        self.restart_listener();
        self.take(0..self.end)
    }

    pub(crate) fn clear(&mut self) {
        self.restart_listener();
        self.buffer.clear();
        self.decoder = Decoder::new(self.format);
    }

    pub(crate) fn buffered(&self) -> Duration {
        duration(self.buffer.len())
    }

    /// Returns the position after the last sample.
    pub(crate) fn position(&self) -> usize {
        self.end
    }

    /// Speech must not stop that nobody knows has started.
    fn restart_listener(&mut self) {
        let end = self.end;
        if let Some(listener) = &mut self.listener
            && listener.turn.is_some()
        {
            *listener = Listener::new(listener.sensitivity, end);
        }
    }
}

impl Listener {
    fn new(sensitivity: Sensitivity, since: usize) -> Self {
        Self {
            sensitivity,
            detector: Detector::new(sensitivity),
            since,
            turn: None,
        }
    }
}
