//! Runs one session: passes it what its neighbors say, and passes on what it says to them.
//!
//! **Invariants**
//! - This task waits in one place only, for the next input, and never for a neighbor to accept a
//!   message.
//! - A neighbor is heard only while the one that its words are for has room for them: a slow
//!   provider slows the client down, and the other way round, and nothing piles up here.
//! - Whoever listens beside the client slows nobody down, and ends nothing by going.

use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::core::latency::Recorder;
use crate::core::port::{
    CloseReason, Fault, FromClient, FromIssuer, FromVoice, ToClient, ToIssuer, ToVoice,
};
use crate::core::session::{Effect, Input, Loss, Neighbor, Session};
use crate::core::tally::Ledger;

/// What one input can make the session say to a neighbor, at the most, before it is asked to
/// make room. A queue must be longer than this.
pub const ROOM: usize = 16;

/// How many may listen beside the client of a session.
pub const SIDEBANDS: usize = 4;

/// How long the queue to one who listens beside the client should be: nobody waits for it.
pub const SIDEBAND_QUEUE: usize = 1024;

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
    /// Takes the place of the session's client, who may still be there, with its first word that
    /// is not sound: until then its connection may not be open.
    Client(ClientLine),
    /// Joins beside it: sees the same events, and may send some. At most [`SIDEBANDS`] do.
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
    lines: Lines,
    mut issuer: Issuer,
    recorder: Recorder,
    ledger: Ledger,
    signals: Signals,
) -> CloseReason {
    let Lines {
        client,
        mut voice,
        mut arrivals,
    } = lines;
    let mut audience = Audience {
        client,
        newcomer: None,
        sidebands: vec![],
    };
    let mut shutting_down = false;
    let mut voice_gone = false;
    loop {
        while let Some(effect) = session.poll_effect() {
            let consequence = match effect {
                Effect::Everyone(message) => {
                    audience.tell_sidebands(&message);
                    audience.tell_client(message)
                }
                Effect::Client(message) => audience.tell_client(message),
                Effect::Sidebands(message) => {
                    audience.tell_sidebands(&message);
                    None
                }
                Effect::Voice(message) => voice
                    .send(message)
                    .map(|loss| Input::Lost(Neighbor::Voice, loss)),
                Effect::Issuer(question) => Some(Input::Issuer(issuer(question))),
                Effect::Record(sample) => {
                    recorder(sample);
                    None
                }
                Effect::Count(tally) => {
                    ledger(tally);
                    None
                }
                Effect::Close(reason) => return reason,
            };
            if let Some(input) = consequence {
                session.handle(input, clock::now());
            }
        }

        let onward = audience.client.as_ref().map(|line| line.outbox.clone());
        let input = tokio::select! {
            biased;
            () = signals.cancel.cancelled() => Input::HungUp,
            () = signals.revoked.cancelled() => Input::Revoked,
            () = signals.shutdown.cancelled(), if !shutting_down => {
                shutting_down = true;
                Input::Shutdown
            }
            () = clock::sleep_until(session.poll_timeout()) => {
                session.handle_timeout(clock::now());
                continue;
            }
            Some(arrival) = arrivals.recv() => {
                match arrival {
                    Arrival::Client(line) => audience.newcomer = Some(line),
                    Arrival::Sideband(line) => audience.join(line, session.introduction()),
                }
                continue;
            }
            input = hear(&mut voice.inbox, onward.as_ref()), if !voice_gone => match input {
                Some(message) => Input::Voice(message),
                None => {
                    voice_gone = true;
                    Input::Lost(Neighbor::Voice, Loss::Gone)
                }
            },
            heard = audience.hear(&voice.outbox) => match audience.admit(heard) {
                Some(Admitted::Said(message)) => Input::Client(message),
                Some(Admitted::Left) => Input::Lost(Neighbor::Client, Loss::Gone),
                Some(Admitted::Attached(first)) => {
                    session.handle(Input::Attached, clock::now());
                    Input::Client(first)
                }
                None => continue,
            },
        };
        session.handle(input, clock::now());
    }
}

/// All who listen to a session.
struct Audience {
    client: Option<ClientLine>,
    /// Comes to take the client's place.
    newcomer: Option<ClientLine>,
    sidebands: Vec<ClientLine>,
}

/// Who has said something, or left.
#[derive(Clone, Copy)]
enum Listener {
    Client,
    Newcomer,
    Sideband(usize),
}

/// What that means for the session.
enum Admitted {
    Said(FromClient),
    /// The client has gone.
    Left,
    /// The newcomer is there now, and says this.
    Attached(FromClient),
}

impl Audience {
    fn tell_client(&mut self, message: ToClient) -> Option<Input> {
        let loss = self.client.as_ref()?.send(message)?;
        let mut client = self.client.take()?;
        let hung_up = std::iter::from_fn(|| client.inbox.try_recv().ok())
            .any(|last| last == FromClient::Hangup);

        Some(if hung_up && self.newcomer.is_none() {
            Input::Client(FromClient::Hangup)
        } else {
            Input::Lost(Neighbor::Client, loss)
        })
    }

    fn tell_sidebands(&mut self, message: &ToClient) {
        self.sidebands
            .retain(|line| line.send(message.clone()).is_none());
    }

    fn join(&mut self, line: ClientLine, introduction: Vec<ToClient>) {
        // Whoever does not even take this has left again.
        if self.sidebands.len() == SIDEBANDS {
            line.send(ToClient::Fault(crowded()));
            line.send(ToClient::Close(CloseReason::Crowded));
        } else if introduction
            .into_iter()
            .all(|message| line.send(message).is_none())
        {
            self.sidebands.push(line);
        }
    }

    /// Waits for a word of anyone's, and for room to pass it on.
    async fn hear(&mut self, onward: &mpsc::Sender<ToVoice>) -> (Listener, Option<FromClient>) {
        make_room(onward).await;

        poll_fn(|cx| {
            let client = self.client.iter_mut().map(|line| (Listener::Client, line));
            let newcomer = self.newcomer.iter_mut();
            let newcomer = newcomer.map(|line| (Listener::Newcomer, line));
            let sidebands = self.sidebands.iter_mut().enumerate();
            let sidebands = sidebands.map(|(index, line)| (Listener::Sideband(index), line));
            for (listener, line) in client.chain(newcomer).chain(sidebands) {
                if let Poll::Ready(message) = line.inbox.poll_recv(cx) {
                    return Poll::Ready((listener, message));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Returns what the session needs to know of it.
    fn admit(&mut self, (listener, message): (Listener, Option<FromClient>)) -> Option<Admitted> {
        match (listener, message) {
            // Who is on the way back has not hung up.
            (Listener::Client, Some(FromClient::Hangup)) if self.newcomer.is_some() => {
                self.client = None;
                Some(Admitted::Left)
            }
            (Listener::Client, Some(message)) => Some(Admitted::Said(message)),
            (Listener::Client, None) => {
                self.client = None;
                Some(Admitted::Left)
            }
            (Listener::Newcomer, Some(FromClient::Audio { .. } | FromClient::Played(_))) => None,
            (Listener::Newcomer, None | Some(FromClient::Hangup)) => {
                self.newcomer = None;
                None
            }
            (Listener::Newcomer, Some(first)) => {
                let before = std::mem::replace(&mut self.client, self.newcomer.take());
                if let Some(before) = before {
                    before.send(ToClient::Close(CloseReason::Replaced));
                }
                Some(Admitted::Attached(first))
            }
            (
                Listener::Sideband(_),
                Some(message @ (FromClient::Event(..) | FromClient::ClearOutput)),
            ) => Some(Admitted::Said(message)),
            (Listener::Sideband(index), None | Some(FromClient::Hangup)) => {
                self.sidebands.swap_remove(index);
                None
            }
            // What concerns a client's own sound, or its own credentials.
            (
                Listener::Sideband(_),
                Some(
                    FromClient::Audio { .. }
                    | FromClient::Played(_)
                    | FromClient::Ready
                    | FromClient::Extended
                    | FromClient::TokenAcknowledged(_)
                    | FromClient::TokenPresented(_),
                ),
            ) => None,
        }
    }
}

/// Waits for a neighbor's next message, and for room to pass it on.
async fn hear<In, Out>(
    inbox: &mut mpsc::Receiver<In>,
    onward: Option<&mpsc::Sender<Out>>,
) -> Option<In> {
    if let Some(onward) = onward {
        make_room(onward).await;
    }

    inbox.recv().await
}

async fn make_room<Out>(onward: &mpsc::Sender<Out>) {
    // If the way on is closed there is nothing to wait for: the session will be told.
    drop(onward.reserve_many(ROOM).await);
}

impl<Out, In> Line<Out, In> {
    fn send(&self, message: Out) -> Option<Loss> {
        match self.outbox.try_send(message) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(_)) => Some(Loss::Overrun),
            Err(mpsc::error::TrySendError::Closed(_)) => Some(Loss::Gone),
        }
    }
}

fn crowded() -> Fault {
    Fault::invalid(
        "too_many_sidebands",
        format!("{SIDEBANDS} connections listen to this call already; close one of them."),
    )
}
