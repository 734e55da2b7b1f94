//! Sessions whose task has died, begun again when their client comes back.
//!
//! **Invariant:** a session is revived for whoever holds its resume token, and for nobody else; and
//! once, as there is one client.

use std::sync::{Arc, Mutex};

use tracing::Instrument;

use crate::auth::Caller;
use crate::clock;
use crate::core::ids::SessionId;
use crate::core::session::Playback;
use crate::driver::Keeper;
use crate::gateway::Opening;
use crate::otlp::Parent;
use crate::server::App;
use crate::server::admission::{Owner, lock};
use crate::server::session::{Identity, Parts, converse};
use crate::server::sessions::{Conversation, Tokens};

/// What a session needs to be run again, beside what it knows itself.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) owner: Owner,
    pub(crate) playback: Playback,
    pub(crate) tokens: Tokens,
    /// The name of its client's device, if it showed one.
    pub(crate) device: Option<String>,
    /// The span of its client's that it belongs to.
    pub(crate) trace: Option<Parent>,
    /// As its client has changed it since.
    pub(crate) opening: Arc<Mutex<Opening>>,
}

/// Keeps a session for as long as its task lives, and then, should that die before its time, for
/// the client that comes back.
pub(crate) struct Custody {
    app: Arc<App>,
    session: SessionId,
}

impl Custody {
    pub(crate) fn new(app: Arc<App>, session: SessionId) -> Self {
        Self { app, session }
    }

    /// Returns who keeps the session's snapshots; without `kept` nobody does.
    pub(crate) fn keeper(&self, kept: Option<Kept>) -> Keeper {
        let app = Arc::clone(&self.app);
        Box::new(move |snapshot| {
            if let Some(kept) = &kept {
                let (session, now) = (snapshot.session.clone(), clock::now());
                if !app.store.save(snapshot, kept.clone(), now) {
                    tracing::warn!(%session, "There is no room to keep a session");
                }
            }
        })
    }

    /// The session has come to its end.
    pub(crate) fn release(self) {
        self.app.store.forget(&self.session);
    }
}

impl Drop for Custody {
    fn drop(&mut self) {
        self.app.store.orphan(&self.session, clock::now());
    }
}

/// Begins a session again to which this caller may come back, if it is kept.
pub(crate) fn revive(app: &Arc<App>, caller: &Caller, id: &SessionId) -> Option<Arc<Conversation>> {
    let Caller::Returning(..) = caller else {
        return None;
    };
    let slot = app.sessions.admit(Owner::of(caller)).ok()?;
    let kept = app
        .store
        .take(id, clock::now(), |kept| kept.owner.admits(caller, id));
    let (snapshot, kept) = kept?;
    let span = tracing::info_span!("session", %id);
    span.in_scope(|| tracing::warn!("The session is begun again"));
    let parts = Parts {
        identity: Identity::new(
            app,
            id.clone(),
            caller,
            kept.owner,
            kept.device,
            kept.trace,
            kept.tokens.clone(),
        ),
        link: None,
        opening: Some(lock(&kept.opening).clone()),
        playback: kept.playback,
        restored: Some(snapshot),
        client: None,
    };
    let own = Arc::clone(app);
    let tokens = kept.tokens;
    let conversation =
        app.sessions
            .start(id.clone(), kept.playback.into(), slot, tokens, |floor| {
                converse(own, floor, parts).instrument(span)
            });

    Some(conversation)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use futures_util::{SinkExt, StreamExt};
    use serde_json::{Value, json};
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::{Config, Sources};
    use crate::server::Server;

    const KEY: &str = "relay-test-key";
    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_session_whose_task_has_died_is_come_back_to() {
        let relay = Relay::start().await;
        let mut client = Client::connect(relay.address, KEY).await;
        let session = client.event_of("voxline.session").await;
        let item = json!({"id": "item_mine", "type": "message", "role": "user",
            "content": [{"type": "input_text", "text": "Remember this."}]});
        client
            .send(json!({"type": "conversation.item.create", "item": item}))
            .await;
        client.event_of("conversation.item.done").await;
        // What has just changed is kept a moment later.
        sleep(Duration::from_millis(300)).await;

        relay.app.sessions.abort_all();
        while relay.app.sessions.count() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        let resume = session["resume_token"].as_str().unwrap();
        let mut client = Client::connect(relay.address, resume).await;

        assert_eq!(client.event().await["type"], "session.created");
        let again = client.event_of("voxline.session").await;
        assert_eq!(again["session_id"], session["session_id"]);
        while client.event_of("voxline.state").await["state"] != "listening" {}
        client
            .send(json!({"type": "conversation.item.retrieve", "item_id": "item_mine"}))
            .await;
        let item = client.event_of("conversation.item.retrieved").await;
        assert_eq!(item["item"]["content"][0]["text"], "Remember this.");

        // It was given out: who comes with the token of before finds the session that runs.
        assert_eq!(relay.app.sessions.count(), 1);
    }

    #[tokio::test]
    async fn a_session_that_has_ended_is_not_come_back_to() {
        let relay = Relay::start().await;
        let mut client = Client::connect(relay.address, KEY).await;
        let session = client.event_of("voxline.session").await;
        sleep(Duration::from_millis(300)).await;
        client.socket.close(None).await.unwrap();
        while relay.app.sessions.count() > 0 {
            sleep(Duration::from_millis(5)).await;
        }

        let resume = session["resume_token"].as_str().unwrap();
        let mut client = Client::connect(relay.address, resume).await;
        let error = client.event_of("error").await;
        assert_eq!(error["error"]["code"], "session_not_found");
    }

    struct Relay {
        app: Arc<App>,
        address: SocketAddr,
        _tasks: JoinSet<()>,
    }

    impl Relay {
        async fn start() -> Self {
            let flags = [("listen", "127.0.0.1:0"), ("api_key", KEY)];
            let config = Config::load(&Sources {
                flags: flags.map(|(key, text)| (key, text.to_owned())).to_vec(),
                ..Sources::default()
            });
            let server = Server::bind(config.unwrap()).await.unwrap();
            let (app, address) = (Arc::clone(&server.app), server.local_addr());
            let mut tasks = JoinSet::new();
            tasks.spawn(server.run(CancellationToken::new()));
            Self {
                app,
                address,
                _tasks: tasks,
            }
        }
    }

    struct Client {
        socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    }

    impl Client {
        async fn connect(address: SocketAddr, credential: &str) -> Self {
            let url = format!("ws://{address}/v1/realtime?model=gpt-realtime-2.1");
            let mut request = url.into_client_request().unwrap();
            let offer = format!("voxline.v1, openai-insecure-api-key.{credential}");
            let headers = request.headers_mut();
            headers.insert("sec-websocket-protocol", offer.parse().unwrap());
            let (socket, _) = connect_async(request).await.unwrap();
            Self { socket }
        }

        async fn send(&mut self, event: Value) {
            let message = Message::text(event.to_string());
            self.socket.send(message).await.unwrap();
        }

        async fn event(&mut self) -> Value {
            loop {
                let message = timeout(PATIENCE, self.socket.next()).await;
                let message = message.expect("something comes").unwrap().unwrap();
                if let Message::Text(text) = message {
                    return serde_json::from_str(&text).unwrap();
                }
            }
        }

        async fn event_of(&mut self, kind: &str) -> Value {
            loop {
                let event = self.event().await;
                if event["type"] == kind {
                    return event;
                }
            }
        }
    }
}
