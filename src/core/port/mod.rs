//! What crosses the border of a session, one pair of enums for each neighbor.
//!
//! They are the session's inputs and effects *and* the types of the channels to its shells, so a
//! new transport or provider is a new shell that speaks one pair; the session does not change.

mod client;
mod dialer;
mod ear;
mod fault;
mod issuer;
mod json;
mod tools;
mod voice;

pub use client::{
    ClientEvent, CloseReason, Device, FromClient, Notice, Output, Played, State, ToClient,
};
pub use dialer::{DialFailure, FromDialer, ToDialer};
pub use ear::{Accuracy, Network, Received, Source, Speech, Stats, Ways};
pub use fault::{Fault, FaultKind};
pub use issuer::{Credential, FromIssuer, ToIssuer, Token};
pub use json::Json;
pub use tools::{FromTools, ToTools};
pub use voice::{
    FromVoice, LinkEnd, ResponseOutcome, Restored, Stage, ToVoice, Usage, Utterance, VoiceSession,
};
