//! A voice link to a provider that speaks OpenAI's Realtime API over WebSocket.
//!
//! **Invariants**
//! - A link that [`open`] returns is ready: its session is created and configured, and waits in the
//!   inbox.
//! - The last message of every link is [`FromVoice::Down`], unless the relay dropped it first.
//! - When the session reads slowly the provider is read slowly: nothing is dropped or piled up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::clock;
use crate::core::latency::{Measure, Recorder, Sample};
use crate::core::port::{Fault, FromVoice, Json, LinkEnd, Source, ToVoice, VoiceSession};
use crate::provider::handed::{Handed, length};
use crate::provider::refusal::{UNKNOWN_CALL, http_refusal, refusal};
use crate::provider::{OpenError, Patience, Upstream, query_value};
use crate::wire::realtime::{
    Mark, Pinned, Toolbox, Veil, decode_voice, encode_voice, session_update, split_voice,
};

/// Messages on their way to the provider: some five seconds of sound in 20 ms frames.
const OUTBOX: usize = 256;
/// Messages on their way from the provider.
const INBOX: usize = 64;
/// Messages in a row that make no sense; then the link is given up.
const MAX_GARBLED: u32 = 3;
/// The largest message a provider may send.
const MAX_MESSAGE: usize = 16 << 20;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A live link. Dropping it ends it.
pub struct Link {
    pub outbox: mpsc::Sender<ToVoice>,
    pub inbox: mpsc::Receiver<FromVoice>,
    /// Ends the link in good order when the outbox is dropped.
    pub tasks: JoinSet<()>,
}

/// What a link leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A new conversation with this model.
    Model(String),
    /// A call that runs, whose sound does not come this way: its sideband.
    Call(String),
    /// A new session that transcribes and does not answer.
    Transcription,
}

impl Target {
    fn query(&self) -> String {
        match self {
            Self::Model(model) => format!("model={}", query_value(model)),
            Self::Call(call) => format!("call_id={}", query_value(call)),
            Self::Transcription => "intent=transcription".to_owned(),
        }
    }

    /// Tells whether it is a call that runs.
    pub fn is_call(&self) -> bool {
        match self {
            Self::Call(_) => true,
            Self::Model(_) | Self::Transcription => false,
        }
    }
}

/// Connects, waits for the session and configures it.
pub async fn open(
    upstream: &Upstream,
    target: &Target,
    session: &Pinned,
    patience: Patience,
    recorder: Recorder,
) -> Result<Link, OpenError> {
    let handshake = async {
        let mut socket = connect(upstream, target).await?;
        let ready = configure(&mut socket, session).await?;
        Ok((socket, ready))
    };
    let (socket, ready) = tokio::time::timeout(patience.open, handshake)
        .await
        .map_err(|_| OpenError::Unreachable(format!("no session within {:?}", patience.open)))??;

    let (outbox, to_voice) = mpsc::channel(OUTBOX);
    let (to_session, inbox) = mpsc::channel(INBOX);
    let (sink, stream) = socket.split();
    let mut tasks = JoinSet::new();
    let shared = Shared {
        mark: Mark::random(),
        patience,
        broken: Arc::default(),
        handed: Arc::default(),
    };
    if let FromVoice::Session(session, _) = &ready {
        shared.handed.waits(session.silence);
    }
    let mut veil = Veil::new(session.toolbox().clone());
    // Before anyone can say anything: a session takes nothing from its client until it is up.
    let _ = to_session.try_send(veil.cover(ready));
    tasks.spawn(read(stream, to_session, veil, shared.clone()));
    let toolbox = session.toolbox().clone();
    tasks.spawn(write(sink, to_voice, toolbox, shared, recorder));

    Ok(Link {
        outbox,
        inbox,
        tasks,
    })
}

/// What the two directions of a link share.
#[derive(Clone)]
struct Shared {
    mark: Mark,
    patience: Patience,
    /// The provider takes nothing any more.
    broken: Arc<Notify>,
    handed: Arc<Handed>,
}

async fn connect(upstream: &Upstream, target: &Target) -> Result<Socket, OpenError> {
    let base = upstream.base_url.trim_end_matches('/');
    let base = match base.split_once("://") {
        Some(("http" | "ws", rest)) => format!("ws://{rest}"),
        Some(("https" | "wss", rest)) => format!("wss://{rest}"),
        Some(_) | None => return Err(OpenError::Unreachable(format!("`{base}` is not a URL"))),
    };
    let url = format!("{base}/realtime?{}", target.query());
    let mut request = url
        .into_client_request()
        .map_err(|error| connect_error(&error, target))?;
    let bearer = HeaderValue::try_from(format!("Bearer {}", upstream.api_key))
        .map_err(|_| OpenError::Credential("it holds a character that HTTP forbids".to_owned()))?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let user_agent = HeaderValue::from_static(concat!("voxline/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(header::USER_AGENT, user_agent);

    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let no_delay = true;
    let (socket, _) = connect_async_with_config(request, Some(config), no_delay)
        .await
        .map_err(|error| connect_error(&error, target))?;

    Ok(socket)
}

fn connect_error(error: &Error, target: &Target) -> OpenError {
    let Error::Http(response) = error else {
        return OpenError::Unreachable(error.to_string());
    };
    let status = response.status().as_u16();
    if status == 404 && target.is_call() {
        // Not every such answer has a body that says so.
        let message = "The provider does not know the call.";
        return OpenError::Refused(Fault::invalid(UNKNOWN_CALL[0], message).at("call_id"));
    }
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok());
    let body = response.body().as_deref().unwrap_or_default();

    http_refusal("the upgrade", status, retry_after, body)
}

/// Waits for the session and applies the client's settings to it.
async fn configure(socket: &mut Socket, session: &Pinned) -> Result<FromVoice, OpenError> {
    let (created, json) = next_session(socket).await?;
    if session.is_empty() {
        return Ok(FromVoice::Session(created, json));
    }

    let event = session_update(session);
    socket
        .send(Message::text(event))
        .await
        .map_err(|error| OpenError::Unreachable(error.to_string()))?;
    let (effective, json) = next_session(socket).await?;

    // The client sees one event: the session as it is, created.
    Ok(FromVoice::Session(effective, created_of(&json)))
}

async fn next_session(socket: &mut Socket) -> Result<(VoiceSession, Json), OpenError> {
    while let Some(message) = socket.next().await {
        let message = message.map_err(|error| OpenError::Unreachable(error.to_string()))?;
        let Message::Text(text) = message else {
            continue;
        };
        match decode_voice(&text, &Mark::random()) {
            Some(FromVoice::Session(session, json)) => return Ok((session, json)),
            Some(FromVoice::Error { json, .. }) => return Err(in_band(&json)),
            Some(_) | None => {}
        }
    }

    Err(OpenError::Unreachable(
        "the connection was closed before a session was created".to_owned(),
    ))
}

fn created_of(updated: &Json) -> Json {
    let mut event: Value = serde_json::from_str(updated.as_str()).unwrap_or_default();
    event["type"] = Value::from("session.created");

    Json::from(event.to_string())
}

fn in_band(error: &Json) -> OpenError {
    let event: Value = serde_json::from_str(error.as_str()).unwrap_or_default();

    refusal(&event["error"])
}

async fn read(
    mut stream: SplitStream<Socket>,
    to_session: mpsc::Sender<FromVoice>,
    mut veil: Veil,
    shared: Shared,
) {
    let Shared {
        mark,
        patience,
        broken,
        handed,
    } = shared;
    let mut end = LinkEnd::Lost;
    let mut garbled = 0;
    loop {
        let message = tokio::select! {
            message = tokio::time::timeout(patience.silence, stream.next()) => message,
            () = broken.notified() => break,
            () = to_session.closed() => return,
        };
        match message {
            Ok(Some(Ok(Message::Text(text)))) => {
                let Some(mut event) = decode_voice(&text, &mark) else {
                    tracing::warn!(bytes = text.len(), "Provider sent what is not an event");
                    garbled += 1;
                    if garbled == MAX_GARBLED {
                        end = LinkEnd::Garbled;
                        break;
                    }
                    continue;
                };
                garbled = 0;
                if let FromVoice::Error { code, .. } = &event {
                    match code.as_str() {
                        "session_expired" => end = LinkEnd::Expired,
                        "invalid_api_key" => end = LinkEnd::Refused,
                        _ => {}
                    }
                }
                handed.stamp(&mut event);
                for event in split_voice(veil.cover(event)) {
                    if to_session.send(event).await.is_err() {
                        return;
                    }
                }
            }
            Ok(Some(Ok(Message::Close(frame)))) => {
                tracing::info!(code = ?frame.as_ref().map(|frame| u16::from(frame.code)), "Provider closed the link");
                break;
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => {
                tracing::info!(%error, "Link broke");
                break;
            }
            Ok(None) => break,
            Err(_) => {
                tracing::info!(after = ?patience.silence, "Provider fell silent");
                break;
            }
        }
    }
    // The session may be gone by now, and then nobody needs to know.
    let _ = to_session.send(FromVoice::Down(end)).await;
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut to_voice: mpsc::Receiver<ToVoice>,
    toolbox: Toolbox,
    shared: Shared,
    recorder: Recorder,
) {
    let Shared {
        mark,
        patience,
        broken,
        handed,
    } = shared;
    let mut ping = tokio::time::interval(patience.silence / 3);
    ping.tick().await;
    loop {
        let (messages, received, sound) = tokio::select! {
            message = to_voice.recv() => match message {
                Some(message) => {
                    let received = if let ToVoice::Audio { received, .. } = &message {
                        Some(*received)
                    } else {
                        None
                    };
                    let events = carried(&message, &toolbox, &mark).into_iter();
                    (events.map(Message::text).collect(), received, length(&message))
                }
                None => break,
            },
            _ = ping.tick() => (vec![Message::Ping(Vec::new().into())], None, Duration::ZERO),
        };
        for message in messages {
            match tokio::time::timeout(patience.send, sink.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, "Link takes no more");
                    broken.notify_one();
                    return;
                }
                Err(_) => {
                    tracing::info!(after = ?patience.send, "Provider does not read");
                    broken.notify_one();
                    return;
                }
            }
        }
        handed.pass(sound, clock::now());
        if let Some(received) = received {
            recorder(Sample {
                measure: Measure::PacketIn,
                transport: None,
                source: Source::Reported,
                took: clock::now().saturating_duration_since(received),
            });
        }
    }
    // A goodbye that is not taken changes nothing.
    let _ = tokio::time::timeout(Duration::from_secs(1), sink.close()).await;
}

/// Encodes a message; the relay's own tools stay in the session, whatever its client makes of the
/// others.
fn carried(message: &ToVoice, toolbox: &Toolbox, mark: &Mark) -> Vec<String> {
    match message {
        ToVoice::Event(json) => {
            let event = toolbox.update(json.as_str());
            vec![event.unwrap_or_else(|| json.as_str().to_owned())]
        }
        ToVoice::All(messages) => {
            let messages = messages.iter();
            messages
                .flat_map(|message| carried(message, toolbox, mark))
                .collect()
        }
        ToVoice::Audio { .. }
        | ToVoice::Cancel(_)
        | ToVoice::Truncate { .. }
        | ToVoice::Delete(_)
        | ToVoice::ClearOutput
        | ToVoice::Probe
        | ToVoice::ToolOutput { .. }
        | ToVoice::Respond
        | ToVoice::Restore(_) => encode_voice(message, mark),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_smuggle_a_parameter() {
        let query = |target: Target| target.query();

        assert_eq!(query(Target::Model("gpt-2.1".into())), "model=gpt-2.1");
        assert_eq!(
            query(Target::Model("a&call_id=b c".into())),
            "model=a%26call_id%3Db%20c"
        );
        assert_eq!(
            query(Target::Call("rtc_1&model=x".into())),
            "call_id=rtc_1%26model%3Dx"
        );
        assert_eq!(query(Target::Transcription), "intent=transcription");
    }
}
