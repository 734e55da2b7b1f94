//! What a session is told, and what it wants done.

use crate::core::latency::{Sample, TurnTrace};
use crate::core::port::{
    CloseReason, Device, FromClient, FromDialer, FromIssuer, FromTools, FromVoice, ToClient,
    ToDialer, ToIssuer, ToTools, ToVoice,
};
use crate::core::session::snapshot::Snapshot;
use crate::core::tally::Tally;

/// Something happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    Client(FromClient),
    Voice(FromVoice),
    /// One of the relay's own tools has answered.
    Tool(FromTools),
    /// The link that was opened beside the one in use says this.
    Next(FromVoice),
    /// No link could be opened.
    Dialer(FromDialer),
    /// The answer to the earliest question that has none.
    Issuer(FromIssuer),
    /// A client takes the place of the one before, who may still have been there.
    Attached(Device),
    /// A neighbor has gone, or has let its queue fill up, which comes to the same.
    Lost(Neighbor, Loss),
    /// The relay is shutting down.
    Shutdown,
    /// The operator has revoked the session, or who runs it.
    Revoked,
    /// The call was hung up by a request, not by its client's own connection.
    HungUp,
}

/// Whom a session talks to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Neighbor {
    Client,
    Voice,
}

/// How a neighbor was lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    Gone,
    Overrun,
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// For the client, and for all who listen beside it.
    Everyone(ToClient),
    /// For the client alone.
    Client(ToClient),
    /// For those who listen beside the client, who is not there.
    Sidebands(ToClient),
    Voice(ToVoice),
    /// One of the relay's own tools is called; an [`Input::Tool`] will tell its output.
    Tool(ToTools),
    /// For the link that was opened beside the one in use.
    Next(ToVoice),
    /// The link that was opened beside the one in use takes its place.
    Switch,
    /// The link in use is given up.
    HangUp,
    Dialer(ToDialer),
    Issuer(ToIssuer),
    Record(Sample),
    /// The first sound of a turn's answer was heard.
    Turn(Box<TurnTrace>),
    Count(Tally),
    /// This is to be kept, in place of what was kept before.
    Save(Box<Snapshot>),
    Close(CloseReason),
}
