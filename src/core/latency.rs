//! Where the time of a turn goes.

use std::sync::Arc;
use std::time::Duration;

/// A stretch of the way that is timed. All are measured on the relay's own clock.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Hop {
    /// Microphone packet received -> its upstream message handed to the socket.
    RelayIn,
    /// End of the person's speech -> the provider says so.
    SilenceWait,
    /// The provider says that the person has stopped -> first audio of the answer.
    Inference,
    /// Sound due at the device -> its packet or message handed to the socket.
    RelayOut,
    /// First sound of an interruption received -> silence at the ear, as far as that is known.
    Silence,
}

impl Hop {
    pub const ALL: [Self; 5] = [
        Self::RelayIn,
        Self::SilenceWait,
        Self::Inference,
        Self::RelayOut,
        Self::Silence,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::RelayIn => "relay_in",
            Self::SilenceWait => "silence_wait",
            Self::Inference => "inference",
            Self::RelayOut => "relay_out",
            Self::Silence => "silence",
        }
    }
}

/// One timed stretch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sample {
    pub hop: Hop,
    pub took: Duration,
}

/// Where shells put their samples: cheap, never blocking.
pub type Recorder = Arc<dyn Fn(Sample) + Send + Sync>;
