//! Replays the conversations in `tests/conversations` and compares what the session says.
//!
//! A line that starts with a number is an input, at that many milliseconds; the indented lines
//! below it are the effects; of a long run of played frames the middle is left out. Lines such as
//! `client: websocket` at the top say how the session is set up. Whoever issues credentials answers
//! at once: `t1`, `t2`, ..., each good for as long as the first, unless it is `issuer down`.
//! `UPDATE=1 cargo test --test conversations` rewrites the effects.

#![expect(clippy::disallowed_methods, reason = "a conversation picks its origin")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use voxline::core::audio::Format;
use voxline::core::item::{Body, Item, Role, Said, Words};
use voxline::core::latency::{Transport, TurnTrace};
use voxline::core::playout::PlayoutConfig;
use voxline::core::port::{
    ClientEvent, Credential, Device, DialFailure, Fault, FromClient, FromDialer, FromIssuer,
    FromTools, FromVoice, Json, LinkEnd, Network, Notice, Output, Played, ResponseOutcome,
    Restored, Source, Speech, Stage, Stats, ToClient, ToDialer, ToIssuer, ToTools, ToVoice, Usage,
    Utterance, VoiceSession, Ways,
};
use voxline::core::resilience::BackoffConfig;
use voxline::core::session::{
    Access, Effect, Input, Loss, Neighbor, Playback, RecoveryConfig, Session, SessionConfig,
};
use voxline::core::token::{Renewal, RotationConfig};

#[test]
fn conversations_go_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");

    for entry in fs::read_dir(directory).expect("directory is readable") {
        let path = entry.expect("entry is readable").path();
        let written = fs::read_to_string(&path).expect("conversation is readable");
        let actual = abridged(&replay(&written));

        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, actual).expect("conversation is writable");
        } else {
            assert_eq!(actual, written, "{}", path.display());
        }
    }
}

fn replay(written: &str) -> String {
    let mut replay = Replay::new(written);
    for line in written.lines().filter(|line| !line.starts_with(' ')) {
        replay.line(line);
    }

    replay.actual
}

struct Replay {
    origin: Instant,
    session: Session,
    issuer: Issuer,
    actual: String,
}

struct Issuer {
    up: bool,
    life: Duration,
    issued: u32,
}

impl Replay {
    fn new(written: &str) -> Self {
        let origin = Instant::now();
        let setting = |name: &str| {
            let mut lines = written.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let playback = match setting("client") {
            None => Playback::Relay(PlayoutConfig::default()),
            Some("websocket") => Playback::Client,
            Some("direct") => Playback::Provider,
            Some(other) => panic!("not a client: {other}"),
        };
        let mut config = SessionConfig::new("sess".into(), playback);
        if let Some(millis) = setting("barge-in wait") {
            config.barge_in_wait = ms(number(millis));
        }
        config.recovery = setting("recovers").map(|window| RecoveryConfig {
            window: ms(number(window)),
            link_length: ms(setting("link length").map_or(3_600_000, number)),
            backoff: BackoffConfig {
                base: Duration::ZERO,
                cap: Duration::ZERO,
            },
            ..RecoveryConfig::default()
        });
        if let Some(names) = setting("tools") {
            config.tools = names.split(' ').map(str::to_owned).collect();
        }
        config.max_length = setting("max length").map(|millis| ms(number(millis)));
        let mut life = Duration::ZERO;
        if let Some(token) = setting("token") {
            let (millis, renewal) = token
                .split_once(' ')
                .expect("a life, and how it is renewed");
            life = ms(number(millis));
            config.access = Access::Expiring {
                expires_at: origin + life,
                renewal: match renewal {
                    "in-band" => Renewal::InBand,
                    "fetch" => Renewal::Fetch,
                    _ => panic!("not a renewal: {renewal}"),
                },
                rotation: RotationConfig {
                    jitter: Duration::ZERO,
                    ..RotationConfig::default()
                },
            };
        }

        Self {
            origin,
            session: Session::new(config, origin),
            issuer: Issuer {
                up: true,
                life,
                issued: 0,
            },
            actual: String::new(),
        }
    }

    fn line(&mut self, line: &str) {
        if let Some((at, step)) = parse(line, self.origin) {
            self.run_until(at);
            writeln!(self.actual, "{line}").expect("a string takes it");
            match step {
                Step::Wait => {}
                Step::Issuer { up } => self.issuer.up = up,
                Step::Input(input) => self.session.handle(input, self.origin + at),
            }
            self.render(at);
        } else {
            writeln!(self.actual, "{line}").expect("a string takes it");
        }
    }

    fn run_until(&mut self, at: Duration) {
        let until = self.origin + at;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due < until) {
            self.session.handle_timeout(due);
            self.render(due - self.origin);
        }
    }

    fn render(&mut self, at: Duration) {
        let millis = at.as_millis();
        while let Some(effect) = self.session.poll_effect() {
            let line = match effect {
                Effect::Everyone(message) => self.said("client", message),
                Effect::Client(message) => self.said("client", message),
                Effect::Sidebands(message) => self.said("sidebands", message),
                Effect::Voice(message) => told("voice", &message),
                Effect::Next(message) => told("next", &message),
                Effect::Switch => "switch".to_owned(),
                Effect::HangUp => "hang up".to_owned(),
                Effect::Dialer(ToDialer::Adopt(json)) => format!("adopt {}", json.as_str()),
                Effect::Dialer(ToDialer::Open) => "dial".to_owned(),
                Effect::Tool(ToTools::Call { call, name, .. }) => format!("tool: {name} {call}"),
                Effect::Issuer(question) => {
                    let answer = self.issuer.answer(&question, self.origin + at);
                    self.session.handle(Input::Issuer(answer), self.origin + at);
                    format!("issuer: {question:?}")
                }
                Effect::Record(sample) => {
                    format!("record: {} {:?}", sample.measure.name(), sample.took)
                }
                // Its notice says the same.
                Effect::Turn(_) => continue,
                Effect::Count(tally) => format!("count: {tally:?}"),
                // It is made of what is said here anyway.
                Effect::Save(_) => continue,
                Effect::Close(reason) => format!("close: {reason:?}"),
            };
            writeln!(self.actual, "    {millis} {line}").expect("a string takes it");
        }
    }

    fn said(&self, to: &str, message: ToClient) -> String {
        match message {
            ToClient::Notice(Notice::Latency(trace)) => format!("{to}: {}", turn(&trace)),
            ToClient::Event(json) => format!("{to}: event {}", json.as_str()),
            ToClient::Created { session, next } => {
                let next = next.map_or(String::new(), |next| format!(", next {next}"));
                format!("{to}: created from {}{next}", session.as_str())
            }
            ToClient::Missed(missed) => {
                let missed = missed.into_iter().map(|missed| self.said("", missed));
                format!("{to}: missed{}", missed.collect::<Vec<_>>().join(","))
            }
            ToClient::Play { position, .. } => format!("{to}: play at {position:?}"),
            ToClient::Output(output, response) => {
                format!("{to}: output {output:?} {response}").to_lowercase()
            }
            ToClient::Notice(Notice::State(state)) => {
                let state = format!("{state:?}").to_uppercase();
                match to {
                    "client" => format!("state: {state}"),
                    _ => format!("{to}: state {state}"),
                }
            }
            ToClient::Notice(Notice::Token(credential)) => {
                let expires = (credential.expires_at - self.origin).as_millis();
                format!("notice: Token {} until {expires}", credential.id)
            }
            ToClient::Notice(Notice::Interrupted {
                response,
                heard,
                accuracy,
            }) => {
                let (source, margin) = (accuracy.source.name(), accuracy.uncertainty);
                let told = format!("Interrupted {response} after {heard:?}, {source} ±{margin:?}");
                match to {
                    "client" => format!("notice: {told}"),
                    _ => format!("{to}: {told}"),
                }
            }
            ToClient::Notice(notice) if to == "client" => format!("notice: {notice:?}"),
            ToClient::Notice(notice) => format!("{to}: {notice:?}"),
            ToClient::Fault(fault) => format!("{to}: fault {}", fault.code),
            ToClient::Failed(response) => format!("{to}: failed {response}"),
            ToClient::Truncated { item, heard } => format!("{to}: truncated {item} at {heard:?}"),
            ToClient::Flush => format!("{to}: Flush"),
            ToClient::Close(reason) => format!("{to}: Close({reason:?})"),
        }
    }
}

/// What a link is told.
fn told(link: &str, message: &ToVoice) -> String {
    match message {
        ToVoice::Event(json) => format!("{link}: event {}", json.as_str()),
        ToVoice::Audio { frame, .. } => format!("{link}: append {frame:?}"),
        ToVoice::Restore(Restored { item, after, sound }) => {
            let said = match &item.body {
                Body::Message { role, words } => format!("{role:?} {:?}", words.text.0),
                other @ (Body::Call { .. } | Body::Output { .. } | Body::Other(_)) => {
                    format!("{other:?}")
                }
            };
            let after = after.as_ref().map_or("the start", |id| id.as_str());
            let sound = sound.as_ref().map(|frame| format!(" with {frame:?}"));
            let sound = sound.unwrap_or_default();
            format!("{link}: restore {} after {after}: {said}{sound}", item.id)
        }
        ToVoice::All(messages) => {
            let messages = messages.iter().map(|message| told(link, message));
            messages.collect::<Vec<_>>().join("\n        ")
        }
        message @ (ToVoice::Cancel(_)
        | ToVoice::Truncate { .. }
        | ToVoice::Delete(_)
        | ToVoice::ClearOutput
        | ToVoice::Probe
        | ToVoice::ToolOutput { .. }
        | ToVoice::Respond) => format!("{link}: {message:?}"),
    }
}

impl Issuer {
    fn answer(&mut self, question: &ToIssuer, now: Instant) -> FromIssuer {
        if !self.up {
            return FromIssuer::Unavailable;
        }
        match question {
            ToIssuer::Resume => FromIssuer::Resume("rt".into()),
            ToIssuer::Renew => FromIssuer::Issued(self.issue(now)),
            ToIssuer::Check(token) if token.expose() == "fetched" => {
                FromIssuer::Issued(self.issue(now))
            }
            ToIssuer::Check(_) => {
                FromIssuer::Refused(Fault::invalid("token_wrong_device", "another device's"))
            }
        }
    }

    fn issue(&mut self, now: Instant) -> Credential {
        self.issued += 1;
        Credential {
            id: format!("t{}", self.issued).into(),
            token: "ek".into(),
            resume: "rt".into(),
            expires_at: now + self.life,
            expires_unix: 0,
        }
    }
}

/// Leaves out the middle of long runs of played frames.
fn abridged(actual: &str) -> String {
    const SHOWN: usize = 3;
    let lines: Vec<&str> = actual.lines().collect();
    let mut short = String::new();
    for run in lines.chunk_by(|line, next| is_play(line) && is_play(next)) {
        let left_out = run.len().saturating_sub(SHOWN + 1);
        let (first, last) = run.split_at(if left_out > 1 { SHOWN } else { run.len() });
        for line in first {
            writeln!(short, "{line}").expect("a string takes it");
        }
        if let Some(last) = last.last() {
            writeln!(short, "    ... {left_out} more\n{last}").expect("a string takes it");
        }
    }

    short
}

fn is_play(line: &str) -> bool {
    line.contains(" client: play at ")
}

enum Step {
    Wait,
    Issuer { up: bool },
    Input(Input),
}

fn parse(line: &str, origin: Instant) -> Option<(Duration, Step)> {
    let mut words = line.split(' ');
    let at = ms(words.next()?.parse().ok()?);
    let words = words.collect::<Vec<_>>();
    let json = Json::from(words.join(" "));

    let input = match words.as_slice() {
        [] => return Some((at, Step::Wait)),
        ["issuer", up] => return Some((at, Step::Issuer { up: *up == "up" })),
        ["mic", millis] => Input::Client(FromClient::Audio {
            payload: sound(millis),
            received: origin + at,
        }),
        ["mic", millis, "loud"] => Input::Client(FromClient::Audio {
            payload: vec![0x20; sound(millis).len()].into(),
            received: origin + at,
        }),
        ["client", "response.create"] => {
            Input::Client(FromClient::Event(ClientEvent::CreateResponse, json))
        }
        ["client", "update", ..] => {
            Input::Client(FromClient::Event(ClientEvent::UpdateSession, json))
        }
        ["client", "create", ..] => Input::Client(FromClient::Event(ClientEvent::CreateItem, json)),
        ["client", "commit"] => Input::Client(FromClient::Event(ClientEvent::CommitAudio, json)),
        ["client", "truncate", item, heard] => Input::Client(FromClient::Truncate {
            item: (*item).into(),
            heard: ms(number(heard)),
            json,
        }),
        ["client", "response.cancel"] | ["client", "event", ..] => {
            Input::Client(FromClient::Event(ClientEvent::Other, json))
        }
        ["client", "clear"] => Input::Client(FromClient::ClearOutput),
        ["client", "hangup"] => Input::Client(FromClient::Hangup),
        ["client", "extended"] => Input::Client(FromClient::Extended),
        ["client", "ack", token] => Input::Client(FromClient::TokenAcknowledged((*token).into())),
        ["client", "present", token] => Input::Client(FromClient::TokenPresented((*token).into())),
        ["client", "attached"] => Input::Attached(device(40, None)),
        ["client", "attached", "lead", lead] => Input::Attached(device(number(lead), None)),
        ["client", "attached", "heard", heard] => {
            Input::Attached(device(40, Some(ms(number(heard)))))
        }
        ["client", "acknowledges", received] => Input::Client(FromClient::Acknowledged {
            received: number(received),
            last: format!("e{received}").into(),
        }),
        ["client", "alive", every] => Input::Client(FromClient::Alive {
            every: ms(number(every)),
        }),
        ["client", "heard", position] => Input::Client(FromClient::Heard(ms(number(position)))),
        ["client", "nonsense"] => {
            let fault = Fault::invalid("invalid_event", "nonsense");
            Input::Client(FromClient::Rejected(fault))
        }
        ["client", "gone"] => Input::Lost(Neighbor::Client, Loss::Gone),
        ["client", "played", position, "at", when] => Input::Client(FromClient::Played(Played {
            position: ms(number(position)),
            at: origin + ms(number(when)),
            exact: false,
        })),
        ["client", "played", position, "at", when, "exactly"] => {
            Input::Client(FromClient::Played(Played {
                position: ms(number(position)),
                at: origin + ms(number(when)),
                exact: true,
            }))
        }
        ["client", "ways", up, down, flags @ ..] => Input::Client(FromClient::Ways(Ways {
            up: ms(number(up)),
            down: ms(number(down)),
            uncertainty: ms(3),
            source: match flags.contains(&"estimated") {
                true => Source::Estimated,
                false => Source::Reported,
            },
        })),
        ["client", "stats", capture, jitter_buffer, output_latency] => {
            Input::Client(FromClient::Stats(Stats {
                capture: Some(ms(number(capture))),
                jitter_buffer: Some(ms(number(jitter_buffer))),
                output_latency: Some(ms(number(output_latency))),
                ..Stats::default()
            }))
        }
        ["client", "sent", position, "at", when] => Input::Client(FromClient::Sent {
            position: ms(number(position)),
            at: origin + ms(number(when)),
        }),
        ["client", "network", round_trip, jitter] => Input::Client(FromClient::Network(Network {
            round_trip: ms(number(round_trip)),
            jitter: ms(number(jitter)),
        })),
        ["voice", "began"] => Input::Client(FromClient::Speech(Speech::Began {
            received: origin + at,
        })),
        ["voice", "ended"] => Input::Client(FromClient::Speech(Speech::Ended)),
        ["session", flags @ ..] => Input::Voice(FromVoice::Session(
            VoiceSession {
                input: Format::Pcm,
                output: Format::Pcm,
                interrupts: !flags.contains(&"no-interrupt"),
                responds: !flags.contains(&"no-respond"),
                silence: ms(200),
                detects: !flags.contains(&"no-detect"),
                ..VoiceSession::default()
            },
            json,
        )),
        ["speech-started"] => Input::Voice(FromVoice::SpeechStarted { at, json }),
        ["speech-stopped", position, "handed", when] => Input::Voice(FromVoice::SpeechStopped {
            at: ms(number(position)),
            handed: Some(origin + ms(number(when))),
            json,
        }),
        ["speech-stopped", position] => Input::Voice(FromVoice::SpeechStopped {
            handed: None,
            at: ms(number(position)),
            json,
        }),
        ["created", response] => Input::Voice(FromVoice::ResponseCreated {
            response: (*response).into(),
            conversation: Some("conv".into()),
            json,
        }),
        ["created", response, "out-of-band"] => Input::Voice(FromVoice::ResponseCreated {
            response: (*response).into(),
            conversation: None,
            json,
        }),
        ["audio", response, item, millis] => Input::Voice(FromVoice::Audio {
            response: (*response).into(),
            item: (*item).into(),
            content_index: 0,
            payload: sound(millis),
            json,
        }),
        ["next", rest @ ..] => {
            let (_, step) = parse(&format!("{} {}", at.as_millis(), rest.join(" ")), origin)?;
            let Step::Input(Input::Voice(message)) = step else {
                panic!("not a link's words: {line}");
            };
            return Some((at, Step::Input(Input::Next(message))));
        }
        ["dial", "failed"] => Input::Dialer(FromDialer::Failed(DialFailure::Unreachable)),
        ["dial", "busy", millis] => Input::Dialer(FromDialer::Failed(DialFailure::Busy {
            retry_after: Some(ms(number(millis))),
        })),
        ["committed", item] => Input::Voice(FromVoice::Committed {
            item: (*item).into(),
            json,
        }),
        ["item", stage, item, "after", after, role, words @ ..] => Input::Voice(FromVoice::Item {
            item: Item {
                id: (*item).into(),
                body: body(role, words),
            },
            after: (*after != "-").then(|| (*after).into()),
            stage: match *stage {
                "added" => Stage::Added,
                "done" => Stage::Done,
                _ => panic!("not a stage: {stage}"),
            },
            json,
        }),
        ["item-deleted", item] => Input::Voice(FromVoice::ItemDeleted {
            item: (*item).into(),
            json,
        }),
        ["item-truncated", item, heard] => Input::Voice(FromVoice::ItemTruncated {
            item: (*item).into(),
            heard: ms(number(heard)),
            json,
        }),
        ["transcribed", item, words @ ..] => Input::Voice(FromVoice::Transcribed {
            item: (*item).into(),
            text: words.join(" ").as_str().into(),
            json,
        }),
        ["says", response, item, words @ ..] => Input::Voice(FromVoice::Delta {
            said: Some(Utterance {
                item: (*item).into(),
                text: (words.join(" ") + " ").as_str().into(),
                aloud: true,
            }),
            response: (*response).into(),
            json,
        }),
        ["text", response, ..] => Input::Voice(FromVoice::Delta {
            said: None,
            response: (*response).into(),
            json,
        }),
        // One of the relay's own, which the link hides from the client.
        ["hidden-call", response, call, name, how @ ..] => Input::Voice(FromVoice::OutputItem {
            response: (*response).into(),
            item: item_of(call, name),
            stage: Stage::Done,
            whole: how != ["cut"],
            json: Json::nothing(),
        }),
        ["call", response, call, name] => Input::Voice(FromVoice::OutputItem {
            response: (*response).into(),
            item: item_of(call, name),
            stage: Stage::Done,
            whole: true,
            json,
        }),
        ["tool", call, output @ ..] => Input::Tool(FromTools::Output {
            call: (*call).into(),
            output: Said(output.join(" ")),
        }),
        ["audio-done", response, item] => Input::Voice(FromVoice::AudioDone {
            response: (*response).into(),
            item: (*item).into(),
            json,
        }),
        ["done", response, outcome, tokens @ ..] => Input::Voice(FromVoice::ResponseDone {
            usage: Usage {
                output_audio: tokens.first().map_or(0, |tokens| number(tokens)),
                ..Usage::default()
            },
            response: (*response).into(),
            outcome: match *outcome {
                "completed" => ResponseOutcome::Completed,
                "cancelled" => ResponseOutcome::Cancelled,
                "failed" => ResponseOutcome::Failed,
                "incomplete" => ResponseOutcome::Incomplete,
                _ => panic!("not an outcome: {outcome}"),
            },
            json,
        }),
        ["playing", output, response] => Input::Voice(FromVoice::Output(
            match *output {
                "started" => Output::Started,
                "stopped" => Output::Stopped,
                "cleared" => Output::Cleared,
                _ => panic!("not an output: {output}"),
            },
            (*response).into(),
            json,
        )),
        ["error", code, refused @ ..] => Input::Voice(FromVoice::Error {
            code: (*code).to_owned(),
            answers_relay: false,
            refuses: (!refused.is_empty()).then_some(ClientEvent::UpdateSession),
            json,
        }),
        ["link", "lost"] => Input::Voice(FromVoice::Down(LinkEnd::Lost)),
        ["link", "expired"] => Input::Voice(FromVoice::Down(LinkEnd::Expired)),
        ["shutdown"] => Input::Shutdown,
        ["revoked"] => Input::Revoked,
        ["hung-up"] => Input::HungUp,
        _ => panic!("not an input: {line}"),
    };

    Some((at, Step::Input(input)))
}

fn turn(trace: &TurnTrace) -> String {
    let hops = trace.known().map(|(hop, stretch)| {
        let about = match stretch.source {
            Source::Reported => "",
            Source::Estimated => "~",
        };
        format!("{} {about}{:?}", hop.name(), stretch.took)
    });
    let hops: Vec<_> = hops.collect();

    format!(
        "turn {} by {} in {:?} +-{:?}: {}",
        trace.turn,
        trace.response,
        trace.total,
        trace.uncertainty,
        hops.join(", ")
    )
}

fn device(lead: u64, heard: Option<Duration>) -> Device {
    Device {
        transport: Transport::WebRtc,
        lead: ms(lead),
        ear_delay: ms(80),
        flushes: false,
        heard,
    }
}

fn item_of(call: &str, name: &str) -> Item {
    Item {
        id: format!("item_{call}").into(),
        body: body("call", &[call, name, "{}"]),
    }
}

fn body(role: &str, words: &[&str]) -> Body {
    let text = words.join(" ");
    let role = match role {
        "system" => Role::System,
        "user" | "voice" => Role::User,
        "assistant" => Role::Assistant,
        "call" => {
            return Body::Call {
                call: words[0].into(),
                name: words[1].to_owned(),
                arguments: words.get(2).copied().unwrap_or_default().into(),
            };
        }
        "output" => {
            return Body::Output {
                call: words[0].into(),
                output: words[1].into(),
            };
        }
        _ => panic!("not an item: {role}"),
    };

    Body::Message {
        role,
        words: Words::written(text),
    }
}

fn sound(millis: &str) -> Bytes {
    let bytes = number(millis) as usize * Format::Pcm.bytes_per_ms();

    vec![0; bytes].into()
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
