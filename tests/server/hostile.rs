//! Hostile inputs, one after the other, at a relay that serves somebody all the while.
//!
//! It prints what each input got, and fails if that is not what is documented, or if the
//! conversation beside is harmed. It has a `main` of its own, so that the table shows in every
//! run of the tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on says so, and the table is for reading"
)]

#[expect(dead_code, reason = "other tests use the rest")]
mod harness;
mod hostile_token;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::harness::{BEARER, Heard, KEY, MODEL, PATIENCE, Relay};
use crate::hostile_token::Forge;

const ADMIN_KEY: &str = "admin-test-key";
const CALLS: &str = "/v1/realtime/calls";
const SECRETS: &str = "/v1/realtime/client_secrets";
const REVOCATIONS: &str = "/admin/revocations";

/// What came of each input.
#[derive(Default)]
struct Table(Vec<Row>);

struct Row {
    kind: &'static str,
    input: String,
    wanted: String,
    got: String,
}

impl Table {
    fn add(&mut self, kind: &'static str, input: &str, wanted: &str, got: String) {
        self.0.push(Row {
            kind,
            input: input.to_owned(),
            wanted: wanted.to_owned(),
            got,
        });
    }

    /// Shows all, and counts those that are not as documented.
    fn show(&self) -> usize {
        let mut wrong = 0;
        println!("\n{:<9}| {:<46}| got", "kind", "hostile input");
        println!("{:-<9}|{:-<47}|{:-<40}", "", "", "");
        for row in &self.0 {
            let remark = if row.got == row.wanted {
                String::new()
            } else {
                wrong += 1;
                format!("   <-- wanted {}", row.wanted)
            };
            println!("{:<9}| {:<46}| {}{remark}", row.kind, row.input, row.got);
        }
        wrong
    }
}

fn main() -> ExitCode {
    // As of every test, only the one of this name is run if names are given.
    let mut names = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'));
    let first = names.next();
    let is_meant = |name: &String| "hostile".contains(name.as_str());
    if first.is_some_and(|name| !is_meant(&name) && !names.any(|name| is_meant(&name))) {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run())
}

async fn run() -> ExitCode {
    let forge = Forge::new();
    let relay = Relay::start(&[
        ("admin_key", ADMIN_KEY),
        ("tokens.keys", forge.directory()),
        ("limits.request_time", "500ms"),
        ("limits.body", "64KiB"),
        ("limits.sdp", "16KiB"),
        ("limits.event", "16KiB"),
        ("limits.secrets_per_minute", "40"),
    ])
    .await;
    let mut bystander = Bystander::start(&relay).await;
    let mut table = Table::default();
    tokens(&relay, &forge, &mut table).await;
    heads(&relay, &mut table).await;
    origins(&relay, &mut table).await;
    offers(&relay, &mut table).await;
    bodies(&relay, &mut table).await;
    frames(&relay, &mut table).await;
    strangers(&relay, &bystander.session, &mut table).await;
    admin(&relay, &mut table).await;
    minting(&relay, &mut table).await;
    let exchanged = bystander.exchanged();
    bystander.takes_a_turn().await;

    let wrong = table.show();
    let inputs = table.0.len();
    println!("\nbeside: {exchanged} events answered meanwhile, and a turn taken at the end");
    println!("\n{} passed, {wrong} failed\n", inputs - wrong);
    assert!(inputs >= 50, "{inputs}");
    assert!(exchanged >= inputs, "the conversation beside stood still");
    if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Somebody who holds a conversation and has nothing to do with all this.
struct Bystander {
    session: String,
    exchanged: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
    talking: JoinSet<harness::Client>,
}

impl Bystander {
    async fn start(relay: &Relay) -> Self {
        let offer = format!("voxline.v1, openai-insecure-api-key.{KEY}");
        let headers = [("sec-websocket-protocol", offer.as_str())];
        let query = format!("?model={MODEL}");
        let mut client = relay.connect_with(&query, &headers).await.unwrap();
        let session = client.event_of("voxline.session").await["session_id"].clone();
        let (exchanged, done) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, stop) = (Arc::clone(&exchanged), Arc::clone(&done));
        let mut talking = JoinSet::new();
        talking.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                client
                    .send(json!({"type": "input_audio_buffer.clear"}))
                    .await;
                client.event_of("input_audio_buffer.cleared").await;
                count.fetch_add(1, Ordering::Relaxed);
            }
            client
        });
        Self {
            session: session.as_str().unwrap().to_owned(),
            exchanged,
            done,
            talking,
        }
    }

    fn exchanged(&self) -> usize {
        self.exchanged.load(Ordering::Relaxed)
    }

    async fn takes_a_turn(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let mut client = self.talking.join_next().await.unwrap().unwrap();
        client.send(json!({"type": "response.create"})).await;
        client.event_of("response.output_audio.delta").await;
        let done = client.event_of("response.done").await;
        assert_eq!(done["response"]["status"], "completed");
    }
}

async fn tokens(relay: &Relay, forge: &Forge, table: &mut Table) {
    let kind = "token";
    for (input, credential, code) in forge.tokens() {
        let bearer = format!("Bearer {credential}");
        let wanted = format!("101, {code}, close 3000");
        let got = upgrade(relay, "", &[("authorization", &bearer)]).await;
        table.add(kind, input, &wanted, got);
    }
    let wanted = "101, invalid_api_key, close 3000";
    table.add(kind, "none", wanted, upgrade(relay, "", &[]).await);
    for (input, bearer) in [
        ("an unknown key", "Bearer wrong-key".to_owned()),
        ("the right key and one letter more", format!("{BEARER}x")),
        (
            "the beginning of the right key",
            BEARER[..BEARER.len() - 1].to_owned(),
        ),
        ("an empty bearer", "Bearer ".to_owned()),
        (
            "Basic authentication",
            "Basic cmVsYXktdGVzdC1rZXk=".to_owned(),
        ),
        ("the right key without its scheme", KEY.to_owned()),
    ] {
        table.add(
            kind,
            input,
            wanted,
            upgrade(relay, "", &[("authorization", &bearer)]).await,
        );
    }
    let bound = secret(relay, json!({"voxline": {"user": "a", "device": "phone"}})).await;
    let bearer = format!("Bearer {bound}");
    let wanted = "101, token_wrong_device, close 3000";
    let authorization = ("authorization", bearer.as_str());
    let got = upgrade(relay, "", &[authorization]).await;
    table.add(kind, "a stolen one, without its device", wanted, got);
    let got = upgrade(relay, "", &[authorization, ("voxline-device", "mine")]).await;
    table.add(kind, "a stolen one, with another device", wanted, got);
    let got = upgrade(
        relay,
        "&device=mine",
        &[authorization, ("voxline-device", "phone")],
    )
    .await;
    let wanted = "101, ambiguous_credential, close 4000";
    table.add(kind, "one that shows two devices", wanted, got);
    let narrow = secret(
        relay,
        json!({"voxline": {"models": ["gpt-realtime-2.1-mini"]}}),
    )
    .await;
    let bearer = format!("Bearer {narrow}");
    let got = upgrade(relay, "", &[("authorization", &bearer)]).await;
    table.add(
        kind,
        "a model that it does not grant",
        "101, model_not_allowed, close 4000",
        got,
    );
    let offer = format!("realtime, openai-insecure-api-key.{KEY}, openai-insecure-api-key.x");
    let got = upgrade(relay, "", &[("sec-websocket-protocol", &offer)]).await;
    table.add(
        kind,
        "two in the subprotocols",
        "101, ambiguous_credential, close 4000",
        got,
    );
}

async fn heads(relay: &Relay, table: &mut Table) {
    let kind = "head";
    let post = format!("POST {CALLS} HTTP/1.1\r\nhost: x\r\n");
    let key = format!("authorization: {BEARER}\r\n");
    for (input, request, wanted) in [
        (
            "Authorization twice",
            format!("{post}{key}{key}\r\n"),
            "400 ambiguous_credential",
        ),
        (
            "Authorization with bytes that are no text",
            format!("{post}authorization: Bearer \u{e9}\u{fc}\r\n\r\n"),
            "401 invalid_api_key",
        ),
        ("a line that is none", "NONSENSE\r\n\r\n".to_owned(), "400"),
        ("a NUL in a header", format!("{post}x: \0\r\n\r\n"), "400"),
        (
            "a space before a header's colon",
            format!("{post}x : y\r\n\r\n"),
            "400",
        ),
        (
            "a length that is none",
            format!("{post}content-length: -1\r\n\r\n"),
            "400",
        ),
        (
            "two lengths",
            format!("{post}content-length: 1\r\ncontent-length: 2\r\n\r\n"),
            "400",
        ),
        (
            "a header of 1 MB",
            format!("{post}x: {}\r\n\r\n", "x".repeat(1_000_000)),
            "431",
        ),
        (
            "1,000 headers",
            format!("{post}{}\r\n", "x: y\r\n".repeat(1000)),
            "431",
        ),
        (
            "an address of 100 kB",
            format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000)),
            "414",
        ),
        (
            "a path out of the pages",
            "GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
            "404 unknown_url",
        ),
        (
            "the same, encoded",
            "GET /assets/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
            "404 unknown_url",
        ),
        (
            "a method that is none of ours",
            format!("TRACE {CALLS} HTTP/1.1\r\nhost: x\r\n\r\n"),
            "405 method_not_supported",
        ),
        (
            "no WebSocket where one is wanted",
            format!("GET /v1/realtime HTTP/1.1\r\nhost: x\r\n{key}\r\n"),
            "426 upgrade_required",
        ),
        ("a head that does not end", post.clone(), "closed"),
    ] {
        table.add(kind, input, wanted, raw(relay, request.as_bytes()).await);
    }
}

async fn origins(relay: &Relay, table: &mut Table) {
    let kind = "origin";
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        "file://",
    ] {
        let request = post(relay, CALLS).header("origin", origin);
        table.add(kind, origin, "403 origin_not_allowed", http(request).await);
    }
    let headers = [
        ("authorization", BEARER),
        ("origin", "https://evil.example"),
    ];
    let got = upgrade(relay, "", &headers).await;
    table.add(
        kind,
        "a foreign page's WebSocket",
        "403 origin_not_allowed",
        got,
    );
    let preflight = Client::new().request(Method::OPTIONS, relay.url(CALLS));
    let preflight = preflight
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST");
    table.add(
        kind,
        "its preflight",
        "403 origin_not_allowed",
        http(preflight).await,
    );
}

async fn offers(relay: &Relay, table: &mut Table) {
    let kind = "offer";
    let session = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
    let audio = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n";
    for (input, offer, wanted) in [
        ("nothing", String::new(), "400 missing_required_parameter"),
        ("words", "let me in".to_owned(), "400 invalid_offer"),
        ("a NUL", "v=0\r\n\0".to_owned(), "400 invalid_offer"),
        ("no media", session.to_owned(), "400 invalid_offer"),
        (
            "video alone",
            format!("{session}m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"),
            "400 invalid_offer",
        ),
        (
            "sound without a fingerprint or ICE",
            format!("{session}{audio}a=rtpmap:111 opus/48000/2\r\n"),
            "400 invalid_offer",
        ),
        (
            "200 sections of media",
            format!("{session}{}", audio.repeat(200)),
            "400 invalid_offer",
        ),
        (
            "a line of 15 kB",
            format!("{session}a={}\r\n", "x".repeat(15_000)),
            "400 invalid_offer",
        ),
        (
            "more than an offer may have",
            session.repeat(400),
            "413 request_too_large",
        ),
    ] {
        let request = post(relay, CALLS).header("content-type", "application/sdp");
        table.add(kind, input, wanted, http(request.body(offer)).await);
    }
    let request = post(relay, CALLS).header("content-type", "application/sdp");
    let got = http(request.body(vec![0xff; 100])).await;
    table.add(kind, "bytes that are no text", "400 invalid_request", got);
}

async fn bodies(relay: &Relay, table: &mut Table) {
    let kind = "body";
    let part = |text: &str| Part::text(text.to_owned());
    let session = r#"{"type":"realtime"}"#;
    let form = |sdp: &str, session: &str| {
        let form = Form::new().part("sdp", part(sdp));
        post(relay, CALLS).multipart(form.part("session", part(session)))
    };
    let twice = Form::new()
        .part("sdp", part("v=0"))
        .part("sdp", part("v=0"));
    let twice = twice.part("session", part(session));
    let typed = |content_type: &str| {
        let request = post(relay, CALLS).header("content-type", content_type.to_owned());
        request.body("v=0")
    };
    for (input, request, wanted) in [
        (
            "a part that is there twice",
            post(relay, CALLS).multipart(twice),
            "400 invalid_request",
        ),
        (
            "a session that is not JSON",
            form("v=0", "{"),
            "400 invalid_json",
        ),
        (
            "a session that is a list",
            form("v=0", "[]"),
            "400 invalid_type",
        ),
        (
            "a session of another type",
            form("v=0", r#"{"type":"x"}"#),
            "400 invalid_value",
        ),
        (
            "JSON 60,000 deep",
            form("v=0", &"[".repeat(60_000)),
            "400 invalid_json",
        ),
        (
            "a form without its boundary",
            typed("multipart/form-data"),
            "400 invalid_request",
        ),
        (
            "a form that is none",
            typed("multipart/form-data; boundary=x"),
            "400 invalid_request",
        ),
        (
            "a type that is not taken",
            typed("text/html"),
            "415 unsupported_content_type",
        ),
        (
            "more than a body may have",
            form("v=0", &"x".repeat(70_000)),
            "413 request_too_large",
        ),
    ] {
        table.add(kind, input, wanted, http(request).await);
    }
    let head = format!(
        "POST {CALLS} HTTP/1.1\r\nhost: x\r\nauthorization: {BEARER}\r\n\
         content-type: application/sdp\r\n"
    );
    for (input, rest, wanted) in [
        (
            "one that does not come",
            "content-length: 9\r\n\r\nv=",
            "408 request_timeout",
        ),
        (
            "a chunk of no length",
            "transfer-encoding: chunked\r\n\r\nzz\r\n",
            "400 invalid_request",
        ),
    ] {
        let request = format!("{head}{rest}");
        table.add(kind, input, wanted, raw(relay, request.as_bytes()).await);
    }
}

async fn frames(relay: &Relay, table: &mut Table) {
    let kind = "frame";
    let append = |audio: &str| format!(r#"{{"type":"input_audio_buffer.append","audio":{audio}}}"#);
    for (input, message, code) in [
        ("bytes", Message::binary(vec![0; 100]), "invalid_event"),
        ("words", Message::text("let me in"), "invalid_json"),
        ("a list", Message::text("[]"), "invalid_event"),
        ("no type", Message::text("{}"), "invalid_event"),
        (
            "an unknown type",
            Message::text(r#"{"type":"x"}"#),
            "invalid_value",
        ),
        (
            "JSON 10,000 deep",
            Message::text("[".repeat(10_000)),
            "invalid_event",
        ),
        (
            "more than an event may have",
            Message::text("x".repeat(20_000)),
            "invalid_event",
        ),
        (
            "sound that is not base64",
            Message::text(append("\"%\"")),
            "invalid_value",
        ),
        (
            "sound that is a number",
            Message::text(append("7")),
            "missing_required_parameter",
        ),
    ] {
        let mut client = relay.connect().await;
        client.event_of("session.created").await;
        client.socket.send(message).await.unwrap();
        let error = client.event_of("error").await;
        // The session lives on.
        client
            .send(json!({"type": "input_audio_buffer.clear"}))
            .await;
        client.event_of("input_audio_buffer.cleared").await;
        let got = format!("{}, stays open", error["error"]["code"].as_str().unwrap());
        table.add(kind, input, &format!("{code}, stays open"), got);
    }
    let wide = [&[0x81, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
    for (input, bytes, wanted) in [
        (
            "one that is not masked",
            vec![0x81, 0x01, b'x'],
            "close 1002",
        ),
        (
            "an opcode that is none",
            vec![0x83, 0x80, 0, 0, 0, 0],
            "close 1002",
        ),
        ("reserved bits", vec![0xf1, 0x80, 0, 0, 0, 0], "close 1002"),
        (
            "text that is not UTF-8",
            vec![0x81, 0x81, 0, 0, 0, 0, 0xff],
            "close 1007",
        ),
        (
            "a ping in pieces",
            vec![0x09, 0x80, 0, 0, 0, 0],
            "close 1002",
        ),
        (
            "a continuation of nothing",
            vec![0x80, 0x80, 0, 0, 0, 0],
            "close 1002",
        ),
        ("1 TiB announced", wide, "close 1009"),
    ] {
        let mut client = relay.connect().await;
        client.event_of("session.created").await;
        client.socket.get_mut().write_all(&bytes).await.unwrap();
        table.add(kind, input, wanted, ended(&mut client).await);
    }
}

/// Another client of the same tenant, who knows the name of somebody's session.
async fn strangers(relay: &Relay, session: &str, table: &mut Table) {
    let kind = "stranger";
    let mine = secret(relay, json!({"voxline": {"user": "mallory"}})).await;
    let bearer = format!("Bearer {mine}");
    let authorization = ("authorization", bearer.as_str());
    let ask = |method: Method, path: String| {
        let request = Client::new().request(method, relay.url(&path));
        request.bearer_auth(&mine)
    };
    let request = ask(Method::DELETE, format!("{CALLS}/{session}"));
    table.add(
        kind,
        "ends somebody's session",
        "404 call_not_found",
        http(request).await,
    );
    let request = ask(Method::POST, format!("{CALLS}/{session}/hangup"));
    table.add(
        kind,
        "hangs somebody's session up",
        "404 call_not_found",
        http(request).await,
    );
    let request = ask(Method::PATCH, format!("{CALLS}/{session}"));
    let request = request.header("content-type", "application/trickle-ice-sdpfrag");
    let got = http(request.body("a=ice-ufrag:x\r\n")).await;
    table.add(kind, "moves somebody's session", "404 call_not_found", got);
    let got = join(relay, &format!("?call_id={session}"), &[authorization]).await;
    table.add(
        kind,
        "joins somebody's session",
        "101, call_not_found, close 4000",
        got,
    );
    let got = join(relay, "?call_id=rtc_0", &[authorization]).await;
    table.add(
        kind,
        "joins one that is not there",
        "101, call_not_found, close 4000",
        got,
    );
    let request = ask(Method::POST, SECRETS.to_owned());
    table.add(
        kind,
        "makes secrets",
        "403 insufficient_permissions",
        http(request).await,
    );
    let got = join(relay, "?model=x&call_id=y", &[("authorization", BEARER)]).await;
    table.add(
        kind,
        "asks for a model and a call",
        "101, invalid_value, close 4000",
        got,
    );
    let headers = [("authorization", BEARER), ("openai-beta", "realtime=v1")];
    let got = upgrade(relay, "", &headers).await;
    table.add(
        kind,
        "speaks the beta",
        "101, beta_api_shape_disabled, close 4000",
        got,
    );
}

async fn admin(relay: &Relay, table: &mut Table) {
    let kind = "admin";
    let ask = |method: Method, path: &str| Client::new().request(method, relay.url(path));
    let admin = |body: Value| {
        ask(Method::POST, REVOCATIONS)
            .bearer_auth(ADMIN_KEY)
            .json(&body)
    };
    for (input, request, wanted) in [
        (
            "no key",
            ask(Method::GET, REVOCATIONS),
            "401 invalid_api_key",
        ),
        (
            "a tenant's key",
            ask(Method::GET, REVOCATIONS).bearer_auth(KEY),
            "401 invalid_api_key",
        ),
        (
            "a tenant's key, to revoke everybody",
            ask(Method::POST, REVOCATIONS)
                .bearer_auth(KEY)
                .json(&json!({"tenant": "default"})),
            "401 invalid_api_key",
        ),
        (
            "the key, from a foreign page",
            admin(json!({"tenant": "default"})).header("origin", "https://evil.example"),
            "403 origin_not_allowed",
        ),
        ("nobody", admin(json!({})), "400 invalid_value"),
        (
            "two at once",
            admin(json!({"tenant": "a", "session": "b"})),
            "400 invalid_value",
        ),
        (
            "until the end of all numbers",
            admin(json!({"tenant": "a", "expires_at": u64::MAX})),
            "400 invalid_type",
        ),
        (
            "one that is not there",
            ask(Method::DELETE, "/admin/revocations/rev_0").bearer_auth(ADMIN_KEY),
            "404 revocation_not_found",
        ),
        (
            "a name that is no text",
            ask(Method::DELETE, "/admin/revocations/%ff").bearer_auth(ADMIN_KEY),
            "404 revocation_not_found",
        ),
    ] {
        table.add(kind, input, wanted, http(request).await);
    }
    let theirs = secret(relay, json!({"voxline": {"user": "mallory"}})).await;
    let revoked = admin(json!({"tenant": "default", "user": "mallory"}));
    assert_eq!(http(revoked).await, "201");
    let bearer = format!("Bearer {theirs}");
    let got = upgrade(relay, "", &[("authorization", &bearer)]).await;
    table.add(
        kind,
        "a user who is revoked",
        "101, token_revoked, close 3000",
        got,
    );
}

async fn minting(relay: &Relay, table: &mut Table) {
    let kind = "minting";
    let ask = |body: Value| post(relay, SECRETS).json(&body);
    let text = |body: String| {
        let request = post(relay, SECRETS).header("content-type", "application/json");
        request.body(body)
    };
    for (input, request, wanted) in [
        (
            "for ever",
            ask(json!({"expires_after": {"seconds": u64::MAX}})),
            "400 integer_above_max_value",
        ),
        (
            "for no time",
            ask(json!({"expires_after": {"seconds": 0}})),
            "400 integer_below_min_value",
        ),
        (
            "since yesterday",
            ask(json!({"expires_after": {"anchor": "yesterday"}})),
            "400 invalid_value",
        ),
        (
            "a session of another type",
            ask(json!({"session": {"type": "x"}})),
            "400 invalid_value",
        ),
        (
            "a user of control characters",
            ask(json!({"voxline": {"user": "a\nb"}})),
            "400 invalid_value",
        ),
        (
            "a device that is no header's value",
            ask(json!({"voxline": {"device": "a\r\nx: y"}})),
            "400 invalid_value",
        ),
        (
            "a role",
            ask(json!({"voxline": {"admin": true}})),
            "400 unknown_parameter",
        ),
        (
            "1,000 models",
            ask(json!({"voxline": {"models": vec!["m"; 1000]}})),
            "400 invalid_value",
        ),
        (
            "JSON 60,000 deep",
            text("[".repeat(60_000)),
            "400 invalid_json",
        ),
        (
            "more than a body may have",
            text("x".repeat(70_000)),
            "413 request_too_large",
        ),
        (
            "a form",
            post(relay, SECRETS).body("a=b"),
            "415 unsupported_content_type",
        ),
    ] {
        table.add(kind, input, wanted, http(request).await);
    }
    let mut got = String::new();
    for _ in 0..60 {
        got = http(post(relay, SECRETS)).await;
        if got != "200" {
            break;
        }
    }
    table.add(kind, "more than the rate", "429 rate_limit_exceeded", got);
}

fn post(relay: &Relay, path: &str) -> RequestBuilder {
    Client::new().post(relay.url(path)).bearer_auth(KEY)
}

async fn secret(relay: &Relay, wish: Value) -> String {
    let answer = post(relay, SECRETS).json(&wish).send().await.unwrap();
    let secret: Value = answer.json().await.unwrap();
    secret["value"]
        .as_str()
        .unwrap_or_else(|| panic!("{secret}"))
        .to_owned()
}

/// Sends a request and returns status and code.
async fn http(request: RequestBuilder) -> String {
    let answer = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
    let status = answer.status().as_u16();
    described(status, &answer.bytes().await.unwrap())
}

/// Sends bytes as they are.
async fn raw(relay: &Relay, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    // The relay may be through with it before it has read all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") || is_short(&answer) {
            match stream.read(&mut buffer).await {
                Ok(count) if count > 0 => answer.extend_from_slice(&buffer[..count]),
                _ => break,
            }
        }
    };
    timeout(PATIENCE, reading)
        .await
        .expect("an answer, or an end");
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return "closed".to_owned();
    };
    let status = head.split(' ').nth(1).unwrap();
    described(status.parse().unwrap(), body.as_bytes())
}

/// Tells whether less of the body is there than its head says.
fn is_short(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap_or("0");
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    body.len() < length
}

fn described(status: u16, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match body["error"]["code"].as_str() {
        Some(code) => format!("{status} {code}"),
        None => status.to_string(),
    }
}

/// Asks for a conversation and returns how it was refused.
async fn upgrade(relay: &Relay, query: &str, headers: &[(&'static str, &str)]) -> String {
    join(relay, &format!("?model={MODEL}{query}"), headers).await
}

async fn join(relay: &Relay, query: &str, headers: &[(&'static str, &str)]) -> String {
    match relay.connect_with(query, headers).await {
        Ok(mut client) => match client.hear().await {
            Heard::Event(event) if event["type"] == "error" => {
                let code = event["error"]["code"].as_str().unwrap().to_owned();
                format!("101, {code}, {}", ended(&mut client).await)
            }
            Heard::Event(event) => format!("101, {}", event["type"]),
            Heard::Close(code, _) => format!("101, close {code}"),
        },
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            described(response.status().as_u16(), body)
        }
        Err(other) => other.to_string(),
    }
}

/// Waits for the end of a WebSocket.
async fn ended(client: &mut harness::Client) -> String {
    loop {
        let message = timeout(PATIENCE, client.socket.next()).await;
        match message.expect("it ends") {
            Some(Ok(Message::Close(Some(frame)))) => {
                return format!("close {}", u16::from(frame.code));
            }
            Some(Ok(Message::Close(None))) | None | Some(Err(_)) => return "closed".to_owned(),
            Some(Ok(_)) => {}
        }
    }
}
