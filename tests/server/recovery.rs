//! Providers that fail in the middle of a call, one way after the other, and a call that outlasts the
//! provider's longest session many times over.
//!
//! It prints how long each took to mend, and fails if a conversation forgets anything, or an answer is
//! lost. It has a `main` of its own, so that the figures show in every run of the tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so; the figures are for reading, and measured here"
)]

#[expect(dead_code, reason = "other tests use the rest")]
mod harness;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use voxline::sim::{Act, AgentKind, Control, Fault, Script, Settings, Sim};

use crate::harness::{Client, KEY, Relay};
use crate::support::peer::Peer;
use crate::support::speech;

/// How often a provider is killed in mid-answer.
const KILLS: usize = 20;
/// How long the long call lasts, and each session of its provider.
const CALL: Duration = Duration::from_secs(75);
const SESSION: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_millis(1_500);
/// Ticks of the RTP clock in a packet, and in a millisecond.
const PACKET: u32 = 960;
const TICKS: u32 = 48;

fn main() -> ExitCode {
    const NAME: &str = "conversations_outlive_their_provider";
    // As of every test, only the one of this name is run if names are given.
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let listed = std::env::args().any(|arg| arg == "--list");
    if listed || !(names.is_empty() || names.iter().any(|name| NAME.contains(name.as_str()))) {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let mut tests = JoinSet::new();
    let (passed, failed) = runtime.unwrap().block_on(async {
        tests.spawn(outlasts());
        tests.spawn(async {
            killed().await;
            mended().await;
        });
        let (mut passed, mut failed) = (0, 0);
        while let Some(ended) = tests.join_next().await {
            match ended {
                Ok(()) => passed += 1,
                Err(_) => failed += 1,
            }
        }
        (passed, failed)
    });
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A provider, and a relay that uses it.
struct Line {
    control: Control,
    relay: Relay,
    stop: CancellationToken,
    _provider: JoinSet<()>,
}

impl Line {
    async fn start(settings: Settings, more: &[(&'static str, &str)]) -> Self {
        let sim = Sim::bind("127.0.0.1:0".parse().unwrap(), settings).unwrap();
        let base_url = format!("http://{}/v1", sim.local_addr().unwrap());
        let control = sim.control();
        let stop = CancellationToken::new();
        let mut provider = JoinSet::new();
        let token = stop.clone();
        provider.spawn(async move { sim.run(token).await.unwrap() });
        let usual = [
            ("provider", "openai"),
            ("openai.base_url", base_url.as_str()),
            ("openai.api_key", "sk-provider-key"),
        ];
        let relay = Relay::start(&[&usual, more].concat()).await;
        Self {
            control,
            relay,
            stop,
            _provider: provider,
        }
    }

    /// A client that hears more than OpenAI's events.
    async fn client(&self) -> Client {
        let secret = self.relay.secret_of("anna").await;
        let mut client = self
            .relay
            .connect_extended(&secret, "?model=gpt-realtime-2.1")
            .await;
        client.event_of("session.created").await;
        client
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn tone() -> Settings {
    Settings {
        agent: AgentKind::Scripted(Script {
            length: ANSWER,
            ..Script::default()
        }),
        first_audio: Duration::from_millis(150),
        ..Settings::default()
    }
}

/// The provider is killed in the middle of answers.
async fn killed() {
    let line = Line::start(tone(), &[]).await;
    let mut client = line.client().await;
    let (mut right, mut sound) = (vec![], vec![]);
    for round in 0..KILLS {
        client.note(&format!("note_{round}"), "answer me").await;
        client.send(json!({"type": "response.create"})).await;
        client.event_of("response.output_audio.delta").await;
        let began = Instant::now();
        line.control.act(&Act::Reset);
        let lost = client.event_of("response.done").await;
        assert_eq!(lost["response"]["status"], "failed");
        client.event_of("voxline.restored").await;
        right.push(began.elapsed());
        client.event_of("response.output_audio.delta").await;
        sound.push(began.elapsed());
        let done = client.event_of("response.done").await;
        assert_eq!(done["response"]["status"], "completed");
    }
    for round in 0..KILLS {
        let note = client.recall(&format!("note_{round}")).await;
        assert_eq!(note.as_deref(), Some("answer me"), "note {round}");
    }
    println!(
        "\nThe provider is killed in mid-answer, {KILLS} times (its first sound takes 150 ms):"
    );
    show("until the state is right again", &mut right);
    show("until the answer sounds again", &mut sound);
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_millis();
    println!(
        "  {what:<34} p50 {:>5} ms   p95 {:>5} ms   most {:>5} ms",
        at(50),
        at(95),
        at(100)
    );
}

/// Each way of failing, between turns: the conversation knows afterwards what it knew before.
async fn mended() {
    let patience = [
        ("session.thinking_timeout", "1s"),
        ("session.cancel_timeout", "300ms"),
    ];
    let acts = [
        ("reset (TCP RST)", Act::Reset),
        ("gone (TCP FIN)", Act::HangUp),
        ("closed (1011)", close(1011)),
        ("credential refused (3000)", close(3000)),
        ("session expired", Act::Expire),
        ("garbage, again and again", Act::Garbage),
        ("silent while it owes an answer", Act::Mute),
    ];
    println!(
        "\nProviders that fail, and how long until the conversation goes on with another link:"
    );
    for (name, act) in acts {
        let line = Line::start(tone(), &patience).await;
        let mut client = line.client().await;
        client.note("before", "remember this").await;
        let began = Instant::now();
        line.control.act(&act);
        if act == Act::Mute {
            client.send(json!({"type": "response.create"})).await;
        }
        client.event_of("voxline.restored").await;
        println!("  {name:<34} {:>5} ms", began.elapsed().as_millis());
        goes_on(&mut client).await;
    }
    for (name, fault) in [
        ("reset, then 503 for a second", refuse(503, None)),
        (
            "reset, then 429 with Retry-After",
            refuse(429, Some(Duration::from_secs(1))),
        ),
        ("reset, then 401 for a second", refuse(401, None)),
        ("reset, then no session for a second", Fault::NeverCreated),
    ] {
        let line = Line::start(tone(), &[("openai.connect_timeout", "500ms")]).await;
        let mut client = line.client().await;
        client.note("before", "remember this").await;
        line.control.set_faults([fault]);
        let began = Instant::now();
        line.control.act(&Act::Reset);
        client.event_of("voxline.degraded").await;
        // What is said meanwhile is not lost.
        client
            .send(json!({"type": "input_audio_buffer.append", "audio": "AAAA"}))
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        line.control.set_faults([]);
        client.event_of("voxline.restored").await;
        println!("  {name:<34} {:>5} ms", began.elapsed().as_millis());
        goes_on(&mut client).await;
    }
}

fn close(code: u16) -> Act {
    Act::Close {
        code,
        reason: "for a test".to_owned(),
    }
}

fn refuse(status: u16, retry_after: Option<Duration>) -> Fault {
    Fault::Refuse {
        status,
        retry_after,
    }
}

async fn goes_on(client: &mut Client) {
    assert_eq!(
        client.recall("before").await.as_deref(),
        Some("remember this")
    );
    client.send(json!({"type": "response.create"})).await;
    loop {
        let done = client.event_of("response.done").await;
        if done["response"]["status"] == "completed" {
            break;
        }
    }
}

/// A call of 75 seconds with a provider whose sessions last five.
async fn outlasts() {
    let settings = Settings {
        max_session: SESSION,
        ..tone()
    };
    let line = Line::start(settings, &[("recovery.link_length", "5s")]).await;
    let mut peer = Peer::new(&["oai-events"]).await;
    let answer = line.relay.offer(KEY, "", &peer.offer().await).await;
    peer.connect(&answer.text().await.unwrap()).await;
    let mut talk = Talk::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let began = Instant::now();
    while began.elapsed() < CALL || !talk.is_over() {
        ticks.tick().await;
        let packet = talk.next_packet(began.elapsed() < CALL);
        peer.speak(packet, talk.spoken * PACKET).await;
        while let Some(text) = peer.message("oai-events").now_or_never() {
            talk.on_event(&serde_json::from_str(&text).unwrap());
        }
        while let Some(packet) = peer.hear().now_or_never() {
            talk.on_sound(packet.header.marker, packet.header.timestamp);
        }
    }

    let sessions = line.control.sessions().await;
    let last = sessions.last().unwrap();
    let known: Vec<&str> = last.items.iter().map(|item| item.id.as_str()).collect();
    let forgotten = talk
        .items
        .iter()
        .filter(|id| !known.contains(&id.as_str()))
        .count();
    println!(
        "\nA call of {} s over sessions of {} s:",
        CALL.as_secs(),
        SESSION.as_secs()
    );
    println!("  sessions at the provider           {:>5}", sessions.len());
    let lost = line
        .relay
        .metric("voxline_provider_links_restored_total")
        .await;
    let rolled = line
        .relay
        .metric("voxline_provider_links_rolled_over_total")
        .await;
    println!("  taken over in time, after a loss   {rolled:>5}, {lost}");
    println!(
        "  turns spoken, answers complete     {:>5}, {}",
        talk.turns, talk.completed
    );
    println!(
        "  items, of which are forgotten      {:>5}, {forgotten}",
        talk.items.len()
    );
    println!(
        "  largest hole in an answer's sound  {:>5} ms",
        talk.hole / TICKS
    );
    let order: Vec<_> = known
        .iter()
        .filter(|id| talk.items.iter().any(|item| item == *id))
        .collect();
    assert_eq!(
        order,
        talk.items.iter().collect::<Vec<_>>(),
        "the whole history, in order"
    );
    assert_eq!(talk.completed, talk.turns, "each turn is answered, once");
    assert_eq!(talk.hole, 0, "answers are whole");
    assert_eq!(u64::from(sessions.len() as u32), 1 + rolled + lost);
    assert!(
        sessions.len() >= 12,
        "the end of a session was crossed again and again"
    );
    peer.hang_up().await;
}

/// A person who speaks, and speaks again when the answer is over.
struct Talk {
    speech: Vec<Vec<u8>>,
    silence: Vec<u8>,
    /// Where in the speech they are.
    at: Option<usize>,
    rest: u32,
    spoken: u32,
    turns: usize,
    completed: usize,
    sounding: bool,
    answered: bool,
    items: Vec<String>,
    heard: Option<u32>,
    hole: u32,
}

impl Talk {
    fn new() -> Self {
        let pcm = speech::speech();
        let silence = speech::packets(&vec![0; 480 * 50]);
        Self {
            speech: speech::packets(&pcm[..24_000 * 3 / 2]),
            silence: silence.last().unwrap().clone(),
            at: None,
            // A detector has to find its feet.
            rest: 50,
            spoken: 0,
            turns: 0,
            completed: 0,
            sounding: false,
            answered: true,
            items: vec![],
            heard: None,
            hole: 0,
        }
    }

    fn next_packet(&mut self, more: bool) -> Vec<u8> {
        self.spoken += 1;
        if let Some(at) = self.at {
            self.at = (at + 1 < self.speech.len()).then_some(at + 1);
            return self.speech[at].clone();
        }
        if self.answered && !self.sounding {
            self.rest = self.rest.saturating_sub(1);
            if self.rest == 0 && more {
                self.turns += 1;
                self.answered = false;
                self.rest = 25;
                self.at = Some(0);
            }
        }
        self.silence.clone()
    }

    fn is_over(&self) -> bool {
        self.answered && !self.sounding && self.at.is_none()
    }

    fn on_event(&mut self, event: &Value) {
        match event["type"].as_str().unwrap() {
            "conversation.item.done" => {
                self.items
                    .push(event["item"]["id"].as_str().unwrap().to_owned());
            }
            "response.done" if event["response"]["status"] == "completed" => self.completed += 1,
            "output_audio_buffer.started" => {
                self.sounding = true;
                self.heard = None;
            }
            "output_audio_buffer.stopped" => {
                self.sounding = false;
                self.answered = self.completed == self.turns;
            }
            "error" => panic!("{event}"),
            _ => {}
        }
    }

    /// The relay's timeline shows a hole, whatever the machine does to the packets' arrival.
    fn on_sound(&mut self, marker: bool, timestamp: u32) {
        if let Some(before) = self.heard
            && !marker
        {
            self.hole = self
                .hole
                .max(timestamp.wrapping_sub(before).saturating_sub(PACKET));
        }
        self.heard = Some(timestamp);
    }
}
