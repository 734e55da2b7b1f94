//! When a call's packets crossed the socket, and what that says of the network.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::client::webrtc::way::Way;
use crate::core::latency::{Measure, Recorder, Sample, Transport};
use crate::core::port::Source;

/// RTP packets of one call whose instants are remembered on their way through the library.
const STAMPS: usize = 64;

/// When a call's packets really crossed the socket: what happens between there and the leg is
/// the relay's own delay, and belongs into its figures.
#[derive(Debug)]
pub(crate) struct Meter {
    stamps: Mutex<Stamps>,
    way: Mutex<Way>,
    recorder: OnceLock<Reporter>,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            stamps: Mutex::new(Stamps {
                heard: now,
                arrived: VecDeque::new(),
                due: VecDeque::new(),
                first: None,
                sent: None,
            }),
            way: Mutex::default(),
            recorder: OnceLock::new(),
        }
    }

    /// Says where the delays of outgoing packets go; only the first call counts.
    pub(crate) fn report_to(&self, recorder: Recorder) {
        let _ = self.recorder.set(Reporter(recorder));
    }

    /// How the network to the client is.
    pub(crate) fn way(&self) -> MutexGuard<'_, Way> {
        lock(&self.way)
    }

    /// When anything that is surely the client's was last received.
    pub(crate) fn last_heard(&self) -> Instant {
        self.stamps().heard
    }

    /// When the RTP packet with this sequence number was read from the socket, if remembered.
    pub(crate) fn arrival(&self, sequence: u16) -> Option<Instant> {
        take(&mut self.stamps().arrived, sequence)
    }

    /// The outgoing RTP packet with this sequence number is due at `due`; when it leaves is to be
    /// told if it is the first of an answer, for this position.
    pub(crate) fn expect(&self, sequence: u16, due: Instant, first: Option<Duration>) {
        let mut stamps = self.stamps();
        remember(&mut stamps.due, sequence, due);
        if let Some(position) = first {
            stamps.first = Some((sequence, position));
        }
    }

    /// Returns when the first packet of an answer has left, once.
    pub(crate) fn take_sent(&self) -> Option<(Duration, Instant)> {
        self.stamps().sent.take()
    }

    pub(crate) fn heard(&self, now: Instant) {
        self.stamps().heard = now;
    }

    pub(crate) fn arrived(&self, sequence: u16, now: Instant) {
        remember(&mut self.stamps().arrived, sequence, now);
    }

    pub(crate) fn left(&self, sequence: u16, now: Instant) {
        let due = self.stamps().leave(sequence, now);
        if let (Some(due), Some(Reporter(record))) = (due, self.recorder.get()) {
            record(Sample {
                measure: Measure::PacketOut,
                transport: Some(Transport::WebRtc),
                source: Source::Reported,
                took: now.saturating_duration_since(due),
            });
        }
    }

    fn stamps(&self) -> MutexGuard<'_, Stamps> {
        lock(&self.stamps)
    }
}

struct Reporter(Recorder);

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

#[derive(Debug)]
struct Stamps {
    heard: Instant,
    arrived: VecDeque<(u16, Instant)>,
    due: VecDeque<(u16, Instant)>,
    /// The first packet of an answer, on its way to the socket.
    first: Option<(u16, Duration)>,
    sent: Option<(Duration, Instant)>,
}

impl Stamps {
    /// Returns when the packet that leaves now was due.
    fn leave(&mut self, sequence: u16, now: Instant) -> Option<Instant> {
        if let Some((_, position)) = self.first.take_if(|(first, _)| *first == sequence) {
            self.sent = Some((position, now));
        }

        take(&mut self.due, sequence)
    }
}

fn remember(stamps: &mut VecDeque<(u16, Instant)>, sequence: u16, at: Instant) {
    if stamps.len() == STAMPS {
        stamps.pop_front();
    }
    stamps.push_back((sequence, at));
}

fn take(stamps: &mut VecDeque<(u16, Instant)>, sequence: u16) -> Option<Instant> {
    let index = stamps.iter().position(|stamp| stamp.0 == sequence)?;
    stamps.remove(index).map(|stamp| stamp.1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
