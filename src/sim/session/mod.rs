//! A conversation with one client: events and ticks go in, events come out.
//!
//! **Invariants:** `session.created` is the first event; every event has an id of its own; at most
//! one response writes to the conversation at a time, and each that was created is done exactly
//! once (unless a fault says otherwise); nothing follows a close; no input panics.

pub(crate) mod conversation;
pub(crate) mod input;
pub(crate) mod items;
pub(crate) mod respond;
pub(crate) mod response;
pub(crate) mod turns;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sim::agent::{Agent, Cast, Occasion};
use crate::sim::protocol::client::{self, ClientEvent, Received};
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::ids::Ids;
use crate::sim::protocol::reader::Read;
use crate::sim::protocol::server::{Envelope, ErrorBody, ServerEvent, SessionObject};
use crate::sim::protocol::session::{Rules, SessionConfig};
use crate::sim::protocol::turn_detection::TurnDetection;
use crate::sim::session::conversation::Conversation;
use crate::sim::session::input::Input;
use crate::sim::session::response::Response;
use crate::sim::session::turns::{IdleWatch, PendingTranscript};
use crate::sim::settings::{Fault, Settings};

/// One session of the protocol.
pub(crate) struct Session {
    settings: Arc<Settings>,
    id: String,
    conversation_id: String,
    model: String,
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
    /// When the person's last sound came, until it is answered.
    speech_ended: Option<Instant>,
    answered_in: Option<Duration>,
    /// Tokens of text and audio that the last response read, which are cached by now.
    cached: (u64, u64),
    transcripts: VecDeque<PendingTranscript>,
    idle: Option<IdleWatch>,
    outbox: VecDeque<Output>,
    closed: bool,
}

/// What makes a session one of its own.
pub(crate) struct Setup {
    pub(crate) settings: Arc<Settings>,
    pub(crate) cast: Cast,
    pub(crate) model: String,
    /// Ids follow from it.
    pub(crate) seed: u64,
    /// The time of day at the start.
    pub(crate) wall: SystemTime,
}

/// What a session wants done.
#[derive(Debug)]
pub(crate) enum Output {
    Event(Envelope),
    /// Close the connection, telling why.
    Close {
        code: u16,
        reason: String,
    },
    /// Break the connection.
    HangUp,
}

impl Session {
    pub(crate) fn new(setup: Setup, now: Instant) -> Self {
        let mut ids = Ids::new(setup.seed);
        let mut session = Self {
            id: ids.next("sess"),
            conversation_id: ids.next("conv"),
            agent: setup.cast.agent(),
            settings: setup.settings,
            model: setup.model,
            config: SessionConfig::default(),
            voice_locked: false,
            ids,
            started: now,
            started_wall: setup.wall,
            input: Input::new(),
            conversation: Conversation::default(),
            responses: Vec::new(),
            occasion: None,
            speech_ended: None,
            answered_in: None,
            cached: (0, 0),
            transcripts: VecDeque::new(),
            idle: None,
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
        if self.settings.fault == Some(Fault::Mute) {
            self.outbox
                .retain(|output| !matches!(output, Output::Event(_)));
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
            ClientEvent::CreateResponse { response } => self.create_response(response, now),
            ClientEvent::CancelResponse { id } => self.cancel_response(id.as_deref(), now),
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
            model: &self.model,
            voice_locked: self.voice_locked,
        }
    }

    fn object(&self) -> Box<SessionObject> {
        let expires = self.started_wall + self.settings.max_session;
        let expires_at = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        Box::new(SessionObject {
            kind: "realtime",
            object: "realtime.session",
            id: self.id.clone(),
            model: self.model.clone(),
            expires_at: expires_at.as_secs(),
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
        self.outbox.push_back(Output::Close { code, reason });
    }

    fn wall(&self, now: Instant) -> SystemTime {
        self.started_wall + now.saturating_duration_since(self.started)
    }

    fn emit_error(&mut self, error: ApiError, event_id: Option<String>) {
        self.emit(ServerEvent::Error {
            error: ErrorBody { error, event_id },
        });
    }

    fn emit(&mut self, event: ServerEvent) {
        let event_id = self.ids.next("event");
        self.outbox
            .push_back(Output::Event(Envelope { event_id, event }));
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
