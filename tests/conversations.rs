//! Replays the conversations in `tests/conversations` and compares what the session says.
//!
//! A line that starts with a number is an input, at that many milliseconds; the indented lines
//! below it are the effects; of a long run of played frames the middle is left out. `UPDATE=1 cargo test --test conversations` rewrites the effects.

#![expect(clippy::disallowed_methods, reason = "a conversation picks its origin")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use voxline::core::audio::Format;
use voxline::core::playout::PlayoutConfig;
use voxline::core::port::{
    ClientEvent, FromClient, FromVoice, Json, LinkEnd, Notice, Played, ResponseOutcome, ToClient,
    ToVoice, Usage, VoiceSession,
};
use voxline::core::session::{Effect, Input, Loss, Neighbor, Playback, Session, SessionConfig};

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
    let origin = Instant::now();
    let websocket = written.lines().any(|line| line == "client: websocket");
    let playback = if websocket {
        Playback::Client
    } else {
        Playback::Relay(PlayoutConfig::default())
    };
    let mut session = Session::new(SessionConfig::new("sess".into(), playback), origin);
    let mut actual = String::new();

    for line in written.lines().filter(|line| !line.starts_with(' ')) {
        if let Some((at, input)) = parse(line, origin) {
            run_until(&mut session, origin, at, &mut actual);
            writeln!(actual, "{line}").expect("a string takes it");
            if let Some(input) = input {
                session.handle(input, origin + at);
            }
            render(&mut session, at, &mut actual);
        } else {
            writeln!(actual, "{line}").expect("a string takes it");
        }
    }

    actual
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

fn run_until(session: &mut Session, origin: Instant, at: Duration, actual: &mut String) {
    while let Some(due) = session.poll_timeout().filter(|due| *due < origin + at) {
        session.handle_timeout(due);
        render(session, due - origin, actual);
    }
}

fn parse(line: &str, origin: Instant) -> Option<(Duration, Option<Input>)> {
    let mut words = line.split(' ');
    let at = ms(words.next()?.parse().ok()?);
    let words = words.collect::<Vec<_>>();
    let json = Json::from(words.join(" "));

    let input = match words.as_slice() {
        [] => return Some((at, None)),
        ["mic", millis] => Input::Client(FromClient::Audio {
            payload: sound(millis),
            received: origin + at,
        }),
        ["client", "response.create"] => {
            Input::Client(FromClient::Event(ClientEvent::CreateResponse, json))
        }
        ["client", "response.cancel"] | ["client", "event", ..] => {
            Input::Client(FromClient::Event(ClientEvent::Other, json))
        }
        ["client", "clear"] => Input::Client(FromClient::ClearOutput),
        ["client", "hangup"] => Input::Client(FromClient::Hangup),
        ["client", "gone"] => Input::Lost(Neighbor::Client, Loss::Gone),
        ["client", "played", position, "at", when] => Input::Client(FromClient::Played(Played {
            position: ms(number(position)),
            at: origin + ms(number(when)),
        })),
        ["session", flags @ ..] => Input::Voice(FromVoice::Session(
            VoiceSession {
                input: Format::Pcm,
                output: Format::Pcm,
                interrupts: !flags.contains(&"no-interrupt"),
                responds: !flags.contains(&"no-respond"),
                silence: ms(200),
            },
            json,
        )),
        ["speech-started"] => Input::Voice(FromVoice::SpeechStarted { at, json }),
        ["speech-stopped", position] => Input::Voice(FromVoice::SpeechStopped {
            at: ms(number(position)),
            json,
        }),
        ["created", response] => Input::Voice(FromVoice::ResponseCreated {
            response: (*response).into(),
            in_conversation: true,
            json,
        }),
        ["created", response, "out-of-band"] => Input::Voice(FromVoice::ResponseCreated {
            response: (*response).into(),
            in_conversation: false,
            json,
        }),
        ["audio", response, item, millis] => Input::Voice(FromVoice::Audio {
            response: (*response).into(),
            item: (*item).into(),
            content_index: 0,
            payload: sound(millis),
            json,
        }),
        ["text", response, ..] => Input::Voice(FromVoice::Delta {
            response: (*response).into(),
            json,
        }),
        ["audio-done", response, item] => Input::Voice(FromVoice::AudioDone {
            response: (*response).into(),
            item: (*item).into(),
            json,
        }),
        ["done", response, outcome] => Input::Voice(FromVoice::ResponseDone {
            usage: Usage::default(),
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
        ["error", code] => Input::Voice(FromVoice::Error {
            code: (*code).to_owned(),
            answers_relay: false,
            json,
        }),
        ["link", "lost"] => Input::Voice(FromVoice::Down(LinkEnd::Lost)),
        ["link", "expired"] => Input::Voice(FromVoice::Down(LinkEnd::Expired)),
        ["shutdown"] => Input::Shutdown,
        _ => panic!("not an input: {line}"),
    };

    Some((at, Some(input)))
}

fn render(session: &mut Session, at: Duration, out: &mut String) {
    let at = at.as_millis();
    while let Some(effect) = session.poll_effect() {
        let line = match effect {
            Effect::Everyone(message) | Effect::Client(message) => said("client", message),
            Effect::Sidebands(message) => said("sidebands", message),
            Effect::Voice(ToVoice::Event(json)) => format!("voice: event {}", json.as_str()),
            Effect::Voice(ToVoice::Audio { frame, .. }) => format!("voice: append {frame:?}"),
            Effect::Voice(message) => format!("voice: {message:?}"),
            Effect::Issuer(question) => format!("issuer: {question:?}"),
            Effect::Record(sample) => format!("record: {} {:?}", sample.hop.name(), sample.took),
            Effect::Count(tally) => format!("count: {tally:?}"),
            Effect::Close(reason) => format!("close: {reason:?}"),
        };
        writeln!(out, "    {at} {line}").expect("a string takes it");
    }
}

fn said(to: &str, message: ToClient) -> String {
    match message {
        ToClient::Event(json) => format!("{to}: event {}", json.as_str()),
        ToClient::Created(json) => format!("{to}: created {}", json.as_str()),
        ToClient::Missed(missed) => {
            let missed = missed.into_iter().map(|missed| said("", missed));
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
        ToClient::Notice(notice) if to == "client" => format!("notice: {notice:?}"),
        ToClient::Notice(notice) => format!("{to}: {notice:?}"),
        ToClient::Fault(fault) => format!("{to}: fault {}", fault.code),
        ToClient::Flush => format!("{to}: Flush"),
        ToClient::Close(reason) => format!("{to}: Close({reason:?})"),
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
