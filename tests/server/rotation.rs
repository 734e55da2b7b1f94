//! Tokens that are renewed while their client talks.

use serde_json::{Value, json};

use crate::dashboard::until_it_fires;
use crate::harness::{Client, MODEL, Relay};

/// As short as a token may be.
const SHORT: u64 = 10;

#[tokio::test]
async fn a_fresh_token_comes_in_time_and_opens_what_the_old_one_did() {
    let relay = Relay::start(&[]).await;
    let (_, mut client) = connect(&relay, "anna").await;
    let session = client.event_of("voxline.session").await;
    let fresh = client.event_of("voxline.token").await;
    client.send(acknowledgement(&fresh)).await;
    relay.until("voxline_token_renewals_total", 1).await;

    // The tenant's settings come with it.
    let token = fresh["token"].as_str().unwrap();
    let mut another = relay.connect_as(token, "").await;
    let created = another.event_of("session.created").await;
    assert_eq!(created["session"]["instructions"], "Be brief.");
    let later = fresh["resume_token"].as_str().unwrap();
    let mut back = relay.connect_extended(later, "").await;
    let same = back.event_of("voxline.session").await;
    assert_eq!(same["session_id"], session["session_id"]);
    assert_eq!(relay.metric("session_rotate_fail_total").await, 0);
}

#[tokio::test]
async fn a_client_that_does_not_take_its_token_is_asked_to_come_back() {
    let relay = Relay::start(&[("tokens.skew", "0s")]).await;
    let (secret, mut client) = connect(&relay, "anna").await;
    client.event_of("session.created").await;
    client.note("item_mine", "Remember this.").await;
    // It is offered again and again, and never acknowledged.
    let (offers, reconnect) = tokens_until(&mut client, "voxline.reconnect").await;
    assert!(offers.len() >= 2, "{}", offers.len());
    assert_eq!(relay.metric("session_rotate_fail_total").await, 1);
    // The session goes on, and what it holds does not open a new one.
    client.note("item_more", "And this.").await;
    let mut late = relay.connect_as(&secret, "").await;
    assert_eq!(late.event().await["error"]["code"], "token_expired");

    let token = reconnect["resume_token"].as_str().unwrap();
    let mut back = relay.connect_extended(token, "").await;
    back.event_of("session.created").await;
    assert_eq!(client.close().await.0, 1000);
    for id in ["item_mine", "item_more"] {
        assert!(back.recall(id).await.is_some(), "{id}");
    }
    // It is given another chance at once.
    let fresh = back.event_of("voxline.token").await;
    back.send(acknowledgement(&fresh)).await;
    relay.until("voxline_token_renewals_total", 1).await;
    // Its operator is told.
    until_it_fires(&relay, "TokenRotationFailed").await;
}

#[tokio::test]
async fn a_client_that_fetches_by_itself_is_told_when_to() {
    let relay = Relay::start(&[("session.renewal", "fetch")]).await;
    let (_, mut client) = connect(&relay, "anna").await;
    let expiring = client.event_of("voxline.token_expiring").await;
    let within = expiring["within_ms"].as_u64().unwrap();
    assert!((1..SHORT * 1000).contains(&within), "{within}");

    for (token, code) in [
        (relay.secret_of("bert").await, "insufficient_permissions"),
        ("ek_nonsense".to_owned(), "token_malformed"),
    ] {
        client.send(presentation(&token)).await;
        let error = client.event_of("error").await;
        assert_eq!(error["error"]["code"], code, "{error}");
    }
    let fetched = relay.secret_of("anna").await;
    client.send(presentation(&fetched)).await;
    let taken = client.event_of("voxline.token").await;
    assert_eq!(taken["token"], fetched.as_str());
    relay.until("voxline_token_renewals_total", 1).await;
    assert_eq!(relay.metric("session_rotate_fail_total").await, 0);
}

/// Connects with a token of the least life.
async fn connect(relay: &Relay, user: &str) -> (String, Client) {
    let secret = relay
        .mint(json!({
            "expires_after": {"anchor": "created_at", "seconds": SHORT},
            "session": {"type": "realtime", "model": MODEL, "instructions": "Be brief."},
            "voxline": {"user": user},
        }))
        .await;
    let client = relay.connect_extended(&secret, "").await;
    (secret, client)
}

/// Collects the tokens that come before this event.
async fn tokens_until(client: &mut Client, kind: &str) -> (Vec<Value>, Value) {
    let mut tokens = Vec::new();
    loop {
        let event = client.event().await;
        if event["type"] == kind {
            return (tokens, event);
        }
        if event["type"] == "voxline.token" {
            tokens.push(event);
        }
    }
}

fn acknowledgement(token: &Value) -> Value {
    json!({"type": "voxline.token_ack", "token_id": token["token_id"]})
}

fn presentation(token: &str) -> Value {
    json!({"type": "voxline.token_present", "token": token})
}
