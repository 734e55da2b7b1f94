//! Decides whom to ask, whom to leave alone for a while, and when to ask again.

mod backoff;
mod breaker;

pub use crate::core::resilience::backoff::{Backoff, BackoffConfig};
pub use crate::core::resilience::breaker::{
    Breaker, BreakerConfig, Outcome, Resting, Standing, Ticket,
};
