//! The program itself: how it starts, what it prints, how it ends.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::harness::PATIENCE;

const SAID: &str = "purple elephants in the attic";

#[tokio::test]
async fn a_development_key_is_printed_once_and_works() {
    let mut relay = Process::start(&["--provider=embedded"], &[]).await;
    let key = relay.value_of("key").await;
    assert!(key.starts_with("vx_dev_"), "{key}");
    let mut socket = connect(&relay.address, &key).await.unwrap();
    let Some(Ok(Message::Text(text))) = socket.next().await else {
        panic!("nothing came");
    };
    assert!(text.contains("session.created"), "{text}");
    let (status, stdout, stderr) = relay.end().await;
    assert_eq!(status, 0, "{stderr}");
    assert!(!stdout.contains("vx_dev_"), "{stdout}");
    assert!(!stderr.contains("vx_dev_"), "{stderr}");
}

#[tokio::test]
async fn keys_made_on_the_command_line_are_those_of_a_tenant_and_of_its_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str]| {
        let output = command(arguments, &[]).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run(&["api-key"]).await;
    let (key, explained) = said.split_once('\n').unwrap();
    let (_, table) = explained.split_once("[tenant.NAME]").unwrap();
    let tenants = dir.path().join("tenants.toml");
    std::fs::write(&tenants, format!("[tenant.acme]{table}")).unwrap();
    let keys = dir.path().join("keys");
    let said = run(&["signing-key", keys.to_str().unwrap()]).await;
    let (path, kid) = said.split_once("key id").unwrap();
    let mode = std::fs::metadata(path.trim()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let flags = [
        "--provider=embedded",
        &format!("--tenants={}", tenants.display()),
        &format!("--tokens-keys={}", keys.display()),
    ];
    let mut relay = Process::start(&flags, &[]).await;
    assert_eq!(relay.line_of("key").await, "as configured");
    let mut socket = connect(&relay.address, key).await.unwrap();
    let first = timeout(PATIENCE, socket.next()).await.unwrap();
    let text = first.unwrap().unwrap().into_text().unwrap();
    assert!(text.contains("session.created"), "{text}");
    // The relay of this test is a process of its own, so nobody has chosen for the client here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("http://{}/.well-known/jwks.json", relay.address);
    let jwks: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(jwks["keys"][0]["kid"], kid.trim());
    let (status, _, stderr) = relay.end().await;
    assert_eq!(status, 0, "{stderr}");
    assert!(!stderr.contains(key), "{stderr}");
}

#[tokio::test]
async fn no_log_holds_a_key_nor_at_info_what_people_say() {
    for (filter, words) in [("info", false), ("debug", true), ("voxline=trace", true)] {
        let filter = format!("--log-filter={filter}");
        let flags = ["--provider=embedded", "--log-format=json", &filter];
        let keys = [
            ("VOXLINE_API_KEY", "relay-secret-key"),
            ("OPENAI_API_KEY", "sk-provider-secret"),
        ];
        let relay = Process::start(&flags, &keys).await;
        let transcript = converse(&relay.address, "relay-secret-key").await;
        assert!(connect(&relay.address, "wrong-secret-key").await.is_ok());
        let (status, _, stderr) = relay.end().await;
        assert_eq!(status, 0, "{stderr}");
        assert!(stderr.contains("Session opened"), "{stderr}");
        for line in stderr.lines() {
            serde_json::from_str::<Value>(line).unwrap();
            assert!(!line.contains("secret"), "{line}");
            if !words {
                assert!(!line.contains(SAID), "{line}");
                assert!(!line.contains(&transcript), "{line}");
            }
        }
    }
}

#[tokio::test]
async fn every_line_of_a_session_carries_its_id() {
    let flags = ["--provider=embedded", "--log-format=json"];
    let relay = Process::start(&flags, &[("VOXLINE_API_KEY", "relay-secret-key")]).await;
    converse(&relay.address, "relay-secret-key").await;
    let (_, _, stderr) = relay.end().await;
    for message in ["Session opened", "Session closed"] {
        let line = stderr.lines().find(|line| line.contains(message));
        let line: Value = serde_json::from_str(line.unwrap()).unwrap();
        let id = line["span"]["id"].as_str().unwrap();
        assert!(id.starts_with("sess_"), "{line}");
    }
}

#[tokio::test]
async fn a_bad_configuration_is_one_line_and_status_2() {
    for (flags, variables, line) in [
        (
            vec![],
            vec![("VOXLINE_LISTN", "x")],
            "voxline: the environment: unknown variable `VOXLINE_LISTN`: did you mean \
             `VOXLINE_LISTEN`?\n",
        ),
        (
            vec!["--limits-drain=soon"],
            vec![],
            "voxline: --limits-drain: `limits.drain` must be a whole number and a unit (ms, s, m, \
             h), such as 500ms or 15s, not \"soon\"\n",
        ),
        (
            vec!["--config=/nowhere/voxline.toml"],
            vec![],
            "voxline: /nowhere/voxline.toml: the configuration file cannot be read: No such file \
             or directory (os error 2)\n",
        ),
    ] {
        let output = command(&flags, &variables).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), line);
    }
    let open = command(&["--listen=0.0.0.0:0"], &[])
        .output()
        .await
        .unwrap();
    assert_eq!(open.status.code(), Some(2));
    let line = String::from_utf8(open.stderr).unwrap();
    assert!(line.contains("set VOXLINE_API_KEY"), "{line}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = format!("--listen={address}");
    let output = command(&[&listen], &[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "voxline: {address} (TCP) is in use: stop the program that uses it, or choose \
             another address with --listen\n"
        )
    );
}

#[tokio::test]
async fn what_is_in_effect_can_be_shown() {
    let flags = ["config", "--show", "--listen=127.0.0.1:5"];
    let secret = [("OPENAI_API_KEY", "sk-provider-secret")];
    let output = command(&flags, &secret).output().await.unwrap();
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("listen = \"127.0.0.1:5\""), "{shown}");
    assert!(!shown.contains("provider-secret"), "{shown}");
}

#[tokio::test]
async fn a_certificate_made_at_the_start_is_named_by_its_digest() {
    let flags = ["--provider=embedded", "--tls-listen=127.0.0.1:0"];
    let mut relay = Process::start(&flags, &[]).await;
    let line = relay.value_of("TLS").await;
    assert!(line.starts_with("https://127.0.0.1:"), "{line}");
    let line = relay.line_of("signed").await;
    let digest = line.split_whitespace().last().unwrap();
    assert_eq!(digest.split(':').count(), 32, "{line}");
    assert_eq!(relay.end().await.0, 0);
}

#[tokio::test]
async fn a_development_certificate_is_written_once_with_its_key_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path().join("tls");
    let made = async || {
        let flags = [
            "certificate",
            into.to_str().unwrap(),
            "--name=relay.example",
        ];
        command(&flags, &[]).output().await.unwrap()
    };
    let output = made().await;
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("NODE_EXTRA_CA_CERTS="), "{said}");
    let key = into.join("key.pem");
    let before = std::fs::read(&key).unwrap();
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let output = made().await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("certificate.pem cannot be written"), "{said}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
}

#[tokio::test]
async fn the_embedded_provider_runs_alone() {
    let mut sim = command(&["sim", "--listen=127.0.0.1:0"], &[])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sim.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.split('/').next().unwrap().to_owned();
        }
    };
    let mut socket = connect(&address, "any-key").await.unwrap();
    let Some(Ok(Message::Text(text))) = socket.next().await else {
        panic!("nothing came");
    };
    assert!(text.contains("session.created"), "{text}");
    terminate(&sim).await;
    assert!(sim.wait().await.unwrap().success());
}

/// Says something, hears the answer out, and returns its transcript.
async fn converse(address: &str, key: &str) -> String {
    let mut socket = connect(address, key).await.unwrap();
    let item = json!({
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": SAID}],
        },
    });
    let instructions = format!("Talk about {SAID}.");
    let respond = json!({
        "type": "response.create",
        "response": {"instructions": instructions},
    });
    socket.send(item.to_string().into()).await.unwrap();
    socket.send(respond.to_string().into()).await.unwrap();
    let mut transcript = String::new();
    loop {
        let message = timeout(PATIENCE, socket.next()).await;
        let Message::Text(text) = message.unwrap().unwrap().unwrap() else {
            continue;
        };
        let event: Value = serde_json::from_str(&text).unwrap();
        if let Some(whole) = event["transcript"].as_str() {
            transcript = whole.to_owned();
        }
        if event["type"] == "response.done" {
            break;
        }
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    assert!(transcript.len() > 10, "{transcript:?}");
    transcript
}

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(address: &str, key: &str) -> Result<Socket, Error> {
    let url = format!("ws://{address}/v1/realtime?model=gpt-realtime-2.1");
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {key}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    connect_async(request).await.map(|(socket, _)| socket)
}

/// The program, started on free ports.
struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Process {
    async fn start(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut all = vec!["serve", "--listen=127.0.0.1:0"];
        all.extend(flags);
        let mut child = command(&all, variables).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self {
            child,
            stdout,
            address: String::new(),
        };
        let page = process.value_of("page").await;
        let address = page.strip_prefix("http://").unwrap();
        process.address = address.trim_end_matches('/').to_owned();
        process
    }

    /// Returns what the program prints beside this word.
    async fn value_of(&mut self, word: &str) -> String {
        let line = self.line_of(word).await;
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// Returns all that it prints there.
    async fn line_of(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.stdout.read_line(&mut line)).await;
            assert!(read.unwrap().unwrap() > 0, "it did not say {word:?}");
            if let Some((first, rest)) = line.trim().split_once(' ')
                && first == word
            {
                return rest.trim().to_owned();
            }
        }
    }

    /// Ends it as a service manager does; returns its status, and what it has said since.
    async fn end(mut self) -> (i32, String, String) {
        terminate(&self.child).await;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut errors = self.child.stderr.take().unwrap();
        let (_, _, status) = tokio::join!(
            self.stdout.read_to_string(&mut stdout),
            errors.read_to_string(&mut stderr),
            timeout(PATIENCE, self.child.wait()),
        );
        (status.unwrap().unwrap().code().unwrap(), stdout, stderr)
    }
}

fn command(flags: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voxline"));
    command
        .args(flags)
        .env_clear()
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn terminate(child: &Child) {
    let id = child.id().unwrap().to_string();
    let kill = Command::new("kill").args(["-TERM", &id]).status().await;
    assert!(kill.unwrap().success());
}
