//! What the operator sees of sessions, while they run and after.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::calling::call;
use crate::harness::{self, KEY, MODEL, PATIENCE, Relay};

const ADMIN_KEY: &str = "admin-test-key";
const SAID: &str = "purple elephants in the attic";

/// In this order trouble is looked for.
const STEPS: [&str; 5] = ["auth", "connectivity", "state_machine", "budget", "replay"];

#[tokio::test]
async fn a_session_is_shown_in_the_order_in_which_trouble_is_looked_for() {
    let relay = relay(&[]).await;
    let secret = relay
        .mint(json!({"voxline": {"user": "anna", "device": "phone"}}))
        .await;
    let (mut client, id) = extended(&relay, &secret, &[("voxline-device", "phone")]).await;
    client.note("item_note", SAID).await;
    client.send(json!({"type": "response.create"})).await;
    client.event_of("response.done").await;

    let page = text(&relay, &format!("/admin/sessions/{id}")).await;
    let order = |page: &str| {
        let at = |name: &str| page.find(&format!("\"{name}\":{{")).expect(name);
        STEPS.map(at)
    };
    assert!(order(&page).is_sorted(), "{page}");
    assert!(page.find("\"diagnosis\":[").unwrap() < order(&page)[0]);
    let report: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(report["id"], id);
    assert_eq!(report["status"], "running");
    assert_eq!(report["answers"], true);
    let auth = &report["auth"];
    assert_eq!(auth["tenant"], "default");
    assert_eq!(auth["user"], "anna");
    assert_eq!(auth["credential"], "held");
    assert_eq!(auth["resume_token_issued"], true);
    assert!(auth["expires_in_ms"].as_u64().unwrap() > 200_000, "{auth}");
    assert!(auth["token_id"].is_string());
    let connectivity = &report["connectivity"];
    assert_eq!(connectivity["transport"], "websocket");
    assert_eq!(connectivity["client"], "present");
    assert_eq!(connectivity["extended"], true);
    assert_eq!(connectivity["link"], "up");
    assert_eq!(connectivity["provider"], "embedded");
    let machine = &report["state_machine"];
    let states = machine["transitions"].as_array().unwrap();
    let states: Vec<_> = states.iter().map(|one| one[1].as_str().unwrap()).collect();
    assert_eq!(states, ["listening", "thinking", "speaking"]);
    assert!(machine["next_deadline"].is_string());
    let replay = &report["replay"];
    assert_eq!(replay["session_id"], id);
    assert!(replay["response_id"].as_str().unwrap().starts_with("resp_"));
    let events = report["events"].as_array().unwrap();
    let kinds: Vec<_> = events
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    for kind in [
        "session.created",
        "conversation.item.create",
        "response.create",
        "response.created",
        "response.output_audio.delta",
        "response.done",
        "voxline.state",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    let sound = events
        .iter()
        .find(|one| one["kind"] == "response.output_audio.delta");
    assert!(
        sound.unwrap()["count"].as_u64() > Some(1),
        "it is one entry"
    );
}

#[tokio::test]
async fn no_report_holds_what_people_say_nor_a_credential() {
    let relay = relay(&[]).await;
    let secret = relay.secret_of("anna").await;
    let (mut client, id) = extended(&relay, &secret, &[]).await;
    client.note("item_note", SAID).await;
    client.send(json!({"type": SAID})).await;
    client.send(json!({"type": "response.create"})).await;
    let mut spoken = String::new();
    loop {
        let event = client.event().await;
        if event["type"] == "response.output_audio_transcript.done" {
            spoken = event["transcript"].as_str().unwrap().to_owned();
        }
        if event["type"] == "response.done" {
            break;
        }
    }
    assert!(!spoken.is_empty());
    for path in ["/admin/sessions", &format!("/admin/sessions/{id}")] {
        let page = text(&relay, path).await;
        for said in [
            SAID,
            spoken.as_str(),
            secret.as_str(),
            KEY,
            ADMIN_KEY,
            "rt_",
            "ek_",
        ] {
            assert!(!page.contains(said), "{said:?} in {page}");
        }
    }
}

#[tokio::test]
async fn a_session_that_has_ended_is_shown_until_others_take_its_place() {
    let relay = relay(&[("diagnosis.ended", "1")]).await;
    let (client, first) = extended(&relay, KEY, &[]).await;
    drop(client);
    let (mut peer, second) = call(&relay, KEY, "").await;
    assert_eq!(
        list(&relay).await[0]["id"],
        second.as_str(),
        "the latest first"
    );
    // It can come back, so its session waits.
    assert_eq!(
        report(&relay, &first).await["connectivity"]["client"],
        "away"
    );
    let says = &report(&relay, &first).await["diagnosis"][0];
    assert_eq!(says["step"], "connectivity");
    assert!(
        says["says"].as_str().unwrap().contains("waits for it"),
        "{says}"
    );
    hang_up(&relay, &first).await;
    let ended = until_ended(&relay, &first).await;
    assert_eq!(ended["status"], "ended");
    assert_eq!(ended["close_reason"], "hangup");
    assert_eq!(ended["answers"], true);

    hang_up(&relay, &second).await;
    peer.closed.recv().await;
    until_ended(&relay, &second).await;
    let ids: Vec<_> = list(&relay)
        .await
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    assert_eq!(ids, [json!(second)]);
    let gone = get(&relay, &format!("/admin/sessions/{first}")).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    let body: Value = gone.json().await.unwrap();
    assert_eq!(body["error"]["code"], "session_not_found");
}

#[tokio::test]
async fn a_session_without_a_provider_never_began() {
    let relay = relay(&[("sim.fault", "refuse:503")]).await;
    let mut client = relay.connect().await;
    client.close().await;
    relay.until("voxline_sessions", 0).await;
    let line = list(&relay).await.remove(0);
    assert_eq!(line["status"], "never_began");
    let says = line["diagnosis"].as_str().unwrap();
    assert!(says.contains("no link to the provider"), "{says}");
}

async fn relay(settings: &[(&'static str, &str)]) -> Relay {
    let admin = [("admin_key", ADMIN_KEY)];
    Relay::start(&[&admin, settings].concat()).await
}

/// Connects a client of `voxline.v1`; returns its session's name as well.
async fn extended(
    relay: &Relay,
    credential: &str,
    headers: &[(&'static str, &str)],
) -> (harness::Client, String) {
    let offer = format!("voxline.v1, openai-insecure-api-key.{credential}");
    let headers = [&[("sec-websocket-protocol", offer.as_str())], headers].concat();
    let query = format!("?model={MODEL}");
    let mut client = relay.connect_with(&query, &headers).await.unwrap();
    let session = client.event_of("voxline.session").await;
    (client, session["session_id"].as_str().unwrap().to_owned())
}

async fn until_ended(relay: &Relay, id: &str) -> Value {
    let waiting = async {
        loop {
            let report = report(relay, id).await;
            if report["status"] != "running" {
                return report;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it ends")
}

async fn hang_up(relay: &Relay, id: &str) {
    let url = relay.url(&format!("/v1/realtime/calls/{id}/hangup"));
    let request = Client::new().post(url).bearer_auth(KEY);
    assert!(request.send().await.unwrap().status().is_success());
}

async fn report(relay: &Relay, id: &str) -> Value {
    let page = text(relay, &format!("/admin/sessions/{id}")).await;
    serde_json::from_str(&page).unwrap()
}

async fn list(relay: &Relay) -> Vec<Value> {
    let page: Value = serde_json::from_str(&text(relay, "/admin/sessions").await).unwrap();
    assert_eq!(page["object"], "list");
    page["data"].as_array().unwrap().clone()
}

async fn text(relay: &Relay, path: &str) -> String {
    let answer = get(relay, path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.text().await.unwrap()
}

async fn get(relay: &Relay, path: &str) -> reqwest::Response {
    let request = Client::new().get(relay.url(path)).bearer_auth(ADMIN_KEY);
    request.send().await.unwrap()
}
