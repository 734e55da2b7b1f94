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
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::clock;
use crate::core::latency::{Hop, Recorder, Sample};
use crate::core::port::{Fault, FromVoice, Json, LinkEnd, ToVoice, VoiceSession};
use crate::provider::{OpenError, Patience, Upstream};
use crate::wire::realtime::{Pinned, decode_voice, encode_voice, session_update};

/// Messages on their way to the provider: some five seconds of sound in 20 ms frames.
const OUTBOX: usize = 256;
/// Messages on their way from the provider.
const INBOX: usize = 64;
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
    // Before anyone can say anything: a session takes nothing from its client until it is up.
    let _ = to_session.try_send(ready);
    let (sink, stream) = socket.split();
    let broken = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(read(stream, to_session, patience, broken.clone()));
    tasks.spawn(write(sink, to_voice, patience, broken, recorder));

    Ok(Link {
        outbox,
        inbox,
        tasks,
    })
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
        .map_err(|error| connect_error(&error))?;
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
        .map_err(|error| connect_error(&error))?;

    Ok(socket)
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3).
fn query_value(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn connect_error(error: &Error) -> OpenError {
    let Error::Http(response) = error else {
        return OpenError::Unreachable(error.to_string());
    };
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);

    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            OpenError::Credential(status.to_string())
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => OpenError::Busy {
            message: status.to_string(),
            retry_after,
        },
        _ => OpenError::Unreachable(format!("the upgrade got {status}")),
    }
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
        match decode_voice(&text) {
            Some(FromVoice::Session(session, json)) => return Ok((session, json)),
            Some(FromVoice::Error { json, .. }) => return Err(refusal(&json)),
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

/// Tells the client's mistakes from the relay's own.
fn refusal(error: &Json) -> OpenError {
    let event: Value = serde_json::from_str(error.as_str()).unwrap_or_default();
    let error = &event["error"];
    let code = error["code"].as_str().unwrap_or("provider_refused");
    let message = error["message"].as_str().unwrap_or("no reason given");
    let message = message.to_owned();

    match code {
        "invalid_api_key"
        | "account_deactivated"
        | "insufficient_quota"
        | "billing_hard_limit_reached"
        | "credit_balance_exhausted" => OpenError::Credential(format!("{code}: {message}")),
        "rate_limit_exceeded" | "inference_rate_limit_exceeded" => OpenError::Busy {
            message,
            retry_after: None,
        },
        "server_error" => OpenError::Unreachable(message),
        _ => {
            let mut fault = Fault::invalid(code.to_owned(), message);
            fault.param = error["param"].as_str().map(str::to_owned);
            OpenError::Refused(fault)
        }
    }
}

async fn read(
    mut stream: SplitStream<Socket>,
    to_session: mpsc::Sender<FromVoice>,
    patience: Patience,
    broken: Arc<Notify>,
) {
    let mut end = LinkEnd::Lost;
    loop {
        let message = tokio::select! {
            message = tokio::time::timeout(patience.silence, stream.next()) => message,
            () = broken.notified() => break,
            () = to_session.closed() => return,
        };
        match message {
            Ok(Some(Ok(Message::Text(text)))) => {
                let Some(event) = decode_voice(&text) else {
                    tracing::warn!(bytes = text.len(), "Provider sent what is not an event");
                    continue;
                };
                if let FromVoice::Error { code, .. } = &event
                    && code == "session_expired"
                {
                    end = LinkEnd::Expired;
                }
                if to_session.send(event).await.is_err() {
                    return;
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
    patience: Patience,
    broken: Arc<Notify>,
    recorder: Recorder,
) {
    let mut ping = tokio::time::interval(patience.silence / 3);
    ping.tick().await;
    loop {
        let (message, received) = tokio::select! {
            message = to_voice.recv() => match message {
                Some(message) => {
                    let received = match &message {
                        ToVoice::Audio { received, .. } => Some(*received),
                        ToVoice::Event(_)
                        | ToVoice::Cancel(_)
                        | ToVoice::Truncate { .. }
                        | ToVoice::Delete(_) => None,
                    };
                    (Message::text(encode_voice(&message)), received)
                }
                None => break,
            },
            _ = ping.tick() => (Message::Ping(Vec::new().into()), None),
        };
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
        if let Some(received) = received {
            recorder(Sample {
                hop: Hop::RelayIn,
                took: clock::now().saturating_duration_since(received),
            });
        }
    }
    // A goodbye that is not taken changes nothing.
    let _ = tokio::time::timeout(Duration::from_secs(1), sink.close()).await;
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

    #[test]
    fn a_refusal_is_told_apart_by_who_can_mend_it() {
        let refused = |code: &str| {
            let text = format!(
                r#"{{"type":"error","error":{{"code":"{code}","message":"m","param":"p"}}}}"#
            );
            refusal(&Json::from(text))
        };

        assert!(
            matches!(refused("invalid_model"), OpenError::Refused(fault) if fault.param.as_deref() == Some("p"))
        );
        assert!(matches!(
            refused("invalid_api_key"),
            OpenError::Credential(_)
        ));
        assert!(matches!(
            refused("rate_limit_exceeded"),
            OpenError::Busy { .. }
        ));
        assert!(matches!(refused("server_error"), OpenError::Unreachable(_)));
    }
}
