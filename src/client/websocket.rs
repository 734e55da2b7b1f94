//! The WebSocket leg: events both ways on one stream, sound inside them.
//!
//! **Invariants**
//! - A client that does not read, or says nothing at all, is gone after a set time.
//! - Nothing that a client sends ends its session, except an event of twice the limit.
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
    /// The largest event that is understood. A larger one is answered by an error.
    pub event: usize,
    /// Whether it asked for `voxline.v1`.
    pub notices: bool,
}

impl Settings {
    /// The largest event that is read at all: what is to be answered must be read first.
    pub fn readable(&self) -> usize {
        self.event.saturating_mul(2)
    }
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
    /// An event that cannot be read, and so nothing that follows it.
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
            self.send(oversize(self.settings)).await;
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

    /// Gives the client time to read: whoever drops a socket with unread data on it takes back
    /// what was sent last.
    async fn close_with(mut self, code: u16, reason: &str) {
        let cannot_read = self.end == End::Oversize;
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let handshake = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.recv().await {}
                if cannot_read {
                    std::future::pending().await
                }
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
        if text.len() > settings.event {
            reply(&replies, oversize(settings)).await;
            continue;
        }
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

fn oversize(settings: Settings) -> ToClient {
    let message = format!(
        "The event is larger than {} bytes; send sound in smaller pieces.",
        settings.event
    );
    ToClient::Fault(Fault::invalid("invalid_event", message))
}

fn is_oversize(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|error| error.downcast_ref::<tungstenite::Error>())
        .is_some_and(|error| matches!(error, tungstenite::Error::Capacity(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::WebSocketUpgrade;
    use axum::routing::get;
    use serde_json::{Value, json};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;
    use tokio_tungstenite::tungstenite::Message as Sent;
    use tokio_tungstenite::{WebSocketStream, client_async};

    use crate::core::port::{ClientEvent, Json, Notice, State};

    const PATIENT: Settings = Settings {
        write_time: Duration::from_secs(10),
        ping_interval: Duration::from_secs(20),
        event: 64 << 10,
        notices: false,
    };

    type Client = WebSocketStream<TcpStream>;

    /// A client, and the session's side of its leg.
    struct Line {
        client: Client,
        to_client: mpsc::Sender<ToClient>,
        from_client: mpsc::Receiver<FromClient>,
        cancel: CancellationToken,
        tasks: JoinSet<()>,
    }

    async fn connect(settings: Settings, reason: CloseReason) -> Line {
        let (to_session, from_client) = mpsc::channel(8);
        let (to_client, from_session) = mpsc::channel(8);
        let cancel = CancellationToken::new();
        let ends = std::sync::Mutex::new(Some((to_session, from_session, cancel.clone())));
        let handler = move |upgrade: WebSocketUpgrade| {
            let (to_session, from_session, cancel) = ends.lock().unwrap().take().unwrap();
            let limit = settings.readable();
            let upgrade = upgrade.max_message_size(limit).max_frame_size(limit);
            async move {
                upgrade.on_upgrade(async move |socket| {
                    let mut leg = Leg::new(socket, settings);
                    leg.run(to_session, from_session, cancel).await;
                    leg.close(reason).await;
                })
            }
        };
        let handler = std::sync::Arc::new(handler);
        let router = Router::new().route("/", get(move |upgrade| handler(upgrade)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/");
        let (client, _) = client_async(url, stream).await.unwrap();
        Line {
            client,
            to_client,
            from_client,
            cancel,
            tasks,
        }
    }

    async fn next_event(client: &mut Client) -> Value {
        loop {
            match client.next().await.unwrap().unwrap() {
                Sent::Text(text) => return serde_json::from_str(&text).unwrap(),
                Sent::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn next_close(client: &mut Client) -> (u16, String) {
        loop {
            match client.next().await.unwrap().unwrap() {
                Sent::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Sent::Text(_) | Sent::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn events_pass_both_ways() {
        let mut line = connect(PATIENT, CloseReason::Hangup).await;
        let create = r#"{"type":"response.create"}"#;
        line.client.send(create.into()).await.unwrap();
        assert_eq!(
            line.from_client.recv().await.unwrap(),
            FromClient::Event(ClientEvent::CreateResponse, Json::from(create))
        );
        let append = r#"{"type":"input_audio_buffer.append","audio":"AAEC"}"#;
        line.client.send(append.into()).await.unwrap();
        assert!(matches!(
            line.from_client.recv().await.unwrap(),
            FromClient::Audio { payload, .. } if payload[..] == [0, 1, 2]
        ));
        let event = ToClient::Event(Json::from(r#"{"type":"session.created"}"#));
        line.to_client.send(event).await.unwrap();
        assert_eq!(
            next_event(&mut line.client).await,
            json!({"type": "session.created"})
        );
    }

    #[tokio::test]
    async fn a_bad_message_is_answered_and_the_session_lives_on() {
        let mut line = connect(PATIENT, CloseReason::Hangup).await;
        for (message, code) in [
            (Sent::binary(vec![1, 2]), "invalid_event"),
            (Sent::text("{"), "invalid_json"),
            (Sent::text(r#"{"type":"no.such"}"#), "invalid_value"),
            (
                Sent::text(r#"{"type":"voxline.ping","id":1}"#),
                "invalid_value",
            ),
        ] {
            line.client.send(message).await.unwrap();
            let event = next_event(&mut line.client).await;
            assert_eq!(event["type"], "error");
            assert_eq!(event["error"]["code"], code, "{event}");
        }
        let create = r#"{"type":"response.create"}"#;
        line.client.send(create.into()).await.unwrap();
        line.from_client.recv().await.unwrap();
    }

    #[tokio::test]
    async fn an_event_over_the_limit_is_refused_and_the_session_lives_on() {
        let mut line = connect(PATIENT, CloseReason::Hangup).await;
        let large = format!(r#"{{"type":"{}"}}"#, "x".repeat(PATIENT.event));
        line.client.send(large.into()).await.unwrap();
        let event = next_event(&mut line.client).await;
        assert_eq!(event["error"]["code"], "invalid_event");
        assert!(
            event["error"]["message"]
                .as_str()
                .unwrap()
                .contains("65536")
        );
        let create = r#"{"type":"response.create"}"#;
        line.client.send(create.into()).await.unwrap();
        line.from_client.recv().await.unwrap();
    }

    #[tokio::test]
    async fn an_event_of_twice_the_limit_is_the_last_one() {
        let mut line = connect(PATIENT, CloseReason::Hangup).await;
        let large = "x".repeat(2 * PATIENT.event + 1);
        line.client.send(large.into()).await.unwrap();
        let event = next_event(&mut line.client).await;
        assert_eq!(event["error"]["code"], "invalid_event");
        assert_eq!(next_close(&mut line.client).await.0, 1009);
        assert!(line.from_client.recv().await.is_none());
    }

    #[tokio::test]
    async fn only_a_client_that_asked_gets_notices_and_pongs() {
        let notice = || ToClient::Notice(Notice::State(State::Idle));
        let event = || ToClient::Event(Json::from(r#"{"type":"last"}"#));

        let mut line = connect(PATIENT, CloseReason::Hangup).await;
        line.to_client.send(notice()).await.unwrap();
        line.to_client.send(event()).await.unwrap();
        assert_eq!(next_event(&mut line.client).await["type"], "last");

        let settings = Settings {
            notices: true,
            ..PATIENT
        };
        let mut line = connect(settings, CloseReason::Hangup).await;
        line.to_client.send(notice()).await.unwrap();
        assert_eq!(next_event(&mut line.client).await["type"], "voxline.state");
        let ping = r#"{"type":"voxline.ping","id":7}"#;
        line.client.send(ping.into()).await.unwrap();
        assert_eq!(
            next_event(&mut line.client).await,
            json!({"type": "voxline.pong", "id": 7})
        );
    }

    #[tokio::test]
    async fn the_close_says_why_the_session_ended() {
        for (reason, code) in [
            (CloseReason::Hangup, 1000),
            (CloseReason::Idle, 1000),
            (CloseReason::Expired, 1001),
            (CloseReason::Overrun, 1008),
            (CloseReason::Shutdown, 1012),
            (CloseReason::ProviderGone, 1013),
        ] {
            let mut line = connect(PATIENT, reason).await;
            // What was said before the end is still heard.
            let event = ToClient::Event(Json::from(r#"{"type":"last"}"#));
            line.to_client.send(event).await.unwrap();
            drop(line.to_client);
            assert_eq!(next_event(&mut line.client).await["type"], "last");
            assert_eq!(next_close(&mut line.client).await.0, code, "{reason:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_its_leg() {
        let mut line = connect(PATIENT, CloseReason::Hangup).await;
        line.client.close(None).await.unwrap();
        assert!(line.from_client.recv().await.is_none());

        let mut line = connect(PATIENT, CloseReason::Hangup).await;
        drop(line.client);
        assert!(line.from_client.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_leg_can_be_cut_off() {
        let mut line = connect(PATIENT, CloseReason::Shutdown).await;
        line.cancel.cancel();
        assert_eq!(next_close(&mut line.client).await.0, 1012);
        line.tasks.shutdown().await;
    }

    #[tokio::test]
    async fn a_client_that_does_not_answer_pings_is_gone() {
        let settings = Settings {
            ping_interval: Duration::from_millis(50),
            ..PATIENT
        };
        let mut line = connect(settings, CloseReason::Hangup).await;
        // A client that is never polled never answers; the session's side sees it go.
        assert!(line.from_client.recv().await.is_none());
        let Some(Ok(Sent::Ping(payload))) = line.client.next().await else {
            panic!("it was never asked");
        };
        assert_eq!(payload.len(), 4);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_gone() {
        let settings = Settings {
            write_time: Duration::from_millis(50),
            ..PATIENT
        };
        let line = connect(settings, CloseReason::Hangup).await;
        let event = || ToClient::Event(Json::from("x".repeat(1 << 20)));
        while line.to_client.send(event()).await.is_ok() {}
    }
}
