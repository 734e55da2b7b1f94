//! A provider that says whatever a provider may say, in any order, over one link.

use std::time::Duration;

use voxline::core::audio::Format;
use voxline::core::ids::{ItemId, ResponseId};
use voxline::core::port::{
    FromClient, FromVoice, Json, LinkEnd, ResponseOutcome, Speech, Usage, VoiceSession,
};
use voxline::core::session::Input;

use crate::link::sound;
use crate::{Answer, World, voice};

impl World {
    pub(crate) fn say_anything(&mut self, chance: u64) -> Vec<Input> {
        match chance {
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
            _ if !self.ever_up || !self.link_up => vec![],
            17..20 => self.speech_started(),
            20..24 => vec![voice(FromVoice::SpeechStopped {
                handed: (self.random.below(2) == 0).then_some(self.now),
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
    pub(crate) fn speech(&mut self) -> Vec<Input> {
        let began = Speech::Began { received: self.now };
        let speech = match self.random.below(3) {
            0 => Speech::Ended,
            _ => began,
        };
        let mut inputs = vec![Input::Client(FromClient::Speech(speech))];
        let agrees = self.upstream.is_none() && self.link_up;
        if speech == began && agrees && self.random.below(2) == 0 {
            inputs.extend(self.speech_started());
        }

        inputs
    }

    /// The provider stops its answer when the person speaks; its last words are on their way.
    pub(crate) fn speech_started(&mut self) -> Vec<Input> {
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
    pub(crate) fn stale(&mut self) -> Vec<Input> {
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
                payload: sound(u16::MAX, 20),
                json,
            }),
        ]
    }

    /// Providers send much faster than real time.
    pub(crate) fn burst(&mut self) -> Vec<Input> {
        let mut inputs = vec![];
        if self.answer.is_none() {
            self.responses += 1;
            let response = ResponseId::from(format!("r{}", self.responses));
            self.open.insert(response.clone());
            let json = Json::from("created");
            inputs.push(voice(FromVoice::ResponseCreated {
                response: response.clone(),
                conversation: Some("conv".into()),
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

    pub(crate) fn words(&mut self, millis: usize) -> [Input; 2] {
        let Answer { response, item, .. } = self.answer.as_ref().expect("an answer is open");
        let (response, item) = (response.clone(), item.clone());
        let label = match self.labels.iter().rposition(|labelled| *labelled == item) {
            Some(label) => label,
            None => self.labels.len(),
        } as u16;
        let length = Duration::from_millis(millis as u64);
        self.receive(&response, &item, label, length);
        let json = Json::from(format!("delta {response}"));

        [
            voice(FromVoice::Delta {
                said: None,
                response: response.clone(),
                json: json.clone(),
            }),
            voice(FromVoice::Audio {
                response,
                item,
                content_index: 0,
                payload: sound(label, millis),
                json,
            }),
        ]
    }

    pub(crate) fn end_item(&mut self) -> Vec<Input> {
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

    pub(crate) fn end_answer(&mut self) -> Vec<Input> {
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
}
