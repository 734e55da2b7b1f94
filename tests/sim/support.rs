//! Starts the embedded provider on a free port and talks to it as a client would.

use std::io::Cursor;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use ogg::PacketReader;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use voxline::media::opus::Decoder;
use voxline::sim::{AgentKind, Control, Script, SessionReport, Settings, Sim};

/// Only a hang makes a test wait this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running provider; it ends with the value.
pub(crate) struct Provider {
    pub(crate) addr: SocketAddr,
    pub(crate) control: Control,
    pub(crate) cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Provider {
    pub(crate) fn start(settings: Settings) -> Self {
        let sim = Sim::bind("127.0.0.1:0".parse().unwrap(), settings).unwrap();
        let addr = sim.local_addr().unwrap();
        let control = sim.control();
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let token = cancel.clone();
        tasks.spawn(async move { sim.run(token).await.unwrap() });
        Self {
            addr,
            control,
            cancel,
            tasks,
        }
    }

    /// Waits for the end of a provider that has been cancelled.
    pub(crate) async fn ended(mut self) {
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await;
        ended.expect("ends soon").unwrap().unwrap();
    }

    /// Returns what is known of the only session there has been.
    pub(crate) async fn report(&self) -> SessionReport {
        let mut reports = self.control.sessions().await;
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    pub(crate) fn request(&self, query: &str) -> Request<()> {
        let url = format!("ws://{}/v1/realtime{query}", self.addr);
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", "Bearer sk-test".parse().unwrap());
        request
    }

    /// Connects, and reads nothing yet.
    pub(crate) async fn dial(&self, request: Request<()>) -> Client {
        let (socket, _) = connect_async(request).await.unwrap();
        Client {
            socket,
            seen: Vec::new(),
        }
    }

    /// Connects and reads `session.created`.
    pub(crate) async fn client(&self) -> Client {
        let mut client = self.dial(self.request("?model=gpt-realtime-2.1")).await;
        client.expect("session.created").await;
        client
    }
}

/// An HTTP client; it wants a choice of cryptography, though nothing here is encrypted.
pub(crate) fn http() -> reqwest::Client {
    // Another test may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// Answers at once, with a short tone, as fast as it can.
pub(crate) fn fast() -> Settings {
    Settings {
        agent: AgentKind::Scripted(Script {
            length: Duration::from_secs(1),
            ..Script::default()
        }),
        first_audio: Duration::from_millis(1),
        delta_interval: Duration::ZERO,
        ..Settings::default()
    }
}

/// Is still speaking whenever a test does something about it.
pub(crate) fn slow() -> Settings {
    Settings {
        agent: AgentKind::Scripted(Script {
            length: Duration::from_secs(60),
            ..Script::default()
        }),
        first_audio: Duration::from_millis(1),
        delta_interval: Duration::from_millis(100),
        ..Settings::default()
    }
}

/// A client's end of a session.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// All events received.
    pub(crate) seen: Vec<Value>,
}

impl Client {
    pub(crate) async fn send(&mut self, event: Value) {
        self.send_frame(Message::text(event.to_string())).await;
    }

    pub(crate) async fn send_frame(&mut self, frame: Message) {
        self.try_send(frame).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, frame: Message) -> Result<(), Error> {
        self.socket.send(frame).await
    }

    /// Returns the next event, or how the connection was closed.
    pub(crate) async fn receive(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match frame.expect("an event comes soon") {
                Some(Ok(Message::Text(text))) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    self.seen.push(event.clone());
                    return Ok(event);
                }
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Returns the next frame's text; `None` if it is binary.
    pub(crate) async fn raw(&mut self) -> Option<String> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match frame.expect("a frame comes soon").unwrap().unwrap() {
                Message::Text(text) => return Some(text.to_string()),
                Message::Binary(_) => return None,
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        self.receive().await.expect("the session goes on")
    }

    /// Returns the next event, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let event = self.next().await;
        assert_eq!(event["type"], kind, "{event}");
        event
    }

    /// Reads up to the next event of this type.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Returns the close that comes next.
    pub(crate) async fn closed(&mut self) -> CloseFrame {
        loop {
            match self.receive().await {
                Ok(_) => {}
                Err(frame) => return frame.expect("closed with a code"),
            }
        }
    }

    /// Sends an event and returns the error that answers it.
    pub(crate) async fn refused(&mut self, event: Value) -> Value {
        self.send(event).await;
        self.expect("error").await["error"].take()
    }

    /// Applies a `session.update` and returns the session.
    pub(crate) async fn update(&mut self, mut session: Value) -> Value {
        session["type"] = "realtime".into();
        self.send(json!({"type": "session.update", "session": session}))
            .await;
        self.expect("session.updated").await["session"].take()
    }

    /// Turns detection off: the client says when a turn ends.
    pub(crate) async fn manual(&mut self) {
        self.update(json!({"audio": {"input": {"turn_detection": null}}}))
            .await;
    }

    /// Waits long enough for a sentence with a comma in it.
    pub(crate) async fn patient(&mut self) {
        let detection = json!({"type": "server_vad", "silence_duration_ms": 500});
        self.update(json!({"audio": {"input": {"turn_detection": detection}}}))
            .await;
    }

    /// Appends PCM in frames of 20 ms.
    pub(crate) async fn append(&mut self, pcm: &[i16]) {
        for frame in pcm.chunks(480) {
            self.send(append_event(frame)).await;
        }
    }

    /// Adds a message that a person has typed.
    pub(crate) async fn type_in(&mut self, text: &str) {
        let content = json!([{"type": "input_text", "text": text}]);
        let item = json!({"type": "message", "role": "user", "content": content});
        self.create(item).await;
    }

    /// Adds an item.
    pub(crate) async fn create(&mut self, item: Value) {
        self.send(json!({"type": "conversation.item.create", "item": item}))
            .await;
        self.until("conversation.item.done").await;
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.seen
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Returns the event that appends this PCM.
pub(crate) fn append_event(pcm: &[i16]) -> Value {
    let bytes: Vec<u8> = pcm.iter().flat_map(|s| s.to_le_bytes()).collect();
    let audio = STANDARD.encode(bytes);
    json!({"type": "input_audio_buffer.append", "audio": audio})
}

/// Five seconds of speech, with silence around it: the detector needs some before, and the turn
/// ends in that after.
pub(crate) fn speech() -> Vec<i16> {
    let mut pcm = silence(Duration::from_millis(600));
    let file = include_bytes!("../../src/sim/voice/story-1.opus");
    let mut packets = PacketReader::new(Cursor::new(&file[..]));
    let mut decoder = Decoder::new().unwrap();
    for _ in 0..2 {
        packets.read_packet_expected().unwrap();
    }
    while let Some(packet) = packets.read_packet().unwrap() {
        pcm.extend(decoder.decode(&packet.data).unwrap());
    }
    pcm.extend(silence(Duration::from_millis(800)));
    pcm
}

pub(crate) fn silence(duration: Duration) -> Vec<i16> {
    vec![0; duration.as_millis() as usize * 24]
}
