//! A conversation with one client: events and ticks go in, events come out.
//!
//! **Invariants:** `session.created` is the first event; every event has an id of its own; at most
//! one response writes to the conversation at a time, and each that was created is done exactly
//! once (unless a fault says otherwise); nothing follows a close; no input panics.

pub(crate) mod calling;
pub(crate) mod command;
pub(crate) mod conversation;
pub(crate) mod input;
pub(crate) mod items;
pub(crate) mod respond;
pub(crate) mod response;
pub(crate) mod turns;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::clock;
use crate::sim::agent::{Agent, Cast, Occasion};
use crate::sim::faults::Faults;
use crate::sim::protocol::client::{self, ClientEvent, Received};
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::ids::Ids;
use crate::sim::protocol::reader::Read;
use crate::sim::protocol::server::{Envelope, ErrorBody, ServerEvent, SessionObject};
use crate::sim::protocol::session::{Purpose, Rules, SessionConfig};
use crate::sim::protocol::turn_detection::TurnDetection;
use crate::sim::session::conversation::Conversation;
use crate::sim::session::input::Input;
use crate::sim::session::response::Response;
use crate::sim::session::turns::{IdleWatch, PendingTranscript};
use crate::sim::settings::Settings;

/// One session of the protocol.
pub(crate) struct Session {
    settings: Arc<Settings>,
    id: String,
    conversation_id: String,
    purpose: Purpose,
    config: SessionConfig,
    voice_locked: bool,
    ids: Ids,
    started: Instant,
    started_wall: SystemTime,
    input: Input,
    conversation: Conversation,
    responses: Vec<Response>,
    agent: Agent,
    /// What there is to answer, since the last answer.
    occasion: Option<Occasion>,
    /// From the person's last sound to the first sound of the last answer.
    answered_in: Option<Duration>,
    /// Tokens of text and audio that the last response read, which are cached by now.
    cached: (u64, u64),
    transcripts: VecDeque<PendingTranscript>,
    idle: Option<IdleWatch>,
    /// Spoken turns that were answered.
    spoken_turns: u32,
    tally: Tally,
    faults: Faults,
    /// A fault has silenced it for good.
    muted: bool,
    outbox: VecDeque<Output>,
    closed: bool,
}

/// What makes a session one of its own.
pub(crate) struct Setup {
    pub(crate) settings: Arc<Settings>,
    pub(crate) faults: Faults,
    pub(crate) cast: Cast,
    pub(crate) purpose: Purpose,
    /// What it begins with.
    pub(crate) config: SessionConfig,
    /// Ids follow from it.
    pub(crate) seed: u64,
    /// The time of day at the start.
    pub(crate) wall: SystemTime,
}

/// What a session wants done.
#[derive(Debug)]
pub(crate) enum Output {
    Event(Envelope),
    /// A frame that is no event.
    Garbage(&'static str),
    /// The same, in binary.
    BinaryGarbage,
    /// Close the connection, telling why.
    Close {
        code: u16,
        reason: String,
    },
    /// End the connection without a close.
    HangUp,
    /// Reset the connection.
    Reset,
}

impl Session {
    pub(crate) fn new(setup: Setup, now: Instant) -> Self {
        let mut ids = Ids::new(setup.seed);
        let mut session = Self {
            id: ids.next("sess"),
            conversation_id: ids.next("conv"),
            agent: setup.cast.agent(),
            settings: setup.settings,
            purpose: setup.purpose,
            config: setup.config,
            voice_locked: false,
            ids,
            started: now,
            started_wall: setup.wall,
            input: Input::new(),
            conversation: Conversation::default(),
            responses: Vec::new(),
            occasion: None,
            answered_in: None,
            cached: (0, 0),
            transcripts: VecDeque::new(),
            idle: None,
            spoken_turns: 0,
            tally: Tally::default(),
            muted: setup.faults.never_created,
            faults: setup.faults,
            outbox: VecDeque::new(),
            closed: false,
        };
        session.listen();
        let object = session.object();
        session.emit(ServerEvent::SessionCreated { session: object });
        session
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Takes the text of a frame.
    pub(crate) fn handle_text(&mut self, text: &str, now: Instant) {
        self.handle(client::parse(text), now);
    }

    /// Takes a binary frame, of which the protocol has none.
    pub(crate) fn handle_binary(&mut self, now: Instant) {
        self.handle(client::binary(), now);
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if now >= self.expires_at() {
            return self.expire();
        }
        self.send_due_transcripts(now);
        self.speak(now);
        self.check_idle(now);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let responses = self.responses.iter().filter_map(Response::poll_timeout);
        let transcript = self.transcripts.front().map(PendingTranscript::due);
        let idle = self.idle.as_ref().map(IdleWatch::due);
        responses
            .chain(transcript)
            .chain(idle)
            .chain([self.expires_at()])
            .min()
    }

    /// Returns what is to be done next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        if self.muted || self.faults.mute {
            self.outbox.retain(Output::is_end);
        }
        self.outbox.pop_front()
    }

    fn handle(&mut self, received: Received, now: Instant) {
        if self.closed {
            return;
        }
        let Received { event_id, event } = received;
        if let Err(error) = event.and_then(|event| self.carry_out(event, now)) {
            self.emit_error(error, event_id);
        }
    }

    fn carry_out(&mut self, event: ClientEvent, now: Instant) -> Read<()> {
        match event {
            ClientEvent::UpdateSession { session } => self.update(session),
            ClientEvent::AppendAudio { bytes } => {
                self.append_audio(&bytes, now);
                Ok(())
            }
            ClientEvent::CommitAudio => self.commit_audio(now),
            ClientEvent::ClearAudio => {
                self.input.clear();
                self.emit(ServerEvent::AudioCleared);
                Ok(())
            }
            ClientEvent::CreateItem { item, previous } => {
                self.create_item(item, previous.as_deref())
            }
            ClientEvent::RetrieveItem { id } => self.retrieve_item(&id),
            ClientEvent::DeleteItem { id } => self.delete_item(id),
            ClientEvent::TruncateItem {
                id,
                content_index,
                audio_end_ms,
            } => self.truncate_item(id, content_index, audio_end_ms),
            ClientEvent::CreateResponse { .. } if !self.answers() => {
                let message = "Invalid value: 'response.create'. A transcription session has no \
                    responses.";
                Err(ApiError::invalid_value("type", message))
            }
            ClientEvent::CreateResponse { response } => self.create_response(response, now),
            ClientEvent::CancelResponse { id } => self.cancel_response(id.as_deref(), now),
        }
    }

    /// Tells whether there is anybody to answer.
    pub(crate) fn answers(&self) -> bool {
        match self.purpose {
            Purpose::Conversation { .. } => true,
            Purpose::Transcription => false,
        }
    }

    fn update(&mut self, update: serde_json::Value) -> Read<()> {
        self.config = self.config.updated(update, &self.rules())?;
        self.listen();
        let session = self.object();
        self.emit(ServerEvent::SessionUpdated { session });
        Ok(())
    }

    fn listen(&mut self) {
        let input = &self.config.audio.input;
        let detection = input.turn_detection.as_ref();
        self.input.set_format(input.format.0);
        self.input.listen(detection.map(TurnDetection::sensitivity));
        if detection.and_then(TurnDetection::idle_timeout).is_none() {
            self.idle = None;
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            purpose: &self.purpose,
            voice_locked: self.voice_locked,
        }
    }

    fn object(&self) -> Box<SessionObject> {
        Box::new(SessionObject {
            id: self.id.clone(),
            expires_at: clock::unix(self.started_wall + self.settings.max_session),
            purpose: self.purpose.clone(),
            config: self.config.clone(),
        })
    }

    fn expires_at(&self) -> Instant {
        self.started + self.settings.max_session
    }

    fn expire(&mut self) {
        let reason = format!(
            "Your session hit the maximum duration of {}.",
            spelled(self.settings.max_session)
        );
        self.emit_error(ApiError::new("session_expired", reason.clone()), None);
        self.close(1001, reason);
    }

    fn close(&mut self, code: u16, reason: String) {
        self.closed = true;
        self.tally.closed_with = Some((code, reason.clone()));
        self.outbox.push_back(Output::Close { code, reason });
    }

    fn wall(&self, now: Instant) -> SystemTime {
        self.started_wall + now.saturating_duration_since(self.started)
    }

    fn emit_error(&mut self, error: ApiError, event_id: Option<String>) {
        let error = ErrorBody::new(error, event_id);
        self.emit(ServerEvent::Error { error });
    }

    fn emit(&mut self, event: ServerEvent) {
        let event_id = self.ids.next("event");
        self.tally.events += 1;
        if self.faults.spoils(self.tally.events) {
            self.spoil(self.tally.events);
        }
        let event = Output::Event(Envelope { event_id, event });
        let last = self.outbox.len().checked_sub(1);
        match last.filter(|_| self.faults.disorders(self.tally.events)) {
            Some(last) => self.outbox.insert(last, event),
            None => self.outbox.push_back(event),
        }
    }
}

/// What is counted for the report.
#[derive(Default)]
struct Tally {
    events: u64,
    responses_created: u64,
    responses_cancelled: u64,
    truncates: u64,
    closed_with: Option<(u16, String)>,
}

impl Output {
    fn is_end(&self) -> bool {
        match self {
            Self::Event(_) | Self::Garbage(_) | Self::BinaryGarbage => false,
            Self::Close { .. } | Self::HangUp | Self::Reset => true,
        }
    }
}

/// `60 minutes`, or seconds or milliseconds where minutes would not be exact.
fn spelled(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms.is_multiple_of(60_000) => format!("{} minutes", ms / 60_000),
        ms if ms.is_multiple_of(1_000) => format!("{} seconds", ms / 1_000),
        ms => format!("{ms} milliseconds"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::LazyLock;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::core::audio::Format;
    use crate::sim::codec::Encoder;
    use crate::sim::faults::Fault;
    use crate::sim::settings::{AgentKind, Script};
    use crate::sim::voice::Voice;

    #[test]
    fn audio_comes_exactly_when_the_settings_say() {
        let mut driven = Driven::new(scripted(1_000));
        driven.take();
        driven.say(json!({"type": "response.create"}));
        let created = driven.now;
        driven.run_for(Duration::from_secs(5));
        let deltas: Vec<Duration> = driven
            .log
            .iter()
            .filter(|(_, event)| event["type"] == "response.output_audio.delta")
            .map(|(at, _)| *at - created)
            .collect();
        let expected: Vec<Duration> = (0..10)
            .map(|index| Duration::from_millis(250 + 25 * index))
            .collect();
        assert_eq!(deltas, expected);
    }

    #[test]
    fn a_person_who_says_nothing_is_asked_once_the_answer_has_been_heard() {
        let mut driven = Driven::new(scripted(10_000));
        driven.update(json!({"audio": {"input": {"turn_detection":
            {"type": "server_vad", "idle_timeout_ms": 5_000}}}}));
        driven.say(json!({"type": "response.create"}));
        let created = driven.now;
        driven.run_for(Duration::from_secs(20));
        let triggered = driven.first("input_audio_buffer.timeout_triggered");
        let heard = Duration::from_millis(250 + 10_000);
        assert_eq!(triggered.0 - created, heard + Duration::from_secs(5));
        let kinds = driven.kinds_after("input_audio_buffer.timeout_triggered");
        let expected = [
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
        ];
        assert_eq!(kinds[..4], expected);
    }

    #[test]
    fn what_was_said_is_transcribed_by_an_honest_placeholder() {
        let mut driven = Driven::new(scripted(1_000));
        driven.update(json!({"audio": {"input": {"turn_detection": null,
            "transcription": {"model": "gpt-transcribe"}}}}));
        driven.append(2_300);
        driven.say(json!({"type": "input_audio_buffer.commit"}));
        driven.run_for(Duration::from_secs(1));
        let kind = "conversation.item.input_audio_transcription.completed";
        let (_, completed) = driven.first(kind);
        assert_eq!(completed["transcript"], "[speech, 2.3 s]");
        let usage = json!({"type": "duration", "seconds": 2.3});
        assert_eq!(completed["usage"], usage);
        let item_id = completed["item_id"].clone();
        driven.say(json!({"type": "conversation.item.retrieve", "item_id": item_id}));
        let (_, retrieved) = driven.first("conversation.item.retrieved");
        let transcript = &retrieved["item"]["content"][0]["transcript"];
        assert_eq!(transcript, "[speech, 2.3 s]");
    }

    #[test]
    fn it_says_nothing_ever_on_command() {
        let mut driven = Driven::new(Settings {
            fault: Some(Fault::Mute),
            ..scripted(1_000)
        });
        driven.say(json!({"type": "response.create"}));
        driven.run_for(Duration::from_secs(60));
        assert!(driven.log.is_empty());
    }

    #[test]
    fn nothing_follows_the_end_of_a_session() {
        let mut driven = Driven::new(Settings {
            max_session: Duration::from_secs(10),
            ..scripted(60_000)
        });
        driven.say(json!({"type": "response.create"}));
        driven.run_for(Duration::from_secs(20));
        let (at, error) = driven.first("error");
        assert_eq!(at - driven.start, Duration::from_secs(10));
        assert_eq!(error["error"]["code"], "session_expired");
        assert_eq!(driven.log.last().unwrap().1, error);
        assert_eq!(driven.closed, Some(1001));
        driven.say(json!({"type": "response.cancel"}));
        assert_eq!(driven.log.last().unwrap().1, error);
    }

    #[test]
    fn the_line_test_learns_from_a_truncation_where_it_was_cut() {
        let mut driven = Driven::new(Settings {
            delta_interval: Duration::ZERO,
            ..Settings::default()
        });
        driven.update(json!({"audio": {"input": {"turn_detection": null}}}));
        let mut last = Value::Null;
        for _ in 0..3 {
            last = driven.turn();
        }
        assert!(transcript(&last).starts_with("Let me tell you a story."));
        let item_id = &last["output"][0]["id"];
        driven.say(
            json!({"type": "conversation.item.truncate", "item_id": item_id,
            "content_index": 0, "audio_end_ms": 3_500}),
        );
        let review = transcript(&driven.turn()).to_owned();
        assert!(review.starts_with("You interrupted me after "), "{review}");
        let words: Vec<&str> = review.split(' ').collect();
        assert_eq!(words[5], "words.", "{review}");
    }

    #[test]
    fn the_conversation_is_bounded_and_forgets_the_oldest() {
        let mut driven = Driven::new(scripted(1_000));
        let text = "x".repeat(1 << 20);
        for index in 0..100 {
            driven.say(json!({"type": "conversation.item.create", "item":
                {"type": "message", "role": "user", "id": format!("item_{index}"),
                 "content": [{"type": "input_text", "text": text}]}}));
            driven.log.clear();
        }
        for (id, kept) in [("item_0", false), ("item_99", true)] {
            driven.say(json!({"type": "conversation.item.retrieve", "item_id": id}));
            let retrieved = driven.log.last().unwrap().1["type"] == "conversation.item.retrieved";
            assert_eq!(retrieved, kept, "{id}");
        }
    }

    #[test]
    fn the_input_buffer_is_bounded_and_drops_the_oldest() {
        let mut driven = Driven::new(scripted(1_000));
        driven.update(json!({"audio": {"input": {"turn_detection": null}}}));
        for _ in 0..40 {
            driven.append(10_000);
        }
        assert_eq!(driven.session.input.buffered(), Duration::from_secs(300));
        assert_eq!(driven.session.input.position(), 400 * 24_000);
    }

    proptest! {
        #[test]
        fn no_frames_break_the_invariants(steps in prop::collection::vec(step(), 1..60)) {
            let mut driven = Driven::new(scripted(700));
            for step in steps {
                driven.take_step(step);
            }
            // Nobody is asked whether they are still there any more.
            driven.update(json!({"audio": {"input": {"turn_detection": null}}}));
            driven.run_for(Duration::from_secs(30));
            check(&driven);
        }

        #[test]
        fn no_frames_make_a_transcription_answer(steps in prop::collection::vec(step(), 1..60)) {
            let mut driven = Driven::with(scripted(700), Purpose::Transcription);
            for step in steps {
                driven.take_step(step);
            }
            driven.run_for(Duration::from_secs(30));
            check(&driven);
            let kinds = driven.log.iter().filter_map(|(_, event)| event["type"].as_str());
            let answers: Vec<&str> = kinds.filter(|kind| kind.starts_with("response.")).collect();
            assert!(answers.is_empty(), "{answers:?}");
        }
    }

    /// What may happen to a session.
    #[derive(Clone, Debug)]
    enum Step {
        Text(String),
        Binary,
        /// An event, about the item or response that was seen as the n-th.
        Event(Value, usize),
        Sound(usize),
        Speech,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => any::<String>().prop_map(Step::Text),
            1 => Just(Step::Binary),
            2 => (mutated(), any::<usize>()).prop_map(|(event, nth)| Step::Event(event, nth)),
            6 => (prop::sample::select(events()), any::<usize>())
                .prop_map(|(event, nth)| Step::Event(event, nth)),
            2 => (0..1_500usize).prop_map(Step::Sound),
            2 => Just(Step::Speech),
            3 => (0..400u64).prop_map(Step::Wait),
        ]
    }

    fn events() -> Vec<Value> {
        let message = json!({"type": "message", "role": "user", "content":
            [{"type": "input_text", "text": "hi"}, {"type": "input_audio", "audio": "AAAAAAAA"}]});
        let detection = json!({"type": "server_vad", "idle_timeout_ms": 5_000, "threshold": 0.1});
        vec![
            json!({"type": "response.create"}),
            json!({"type": "response.create", "response": {"conversation": "none", "input":
                [message, {"type": "item_reference", "id": "ID"}], "metadata": {"a": "b"}}}),
            json!({"type": "response.create", "response": {"output_modalities": ["text"],
                "max_output_tokens": 3}}),
            json!({"type": "response.cancel"}),
            json!({"type": "response.cancel", "response_id": "ID"}),
            json!({"type": "input_audio_buffer.commit", "event_id": "mine"}),
            json!({"type": "input_audio_buffer.clear"}),
            json!({"type": "input_audio_buffer.append", "audio": "AAA="}),
            json!({"type": "conversation.item.create", "item": message}),
            json!({"type": "conversation.item.create", "previous_item_id": "ID", "item":
                {"id": "ID", "type": "function_call", "call_id": "c", "name": "f",
                 "arguments": ""}}),
            json!({"type": "conversation.item.retrieve", "item_id": "ID"}),
            json!({"type": "conversation.item.delete", "item_id": "ID"}),
            json!({"type": "conversation.item.truncate", "item_id": "ID", "content_index": 0,
                "audio_end_ms": 150}),
            json!({"type": "session.update", "session": {"type": "realtime", "audio": {"input":
                {"turn_detection": detection, "transcription": {},
                 "format": {"type": "audio/pcma"}}}}}),
            json!({"type": "session.update", "session": {"type": "realtime", "tools": [],
                "audio": {"input": {"turn_detection": null, "format": {"type": "audio/pcm"}},
                "output": {"format": {"type": "audio/pcmu"}, "voice": "echo"}}}}),
        ]
    }

    /// An event in which any value is replaced by any other.
    fn mutated() -> impl Strategy<Value = Value> {
        let value = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(json!([])),
            Just(json!([[[{}]]])),
            Just(json!({"type": 1})),
        ];
        let event = prop::sample::select(events());
        (event, any::<prop::sample::Index>(), value).prop_map(|(mut event, index, value)| {
            let mut places = Vec::new();
            list_places(&event, String::new(), &mut places);
            let place = &places[index.index(places.len())];
            *event.pointer_mut(place).unwrap() = value;
            event
        })
    }

    fn list_places(value: &Value, path: String, places: &mut Vec<String>) {
        for (key, inner) in value.as_object().into_iter().flatten() {
            list_places(inner, format!("{path}/{key}"), places);
        }
        for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
            list_places(inner, format!("{path}/{index}"), places);
        }
        places.push(path);
    }

    fn check(driven: &Driven) {
        let events = || driven.log.iter().map(|(_, event)| event);
        let ids: BTreeSet<&str> = events()
            .filter_map(|event| event["event_id"].as_str())
            .collect();
        assert_eq!(ids.len(), driven.log.len());
        let mut running: BTreeMap<&str, bool> = BTreeMap::new();
        for event in events() {
            let response = &event["response"];
            let id = response["id"].as_str().unwrap_or_default();
            match event["type"].as_str().unwrap() {
                "response.created" => {
                    let in_conversation = response["conversation_id"].is_string();
                    let others = running.values().any(|other| *other);
                    assert!(
                        !(in_conversation && others),
                        "two write to the conversation"
                    );
                    running.insert(id, in_conversation);
                }
                "response.done" => assert!(running.remove(id).is_some(), "{id} is not running"),
                "response.output_audio.delta" => {
                    let id = event["response_id"].as_str().unwrap();
                    assert!(running.contains_key(id), "a delta of {id}, which is done");
                }
                _ => {}
            }
        }
        assert!(running.is_empty(), "never done: {running:?}");
    }

    /// A session in virtual time, and all it has said.
    struct Driven {
        session: Session,
        start: Instant,
        now: Instant,
        log: Vec<(Instant, Value)>,
        closed: Option<u16>,
    }

    impl Driven {
        fn new(settings: Settings) -> Self {
            let model = "gpt-realtime-2.1".to_owned();
            Self::with(settings, Purpose::Conversation { model })
        }

        fn with(settings: Settings, purpose: Purpose) -> Self {
            static START: LazyLock<Instant> = LazyLock::new(clock::now);
            let setup = Setup {
                cast: Cast::new(&settings.agent).unwrap(),
                faults: Faults::new(settings.fault),
                settings: Arc::new(settings),
                config: purpose.config(),
                purpose,
                seed: 7,
                wall: UNIX_EPOCH,
            };
            let mut driven = Self {
                session: Session::new(setup, *START),
                start: *START,
                now: *START,
                log: Vec::new(),
                closed: None,
            };
            driven.take();
            driven
        }

        fn say(&mut self, event: Value) {
            self.session.handle_text(&event.to_string(), self.now);
            self.take();
        }

        fn update(&mut self, mut session: Value) {
            session["type"] = "realtime".into();
            self.say(json!({"type": "session.update", "session": session}));
        }

        fn append(&mut self, ms: usize) {
            let audio = STANDARD.encode(vec![0x20; ms * 48]);
            self.say(json!({"type": "input_audio_buffer.append", "audio": audio}));
        }

        /// Appends a word with a pause after it.
        fn speak(&mut self) {
            let clip = Voice::shared().unwrap().clip("say-something");
            let pause = vec![0; 24 * 300];
            let bytes = Encoder::new(Format::Pcm).encode(&[&clip.pcm[..], &pause].concat());
            let audio = STANDARD.encode(bytes);
            self.say(json!({"type": "input_audio_buffer.append", "audio": audio}));
        }

        /// Speaks for a second, and returns the response.
        fn turn(&mut self) -> Value {
            self.append(1_000);
            self.say(json!({"type": "input_audio_buffer.commit"}));
            self.say(json!({"type": "response.create"}));
            self.run_for(Duration::from_secs(1));
            let done = |(_, event): &&(Instant, Value)| event["type"] == "response.done";
            self.log.iter().rfind(done).unwrap().1["response"].clone()
        }

        fn run_for(&mut self, duration: Duration) {
            let end = self.now + duration;
            while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
                self.now = due.max(self.now);
                self.session.handle_timeout(self.now);
                self.take();
            }
            self.now = end;
        }

        fn take(&mut self) {
            while let Some(output) = self.session.poll_output() {
                assert_eq!(self.closed, None, "nothing follows a close");
                match output {
                    Output::Event(envelope) => {
                        let event = serde_json::from_str(&envelope.to_json()).unwrap();
                        self.log.push((self.now, event));
                    }
                    Output::Close { code, .. } => self.closed = Some(code),
                    Output::Garbage(_) | Output::BinaryGarbage => {}
                    Output::HangUp | Output::Reset => self.closed = Some(1006),
                }
            }
        }

        fn take_step(&mut self, step: Step) {
            match step {
                Step::Text(text) => self.session.handle_text(&text, self.now),
                Step::Binary => self.session.handle_binary(self.now),
                Step::Event(event, nth) => {
                    let ids: Vec<&Value> = self
                        .log
                        .iter()
                        .flat_map(|(_, event)| [&event["item_id"], &event["response"]["id"]])
                        .filter(|id| id.is_string())
                        .collect();
                    let id = match ids.len() {
                        0 => "none".to_owned(),
                        count => ids[nth % count].to_string().replace('"', ""),
                    };
                    let text = event.to_string().replace("ID", &id);
                    self.session.handle_text(&text, self.now);
                }
                Step::Sound(ms) => self.append(ms),
                Step::Speech => self.speak(),
                Step::Wait(ms) => self.run_for(Duration::from_millis(ms)),
            }
            self.take();
        }

        fn first(&self, kind: &str) -> (Instant, Value) {
            let is_kind = |(_, event): &&(Instant, Value)| event["type"] == kind;
            self.log.iter().find(is_kind).unwrap().clone()
        }

        fn kinds_after(&self, kind: &str) -> Vec<&str> {
            let kinds = self
                .log
                .iter()
                .filter_map(|(_, event)| event["type"].as_str());
            kinds.skip_while(|other| *other != kind).skip(1).collect()
        }
    }

    fn scripted(ms: u64) -> Settings {
        Settings {
            agent: AgentKind::Scripted(Script {
                length: Duration::from_millis(ms),
                ..Script::default()
            }),
            ..Settings::default()
        }
    }

    fn transcript(response: &Value) -> &str {
        response["output"][0]["content"][0]["transcript"]
            .as_str()
            .unwrap()
    }
}
