//! Calls as a device makes them.

use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::Relay;
use crate::support::peer::Peer;

/// Makes a call; returns its name as well.
pub(crate) async fn call(relay: &Relay, credential: &str, query: &str) -> (Peer, String) {
    let mut peer = Peer::new(&["oai-events"]).await;
    let answer = relay.offer(credential, query, &peer.offer().await).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let location = answer.headers()["location"].to_str().unwrap();
    let id = location.rsplit('/').next().unwrap().to_owned();
    peer.connect(&answer.text().await.unwrap()).await;
    (peer, id)
}

/// Returns the next of OpenAI's events of this type.
pub(crate) async fn heard(peer: &mut Peer, kind: &str) -> Value {
    heard_on(peer, "oai-events", kind).await
}

/// Returns the next event of this type on the channel with this label.
pub(crate) async fn heard_on(peer: &mut Peer, label: &str, kind: &str) -> Value {
    loop {
        let event: Value = serde_json::from_str(&peer.message(label).await).unwrap();
        if event["type"] == kind {
            return event;
        }
    }
}
