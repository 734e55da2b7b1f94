//! A relay on free ports, and clients for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
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

pub(crate) const KEY: &str = "relay-test-key";
pub(crate) const MODEL: &str = "gpt-realtime-2.1";

/// Whatever takes longer does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A relay that runs until it is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
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
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        Self {
            address,
            tls,
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

    /// Returns how the socket closes, and passes over all events before it.
    pub(crate) async fn close(&mut self) -> (u16, String) {
        loop {
            if let Heard::Close(code, reason) = self.hear().await {
                return (code, reason);
            }
        }
    }
}
