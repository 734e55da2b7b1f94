//! Drives a session through random conversations, in virtual time, and checks what it promises.
//!
//! Some conversations have a provider that says anything, over one link. Most have one that keeps to
//! OpenAI's order of events, over links that are lost, refused, late, silent, slow or at their end;
//! each of them knows what it was told, and the world knows what it must have been told.
//!
//! A failure names its seed; `SEED=… cargo test --test simulation` runs that conversation alone, and
//! `SEEDS=…` that many of them.

#![expect(clippy::disallowed_methods, reason = "the simulation picks the origin")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the simulation names what it minds"
)]

mod client;
mod foresight;
mod link;
mod listener;
mod presence;
mod provider;
mod record;
mod switch;
mod tools;
mod turns;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use voxline::core::ids::{ItemId, ResponseId};
use voxline::core::playout::PlayoutConfig;
use voxline::core::port::{FromClient, FromVoice, State};
use voxline::core::session::{Effect, Input, Playback, Session, SessionConfig};

use crate::presence::Presence;
use crate::tools::{OWN, Tools};
use crate::upstream::Upstream;

const FRAME: Duration = Duration::from_millis(20);
const STEPS: usize = 400;
const SEEDS: u64 = 10_000;

/// Hours of the long conversation, whose links last one at most.
const HOURS: u64 = 10;

#[test]
fn random_conversations_keep_every_promise() {
    let origin = Instant::now();
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };

    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let run = |thread: usize| {
        let mine = seeds.clone().skip(thread).step_by(threads);
        mine.flat_map(|seed| World::run(seed, origin))
            .collect::<BTreeSet<_>>()
    };
    let seen: BTreeSet<_> = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads)
            .map(|it| scope.spawn(move || run(it)))
            .collect();
        let join = |it: ScopedJoinHandle<'_, _>| it.join().expect("a promise was broken");
        threads.into_iter().flat_map(join).collect()
    });

    // A simulation that never gets anywhere keeps every promise.
    if seeds.end - seeds.start >= SEEDS {
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

#[test]
fn links_take_turns_for_ten_hours_and_nobody_notices() {
    let mut session = SessionConfig::new("sess".into(), Playback::Relay(PlayoutConfig::default()));
    let upstream = Upstream::calm(&mut session);
    let mut random = Random(7);
    let origin = Instant::now();
    let presence = Presence::steady(&session, origin);
    let mut world = World::new(7, &mut random, origin, session, presence, Some(upstream));
    world.deliver_all();

    while world.now < origin + Duration::from_secs(HOURS * 3600) {
        world.turn();
    }

    let upstream = world.upstream.as_ref().unwrap();
    println!(
        "{} answers, {} links",
        upstream.names.responses,
        upstream.switches + 1
    );
    assert!(upstream.switches >= HOURS, "links are replaced");
    assert_eq!(upstream.lost, 0, "no link is lost");
    assert!(
        upstream.names.responses >= HOURS * 3600 / 30,
        "there is an answer to each turn"
    );
    for heard in world.items.values() {
        assert_eq!(
            heard.played(),
            heard.received,
            "each answer is heard to its end"
        );
        let gaps = heard
            .played
            .windows(2)
            .filter(|pair| pair[0] + FRAME != pair[1]);
        assert_eq!(gaps.count(), 0, "no answer has a gap");
    }
}

const KINDS: [&str; 85] = [
    "turn",
    "turn estimated",
    "turn known whole",
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
    // Of links that are replaced.
    "lost",
    "expired",
    "refused",
    "garbled",
    "silent",
    "overrun",
    "hang up",
    "degraded",
    "dial",
    "resting",
    "busy",
    "refused by the provider",
    "unreachable",
    "gone before it was there",
    "gone before it was used",
    "restored",
    "given up",
    "rolled over",
    "next told",
    "switch at the last moment",
    "failed",
    "truncated",
    "rewritten",
    "restore",
    "told anew",
    "a turn is told again as it was spoken",
    "sound told again",
    "event told again",
    "respond",
    "asked again in the client's words",
    "cut off",
    "adopt",
    "summary",
    "lost while nobody is there",
    "lost while ending",
];

struct World {
    seed: u64,
    random: Random,
    keeps: bool,
    origin: Instant,
    now: Instant,
    session: Session,
    transcript: Vec<Effect>,
    seen: BTreeSet<&'static str>,

    presence: Presence,
    tools: Tools,
    /// Turns that were told.
    turns: u64,
    /// The person speaks, as the provider says.
    hearing: bool,
    /// The provider, if it is more than one link that says anything.
    upstream: Option<Upstream>,
    config: PlayoutConfig,
    reports: bool,
    /// The answer that sounds is paused.
    paused_since: Option<Instant>,
    longest_pause: Duration,
    link_up: bool,
    ever_up: bool,
    /// The session comes to its end, ...
    closing: bool,
    /// ... or has.
    closed: bool,
    responses: u64,
    answer: Option<Answer>,
    items: BTreeMap<ItemId, Heard>,
    /// What the items' sounds are labelled with.
    labels: Vec<ItemId>,
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
    received: Duration,
    /// Where each frame of it lies on the timeline.
    played: Vec<Duration>,
    /// When the last of them was.
    last_played: Duration,
    /// By the relay's reckoning it had been heard to its end: it does not come again.
    over: bool,
    settled: bool,
}

impl Heard {
    fn played(&self) -> Duration {
        FRAME * self.played.len() as u32
    }
}

impl World {
    fn run(seed: u64, origin: Instant) -> BTreeSet<&'static str> {
        Self::play(seed, origin, false).seen
    }

    fn conversation(seed: u64, origin: Instant) -> Vec<Effect> {
        Self::play(seed, origin, true).transcript
    }

    fn play(seed: u64, origin: Instant, keeps: bool) -> Self {
        let mut random = Random(seed + 1);
        let config = PlayoutConfig {
            capacity: Duration::from_secs(30 + random.below(600)),
            flushes: random.below(2) == 0,
            ..PlayoutConfig::default()
        };
        let mut session = SessionConfig::new("sess".into(), Playback::Relay(config));
        session.tools = [OWN.to_owned()].into();
        let presence = Presence::new(&mut session, &mut random, origin);
        let upstream = (!seed.is_multiple_of(5)).then(|| Upstream::new(&mut session, &mut random));
        let mut world = Self::new(seed, &mut random, origin, session, presence, upstream);
        world.keeps = keeps;
        for _ in 0..STEPS {
            world.step();
        }
        world.wait_until(world.now + Duration::from_secs(7200));
        world.promise(world.closed, "nothing waits for ever");
        world.check_counts();

        world
    }

    fn new(
        seed: u64,
        random: &mut Random,
        origin: Instant,
        session: SessionConfig,
        presence: Presence,
        upstream: Option<Upstream>,
    ) -> Self {
        let Playback::Relay(config) = session.playback else {
            unreachable!("the relay plays");
        };

        Self {
            seed,
            reports: random.below(2) == 0,
            random: Random(random.0),
            keeps: false,
            origin,
            now: origin,
            longest_pause: session.barge_in_wait,
            session: Session::new(session, origin),
            transcript: vec![],
            seen: BTreeSet::new(),
            presence,
            tools: Tools::default(),
            hearing: false,
            upstream,
            paused_since: None,
            config,
            link_up: false,
            ever_up: false,
            closing: false,
            closed: false,
            turns: 0,
            responses: 0,
            answer: None,
            items: BTreeMap::new(),
            labels: vec![],
            open: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            silenced: BTreeSet::new(),
            flushed: BTreeSet::new(),
            sounding: BTreeSet::new(),
            played_to: Duration::ZERO,
            state: State::Idle,
        }
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
        self.provide();
        self.check_sound();
    }

    fn put(&mut self, input: Input) {
        if !self.allows(&input) {
            return;
        }
        let interrupts = match &input {
            Input::Voice(FromVoice::SpeechStarted { .. }) => {
                self.upstream.as_ref().is_none_or(Upstream::interrupts)
            }
            other => matches!(other, Input::Client(FromClient::ClearOutput)),
        };
        self.foresee(&input);
        self.foresee_upstream(&input);
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
        let mut still = 0;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= then) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            self.check_effects();
            self.check_presence();

            let next = self.session.poll_timeout();
            still = match next {
                Some(at) if at <= self.now => still + 1,
                _ => 0,
            };
            self.promise(still < 3, "time moves on");
        }
        self.now = then;
    }

    /// So much sound of an answer arrives. Tells whether it counts.
    fn receive(
        &mut self,
        response: &ResponseId,
        item: &ItemId,
        label: u16,
        length: Duration,
    ) -> bool {
        let label = usize::from(label);
        if self.labels.len() <= label {
            self.labels.resize(label + 1, item.clone());
        }
        self.labels[label] = item.clone();
        let heard = self.items.entry(item.clone()).or_insert_with(|| Heard {
            response: response.clone(),
            received: Duration::ZERO,
            played: vec![],
            last_played: Duration::ZERO,
            over: false,
            settled: false,
        });
        let counts = !self.silenced.contains(response);
        if counts {
            heard.received += length;
        }

        counts
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
