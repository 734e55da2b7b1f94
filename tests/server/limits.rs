//! How much of the relay one tenant, one user and one moment may take.

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::harness::{self, KEY, MODEL, PATIENCE, Relay};
use tokio::time::timeout;

const CALLS: &str = "/v1/realtime/calls";

#[tokio::test]
async fn a_full_relay_turns_a_websocket_away_before_the_upgrade() {
    let relay = Relay::start(&[("limits.sessions", "1")]).await;
    let mut first = relay.connect().await;
    first.event_of("session.created").await;
    let refused = turned_away(&relay, KEY).await;
    assert_eq!(refused, (429, "5".to_owned(), "limits.sessions".to_owned()));
    first.socket.close(None).await.unwrap();
    let_in_again(&relay, KEY).await;
}

#[tokio::test]
async fn a_tenant_takes_no_more_lines_than_its_own() {
    let relay = Relay::start(&[("limits.tenant_sessions", "1")]).await;
    let mut first = relay.connect().await;
    first.event_of("session.created").await;
    let refused = turned_away(&relay, KEY).await;
    assert_eq!(refused.2, "limits.tenant_sessions");
    // An offer is not even looked at.
    let call = Client::new().post(relay.url(CALLS)).bearer_auth(KEY);
    let answer = call.body("nonsense").send().await.unwrap();
    assert_eq!(over(answer).await, "limits.tenant_sessions");
    first.socket.close(None).await.unwrap();
    let_in_again(&relay, KEY).await;
}

#[tokio::test]
async fn a_user_takes_no_more_lines_than_their_own() {
    let relay = Relay::start(&[("limits.user_sessions", "1")]).await;
    let anna = secret(&relay, "anna").await;
    let ben = secret(&relay, "ben").await;
    let mut first = connect(&relay, &anna).await.unwrap();
    first.event_of("session.created").await;
    let refused = turned_away(&relay, &anna).await;
    assert_eq!(refused.2, "limits.user_sessions");
    for other in [&ben, KEY] {
        let mut client = connect(&relay, other).await.unwrap();
        client.event_of("session.created").await;
    }
    first.socket.close(None).await.unwrap();
    let_in_again(&relay, &anna).await;
}

#[tokio::test]
async fn only_so_many_conversations_are_set_up_at_one_time() {
    let mute = [("limits.handshakes", "1"), ("sim.fault", "mute")];
    let relay = Relay::start(&mute).await;
    // The provider never says that its session is there.
    let mut first = connect(&relay, KEY).await.unwrap();
    let refused = turned_away(&relay, KEY).await;
    assert_eq!(
        refused,
        (429, "1".to_owned(), "limits.handshakes".to_owned())
    );
    first.socket.close(None).await.unwrap();
}

#[tokio::test]
async fn a_tenant_makes_no_more_secrets_than_its_rate() {
    let relay = Relay::start(&[("limits.secrets_per_minute", "3")]).await;
    let mint = || {
        let request = Client::new().post(relay.url("/v1/realtime/client_secrets"));
        request.bearer_auth(KEY).json(&json!({})).send()
    };
    for _ in 0..3 {
        assert_eq!(mint().await.unwrap().status(), StatusCode::OK);
    }
    let refused = mint().await.unwrap();
    let wait = refused.headers()["retry-after"].to_str().unwrap();
    assert!((1..=20).contains(&wait.parse::<u64>().unwrap()), "{wait}");
    assert_eq!(over(refused).await, "limits.secrets_per_minute");
}

#[tokio::test]
async fn a_conversation_lasts_no_longer_than_it_may() {
    let relay = Relay::start(&[("limits.session_length", "1s")]).await;
    let mut client = relay.connect().await;
    client.event_of("session.created").await;
    let (code, reason) = client.close().await;
    assert_eq!(code, 1000, "{reason}");
    assert!(reason.contains("as long as"), "{reason}");
}

async fn secret(relay: &Relay, user: &str) -> String {
    let request = Client::new().post(relay.url("/v1/realtime/client_secrets"));
    let request = request
        .bearer_auth(KEY)
        .header("openai-safety-identifier", user);
    let secret: Value = request.send().await.unwrap().json().await.unwrap();
    secret["value"].as_str().unwrap().to_owned()
}

async fn connect(relay: &Relay, credential: &str) -> Result<harness::Client, Error> {
    let bearer = format!("Bearer {credential}");
    let query = format!("?model={MODEL}");
    relay
        .connect_with(&query, &[("authorization", &bearer)])
        .await
}

/// Returns the status, when to come back, and the limit that is named.
async fn turned_away(relay: &Relay, credential: &str) -> (u16, String, String) {
    match connect(relay, credential).await {
        Err(Error::Http(response)) => {
            let wait = response.headers()["retry-after"]
                .to_str()
                .unwrap()
                .to_owned();
            let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
            (response.status().as_u16(), wait, limit(&body))
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

/// Waits for a line to be free, which it is soon after the last one has closed.
async fn let_in_again(relay: &Relay, credential: &str) {
    let trying = async {
        while connect(relay, credential).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, trying).await.unwrap();
}

async fn over(answer: Response) -> String {
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers().contains_key("retry-after"));
    limit(&answer.json().await.unwrap())
}

fn limit(body: &Value) -> String {
    let error = &body["error"];
    assert_eq!(error["code"], "rate_limit_exceeded", "{body}");
    let message = error["message"].as_str().unwrap();
    message.split('`').nth(1).unwrap().to_owned()
}
