//! Runs one session: passes it what its neighbors say, and passes on what it says to them.
//!
//! **Invariants**
//! - This task waits in one place only, for the next input, and never for a neighbor to accept a
//!   message.
//! - A neighbor is heard only while the one that its words are for has room for them: a slow
//!   provider slows the client down, and the other way round, and nothing piles up here.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::core::latency::Recorder;
use crate::core::port::{
    CloseReason, FromClient, FromIssuer, FromVoice, ToClient, ToIssuer, ToVoice,
};
use crate::core::session::{Effect, Input, Loss, Neighbor, Session};

/// What one input can make the session say to a neighbor, at the most, before it is asked to
/// make room. A queue must be longer than this.
pub const ROOM: usize = 16;

/// The two queues between a session and one neighbor.
pub struct Line<Out, In> {
    pub outbox: mpsc::Sender<Out>,
    pub inbox: mpsc::Receiver<In>,
}

/// The queues between a session and its neighbors.
pub struct Lines {
    /// Absent where the provider carries the call's sound itself, until a client joins.
    pub client: Option<ClientLine>,
    pub voice: Line<ToVoice, FromVoice>,
    /// Those who come while the session runs.
    pub arrivals: mpsc::Receiver<Arrival>,
}

/// The queues between a session and a leg.
pub type ClientLine = Line<ToClient, FromClient>;

/// Somebody comes to a session that runs.
pub enum Arrival {
    /// Takes the place of the session's client, who may still be there.
    Client(ClientLine),
    /// Joins beside it: sees the same events, and may send some.
    Sideband(ClientLine),
}

/// Who issues the session's credentials. Answers at once: it computes, and waits for nothing.
pub type Issuer = Box<dyn FnMut(ToIssuer) -> FromIssuer + Send>;

/// What tells a session to end.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The relay is shutting down: come to an end.
    pub shutdown: CancellationToken,
    /// The operator has revoked it: say so, and end.
    pub revoked: CancellationToken,
    /// End now: it was hung up, or the time for coming to an end is over.
    pub cancel: CancellationToken,
}

/// Runs `session` until it closes.
pub async fn run(
    mut session: Session,
    mut lines: Lines,
    _issuer: Issuer,
    recorder: Recorder,
    signals: Signals,
) -> CloseReason {
    let mut shutting_down = false;
    let mut voice_gone = false;
    loop {
        while let Some(effect) = session.poll_effect() {
            let lost = match effect {
                Effect::Client(message) => lines
                    .client
                    .as_ref()
                    .and_then(|client| client.send(message, Neighbor::Client)),
                Effect::Voice(message) => lines.voice.send(message, Neighbor::Voice),
                Effect::Record(sample) => {
                    recorder(sample);
                    None
                }
                Effect::Close(reason) => return reason,
            };
            if let Some(lost) = lost {
                session.handle(lost, clock::now());
            }
        }

        let onward = lines.client.as_ref().map(|client| client.outbox.clone());
        let input = tokio::select! {
            biased;
            () = signals.cancel.cancelled() => Input::Client(FromClient::Hangup),
            () = signals.shutdown.cancelled(), if !shutting_down => {
                shutting_down = true;
                Input::Shutdown
            }
            () = clock::sleep_until(session.poll_timeout()) => {
                session.handle_timeout(clock::now());
                continue;
            }
            Some(Arrival::Client(line)) = lines.arrivals.recv() => {
                lines.client = Some(line);
                continue;
            }
            input = hear(&mut lines.voice.inbox, onward.as_ref()), if !voice_gone => {
                match input {
                    Some(message) => Input::Voice(message),
                    None => {
                        voice_gone = true;
                        Input::Lost(Neighbor::Voice, Loss::Gone)
                    }
                }
            }
            input = hear_client(&mut lines.client, &lines.voice.outbox) => match input {
                Some(message) => Input::Client(message),
                None => Input::Lost(Neighbor::Client, Loss::Gone),
            },
        };
        session.handle(input, clock::now());
    }
}

/// Waits for the client's next message; for ever if there is no client.
async fn hear_client(
    client: &mut Option<ClientLine>,
    onward: &mpsc::Sender<ToVoice>,
) -> Option<FromClient> {
    match client {
        Some(client) => hear(&mut client.inbox, Some(onward)).await,
        None => std::future::pending().await,
    }
}

/// Waits for a neighbor's next message, and for room to pass it on.
async fn hear<In, Out>(
    inbox: &mut mpsc::Receiver<In>,
    onward: Option<&mpsc::Sender<Out>>,
) -> Option<In> {
    if let Some(onward) = onward {
        // If the way on is closed there is nothing to wait for: the session will be told.
        drop(onward.reserve_many(ROOM).await);
    }

    inbox.recv().await
}

impl<Out, In> Line<Out, In> {
    fn send(&self, message: Out, neighbor: Neighbor) -> Option<Input> {
        let loss = match self.outbox.try_send(message) {
            Ok(()) => return None,
            Err(mpsc::error::TrySendError::Full(_)) => Loss::Overrun,
            Err(mpsc::error::TrySendError::Closed(_)) => Loss::Gone,
        };

        Some(Input::Lost(neighbor, loss))
    }
}
