//! What was said and heard, as far as the session can know it: what each new link must be told.

use std::time::Duration;

use voxline::core::ids::ItemId;
use voxline::core::item::{Body, Item, Role};
use voxline::core::port::{Stage, Utterance};

use crate::link::Known;

pub(crate) struct Record {
    most: usize,
    entries: Vec<Entry>,
    /// Items older than the window were told of in short.
    folded: bool,
    /// What the person has just said, and the least of it that must be known.
    asked: Option<(ItemId, Sound)>,
}

/// Some of the person's sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sound {
    /// It begins no earlier, ...
    pub(crate) floor: u32,
    /// ... and no later, unless there is none to tell.
    pub(crate) need: u32,
    /// It ends before this.
    pub(crate) end: u32,
}

struct Entry {
    id: ItemId,
    body: Body,
    done: bool,
    length: Duration,
    cut: bool,
    /// It was cut, and nobody was told where: what was heard of it lies between these.
    between: Option<(Duration, Duration)>,
    unseen: bool,
    sound: Option<Sound>,
}

impl Record {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            entries: vec![],
            folded: false,
            asked: None,
        }
    }

    pub(crate) fn note(&mut self, item: &Item, after: Option<&ItemId>, stage: Stage) {
        if let Some(entry) = self.entries.iter_mut().find(|it| it.id == item.id) {
            if stage == Stage::Done {
                entry.done = true;
                if !entry.cut {
                    entry.complete(&item.body);
                }
            }
            return;
        }
        // Its end is told, and it was cut before anything of it was heard.
        if stage == Stage::Done {
            return;
        }
        let asked = self.asked.take_if(|(id, _)| *id == item.id);
        let index = match after {
            None if !self.folded => 0,
            None => self.entries.len(),
            Some(after) => {
                let before = self.entries.iter().position(|it| it.id == *after);
                before.map_or(self.entries.len(), |before| before + 1)
            }
        };
        let entry = Entry {
            id: item.id.clone(),
            body: item.body.clone(),
            done: stage == Stage::Done,
            length: Duration::ZERO,
            cut: false,
            between: None,
            unseen: false,
            sound: asked.map(|(_, sound)| sound),
        };
        self.entries.insert(index, entry);
        self.fold();
    }

    pub(crate) fn say(&mut self, utterance: &Utterance) {
        if let Some(entry) = self.entry(&utterance.item)
            && !entry.cut
            && let Body::Message { words, .. } = &mut entry.body
        {
            words.text.0.push_str(&utterance.text.0);
            if utterance.aloud {
                words.sound = Some(Duration::ZERO);
            }
        }
    }

    pub(crate) fn sound(&mut self, item: &ItemId, length: Duration) {
        if let Some(entry) = self.entry(item)
            && !entry.cut
        {
            entry.length += length;
        }
    }

    pub(crate) fn transcribe(&mut self, item: &ItemId, text: &str) {
        if let Some(entry) = self.entry(item)
            && let Body::Message { words, .. } = &mut entry.body
        {
            words.text = text.into();
        }
    }

    pub(crate) fn ask(&mut self, item: &ItemId, sound: Sound) {
        self.asked = (sound.need < sound.end).then(|| (item.clone(), sound));
    }

    pub(crate) fn answered(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.sound = None);
    }

    /// It is known that so much was heard.
    pub(crate) fn cut(&mut self, item: &ItemId, heard: Duration) {
        if heard < Duration::from_millis(1) {
            return self.remove(item);
        }
        if let Some(entry) = self.entry(item) {
            entry.cut = true;
            // Nobody may know any more whether it is there at all.
            entry.between = match entry.between {
                Some((least, most)) if entry.unseen => Some((least, most.max(heard))),
                Some(_) | None => Some((heard, heard)),
            };
        }
    }

    /// It was cut, and what was heard of it lies between these.
    pub(crate) fn cut_between(&mut self, item: &ItemId, least: Duration, most: Duration) {
        if let Some(entry) = self.entry(item) {
            entry.cut = true;
            entry.between = Some((least, most));
        }
    }

    /// It was cut while no link was there to be told.
    pub(crate) fn cut_unseen(&mut self, item: &ItemId, most: Duration) {
        self.cut_between(item, Duration::ZERO, most);
        if let Some(entry) = self.entry(item) {
            entry.unseen = true;
        }
    }

    pub(crate) fn remove(&mut self, item: &ItemId) {
        self.entries.retain(|entry| entry.id != *item);
    }

    /// What was being said ends with the link. Tells whether anything was said.
    pub(crate) fn break_off(&mut self) -> bool {
        let mut said = false;
        self.entries.retain_mut(|entry| {
            if std::mem::replace(&mut entry.done, true) {
                return true;
            }
            entry.cut = true;
            match &entry.body {
                Body::Message {
                    role: Role::Assistant,
                    words,
                } => {
                    let aloud = words.sound.is_some();
                    let any = match aloud {
                        true => !entry.length.is_zero(),
                        false => !words.text.0.is_empty(),
                    };
                    said |= any;
                    any
                }
                Body::Call { .. } => false,
                Body::Message { .. } | Body::Output { .. } | Body::Other(_) => true,
            }
        });

        said
    }

    pub(crate) fn add(&mut self, item: Item) {
        let after = self.entries.last().map(|entry| entry.id.clone());
        self.note(&item, after.as_ref(), Stage::Added);
        self.note(&item, after.as_ref(), Stage::Done);
    }

    /// Compares a link that has just been told. Tells what is wrong.
    pub(crate) fn compare(&mut self, known: &[Known]) -> Result<(), String> {
        let known = match known {
            [summary, rest @ ..] if summary.item.id.as_str() == "item_voxline_summary" => {
                if !self.folded {
                    return Err("a summary stands for nothing".to_owned());
                }
                rest
            }
            _ if self.folded => return Err("a summary stands for older items".to_owned()),
            all => all,
        };
        let mut told = known.iter().peekable();
        let mut gone = vec![];
        for entry in &mut self.entries {
            let Some(known) = told.next_if(|known| known.item.id == entry.id) else {
                let unheard = entry
                    .between
                    .is_some_and(|(least, _)| least < Duration::from_millis(1));
                if !unheard {
                    let found = told.peek().map(|known| &known.item.id);
                    let ids: Vec<_> = known.iter().map(|it| it.item.id.as_str()).collect();
                    return Err(format!(
                        "{} is missing, there is {found:?} of {ids:?}",
                        entry.id
                    ));
                }
                gone.push(entry.id.clone());
                continue;
            };
            entry.compare(known)?;
        }
        if let Some(known) = told.next() {
            let ids: Vec<_> = self.entries.iter().map(|it| it.id.as_str()).collect();
            return Err(format!("{} was never said, but {ids:?}", known.item.id));
        }
        gone.iter().for_each(|id| self.remove(id));

        Ok(())
    }

    /// It was said aloud, and has no answer.
    pub(crate) fn is_unanswered(&self, item: &ItemId) -> bool {
        let mut entries = self.entries.iter();

        entries.any(|entry| entry.id == *item && entry.sound.is_some())
    }

    pub(crate) fn is_folded(&self) -> bool {
        self.folded
    }

    fn entry(&mut self, item: &ItemId) -> Option<&mut Entry> {
        self.entries.iter_mut().rfind(|entry| entry.id == *item)
    }

    fn fold(&mut self) {
        while self.entries.len() > self.most {
            self.folded = true;
            let oldest = self.entries.remove(0);
            if let Body::Call { call: of, .. } = &oldest.body {
                let output =
                    |it: &Entry| matches!(&it.body, Body::Output { call, .. } if call == of);
                if let Some(index) = self.entries.iter().position(output) {
                    self.entries.remove(index);
                }
            }
        }
    }
}

impl Entry {
    fn complete(&mut self, body: &Body) {
        match (&mut self.body, body) {
            (Body::Message { words: mine, .. }, Body::Message { words, .. }) => {
                if !words.text.0.is_empty() {
                    mine.text = words.text.clone();
                }
            }
            (mine, body) => *mine = body.clone(),
        }
    }

    /// Compares with what a link knows of it; what was heard is known better then.
    fn compare(&mut self, known: &Known) -> Result<(), String> {
        let id = &self.id;
        let (role, said) = text(&self.body);
        let (told_role, told) = text(&known.item.body);
        if role != told_role {
            return Err(format!("{id} is {told_role}, not {role}"));
        }
        if let Some((least, most)) = self.between.take() {
            let words = |heard: Duration| {
                let share = heard.as_secs_f64() / self.length.max(heard).as_secs_f64();
                said.split_whitespace().count() as f64 * share
            };
            let count = told.split_whitespace().count() as f64;
            let wrong = count > words(most).ceil() || count + 1.5 < words(least);
            if !said.starts_with(told) || wrong && !self.unseen {
                let length = self.length;
                return Err(format!(
                    "{id}, heard {least:?} to {most:?} of {length:?}, is {told:?} of {said:?}"
                ));
            }
            self.length = most;
        } else if said != told && !id.as_str().starts_with("item_voxline_cut_off") {
            return Err(format!("{id} is {told:?}, not {said:?}"));
        }
        if let Some(Sound { floor, need, end }) = self.sound {
            let (first, last) = known
                .sound
                .ok_or_else(|| format!("{id} is not to be heard"))?;
            if first < floor || first > need || last + 1 != end {
                return Err(format!(
                    "{id} is sound {first} to {last}, not {floor}..{need} to {end}"
                ));
            }
        }
        self.body = known.item.body.clone();

        Ok(())
    }
}

fn text(body: &Body) -> (&'static str, &str) {
    match body {
        Body::Message {
            role: Role::System,
            words,
        } => ("system", &words.text.0),
        Body::Message {
            role: Role::User,
            words,
        } => ("user", &words.text.0),
        Body::Message {
            role: Role::Assistant,
            words,
        } => ("assistant", &words.text.0),
        Body::Call { arguments, .. } => ("call", &arguments.0),
        Body::Output { output, .. } => ("output", &output.0),
        Body::Other(json) => ("other", json.as_str()),
    }
}
