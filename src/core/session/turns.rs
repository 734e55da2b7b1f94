//! What the provider says, and what becomes of an answer: heard, cut, or never come.

use std::time::{Duration, Instant};

use crate::core::ids::ResponseId;
use crate::core::port::{
    Accuracy, Fault, FromVoice, Json, Notice, Output, ResponseOutcome, Source, ToClient, ToVoice,
    Usage, VoiceSession,
};
use crate::core::session::recovery::Cause;
use crate::core::session::speaker::Carried;
use crate::core::session::{Link, Phase, Playback, Session};
use crate::core::tally::Tally;

/// What the relay knows of an ear that the provider plays to.
const UNSEEN: Accuracy = Accuracy {
    source: Source::Estimated,
    uncertainty: Duration::from_millis(250),
};

impl Session {
    pub(super) fn handle_voice(&mut self, message: FromVoice, now: Instant) {
        self.upstream.heard = now;
        match message {
            FromVoice::Session(session, json) => self.on_session(session, json, now),
            FromVoice::SpeechStarted { at, json } => {
                self.upstream.uplink.begin_turn(at);
                self.on_speech_started(json, now);
            }
            FromVoice::SpeechStopped { at, handed, json } => {
                self.on_speech_stopped(at, handed, json, now);
            }
            FromVoice::ResponseCreated {
                response,
                conversation,
                json,
            } => {
                self.last_activity = now;
                self.pass_on(json);
                if conversation.is_none() {
                    self.aside.insert(response);
                } else if !self.over.contains(&response) {
                    self.upstream.conversation = conversation;
                    self.upstream.begun();
                    self.open.insert(response.clone());
                    self.on_begun(&response, now);
                }
            }
            FromVoice::Audio {
                response,
                item,
                content_index,
                payload,
                json,
            } => {
                if self.over.contains(&response) {
                    return;
                }
                self.last_activity = now;
                let length = self.output().duration(payload.len());
                self.upstream.history.sound(&item, length);
                let aside = self.aside.contains(&response);
                match self.config.playback {
                    Playback::Relay(_) => {}
                    Playback::Client if !aside => {}
                    Playback::Client | Playback::Provider => return self.pass_on(json),
                }
                self.open.insert(response.clone());
                self.on_sound(&response, now);
                match self.speaker.push(
                    &response,
                    &item,
                    content_index,
                    payload,
                    self.output(),
                    now,
                ) {
                    Ok(Carried::ByRelay) => {}
                    Ok(Carried::ByClient) => {
                        self.pass_on(json);
                        self.on_left(&response, None, now);
                    }
                    Err(_) => self.on_speaker_full(response),
                }
            }
            FromVoice::Delta {
                response,
                said,
                json,
            } => {
                if self.over.contains(&response) {
                    return;
                }
                if let Some(utterance) = said {
                    self.upstream.history.say(&utterance);
                }
                if !self.aside.contains(&response) {
                    self.on_progress(now);
                }
                self.pass_on(json);
            }
            FromVoice::AudioDone {
                response,
                item,
                json,
            } => {
                self.speaker.finish_item(&response, &item);
                self.pass_on(json);
            }
            FromVoice::ResponseDone {
                response,
                outcome,
                usage,
                json,
            } => {
                self.last_activity = now;
                self.pass_on(json);
                if usage != Usage::default() {
                    self.count(Tally::Used(usage));
                }
                self.on_response_done(&response, outcome, now);
            }
            FromVoice::Output(output, response, json) => {
                self.last_activity = now;
                self.pass_on(json);
                self.on_output(output, response, now);
            }
            FromVoice::Error {
                answers_relay: true,
                ..
            } => {}
            FromVoice::Error {
                code,
                refuses,
                json,
                ..
            } => {
                if let Some(event) = refuses {
                    self.upstream.uplink.answered(event);
                }
                if !(self.upstream.recovers() && ends_link(&code)) {
                    self.pass_on(json);
                }
                self.on_refusal(refuses.is_none() && gives_no_answer(&code));
            }
            FromVoice::OutputItem {
                response,
                item,
                whole,
                json,
                ..
            } => self.on_output_item(response, item, whole, json, now),
            FromVoice::Item {
                item,
                after,
                stage,
                json,
            } => self.on_item(item, after.as_ref(), stage, json),
            FromVoice::ItemDeleted { item, json } => self.on_item_deleted(&item, json),
            FromVoice::ItemTruncated { item, heard, json } => {
                self.on_item_truncated(&item, heard, json);
            }
            FromVoice::Transcribed { item, text, json } => {
                self.upstream.history.transcribe(&item, &text.0);
                self.pass_on(json);
            }
            FromVoice::Committed { item, json } => self.on_committed(item, json),
            FromVoice::Cleared { json } => {
                self.upstream.uplink.clear();
                self.pass_on(json);
            }
            FromVoice::Event(json) => self.pass_on(json),
            FromVoice::Down(end) => self.on_link_lost(Cause::LinkEnded(end), now),
        }
    }

    /// The provider plays by itself, where that is its business.
    fn on_output(&mut self, output: Output, response: ResponseId, now: Instant) {
        if !self.is_direct() {
            return;
        }
        match output {
            Output::Started => {
                self.speaker.start(response.clone(), now);
                self.on_sound(&response, now);
                self.on_left(&response, None, now);
            }
            Output::Stopped => {
                self.speaker.stop(&response, now);
            }
            Output::Cleared => {
                if let Some(heard) = self.speaker.stop(&response, now) {
                    self.notice(Notice::Interrupted {
                        response,
                        heard,
                        accuracy: UNSEEN,
                    });
                }
            }
        }
    }

    /// Whatever the provider refuses, it may be the answer that the client has asked for. Should
    /// that one begin nevertheless, it will be awaited again.
    fn on_refusal(&mut self, any_answer: bool) {
        if let Phase::Thinking { requested, .. } = self.phase
            && (requested || any_answer)
            && self.open.is_empty()
        {
            self.enter(Phase::Listening);
        }
    }

    fn on_speech_started(&mut self, json: Json, now: Instant) {
        self.last_activity = now;
        self.hearing = true;
        self.trace.forget();
        self.upstream.forgive();
        self.tools.on_new_turn();
        if self.interrupts() && (!self.open.is_empty() || !self.speaker.is_silent()) {
            self.interrupt(now);
        }
        self.pass_on(json);
        // An answer that has not begun is not owed to someone who goes on speaking.
        if let Phase::Thinking { .. } = self.phase
            && self.open.is_empty()
        {
            self.enter(Phase::Listening);
        }
    }

    fn on_speech_stopped(
        &mut self,
        at: Duration,
        handed: Option<Instant>,
        json: Json,
        now: Instant,
    ) {
        self.last_activity = now;
        self.hearing = false;
        self.upstream.stopped_at = Some(at);
        self.pass_on(json);
        self.on_asked(at, handed, now);
        let Link::Up(VoiceSession { responds: true, .. }) = self.voice else {
            return;
        };
        match self.phase {
            Phase::Listening | Phase::Cancelling { .. } | Phase::Recovering { .. } => {
                self.think(now);
            }
            Phase::Idle | Phase::Thinking { .. } | Phase::Speaking { .. } | Phase::Closed => {}
        }
    }

    /// A response that outgrows what may wait is ended; what was received of it sounds.
    fn on_speaker_full(&mut self, response: ResponseId) {
        self.speaker.finish(&response);
        self.show(ToClient::Fault(Fault::server(
            "output_audio_buffer_full",
            "The answer is longer than the relay keeps for playing; the rest of it was cancelled. Ask for a shorter answer.",
        )));
        self.cancel(response);
    }

    fn on_response_done(&mut self, response: &ResponseId, outcome: ResponseOutcome, now: Instant) {
        self.open.remove(response);
        self.cut.remove(response);
        self.unconfirmed.remove(response);
        let aside = self.aside.remove(response);
        let was_cut = !self.over.insert(response.clone());
        self.speaker.finish(response);
        if !aside && outcome != ResponseOutcome::Failed {
            self.upstream.history.answered();
        }
        let completed = outcome == ResponseOutcome::Completed && !was_cut;
        let next = self.tools.done(response, completed);
        match self.phase {
            Phase::Cancelling { .. } => self.settle_cancelling(),
            // An answer without sound, or none at all.
            Phase::Thinking { .. } if self.open.is_empty() && !was_cut && !aside => {
                if outcome == ResponseOutcome::Failed {
                    self.enter(Phase::Recovering { until: now });
                }
                if outcome != ResponseOutcome::Completed {
                    self.trace.forget();
                }
                self.rest(now);
            }
            Phase::Recovering { .. } if self.cut.is_empty() => self.settle(now),
            Phase::Idle
            | Phase::Listening
            | Phase::Thinking { .. }
            | Phase::Speaking { .. }
            | Phase::Recovering { .. }
            | Phase::Closed => {}
        }
        self.follow_tools(next, now);
    }

    /// CANCELLING is over when the provider works on nothing that was cut.
    pub(super) fn settle_cancelling(&mut self) {
        if self.cut.is_empty() {
            self.enter(Phase::Listening);
        }
    }

    /// The provider owes an answer, or the rest of one, and is silent.
    pub(super) fn on_stall(&mut self, now: Instant) {
        let until = now + self.config.cancel_timeout;
        self.enter(Phase::Recovering { until });
        self.trace.forget();
        let open = self.take_open();
        if open.is_empty() && self.upstream.recovers() {
            self.say(ToVoice::Probe);
        }
        for response in open {
            self.speaker.finish(&response);
            self.cancel(response);
        }
    }

    /// RECOVERING is over. A provider that has not confirmed by now what it was told is gone.
    pub(super) fn on_unconfirmed(&mut self, now: Instant) {
        let stalled = now.checked_sub(self.config.cancel_timeout);
        let unheard = stalled.is_some_and(|stalled| self.upstream.heard < stalled);
        let silent = (unheard || !self.cut.is_empty()) && self.upstream.recovers();
        match self.voice {
            Link::Up(_) if silent => self.on_link_lost(Cause::LinkSilent, now),
            Link::Lost(outage) if self.speaker.is_silent() => {
                let until = outage.until();
                self.enter(Phase::Recovering { until });
            }
            Link::Up(_) | Link::Lost(_) | Link::Opening | Link::Down => {
                self.wait_no_longer();
                self.settle(now);
            }
        }
    }

    /// The provider may never confirm what was cut; the client is told of its end all the same,
    /// should the link be lost.
    pub(super) fn wait_no_longer(&mut self) {
        for response in std::mem::take(&mut self.cut) {
            self.unconfirmed.insert(response);
        }
    }

    /// The provider begins an answer, perhaps while an earlier one still sounds.
    fn on_begun(&mut self, response: &ResponseId, now: Instant) {
        self.record_first_byte(response, now);
        match self.phase {
            Phase::Listening | Phase::Cancelling { .. } | Phase::Recovering { .. } => {
                self.think(now);
            }
            Phase::Speaking { .. } => self.on_progress(now),
            Phase::Idle | Phase::Thinking { .. } | Phase::Closed => {}
        }
    }

    /// The provider is at work on an answer.
    fn on_progress(&mut self, now: Instant) {
        self.last_activity = now;
        let until = now + self.config.thinking_timeout;
        match &mut self.phase {
            Phase::Thinking {
                until: deadline, ..
            }
            | Phase::Speaking { until: deadline } => {
                *deadline = until;
            }
            Phase::Idle
            | Phase::Listening
            | Phase::Cancelling { .. }
            | Phase::Recovering { .. }
            | Phase::Closed => {}
        }
    }

    fn on_sound(&mut self, response: &ResponseId, now: Instant) {
        let until = now + self.config.thinking_timeout;
        self.enter(Phase::Speaking { until });
        self.trace.arrive(response, now);
    }
}

/// What a provider says just before it ends the link, which another one will replace.
fn ends_link(code: &str) -> bool {
    matches!(code, "session_expired" | "invalid_api_key")
}

/// What a provider says in place of the answer to a spoken turn.
fn gives_no_answer(code: &str) -> bool {
    matches!(
        code,
        "rate_limit_exceeded"
            | "inference_rate_limit_exceeded"
            | "insufficient_quota"
            | "credit_balance_exhausted"
            | "server_error"
    )
}
