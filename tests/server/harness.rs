//! A relay on free ports, and clients for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::Response;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;
use voxline::config::{Config, Sources};
use voxline::server::Server;
use voxline::sim::Control;

pub(crate) const KEY: &str = "relay-test-key";
pub(crate) const MODEL: &str = "gpt-realtime-2.1";

/// Whatever takes longer does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A relay that runs until it is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    /// The embedded provider's, or one of nobody's.
    pub(crate) sim: Control,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Relay {
    /// Starts one with these settings beside the usual ones: key and text. What is empty is not
    /// set.
    pub(crate) async fn start(settings: &[(&'static str, &str)]) -> Self {
        let usual = [("listen", "127.0.0.1:0"), ("api_key", KEY)];
        let flags: BTreeMap<&str, &str> = usual.iter().chain(settings).copied().collect();
        let config = Config::load(&Sources {
            flags: flags
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(key, text)| (key, text.to_owned()))
                .collect(),
            ..Sources::default()
        });
        let server = Server::bind(config.unwrap()).await.unwrap();
        let (address, tls) = (server.local_addr(), server.tls_addr());
        let sim = server.sim_control().unwrap_or_default();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        Self {
            address,
            tls,
            sim,
            stop,
            tasks,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks it to stop, as SIGTERM does.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(mut self) {
        let ended = timeout(PATIENCE, self.tasks.join_next()).await;
        ended.expect("it stops").unwrap().unwrap();
    }

    /// Connects with the right key.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_with(&format!("?model={MODEL}"), &[("authorization", BEARER)])
            .await
            .unwrap()
    }

    pub(crate) async fn connect_with(
        &self,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/v1/realtime{query}", self.address);
        let mut request: Request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, response) = client_async(request, stream).await?;
        let protocol = response.headers().get("sec-websocket-protocol");
        Ok(Client {
            protocol: protocol.map(|protocol| protocol.to_str().unwrap().to_owned()),
            socket,
        })
    }
}

impl Relay {
    /// Makes a client secret, as a tenant's server does.
    pub(crate) async fn mint(&self, wish: Value) -> String {
        let answer = reqwest::Client::new()
            .post(self.url("/v1/realtime/client_secrets"))
            .bearer_auth(KEY)
            .json(&wish)
            .send()
            .await;
        let secret: Value = answer.unwrap().json().await.unwrap();
        secret["value"].as_str().expect("a secret").to_owned()
    }

    /// Makes a client secret for this user.
    pub(crate) async fn secret_of(&self, user: &str) -> String {
        self.mint(serde_json::json!({"voxline": {"user": user}}))
            .await
    }

    /// Connects with this credential.
    pub(crate) async fn connect_as(&self, credential: &str, query: &str) -> Client {
        let bearer = format!("Bearer {credential}");
        let headers = [("authorization", bearer.as_str())];
        self.connect_with(query, &headers).await.unwrap()
    }

    /// The same as a client of `voxline.v1`.
    pub(crate) async fn connect_extended(&self, credential: &str, query: &str) -> Client {
        let offer = format!("voxline.v1, openai-insecure-api-key.{credential}");
        let headers = [("sec-websocket-protocol", offer.as_str())];
        self.connect_with(query, &headers).await.unwrap()
    }

    /// The same as one that has the relay own the playback.
    pub(crate) async fn connect_playout(&self, credential: &str, query: &str) -> Client {
        let offer = format!("voxline.v1, voxline.playout, openai-insecure-api-key.{credential}");
        let headers = [("sec-websocket-protocol", offer.as_str())];
        self.connect_with(query, &headers).await.unwrap()
    }

    /// Posts an offer with this credential.
    pub(crate) async fn offer(&self, credential: &str, query: &str, sdp: &str) -> Response {
        let request = reqwest::Client::new()
            .post(self.url(&format!("/v1/realtime/calls{query}")))
            .bearer_auth(credential)
            .header("content-type", "application/sdp")
            .body(sdp.to_owned());
        request.send().await.unwrap()
    }

    /// Reads the value of this line of the metrics.
    pub(crate) async fn metric(&self, line: &str) -> u64 {
        let metrics = reqwest::get(self.url("/metrics")).await.unwrap();
        let page = metrics.text().await.unwrap();
        let value = page.lines().find_map(|found| {
            let value = found.strip_prefix(line)?.strip_prefix(' ')?;
            value.parse().ok()
        });
        value.unwrap_or_else(|| panic!("no {line} in {page}"))
    }

    /// Waits until this line of the metrics has this value.
    pub(crate) async fn until(&self, line: &str, value: u64) {
        let waiting = async {
            while self.metric(line).await != value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{line} never is {value}"));
    }
}

pub(crate) const BEARER: &str = "Bearer relay-test-key";

/// A WebSocket client.
pub(crate) struct Client {
    pub(crate) protocol: Option<String>,
    pub(crate) socket: WebSocketStream<TcpStream>,
}

/// What a client hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Event(Value),
    Close(u16, String),
}

impl Client {
    pub(crate) async fn send(&mut self, event: Value) {
        self.socket.send(event.to_string().into()).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await;
            match message.expect("something comes").unwrap().unwrap() {
                Message::Text(text) => return Heard::Event(serde_json::from_str(&text).unwrap()),
                Message::Close(Some(frame)) => {
                    return Heard::Close(frame.code.into(), frame.reason.to_string());
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other @ (Message::Binary(_) | Message::Close(None) | Message::Frame(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }

    /// Returns the next event, whatever it is.
    pub(crate) async fn event(&mut self) -> Value {
        match self.hear().await {
            Heard::Event(event) => event,
            Heard::Close(code, reason) => panic!("closed: {code} {reason}"),
        }
    }

    /// Returns the next event of this type, and passes over the others.
    pub(crate) async fn event_of(&mut self, kind: &str) -> Value {
        loop {
            let event = self.event().await;
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Adds a message of the user's to the conversation, by this name.
    pub(crate) async fn note(&mut self, id: &str, text: &str) {
        self.send(serde_json::json!({
            "type": "conversation.item.create",
            "item": {
                "id": id,
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": text}],
            },
        }))
        .await;
        while self.event_of("conversation.item.done").await["item"]["id"] != id {}
    }

    /// Reads a message of the conversation; `None` if there is none of this name.
    pub(crate) async fn recall(&mut self, id: &str) -> Option<String> {
        self.send(serde_json::json!({"type": "conversation.item.retrieve", "item_id": id}))
            .await;
        loop {
            let event = self.event().await;
            if event["type"] == "error" {
                return None;
            }
            if event["type"] == "conversation.item.retrieved" && event["item"]["id"] == id {
                let text = &event["item"]["content"][0]["text"];
                return Some(text.as_str().unwrap().to_owned());
            }
        }
    }

    /// Returns how the socket closes, and passes over all events before it.
    pub(crate) async fn close(&mut self) -> (u16, String) {
        loop {
            if let Heard::Close(code, reason) = self.hear().await {
                return (code, reason);
            }
        }
    }
}
