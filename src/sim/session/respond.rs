//! Answers: created, spoken at their pace, ended.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::sim::agent::{Occasion, Prompt};
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::item::{Item, Sound, Status, text_tokens};
use crate::sim::protocol::reader::Read;
use crate::sim::protocol::response::{Input, Place, ResponseParams};
use crate::sim::protocol::server::{
    CachedTokens, InputTokens, OutputTokens, RateLimit, ServerEvent,
};
use crate::sim::protocol::tools::Modality;
use crate::sim::session::conversation::Position;
use crate::sim::session::response::{Outcome, Response, Speaking, Stage};
use crate::sim::session::{Output, Session};
use crate::sim::speech::{Speech, samples};

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
                (Some(due), Stage::Calling(_)) => self.call_on(index, due),
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
        let first_audio = self.faults.first_audio;
        let first_audio = first_audio.unwrap_or(self.settings.first_audio);
        let mut calls = Vec::new();
        let (speech, answers) = if in_conversation {
            let occasion = self.occasion.take().unwrap_or(Occasion::Asked);
            let answers = occasion.ended();
            let plan = self.plan(&occasion, &params);
            let silent = !plan.calls.is_empty() && !plan.speaks;
            calls = plan.calls;
            let prompt = Prompt {
                item_id: &item_id,
                occasion,
                answered_in: self.answered_in.take(),
                wall,
            };
            let speech = match silent {
                true => Speech::default(),
                false => self.agent.answer(prompt),
            };
            (speech, answers)
        } else {
            (self.agent.aside(), None)
        };
        let response = Response {
            id,
            item_id,
            params,
            speech,
            calls: calls.into(),
            output: Vec::new(),
            said: OutputTokens::default(),
            input,
            answers,
            stage: Stage::Thinking {
                until: now + first_audio,
            },
            stalled: false,
        };
        self.idle = None;
        self.tally.responses_created += 1;
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
        if self.faults.fail_responses {
            return self.finish(index, Outcome::Failed, now);
        }
        let response = &mut self.responses[index];
        if response.speech.samples() == 0
            && let Some(call) = response.calls.pop_front()
        {
            return self.open_call(index, call, now);
        }
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
        let interval = self.delta_interval();
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
            self.go_on(index, now);
        } else if out_of_tokens {
            self.finish(index, Outcome::Incomplete("max_output_tokens"), now);
        }
    }

    /// Goes wrong, if it is to at this point.
    fn misbehave(&mut self, index: usize, sent: usize) -> bool {
        let due = |after: Option<Duration>| after.is_some_and(|after| sent >= samples(after));
        if due(self.faults.stall_after) {
            self.responses[index].stalled = true;
            return true;
        }
        if due(self.faults.drop_after) {
            self.break_off(Output::HangUp);
            return true;
        }
        false
    }

    /// Returns the time from one delta to the next.
    pub(crate) fn delta_interval(&self) -> Duration {
        let slow = self.faults.delta_interval;
        slow.unwrap_or(self.settings.delta_interval)
    }

    pub(crate) fn finish(&mut self, index: usize, outcome: Outcome, now: Instant) {
        let mut response = self.responses.remove(index);
        let unheard = response.unheard(now);
        self.close_item(&mut response, outcome);
        let usage = response.usage();
        if let Outcome::Cancelled(_) = outcome {
            self.tally.responses_cancelled += 1;
        }
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
            self.watch_idle(unheard, now);
        }
    }

    /// Ends the item that a response is at, if it has begun one.
    pub(crate) fn close_item(&mut self, response: &mut Response, outcome: Outcome) {
        let item = match &response.stage {
            Stage::Thinking { .. } => return,
            Stage::Speaking(speaking) => {
                if outcome != Outcome::Completed {
                    let heard = response.speech.words_heard(speaking.sent);
                    self.agent.on_cut(&response.item_id, heard);
                }
                let item = response.item(outcome.item_status());
                self.close_part(response, speaking, &item);
                item
            }
            Stage::Calling(calling) => {
                let item = calling.item(outcome.item_status());
                self.close_call(response, calling, &item);
                item
            }
        };
        response.said = response.output_tokens();
        response.output.push(item.to_json(Sound::Omitted));
    }

    /// Ends what the response has begun to say.
    fn close_part(&mut self, response: &Response, speaking: &Speaking, item: &Item) {
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
        self.close_output(response, at.response_id, at.output_index, item);
    }

    /// Ends an item, in the conversation and in its response.
    pub(crate) fn close_output(
        &mut self,
        response: &Response,
        response_id: String,
        output_index: u32,
        item: &Item,
    ) {
        let shown = item.to_json(Sound::Omitted);
        if response.is_in_conversation() {
            let previous_item_id = self.conversation.previous_id(&item.id);
            self.conversation.replace(item.clone());
            self.emit(ServerEvent::ItemDone {
                item: shown.clone(),
                previous_item_id,
            });
        }
        self.emit(ServerEvent::OutputItemDone {
            response_id,
            output_index,
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
        self.next = next;
        if let Some(transcript) = &mut self.kept.transcript {
            transcript.extend(words.iter().map(String::as_str));
            self.kept.samples = sent;
        }
    }
}
