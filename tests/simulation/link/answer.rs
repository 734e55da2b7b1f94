//! What a provider says in answer.

use std::time::Duration;

use voxline::core::ids::{ItemId, ResponseId};
use voxline::core::item::{Body, Item, Role, Words};
use voxline::core::port::{FromVoice, Json, ResponseOutcome, Stage, Usage, Utterance};

use crate::Random;
use crate::link::{Answer, Known, Link, Names, WORD, Writing, message, sound};

impl Link {
    /// Works on what it is saying.
    pub(crate) fn work(&mut self, names: &mut Names, random: &mut Random) {
        if random.below(4) == 0
            && let Some(item) = self.untold.pop()
        {
            let text = format!("words of {item}");
            if let Some(index) = self.index(&item)
                && let Body::Message { words, .. } = &mut self.items[index].item.body
            {
                words.text = text.as_str().into();
            }
            let json = format!("transcribed {item}").into();
            let text = text.as_str().into();
            self.outbox
                .push_back(FromVoice::Transcribed { item, text, json });
        }
        let Some(mut answer) = self.answer.take() else {
            return;
        };
        let over = match &mut answer.item {
            None if answer.items > 0 && random.below(3) > 0 => true,
            None => {
                self.begin_item(&mut answer, names, random);
                false
            }
            Some(writing) => {
                let count = match random.below(60) {
                    _ if self.calm => 2 + random.below(6),
                    0 => 200,
                    _ => random.below(6),
                };
                (0..count).for_each(|_| self.write(&answer.response, writing, answer.aside));
                if random.below(4) == 0 {
                    self.end_item(&mut answer);
                }
                false
            }
        };
        if over {
            let outcome = match random.below(8) {
                _ if self.calm => ResponseOutcome::Completed,
                0 => ResponseOutcome::Failed,
                1 => ResponseOutcome::Incomplete,
                _ => ResponseOutcome::Completed,
            };
            self.end(&answer.response, outcome);
        } else {
            self.answer = Some(answer);
        }
    }

    fn begin_item(&mut self, answer: &mut Answer, names: &mut Names, random: &mut Random) {
        answer.items += 1;
        let id = ItemId::from(format!("{}-{}", answer.response, answer.items));
        let kind = match random.below(8) {
            0 => 1,
            1 => 2,
            _ if answer.aside => 1,
            _ => 0,
        };
        let label = names.labels.len() as u16;
        if kind == 0 {
            names.labels.push(id.clone());
        }
        let body = match kind {
            0 => message(Role::Assistant, Words::default()),
            1 => message(Role::Assistant, Words::written("")),
            _ => Body::Call {
                call: format!("call-{id}").as_str().into(),
                name: "look".to_owned(),
                arguments: "".into(),
            },
        };
        if !answer.aside {
            let item = Item {
                id: id.clone(),
                body,
            };
            self.items.push(Known { item, sound: None });
            self.show(&id, false);
        }
        answer.item = Some(Writing {
            id,
            label,
            kind,
            words: 0,
        });
    }

    fn write(&mut self, response: &ResponseId, writing: &mut Writing, aside: bool) {
        let text = format!("w{:03} ", writing.words);
        writing.words += 1;
        if let Some(index) = self.index(&writing.id) {
            match &mut self.items[index].item.body {
                Body::Message { words, .. } => {
                    words.text.0.push_str(&text);
                    words.sound = (writing.kind == 0).then_some(Duration::ZERO);
                }
                Body::Call { arguments, .. } => arguments.0.push_str(&text),
                Body::Output { .. } | Body::Other(_) => {}
            }
        }
        let utterance = Utterance {
            item: writing.id.clone(),
            text: text.as_str().into(),
            aloud: writing.kind == 0,
        };
        let json = Json::from(format!("delta {response}"));
        self.outbox.push_back(FromVoice::Delta {
            response: response.clone(),
            said: (writing.kind < 2 && !aside).then_some(utterance),
            json: json.clone(),
        });
        if writing.kind == 0 {
            self.outbox.push_back(FromVoice::Audio {
                response: response.clone(),
                item: writing.id.clone(),
                content_index: 0,
                payload: sound(writing.label, WORD.as_millis() as usize),
                json,
            });
        }
    }

    fn end_item(&mut self, answer: &mut Answer) {
        let Some(writing) = answer.item.take() else {
            return;
        };
        if writing.kind == 0 {
            self.outbox.push_back(FromVoice::AudioDone {
                response: answer.response.clone(),
                item: writing.id.clone(),
                json: "audio done".into(),
            });
        }
        if !answer.aside && self.index(&writing.id).is_some() {
            self.show_as(&writing.id, Stage::Done);
        }
    }

    pub(super) fn stop(&mut self) {
        let Some(mut answer) = self.answer.take() else {
            return;
        };
        self.end_item(&mut answer);
        if !self.stubborn {
            self.end(&answer.response, ResponseOutcome::Cancelled);
        }
    }

    fn end(&mut self, response: &ResponseId, outcome: ResponseOutcome) {
        self.outbox.push_back(FromVoice::ResponseDone {
            usage: Usage::default(),
            response: response.clone(),
            outcome,
            json: format!("done {response}").into(),
        });
    }
}
