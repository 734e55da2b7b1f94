//! What is known of the person's ear and mouth beside what the device says in words.

use std::time::{Duration, Instant};

/// What a leg has measured of the network, from which follows where an ear is that nobody
/// reports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Network {
    /// To the device and back.
    pub round_trip: Duration,
    /// How unevenly packets arrive (RFC 3550, section 6.4.1).
    pub jitter: Duration,
}

/// How long the ways between a device and the relay are now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ways {
    pub up: Duration,
    pub down: Duration,
    /// Each may be so much longer, and the other one shorter by as much.
    pub uncertainty: Duration,
    /// Reported, where the device tells its own times; else half a round trip each.
    pub source: Source,
}

/// What a device tells of itself, each if it knows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// From the microphone to its sound leaving the device, without the wait for a packet to fill.
    pub capture: Option<Duration>,
    /// How long sound waits for its turn.
    pub jitter_buffer: Option<Duration>,
    /// From there to the ear.
    pub output_latency: Option<Duration>,
    pub received: Received,
}

/// What has become of the sound that a device was sent on this connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Received {
    pub packets: u64,
    pub lost: u64,
    pub samples: u64,
    /// Samples that were made up, since theirs were not there.
    pub concealed: u64,
}

impl Received {
    /// What has been added since it was `before`; nothing where a count has begun anew.
    pub const fn since(self, before: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(before.packets),
            lost: self.lost.saturating_sub(before.lost),
            samples: self.samples.saturating_sub(before.samples),
            concealed: self.concealed.saturating_sub(before.concealed),
        }
    }
}

/// What the relay hears by itself, ahead of the provider's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speech {
    /// The person has begun to speak: the first of it reached the relay then.
    Began { received: Instant },
    /// They have stopped, or it was no speech.
    Ended,
}

/// How well it is known what was heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Accuracy {
    pub source: Source,
    /// What was really heard lies within this of what is said, most of the time.
    pub uncertainty: Duration,
}

/// By whom it is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The device reports.
    Reported,
    /// The relay reckons.
    Estimated,
}

impl Source {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
        }
    }
}
