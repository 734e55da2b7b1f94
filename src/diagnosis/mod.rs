//! What is known of a session, in the order in which trouble is looked for: auth, connectivity,
//! state machine, budget, replay; and what that means.
//!
//! **Invariant:** nothing that people say, and no credential, is in a report.

mod events;
mod report;
mod rules;
mod text;

pub use crate::diagnosis::events::Event;
pub use crate::diagnosis::report::{
    Auth, Budget, Connectivity, Replay, Report, StateMachine, Status, Subject, Turn,
};
pub use crate::diagnosis::rules::{Finding, Level, Step, headline};
