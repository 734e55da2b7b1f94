//! What the person says: from the input buffer to an item, and on to an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sim::agent::{Heard, Occasion};
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::item::{Body, Content, Item, Role, Status};
use crate::sim::protocol::reader::Read;
use crate::sim::protocol::response::ResponseParams;
use crate::sim::protocol::server::{ServerEvent, TranscriptionUsage};
use crate::sim::protocol::turn_detection::TurnDetection;
use crate::sim::session::Session;
use crate::sim::session::conversation::Position;
use crate::sim::session::input::{Found, Turn};
use crate::sim::session::response::Outcome;
use crate::sim::speech::{Clip, duration};

/// The least audio that can be committed.
const LEAST_COMMIT: Duration = Duration::from_millis(100);
/// From the commit of a turn to its transcript.
const TRANSCRIPTION: Duration = Duration::from_millis(150);

/// A transcript that is being made.
pub(crate) struct PendingTranscript {
    due: Instant,
    item_id: String,
    spoken: Duration,
}

impl PendingTranscript {
    pub(crate) fn due(&self) -> Instant {
        self.due
    }
}

/// What becomes an item.
struct Said {
    pcm: Vec<i16>,
    /// How much of it was speech.
    lasted: Duration,
    /// When the last sound came.
    ended: Instant,
}

/// Waits for a person who says nothing.
pub(crate) struct IdleWatch {
    due: Instant,
    /// The input's position when it began.
    since: usize,
}

impl IdleWatch {
    pub(crate) fn due(&self) -> Instant {
        self.due
    }
}

impl Session {
    pub(crate) fn append_audio(&mut self, bytes: &[u8], now: Instant) {
        for found in self.input.append(bytes) {
            match found {
                Found::Started(start) => self.on_speech_started(start, now),
                Found::Stopped(end) => self.on_speech_stopped(end, now),
            }
        }
        self.input.trim();
    }

    pub(crate) fn commit_audio(&mut self, now: Instant) -> Read<()> {
        let buffered = self.input.buffered();
        if buffered < LEAST_COMMIT {
            let message = format!(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of \
                 audio, but buffer only has {:.2}ms of audio.",
                buffered.as_secs_f64() * 1e3
            );
            return Err(ApiError::new("input_audio_buffer_commit_empty", message));
        }
        let announced = self.input.turn().map(|turn| turn.item_id.clone());
        let item_id = match announced {
            Some(id) => id,
            None => self.ids.next("item"),
        };
        let pcm = self.input.take_all();
        let said = Said {
            pcm,
            lasted: buffered,
            ended: now,
        };
        self.commit(item_id, said, now);
        Ok(())
    }

    pub(crate) fn send_due_transcripts(&mut self, now: Instant) {
        let due = |pending: &PendingTranscript| pending.due <= now;
        while self.transcripts.front().is_some_and(due)
            && let Some(pending) = self.transcripts.pop_front()
        {
            self.send_transcript(pending);
        }
    }

    /// Starts to wait for the person once an answer has been heard.
    pub(crate) fn watch_idle(&mut self, unheard: Duration, now: Instant) {
        let detection = self.config.audio.input.turn_detection.as_ref();
        let timeout = detection.and_then(TurnDetection::idle_timeout);
        self.idle = timeout.map(|timeout| IdleWatch {
            due: now + unheard + timeout,
            since: self.input.position(),
        });
    }

    pub(crate) fn check_idle(&mut self, now: Instant) {
        let Some(watch) = self.idle.take_if(|watch| watch.due <= now) else {
            return;
        };
        if self.input.turn().is_some() || self.is_answering() {
            return;
        }
        let item_id = self.ids.next("item");
        let end = self.input.position();
        self.emit(ServerEvent::TimeoutTriggered {
            audio_start_ms: millis(watch.since),
            audio_end_ms: millis(end),
            item_id: item_id.clone(),
        });
        let said = Said {
            pcm: self.input.take(watch.since..end),
            lasted: Duration::ZERO,
            ended: now,
        };
        self.commit(item_id, said, now);
        self.occasion = Some(Occasion::Silence);
        self.answer(ResponseParams::of(&self.config), now);
    }

    fn on_speech_started(&mut self, start: usize, now: Instant) {
        let item_id = self.ids.next("item");
        self.idle = None;
        self.input.begin_turn(Turn {
            item_id: item_id.clone(),
            start,
        });
        self.emit(ServerEvent::SpeechStarted {
            audio_start_ms: millis(start),
            item_id,
        });
        let detection = self.config.audio.input.turn_detection.as_ref();
        if detection.is_some_and(TurnDetection::interrupts_response) {
            self.cancel_answer(Outcome::Cancelled("turn_detected"), now);
        }
    }

    fn on_speech_stopped(&mut self, end: usize, now: Instant) {
        let Some(turn) = self.input.end_turn() else {
            return;
        };
        let Some(detection) = self.config.audio.input.turn_detection.clone() else {
            return;
        };
        self.emit(ServerEvent::SpeechStopped {
            audio_end_ms: millis(end),
            item_id: turn.item_id.clone(),
        });
        let around = detection.sensitivity();
        let spoken = duration(end.saturating_sub(turn.start))
            .saturating_sub(around.prefix_padding + around.silence);
        let pcm = self.input.take(turn.start..end);
        let said = Said {
            pcm,
            lasted: spoken,
            ended: now.checked_sub(around.silence).unwrap_or(now),
        };
        self.commit(turn.item_id, said, now);
        if detection.creates_response() && self.answers() {
            self.answer(ResponseParams::of(&self.config), now);
        }
    }

    /// Makes an item of what was said.
    fn commit(&mut self, mut item_id: String, said: Said, now: Instant) {
        let Said { pcm, lasted, ended } = said;
        if self.conversation.item(&item_id).is_some() {
            // The id was announced, and the client has created an item with it.
            item_id = self.ids.next("item");
        }
        let previous_item_id = self.conversation.last_id();
        self.emit(ServerEvent::AudioCommitted {
            item_id: item_id.clone(),
            previous_item_id,
        });
        let sound = Arc::new(Clip::sound(pcm));
        let content = Content::InputAudio {
            sound: Arc::clone(&sound),
            transcript: None,
        };
        let item = Item {
            id: item_id.clone(),
            status: Status::Completed,
            body: Body::Message {
                role: Role::User,
                content: vec![content],
            },
        };
        self.add_item(item, Position::End)
            .expect("the id is not taken, as was just seen");
        if self.config.audio.input.transcription.is_some() {
            self.transcripts.push_back(PendingTranscript {
                due: now + TRANSCRIPTION,
                item_id,
                spoken: lasted,
            });
        }
        self.occasion = Some(Occasion::Spoken(Heard {
            sound,
            lasted,
            ended,
        }));
    }

    fn send_transcript(&mut self, pending: PendingTranscript) {
        // Nothing here understands speech, and says so.
        let text = format!("[speech, {:.1} s]", pending.spoken.as_secs_f64());
        let item_id = &pending.item_id;
        if self
            .conversation
            .edit(item_id, |item| item.set_transcript(&text))
            .is_none()
        {
            return;
        }
        let obfuscation = self.ids.obfuscation();
        self.emit(ServerEvent::TranscriptionDelta {
            item_id: pending.item_id.clone(),
            content_index: 0,
            delta: text.clone(),
            obfuscation,
        });
        self.emit(ServerEvent::TranscriptionCompleted {
            item_id: pending.item_id,
            content_index: 0,
            transcript: text,
            usage: TranscriptionUsage {
                kind: "duration",
                seconds: pending.spoken.as_millis() as f64 / 1e3,
            },
        });
    }
}

fn millis(position: usize) -> u64 {
    duration(position).as_millis() as u64
}
