//! Where the time of a turn goes.

pub mod budget;
pub mod input;
pub mod loudness;
pub mod offset;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::ids::ResponseId;
use crate::core::port::Source;

/// A hop of a turn: from the person's last sound to the first sound of the answer at their ear, in
/// this order, one after the other without a gap.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Hop {
    /// The person's last sound -> it leaves the device.
    Capture,
    /// -> The relay has received it.
    Uplink,
    /// -> It was handed to the provider's socket.
    RelayIn,
    /// -> The provider says that the person has stopped, or the client asks for the answer.
    SilenceWait,
    /// -> The first sound of the answer has reached the relay, with what tools took.
    Inference,
    /// -> It has left for the device.
    RelayOut,
    /// -> The device has received it.
    Downlink,
    /// -> It is at the ear.
    Playback,
}

impl Hop {
    pub const ALL: [Self; 8] = [
        Self::Capture,
        Self::Uplink,
        Self::RelayIn,
        Self::SilenceWait,
        Self::Inference,
        Self::RelayOut,
        Self::Downlink,
        Self::Playback,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Uplink => "uplink",
            Self::RelayIn => "relay_in",
            Self::SilenceWait => "silence_wait",
            Self::Inference => "inference",
            Self::RelayOut => "relay_out",
            Self::Downlink => "downlink",
            Self::Playback => "playback",
        }
    }
}

/// Whatever is timed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Measure {
    /// A hop of a turn.
    Hop(Hop),
    /// All hops of a turn.
    EndToEnd,
    /// The provider says that the person has stopped -> its first word of the response.
    FirstByte,
    /// The person's last sound -> the last sound of the answer at their ear.
    FullTurn,
    /// First sound of an interruption received -> silence at the ear, as far as that is known.
    Silence,
    /// A fresh token is offered -> the client holds it.
    Rotation,
    /// The link to the provider is lost -> there is one again.
    Recovery,
    /// The client is lost -> it is back.
    Return,
    /// How long sound waits in the client's jitter buffer, as it reports.
    JitterBuffer,
    /// A microphone packet received -> its upstream message handed to the socket.
    PacketIn,
    /// Sound due at the device -> its packet handed to the socket.
    PacketOut,
}

impl Measure {
    pub const ALL: [Self; 18] = [
        Self::Hop(Hop::Capture),
        Self::Hop(Hop::Uplink),
        Self::Hop(Hop::RelayIn),
        Self::Hop(Hop::SilenceWait),
        Self::Hop(Hop::Inference),
        Self::Hop(Hop::RelayOut),
        Self::Hop(Hop::Downlink),
        Self::Hop(Hop::Playback),
        Self::EndToEnd,
        Self::FirstByte,
        Self::FullTurn,
        Self::Silence,
        Self::Rotation,
        Self::Recovery,
        Self::Return,
        Self::JitterBuffer,
        Self::PacketIn,
        Self::PacketOut,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Hop(hop) => hop.name(),
            Self::EndToEnd => "end_to_end",
            Self::FirstByte => "first_byte",
            Self::FullTurn => "full_turn",
            Self::Silence => "silence",
            Self::Rotation => "rotation",
            Self::Recovery => "recovery",
            Self::Return => "return",
            Self::JitterBuffer => "jitter_buffer",
            Self::PacketIn => "packet_in",
            Self::PacketOut => "packet_out",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        match self {
            Self::Hop(hop) => hop as usize,
            Self::EndToEnd => 8,
            Self::FirstByte => 9,
            Self::FullTurn => 10,
            Self::Silence => 11,
            Self::Rotation => 12,
            Self::Recovery => 13,
            Self::Return => 14,
            Self::JitterBuffer => 15,
            Self::PacketIn => 16,
            Self::PacketOut => 17,
        }
    }
}

/// How a client's sound travels.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Transport {
    #[default]
    WebRtc,
    WebSocket,
    /// By WebRTC, between the client and the provider.
    Direct,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::WebRtc, Self::WebSocket, Self::Direct];

    pub const fn name(self) -> &'static str {
        match self {
            Self::WebRtc => "webrtc",
            Self::WebSocket => "websocket",
            Self::Direct => "direct",
        }
    }
}

/// Something was timed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sample {
    pub measure: Measure,
    pub took: Duration,
    /// `None` where whoever measures does not know.
    pub transport: Option<Transport>,
    pub source: Source,
}

/// Where samples are put: cheap, never blocking.
pub type Recorder = Arc<dyn Fn(Sample) + Send + Sync>;

/// How long a hop took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stretch {
    pub took: Duration,
    pub source: Source,
}

/// Where the time of one answered turn went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TurnTrace {
    /// Counts the answered turns of the session from 1.
    pub turn: u64,
    pub response: ResponseId,
    pub transport: Transport,
    /// The person's last sound, at the microphone.
    pub began: Instant,
    /// By [`Hop`]; `None` where nobody can know.
    pub hops: [Option<Stretch>; Hop::ALL.len()],
    /// From there to the first sound of the answer at the ear; up to the last hop that is known,
    /// where not all are.
    pub total: Duration,
    /// How well the client's clock is known, and so where its hops end.
    pub uncertainty: Duration,
}

/// Where finished turns are put: cheap, never blocking.
pub type Traces = Arc<dyn Fn(&TurnTrace) + Send + Sync>;

impl TurnTrace {
    pub fn hop(&self, hop: Hop) -> Option<Stretch> {
        self.hops.get(hop as usize).copied().flatten()
    }

    /// The hops that are known, in order.
    pub fn known(&self) -> impl Iterator<Item = (Hop, Stretch)> {
        let hops = Hop::ALL.into_iter().zip(self.hops);

        hops.filter_map(|(hop, stretch)| Some((hop, stretch?)))
    }

    /// All hops together; [`total`](Self::total) was measured apart from them, and is the same.
    pub fn sum(&self) -> Duration {
        self.known().map(|(_, stretch)| stretch.took).sum()
    }

    /// Returns whether any hop is an estimate.
    pub fn is_estimated(&self) -> bool {
        self.known()
            .any(|(_, stretch)| stretch.source == Source::Estimated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_has_its_place() {
        for (index, measure) in Measure::ALL.into_iter().enumerate() {
            assert_eq!(measure.index(), index, "{}", measure.name());
        }
    }
}
