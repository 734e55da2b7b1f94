//! How soon it is silent at the receiver when a person speaks over an answer, and whether the
//! provider hears the first of what they say.
//!
//! A real WebRTC client, leg, session and link; the embedded provider answers with a long tone.
//! Prints, from the first packet of speech: when the last packet of the answer arrived, and when a
//! receiver without any jitter buffer has played it. `RUNS=20` measures more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use voxline::clock;
use voxline::core::playout::PlayoutConfig;
use voxline::core::port::{FromClient, FromIssuer, Network, Speech};
use voxline::core::resilience::BreakerConfig;
use voxline::core::session::{Playback, Session, SessionConfig};
use voxline::driver::{self, Line, Lines, Observer, Signals, VoiceLine};
use voxline::gateway::{Gateway, Opening};
use voxline::provider::{Patience, Upstream};
use voxline::sim::{AgentKind, Script, Settings, Sim};
use voxline::wire::realtime::Carrier;

use crate::support::call::{call, endpoint};
use crate::support::peer::{Peer, within};
use crate::support::speech::{packets, speech};

const PACKET: Duration = Duration::from_millis(20);
const RUNS: usize = 4;
const QUEUE: usize = 128;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn talking_over_an_answer_silences_it() {
    let runs = std::env::var("RUNS").map_or(RUNS, |runs| runs.parse().expect("a number"));
    println!("from the first packet of speech      last packet    last sound");
    println!("                                      p50    p95     p50    p95");
    for (name, wait) in [
        ("the relay's own detector", Duration::from_millis(700)),
        ("the provider's alone", Duration::ZERO),
    ] {
        let mut arrived = vec![];
        let mut sounded = vec![];
        for _ in 0..runs {
            let (packet, sound) = interruption(wait).await;
            arrived.push(packet);
            sounded.push(sound);
        }
        let [a, b] = [&mut arrived, &mut sounded].map(|times| {
            times.sort_unstable();
            let at = |part: usize| times[(times.len() - 1) * part / 100].as_millis();
            format!("{:4} ms{:4} ms", at(50), at(95))
        });
        println!("{name:34} {a}  {b}");
    }
}

#[tokio::test]
async fn what_came_before_the_detection_is_on_its_way_already() {
    let endpoint = endpoint();
    let (mut peer, mut session) = call(&endpoint, &[]).await;
    let spoken = from_first_word();
    let sound = [vec![0; 24_000], spoken].concat();
    let mut microphone = tokio::time::interval(PACKET);
    let (mut received, mut began) = (Vec::<i16>::new(), None);
    for (index, packet) in (0..).zip(packets(&sound)) {
        microphone.tick().await;
        peer.speak(packet, index * 960).await;
        while let Ok(message) = session.from_leg.try_recv() {
            if let FromClient::Audio { payload, .. } = &message {
                let (pairs, _) = payload.as_chunks();
                received.extend(pairs.iter().copied().map(i16::from_le_bytes));
            } else if let FromClient::Speech(Speech::Began { .. }) = &message {
                began.get_or_insert(received.len());
            }
        }
        if began.is_some() {
            break;
        }
    }

    let began = began.expect("speech was heard");
    let before = &received[began - 7_200..began];
    let best = (began.saturating_sub(9_600)..began.min(sound.len() - 7_200))
        .filter_map(|at| at.checked_sub(7_200))
        .map(|at| alike(before, &sound[at..at + 7_200]))
        .fold(0.0, f64::max);
    println!("300 ms before the detection: correlation with what was said {best:.3}");
    assert!(best > 0.7, "{best}");
    peer.hang_up().await;
    session.drop_ends().await;
}

#[tokio::test]
async fn the_session_is_told_how_the_network_is() {
    let endpoint = endpoint();
    let (mut peer, mut session) = call(&endpoint, &[]).await;
    let quiet = packets(&[0; 480]).remove(0);
    let mut microphone = tokio::time::interval(PACKET);
    let measured = within("a connectivity check and its answer", async {
        for index in 0.. {
            microphone.tick().await;
            peer.speak(quiet.clone(), index * 960).await;
            while let Ok(message) = session.from_leg.try_recv() {
                if let FromClient::Network(network) = message {
                    return network;
                }
            }
        }
        unreachable!("it goes on");
    });
    let Network { round_trip, jitter } = measured.await;
    println!("on the loopback: round trip {round_trip:?}, jitter {jitter:?}");
    assert!(round_trip > Duration::ZERO);
    peer.hang_up().await;
    session.drop_ends().await;
}

/// Talks over an answer; returns when its last packet came, and when its sound has ended.
async fn interruption(barge_in_wait: Duration) -> (Duration, Duration) {
    let mut call = Call::start(barge_in_wait).await;
    let peer = &mut call.peer;
    peer.send("oai-events", r#"{"type":"response.create"}"#)
        .await;
    let first = peer.hear().await;
    let began = clock::now();
    let quiet = packets(&vec![0; 480]).remove(0);
    let speech = packets(&from_first_word());
    // The detector takes a moment to find its feet.
    let lead = 60;
    let mut microphone = tokio::time::interval(PACKET);
    let (mut spoke, mut last) = (None, (began, first.header.timestamp));
    for index in 0..lead + speech.len() as u32 {
        microphone.tick().await;
        let packet = match index.checked_sub(lead) {
            None => quiet.clone(),
            Some(word) => {
                spoke.get_or_insert_with(clock::now);
                speech[word as usize].clone()
            }
        };
        peer.speak(packet, index * 960).await;
        while let Ok(packet) = peer.sound.try_recv() {
            last = (clock::now(), packet.header.timestamp);
        }
        if spoke.is_some() && clock::now() - last.0 > Duration::from_millis(300) {
            break;
        }
    }
    let spoke = spoke.expect("it spoke");
    let played = last.1.wrapping_sub(first.header.timestamp) / 48;
    let ends = began + Duration::from_millis(played.into()) + PACKET;
    call.end().await;

    (
        last.0.saturating_duration_since(spoke),
        ends.max(last.0).saturating_duration_since(spoke),
    )
}

/// A conversation with the embedded provider, from end to end.
struct Call {
    peer: Peer,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Call {
    async fn start(barge_in_wait: Duration) -> Self {
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let settings = Settings {
            agent: AgentKind::Scripted(Script {
                length: Duration::from_secs(60),
                ..Script::default()
            }),
            first_audio: Duration::from_millis(1),
            ..Settings::default()
        };
        let sim = Sim::bind("127.0.0.1:0".parse().unwrap(), settings).unwrap();
        let upstream = Upstream {
            base_url: format!("http://{}/v1", sim.local_addr().unwrap()),
            api_key: "sk-test".to_owned(),
        };
        let token = cancel.clone();
        tasks.spawn(async move { drop(sim.run(token).await) });

        let opening =
            Opening::conversation("gpt-realtime-2.1".into(), Value::Null, Carrier::WebRtc);
        let gateway = Gateway::new(
            upstream,
            Patience::default(),
            BreakerConfig::default(),
            Arc::new(|_| {}),
        );
        let link = gateway.open(&opening.unwrap()).await.unwrap();

        let mut peer = Peer::new(&["oai-events"]).await;
        let endpoint = endpoint();
        let (answer, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
        let (to_session, from_client) = mpsc::channel(QUEUE);
        let (to_client, from_session) = mpsc::channel(QUEUE);
        let (running, recorder) = (cancel.clone(), Arc::new(|_| {}));
        tasks.spawn(async move {
            let _endpoint = endpoint;
            let ledger = Arc::new(|_| {});
            leg.run(to_session, from_session, recorder, ledger, running)
                .await;
        });
        let config = SessionConfig {
            barge_in_wait,
            ..SessionConfig::new("sess".into(), Playback::Relay(PlayoutConfig::default()))
        };
        let (_, arrivals) = mpsc::channel(1);
        let lines = Lines {
            client: Some(Line {
                outbox: to_client,
                inbox: from_client,
            }),
            voice: Some(VoiceLine {
                line: Line {
                    outbox: link.outbox,
                    inbox: link.inbox,
                },
                tasks: link.tasks,
            }),
            dialer: Box::new(|_| None),
            arrivals,
            tools: driver::no_tools(),
            keeper: Box::new(|_| {}),
            traces: Arc::new(|_| {}),
            observer: Observer::nobody(),
        };
        let signals = Signals {
            shutdown: CancellationToken::new(),
            revoked: CancellationToken::new(),
            cancel: cancel.clone(),
        };
        let driving = driver::run(
            Session::new(config, clock::now()),
            lines,
            Box::new(|_| FromIssuer::Unavailable),
            Arc::new(|_| {}),
            Arc::new(|_| {}),
            signals,
        );
        tasks.spawn(async move {
            driving.await;
        });
        peer.connect(&answer).await;

        Self {
            peer,
            cancel,
            tasks,
        }
    }

    async fn end(mut self) {
        self.peer.hang_up().await;
        self.cancel.cancel();
        within("the end of the call", async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
    }
}

/// Speech from its first loud moment on.
fn from_first_word() -> Vec<i16> {
    let speech = speech();
    let loud = |hop: &[i16]| {
        let sum: f64 = hop.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        sum / hop.len() as f64 > 900.0_f64.powi(2)
    };
    let first = speech.chunks(240).position(loud).expect("it is no silence");

    speech[first * 240..].to_vec()
}

fn alike(a: &[i16], b: &[i16]) -> f64 {
    let product = |a: &[i16], b: &[i16]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };

    product(a, b) / (product(a, a) * product(b, b)).sqrt().max(1.0)
}
