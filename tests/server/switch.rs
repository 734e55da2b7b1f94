//! Clients that come back by another transport, and what they have received and acknowledged.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::calling::heard_on;
use crate::harness::{Client, Heard, KEY, MODEL, Relay};
use crate::support::peer::Peer;

const LABELS: &[&str] = &["oai-events", "voxline", "voxline.timing"];

#[tokio::test]
async fn a_session_that_the_relay_plays_changes_its_transport_both_ways() {
    let relay = Relay::start(&[("sim.agent", "sweep")]).await;
    let secret = relay.secret_of("anna").await;
    let mut socket = relay.connect_playout(&secret, &query()).await;
    assert_eq!(socket.protocol.as_deref(), Some("voxline.playout"));
    let session = socket.event_of("voxline.session").await;
    socket.note("item_mine", "Remember this.").await;
    socket.send(json!({"type": "response.create"})).await;
    let started = socket.event_of("output_audio_buffer.started").await;
    let first = position(&socket.event_of("voxline.audio").await);

    let mut peer = Peer::new(LABELS).await;
    let answer = relay.offer(resume(&session), "", &peer.offer().await).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    peer.connect(&answer.text().await.unwrap()).await;
    heard_on(&mut peer, "oai-events", "session.created").await;
    assert_eq!(socket.close().await.0, 1000);
    let session = heard_on(&mut peer, "voxline", "voxline.session").await;
    let origin = u32::try_from(session["rtp_origin"].as_u64().unwrap()).unwrap();
    let packet = peer.hear().await;
    let second = f64::from(packet.header.timestamp.wrapping_sub(origin)) / 48.0;
    assert!(
        first < second && second < first + 60_000.0,
        "{first} {second}"
    );

    let back = format!("?heard_ms={second}");
    let mut socket = relay.connect_playout(resume(&session), &back).await;
    let created = socket.event_of("session.created").await;
    assert!(created["voxline"]["next_event"].as_u64().unwrap() > 1);
    let third = position(&socket.event_of("voxline.audio").await);
    assert!(
        second < third && third < second + 60_000.0,
        "{second} {third}"
    );
    assert_eq!(
        socket.recall("item_mine").await.as_deref(),
        Some("Remember this.")
    );
    socket.send(json!({"type": "response.cancel"})).await;
    socket
        .send(json!({"type": "output_audio_buffer.clear"}))
        .await;
    let cleared = socket.event_of("output_audio_buffer.cleared").await;
    assert_eq!(cleared["response_id"], started["response_id"]);
    assert_eq!(relay.metric("voxline_sessions").await, 1);
}

#[tokio::test]
async fn where_the_relay_plays_over_a_websocket_no_sound_is_in_the_provider_s_events() {
    let relay = Relay::start(&[("sim.agent", "tone")]).await;
    let mut socket = relay.connect_playout(KEY, &query()).await;
    socket.send(json!({"type": "response.create"})).await;
    let (mut kinds, mut sound) = (vec![], vec![]);
    loop {
        let event = socket.event().await;
        let kind = event["type"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "voxline.audio" => sound.push(position(&event)),
            "output_audio_buffer.stopped" => break,
            _ => kinds.push(kind),
        }
    }
    assert_eq!(sound.len(), 100, "two seconds");
    assert!(sound.windows(2).all(|pair| pair[0] + 19.9 < pair[1]));
    let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
    assert_eq!(count("output_audio_buffer.started"), 1);
    assert_eq!(count("response.output_audio.delta"), 0);
}

#[tokio::test]
async fn events_are_neither_lost_nor_repeated_wherever_the_socket_is_cut() {
    let relay = Relay::start(&[("sim.first_audio", "1ms")]).await;
    let secret = relay.secret_of("anna").await;
    let mut client = Counting::begin(relay.connect_playout(&secret, &query()).await);
    let session = client.until("voxline.session").await;
    // From here on: what follows the first acknowledgement shows that it has come.
    client.acknowledge().await;
    client
        .socket
        .send(json!({"type": "voxline.ping", "id": 1}))
        .await;
    client.until("voxline.pong").await;
    let call = session["session_id"].as_str().unwrap().to_owned();
    let mut beside = relay.connect_as(KEY, &format!("?call_id={call}")).await;
    beside.event_of("session.created").await;
    let mut seed = 1_u64;
    let mut below = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % bound
    };
    for _ in 0..25 {
        let response = json!({"output_modalities": ["text"]});
        client
            .socket
            .send(json!({"type": "response.create", "response": response}))
            .await;
        for _ in 0..below(12) {
            client.next().await;
            if below(3) == 0 {
                client.acknowledge().await;
            }
        }
        let resume = client.resume.clone();
        client.cut(relay.connect_playout(&resume, "").await);
        // An answer at a time.
        while beside.event().await["type"] != "response.done" {}
        client.until("voxline.session").await;
    }
    beside.note("item_last", "That was all.").await;
    while !client.has_told("item_last") {
        client.next().await;
    }

    let mut again = client.told.clone();
    again.sort_unstable();
    again.dedup();
    assert_eq!(again.len(), client.told.len(), "an event came twice");
    assert!(client.passed_over > 0, "nothing was ever sent again");
    assert_eq!(client.gaps, 0, "an event is lost");
    assert_eq!(relay.metric("voxline_sessions").await, 1);
}

#[tokio::test]
async fn a_client_that_falls_silent_hears_on_from_where_it_was() {
    let relay = Relay::start(&[("sim.agent", "sweep")]).await;
    let mut socket = relay.connect_playout(KEY, &query()).await;
    let ping = json!({"type": "voxline.ping", "id": 1, "every_ms": 250});
    socket.send(ping).await;
    socket.send(json!({"type": "response.create"})).await;
    let first = position(&socket.event_of("voxline.audio").await);
    socket.event_of("voxline.waiting").await;

    socket
        .send(json!({"type": "voxline.heard", "position_ms": first + 20.0}))
        .await;
    let next = position(&socket.event_of("voxline.audio").await);
    assert!(first + 300.0 < next, "{first} {next}");
}

/// A client that counts as the library does.
struct Counting {
    socket: Client,
    resume: String,
    /// The `event_id` of each event, once.
    told: Vec<String>,
    items: Vec<String>,
    /// The number of the latest event, here and on this connection.
    has: u64,
    number: u64,
    received: u64,
    last: String,
    passed_over: u64,
    gaps: u64,
}

impl Counting {
    fn begin(socket: Client) -> Self {
        Self {
            socket,
            resume: String::new(),
            told: vec![],
            items: vec![],
            has: 0,
            number: 0,
            received: 0,
            last: String::new(),
            passed_over: 0,
            gaps: 0,
        }
    }

    async fn next(&mut self) -> Value {
        let event = match self.socket.hear().await {
            Heard::Event(event) => event,
            Heard::Close(code, reason) => panic!("closed: {code} {reason}"),
        };
        if event["type"] == "voxline.session" {
            self.resume = resume(&event).to_owned();
        }
        if event["type"].as_str().unwrap().starts_with("voxline.") {
            return event;
        }
        self.received += 1;
        self.last = event["event_id"].as_str().unwrap().to_owned();
        if let Some(next) = event["voxline"]["next_event"].as_u64() {
            self.number = next - 1;
            return event;
        }
        self.number += 1;
        if self.number <= self.has {
            self.passed_over += 1;
            return event;
        }
        self.gaps += u64::from(self.number > self.has + 1);
        self.has = self.number;
        self.told.push(self.last.clone());
        if let Some(item) = event["item"]["id"].as_str() {
            self.items.push(item.to_owned());
        }
        event
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            if event["type"] == kind {
                return event;
            }
        }
    }

    async fn acknowledge(&mut self) {
        let ack = json!({"type": "voxline.ack", "event_id": self.last, "received": self.received});
        self.socket.send(ack).await;
    }

    /// Goes on with another connection; what the one before had is lost, and its last
    /// acknowledgement may be.
    fn cut(&mut self, socket: Client) {
        self.socket = socket;
        self.received = 0;
        self.number = 0;
    }

    fn has_told(&self, item: &str) -> bool {
        self.items.iter().any(|told| told == item)
    }
}

fn position(event: &Value) -> f64 {
    event["position_ms"].as_f64().unwrap()
}

fn query() -> String {
    format!("?model={MODEL}")
}

fn resume(session: &Value) -> &str {
    session["resume_token"].as_str().unwrap()
}
