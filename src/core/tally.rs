//! What is counted.

use std::sync::Arc;
use std::time::Duration;

use crate::core::port::{Received, Source, Usage};
use crate::core::session::Reason;

/// Something happened that an operator counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tally {
    /// A client holds a fresh credential.
    Rotated,
    /// A client's credential has expired, and the client took no other.
    RotationFailed,
    /// A client was lost, and its session waits for it.
    Parked,
    /// A client came back to a session that waited for it.
    Resumed,
    /// A session has ended that waited for its client.
    Abandoned,
    /// An answer was cut, and what was heard of it was known by this.
    Cut(Source),
    /// An answer was paused on the relay's own word that the person speaks, ...
    Paused,
    /// ... and sounds on, as the provider did not agree.
    FalseAlarm,
    /// The link to the provider was lost, and another is needed.
    LinkLost(Reason),
    /// There is a link again, after this time.
    LinkRestored(Duration),
    /// A link has taken the place of one that was about to reach its greatest length.
    RolledOver,
    /// No link could be had in time, and the session ended.
    LinkGivenUp,
    /// So much more sound has reached a client, or has not.
    Received(Received),
    /// So much more sound has reached the relay from a client, or has not.
    Arrived(Received),
    /// An answer is to end, and the provider is to confirm it ...
    Interrupted,
    /// ... and has not in time.
    InterruptionUnconfirmed,
    /// The provider bills for a response.
    Used(Usage),
}

/// Where shells put what is counted: cheap, never blocking.
pub type Ledger = Arc<dyn Fn(Tally) + Send + Sync>;
