//! One link to a provider, which knows what it was told, and answers in its own time.

mod answer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use voxline::core::audio::Format;
use voxline::core::ids::{ItemId, ResponseId};
use voxline::core::item::{Body, Item, Role, Words};
use voxline::core::port::{ClientEvent, FromVoice, Json, Restored, Stage, ToVoice, VoiceSession};

use crate::Random;

/// How long a word of an answer sounds.
pub(crate) const WORD: Duration = Duration::from_millis(100);

/// An item, as a link knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) item: Item,
    /// The first and the last of the person's sound in it.
    pub(crate) sound: Option<(u32, u32)>,
}

pub(crate) struct Link {
    pub(crate) number: u64,
    session: VoiceSession,
    /// It does what it is asked to.
    calm: bool,
    /// Items that it did not make itself.
    pub(crate) told_of: BTreeSet<ItemId>,
    /// Items that were deleted.
    gone: BTreeSet<ItemId>,
    /// It says nothing any more.
    pub(crate) silent: bool,
    pub(crate) slow: bool,
    /// It does not confirm what it was told to stop.
    pub(crate) stubborn: bool,
    /// What it has said, and the relay has not heard.
    pub(crate) outbox: VecDeque<FromVoice>,
    pub(crate) items: Vec<Known>,
    /// What it was told of the person's sound, a millisecond each.
    pub(crate) sound: Vec<u32>,
    /// Up to there it is in an item, or was dropped.
    taken: usize,
    pub(crate) speech: Option<usize>,
    /// Where the person's sound ends that became these items.
    pub(crate) commits: BTreeMap<ItemId, u32>,
    pub(crate) answer: Option<Answer>,
    /// What the person said is given in writing later.
    untold: Vec<ItemId>,
}

/// What the provider is saying.
pub(crate) struct Answer {
    pub(crate) response: ResponseId,
    aside: bool,
    items: u64,
    item: Option<Writing>,
}

struct Writing {
    id: ItemId,
    label: u16,
    kind: u64,
    words: u32,
}

/// What is given to each response and item.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) responses: u64,
    pub(crate) spoken: u64,
    /// Items with sound, by its label.
    pub(crate) labels: Vec<ItemId>,
}

impl Link {
    pub(crate) fn new(number: u64, session: VoiceSession, calm: bool) -> Self {
        let described = Json::from(format!("session {number}"));

        Self {
            number,
            session,
            calm,
            told_of: BTreeSet::new(),
            gone: BTreeSet::new(),
            silent: false,
            slow: false,
            stubborn: false,
            outbox: [FromVoice::Session(session, described)].into(),
            items: vec![],
            sound: vec![],
            taken: 0,
            speech: None,
            commits: BTreeMap::new(),
            answer: None,
            untold: vec![],
        }
    }

    /// Hears what the relay says. Tells what is wrong with it.
    pub(crate) fn tell(
        &mut self,
        message: &ToVoice,
        random: &mut Random,
        names: &mut Names,
    ) -> Result<(), &'static str> {
        match message {
            ToVoice::Audio { frame, .. } => self.sound.extend(serials(&frame.payload)),
            ToVoice::Event(json) => self.obey(json, random, names),
            ToVoice::Cancel(response) => {
                let mine = self
                    .answer
                    .as_ref()
                    .is_some_and(|it| it.response == *response);
                if mine {
                    self.stop();
                }
            }
            ToVoice::Truncate { item, heard, .. } => self.truncate(item, *heard),
            ToVoice::Delete(item) => self.delete(item),
            ToVoice::Respond => self.respond(names, random, false, false),
            ToVoice::Restore(restored) => return self.restore(restored),
            ToVoice::All(messages) => {
                for message in messages {
                    self.tell(message, random, names)?;
                }
            }
            ToVoice::Probe => {
                self.outbox.push_back(FromVoice::Error {
                    code: "response_cancel_not_active".to_owned(),
                    answers_relay: true,
                    refuses: None,
                    json: "harmless".into(),
                });
            }
            ToVoice::ToolOutput { .. } => return Err("the relay has been asked for nothing"),
            ToVoice::ClearOutput => return Err("the provider does not play"),
        }

        Ok(())
    }

    fn restore(&mut self, restored: &Restored) -> Result<(), &'static str> {
        let Restored { item, after, sound } = restored;
        if self.index(&item.id).is_some() {
            return Err("no link is told of an item twice");
        }
        let index = match after {
            None => 0,
            Some(after) => match self.index(after) {
                Some(before) => before + 1,
                // The client has deleted it, and the relay is not told yet.
                None if self.gone.contains(after) => self.items.len(),
                None => return Err("what comes before is known"),
            },
        };
        let heard: Option<Vec<u32>> = sound.as_ref().map(|it| serials(&it.payload).collect());
        if let Some(heard) = &heard
            && !heard.windows(2).all(|pair| pair[0] + 1 == pair[1])
        {
            return Err("a turn's sound is whole");
        }
        let sound = heard.and_then(|it| Some((*it.first()?, *it.last()?)));
        let known = Known {
            item: item.clone(),
            sound,
        };
        self.items.insert(index, known);
        self.told_of.insert(item.id.clone());
        self.show(&item.id, true);

        Ok(())
    }

    fn obey(&mut self, json: &Json, random: &mut Random, names: &mut Names) {
        let words: Vec<&str> = json.as_str().split(' ').collect();
        let refuses = !self.calm && random.below(12) == 0;
        let event = kind(json);
        if refuses && event != ClientEvent::Other {
            return self.refuse(event);
        }
        match words[..] {
            ["item", id, what] => {
                let body = match what.strip_prefix("output-") {
                    Some(call) => Body::Output {
                        call: call.into(),
                        output: "done".into(),
                    },
                    None => message(Role::User, Words::written(format!("note {id}"))),
                };
                self.add(id.into(), body, None);
            }
            ["update", _] => {
                let json = Json::from(format!("session {json}", json = json.as_str()));
                self.outbox
                    .push_back(FromVoice::Session(self.session, json));
            }
            ["commit", _] if self.taken < self.sound.len() => {
                self.commit(self.taken, self.sound.len(), names, random);
            }
            ["commit", _] => self.refuse(event),
            ["clear", _] => {
                self.taken = self.sound.len();
                let json = "cleared".into();
                self.outbox.push_back(FromVoice::Cleared { json });
            }
            ["respond", _] => self.respond(names, random, true, false),
            ["aside", _] => self.respond(names, random, true, true),
            ["delete", id] => self.delete(&id.into()),
            ["truncate", id, ms] => {
                self.truncate(
                    &id.into(),
                    Duration::from_millis(ms.parse().expect("a number")),
                );
            }
            _ => self.outbox.push_back(FromVoice::Event("pong".into())),
        }
    }

    fn refuse(&mut self, event: ClientEvent) {
        self.outbox.push_back(FromVoice::Error {
            code: "invalid".to_owned(),
            answers_relay: false,
            refuses: Some(event),
            json: "refused".into(),
        });
    }

    /// Answers, if it is not at it already.
    pub(crate) fn respond(
        &mut self,
        names: &mut Names,
        random: &mut Random,
        asked: bool,
        aside: bool,
    ) {
        if self.answer.is_some() {
            if asked && !aside {
                self.refuse(ClientEvent::CreateResponse);
            }
            return;
        }
        if !self.calm && random.below(30) == 0 {
            // It forgets.
            return;
        }
        names.responses += 1;
        let response = ResponseId::from(format!("r{}", names.responses));
        self.outbox.push_back(FromVoice::ResponseCreated {
            response: response.clone(),
            conversation: (!aside).then(|| "conv".into()),
            json: format!("created {response}").into(),
        });
        self.answer = Some(Answer {
            response,
            aside,
            items: 0,
            item: None,
        });
    }

    /// Hears the person speak, or no longer.
    pub(crate) fn detect(&mut self, names: &mut Names, random: &mut Random) {
        let end = self.sound.len();
        if let Some(start) = self.speech {
            let pause = random.below(80) as usize;
            let at = end.saturating_sub(pause).max(start + 1);
            if at > end {
                return;
            }
            self.speech = None;
            let json = "stopped".into();
            let stopped = FromVoice::SpeechStopped {
                at: ms(at),
                handed: None,
                json,
            };
            self.outbox.push_back(stopped);
            self.commit(start, at, names, random);
            if self.session.responds {
                self.respond(names, random, false, false);
            }
        } else if self.taken < end {
            let start = end.saturating_sub(1 + random.below(300) as usize);
            let start = start.max(self.taken);
            self.speech = Some(start);
            let json = "speech".into();
            self.outbox.push_back(FromVoice::SpeechStarted {
                at: ms(start),
                json,
            });
            if self.session.interrupts && self.answer.is_some() {
                self.stop();
            }
        }
    }

    fn commit(&mut self, from: usize, to: usize, names: &mut Names, random: &mut Random) {
        names.spoken += 1;
        let id = ItemId::from(format!("u{}", names.spoken));
        let sound = (self.sound[from], self.sound[to - 1]);
        self.taken = to;
        self.commits.insert(id.clone(), sound.1 + 1);
        let json = format!("committed {id}").into();
        let item = id.clone();
        self.outbox.push_back(FromVoice::Committed { item, json });
        let words = Words {
            text: "".into(),
            sound: Some(Duration::ZERO),
        };
        self.add(id.clone(), message(Role::User, words), Some(sound));
        if self.session.transcribes && (self.calm || random.below(6) > 0) {
            self.untold.push(id);
        }
    }

    fn truncate(&mut self, item: &ItemId, heard: Duration) {
        if self.index(item).is_some() {
            let json = format!("truncated {item}").into();
            let item = item.clone();
            self.outbox
                .push_back(FromVoice::ItemTruncated { item, heard, json });
        }
    }

    fn delete(&mut self, item: &ItemId) {
        let Some(index) = self.index(item) else {
            return self.outbox.push_back(FromVoice::Error {
                code: "item_delete_invalid_item_id".to_owned(),
                answers_relay: true,
                refuses: None,
                json: "harmless".into(),
            });
        };
        self.items.remove(index);
        self.gone.insert(item.clone());
        let json = format!("deleted {item}").into();
        let item = item.clone();
        self.outbox.push_back(FromVoice::ItemDeleted { item, json });
    }

    fn add(&mut self, id: ItemId, body: Body, sound: Option<(u32, u32)>) {
        let item = Item {
            id: id.clone(),
            body,
        };
        self.items.push(Known { item, sound });
        self.show(&id, true);
    }

    fn show(&mut self, id: &ItemId, whole: bool) {
        self.show_as(id, Stage::Added);
        if whole {
            self.show_as(id, Stage::Done);
        }
    }

    fn show_as(&mut self, id: &ItemId, stage: Stage) {
        let index = self.index(id).expect("the item is known");
        let before = index.checked_sub(1);
        let json = match stage {
            Stage::Added => format!("added {id}"),
            Stage::Done => format!("whole {id}"),
        };
        self.outbox.push_back(FromVoice::Item {
            item: self.items[index].item.clone(),
            after: before.map(|before| self.items[before].item.id.clone()),
            stage,
            json: json.into(),
        });
    }

    fn index(&self, id: &ItemId) -> Option<usize> {
        self.items.iter().rposition(|known| known.item.id == *id)
    }
}

pub(crate) fn kind(json: &Json) -> ClientEvent {
    match json.as_str().split(' ').next() {
        Some("item") => ClientEvent::CreateItem,
        Some("update") => ClientEvent::UpdateSession,
        Some("commit") => ClientEvent::CommitAudio,
        Some("clear") => ClientEvent::ClearAudio,
        Some("respond") => ClientEvent::CreateResponse,
        _ => ClientEvent::Other,
    }
}

/// Sound of an answer, by which its item is known.
pub(crate) fn sound(label: u16, millis: usize) -> Bytes {
    let sample = label.to_le_bytes();
    sample
        .repeat(millis * Format::Pcm.bytes_per_ms() / 2)
        .into()
}

/// Sound of the person, of which each millisecond is known.
pub(crate) fn speech(from: u32, millis: u32) -> Bytes {
    let times = Format::Pcm.bytes_per_ms() / 4;
    let millis = from..from + millis;
    millis
        .flat_map(|it| it.to_le_bytes().repeat(times))
        .collect()
}

/// Tells which milliseconds these are.
pub(crate) fn serials(payload: &Bytes) -> impl Iterator<Item = u32> {
    let millis = payload.chunks(Format::Pcm.bytes_per_ms());

    millis.map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]))
}

fn message(role: Role, words: Words) -> Body {
    Body::Message { role, words }
}

fn ms(millis: usize) -> Duration {
    Duration::from_millis(millis as u64)
}
