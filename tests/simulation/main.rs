//! Drives a session through random conversations, in virtual time, and checks what it promises.
//!
//! A failure names its seed; `SEED=… cargo test --test simulation` runs that conversation alone.

#![expect(clippy::disallowed_methods, reason = "the simulation picks the origin")]

mod presence;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use voxline::core::audio::Format;
use voxline::core::ids::{ItemId, ResponseId};
use voxline::core::playout::PlayoutConfig;
use voxline::core::port::{
    ClientEvent, FromClient, FromVoice, Json, LinkEnd, Network, Notice, Output, Played,
    ResponseOutcome, Speech, State, ToClient, ToVoice, Usage, VoiceSession,
};
use voxline::core::session::{Effect, Input, Loss, Neighbor, Playback, Session, SessionConfig};

use crate::presence::Presence;
use crate::tools::{OWN, Tools};

const FRAME: Duration = Duration::from_millis(20);
const STEPS: usize = 400;
const SEEDS: u64 = 1_000;

#[test]
fn random_conversations_keep_every_promise() {
    let origin = Instant::now();
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    };

    let mut seen = BTreeSet::new();
    for &seed in &seeds {
        seen.extend(World::run(seed, origin));
    }

    // A simulation that never gets anywhere keeps every promise.
    if seeds.len() > 1 {
        let missing: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(**kind)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_conversation() {
    let origin = Instant::now();
    for seed in 0..20 {
        assert_eq!(
            World::conversation(seed, origin),
            World::conversation(seed, origin)
        );
    }
}

const KINDS: [&str; 48] = [
    "acknowledged",
    "told again",
    "waiting",
    "event",
    "play",
    "flush",
    "started",
    "stopped",
    "cleared",
    "state",
    "interrupted",
    "paused",
    "sounds on",
    "false alarm",
    "cut while paused",
    "latency",
    "closing",
    "fault",
    "close",
    "append",
    "client event",
    "cancel",
    "truncate",
    "delete",
    "record",
    "cancelling -> listening",
    "thinking -> recovering",
    "parked",
    "resumed",
    "abandoned",
    "replaced",
    "missed",
    "events lost",
    "taken back",
    "clear while away",
    "session",
    "token",
    "token again",
    "token_expiring",
    "token_refused",
    "rotated",
    "rotation failed",
    "reconnect",
    "revoked",
    "too long",
    "tool",
    "tool output",
    "respond",
];

struct World {
    seed: u64,
    random: Random,
    origin: Instant,
    now: Instant,
    session: Session,
    transcript: Vec<Effect>,
    seen: BTreeSet<&'static str>,

    presence: Presence,
    tools: Tools,
    /// The person speaks, as the provider says.
    hearing: bool,
    config: PlayoutConfig,
    reports: bool,
    /// The answer that sounds is paused.
    paused_since: Option<Instant>,
    longest_pause: Duration,
    link_up: bool,
    ever_up: bool,
    closed: bool,
    responses: u64,
    answer: Option<Answer>,
    items: BTreeMap<ItemId, Heard>,
    open: BTreeSet<ResponseId>,
    cancelled: BTreeSet<ResponseId>,
    /// Responses that say nothing more ...
    silenced: BTreeSet<ResponseId>,
    /// ... and those of which nothing received before sounds either.
    flushed: BTreeSet<ResponseId>,
    sounding: BTreeSet<ResponseId>,
    played_to: Duration,
    state: State,
}

/// What the provider is saying.
struct Answer {
    response: ResponseId,
    item: ItemId,
    items: u64,
}

/// What the device got of an item.
struct Heard {
    response: ResponseId,
    label: u8,
    received: Duration,
    /// Where each frame of it lies on the timeline.
    played: Vec<Duration>,
    /// When the last of them was.
    last_played: Duration,
    settled: bool,
}

impl Heard {
    fn played(&self) -> Duration {
        FRAME * self.played.len() as u32
    }
}

impl World {
    fn run(seed: u64, origin: Instant) -> BTreeSet<&'static str> {
        Self::play(seed, origin).seen
    }

    fn conversation(seed: u64, origin: Instant) -> Vec<Effect> {
        Self::play(seed, origin).transcript
    }

    fn play(seed: u64, origin: Instant) -> Self {
        let mut random = Random(seed + 1);
        let config = PlayoutConfig {
            capacity: Duration::from_secs(30 + random.below(600)),
            flushes: random.below(2) == 0,
            ..PlayoutConfig::default()
        };
        let reports = random.below(2) == 0;
        let mut session = SessionConfig::new("sess".into(), Playback::Relay(config));
        session.tools = [OWN.to_owned()].into();
        let presence = Presence::new(&mut session, &mut random, origin);
        let longest_pause = session.barge_in_wait;
        let session = Session::new(session, origin);
        let mut world = Self {
            seed,
            random,
            origin,
            now: origin,
            session,
            transcript: vec![],
            seen: BTreeSet::new(),
            presence,
            tools: Tools::default(),
            hearing: false,
            paused_since: None,
            longest_pause,
            config,
            reports,
            link_up: false,
            ever_up: false,
            closed: false,
            responses: 0,
            answer: None,
            items: BTreeMap::new(),
            open: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            silenced: BTreeSet::new(),
            flushed: BTreeSet::new(),
            sounding: BTreeSet::new(),
            played_to: Duration::ZERO,
            state: State::Idle,
        };
        for _ in 0..STEPS {
            world.step();
        }
        world.wait_until(world.now + Duration::from_secs(7200));
        world.promise(world.closed, "nothing waits for ever");
        world.check_counts();

        world
    }

    fn step(&mut self) {
        let pause = match self.random.below(150) {
            0 => Duration::from_secs(self.random.below(40)),
            1 => Duration::from_secs(self.random.below(700)),
            2..12 => Duration::from_millis(self.random.below(3_000)),
            _ => Duration::from_millis(self.random.below(90)),
        };
        self.wait_until(self.now + pause);
        for input in self.comings_and_goings() {
            self.put(input);
        }
        for input in self.inputs() {
            self.put(input);
        }
        self.check_sound();
    }

    fn put(&mut self, input: Input) {
        if !self.allows(&input) {
            return;
        }
        let interrupts = matches!(
            input,
            Input::Voice(FromVoice::SpeechStarted { .. }) | Input::Client(FromClient::ClearOutput)
        );
        self.foresee(&input);
        if let Input::Voice(FromVoice::SpeechStarted { .. } | FromVoice::SpeechStopped { .. }) =
            input
        {
            self.hearing = matches!(input, Input::Voice(FromVoice::SpeechStarted { .. }));
        }
        self.session.handle(input, self.now);
        self.check_effects();
        self.check_presence();
        if interrupts && !self.closed && self.link_up {
            self.promise(self.sounding.is_empty(), "an interruption is silence");
        }
    }

    fn wait_until(&mut self, then: Instant) {
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= then) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            self.check_effects();
            self.check_presence();

            let next = self.session.poll_timeout();
            self.promise(next.is_none_or(|at| self.now < at), "time moves on");
        }
        self.now = then;
    }

    fn inputs(&mut self) -> Vec<Input> {
        match self.random.below(70) {
            0..4 if !self.ever_up => {
                self.link_up = true;
                self.ever_up = true;
                let session = VoiceSession {
                    input: Format::Pcm,
                    output: Format::Pcm,
                    interrupts: true,
                    responds: true,
                    silence: Duration::from_millis(200),
                    ..VoiceSession::default()
                };
                vec![voice(FromVoice::Session(session, "session".into()))]
            }
            4 if self.link_up && self.random.below(40) == 0 => {
                self.link_up = false;
                self.answer = None;
                let end = match self.random.below(3) {
                    0 => LinkEnd::Expired,
                    _ => LinkEnd::Lost,
                };
                self.open.clear();
                vec![voice(FromVoice::Down(end))]
            }
            5 if self.random.below(60) == 0 => vec![Input::Shutdown],
            6 if self.random.below(60) == 0 => vec![match self.random.below(3) {
                0 => Input::Revoked,
                1 => Input::HungUp,
                _ => Input::Client(FromClient::Hangup),
            }],
            7 if self.random.below(60) == 0 => vec![Input::Lost(Neighbor::Client, Loss::Overrun)],
            8..12 => vec![Input::Client(FromClient::Audio {
                payload: sound(0, 20),
                received: self.now,
            })],
            12 => vec![Input::Client(FromClient::Event(
                ClientEvent::CreateResponse,
                "client".into(),
            ))],
            13 => {
                vec![Input::Client(FromClient::ClearOutput)]
            }
            14 if !self.reports => vec![Input::Client(FromClient::Network(Network {
                round_trip: Duration::from_millis(self.random.below(600)),
                jitter: Duration::from_millis(self.random.below(60)),
            }))],
            15 => self.speech(),
            14..17 if self.reports => vec![Input::Client(FromClient::Played(self.report()))],
            _ if !self.ever_up || !self.link_up => vec![],
            17..20 => self.speech_started(),
            20..24 => vec![voice(FromVoice::SpeechStopped {
                at: Duration::from_millis(self.random.below(10_000)),
                json: "stopped".into(),
            })],
            24..28 => self.stale(),
            28..32 => self.end_answer(),
            32 => self.end_item(),
            34 if self.is_away() => {
                let long = Json::from("x".repeat(100_000));
                let count = self.random.below(9) as usize;
                vec![voice(FromVoice::Event(long)); count]
            }
            35..37 => self.call(),
            37..39 => self.tool(),
            33 => vec![voice(FromVoice::Error {
                code: "response_cancel_not_active".to_owned(),
                answers_relay: true,
                refuses: None,
                json: "harmless".into(),
            })],
            _ => self.burst(),
        }
    }

    /// What the relay's own detector hears; often the provider agrees.
    fn speech(&mut self) -> Vec<Input> {
        let began = Speech::Began { received: self.now };
        let speech = match self.random.below(3) {
            0 => Speech::Ended,
            _ => began,
        };
        let mut inputs = vec![Input::Client(FromClient::Speech(speech))];
        if speech == began && self.link_up && self.random.below(2) == 0 {
            inputs.extend(self.speech_started());
        }

        inputs
    }

    /// The provider stops its answer when the person speaks; its last words are on their way.
    fn speech_started(&mut self) -> Vec<Input> {
        let mut inputs = vec![voice(FromVoice::SpeechStarted {
            at: Duration::ZERO,
            json: "speech".into(),
        })];
        self.silenced.extend(self.open.iter().cloned());
        self.flushed.extend(self.open.iter().cloned());
        if self.answer.is_some() && self.random.below(2) == 0 {
            inputs.extend(self.end_answer());
        }

        inputs
    }

    /// Words of an answer that is over, as a provider in trouble sends them.
    fn stale(&mut self) -> Vec<Input> {
        let recent = self.responses.saturating_sub(self.random.below(4));
        let response = ResponseId::from(format!("r{recent}"));
        let over = self.silenced.contains(&response) || !self.open.contains(&response);
        if recent == 0 || !over {
            return vec![];
        }
        self.silenced.insert(response.clone());
        let json = Json::from(format!("delta {response}"));

        vec![
            voice(FromVoice::Delta {
                said: None,
                response: response.clone(),
                json: json.clone(),
            }),
            voice(FromVoice::Audio {
                response,
                item: "stale".into(),
                content_index: 0,
                payload: sound(255, 20),
                json,
            }),
        ]
    }

    /// Providers send much faster than real time.
    fn burst(&mut self) -> Vec<Input> {
        let mut inputs = vec![];
        if self.answer.is_none() {
            self.responses += 1;
            let response = ResponseId::from(format!("r{}", self.responses));
            self.open.insert(response.clone());
            let json = Json::from("created");
            inputs.push(voice(FromVoice::ResponseCreated {
                response: response.clone(),
                in_conversation: true,
                json,
            }));
            let item = ItemId::from(format!("{response}-1"));
            self.answer = Some(Answer {
                response,
                item,
                items: 1,
            });
            if self.random.below(4) == 0 {
                return inputs;
            }
        }
        let count = match self.random.below(60) {
            0 => 400,
            _ => self.random.below(8),
        };
        for _ in 0..count {
            let millis = 1 + self.random.below(200) as usize;
            inputs.extend(self.words(millis));
        }

        inputs
    }

    fn words(&mut self, millis: usize) -> [Input; 2] {
        let Answer { response, item, .. } = self.answer.as_ref().expect("an answer is open");
        let label = 1 + (self.items.len() % 200) as u8;
        let heard = self.items.entry(item.clone()).or_insert_with(|| Heard {
            response: response.clone(),
            label,
            received: Duration::ZERO,
            played: vec![],
            last_played: Duration::ZERO,
            settled: false,
        });
        if !self.silenced.contains(response) {
            heard.received += Duration::from_millis(millis as u64);
        }
        let json = Json::from(format!("delta {response}"));

        [
            voice(FromVoice::Delta {
                said: None,
                response: response.clone(),
                json: json.clone(),
            }),
            voice(FromVoice::Audio {
                response: response.clone(),
                item: item.clone(),
                content_index: 0,
                payload: sound(heard.label, millis),
                json,
            }),
        ]
    }

    fn end_item(&mut self) -> Vec<Input> {
        let Some(answer) = &mut self.answer else {
            return vec![];
        };
        let done = voice(FromVoice::AudioDone {
            response: answer.response.clone(),
            item: answer.item.clone(),
            json: "audio done".into(),
        });
        answer.items += 1;
        answer.item = ItemId::from(format!("{}-{}", answer.response, answer.items));

        vec![done]
    }

    fn end_answer(&mut self) -> Vec<Input> {
        let Some(answer) = self.answer.take() else {
            return vec![];
        };
        self.open.remove(&answer.response);
        let cut = self.silenced.contains(&answer.response);
        let outcome = match self.random.below(6) {
            _ if cut => ResponseOutcome::Cancelled,
            0 => ResponseOutcome::Failed,
            1 => ResponseOutcome::Incomplete,
            _ => ResponseOutcome::Completed,
        };

        vec![voice(FromVoice::ResponseDone {
            usage: Usage::default(),
            response: answer.response,
            outcome,
            json: "done".into(),
        })]
    }

    fn report(&mut self) -> Played {
        let age = Duration::from_millis(self.random.below(300));
        let delay = Duration::from_millis(self.random.below(400));
        let at = self
            .now
            .checked_sub(age)
            .unwrap_or(self.origin)
            .max(self.origin);

        let position = (at - self.origin).saturating_sub(delay).min(self.played_to);

        Played { position, at }
    }

    fn check_effects(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            self.promise(!self.closed, "nothing is said after closing");
            self.transcript.push(effect.clone());
            match effect {
                Effect::Everyone(message) => {
                    self.check_everyone(&message);
                    self.check_client(message);
                }
                Effect::Sidebands(message) => {
                    self.check_sidebands(&message);
                    self.check_client(message);
                }
                Effect::Client(message) => self.check_confidence(message),
                Effect::Issuer(question) => self.answer(question),
                Effect::Count(tally) => self.check_count(tally),
                Effect::Voice(message) => self.check_voice(message),
                Effect::Next(_)
                | Effect::Switch
                | Effect::HangUp
                | Effect::Dialer(_)
                | Effect::Save(_) => {
                    self.promise(false, "a session that ends with its link opens no other");
                }
                Effect::Tool(call) => self.check_tool(call),
                Effect::Record(_) => self.saw("record"),
                Effect::Close(reason) => {
                    self.closed = true;
                    self.saw("close");
                    self.check_close(reason);
                }
            }
        }
    }

    /// The response that the provider works on.
    fn answering(&self) -> Option<ResponseId> {
        self.answer.as_ref().map(|answer| answer.response.clone())
    }

    fn check_client(&mut self, message: ToClient) {
        match message {
            ToClient::Event(json) => {
                self.saw("event");
                self.promise(json.as_str() != "harmless", "its own errors stay inside");
                if let Some(response) = json.as_str().strip_prefix("delta ") {
                    self.promise(
                        !self.silenced.contains(&response.into()),
                        "a cut answer says nothing more",
                    );
                }
            }
            ToClient::Output(Output::Started, response) => {
                self.saw("started");
                self.promise(
                    !self.flushed.contains(&response),
                    "a cut answer does not start",
                );
                let new = self.sounding.insert(response);
                self.promise(new, "an answer starts once");
            }
            ToClient::Output(output, response) => {
                self.saw(match output {
                    Output::Cleared => "cleared",
                    Output::Stopped | Output::Started => "stopped",
                });
                let was = self.sounding.remove(&response);
                self.promise(was, "what ends had started");
                self.silenced.insert(response.clone());
                self.flushed.insert(response);
            }
            ToClient::Notice(Notice::State(state)) => self.check_state(state),
            ToClient::Notice(Notice::Interrupted { .. }) => {
                self.saw("interrupted");
                if self.paused_since.take().is_some() {
                    self.saw("cut while paused");
                }
            }
            ToClient::Notice(Notice::Paused { response }) => {
                self.saw("paused");
                self.promise(self.sounding.contains(&response), "what is paused sounds");
                let before = self.paused_since.replace(self.now);
                self.promise(before.is_none(), "what is paused is not paused again");
            }
            ToClient::Notice(Notice::Resumed { .. }) => {
                self.saw("sounds on");
                let before = self.paused_since.take();
                self.promise(before.is_some(), "what sounds on was paused");
            }
            ToClient::Notice(Notice::Latency(_)) => self.saw("latency"),
            ToClient::Notice(Notice::Closing { .. }) => self.saw("closing"),
            ToClient::Notice(Notice::Degraded { .. } | Notice::Restored { .. }) => {}
            ToClient::Fault(fault) => {
                self.saw("fault");
                if fault.code == "output_audio_buffer_full" {
                    // What was refused was never received.
                    self.items
                        .values_mut()
                        .for_each(|item| item.received = Duration::MAX);
                }
            }
            ToClient::Close(_) => {}
            ToClient::Notice(
                Notice::Session { .. }
                | Notice::Token(_)
                | Notice::TokenExpiring { .. }
                | Notice::Reconnect { .. }
                | Notice::Waiting,
            )
            | ToClient::Created { .. }
            | ToClient::Failed(_)
            | ToClient::Truncated { .. }
            | ToClient::Missed(_)
            | ToClient::Play { .. }
            | ToClient::Flush => {
                self.promise(false, "what is the client's own is not shown around")
            }
        }
    }

    fn check_play(&mut self, label: u8, position: Duration, due: Instant) {
        let now = self.now - self.origin;
        self.promise(position >= self.played_to, "the timeline goes forward");
        self.promise(
            position <= now + self.config.lead,
            "little unheard sound is out",
        );
        self.promise(due <= self.now, "nothing is released before its time");
        self.promise(self.paused_since.is_none(), "what is paused is silent");
        self.played_to = position + FRAME;

        let item = self
            .items
            .values_mut()
            .rev()
            .find(|item| item.label == label);
        let Some(item) = item else {
            return self.promise(false, "only an answer is played");
        };
        item.played.push(position);
        item.last_played = now;
        let (response, received, played) = (item.response.clone(), item.received, item.played());
        self.promise(
            played < received.saturating_add(FRAME),
            "what is played was received",
        );
        self.promise(self.sounding.contains(&response), "what sounds has started");
    }

    /// Sound that was received does not wait while somebody is there to hear it.
    fn check_sound(&self) {
        let mut items = self.items.values();
        let waits = items.any(|item| {
            !item.settled
                && !self.flushed.contains(&item.response)
                && item.received != Duration::MAX
                && item.received >= item.played() + 2 * FRAME
        });
        let sounds = self.played_to > self.now - self.origin;
        let quiet = self.is_away() || self.closed || self.paused_since.is_some();
        self.promise(quiet || sounds || !waits, "what was received sounds");
    }

    fn check_state(&mut self, state: State) {
        self.saw("state");
        let legal = match (self.state, state) {
            (State::Idle, to) => to == State::Listening || to == State::Recovering,
            (State::Listening, to) => {
                matches!(
                    to,
                    State::Thinking | State::Speaking | State::Cancelling | State::Recovering
                )
            }
            (State::Thinking, to) => to != State::Idle,
            (State::Speaking, to) => to != State::Idle,
            (State::Cancelling, to) => {
                if to == State::Listening {
                    self.saw("cancelling -> listening");
                }
                to != State::Idle
            }
            (State::Recovering, to) => to != State::Idle,
        };
        self.promise(legal && self.state != state, "states follow the diagram");
        if (self.state, state) == (State::Thinking, State::Recovering) {
            self.saw("thinking -> recovering");
        }
        self.state = state;
    }

    fn check_voice(&mut self, message: ToVoice) {
        self.promise(self.link_up, "nothing is said to a dead link");
        match message {
            ToVoice::Audio { .. } => self.saw("append"),
            ToVoice::Event(_) => self.saw("client event"),
            ToVoice::Cancel(response) => {
                self.saw("cancel");
                self.promise(
                    self.open.contains(&response),
                    "only an open answer is cancelled",
                );
                let first = self.cancelled.insert(response.clone());
                self.promise(first, "no answer is cancelled twice");
                self.silenced.insert(response);
            }
            ToVoice::Truncate { item, heard, .. } => {
                self.saw("truncate");
                let known = self.settle(&item);
                self.promise(heard <= known.0.min(known.1), "heard <= played <= received");
                self.promise(heard.as_millis() > 0, "nothing is truncated to nothing");
            }
            ToVoice::ToolOutput { call, .. } => self.check_output(call),
            ToVoice::Respond => self.check_respond(),
            ToVoice::ClearOutput | ToVoice::Probe | ToVoice::Restore(_) | ToVoice::All(_) => {}
            ToVoice::Delete(item) => {
                self.saw("delete");
                let (_, _, first) = self.settle(&item);
                let ear = self.ear();
                let reached = self.config.flushes || self.is_away();
                let unheard = match first {
                    Some(first) if reached => ear < first + Duration::from_millis(1),
                    first => first.is_none(),
                };
                self.promise(unheard, "what is heard is not deleted");
            }
        }
    }

    fn settle(&mut self, id: &ItemId) -> (Duration, Duration, Option<Duration>) {
        let item = self.items.get_mut(id).expect("the item is known");
        let again = std::mem::replace(&mut item.settled, true);
        let facts = (item.played(), item.received, item.played.first().copied());
        self.promise(!again, "an item is settled once");

        facts
    }

    fn saw(&mut self, kind: &'static str) {
        self.seen.insert(kind);
    }

    #[track_caller]
    fn promise(&self, kept: bool, promise: &str) {
        let at = self.now - self.origin;
        assert!(kept, "broken with seed {} at {at:?}: {promise}", self.seed);
    }
}

fn voice(message: FromVoice) -> Input {
    Input::Voice(message)
}

fn sound(label: u8, millis: usize) -> Bytes {
    vec![label; millis * Format::Pcm.bytes_per_ms()].into()
}

/// SplitMix64: small, seedable, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);

        (z ^ (z >> 31)) % bound
    }
}
