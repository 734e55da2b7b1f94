//! The WebSocket leg: events both ways on one stream, sound inside them.
//!
//! **Invariants**
//! - A client that does not read, or says nothing at all, is gone after a set time.
//! - No event that a client sends ends its session, except one of twice the limit. What breaks
//!   WebSocket's own rules (RFC 6455) ends it, with the close code for it.
//! - `voxline.*` events go only to a client that asked for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{interval_at, timeout};
use tokio_tungstenite::tungstenite;

use crate::client::ear::Listener;
use crate::client::timing::Timing;
use crate::clock;
use crate::core::audio::Format;
use crate::core::port::{CloseReason, Fault, FaultKind, FromClient, Played, ToClient, Ways};
use crate::wire::realtime::{Carrier, decode_client, encode_client};
use crate::wire::voxline::{self, FromDevice, Place};

/// Answers of the leg's own that wait for the socket; then the client waits.
const REPLIES: usize = 8;

/// No message of `voxline.v1` is longer.
const LONGEST_REPORT: usize = voxline::MAX_TOKEN + 128;

/// Sound that a microphone sends at once is a second long at most; what is longer was recorded.
const LONGEST_SOUND: usize = 1_000 * Format::Pcm.bytes_per_ms();

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
    /// How the session's sound travels: one that joins a call from beside says what the call's
    /// own client may say.
    pub carrier: Carrier,
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
}

/// What ended a leg.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Its session, for this reason, or for none that it could tell.
    Session(Option<CloseReason>),
    /// The client, which began the closing handshake.
    Closed,
    /// The same, only to leave this connection: it has another one, or means to.
    Left,
    /// The client, which broke off, or went silent.
    Gone,
    /// An event that cannot be read, and so nothing that follows it.
    Oversize,
    /// The client broke the protocol, and nothing that follows can be trusted.
    Malformed(u16),
}

impl Leg {
    pub fn new(socket: WebSocket, settings: Settings) -> Self {
        Self { socket, settings }
    }

    /// How the session's sound travels on it.
    pub fn carrier(&self) -> Carrier {
        self.settings.carrier
    }

    /// Carries messages until the client or the session has gone. A client that is still there
    /// is told why.
    pub async fn run(
        mut self,
        to_session: mpsc::Sender<FromClient>,
        mut from_session: mpsc::Receiver<ToClient>,
    ) {
        let (sink, stream) = (&mut self.socket).split();
        let (replies, replies_inbox) = mpsc::channel(REPLIES);
        let (ear, timing) = (Ear::new(self.settings.carrier), Clock::default());
        let reader = read(stream, self.settings, &ear, &timing, &to_session, replies);
        let writer = write(
            sink,
            self.settings,
            &ear,
            &timing,
            &to_session,
            &mut from_session,
            replies_inbox,
        );
        let end = tokio::select! {
            biased;
            end = writer => end,
            end = reader => end,
        };
        tracing::debug!(?end, "WebSocket leg ends");
        match end {
            End::Closed | End::Oversize | End::Malformed(_) => {
                // Else the session would wait for the client to come back.
                let _ = timeout(LINGER, to_session.send(FromClient::Hangup)).await;
            }
            End::Session(_) | End::Left | End::Gone => {}
        }
        drop((to_session, from_session));
        match end {
            End::Closed | End::Left => self.part().await,
            End::Gone => {}
            End::Session(reason) => {
                let (code, text) = farewell(reason);
                self.close(code, text).await;
            }
            End::Oversize => {
                self.send(ToClient::Fault(oversize(self.settings))).await;
                let text = "invalid_request_error.invalid_event";
                self.close(close_code::SIZE, text).await;
            }
            End::Malformed(code) => {
                let text = "The frame breaks RFC 6455; send events as UTF-8 text.";
                self.close(code, text).await;
            }
        }
    }

    /// Turns the client away as OpenAI does: an `error` event, then a close that names it.
    pub async fn refuse(mut self, fault: Fault, code: u16) {
        let kind = match fault.kind {
            FaultKind::InvalidRequest => "invalid_request_error",
            FaultKind::Server => "server_error",
        };
        let reason = format!("{kind}.{}", fault.code);
        self.send(ToClient::Fault(fault)).await;
        self.close(code, &reason).await;
    }

    async fn send(&mut self, message: ToClient) {
        if let Some(text) = encode_client(&message) {
            // A client that is gone needs no answer.
            let _ = timeout(LINGER, self.socket.send(text.into())).await;
        }
    }

    /// Answers the client's close: the answer waits on the socket until it is used again.
    async fn part(mut self) {
        let handshake = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        let _ = timeout(LINGER, handshake).await;
    }

    /// Gives the client time to read: whoever drops a socket with unread data on it takes back
    /// what was sent last.
    async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let handshake = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                let mut unreadable = matches!(
                    code,
                    close_code::SIZE | close_code::INVALID | close_code::PROTOCOL
                );
                while let Some(read) = self.socket.recv().await {
                    unreadable |= read.is_err_and(|error| broken(&error) != End::Gone);
                }
                if unreadable {
                    std::future::pending().await
                }
            }
        };
        let _ = timeout(LINGER, handshake).await;
    }
}

/// OpenAI's clients connect again after 1001, 1011, 1012 and 1013, and not after the others.
fn farewell(reason: Option<CloseReason>) -> (u16, &'static str) {
    match reason {
        Some(CloseReason::Hangup) => (close_code::NORMAL, "The call was hung up."),
        Some(CloseReason::Idle) => (close_code::NORMAL, "Nobody spoke for too long."),
        Some(CloseReason::Overrun) => (
            close_code::POLICY,
            "The client did not keep up with its messages.",
        ),
        Some(CloseReason::ProviderGone) => {
            (close_code::AGAIN, "The voice provider is gone; try again.")
        }
        Some(CloseReason::Expired) => (close_code::AWAY, EXPIRED),
        Some(CloseReason::Shutdown) => (
            close_code::RESTART,
            "The relay is restarting; connect again.",
        ),
        // OpenAI's code for a credential that is not accepted.
        Some(CloseReason::Revoked) => (3000, "The session was revoked."),
        Some(CloseReason::TooLong) => (
            close_code::NORMAL,
            "The session has lasted as long as a session may.",
        ),
        Some(CloseReason::Replaced) => (
            close_code::NORMAL,
            "Another connection has taken this one's place.",
        ),
        Some(CloseReason::Crowded) => (
            close_code::POLICY,
            "Too many connections listen to this call.",
        ),
        None => (close_code::ERROR, "The session broke; connect again."),
    }
}

/// What is known of the way to the client: the reader's and the writer's, which share a task.
#[derive(Default)]
struct Clock(Mutex<Timing>);

impl Clock {
    fn lock(&self) -> MutexGuard<'_, Timing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The relay's own ear, where the relay plays: the reader's and the writer's, which share a task.
struct Ear(Option<Mutex<Listener>>);

impl Ear {
    fn new(carrier: Carrier) -> Self {
        Self(carrier.relay_plays().then(|| Mutex::new(Listener::new())))
    }

    fn play(&self, said: &ToClient, now: Instant) {
        if let (
            Some(ear),
            ToClient::Play {
                frame, position, ..
            },
        ) = (&self.0, said)
        {
            let mut ear = ear.lock().unwrap_or_else(PoisonError::into_inner);
            ear.play(frame, *position, now);
        }
    }

    fn hear(&self, said: &FromClient, now: Instant) -> Vec<FromClient> {
        let (Some(ear), FromClient::Audio { payload, received }) = (&self.0, said) else {
            return vec![];
        };
        if payload.len() > LONGEST_SOUND {
            return vec![];
        }
        let (pairs, _) = payload.as_chunks();
        let pcm: Vec<i16> = pairs.iter().copied().map(i16::from_le_bytes).collect();
        let mut ear = ear.lock().unwrap_or_else(PoisonError::into_inner);

        ear.hear(&pcm, *received, now)
    }
}

async fn read(
    mut stream: impl Stream<Item = Result<Message, axum::Error>> + Unpin,
    settings: Settings,
    ear: &Ear,
    timing: &Clock,
    to_session: &mpsc::Sender<FromClient>,
    replies: mpsc::Sender<Message>,
) -> End {
    let greeting = match settings.notices {
        true => FromClient::Extended,
        false => FromClient::Ready,
    };
    // A session that is gone is noticed below.
    let _ = to_session.send(greeting).await;
    loop {
        let text = match timeout(settings.ping_interval * 2, stream.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Binary(_)))) => {
                let fault = Fault::invalid(
                    "invalid_event",
                    "Binary messages are not understood; send each event as JSON text.",
                );
                pass(to_session, FromClient::Rejected(fault)).await;
                continue;
            }
            Ok(Some(Ok(Message::Ping(_)))) => continue,
            Ok(Some(Ok(Message::Pong(_)))) => {
                let ways = timing.lock().answered(clock::now());
                tell(to_session, ways).await;
                continue;
            }
            Ok(Some(Err(error))) => return broken(&error),
            Ok(Some(Ok(Message::Close(Some(frame))))) if frame.code == voxline::LEFT => {
                return End::Left;
            }
            Ok(Some(Ok(Message::Close(_)))) => return End::Closed,
            Ok(None) | Err(_) => return End::Gone,
        };
        if text.len() > settings.event {
            pass(to_session, FromClient::Rejected(oversize(settings))).await;
            continue;
        }
        if settings.notices
            && text.len() <= LONGEST_REPORT
            && let Some(report) = voxline::decode(&text)
        {
            match report {
                FromDevice::Ping(ping) => {
                    let received = clock::now();
                    // Without a writer the leg is about to end.
                    let _ = replies.send(voxline::pong(ping.id).into()).await;
                    if let Some(every) = ping.every {
                        pass(to_session, FromClient::Alive { every }).await;
                    }
                    let ways = timing.lock().ping(&ping, received, clock::now());
                    tell(to_session, ways).await;
                }
                FromDevice::Playout {
                    place: Place::Position(position),
                    when,
                    output_latency,
                } if settings.carrier.relay_plays() => {
                    let at = timing.lock().instant(when, clock::now());
                    if let Some((at, exact)) = at {
                        let position = position.saturating_sub(output_latency);
                        let played = Played {
                            position,
                            at,
                            exact,
                        };
                        pass(to_session, FromClient::Played(played)).await;
                    }
                }
                // Who owns the playback has nobody to report to; and here are no RTP timestamps.
                FromDevice::Playout { .. } => {}
                FromDevice::Said(message) => pass(to_session, message).await,
            }
            continue;
        }
        let message = decode_client(&text, settings.carrier, clock::now());
        let message = message.unwrap_or_else(FromClient::Rejected);
        let speech = ear.hear(&message, clock::now());
        pass(to_session, message).await;
        // The sound comes first: what it is taken for holds back nothing.
        for speech in speech {
            pass(to_session, speech).await;
        }
    }
}

async fn tell(to_session: &mpsc::Sender<FromClient>, ways: Option<Ways>) {
    if let Some(ways) = ways {
        pass(to_session, FromClient::Ways(ways)).await;
    }
}

async fn pass(to_session: &mpsc::Sender<FromClient>, message: FromClient) {
    if to_session.send(message).await.is_err() {
        // The writer brings the session's last words out, and then ends the leg.
        std::future::pending().await
    }
}

async fn write(
    mut sink: impl Sink<Message> + Unpin,
    settings: Settings,
    ear: &Ear,
    timing: &Clock,
    to_session: &mpsc::Sender<FromClient>,
    from_session: &mut mpsc::Receiver<ToClient>,
    mut replies: mpsc::Receiver<Message>,
) -> End {
    // The first one tells how far away the client is, unless it tells that itself.
    let first_ping = match settings.notices {
        true => clock::now() + settings.ping_interval,
        false => clock::now(),
    };
    let mut pings = interval_at(first_ping.into(), settings.ping_interval);
    loop {
        let mut first = None;
        let messages = tokio::select! {
            Some(reply) = replies.recv() => vec![reply],
            said = from_session.recv() => match said {
                Some(ToClient::Close(reason)) => return End::Session(Some(reason)),
                Some(ToClient::Missed(missed)) => {
                    missed.iter().filter_map(|said| encode(said, settings)).collect()
                }
                Some(said) => {
                    ear.play(&said, clock::now());
                    first = first_sound(&said);
                    encode(&said, settings).into_iter().collect()
                }
                None => return End::Session(None),
            },
            _ = pings.tick() => {
                timing.lock().asks(clock::now());
                vec![Message::Ping("ping".into())]
            }
        };
        for message in messages {
            match timeout(settings.write_time, sink.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return End::Gone,
            }
        }
        if let Some(position) = first {
            let at = clock::now();
            // Without it the turn is told by when the sound was handed to this leg.
            let _ = to_session.try_send(FromClient::Sent { position, at });
        }
    }
}

/// Returns the position of what is the first sound of an answer.
fn first_sound(said: &ToClient) -> Option<Duration> {
    if let ToClient::Play {
        position,
        first: true,
        ..
    } = said
    {
        Some(*position)
    } else {
        None
    }
}

fn encode(said: &ToClient, settings: Settings) -> Option<Message> {
    match said {
        ToClient::Notice(_) if !settings.notices => None,
        ToClient::Play {
            frame, position, ..
        } => Some(voxline::audio(*position, &frame.payload).into()),
        ToClient::Flush => Some(voxline::FLUSH.into()),
        ToClient::Event(_)
        | ToClient::Created { .. }
        | ToClient::Missed(_)
        | ToClient::Output(..)
        | ToClient::Failed(_)
        | ToClient::Truncated { .. }
        | ToClient::Notice(_)
        | ToClient::Fault(_)
        | ToClient::Close(_) => encode_client(said).map(Message::from),
    }
}

fn oversize(settings: Settings) -> Fault {
    let message = format!(
        "The event is larger than {} bytes; send sound in smaller pieces.",
        settings.event
    );
    Fault::invalid("invalid_event", message)
}

fn broken(error: &axum::Error) -> End {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError;

    let error = std::error::Error::source(error).and_then(|error| error.downcast_ref::<Error>());
    match error {
        Some(Error::Capacity(_)) => End::Oversize,
        Some(Error::Utf8(_)) => End::Malformed(close_code::INVALID),
        Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => End::Gone,
        Some(Error::Protocol(_)) => End::Malformed(close_code::PROTOCOL),
        // All others are of the connection.
        _ => End::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::WebSocketUpgrade;
    use axum::routing::get;
    use serde_json::{Value, json};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;
    use tokio_tungstenite::tungstenite::Message as Sent;
    use tokio_tungstenite::{WebSocketStream, client_async};

    use crate::core::audio::Frame;
    use crate::core::port::{ClientEvent, Json, Notice, State};

    const PATIENT: Settings = Settings {
        write_time: Duration::from_secs(10),
        ping_interval: Duration::from_secs(20),
        event: 64 << 10,
        notices: false,
        carrier: Carrier::WebSocket,
    };

    type Client = WebSocketStream<TcpStream>;

    /// A client, and the session's side of its leg.
    struct Line {
        client: Client,
        to_client: mpsc::Sender<ToClient>,
        from_client: mpsc::Receiver<FromClient>,
        _server: JoinSet<()>,
    }

    async fn connect(settings: Settings) -> Line {
        let (to_session, mut from_client) = mpsc::channel(8);
        let (to_client, from_session) = mpsc::channel(8);
        let ends = Mutex::new(Some((to_session, from_session)));
        let handler = move |upgrade: WebSocketUpgrade| {
            let (to_session, from_session) = ends.lock().unwrap().take().unwrap();
            let limit = settings.readable();
            let upgrade = upgrade.max_message_size(limit).max_frame_size(limit);
            async move {
                upgrade.on_upgrade(async move |socket| {
                    Leg::new(socket, settings)
                        .run(to_session, from_session)
                        .await;
                })
            }
        };
        let handler = std::sync::Arc::new(handler);
        let router = Router::new().route("/", get(move |upgrade| handler(upgrade)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/");
        let (client, _) = client_async(url, stream).await.unwrap();
        let greeting = match settings.notices {
            true => FromClient::Extended,
            false => FromClient::Ready,
        };
        assert_eq!(from_client.recv().await, Some(greeting));
        Line {
            client,
            to_client,
            from_client,
            _server: server,
        }
    }

    async fn next_event(client: &mut Client) -> Value {
        loop {
            match client.next().await.unwrap().unwrap() {
                Sent::Text(text) => return serde_json::from_str(&text).unwrap(),
                Sent::Ping(_) => {}
                other @ (Sent::Binary(_) | Sent::Pong(_) | Sent::Close(_) | Sent::Frame(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }

    async fn next_close(client: &mut Client) -> (u16, String) {
        loop {
            match client.next().await.unwrap().unwrap() {
                Sent::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Sent::Text(_) | Sent::Ping(_) => {}
                other @ (Sent::Binary(_) | Sent::Pong(_) | Sent::Close(None) | Sent::Frame(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }

    #[tokio::test]
    async fn events_pass_both_ways() {
        let mut line = connect(PATIENT).await;
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
    async fn what_is_no_event_is_the_session_s_to_answer() {
        let mut line = connect(PATIENT).await;
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
            let told = line.from_client.recv().await.unwrap();
            assert!(
                matches!(&told, FromClient::Rejected(fault) if fault.code == code),
                "{told:?}"
            );
        }
        let create = r#"{"type":"response.create"}"#;
        line.client.send(create.into()).await.unwrap();
        line.from_client.recv().await.unwrap();
    }

    #[tokio::test]
    async fn an_event_over_the_limit_is_refused_and_the_session_lives_on() {
        let mut line = connect(PATIENT).await;
        let large = format!(r#"{{"type":"{}"}}"#, "x".repeat(PATIENT.event));
        line.client.send(large.into()).await.unwrap();
        let told = line.from_client.recv().await.unwrap();
        assert!(
            matches!(&told, FromClient::Rejected(fault) if fault.message.contains("65536")),
            "{told:?}"
        );
        let create = r#"{"type":"response.create"}"#;
        line.client.send(create.into()).await.unwrap();
        line.from_client.recv().await.unwrap();
    }

    #[tokio::test]
    async fn an_event_of_twice_the_limit_is_the_last_one() {
        let mut line = connect(PATIENT).await;
        let large = "x".repeat(2 * PATIENT.event + 1);
        line.client.send(large.into()).await.unwrap();
        let event = next_event(&mut line.client).await;
        assert_eq!(event["error"]["code"], "invalid_event");
        assert_eq!(next_close(&mut line.client).await.0, 1009);
        assert_eq!(line.from_client.recv().await, Some(FromClient::Hangup));
    }

    #[tokio::test]
    async fn a_client_that_breaks_the_protocol_is_told_so() {
        for (frame, code) in [
            // A text frame that is not UTF-8.
            (&[0x81, 0x81, 0, 0, 0, 0, 0xff][..], 1007),
            // A text frame that is not masked.
            (&[0x81, 0x02, b'{', b'}'], 1002),
            // A frame of an unknown kind.
            (&[0x83, 0x80, 0, 0, 0, 0], 1002),
            // A close frame with half a code.
            (&[0x88, 0x81, 0, 0, 0, 0, 0x03], 1002),
        ] {
            let mut line = connect(PATIENT).await;
            line.client.get_mut().write_all(frame).await.unwrap();
            assert_eq!(next_close(&mut line.client).await.0, code, "{frame:x?}");
            assert_eq!(line.from_client.recv().await, Some(FromClient::Hangup));
        }
    }

    #[tokio::test]
    async fn only_a_client_that_asked_gets_notices_and_pongs() {
        let notice = || ToClient::Notice(Notice::State(State::Idle));
        let event = || ToClient::Event(Json::from(r#"{"type":"last"}"#));

        let mut line = connect(PATIENT).await;
        line.to_client.send(notice()).await.unwrap();
        line.to_client.send(event()).await.unwrap();
        assert_eq!(next_event(&mut line.client).await["type"], "last");

        let settings = Settings {
            notices: true,
            ..PATIENT
        };
        let mut line = connect(settings).await;
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
            (Some(CloseReason::Hangup), 1000),
            (Some(CloseReason::Idle), 1000),
            (Some(CloseReason::Expired), 1001),
            (Some(CloseReason::Overrun), 1008),
            (Some(CloseReason::Shutdown), 1012),
            (Some(CloseReason::ProviderGone), 1013),
            (None, 1011),
        ] {
            let mut line = connect(PATIENT).await;
            // What was said before the end is still heard.
            let event = ToClient::Event(Json::from(r#"{"type":"last"}"#));
            line.to_client.send(event).await.unwrap();
            if let Some(reason) = reason {
                line.to_client.send(ToClient::Close(reason)).await.unwrap();
            }
            drop(line.to_client);
            assert_eq!(next_event(&mut line.client).await["type"], "last");
            assert_eq!(next_close(&mut line.client).await.0, code, "{reason:?}");
        }
    }

    #[tokio::test]
    async fn who_comes_back_is_told_the_session_and_then_what_was_missed() {
        let mut line = connect(PATIENT).await;
        let event = |text: &str| ToClient::Event(Json::from(text));
        let updated = r#"{"type":"session.updated","event_id":"e1","session":{"voice":"sage"}}"#;
        let missed = vec![
            event(r#"{"type":"first"}"#),
            ToClient::Notice(Notice::State(State::Idle)),
            event(r#"{"type":"second"}"#),
        ];
        for message in [
            ToClient::Created {
                session: updated.into(),
                next: Some(3),
            },
            ToClient::Missed(missed),
            event(r#"{"type":"third"}"#),
        ] {
            line.to_client.send(message).await.unwrap();
        }

        let created = next_event(&mut line.client).await;
        assert_eq!(created["type"], "session.created");
        assert_eq!(created["session"]["voice"], "sage");
        assert_ne!(created["event_id"], "e1", "it is another event");
        for kind in ["first", "second", "third"] {
            assert_eq!(next_event(&mut line.client).await["type"], kind);
        }
    }

    #[tokio::test]
    async fn only_a_client_that_says_goodbye_has_hung_up() {
        let mut line = connect(PATIENT).await;
        line.client.close(None).await.unwrap();
        assert_eq!(line.from_client.recv().await, Some(FromClient::Hangup));
        assert!(line.from_client.recv().await.is_none());

        let mut line = connect(PATIENT).await;
        drop(line.client);
        assert!(line.from_client.recv().await.is_none());
    }

    #[tokio::test]
    async fn who_only_leaves_a_connection_has_not_hung_up() {
        let mut line = connect(PATIENT).await;
        let frame = tungstenite::protocol::CloseFrame {
            code: voxline::LEFT.into(),
            reason: "".into(),
        };
        line.client.close(Some(frame)).await.unwrap();
        assert_eq!(next_close(&mut line.client).await.0, voxline::LEFT);
        assert!(line.from_client.recv().await.is_none());
    }

    #[tokio::test]
    async fn where_the_relay_plays_sound_has_positions_and_reports_come_back() {
        let settings = Settings {
            notices: true,
            carrier: Carrier::Playout,
            ..PATIENT
        };
        let mut line = connect(settings).await;
        let play = ToClient::Play {
            frame: Frame {
                format: Format::Pcm,
                payload: vec![0; 960].into(),
            },
            position: Duration::from_millis(40),
            due: clock::now(),
            first: false,
        };
        line.to_client.send(play).await.unwrap();
        line.to_client.send(ToClient::Flush).await.unwrap();
        let audio = next_event(&mut line.client).await;
        assert_eq!(audio["type"], "voxline.audio");
        assert_eq!(audio["position_ms"], 40);
        assert_eq!(audio["audio"].as_str().unwrap().len(), 1280);
        assert_eq!(next_event(&mut line.client).await["type"], "voxline.flush");

        let report = r#"{"type":"voxline.playout","position_ms":60,"output_latency_ms":15}"#;
        line.client.send(report.into()).await.unwrap();
        let told = line.from_client.recv().await.unwrap();
        let heard = Duration::from_millis(45);
        assert!(
            matches!(told, FromClient::Played(Played { position, .. }) if position == heard),
            "{told:?}"
        );
        let ping = r#"{"type":"voxline.ping","id":7,"every_ms":1000}"#;
        line.client.send(ping.into()).await.unwrap();
        let every = Duration::from_secs(1);
        let told = line.from_client.recv().await;
        assert_eq!(told, Some(FromClient::Alive { every }));
        let clear = r#"{"type":"output_audio_buffer.clear"}"#;
        line.client.send(clear.into()).await.unwrap();
        assert_eq!(line.from_client.recv().await, Some(FromClient::ClearOutput));
    }

    #[tokio::test]
    async fn a_client_that_does_not_answer_pings_is_gone() {
        let settings = Settings {
            ping_interval: Duration::from_millis(50),
            ..PATIENT
        };
        let mut line = connect(settings).await;
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
        let line = connect(settings).await;
        let event = || ToClient::Event(Json::from("x".repeat(1 << 20)));
        while line.to_client.send(event()).await.is_ok() {}
    }
}
