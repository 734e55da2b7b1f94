//! Decides whom to ask, whom to leave alone for a while, and when to ask again.

mod backoff;
mod breaker;
mod slowness;

pub use crate::core::resilience::backoff::{Backoff, BackoffConfig};
pub use crate::core::resilience::breaker::{
    Breaker, BreakerConfig, Outcome, Resting, Standing, Ticket,
};
pub use crate::core::resilience::slowness::{Choice, Pace, Slowness, SlownessConfig};
