//! The admin API: who may use it, and what a revocation ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{self, BEARER, KEY, MODEL, Relay};
use crate::support::peer::Peer;

const ADMIN_KEY: &str = "admin-test-key";
const PATH: &str = "/admin/revocations";

/// How soon a revoked conversation ends.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test]
async fn without_an_admin_key_there_is_no_admin_api() {
    let relay = Relay::start(&[]).await;
    for key in ["", KEY, ADMIN_KEY] {
        let answer = Client::new()
            .get(relay.url(PATH))
            .bearer_auth(key)
            .send()
            .await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let error = error(answer).await;
        assert_eq!(error["code"], "admin_disabled");
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("VOXLINE_ADMIN_KEY")
        );
    }
}

#[tokio::test]
async fn only_the_admin_key_opens_the_admin_api() {
    let relay = relay().await;
    for (method, path) in [
        (Method::GET, PATH),
        (Method::POST, PATH),
        (Method::DELETE, "/admin/revocations/rev_1"),
        (Method::GET, "/admin/sessions"),
        (Method::GET, "/admin/sessions/sess_1"),
    ] {
        let ask = || Client::new().request(method.clone(), relay.url(path));
        for request in [
            ask(),
            ask().bearer_auth(KEY),
            ask().bearer_auth("admin-test-ke"),
            ask().header("authorization", ADMIN_KEY),
            ask().header(
                "sec-websocket-protocol",
                format!("openai-insecure-api-key.{ADMIN_KEY}"),
            ),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(error(answer).await["code"], "invalid_api_key");
        }
    }
    let answer = Client::new().post(relay.url("/v1/realtime/client_secrets"));
    let answer = answer.bearer_auth(ADMIN_KEY).send().await.unwrap();
    assert_eq!(
        answer.status(),
        StatusCode::UNAUTHORIZED,
        "it opens nothing else"
    );
}

#[tokio::test]
async fn a_revocation_is_listed_until_it_is_lifted() {
    let relay = relay().await;
    let wish = json!({"tenant": "default", "user": "anna", "reason": "lost phone",
        "expires_at": 4_000_000_000_u64});
    let made = revoke(&relay, wish).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let location = made.headers()["location"].to_str().unwrap().to_owned();
    let revocation: Value = made.json().await.unwrap();
    assert_eq!(revocation["user"], "anna");
    assert_eq!(revocation["expires_at"], 4_000_000_000_u64);
    assert_eq!(
        location,
        format!("{PATH}/{}", revocation["id"].as_str().unwrap())
    );
    assert_eq!(list(&relay).await, std::slice::from_ref(&revocation));
    let lift = || admin(&relay, Method::DELETE, &location).send();
    let lifted = lift().await.unwrap();
    assert_eq!(lifted.status(), StatusCode::OK);
    assert_eq!(lifted.json::<Value>().await.unwrap(), revocation);
    assert!(list(&relay).await.is_empty());
    let again = lift().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    assert_eq!(error(again).await["code"], "revocation_not_found");
}

#[tokio::test]
async fn what_is_wrong_with_a_revocation_is_named() {
    let relay = relay().await;
    for (body, code, param) in [
        (json!({}), "invalid_value", Value::Null),
        (json!({"user": "anna"}), "invalid_value", Value::Null),
        (
            json!({"tenant": "a", "session": "s"}),
            "invalid_value",
            Value::Null,
        ),
        (json!({"tenant": 1}), "invalid_type", json!("tenant")),
        (json!({"tenant": ""}), "invalid_value", json!("tenant")),
        (
            json!({"tenants": "a"}),
            "unknown_parameter",
            json!("tenants"),
        ),
        (
            json!({"tenant": "a", "expires_at": 1}),
            "invalid_value",
            json!("expires_at"),
        ),
        (
            json!({"tenant": "a", "expires_at": u64::MAX}),
            "invalid_type",
            json!("expires_at"),
        ),
        (
            json!({"tenant": "a", "reason": "x".repeat(1000)}),
            "invalid_value",
            json!("reason"),
        ),
    ] {
        let answer = revoke(&relay, body.clone()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let error = error(answer).await;
        assert_eq!(error["code"], code, "{body}");
        assert_eq!(error["param"], param, "{body}");
    }
    assert!(list(&relay).await.is_empty());
}

#[tokio::test]
async fn whoever_is_revoked_is_turned_away_and_others_are_not() {
    let relay = relay().await;
    let anna = secret(&relay, "anna", "phone").await;
    let tablet = secret(&relay, "anna", "tablet").await;
    let ben = secret(&relay, "ben", "phone-of-ben").await;
    revoke(&relay, json!({"tenant": "default", "device": "phone"})).await;
    let mut refused = connect(&relay, &anna, "phone").await;
    assert_eq!(refused.event().await["error"]["code"], "token_revoked");
    assert_eq!(refused.close().await.0, 3000);
    connect(&relay, &tablet, "tablet")
        .await
        .event_of("session.created")
        .await;
    let made = revoke(&relay, json!({"tenant": "default", "user": "anna"})).await;
    let mut refused = connect(&relay, &tablet, "tablet").await;
    assert_eq!(refused.event().await["error"]["code"], "token_revoked");
    connect(&relay, &ben, "phone-of-ben")
        .await
        .event_of("session.created")
        .await;
    let location = made.headers()["location"].to_str().unwrap();
    admin(&relay, Method::DELETE, location)
        .send()
        .await
        .unwrap();
    connect(&relay, &tablet, "tablet")
        .await
        .event_of("session.created")
        .await;
}

#[tokio::test]
async fn a_revocation_ends_the_conversations_that_run() {
    let relay = relay().await;
    let anna = secret(&relay, "anna", "phone").await;
    let ben = secret(&relay, "ben", "tablet").await;
    for subject in [
        json!({"tenant": "default", "user": "anna"}),
        json!({"tenant": "default", "device": "phone"}),
    ] {
        let mut revoked = connect(&relay, &anna, "phone").await;
        revoked.event_of("session.created").await;
        let mut other = connect(&relay, &ben, "tablet").await;
        other.event_of("session.created").await;
        let made = revoke(&relay, subject).await;
        let ended = timeout(SOON, revoked.close()).await;
        assert_eq!(ended.expect("it ends within a second").0, 3000);
        other.send(json!({"type": "response.create"})).await;
        other.event_of("response.done").await;
        let location = made.headers()["location"].to_str().unwrap();
        admin(&relay, Method::DELETE, location)
            .send()
            .await
            .unwrap();
    }
    let mut by_key = relay.connect().await;
    by_key.event_of("session.created").await;
    revoke(&relay, json!({"tenant": "default"})).await;
    let ended = timeout(SOON, by_key.close()).await;
    assert_eq!(ended.expect("it ends within a second").0, 3000);
    let answer = Client::new().post(relay.url("/v1/realtime/client_secrets"));
    let answer = answer.header("authorization", BEARER).send().await.unwrap();
    assert_eq!(error(answer).await["code"], "token_revoked");
}

#[tokio::test]
async fn whoever_is_revoked_on_the_way_in_does_not_stay() {
    let [asked, go] = [(); 2].map(|()| Arc::new(Notify::new()));
    let (knock, gate) = (Arc::clone(&asked), Arc::clone(&go));
    let connect = async move |upgrade: WebSocketUpgrade| {
        knock.notify_one();
        gate.notified().await;
        upgrade.on_upgrade(async |mut socket| {
            for kind in ["session.created", "session.updated"] {
                let event = json!({"type": kind, "session": {"type": "realtime"}});
                socket.send(event.to_string().into()).await.unwrap();
            }
            while let Some(Ok(_)) = socket.recv().await {}
        })
    };
    let router = Router::new().route("/realtime", get(connect));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let settings = [("admin_key", ADMIN_KEY), ("openai.base_url", &provider)];
    let relay = Relay::start(&settings).await;
    let anna = relay.secret_of("anna").await;
    let peer = Peer::new(&["oai-events"]).await;
    let offer = peer.offer().await;
    let revoking = async {
        asked.notified().await;
        revoke(&relay, json!({"tenant": "default", "user": "anna"})).await;
        // The relay has looked for her among those who run by now.
        relay.until("voxline_sessions", 0).await;
        go.notify_one();
    };
    let (answer, ()) = tokio::join!(relay.offer(&anna, "", &offer), revoking);
    assert_eq!(answer.status(), StatusCode::CREATED);
    relay.until("voxline_sessions", 0).await;
}

#[tokio::test]
async fn one_conversation_can_be_revoked_by_its_name() {
    let relay = relay().await;
    let offer = format!("voxline.v1, openai-insecure-api-key.{KEY}");
    let headers = [("sec-websocket-protocol", offer.as_str())];
    let query = format!("?model={MODEL}");
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = relay.connect_with(&query, &headers).await.unwrap();
        let session = client.event_of("voxline.session").await;
        clients.push((client, session["session_id"].clone()));
    }
    let (mut first, name) = clients.remove(0);
    revoke(&relay, json!({ "session": name })).await;
    let ended = timeout(SOON, first.close()).await;
    assert_eq!(ended.expect("it ends within a second").0, 3000);
    let (mut second, _) = clients.remove(0);
    second.send(json!({"type": "response.create"})).await;
    second.event_of("response.done").await;
}

async fn relay() -> Relay {
    Relay::start(&[("admin_key", ADMIN_KEY)]).await
}

fn admin(relay: &Relay, method: Method, path: &str) -> RequestBuilder {
    let request = Client::new().request(method, relay.url(path));
    request.bearer_auth(ADMIN_KEY)
}

async fn revoke(relay: &Relay, wish: Value) -> Response {
    let request = admin(relay, Method::POST, PATH).json(&wish);
    request.send().await.unwrap()
}

async fn list(relay: &Relay) -> Vec<Value> {
    let answer = admin(relay, Method::GET, PATH).send().await.unwrap();
    let list: Value = answer.json().await.unwrap();
    assert_eq!(list["object"], "list");
    list["data"].as_array().unwrap().clone()
}

async fn secret(relay: &Relay, user: &str, device: &str) -> String {
    let wish = json!({"voxline": {"user": user, "device": device}});
    relay.mint(wish).await
}

async fn connect(relay: &Relay, credential: &str, device: &str) -> harness::Client {
    let bearer = format!("Bearer {credential}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("voxline-device", device),
    ];
    let query = format!("?model={MODEL}");
    relay.connect_with(&query, &headers).await.unwrap()
}

async fn error(answer: Response) -> Value {
    let body: Value = answer.json().await.unwrap();
    body["error"].clone()
}
