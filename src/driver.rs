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
use crate::core::port::{CloseReason, FromClient, FromVoice, ToClient, ToVoice};
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
    pub client: Line<ToClient, FromClient>,
    pub voice: Line<ToVoice, FromVoice>,
}

/// Runs `session` until it closes. `shutdown` asks it to come to an end; `cancel` hangs up.
pub async fn run(
    mut session: Session,
    mut lines: Lines,
    recorder: Recorder,
    shutdown: CancellationToken,
    cancel: CancellationToken,
) -> CloseReason {
    let mut shutting_down = false;
    let mut voice_gone = false;
    loop {
        while let Some(effect) = session.poll_effect() {
            let lost = match effect {
                Effect::Client(message) => lines.client.send(message, Neighbor::Client),
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

        let input = tokio::select! {
            biased;
            () = cancel.cancelled() => Input::Client(FromClient::Hangup),
            () = shutdown.cancelled(), if !shutting_down => {
                shutting_down = true;
                Input::Shutdown
            }
            () = clock::sleep_until(session.poll_timeout()) => {
                session.handle_timeout(clock::now());
                continue;
            }
            input = hear(&mut lines.voice.inbox, &lines.client.outbox), if !voice_gone => {
                match input {
                    Some(message) => Input::Voice(message),
                    None => {
                        voice_gone = true;
                        Input::Lost(Neighbor::Voice, Loss::Gone)
                    }
                }
            }
            input = hear(&mut lines.client.inbox, &lines.voice.outbox) => match input {
                Some(message) => Input::Client(message),
                None => Input::Lost(Neighbor::Client, Loss::Gone),
            },
        };
        session.handle(input, clock::now());
    }
}

/// Waits for a neighbor's next message, and for room to pass it on.
async fn hear<In, Out>(inbox: &mut mpsc::Receiver<In>, onward: &mpsc::Sender<Out>) -> Option<In> {
    // If the way on is closed there is nothing to wait for: the session will be told.
    drop(onward.reserve_many(ROOM).await);

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
