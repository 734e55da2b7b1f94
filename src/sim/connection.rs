//! One client's connection: frames and ticks in, events out.
//!
//! **Invariants:** it waits in one place; it reads no further while much is unsent, so a client
//! that asks and does not listen is held back; one that does not listen at all is closed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::sim::admission::Refusal;
use crate::sim::control::{Order, Seat};
use crate::sim::protocol::ids::Ids;
use crate::sim::protocol::server::{Envelope, ErrorBody, ServerEvent};
use crate::sim::report::End;
use crate::sim::session::{Output, Session};
use crate::sim::wire::Fuse;

/// As often as OpenAI.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// With this much unsent, nothing more is read.
const READ_UNTIL_UNSENT: usize = 1 << 20;
/// With this much unsent, the client is given up.
const MAX_UNSENT: usize = 32 << 20;
/// How long a client may take no byte of what is unsent.
const MAX_STALL: Duration = Duration::from_secs(20);
/// How long a client may take to answer a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Serves a session until either side ends it.
pub(crate) async fn run(
    socket: WebSocket,
    mut session: Session,
    mut seat: Seat,
    fuse: Fuse,
    cancel: CancellationToken,
) -> End {
    let mut link = Link::new(socket);
    let ending = serve(&mut link, &mut session, &mut seat, &cancel).await;
    let end = ending.end();
    // It is known how it ended before the client can know.
    seat.leave(session.report(Some(end), clock::now()));
    match ending {
        Ending::At(End::Reset) => fuse.blow(),
        Ending::At(_) => {}
        Ending::Close { code, reason, .. } => link.close(code, reason).await,
    }
    end
}

/// How a connection is to end.
enum Ending {
    At(End),
    /// In order.
    Close {
        end: End,
        code: u16,
        reason: String,
    },
}

impl Ending {
    fn end(&self) -> End {
        match self {
            Self::At(end) | Self::Close { end, .. } => *end,
        }
    }
}

async fn serve(
    link: &mut Link,
    session: &mut Session,
    seat: &mut Seat,
    cancel: &CancellationToken,
) -> Ending {
    let mut ping_at = clock::now() + PING_INTERVAL;
    let mut stall_at = None;
    loop {
        while let Some(output) = session.poll_output() {
            match output {
                Output::Event(envelope) => link.push(Message::Text(envelope.to_json().into())),
                Output::Garbage(text) => link.push(Message::Text(text.into())),
                Output::BinaryGarbage => link.push(Message::Binary(b"garbage".as_slice().into())),
                Output::Close { code, reason } => {
                    let end = End::Closed;
                    return Ending::Close { end, code, reason };
                }
                Output::HangUp => return Ending::At(End::HungUp),
                Output::Reset => return Ending::At(End::Reset),
            }
        }
        if link.unsent > MAX_UNSENT {
            return Ending::At(End::Slow);
        }
        if !link.is_waiting() {
            stall_at = None;
        } else if link.take_progress() || stall_at.is_none() {
            stall_at = Some(clock::now() + MAX_STALL);
        }
        let wake = [session.poll_timeout(), stall_at, Some(ping_at)];
        let wake = wake.into_iter().flatten().min();
        let woken = tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Ending::Close {
                    end: End::Shutdown,
                    code: 1001,
                    reason: "The server is shutting down.".to_owned(),
                };
            }
            order = seat.order() => Woken::Ordered(order),
            () = clock::sleep_until(wake) => Woken::Due,
            incoming = poll_fn(|cx| link.poll_incoming(cx)) => Woken::Incoming(incoming),
        };
        let now = clock::now();
        match woken {
            Woken::Ordered(Order::Faults(faults)) => session.set_faults(faults),
            Woken::Ordered(Order::Act(act)) => session.act(act, now),
            Woken::Ordered(Order::Report(answer)) => {
                let _ = answer.send(session.report(None, now));
            }
            Woken::Incoming(Incoming::Text(text)) => session.handle_text(&text, now),
            Woken::Incoming(Incoming::Binary) => session.handle_binary(now),
            Woken::Incoming(Incoming::Sent) | Woken::Due => {}
            Woken::Incoming(Incoming::TooLarge) => {
                return Ending::Close {
                    end: End::Closed,
                    code: 1009,
                    reason: "An event may have at most 16 MiB.".to_owned(),
                };
            }
            Woken::Incoming(Incoming::Gone) => return Ending::At(End::Gone),
        }
        session.handle_timeout(now);
        if now >= ping_at {
            ping_at = now + PING_INTERVAL;
            link.push(Message::Ping(b"sim!".as_slice().into()));
        }
        if stall_at.is_some_and(|stall_at| now >= stall_at) && !link.take_progress() {
            return Ending::At(End::Slow);
        }
    }
}

/// Why the loop goes on.
enum Woken {
    Ordered(Order),
    Incoming(Incoming),
    Due,
}

/// Tells a client that it may not come in.
pub(crate) async fn refuse(socket: WebSocket, refusal: Refusal, seed: u64) -> End {
    let mut link = Link::new(socket);
    let error = ErrorBody::new(refusal.error, None);
    let envelope = Envelope {
        event_id: Ids::new(seed).next("event"),
        event: ServerEvent::Error { error },
    };
    link.push(Message::Text(envelope.to_json().into()));
    link.close(refusal.close, refusal.reason).await;
    End::Closed
}

/// A socket and what is still to be written to it.
struct Link {
    socket: WebSocket,
    queue: VecDeque<Message>,
    /// Bytes in the queue.
    unsent: usize,
    /// Something has been written since it was last flushed.
    unflushed: bool,
    progress: bool,
}

enum Incoming {
    Text(Utf8Bytes),
    Binary,
    /// All that was unsent is sent.
    Sent,
    TooLarge,
    Gone,
}

impl Link {
    fn new(socket: WebSocket) -> Self {
        Self {
            socket,
            queue: VecDeque::new(),
            unsent: 0,
            unflushed: false,
            progress: false,
        }
    }

    fn push(&mut self, message: Message) {
        self.unsent += length(&message);
        self.queue.push_back(message);
    }

    fn is_waiting(&self) -> bool {
        self.unflushed || !self.queue.is_empty()
    }

    /// Returns whether anything was taken from the queue since the last call.
    fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Closes in order: what is unsent, the close, the client's answer to it. At most
    /// [`CLOSE_WITHIN`].
    async fn close(&mut self, code: u16, reason: String) {
        let reason = reason.into();
        self.push(Message::Close(Some(CloseFrame { code, reason })));
        let closed = async {
            while self.is_waiting() && poll_fn(|cx| self.poll_send(cx)).await.is_ok() {}
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        // A client that does not answer is left alone.
        let _ = timeout(CLOSE_WITHIN, closed).await;
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if self.is_waiting()
            && let Poll::Ready(sent) = self.poll_send(cx)
        {
            return Poll::Ready(sent.map_or(Incoming::Gone, |()| Incoming::Sent));
        }
        while self.unsent < READ_UNTIL_UNSENT {
            return Poll::Ready(match ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Text(text))) => Incoming::Text(text),
                Some(Ok(Message::Binary(_))) => Incoming::Binary,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_))) | None => Incoming::Gone,
                Some(Err(error)) if is_too_large(&error) => Incoming::TooLarge,
                Some(Err(_)) => Incoming::Gone,
            });
        }
        Poll::Pending
    }

    /// Writes the queue, then flushes.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        while !self.queue.is_empty() {
            ready!(self.socket.poll_ready_unpin(cx))?;
            if let Some(message) = self.queue.pop_front() {
                self.unsent -= length(&message);
                self.unflushed = true;
                self.progress = true;
                self.socket.start_send_unpin(message)?;
            }
        }
        ready!(self.socket.poll_flush_unpin(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(frame) => frame.as_ref().map_or(0, |frame| frame.reason.len()),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    use std::error::Error;
    error.source().is_some_and(|source| {
        matches!(
            source.downcast_ref(),
            Some(tokio_tungstenite::tungstenite::Error::Capacity(_))
        )
    })
}
