//! A conversation with oneself: a relay of its own with the embedded provider, in this process,
//! on a port that nobody else knows, and a client that talks, interrupts, and is left without an
//! answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Secret, Sources};
use crate::core::latency::Hop;
use crate::core::latency::budget::Budget;
use crate::diagnosis::{Finding, Level, Step};
use crate::server::Server;

/// A conversation that has not gone its way by then has gone wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// The states that a conversation can be in once it has begun.
const STATES: [&str; 5] = [
    "listening",
    "thinking",
    "speaking",
    "cancelling",
    "recovering",
];

/// Frames of silence after what was said: 1.2 s, in which an answer begins to sound.
const PAUSE: usize = 60;

/// Samples of 20 ms.
const FRAME: usize = 480;

pub(super) async fn run() -> Vec<Finding> {
    let (smooth, broken) = tokio::join!(talk(&[], &STATES[..4]), talk(&STALL, &STATES[4..]));
    let mut states = BTreeSet::new();
    let mut latency = None;
    for trial in [smooth, broken] {
        match trial {
            Ok(told) => {
                states.extend(told.states);
                latency = latency.or(told.latency);
            }
            Err(why) => {
                let says = format!("the self-test broke off: {why}");
                let advice = "Report it, with the output of `voxline doctor --json`.";
                return vec![Finding::new(Step::StateMachine, Level::Fail, says, advice)];
            }
        }
    }

    vec![reached(&states), budget(latency.as_ref())]
}

/// The provider falls silent in the middle of an answer.
const STALL: [(&str, &str); 2] = [
    ("sim.fault", "stall:200ms"),
    ("session.thinking_timeout", "1s"),
];

/// What a client was told.
#[derive(Default)]
struct Told {
    states: BTreeSet<String>,
    latency: Option<Value>,
    /// The code of the last error.
    error: Option<String>,
}

fn reached(states: &BTreeSet<String>) -> Finding {
    let missing: Vec<_> = STATES
        .into_iter()
        .filter(|state| !states.contains(*state))
        .collect();
    if missing.is_empty() {
        let says = format!("a self-test conversation reached {}", STATES.join(", "));
        return Finding::new(Step::StateMachine, Level::Ok, says, "");
    }
    let says = format!(
        "a self-test conversation never reached {}",
        missing.join(", ")
    );
    let advice = "Report it, with the output of `voxline doctor --json`.";

    Finding::new(Step::StateMachine, Level::Fail, says, advice)
}

fn budget(latency: Option<&Value>) -> Finding {
    let Some(latency) = latency else {
        let says = "the self-test got no answer whose latency could be told";
        return Finding::new(
            Step::Budget,
            Level::Warn,
            says,
            "Look at the state machine first.",
        );
    };
    let ms = |part: &str| latency[part].as_f64().unwrap_or_default();
    let relay = ms("relay_out_ms");
    let budget = Budget::default();
    let limit_ms = budget.end_to_end.as_millis();
    let says = format!(
        "the self-test's answer came after {:.0} ms (budget {limit_ms}): silence {:.0}, provider {:.0}, \
         relay {relay:.1}",
        ms("total_ms"),
        ms("silence_wait_ms"),
        ms("inference_ms"),
    );
    let relay_limit = budget.limit(Hop::RelayOut).as_secs_f64() * 1000.0;
    let is_late = ms("total_ms") > limit_ms as f64 || relay > relay_limit;
    if is_late {
        let advice = "This host is too busy for sound: give the relay more of its processors.";
        Finding::new(Step::Budget, Level::Warn, says, advice)
    } else {
        Finding::new(Step::Budget, Level::Ok, says, "")
    }
}

/// Serves a relay with these settings, talks to it until it has told all of `wanted`, and returns
/// what it has told.
async fn talk(settings: &[(&'static str, &str)], wanted: &[&str]) -> Result<Told, String> {
    let usual = [("listen", "127.0.0.1:0"), ("provider", "embedded")];
    let flags = usual.iter().chain(settings);
    let config = Config::load(&Sources {
        flags: flags
            .map(|(key, text)| (*key, (*text).to_owned()))
            .collect(),
        ..Sources::default()
    });
    let config = config.map_err(|error| error.to_string())?;
    let model = config.model.as_str().to_owned();
    let key = config.development_key.as_ref().map_or("", Secret::expose);
    let key = key.to_owned();
    let server = Server::bind(config)
        .await
        .map_err(|error| error.to_string())?;
    let address = server.local_addr();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(stop.clone()));

    let talked = timeout(PATIENCE, Client::connect(address, &model, &key));
    let told = match talked.await {
        Ok(Ok(mut client)) => match timeout(PATIENCE, client.converse(wanted)).await {
            Ok(Ok(())) => Ok(client.told),
            Ok(Err(why)) => Err(why),
            // What was reached until then says where it went wrong.
            Err(_) => Ok(client.told),
        },
        Ok(Err(why)) => Err(why),
        Err(_) => Err("the relay did not answer in time".to_owned()),
    };
    stop.cancel();
    tasks.shutdown().await;

    told
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    told: Told,
    speech: Vec<i16>,
    /// Samples of it that have been said.
    spoken: usize,
}

impl Client {
    async fn connect(address: SocketAddr, model: &str, key: &str) -> Result<Self, String> {
        let url = format!("ws://{address}/v1/realtime?model={model}");
        let mut request = url
            .into_client_request()
            .map_err(|error| error.to_string())?;
        let protocols = format!("voxline.v1, openai-insecure-api-key.{key}");
        let protocols = protocols.parse().map_err(|_| "the key is no header")?;
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocols);
        let connected = connect_async(request).await;
        let (socket, _) = connected.map_err(|error| error.to_string())?;

        Ok(Self {
            socket,
            told: Told::default(),
            speech: speech(),
            spoken: 0,
        })
    }

    /// Speaks, over and over, with pauses in which answers may begin.
    async fn converse(&mut self, wanted: &[&str]) -> Result<(), String> {
        let detection = json!({"type": "server_vad", "silence_duration_ms": 200});
        let update = json!({"type": "session.update", "session": {
            "type": "realtime",
            "audio": {"input": {"turn_detection": detection}},
        }});
        self.send(&update).await?;
        let mut frames = interval(Duration::from_millis(20));
        let mut silent = 0;
        while !self.has(wanted) {
            tokio::select! {
                _ = frames.tick() => {
                    if self.spoken >= self.speech.len() {
                        self.spoken = 0;
                        silent = PAUSE;
                    }
                    self.send_frame(silent > 0).await?;
                    silent = silent.saturating_sub(1);
                }
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text),
                    Some(Ok(Message::Close(_))) => {
                        return Err(self.told.error.take().unwrap_or_else(closed));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err(closed()),
                },
            }
        }

        Ok(())
    }

    fn has(&self, wanted: &[&str]) -> bool {
        wanted.iter().all(|state| self.told.states.contains(*state))
    }

    fn hear(&mut self, text: &str) {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        match event["type"].as_str() {
            Some("voxline.state") => {
                let state = event["state"].as_str().unwrap_or_default();
                self.told.states.insert(state.to_owned());
            }
            Some("voxline.latency") => self.told.latency = Some(event),
            Some("error") => {
                let code = event["error"]["code"].as_str();
                self.told.error = code.map(str::to_owned);
            }
            Some(_) | None => {}
        }
    }

    async fn send_frame(&mut self, is_silence: bool) -> Result<(), String> {
        let silence = [0; FRAME];
        let frame = if is_silence {
            &silence[..]
        } else {
            let frame = self.speech.get(self.spoken..self.spoken + FRAME);
            self.spoken += FRAME;
            frame.unwrap_or(&silence)
        };
        let bytes: Vec<u8> = frame
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        let audio = STANDARD.encode(bytes);
        self.send(&json!({"type": "input_audio_buffer.append", "audio": audio}))
            .await
    }

    async fn send(&mut self, event: &Value) -> Result<(), String> {
        let sent = self.socket.send(Message::text(event.to_string())).await;
        sent.map_err(|error| error.to_string())
    }
}

fn closed() -> String {
    "the connection was closed".to_owned()
}

/// A second of something with the rhythm and the pitch of speech, at 24 kHz.
fn speech() -> Vec<i16> {
    let sample = |index: u32| {
        let t = f64::from(index) / 24_000.0;
        let turn = std::f64::consts::TAU;
        let syllables = (turn * 2.0 * t).sin().max(0.0);
        let pitch = 120.0 * t + 4.0 * (turn * 0.7 * t).sin();
        let voice: f64 = (1..20)
            .map(|n| (turn * pitch * f64::from(n)).sin() / f64::from(n))
            .sum();
        (voice * syllables * 6000.0) as i16
    };

    (0..24_000).map(sample).collect()
}
