//! `voxline doctor`, as the person meets it who has to find out what is wrong.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::net::{SocketAddr, TcpListener};
use std::process::Output;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use voxline::config::{Config, Sources};
use voxline::server::Server;

const KEY: &str = "relay-test-key";
const ADMIN_KEY: &str = "admin-test-key";
const SAID: &str = "purple elephants in the attic";

/// The five steps, as they are headed.
const STEPS: [&str; 5] = [
    "\n1 auth",
    "\n2 connectivity",
    "\n3 state machine",
    "\n4 budget",
    "\n5 replay",
];

#[tokio::test]
async fn a_host_is_examined_in_five_steps_with_a_conversation_of_its_own() {
    let (status, page) = doctor(&["--listen=127.0.0.1:0", "--provider=embedded"], &[]).await;

    println!("{page}");
    assert_eq!(status, 0, "{page}");
    assert!(in_order(&page), "{page}");
    let reached = "reached listening, thinking, speaking, cancelling, recovering";
    assert!(page.contains(reached), "{page}");
    assert!(page.contains("the self-test's answer came after"), "{page}");
    assert!(page.contains("WARN  there is no admin key"), "{page}");
}

#[tokio::test]
async fn what_is_wrong_fails_and_says_what_to_do() {
    let (status, page) = doctor(&["--limits-drain=soon"], &[]).await;
    assert_eq!(status, 1);
    assert!(
        page.contains("FAIL  the configuration is refused"),
        "{page}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let flags = [
        format!("--listen={}", taken.local_addr().unwrap()),
        "--udp=127.0.0.1:0".to_owned(),
        format!("--openai-base-url=http://{free}/v1"),
        "--json".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let secret = [("OPENAI_API_KEY", "sk-provider-secret")];
    let (status, page) = doctor(&flags, &secret).await;
    assert_eq!(status, 1, "{page}");
    assert!(!page.contains("secret"), "{page}");
    let checkup: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(checkup["level"], "fail");
    let says = |level: &str, part: &str| {
        let findings = checkup["findings"].as_array().unwrap().iter();
        let mut found = findings.filter(|one| one["level"] == level);
        found.any(|one| one["says"].as_str().unwrap().contains(part) && one["do"].is_string())
    };
    assert!(says("warn", "(TCP) is in use"), "{page}");
    assert!(says("fail", "cannot be reached"), "{page}");
}

#[tokio::test]
async fn a_session_of_a_relay_that_runs_is_shown_with_what_is_wrong_first() {
    let relay = Relay::start().await;
    let (socket, id) = relay.connect().await;
    let url = format!("--url=http://{}", relay.address);
    let key = [("VOXLINE_ADMIN_KEY", ADMIN_KEY)];

    let (status, list) = doctor(&[&url], &key).await;
    assert_eq!(status, 0);
    assert!(list.starts_with("1 sessions\n"), "{list}");
    assert!(list.contains(&id) && list.contains("running"), "{list}");

    let session = format!("--session={id}");
    let (status, page) = doctor(&[&url, &session], &key).await;
    println!("{page}");
    assert_eq!(status, 0);
    let first = format!("{id}: nothing is wrong that the relay can see\nrunning after ");
    assert!(page.starts_with(&first), "{page}");
    assert!(in_order(&page), "{page}");
    assert!(page.contains("conversation.item.create"), "{page}");
    assert!(!page.contains(SAID), "{page}");

    let (_, report) = doctor(&[&url, &session, "--json"], &key).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["id"], id);

    // Whoever goes without a goodbye is waited for.
    drop(socket);
    let page = loop {
        let (_, page) = doctor(&[&url, &session], &key).await;
        if !page.contains("present, over") {
            break page;
        }
    };
    let first = page.lines().next().unwrap();
    assert!(first.contains("the client's connection is lost"), "{page}");
}

#[tokio::test]
async fn a_relay_that_gives_no_answer_is_told_apart_from_one_that_refuses() {
    let relay = Relay::start().await;
    let url = format!("--url=http://{}", relay.address);
    let nobody = [url.as_str(), "--admin-key=another-admin-key"];
    for (flags, says) in [
        (&nobody[..], "the relay answers 401 Unauthorized: "),
        (
            &["--url=http://127.0.0.1:1"],
            "the relay cannot be reached: ",
        ),
        (&["--url=relay"], "`relay` is not an http or https address"),
    ] {
        let output = run(flags, &[]).await;
        assert_eq!(output.status.code(), Some(1));
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.starts_with(&format!("voxline: {says}")), "{line}");
    }
}

fn in_order(page: &str) -> bool {
    let at = STEPS.map(|step| page.find(step));
    at.iter().all(Option::is_some) && at.is_sorted()
}

async fn doctor(flags: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let output = run(flags, variables).await;
    let page = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), page)
}

async fn run(flags: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voxline"));
    command.arg("doctor").args(flags).env_clear();
    command.envs(variables.iter().copied());
    command.output().await.unwrap()
}

/// A relay that runs until it is dropped.
struct Relay {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Relay {
    async fn start() -> Self {
        let settings = [
            ("listen", "127.0.0.1:0"),
            ("api_key", KEY),
            ("admin_key", ADMIN_KEY),
        ];
        let config = Config::load(&Sources {
            flags: settings.map(|(key, text)| (key, text.to_owned())).to_vec(),
            ..Sources::default()
        });
        let server = Server::bind(config.unwrap()).await.unwrap();
        let address = server.local_addr();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(CancellationToken::new()));
        Self {
            address,
            _tasks: tasks,
        }
    }

    /// Begins a conversation in which something was written; returns its name as well.
    async fn connect(&self) -> (Socket, String) {
        let url = format!("ws://{}/v1/realtime?model=gpt-realtime-2.1", self.address);
        let mut request = url.into_client_request().unwrap();
        let offer = format!("voxline.v1, openai-insecure-api-key.{KEY}");
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", offer.parse().unwrap());
        let (mut socket, _) = connect_async(request).await.unwrap();
        let item = json!({"type": "message", "role": "user",
            "content": [{"type": "input_text", "text": SAID}]});
        let create = json!({"type": "conversation.item.create", "item": item});
        socket.send(create.to_string().into()).await.unwrap();
        let mut id = None;
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else {
                continue;
            };
            let event: Value = serde_json::from_str(&text).unwrap();
            if event["type"] == "voxline.session" {
                id = Some(event["session_id"].as_str().unwrap().to_owned());
            }
            if event["type"] == "conversation.item.done" {
                return (socket, id.unwrap());
            }
        }
        panic!("closed");
    }
}
