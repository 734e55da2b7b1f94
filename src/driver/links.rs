//! The links of one session: the one in use, the next one beside it, and those that end.
//!
//! **Invariant:** a link that is left is told so and ends in good order, or within [`FAREWELL`].

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::core::port::{DialFailure, FromDialer, FromVoice, LinkEnd, ToClient, ToDialer, ToVoice};
use crate::core::session::{Input, Loss, Neighbor};
use crate::driver::{Line, make_room};

/// How long a link may take to end in good order.
const FAREWELL: Duration = Duration::from_secs(2);

/// A link: its queues, and the tasks that carry what is in them.
pub struct VoiceLine {
    pub line: Line<ToVoice, FromVoice>,
    /// They end when the outbox is dropped.
    pub tasks: JoinSet<()>,
}

/// A link that is being opened.
pub type Dialing = Pin<Box<dyn Future<Output = Result<VoiceLine, DialFailure>> + Send>>;

/// Who opens links for the session: with [`ToDialer::Open`] it begins to.
pub type Dialer = Box<dyn FnMut(ToDialer) -> Option<Dialing> + Send>;

pub(super) struct Links {
    current: Option<VoiceLine>,
    next: Option<VoiceLine>,
    dialer: Dialer,
    dialing: Option<Dialing>,
    farewells: JoinSet<()>,
}

impl Links {
    pub(super) fn new(first: Option<VoiceLine>, dialer: Dialer) -> Self {
        Self {
            current: first,
            next: None,
            dialer,
            dialing: None,
            farewells: JoinSet::new(),
        }
    }

    /// Says something on the link in use; what that brings about if it takes nothing.
    pub(super) fn say(&self, message: ToVoice) -> Option<Input> {
        let loss = self.current.as_ref()?.line.send(message)?;

        Some(Input::Lost(Neighbor::Voice, loss))
    }

    /// Says something on the next one. Should it take nothing, it is as good as gone.
    pub(super) fn say_next(&mut self, message: ToVoice) {
        if let Some(next) = &self.next
            && next.line.send(message).is_some()
            && let Some(lost) = self.next.take()
        {
            self.part(lost);
        }
    }

    pub(super) fn ask(&mut self, question: ToDialer) {
        if let Some(dialing) = (self.dialer)(question) {
            self.dialing = Some(dialing);
        }
    }

    /// The next link takes the place of the one in use.
    pub(super) fn switch(&mut self) {
        self.hang_up();
        self.current = self.next.take();
    }

    pub(super) fn hang_up(&mut self) {
        if let Some(left) = self.current.take() {
            self.part(left);
        }
    }

    /// Where words of the client's go, if there is a link.
    pub(super) fn outbox(&self) -> Option<mpsc::Sender<ToVoice>> {
        self.current.as_ref().map(|link| link.line.outbox.clone())
    }

    /// Waits for a word of the link in use, if there is room to pass it on, or news of the next one.
    pub(super) async fn hear(&mut self, onward: Option<&mpsc::Sender<ToClient>>) -> Input {
        loop {
            tokio::select! {
                message = hear(&mut self.current, onward) => return match message {
                    Some(message) => Input::Voice(message),
                    None => {
                        self.hang_up();
                        Input::Lost(Neighbor::Voice, Loss::Gone)
                    }
                },
                message = hear(&mut self.next, None) => return Input::Next(match message {
                    Some(message) => message,
                    None => {
                        self.next = None;
                        FromVoice::Down(LinkEnd::Lost)
                    }
                }),
                dialed = dialed(&mut self.dialing) => {
                    self.dialing = None;
                    match dialed {
                        // Its first word says what it is.
                        Ok(link) => self.next = Some(link),
                        Err(failure) => return Input::Dialer(FromDialer::Failed(failure)),
                    }
                }
                input = parted(&mut self.farewells) => return input,
            }
        }
    }

    /// Ends all links.
    pub(super) async fn close(mut self) {
        self.dialing = None;
        self.hang_up();
        if let Some(next) = self.next.take() {
            self.part(next);
        }
        while self.farewells.join_next().await.is_some() {}
    }

    fn part(&mut self, left: VoiceLine) {
        let VoiceLine { line, mut tasks } = left;
        self.farewells.spawn(async move {
            drop(line);
            let farewell = async { while tasks.join_next().await.is_some() {} };
            // What does not end in time is ended.
            let _ = timeout(FAREWELL, farewell).await;
        });
    }
}

async fn hear(
    link: &mut Option<VoiceLine>,
    onward: Option<&mpsc::Sender<ToClient>>,
) -> Option<FromVoice> {
    let Some(link) = link else {
        return pending().await;
    };
    if let Some(onward) = onward {
        make_room(onward).await;
    }

    link.line.inbox.recv().await
}

async fn dialed(dialing: &mut Option<Dialing>) -> Result<VoiceLine, DialFailure> {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}

/// Lets those go that have parted.
async fn parted<T>(farewells: &mut JoinSet<()>) -> T {
    while farewells.join_next().await.is_some() {}

    pending().await
}
