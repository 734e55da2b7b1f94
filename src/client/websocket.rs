//! The WebSocket leg: events both ways on one stream, sound inside them.
//!
//! **Invariants**
//! - A client that does not read, or says nothing at all, is gone after a set time.
//! - Nothing that a client sends ends its session, except an event over the limit.
//! - `voxline.*` events go only to a client that asked for them.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{interval_at, timeout};
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::core::port::{CloseReason, Fault, FaultKind, FromClient, ToClient};
use crate::wire::realtime::{Carrier, decode_client, encode_client};
use crate::wire::voxline::{self, FromDevice};

/// Answers of the leg's own that wait for the socket; then the client waits.
const REPLIES: usize = 8;

/// No message of `voxline.v1` is longer.
const LONGEST_REPORT: usize = 512;

/// How long a closing handshake may take.
const LINGER: Duration = Duration::from_secs(2);

/// OpenAI's words, and clients' cue to open the next session.
const EXPIRED: &str = "Your session hit the maximum duration of 60 minutes.";

/// What a leg needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long the client may refuse to take a message.
    pub write_time: Duration,
    /// How often it is pinged. Two intervals without a sign of life, and it is gone.
    pub ping_interval: Duration,
    /// Whether it asked for `voxline.v1`.
    pub notices: bool,
}

/// One client on a WebSocket.
pub struct Leg {
    socket: WebSocket,
    settings: Settings,
    end: End,
}

/// What ended a leg.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Its session.
    Session,
    /// The client closed it, broke off, or went silent.
    Client,
    /// An event over the limit: the stream cannot be read beyond it.
    Oversize,
}

impl Leg {
    pub fn new(socket: WebSocket, settings: Settings) -> Self {
        Self {
            socket,
            settings,
            end: End::Session,
        }
    }

    /// Carries messages until the client or the session has gone.
    pub async fn run(
        &mut self,
        to_session: mpsc::Sender<FromClient>,
        from_session: mpsc::Receiver<ToClient>,
        cancel: CancellationToken,
    ) {
        let (sink, stream) = (&mut self.socket).split();
        let (replies, replies_inbox) = mpsc::channel(REPLIES);
        let reader = read(stream, self.settings, to_session, replies);
        let writer = write(sink, self.settings, from_session, replies_inbox);
        self.end = tokio::select! {
            biased;
            () = cancel.cancelled() => End::Session,
            end = reader => end,
            end = writer => end,
        };
        if self.end == End::Oversize {
            let fault = Fault::invalid(
                "invalid_event",
                "The event is larger than this relay takes in one; send sound in smaller pieces.",
            );
            self.send(ToClient::Fault(fault)).await;
        }
    }

    /// Tells the client why its session has ended.
    pub async fn close(self, reason: CloseReason) {
        let (code, text) = match (self.end, reason) {
            (End::Oversize, _) => (close_code::SIZE, "invalid_request_error.invalid_event"),
            (End::Client, _) => return,
            (End::Session, CloseReason::Hangup) => (close_code::NORMAL, "The call was hung up."),
            (End::Session, CloseReason::Idle) => (close_code::NORMAL, "Nobody spoke for too long."),
            (End::Session, CloseReason::Overrun) => (
                close_code::POLICY,
                "The client did not keep up with its messages.",
            ),
            (End::Session, CloseReason::ProviderGone) => {
                (close_code::AGAIN, "The voice provider is gone; try again.")
            }
            (End::Session, CloseReason::Expired) => (close_code::AWAY, EXPIRED),
            (End::Session, CloseReason::Shutdown) => (
                close_code::RESTART,
                "The relay is restarting; connect again.",
            ),
        };
        self.close_with(code, text).await;
    }

    /// Turns the client away as OpenAI does: an `error` event, then a close that names it.
    pub async fn refuse(mut self, fault: Fault, code: u16) {
        let kind = match fault.kind {
            FaultKind::InvalidRequest => "invalid_request_error",
            FaultKind::Server => "server_error",
        };
        let reason = format!("{kind}.{}", fault.code);
        self.send(ToClient::Fault(fault)).await;
        self.close_with(code, &reason).await;
    }

    async fn send(&mut self, message: ToClient) {
        if let Some(text) = encode_client(&message) {
            // A client that is gone needs no answer.
            let _ = timeout(LINGER, self.socket.send(text.into())).await;
        }
    }

    /// Waits for the other side's close too: whoever drops a socket with unread data on it takes
    /// back what was sent last.
    async fn close_with(mut self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let handshake = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        let _ = timeout(LINGER, handshake).await;
    }
}

async fn read(
    mut stream: impl Stream<Item = Result<Message, axum::Error>> + Unpin,
    settings: Settings,
    to_session: mpsc::Sender<FromClient>,
    replies: mpsc::Sender<Message>,
) -> End {
    loop {
        let text = match timeout(settings.ping_interval * 2, stream.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Binary(_)))) => {
                let fault = Fault::invalid(
                    "invalid_event",
                    "Binary messages are not understood; send each event as JSON text.",
                );
                reply(&replies, ToClient::Fault(fault)).await;
                continue;
            }
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            Ok(Some(Err(error))) if is_oversize(&error) => return End::Oversize,
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return End::Client,
            Err(_silence) => return End::Client,
        };
        if settings.notices
            && text.len() <= LONGEST_REPORT
            && let Some(report) = voxline::decode(&text)
        {
            match report {
                FromDevice::Ping { id } => {
                    let _ = replies.send(voxline::pong(id).into()).await;
                }
                // The client owns playback here, and truncates by itself.
                FromDevice::Playout { .. } => {}
            }
            continue;
        }
        match decode_client(&text, Carrier::WebSocket, clock::now()) {
            Ok(message) => {
                if to_session.send(message).await.is_err() {
                    // The writer brings the session's last words out, and then ends the leg.
                    return std::future::pending().await;
                }
            }
            Err(fault) => reply(&replies, ToClient::Fault(fault)).await,
        }
    }
}

async fn reply(replies: &mpsc::Sender<Message>, message: ToClient) {
    if let Some(text) = encode_client(&message) {
        // Without a writer the leg is about to end.
        let _ = replies.send(text.into()).await;
    }
}

async fn write(
    mut sink: impl Sink<Message> + Unpin,
    settings: Settings,
    mut from_session: mpsc::Receiver<ToClient>,
    mut replies: mpsc::Receiver<Message>,
) -> End {
    let first_ping = clock::now() + settings.ping_interval;
    let mut pings = interval_at(first_ping.into(), settings.ping_interval);
    loop {
        let message = tokio::select! {
            Some(reply) = replies.recv() => reply,
            said = from_session.recv() => match said {
                Some(ToClient::Notice(_)) if !settings.notices => continue,
                Some(said) => match encode_client(&said) {
                    Some(text) => text.into(),
                    None => continue,
                },
                None => return End::Session,
            },
            _ = pings.tick() => Message::Ping("ping".into()),
        };
        match timeout(settings.write_time, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return End::Client,
        }
    }
}

fn is_oversize(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|error| error.downcast_ref::<tungstenite::Error>())
        .is_some_and(|error| matches!(error, tungstenite::Error::Capacity(_)))
}
