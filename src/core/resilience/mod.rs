//! Decides whom to ask, and whom to leave alone for a while.

mod breaker;

pub use crate::core::resilience::breaker::{
    Breaker, BreakerConfig, Outcome, Resting, Standing, Ticket,
};
