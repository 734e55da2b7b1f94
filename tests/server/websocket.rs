//! WebSocket sessions, from the upgrade to the close.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::harness::{BEARER, KEY, MODEL, PATIENCE, Relay};
use futures_util::SinkExt;

#[tokio::test]
async fn whoever_is_turned_away_is_told_why_in_band() {
    let relay = Relay::start(&[]).await;
    let model = "?model=gpt-realtime-2.1";
    let key = ("authorization", BEARER);
    let beta_protocol = format!("realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1");
    for (query, headers, code, close) in [
        (model, vec![], "invalid_api_key", 3000),
        (
            model,
            vec![("authorization", "Bearer wrong-key")],
            "invalid_api_key",
            3000,
        ),
        ("", vec![key], "missing_model", 4000),
        ("?model=", vec![key], "missing_model", 4000),
        ("?call_id=rtc_1", vec![key], "call_not_found", 4000),
        ("?call_id=rtc_1&model=m", vec![key], "invalid_value", 4000),
        ("?intent=translation", vec![key], "invalid_value", 4000),
        (
            "?intent=transcription&model=m",
            vec![key],
            "invalid_value",
            4000,
        ),
        (
            model,
            vec![key, ("openai-beta", "realtime=v1")],
            "beta_api_shape_disabled",
            4000,
        ),
        (
            model,
            vec![("sec-websocket-protocol", beta_protocol.as_str())],
            "beta_api_shape_disabled",
            4000,
        ),
        (
            "?model=gpt-4o-realtime-preview",
            vec![key],
            "invalid_model",
            4000,
        ),
    ] {
        let mut client = relay.connect_with(query, &headers).await.unwrap();
        let event = client.event().await;
        assert_eq!(event["type"], "error", "{event}");
        assert_eq!(event["error"]["code"], code, "{event}");
        let reason = format!("invalid_request_error.{code}");
        assert_eq!(client.close().await, (close, reason));
    }
}

#[tokio::test]
async fn a_client_s_close_is_answered_by_one() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect().await;
    client.event_of("session.created").await;
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: "done".into(),
    };
    client.socket.close(Some(frame)).await.unwrap();
    assert_eq!(client.close().await, (1000, "done".to_owned()));
}

#[tokio::test]
async fn a_crowd_without_a_key_is_turned_away_before_the_upgrade() {
    let relay = Relay::start(&[]).await;
    let mut crowd = Vec::new();
    let response = loop {
        // Nobody of the crowd reads, so all of them are still being told.
        match relay.connect_with("?model=x", &[]).await {
            Ok(client) => crowd.push(client),
            Err(Error::Http(response)) => break response,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(response.status().as_u16(), 401);
    assert!(crowd.len() >= 64, "{}", crowd.len());
    relay.connect().await.event_of("session.created").await;
}

#[tokio::test]
async fn whoever_is_turned_away_is_not_listened_to() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect_with("", &[]).await.unwrap();
    assert_eq!(client.close().await.0, 3000);
    // One message, smaller than what a client with a key may send.
    let size = 24_u64 << 20;
    let stream = client.socket.get_mut();
    stream.write_all(&[0x82, 0xff]).await.unwrap();
    stream.write_all(&size.to_be_bytes()).await.unwrap();
    let message = vec![0; 4 + size as usize];
    let sent = timeout(PATIENCE, stream.write_all(&message)).await;
    sent.expect("the connection ends").unwrap_err();
}

#[tokio::test]
async fn one_of_the_offered_subprotocols_is_selected() {
    let relay = Relay::start(&[]).await;
    let key = format!("openai-insecure-api-key.{KEY}");
    for (offer, selected) in [
        (format!("realtime, {key}"), Some("realtime")),
        (format!("realtime, {key}, voxline.v1"), Some("voxline.v1")),
        (format!("voxline.v1, {key}"), Some("voxline.v1")),
    ] {
        let headers = [("sec-websocket-protocol", offer.as_str())];
        let query = format!("?model={MODEL}");
        let mut client = relay.connect_with(&query, &headers).await.unwrap();
        assert_eq!(client.protocol.as_deref(), selected);
        client.event_of("session.created").await;
    }
    let client = relay.connect().await;
    assert_eq!(client.protocol, None);
}

#[tokio::test]
async fn a_conversation_begins_with_session_created_and_answers() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect().await;
    let created = client.event().await;
    assert_eq!(created["type"], "session.created");
    assert_eq!(created["session"]["model"], MODEL);
    client.send(json!({"type": "response.create"})).await;
    let delta = client.event_of("response.output_audio.delta").await;
    assert!(delta["delta"].is_string());
    let done = client.event_of("response.done").await;
    assert_eq!(done["response"]["status"], "completed");
}

#[tokio::test]
async fn a_bad_event_is_answered_and_the_session_lives_on() {
    let relay = Relay::start(&[("limits.event", "16KiB")]).await;
    let mut client = relay.connect().await;
    client.event_of("session.created").await;
    let unknown_field = json!({
        "type": "session.update",
        "event_id": "mine",
        "session": {"type": "realtime", "volume": 11},
    });
    for (message, code) in [
        (Message::binary(vec![0; 8]), "invalid_event"),
        (Message::text("not json"), "invalid_json"),
        (
            Message::text(r#"{"type":"no.such.event"}"#),
            "invalid_value",
        ),
        (
            Message::text(r#"{"type":"input_audio_buffer.append","audio":"%"}"#),
            "invalid_value",
        ),
        (Message::text("x".repeat(17 << 10)), "invalid_event"),
        (
            Message::text(unknown_field.to_string()),
            "unknown_parameter",
        ),
    ] {
        client.socket.send(message).await.unwrap();
        let event = client.event_of("error").await;
        assert_eq!(event["error"]["code"], code, "{event}");
    }
    client
        .send(json!({"type": "input_audio_buffer.clear"}))
        .await;
    client.event_of("input_audio_buffer.cleared").await;
}

#[tokio::test]
async fn only_clients_of_voxline_v1_hear_of_the_state() {
    let relay = Relay::start(&[]).await;
    let offer = format!("voxline.v1, openai-insecure-api-key.{KEY}");
    let headers = [("sec-websocket-protocol", offer.as_str())];
    let query = format!("?model={MODEL}");
    let mut client = relay.connect_with(&query, &headers).await.unwrap();
    client.event_of("voxline.state").await;
    client.send(json!({"type": "voxline.ping", "id": 5})).await;
    assert_eq!(client.event_of("voxline.pong").await["id"], 5);

    let mut client = relay.connect().await;
    client.send(json!({"type": "response.create"})).await;
    loop {
        let event = client.event().await;
        let kind = event["type"].as_str().unwrap();
        assert!(!kind.starts_with("voxline."), "{event}");
        if kind == "response.done" {
            break;
        }
    }
}

#[tokio::test]
async fn a_full_relay_refuses_the_upgrade_until_a_line_is_free() {
    let relay = Relay::start(&[("limits.sessions", "1")]).await;
    let mut first = relay.connect().await;
    first.event_of("session.created").await;
    let headers = [("authorization", BEARER)];
    let query = format!("?model={MODEL}");
    let refusal = relay.connect_with(&query, &headers).await;
    let Err(Error::Http(response)) = refusal.map(|_| ()) else {
        panic!("it was let in");
    };
    assert_eq!(response.status().as_u16(), 429);
    assert_eq!(response.headers()["retry-after"], "5");
    first.socket.close(None).await.unwrap();
    loop {
        match relay.connect_with(&query, &headers).await {
            Ok(mut next) => {
                next.event_of("session.created").await;
                break;
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_told_in_band() {
    let nowhere = [("openai.base_url", "http://127.0.0.1:9/v1")];
    for (setting, code, close) in [
        (nowhere[0], "provider_unreachable", 1013),
        (
            ("sim.fault", "unauthorized"),
            "provider_credential_refused",
            1011,
        ),
    ] {
        let relay = Relay::start(&[setting]).await;
        let mut client = relay.connect().await;
        assert_eq!(client.event().await["error"]["code"], code);
        assert_eq!(client.close().await.0, close, "{code}");
    }
}

#[tokio::test]
async fn a_provider_that_goes_ends_the_session_with_a_cue_to_come_again() {
    let relay = Relay::start(&[("sim.fault", "drop:200ms"), ("recovery.window", "0s")]).await;
    let mut client = relay.connect().await;
    client.send(json!({"type": "response.create"})).await;
    client.event_of("response.output_audio.delta").await;
    assert_eq!(client.close().await.0, 1013);
}

#[tokio::test]
async fn a_session_that_has_lasted_its_time_ends_as_openai_s_do() {
    let relay = Relay::start(&[("sim.session_length", "1s"), ("recovery.window", "0s")]).await;
    let mut client = relay.connect().await;
    let event = client.event_of("error").await;
    assert_eq!(event["error"]["code"], "session_expired");
    let (code, reason) = client.close().await;
    assert_eq!(code, 1001);
    assert_eq!(
        reason,
        "Your session hit the maximum duration of 60 minutes."
    );
}

#[tokio::test]
async fn sound_both_ways_is_timed() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect().await;
    let silence = json!({"type": "input_audio_buffer.append", "audio": "AAAA".repeat(640)});
    for _ in 0..10 {
        client.send(silence.clone()).await;
    }
    client
        .send(json!({"type": "input_audio_buffer.commit"}))
        .await;
    client.event_of("input_audio_buffer.committed").await;
    let metrics = reqwest::get(relay.url("/metrics")).await.unwrap();
    let page = metrics.text().await.unwrap();
    let count: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("voxline_packet_in_seconds_count"))
        .collect();
    assert_eq!(
        count,
        ["voxline_packet_in_seconds_count{provider=\"embedded\"} 10"]
    );
    let _: Value = client.event_of("conversation.item.added").await;
}

#[tokio::test]
async fn a_client_secret_brings_its_session_and_its_client_may_change_it() {
    let relay = Relay::start(&[]).await;
    let session = json!({
        "type": "realtime",
        "model": "gpt-realtime-2.1-mini",
        "instructions": "Be brief.",
        "output_modalities": ["text"],
    });
    let secret = relay.mint(json!({"session": session})).await;
    let mut client = relay.connect_as(&secret, "").await;
    let created = client.event().await["session"].take();
    assert_eq!(created["model"], "gpt-realtime-2.1-mini");
    assert_eq!(created["instructions"], "Be brief.");
    assert_eq!(created["output_modalities"], json!(["text"]));
    let update = json!({"type": "realtime", "instructions": "Take your time."});
    client
        .send(json!({"type": "session.update", "session": update}))
        .await;
    let updated = client.event_of("session.updated").await["session"].take();
    assert_eq!(updated["instructions"], "Take your time.");
    let mut client = relay.connect_as(&secret, &format!("?model={MODEL}")).await;
    assert_eq!(client.event().await["session"]["model"], MODEL);
}

#[tokio::test]
async fn a_client_secret_opens_its_models_only() {
    let relay = Relay::start(&[]).await;
    let models = json!({"voxline": {"models": [MODEL]}});
    let secret = relay.mint(models).await;
    let mut client = relay
        .connect_as(&secret, "?model=gpt-realtime-2.1-mini")
        .await;
    let error = client.event().await;
    assert_eq!(error["error"]["code"], "model_not_allowed", "{error}");
    assert_eq!(client.close().await.0, 4000);
    let mut client = relay.connect_as(&secret, &format!("?model={MODEL}")).await;
    client.event_of("session.created").await;
}

#[tokio::test]
async fn what_clients_tell_their_own_by_comes_back() {
    let relay = Relay::start(&[]).await;
    let mut client = relay.connect().await;
    let response = json!({"metadata": {"client_event_id": "event_1"}});
    client
        .send(json!({"type": "response.create", "response": response}))
        .await;
    for kind in ["response.created", "response.done"] {
        let event = client.event_of(kind).await;
        let metadata = &event["response"]["metadata"];
        assert_eq!(metadata["client_event_id"], "event_1", "{kind}");
    }
    let retrieve =
        json!({"type": "conversation.item.retrieve", "item_id": "none", "event_id": "mine"});
    client.send(retrieve).await;
    let error = client.event_of("error").await;
    assert_eq!(error["error"]["event_id"], "mine");
    client.note("item_mine", "Remember this.").await;
    assert_eq!(
        client.recall("item_mine").await.as_deref(),
        Some("Remember this.")
    );
}
