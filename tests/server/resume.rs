//! Clients that lose their connection, and come back to their session.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::calling::heard_on;
use crate::harness::{Client, KEY, MODEL, Relay};
use crate::support::peer::Peer;

const LABELS: &[&str] = &["oai-events", "voxline"];

#[tokio::test]
async fn a_client_that_was_lost_comes_back_to_its_conversation() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let mut client = relay.connect_extended(&secret, &query()).await;
    let created = client.event_of("session.created").await;
    let session = client.event_of("voxline.session").await;
    assert_eq!(session["resume_window_ms"], 30_000);
    client.note("item_mine", "Remember this.").await;
    drop(client);
    relay.until("voxline_sessions_parked_total", 1).await;
    assert_eq!(relay.metric("voxline_sessions").await, 1);

    // Whatever it asks for besides, it is the session that it had.
    let mut client = relay.connect_extended(resume(&session), "?model=x").await;
    let again = client.event().await;
    assert_eq!(again["type"], "session.created");
    assert_eq!(again["session"]["id"], created["session"]["id"]);
    assert_eq!(client.event().await["type"], "voxline.state");
    let next = client.event_of("voxline.session").await;
    assert_eq!(next["session_id"], session["session_id"]);
    assert_eq!(
        client.recall("item_mine").await.as_deref(),
        Some("Remember this.")
    );
    assert_eq!(relay.metric("voxline_sessions").await, 1);
    assert_eq!(relay.metric("voxline_sessions_resumed_total").await, 1);
}

#[tokio::test]
async fn what_was_said_meanwhile_is_told_in_order() {
    let relay = Relay::start(&[("sim.first_audio", "500ms")]).await;
    let secret = relay.secret_of("anna").await;
    let mut client = relay.connect_extended(&secret, &query()).await;
    let session = client.event_of("voxline.session").await;
    let response = json!({"output_modalities": ["text"]});
    client
        .send(json!({"type": "response.create", "response": response}))
        .await;
    client.event_of("response.created").await;
    drop(client);
    relay.until("voxline_sessions_parked_total", 1).await;
    // What the provider bills is counted when its answer is complete.
    while relay
        .metric("voxline_provider_tokens_total{kind=\"output_text\"}")
        .await
        == 0
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut client = relay.connect_extended(resume(&session), "").await;
    assert_eq!(client.event().await["type"], "session.created");
    let mut kinds = Vec::new();
    loop {
        let event = client.event().await;
        let kind = event["type"].as_str().unwrap().to_owned();
        if kind == "response.done" {
            break;
        }
        kinds.push(kind);
    }
    let position = |wanted: &str| kinds.iter().position(|kind| kind == wanted);
    let [added, delta, text] = [
        "response.output_item.added",
        "response.output_text.delta",
        "response.output_text.done",
    ]
    .map(position);
    assert!(
        added.is_some() && added < delta && delta < text,
        "{kinds:?}"
    );
}

#[tokio::test]
async fn a_connection_is_made_before_the_old_one_breaks() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let mut first = relay.connect_extended(&secret, &query()).await;
    let session = first.event_of("voxline.session").await;
    first.note("item_mine", "Remember this.").await;
    let mut second = relay.connect_extended(resume(&session), "").await;
    second.event_of("session.created").await;
    let (code, reason) = first.close().await;
    assert_eq!(code, 1000, "{reason}");
    assert_eq!(
        second.recall("item_mine").await.as_deref(),
        Some("Remember this.")
    );
    assert_eq!(relay.metric("voxline_sessions").await, 1);
}

#[tokio::test]
async fn an_api_key_s_client_comes_back_as_well() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect_extended(KEY, &query()).await;
    let session = client.event_of("voxline.session").await;
    client.note("item_mine", "Remember this.").await;
    drop(client);
    let mut client = relay.connect_extended(resume(&session), "").await;
    client.event_of("session.created").await;
    assert!(client.recall("item_mine").await.is_some());
}

#[tokio::test]
async fn whoever_stays_away_for_too_long_begins_anew() {
    let relay = Relay::start(&[("session.resume_window", "200ms")]).await;
    let secret = relay.secret_of("anna").await;
    let mut client = relay.connect_extended(&secret, &query()).await;
    let session = client.event_of("voxline.session").await;
    assert_eq!(session["resume_window_ms"], 200);
    drop(client);
    relay.until("voxline_sessions_abandoned_total", 1).await;
    relay.until("voxline_sessions", 0).await;
    refused(&relay, resume(&session), "session_not_found").await;
    let answer = relay.offer(resume(&session), "", "v=0\r\n").await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(code(answer.json().await.unwrap()), "session_not_found");
}

#[tokio::test]
async fn a_session_that_was_hung_up_is_not_waited_for() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let mut client = relay.connect_extended(&secret, &query()).await;
    let session = client.event_of("voxline.session").await;
    client.socket.close(None).await.unwrap();
    relay.until("voxline_sessions", 0).await;
    refused(&relay, resume(&session), "session_not_found").await;
}

#[tokio::test]
async fn a_client_that_does_not_speak_voxline_v1_is_not_waited_for() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect().await;
    client.event_of("session.created").await;
    drop(client);
    relay.until("voxline_sessions", 0).await;
    assert_eq!(relay.metric("voxline_sessions_parked_total").await, 0);
}

#[tokio::test]
async fn a_session_whose_client_plays_it_keeps_its_transport() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let mut client = relay.connect_extended(&secret, &query()).await;
    let session = client.event_of("voxline.session").await;
    let peer = Peer::new(LABELS).await;
    let answer = relay.offer(resume(&session), "", &peer.offer().await).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(code(answer.json().await.unwrap()), "resume_wrong_transport");

    let (_peer, session, _) = call(&relay, &secret).await;
    refused(&relay, resume(&session), "resume_wrong_transport").await;
}

#[tokio::test]
async fn a_call_is_taken_over_by_another_connection_at_the_same_place() {
    let relay = Relay::start(&[("limits.sessions", "1")]).await;
    let secret = relay.secret_of("anna").await;
    let (mut first, session, location) = call(&relay, &secret).await;
    first.send("oai-events", &note("item_mine")).await;
    heard_on(&mut first, "oai-events", "conversation.item.done").await;
    let mut second = Peer::new(LABELS).await;
    let answer = relay
        .offer(resume(&session), "", &second.offer().await)
        .await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["location"], location.as_str());
    second.connect(&answer.text().await.unwrap()).await;
    let created = heard_on(&mut second, "oai-events", "session.created").await;
    assert!(created["session"]["id"].is_string());
    let again = heard_on(&mut second, "voxline", "voxline.session").await;
    assert_eq!(again["session_id"], session["session_id"]);
    let retrieve = json!({"type": "conversation.item.retrieve", "item_id": "item_mine"});
    second.send("oai-events", &retrieve.to_string()).await;
    let kept = heard_on(&mut second, "oai-events", "conversation.item.retrieved").await;
    assert_eq!(kept["item"]["content"][0]["text"], "Remember this.");
    assert_eq!(relay.metric("voxline_sessions").await, 1);
}

#[tokio::test]
async fn a_resume_token_opens_its_own_session_and_no_other() {
    let relay = Relay::start(&[]).await;
    let secrets = [relay.secret_of("anna").await, relay.secret_of("bert").await];
    let mut anna = relay.connect_extended(&secrets[0], &query()).await;
    let session = anna.event_of("voxline.session").await;
    anna.note("item_mine", "Remember this.").await;
    let mut bert = relay.connect_extended(&secrets[1], &query()).await;
    let other = bert.event_of("voxline.session").await;
    drop((anna, bert));

    // A client secret opens a session of its own, whoever's it is.
    let mut client = relay.connect_extended(&secrets[1], &query()).await;
    let own = client.event_of("voxline.session").await;
    assert_ne!(own["session_id"], session["session_id"]);
    let mut client = relay.connect_extended(resume(&other), "").await;
    client.event_of("session.created").await;
    assert_eq!(client.recall("item_mine").await, None);

    let forged = {
        let [mine, theirs] = [&session, &other].map(|session| resume(session).to_owned());
        let (body, _) = mine.rsplit_once('.').unwrap();
        let (_, signature) = theirs.rsplit_once('.').unwrap();
        format!("{body}.{signature}")
    };
    let mut client = relay.connect_extended(&forged, "").await;
    assert_eq!(client.event().await["error"]["code"], "token_signature");
    assert_eq!(client.close().await.0, 3000);
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_device_resumes_on_that_device_only() {
    let relay = Relay::start(&[]).await;
    let wish = json!({"voxline": {"user": "anna", "device": "phone"}});
    let secret = relay.mint(wish).await;
    let on_phone = format!("{}&device=phone", query());
    let mut client = relay.connect_extended(&secret, &on_phone).await;
    let session = client.event_of("voxline.session").await;
    drop(client);
    for device in ["", "?device=laptop"] {
        let mut client = relay.connect_extended(resume(&session), device).await;
        let error = client.event().await;
        assert_eq!(error["error"]["code"], "token_wrong_device", "{error}");
        assert_eq!(client.close().await.0, 3000);
    }
    let mut client = relay
        .connect_extended(resume(&session), "?device=phone")
        .await;
    client.event_of("session.created").await;
}

fn query() -> String {
    format!("?model={MODEL}")
}

fn resume(session: &Value) -> &str {
    session["resume_token"].as_str().unwrap()
}

fn code(body: Value) -> String {
    body["error"]["code"].as_str().unwrap().to_owned()
}

fn note(id: &str) -> String {
    let content = json!([{"type": "input_text", "text": "Remember this."}]);
    let item = json!({"id": id, "type": "message", "role": "user", "content": content});
    json!({"type": "conversation.item.create", "item": item}).to_string()
}

/// Connects, and expects to be told this, finally.
async fn refused(relay: &Relay, credential: &str, code: &str) {
    let mut client: Client = relay.connect_extended(credential, "").await;
    assert_eq!(client.event().await["error"]["code"], code);
    let reason = format!("invalid_request_error.{code}");
    assert_eq!(client.close().await, (4000, reason));
}

/// Makes a call; returns its `voxline.session` and its location as well.
async fn call(relay: &Relay, credential: &str) -> (Peer, Value, String) {
    let mut peer = Peer::new(LABELS).await;
    let answer = relay.offer(credential, "", &peer.offer().await).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    peer.connect(&answer.text().await.unwrap()).await;
    let session = heard_on(&mut peer, "voxline", "voxline.session").await;
    (peer, session, location)
}
