//! Client secrets: what an application's server asks for and gets, and what they open.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{KEY, MODEL, Relay};

const PATH: &str = "/v1/realtime/client_secrets";

#[tokio::test]
async fn a_secret_has_openai_s_shape() {
    let relay = Relay::start(&[]).await;
    let answer = mint(
        &relay,
        json!({
            "expires_after": {"anchor": "created_at", "seconds": 120},
            "session": {"type": "realtime", "model": MODEL, "instructions": "Be brief."},
        }),
    )
    .await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let secret: Value = answer.json().await.unwrap();
    assert!(
        secret["value"].as_str().unwrap().starts_with("ek_"),
        "{secret}"
    );
    let left = secret["expires_at"].as_u64().unwrap() - unix();
    assert!((118..=120).contains(&left), "{left}");
    let session = &secret["session"];
    assert!(
        session["id"].as_str().unwrap().starts_with("sess_"),
        "{secret}"
    );
    assert_eq!(session["object"], "realtime.session");
    assert_eq!(session["type"], "realtime");
    assert_eq!(session["model"], MODEL);
    assert_eq!(session["instructions"], "Be brief.");
    assert_eq!(session["expires_at"], 0);
    let own = &secret["voxline"];
    assert!(own["token_id"].is_string());
    let expires_at = secret["expires_at"].as_u64().unwrap();
    assert_eq!(own["renew_at"].as_u64().unwrap(), expires_at - 30);
}

#[tokio::test]
async fn nothing_need_be_asked_for() {
    let relay = Relay::start(&[("tokens.ttl", "60s")]).await;
    let bare = Client::new().post(relay.url(PATH)).bearer_auth(KEY);
    for answer in [bare.send().await.unwrap(), mint(&relay, json!({})).await] {
        let secret: Value = answer.json().await.unwrap();
        assert_eq!(secret["session"]["type"], "realtime", "{secret}");
        assert_eq!(secret["session"]["model"], MODEL);
        let left = secret["expires_at"].as_u64().unwrap() - unix();
        assert!((58..=60).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn a_secret_for_a_transcription_says_so() {
    let relay = Relay::start(&[]).await;
    let answer = mint(&relay, json!({"session": {"type": "transcription"}})).await;
    let secret: Value = answer.json().await.unwrap();
    assert_eq!(
        secret["session"]["object"],
        "realtime.transcription_session"
    );
    assert_eq!(secret["session"]["model"], Value::Null);
}

#[tokio::test]
async fn what_is_wrong_with_a_wish_is_named() {
    let relay = Relay::start(&[("tokens.max_ttl", "10m")]).await;
    let after = |expires_after: Value| json!({ "expires_after": expires_after });
    let session = |session: Value| json!({ "session": session });
    let own = |voxline: Value| json!({ "voxline": voxline });
    for (body, code, param) in [
        (json!([]), "invalid_type", None),
        (json!("x"), "invalid_type", None),
        (json!({"expire": 1}), "unknown_parameter", Some("expire")),
        (after(json!(60)), "invalid_type", Some("expires_after")),
        (
            after(json!({"anchor": "last_active_at", "seconds": 60})),
            "invalid_value",
            Some("expires_after.anchor"),
        ),
        (
            after(json!({"anchor": 1})),
            "invalid_type",
            Some("expires_after.anchor"),
        ),
        (
            after(json!({"seconds": 9})),
            "integer_below_min_value",
            Some("expires_after.seconds"),
        ),
        (
            after(json!({"seconds": -1})),
            "integer_below_min_value",
            Some("expires_after.seconds"),
        ),
        (
            after(json!({"seconds": 7201})),
            "integer_above_max_value",
            Some("expires_after.seconds"),
        ),
        (
            after(json!({"seconds": 601})),
            "invalid_value",
            Some("expires_after.seconds"),
        ),
        (
            after(json!({"seconds": 60.5})),
            "invalid_type",
            Some("expires_after.seconds"),
        ),
        (
            after(json!({"seconds": "60"})),
            "invalid_type",
            Some("expires_after.seconds"),
        ),
        (
            after(json!({"second": 60})),
            "unknown_parameter",
            Some("expires_after.second"),
        ),
        (session(json!([])), "invalid_type", Some("session")),
        (
            session(json!({})),
            "missing_required_parameter",
            Some("session.type"),
        ),
        (
            session(json!({"type": "chat"})),
            "invalid_value",
            Some("session.type"),
        ),
        (
            session(json!({"type": 1})),
            "invalid_type",
            Some("session.type"),
        ),
        (
            session(json!({"type": "realtime", "model": 1})),
            "invalid_type",
            Some("session.model"),
        ),
        (own(json!("me")), "invalid_type", Some("voxline")),
        (
            own(json!({"user": 7})),
            "invalid_type",
            Some("voxline.user"),
        ),
        (
            own(json!({"user": ""})),
            "invalid_value",
            Some("voxline.user"),
        ),
        (
            own(json!({"device": "my phone"})),
            "invalid_value",
            Some("voxline.device"),
        ),
        (
            own(json!({"models": "m"})),
            "invalid_type",
            Some("voxline.models"),
        ),
        (
            own(json!({"models": [1]})),
            "invalid_type",
            Some("voxline.models"),
        ),
        (
            own(json!({"role": "admin"})),
            "unknown_parameter",
            Some("voxline.role"),
        ),
    ] {
        let answer = mint(&relay, body.clone()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let error = error(answer).await;
        assert_eq!(error["code"], code, "{body}: {error}");
        assert_eq!(error["param"].as_str(), param, "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn a_body_is_json_and_not_too_large() {
    let relay = Relay::start(&[("limits.body", "4KiB")]).await;
    let post = || Client::new().post(relay.url(PATH)).bearer_auth(KEY);
    let json = || post().header("content-type", "application/json; charset=utf-8");
    let instructions = "x".repeat(5000);
    for (request, status, code) in [
        (json().body("{"), 400, "invalid_json"),
        (json().body("\u{feff}{}"), 400, "invalid_json"),
        (json().body("[".repeat(4000)), 400, "invalid_json"),
        (post().body("{}"), 415, "unsupported_content_type"),
        (
            post()
                .header("content-type", "application/x-www-form-urlencoded")
                .body("a=b"),
            415,
            "unsupported_content_type",
        ),
        (json().body(instructions), 413, "request_too_large"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{code}");
        assert_eq!(error(answer).await["code"], code);
    }
}

#[tokio::test]
async fn only_an_api_key_makes_secrets() {
    let relay = Relay::start(&[]).await;
    let secret: Value = mint(&relay, json!({})).await.json().await.unwrap();
    let post = || Client::new().post(relay.url(PATH)).json(&json!({}));
    let answer = post().send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(error(answer).await["code"], "invalid_api_key");
    let answer = post()
        .bearer_auth(secret["value"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let challenge = answer.headers()["www-authenticate"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
    assert_eq!(error(answer).await["code"], "insufficient_permissions");
}

#[tokio::test]
async fn a_secret_opens_a_conversation() {
    let relay = Relay::start(&[]).await;
    let secret: Value = mint(&relay, json!({})).await.json().await.unwrap();
    let value = secret["value"].as_str().unwrap();
    let bearer = format!("Bearer {value}");
    let offer = format!("realtime, openai-insecure-api-key.{value}");
    for header in [
        ("authorization", bearer.as_str()),
        ("sec-websocket-protocol", offer.as_str()),
    ] {
        let query = format!("?model={MODEL}");
        let mut client = relay.connect_with(&query, &[header]).await.unwrap();
        client.event_of("session.created").await;
    }
}

#[tokio::test]
async fn a_secret_of_a_device_is_only_good_with_its_name() {
    let relay = Relay::start(&[]).await;
    let wish = json!({"voxline": {"user": "u1", "device": "phone-1"}});
    let secret: Value = mint(&relay, wish).await.json().await.unwrap();
    let value = secret["value"].as_str().unwrap();
    let bearer = format!("Bearer {value}");
    let authorization = ("authorization", bearer.as_str());
    let offer = format!("realtime, openai-insecure-api-key.{value}, voxline-device.phone-1");
    for (query, headers, welcome) in [
        ("", vec![authorization], false),
        (
            "",
            vec![authorization, ("voxline-device", "phone-2")],
            false,
        ),
        ("", vec![authorization, ("voxline-device", "phone-1")], true),
        ("&device=phone-1", vec![authorization], true),
        ("&device=phone-2", vec![authorization], false),
        ("", vec![("sec-websocket-protocol", offer.as_str())], true),
    ] {
        let query = format!("?model={MODEL}{query}");
        let mut client = relay.connect_with(&query, &headers).await.unwrap();
        let event = client.event().await;
        if welcome {
            assert_eq!(event["type"], "session.created", "{query} {headers:?}");
        } else {
            assert_eq!(
                event["error"]["code"], "token_wrong_device",
                "{query} {headers:?}"
            );
            assert_eq!(client.close().await.0, 3000);
        }
    }
}

#[tokio::test]
async fn a_request_that_shows_two_things_is_not_guessed_at() {
    let relay = Relay::start(&[]).await;
    let post = |path: &str| Client::new().post(relay.url(path)).bearer_auth(KEY);
    let get = || post(PATH);
    let named = format!("{PATH}?device=b");
    for request in [
        get().header("authorization", "Bearer other-key"),
        get().header("authorization", format!("Bearer {KEY}")),
        get().header("sec-websocket-protocol", "openai-insecure-api-key.other"),
        get()
            .header("voxline-device", "a")
            .header("voxline-device", "b"),
        post(&named).header("voxline-device", "a"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(error(answer).await["code"], "ambiguous_credential");
    }
    let twice = post(&named).header("voxline-device", "b");
    assert_eq!(twice.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_keys_that_verify_secrets_are_public() {
    let relay = Relay::start(&[]).await;
    let answer = reqwest::get(relay.url("/.well-known/jwks.json"))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/jwk-set+json");
    let caching = answer.headers()["cache-control"].to_str().unwrap();
    assert!(caching.starts_with("public, max-age="), "{caching}");
    let set: Value = answer.json().await.unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        assert_eq!(key["kty"], "OKP");
        assert_eq!(key["crv"], "Ed25519");
        assert!(key["kid"].is_string());
        assert!(key.get("d").is_none(), "the private half");
    }
}

async fn mint(relay: &Relay, body: Value) -> Response {
    let request = Client::new().post(relay.url(PATH)).bearer_auth(KEY);
    request.json(&body).send().await.unwrap()
}

async fn error(answer: Response) -> Value {
    let body: Value = answer.json().await.unwrap();
    body["error"].clone()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens are about the time of day"
)]
fn unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}
