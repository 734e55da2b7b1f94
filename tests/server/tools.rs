//! The relay's own tools: calls over real HTTP, hidden from a real client.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use voxline::config::{Config, Sources};
use voxline::server::Server;
use voxline::sim::{Act, End, ItemReport};

use crate::harness::{Client, Relay};

#[tokio::test]
async fn a_call_is_carried_out_and_the_client_sees_nothing_of_it() {
    let office = Office::open().await;
    let relay = office.relay(&[("weather", "answer", "")]).await;
    let mut client = relay.connect().await;
    let mut seen = vec![client.event().await];
    assert_eq!(seen[0]["session"]["tools"], json!([]));
    let theirs = json!({"type": "function", "name": "camera", "parameters": {}});
    update(&mut client, json!([theirs])).await;
    let updated = client.event_of("session.updated").await;
    assert_eq!(updated["session"]["tools"], json!([theirs]));
    seen.push(updated);

    let typed = client.note_seen("call weather {\"city\": \"Oslo\"}").await;
    client.send(json!({"type": "response.create"})).await;
    let (first, more) = client.until_done().await;
    seen.extend(more);
    assert_eq!(first["response"]["status"], "completed");
    assert_eq!(first["response"]["output"], json!([]));
    let (second, more) = client.until_done().await;
    let said = &second["response"]["output"][0]["content"][0]["transcript"];
    let told = "[tool: {\"sky\":\"blue\"}]";
    assert!(said.as_str().unwrap().contains(told), "{said}");
    let added = (more.iter())
        .find(|event| event["type"] == "conversation.item.added")
        .unwrap();
    assert_eq!(added["previous_item_id"], typed, "the chain has no gap");
    seen.extend(more);
    for event in &seen {
        let text = event.to_string();
        assert!(!text.contains("function_call"), "{text}");
        assert!(!text.contains("weather"), "{text}");
    }

    let asked = office.asked();
    let [(headers, body)] = &asked[..] else {
        panic!("{asked:?}");
    };
    let session = body["session_id"].as_str().unwrap();
    let call = body["call_id"].as_str().unwrap();
    let expected = json!({"call_id": call, "name": "weather", "session_id": session,
        "arguments": {"city": "Oslo"}});
    assert_eq!(*body, expected);
    assert_eq!(headers["idempotency-key"], format!("{session}:{call}"));
    assert_eq!(headers["authorization"], "Bearer a-secret-of-the-tool");
    assert_eq!(headers["content-type"], "application/json");

    let items = relay.items().await;
    let kinds: Vec<&str> = items.iter().map(|item| item.kind).collect();
    let expected = [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ];
    assert_eq!(kinds, expected, "the provider knows the whole history");
    assert_eq!(items[2].output.as_deref(), Some("{\"sky\":\"blue\"}"));
    let line = "voxline_tool_calls_total{tool=\"weather\",outcome=\"ok\"}";
    assert_eq!(relay.metric(line).await, 1);
    let line = "voxline_tool_call_seconds_count{tool=\"weather\"}";
    assert_eq!(relay.metric(line).await, 1);
}

#[tokio::test]
async fn the_tool_is_told_whose_conversation_it_is() {
    let office = Office::open().await;
    let relay = office.relay(&[("weather", "answer", "")]).await;
    let secret = relay.secret_of("ada").await;
    let mut client = relay.connect_as(&secret, "?model=gpt-realtime-2.1").await;
    client.note_seen("call weather").await;
    client.send(json!({"type": "response.create"})).await;
    client.until_done().await;
    client.until_done().await;
    assert_eq!(office.asked()[0].1["user"], "ada");
}

#[tokio::test]
async fn a_client_s_own_call_is_its_own_affair() {
    let office = Office::open().await;
    let relay = office.relay(&[("weather", "answer", "")]).await;
    let mut client = relay.connect().await;
    update(&mut client, json!([{"type": "function", "name": "camera"}])).await;
    client.note_seen("call camera {\"on\": true}").await;
    client.send(json!({"type": "response.create"})).await;
    let (done, seen) = client.until_done().await;
    let item = &done["response"]["output"][0];
    assert_eq!(item["name"], "camera");
    assert_eq!(item["arguments"], "{\"on\": true}");
    let deltas = "response.function_call_arguments.delta";
    assert!(seen.iter().any(|event| event["type"] == deltas));
    assert!(office.asked().is_empty());
}

#[tokio::test]
async fn calls_of_both_are_answered_by_one_answer() {
    let office = Office::open().await;
    let relay = office.relay(&[("weather", "held", "")]).await;
    let mut client = relay.connect().await;
    update(&mut client, json!([{"type": "function", "name": "camera"}])).await;
    client.note_seen("call weather\ncall camera").await;
    client.send(json!({"type": "response.create"})).await;
    let (done, _) = client.until_done().await;
    let output = done["response"]["output"].as_array().unwrap();
    assert_eq!(output.len(), 1, "{output:?}");
    assert_eq!(output[0]["name"], "camera");

    let mine = json!({"type": "function_call_output", "call_id": output[0]["call_id"],
        "output": "a cat"});
    client
        .send(json!({"type": "conversation.item.create", "item": mine}))
        .await;
    client.event_of("conversation.item.done").await;
    client.send(json!({"type": "response.create"})).await;
    office.release.notify_one();
    let (done, _) = client.until_done().await;
    let said = &done["response"]["output"][0]["content"][0]["transcript"];
    let told = "[tool: a cat] [tool: {\"sky\":\"grey\"}]";
    assert!(said.as_str().unwrap().contains(told), "{said}");
    let reports = relay.sim.sessions().await;
    assert_eq!(reports[0].responses_created, 2);
}

#[tokio::test]
async fn a_tool_outlives_the_link_that_called_it() {
    let office = Office::open().await;
    let relay = office.relay(&[("weather", "held", "")]).await;
    let mut client = relay.connect().await;
    client.note_seen("call weather {\"city\": \"Oslo\"}").await;
    client.send(json!({"type": "response.create"})).await;
    client.until_done().await;
    while office.asked().is_empty() {
        tokio::task::yield_now().await;
    }

    assert_eq!(relay.sim.act(&Act::Reset), 1);
    while relay.sim.sessions().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    office.release.notify_one();

    // The provider of this test answers to the output wherever it comes from.
    let (done, _) = client.until_done().await;
    let said = &done["response"]["output"][0]["content"][0]["transcript"];
    let told = "[tool: {\"sky\":\"grey\"}]";
    assert!(said.as_str().unwrap().contains(told), "{said}");
    let reports = relay.sim.sessions().await;
    let [first, second] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert_eq!(first.ended.as_ref().unwrap().how, End::Reset);
    let kinds: Vec<&str> = second.items.iter().map(|item| item.kind).collect();
    let expected = [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ];
    assert_eq!(kinds, expected, "the next link knows the whole history");
    assert_eq!(second.responses_created, 1);
    assert_eq!(office.asked().len(), 1, "the tool is called once");
}

#[tokio::test]
async fn whatever_goes_wrong_the_model_is_told_in_short() {
    let office = Office::open().await;
    let wrong: [(&str, &str, Value); 9] = [
        ("slow", "timeout = \"200ms\"", json!({"error": "timeout"})),
        (
            "trickle",
            "timeout = \"300ms\"",
            json!({"error": "timeout"}),
        ),
        (
            "huge",
            "max_response = \"64KiB\"",
            json!({"error": "too_large"}),
        ),
        (
            "redirect",
            "",
            json!({"error": "http_error", "status": 302}),
        ),
        ("error", "", json!({"error": "http_error", "status": 500})),
        ("text", "", json!({"error": "not_json"})),
        ("empty", "", json!({"error": "not_json"})),
        ("cut", "", json!({"error": "unreachable"})),
        ("nobody", "", json!({"error": "unreachable"})),
    ];
    let tools: Vec<_> = wrong
        .iter()
        .map(|(path, more, _)| (*path, *path, *more))
        .collect();
    let relay = office.relay(&tools).await;
    let mut client = relay.connect().await;
    for (name, _, expected) in &wrong {
        client.note_seen(&format!("call {name}")).await;
        client.send(json!({"type": "response.create"})).await;
        client.until_done().await;
        client.until_done().await;
        let output = relay.last_output().await;
        let output: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(output, *expected, "{name}");
        let outcome = expected["error"].as_str().unwrap();
        let line = format!("voxline_tool_calls_total{{tool=\"{name}\",outcome=\"{outcome}\"}}");
        assert_eq!(relay.metric(&line).await, 1);
    }
    assert!(!office.was_elsewhere(), "no redirect is followed");
}

#[tokio::test]
async fn arguments_that_are_no_object_reach_no_tool() {
    let office = Office::open().await;
    let relay = office.relay(&[("weather", "answer", "")]).await;
    let mut client = relay.connect().await;
    for arguments in ["[1]", "{\"city\":", "\"Oslo\"", "7"] {
        client.note_seen(&format!("call weather {arguments}")).await;
        client.send(json!({"type": "response.create"})).await;
        client.until_done().await;
        client.until_done().await;
        let output = relay.last_output().await;
        assert_eq!(output, "{\"error\":\"invalid_arguments\"}");
    }
    assert!(office.asked().is_empty());
}

#[tokio::test]
async fn a_tool_is_called_no_more_often_at_a_time_than_it_may_be() {
    let office = Office::open().await;
    let relay = office
        .relay(&[("weather", "held", "concurrency = 1\nqueue = 1")])
        .await;
    let mut client = relay.connect().await;
    client
        .note_seen("call weather\ncall weather\ncall weather")
        .await;
    client.send(json!({"type": "response.create"})).await;
    client.until_done().await;
    relay
        .until(
            "voxline_tool_calls_total{tool=\"weather\",outcome=\"busy\"}",
            1,
        )
        .await;
    assert_eq!(office.asked().len(), 1);
    office.release.notify_one();
    relay
        .until(
            "voxline_tool_calls_total{tool=\"weather\",outcome=\"ok\"}",
            1,
        )
        .await;
    office.release.notify_one();
    client.until_done().await;
    let outputs: Vec<String> = relay
        .items()
        .await
        .into_iter()
        .filter_map(|item| item.output)
        .collect();
    let busy = "{\"error\":\"busy\"}".to_owned();
    let grey = "{\"sky\":\"grey\"}".to_owned();
    assert_eq!(outputs, [busy, grey.clone(), grey]);
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_not_called() {
    let office = Office::open().await;
    let file = format!(
        "hosts = [\"localhost\"]\n[tool.weather]\ndescription = \"d\"\n\
         url = \"http://localhost:{}/answer\"\n",
        office.address.port()
    );
    let relay = Office::relay_with(&file).await;
    let mut client = relay.connect().await;
    client.note_seen("call weather").await;
    client.send(json!({"type": "response.create"})).await;
    client.until_done().await;
    client.until_done().await;
    assert_eq!(relay.last_output().await, "{\"error\":\"forbidden\"}");
    assert!(office.asked().is_empty());
}

#[tokio::test]
async fn a_file_with_a_mistake_is_refused_with_its_line() {
    let mut file = NamedTempFile::new().unwrap();
    write!(
        file,
        "hosts = []\n[tool.weather]\ndescription = \"d\"\nurl = \"https://a.example/\"\n"
    )
    .unwrap();
    let config = Config::load(&Sources {
        flags: [
            ("listen", "127.0.0.1:0".to_owned()),
            ("tools", file.path().to_str().unwrap().to_owned()),
        ]
        .into(),
        ..Sources::default()
    });
    let Err(error) = Server::bind(config.unwrap()).await else {
        panic!("accepted");
    };
    let error = error.to_string();
    assert!(error.contains(":4: the host `a.example`"), "{error}");
}

/// A server of tools.
struct Office {
    address: SocketAddr,
    desk: Desk,
    release: Arc<Notify>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Desk {
    asked: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    elsewhere: Arc<Mutex<bool>>,
    release: Arc<Notify>,
}

impl Office {
    async fn open() -> Self {
        let desk = Desk::default();
        let router = Router::new()
            .route("/{path}", post(answer))
            .with_state(desk.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            release: Arc::clone(&desk.release),
            desk,
            _tasks: tasks,
        }
    }

    /// Starts a relay with tools of these names, paths and further settings.
    async fn relay(&self, tools: &[(&str, &str, &str)]) -> Relay {
        let mut file = "hosts = [\"127.0.0.1\"]\nnetworks = [\"127.0.0.1\"]\n".to_owned();
        for (name, path, more) in tools {
            // Nobody listens there any more.
            let port = if *path == "nobody" {
                1
            } else {
                self.address.port()
            };
            file += &format!(
                "[tool.{name}]\ndescription = \"d\"\nurl = \"http://127.0.0.1:{port}/{path}\"\n\
                 headers.authorization = {{ file = \"SECRET\", prefix = \"Bearer \" }}\n{more}\n"
            );
        }
        Self::relay_with(&file).await
    }

    async fn relay_with(file: &str) -> Relay {
        let mut secret = NamedTempFile::new().unwrap();
        writeln!(secret, "a-secret-of-the-tool").unwrap();
        let text = file.replace("SECRET", secret.path().to_str().unwrap());
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        Relay::start(&[
            ("tools", path),
            ("sim.agent", "tone"),
            ("sim.tone_length", "100ms"),
            ("sim.first_audio", "0ms"),
            ("sim.delta_interval", "0ms"),
        ])
        .await
    }

    fn asked(&self) -> Vec<(HeaderMap, Value)> {
        self.desk.asked.lock().unwrap().clone()
    }

    fn was_elsewhere(&self) -> bool {
        *self.desk.elsewhere.lock().unwrap()
    }
}

async fn answer(
    State(desk): State<Desk>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice(&body).unwrap();
    desk.asked.lock().unwrap().push((headers, body));
    match path.as_str() {
        "answer" => axum::Json(json!({"sky": "blue"})).into_response(),
        "held" => {
            desk.release.notified().await;
            axum::Json(json!({"sky": "grey"})).into_response()
        }
        "slow" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::OK.into_response()
        }
        "trickle" => streamed(|| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(Bytes::from_static(b" "))
        }),
        "huge" => streamed(|| async { Ok(Bytes::from_static(&[b' '; 4_096])) }),
        "cut" => streamed(|| async { Err("cut") }),
        "redirect" => {
            let location = [(header::LOCATION, "/elsewhere")];
            (StatusCode::FOUND, location).into_response()
        }
        "elsewhere" => {
            *desk.elsewhere.lock().unwrap() = true;
            axum::Json(json!({})).into_response()
        }
        "error" => (StatusCode::INTERNAL_SERVER_ERROR, "a secret stack trace").into_response(),
        "text" => "it is blue".into_response(),
        _ => StatusCode::OK.into_response(),
    }
}

/// Sends pieces for ever.
fn streamed<F>(piece: impl Fn() -> F + Send + 'static) -> Response
where
    F: Future<Output = Result<Bytes, &'static str>> + Send + 'static,
{
    let pieces = futures_util::stream::unfold(piece, |piece| async move {
        let next = piece().await;
        Some((next, piece))
    });
    axum::body::Body::from_stream(pieces).into_response()
}

async fn update(client: &mut Client, tools: Value) {
    let session = json!({"type": "realtime", "tools": tools,
        "audio": {"input": {"turn_detection": null}}});
    client
        .send(json!({"type": "session.update", "session": session}))
        .await;
}

impl Client {
    /// Types something, and returns its item's id.
    async fn note_seen(&mut self, text: &str) -> Value {
        let content = json!([{"type": "input_text", "text": text}]);
        let item = json!({"type": "message", "role": "user", "content": content});
        self.send(json!({"type": "conversation.item.create", "item": item}))
            .await;
        self.event_of("conversation.item.done").await["item"]["id"].take()
    }

    /// Returns the next `response.done`, and all events up to it.
    async fn until_done(&mut self) -> (Value, Vec<Value>) {
        let mut seen = Vec::new();
        loop {
            let event = self.event().await;
            seen.push(event.clone());
            if event["type"] == "response.done" {
                return (event, seen);
            }
        }
    }
}

impl Relay {
    /// Returns the conversation of the only session, as the provider knows it.
    async fn items(&self) -> Vec<ItemReport> {
        let mut reports = self.sim.sessions().await;
        assert_eq!(reports.len(), 1);
        reports.remove(0).items
    }

    /// Returns what the model was told of the last call.
    async fn last_output(&self) -> String {
        let items = self.items().await;
        items
            .into_iter()
            .rev()
            .find_map(|item| item.output)
            .unwrap()
    }
}
