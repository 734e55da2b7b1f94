//! Answers: created, spoken at their pace, ended.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::sim::agent::{Occasion, Prompt};
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::item::{Sound, Status, text_tokens};
use crate::sim::protocol::reader::Read;
use crate::sim::protocol::response::{Input, Place, ResponseParams};
use crate::sim::protocol::server::{CachedTokens, InputTokens, RateLimit, ServerEvent};
use crate::sim::protocol::tools::Modality;
use crate::sim::session::conversation::Position;
use crate::sim::session::response::{Outcome, Response, Speaking, Stage};
use crate::sim::session::{Output, Session};
use crate::sim::settings::Fault;
use crate::sim::speech::samples;

/// The most responses that may be in the making.
const MAX_RESPONSES: usize = 16;
/// The tokens a minute that `rate_limits.updated` tells of. Nothing is held to it.
const TOKEN_LIMIT: u64 = 1_000_000;

impl Session {
    pub(crate) fn create_response(&mut self, response: Option<Value>, now: Instant) -> Read<()> {
        let params = match response {
            Some(value) => {
                let mut fresh = 0..;
                let seed = self.ids.next("item");
                let fresh_id = || format!("{seed}{}", fresh.next().unwrap_or(0));
                ResponseParams::read(value, &self.config, &self.rules(), fresh_id)?
            }
            None => ResponseParams::of(&self.config),
        };
        self.begin(params, now)
    }

    /// Answers a turn by itself; that it may not is told like a refusal.
    pub(crate) fn answer(&mut self, params: ResponseParams, now: Instant) {
        if let Err(error) = self.begin(params, now) {
            self.emit_error(error, None);
        }
    }

    pub(crate) fn is_answering(&self) -> bool {
        self.responses.iter().any(Response::is_in_conversation)
    }

    pub(crate) fn cancel_response(&mut self, id: Option<&str>, now: Instant) -> Read<()> {
        let index = self.responses.iter().position(|response| match id {
            Some(id) => response.id == id,
            None => response.is_in_conversation(),
        });
        let Some(index) = index else {
            let message = "Cancellation failed: no active response found";
            return Err(ApiError::new("response_cancel_not_active", message));
        };
        self.finish(index, Outcome::Cancelled("client_cancelled"), now);
        Ok(())
    }

    /// Ends the response that writes to the conversation, if there is one.
    pub(crate) fn cancel_answer(&mut self, outcome: Outcome, now: Instant) {
        if let Some(index) = self.responses.iter().position(Response::is_in_conversation) {
            self.finish(index, outcome, now);
        }
    }

    /// Says what is due.
    pub(crate) fn speak(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(response) = self.responses.get(index) {
            let due = response.poll_timeout().filter(|due| *due <= now);
            match (due, &response.stage) {
                (None, _) => index += 1,
                (Some(due), Stage::Thinking { .. }) => self.open(index, due),
                (Some(due), Stage::Speaking(_)) => self.say_next(index, due),
            }
            if self.closed {
                return;
            }
        }
    }

    fn begin(&mut self, params: ResponseParams, now: Instant) -> Read<()> {
        let in_conversation = params.conversation == Place::Conversation;
        if in_conversation
            && let Some(active) = self.responses.iter().find(|r| r.is_in_conversation())
        {
            let message = format!(
                "Conversation already has an active response in progress: {}. Wait until the \
                 response is finished before creating a new one.",
                active.id
            );
            let code = "conversation_already_has_active_response";
            return Err(ApiError::new(code, message));
        }
        if self.responses.len() >= MAX_RESPONSES {
            let message = format!("At most {MAX_RESPONSES} responses can be in progress at once.");
            return Err(ApiError::new("rate_limit_exceeded", message));
        }
        let input = self.input_tokens(&params)?;
        let (id, item_id) = (self.ids.next("resp"), self.ids.next("item"));
        let wall = self.wall(now);
        let (speech, answers) = if in_conversation {
            let occasion = self.occasion.take().unwrap_or(Occasion::Asked);
            let answers = occasion.ended();
            let prompt = Prompt {
                item_id: &item_id,
                occasion,
                answered_in: self.answered_in.take(),
                wall,
            };
            (self.agent.answer(prompt), answers)
        } else {
            (self.agent.aside(), None)
        };
        let response = Response {
            id,
            item_id,
            params,
            speech,
            input,
            answers,
            stage: Stage::Thinking {
                until: now + self.settings.first_audio,
            },
        };
        self.idle = None;
        self.emit(ServerEvent::ResponseCreated {
            response: Box::new(response.object(None, &self.conversation_id)),
        });
        self.responses.push(response);
        Ok(())
    }

    /// Returns what the response reads; what the last one read too is cached.
    fn input_tokens(&mut self, params: &ResponseParams) -> Read<InputTokens> {
        let (mut text, mut audio) = (0, 0);
        match &params.input {
            None => (text, audio) = self.conversation.tokens(),
            Some(inputs) => {
                for input in inputs {
                    let tokens = match input {
                        Input::Item(item) => item.tokens(),
                        Input::Reference { id, param } => match self.conversation.item(id) {
                            Some(item) => item.tokens(),
                            None => {
                                let message = format!("Item with id '{id}' does not exist.");
                                return Err(ApiError::invalid_value(param, message));
                            }
                        },
                    };
                    text += tokens.0;
                    audio += tokens.1;
                }
            }
        }
        text += text_tokens(&params.instructions);
        for tool in &params.tools {
            text += text_tokens(&tool.to_string());
        }
        let cached = CachedTokens {
            text_tokens: self.cached.0.min(text),
            audio_tokens: self.cached.1.min(audio),
            image_tokens: 0,
        };
        self.cached = (text, audio);
        Ok(InputTokens {
            text_tokens: text,
            audio_tokens: audio,
            image_tokens: 0,
            cached_tokens: cached.text_tokens + cached.audio_tokens,
            cached_tokens_details: cached,
        })
    }

    fn open(&mut self, index: usize, now: Instant) {
        if self.settings.fault == Some(Fault::FailResponses) {
            return self.finish(index, Outcome::Failed, now);
        }
        let response = &mut self.responses[index];
        response.open(now);
        let item = response.item(Status::InProgress);
        let (at, part) = (response.part_id(), response.part(String::new()));
        let (answers, in_conversation) = (response.answers, response.is_in_conversation());
        let shown = item.to_json(Sound::Omitted);
        self.emit(ServerEvent::OutputItemAdded {
            response_id: at.response_id.clone(),
            output_index: 0,
            item: shown.clone(),
        });
        if in_conversation {
            let previous_item_id = self.conversation.last_id();
            self.conversation
                .insert(item, Position::End)
                .expect("no item has the id that was just made for this one");
            self.emit(ServerEvent::ItemAdded {
                item: shown,
                previous_item_id,
            });
            if let Some(ended) = answers {
                self.answered_in = Some(now.saturating_duration_since(ended));
            }
        }
        self.emit(ServerEvent::ContentPartAdded { at, part });
    }

    /// Sends the next delta, preceded by the words that begin in it.
    fn say_next(&mut self, index: usize, now: Instant) {
        let delta = self.settings.delta;
        let delta = delta.clamp(Duration::from_millis(1), Duration::from_secs(5));
        let interval = self.settings.delta_interval;
        let response = &mut self.responses[index];
        let at = response.part_id();
        let modality = response.params.modality;
        let Stage::Speaking(speaking) = &mut response.stage else {
            return;
        };
        let from = speaking.sent;
        let to = (from + samples(delta)).min(response.speech.samples());
        let words: Vec<String> = response.speech.words()[speaking.words..]
            .iter()
            .take_while(|word| word.samples.start < to)
            .map(|word| word.text.to_string())
            .collect();
        speaking.say(&words, to, now + interval);
        let bytes = match modality {
            Modality::Audio => speaking.encoder.encode(&response.speech.read(from..to)),
            Modality::Text => Vec::new(),
        };
        let over = to == response.speech.samples();
        let tokens = response.output_tokens();
        let tokens = tokens.text_tokens + tokens.audio_tokens;
        let out_of_tokens = response.params.max_output_tokens.reached_by(tokens);
        for delta in words {
            let (at, obfuscation) = (at.clone(), self.ids.obfuscation());
            self.emit(match modality {
                Modality::Audio => ServerEvent::TranscriptDelta {
                    at,
                    delta,
                    obfuscation,
                },
                Modality::Text => ServerEvent::TextDelta {
                    at,
                    delta,
                    obfuscation,
                },
            });
        }
        if !bytes.is_empty() {
            self.voice_locked = true;
            self.emit(ServerEvent::AudioDelta {
                at,
                delta: STANDARD.encode(bytes),
            });
        }
        if self.misbehave(index, to) {
            return;
        }
        if over {
            self.finish(index, Outcome::Completed, now);
        } else if out_of_tokens {
            self.finish(index, Outcome::Incomplete("max_output_tokens"), now);
        }
    }

    /// Goes wrong, if the settings say so at this point.
    fn misbehave(&mut self, index: usize, sent: usize) -> bool {
        match self.settings.fault {
            Some(Fault::Stall { after }) if sent >= samples(after) => {
                if let Stage::Speaking(speaking) = &mut self.responses[index].stage {
                    speaking.next = None;
                }
                true
            }
            Some(Fault::Drop { after }) if sent >= samples(after) => {
                self.closed = true;
                self.outbox.push_back(Output::HangUp);
                true
            }
            Some(
                Fault::Stall { .. }
                | Fault::Drop { .. }
                | Fault::Refuse { .. }
                | Fault::Unauthorized
                | Fault::Mute
                | Fault::FailResponses,
            )
            | None => false,
        }
    }

    fn finish(&mut self, index: usize, outcome: Outcome, now: Instant) {
        let response = self.responses.remove(index);
        if let Stage::Speaking(speaking) = &response.stage {
            self.close_part(&response, speaking, outcome);
            if outcome != Outcome::Completed {
                let heard = response.speech.words_heard(speaking.sent);
                self.agent.on_cut(&response.item_id, heard);
            }
        }
        let usage = response.usage();
        self.emit(ServerEvent::ResponseDone {
            response: Box::new(response.object(Some(outcome), &self.conversation_id)),
        });
        self.emit(ServerEvent::RateLimitsUpdated {
            rate_limits: vec![RateLimit {
                name: "tokens",
                limit: TOKEN_LIMIT,
                remaining: TOKEN_LIMIT.saturating_sub(usage.total_tokens),
                reset_seconds: usage.total_tokens.min(TOKEN_LIMIT) as f64 * 60.0
                    / TOKEN_LIMIT as f64,
            }],
        });
        if response.is_in_conversation() && outcome == Outcome::Completed {
            self.watch_idle(response.unheard(now), now);
        }
    }

    /// Ends what the response has begun to say.
    fn close_part(&mut self, response: &Response, speaking: &Speaking, outcome: Outcome) {
        let (at, text) = (response.part_id(), speaking.text.clone());
        match response.params.modality {
            Modality::Audio => {
                self.emit(ServerEvent::AudioDone { at: at.clone() });
                self.emit(ServerEvent::TranscriptDone {
                    at: at.clone(),
                    transcript: text.clone(),
                });
            }
            Modality::Text => self.emit(ServerEvent::TextDone {
                at: at.clone(),
                text: text.clone(),
            }),
        }
        self.emit(ServerEvent::ContentPartDone {
            at: at.clone(),
            part: response.part(text),
        });
        let item = response.item(outcome.item_status());
        let shown = item.to_json(Sound::Omitted);
        if response.is_in_conversation() {
            let previous_item_id = self.conversation.previous_id(&item.id);
            self.conversation.replace(item);
            self.emit(ServerEvent::ItemDone {
                item: shown.clone(),
                previous_item_id,
            });
        }
        self.emit(ServerEvent::OutputItemDone {
            response_id: at.response_id,
            output_index: 0,
            item: shown,
        });
    }
}

impl Speaking {
    /// Notes that these words and the sound up to `sent` go out.
    fn say(&mut self, words: &[String], sent: usize, next: Instant) {
        self.words += words.len();
        self.text.extend(words.iter().map(String::as_str));
        self.sent = sent;
        self.next = Some(next);
        if let Some(transcript) = &mut self.kept.transcript {
            transcript.extend(words.iter().map(String::as_str));
            self.kept.samples = sent;
        }
    }
}
