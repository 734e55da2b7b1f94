//! Client secrets: made by a server with its key, shown by its clients.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use voxline::sim::Settings;

use crate::support::{Client, Provider, fast, http};

#[tokio::test]
async fn a_secret_opens_sessions_as_they_were_wanted_more_than_once() {
    let provider = keyed();
    let session = json!({"type": "realtime", "model": "gpt-realtime-2.1-mini",
        "instructions": "Be brief.", "audio": {"output": {"voice": "marin"}}});
    let made = make(&provider, json!({"session": session})).await;
    let value = made["value"].as_str().unwrap();
    assert!(value.starts_with("ek_"));

    let shown = &made["session"];
    assert_eq!(shown["object"], "realtime.session");
    assert_eq!(shown["expires_at"], 0);
    assert_eq!(shown["instructions"], "Be brief.");
    for _ in 0..2 {
        // Its own model, or another: a client may override what is attached.
        for (query, model) in [
            ("", "gpt-realtime-2.1-mini"),
            ("?model=gpt-realtime-2", "gpt-realtime-2"),
        ] {
            let mut client = dial(&provider, query, value).await;
            let created = client.expect("session.created").await["session"].take();
            assert_eq!(created["model"], model);
            assert_eq!(created["instructions"], "Be brief.");
            assert_eq!(created["audio"]["output"]["voice"], "marin");
            assert_ne!(created["expires_at"], 0);
            let session = client.update(json!({"instructions": "Be long."})).await;
            assert_eq!(session["instructions"], "Be long.");
        }
    }
}

#[tokio::test]
async fn a_secret_for_a_transcription_opens_no_conversation() {
    let provider = keyed();
    let made = make(&provider, json!({"session": {"type": "transcription"}})).await;
    let value = made["value"].as_str().unwrap();
    assert_eq!(made["session"]["object"], "realtime.transcription_session");

    for query in ["", "?intent=transcription"] {
        let mut client = dial(&provider, query, value).await;
        let created = client.expect("session.created").await;
        assert_eq!(created["session"]["type"], "transcription");
    }
    let mut client = dial(&provider, "?model=gpt-realtime-2.1", value).await;
    let error = client.expect("error").await["error"].take();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("invalid_value"), &json!("model"))
    );
    assert_eq!(u16::from(client.closed().await.code), 4000);
}

#[tokio::test]
async fn a_secret_expires_and_a_session_outlives_it() {
    let provider = keyed();
    let made = make(&provider, json!({"expires_after": {"seconds": 10}})).await;
    let value = made["value"].as_str().unwrap();
    let mut running = dial(&provider, "", value).await;
    running.expect("session.created").await;

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();

    let mut late = dial(&provider, "", value).await;
    assert_eq!(
        late.expect("error").await["error"]["code"],
        "invalid_api_key"
    );
    assert_eq!(u16::from(late.closed().await.code), 3000);
    running.update(json!({"instructions": "Go on."})).await;
}

#[tokio::test]
async fn a_secret_is_valid_for_ten_minutes_unless_told_otherwise() {
    let provider = keyed();
    for (wish, seconds) in [
        (json!({}), 600),
        (json!({"expires_after": {"anchor": "created_at"}}), 600),
        (
            json!({"expires_after": {"anchor": "created_at", "seconds": 7200}}),
            7200,
        ),
    ] {
        let before = unix();
        let made = make(&provider, wish).await;
        let expires_at = made["expires_at"].as_u64().unwrap();
        assert!((before + seconds..=unix() + seconds).contains(&expires_at));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_wish_is_said_with_its_place() {
    let provider = keyed();
    let cases = [
        (
            json!({"expires_after": {"seconds": 9}}),
            "expires_after.seconds",
        ),
        (
            json!({"expires_after": {"seconds": 7201}}),
            "expires_after.seconds",
        ),
        (
            json!({"expires_after": {"anchor": "now"}}),
            "expires_after.anchor",
        ),
        (json!({"session": {"type": "talk"}}), "session.type"),
        (
            json!({"session": {"type": "realtime", "model": "gpt-4o"}}),
            "session.model",
        ),
        (
            json!({"session": {"type": "realtime", "tool": []}}),
            "session.tool",
        ),
        (json!({"sesion": {}}), "sesion"),
    ];
    for (wish, param) in cases {
        let (status, body) = post(&provider, "sk-right", wish.to_string()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(body["error"]["param"], param, "{body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
    let (status, body) = post(&provider, "sk-right", "{".to_owned()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error"]["code"], "invalid_json");
    let huge = " ".repeat((1 << 20) + 1);
    let (status, body) = post(&provider, "sk-right", huge).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{body}");
}

#[tokio::test]
async fn only_an_api_key_makes_secrets_and_only_made_ones_open_anything() {
    for provider in [keyed(), Provider::start(fast())] {
        let made = make(&provider, json!({})).await;
        for key in [made["value"].as_str().unwrap(), "ek_unknown"] {
            let (status, body) = post(&provider, key, "{}".to_owned()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert_eq!(body["error"]["code"], "invalid_api_key");
        }
        let mut client = dial(&provider, "?model=gpt-realtime-2.1", "ek_unknown").await;
        let error = client.expect("error").await;
        assert_eq!(error["error"]["code"], "invalid_api_key");
    }
}

fn keyed() -> Provider {
    Provider::start(Settings {
        api_key: Some("sk-right".to_owned()),
        ..fast()
    })
}

async fn make(provider: &Provider, wish: Value) -> Value {
    let (status, body) = post(provider, "sk-right", wish.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

async fn post(provider: &Provider, key: &str, body: String) -> (StatusCode, Value) {
    let url = format!("http://{}/v1/realtime/client_secrets", provider.addr);
    let request = http().post(url).bearer_auth(key).body(body);
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// Connects as a browser does.
async fn dial(provider: &Provider, query: &str, key: &str) -> Client {
    let mut request = provider.request(query);
    let headers = request.headers_mut();
    headers.remove("authorization");
    let offer = format!("realtime, openai-insecure-api-key.{key}");
    headers.insert("sec-websocket-protocol", offer.parse().unwrap());
    provider.dial(request).await
}

fn unix() -> u64 {
    let since = voxline::clock::wall().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}
