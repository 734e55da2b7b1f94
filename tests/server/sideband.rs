//! Those who join a call from beside it.

use reqwest::StatusCode;
use serde_json::json;

use crate::calling::{call, heard};
use crate::harness::{KEY, Relay};

#[tokio::test]
async fn a_tenant_s_server_sees_and_steers_a_call_of_its_user() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let (mut peer, id) = call(&relay, &secret, "").await;
    let mut server = relay.connect_as(KEY, &format!("?call_id={id}")).await;
    let created = server.event().await;
    assert_eq!(created["type"], "session.created");

    server.note("item_hint", "Her name is Anna.").await;
    heard(&mut peer, "conversation.item.done").await;
    let tools = json!({"type": "session.update", "session": {
        "type": "realtime",
        "instructions": "Be brief.",
        // As the call's own client, it does not choose formats.
        "audio": {"output": {"format": {"type": "audio/pcmu"}}},
    }});
    server.send(tools).await;
    let updated = server.event_of("session.updated").await;
    assert_eq!(updated["session"]["instructions"], "Be brief.");
    let format = &updated["session"]["audio"]["output"]["format"]["type"];
    assert_eq!(format, "audio/pcm");
    assert_eq!(
        heard(&mut peer, "session.updated").await["session"]["instructions"],
        "Be brief."
    );
    let create = json!({"type": "response.create", "response": {"metadata": {"asked": "beside"}}});
    server.send(create).await;
    for event in [
        server.event_of("response.created").await,
        heard(&mut peer, "response.created").await,
    ] {
        assert_eq!(event["response"]["metadata"]["asked"], "beside");
    }
    // It hears of the sound what the call's client does.
    server.event_of("output_audio_buffer.started").await;

    let append = json!({"type": "input_audio_buffer.append", "audio": "AAAA", "event_id": "mine"});
    server.send(append).await;
    let error = server.event_of("error").await;
    assert_eq!(error["error"]["code"], "invalid_value", "{error}");
    assert_eq!(error["error"]["event_id"], "mine");
}

#[tokio::test]
async fn a_call_outlives_those_beside_it_and_ends_with_a_close() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let (mut peer, id) = call(&relay, &secret, "").await;
    let query = format!("?call_id={id}");
    let mut first = relay.connect_as(KEY, &query).await;
    first.event_of("session.created").await;
    first.socket.close(None).await.unwrap();
    let mut second = relay.connect_as(KEY, &query).await;
    second.event_of("session.created").await;
    peer.send("oai-events", r#"{"type":"input_audio_buffer.clear"}"#)
        .await;
    heard(&mut peer, "input_audio_buffer.cleared").await;

    let answer = hang_up(&relay, KEY, &id).await;
    assert_eq!(answer, StatusCode::OK);
    assert_eq!(second.close().await.0, 1000);
    relay.until("voxline_sessions", 0).await;
}

#[tokio::test]
async fn nobody_learns_of_a_call_that_is_not_theirs() {
    let relay = Relay::start(&[]).await;
    let [anna, bert, nobody, somebody] = [
        relay.secret_of("anna").await,
        relay.secret_of("bert").await,
        relay.mint(json!({})).await,
        relay.mint(json!({})).await,
    ];
    let (_peer, id) = call(&relay, &anna, "").await;
    let (_other, nameless) = call(&relay, &nobody, "").await;
    for (secret, call) in [
        (&bert, id.as_str()),
        (&nobody, &id),
        (&somebody, &nameless),
        (&anna, &nameless),
        (&anna, "rtc_none"),
    ] {
        let mut client = relay.connect_as(secret, &format!("?call_id={call}")).await;
        let error = client.event().await;
        assert_eq!(error["error"]["code"], "call_not_found", "{error}");
        assert_eq!(error["error"]["param"], "call_id");
        assert_eq!(client.close().await.0, 4000);
        assert_eq!(hang_up(&relay, secret, call).await, StatusCode::NOT_FOUND);
    }
    let mut own = relay.connect_as(&anna, &format!("?call_id={id}")).await;
    own.event_of("session.created").await;
    assert_eq!(hang_up(&relay, &nobody, &nameless).await, StatusCode::OK);
    assert_eq!(hang_up(&relay, &anna, &id).await, StatusCode::OK);
}

#[tokio::test]
async fn there_is_room_for_few_beside_a_call() {
    let relay = Relay::start(&[]).await;
    let secret = relay.secret_of("anna").await;
    let (_peer, id) = call(&relay, &secret, "").await;
    let query = format!("?call_id={id}");
    let mut crowd = Vec::new();
    for _ in 0..4 {
        let mut client = relay.connect_as(KEY, &query).await;
        client.event_of("session.created").await;
        crowd.push(client);
    }
    let mut late = relay.connect_as(KEY, &query).await;
    let error = late.event_of("error").await;
    assert_eq!(error["error"]["code"], "too_many_sidebands");
    assert_eq!(late.close().await.0, 1008);
}

async fn hang_up(relay: &Relay, credential: &str, id: &str) -> StatusCode {
    let answer = reqwest::Client::new()
        .delete(relay.url(&format!("/v1/realtime/calls/{id}")))
        .bearer_auth(credential)
        .send()
        .await;
    answer.unwrap().status()
}
