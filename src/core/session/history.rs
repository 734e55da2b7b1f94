//! What was said and heard so far, as another link must be told of it.
//!
//! **Invariants**
//! - Items are in the provider's order, each once.
//! - An answer that was cut has no more words than were heard of it, as far as words can be told
//!   from the length of their sound.
//! - At most the set number of items is kept, and [`BYTES`] of what they say. What is older is
//!   folded into a summary of at most [`SUMMARY`] bytes; a call's output goes with the call.
//! - The sound of what a person said is kept until it has been answered, and no longer.

mod summary;

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::audio::Frame;
use crate::core::ids::ItemId;
use crate::core::item::{Body, Item, Role, Words};
use crate::core::port::{Restored, Stage, ToVoice, Utterance};
use crate::core::session::history::summary::Summary;
use crate::core::session::snapshot::Abridged;

/// What all items together may say.
const BYTES: usize = 256 << 10;

/// The number of no link: that of items that the relay has made itself.
const RELAY: u64 = 0;

#[derive(Debug)]
pub(super) struct History {
    most: usize,
    entries: VecDeque<Entry>,
    bytes: usize,
    summary: Summary,
    /// The last item that went into it, and the link that has it as it was first said.
    folded: Option<(ItemId, u64)>,
    /// What the person has just said, by the item that it is about to become.
    asked: Option<(ItemId, Frame)>,
}

#[derive(Debug)]
struct Entry {
    item: Item,
    /// The link that has it as it was first said, with its sound; others were told of it.
    link: u64,
    /// The provider has the whole of it.
    done: bool,
    /// Counts the changes that only those notice who were told of it.
    revision: u32,
    /// How much of its sound there is, or was heard.
    length: Duration,
    /// It is as it is: nothing more of it counts.
    cut: bool,
    /// What the person said, in their own voice, until it is answered.
    sound: Option<Frame>,
}

/// What a link was told of the conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    items: Vec<(ItemId, u32)>,
    /// What it was told to forget, and has not confirmed.
    stale: Vec<ItemId>,
}

impl History {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            entries: VecDeque::new(),
            bytes: 0,
            summary: Summary::default(),
            folded: None,
            asked: None,
        }
    }

    /// Takes an item as the provider tells of it. One that is done and not known was forgotten
    /// before its end was told.
    pub(super) fn note(&mut self, item: Item, after: Option<&ItemId>, stage: Stage, link: u64) {
        if let Some(index) = self.index(&item.id) {
            if stage == Stage::Done {
                self.entries[index].complete(item.body);
            }
        } else if stage == Stage::Added {
            let sound = self.asked.take_if(|(asked, _)| *asked == item.id);
            let mut entry = Entry::new(item, link);
            if let (Body::Message { words, .. }, Some((_, sound))) = (&mut entry.item.body, sound) {
                words.sound = Some(sound.duration());
                entry.sound = Some(sound);
            }
            let index = match after.and_then(|after| self.index(after)) {
                Some(before) => before + 1,
                None if after.is_none() && self.summary.is_empty() => 0,
                None => self.entries.len(),
            };
            self.entries.insert(index, entry);
        }
        self.fold();
    }

    /// The answer goes on with these words.
    pub(super) fn say(&mut self, utterance: &Utterance) {
        self.edit(&utterance.item, |entry| {
            if let (false, Body::Message { words, .. }) = (entry.cut, &mut entry.item.body) {
                words.text.0.push_str(&utterance.text.0);
                if utterance.aloud {
                    words.sound.get_or_insert_default();
                }
            }
        });
    }

    /// The answer goes on for this long.
    pub(super) fn sound(&mut self, item: &ItemId, length: Duration) {
        self.edit(item, |entry| {
            if !entry.cut {
                entry.length += length;
            }
        });
    }

    /// The person's words are known now.
    pub(super) fn transcribe(&mut self, item: &ItemId, text: &str) {
        self.edit(item, |entry| {
            if let Body::Message { words, .. } = &mut entry.item.body {
                text.clone_into(&mut words.text.0);
                entry.revision += 1;
            }
        });
    }

    /// The person said this, which is about to become an item, and has no answer yet.
    pub(super) fn ask(&mut self, item: ItemId, sound: Option<Frame>) {
        self.asked = sound.map(|sound| (item, sound));
    }

    /// The link is lost: what was being said ends here. Returns whether anything of it was told.
    pub(super) fn break_off(&mut self) -> bool {
        let mut heard = false;
        self.entries.retain_mut(|entry| {
            if entry.done {
                return true;
            }
            entry.done = true;
            entry.cut = true;
            let told = match &entry.item.body {
                Body::Message {
                    role: Role::Assistant,
                    words,
                } => match words.sound {
                    Some(_) => !entry.length.is_zero(),
                    None => !words.text.0.is_empty(),
                },
                Body::Call { .. } => false,
                Body::Message { .. } | Body::Output { .. } | Body::Other(_) => return true,
            };
            heard |= told;
            told
        });
        self.fold();

        heard
    }

    /// Adds what the relay itself has to say to the provider.
    pub(super) fn add_note(&mut self, id: ItemId, text: &str) {
        let body = Body::Message {
            role: Role::System,
            words: Words::written(text),
        };
        self.entries.push_back(Entry::own(Item { id, body }));
        self.fold();
    }

    /// What the person said has been answered.
    pub(super) fn answered(&mut self) {
        for entry in &mut self.entries {
            entry.sound = None;
        }
    }

    /// Only so much of the answer was heard; none of it, and there is no such item.
    pub(super) fn cut(&mut self, item: &ItemId, heard: Duration) {
        if heard < Duration::from_millis(1) {
            return self.remove(item);
        }
        self.edit(item, |entry| {
            let kept = match entry.length {
                Duration::ZERO => 1.0,
                length => heard.as_secs_f64() / length.as_secs_f64(),
            };
            if let Body::Message { words, .. } = &mut entry.item.body
                && kept < 1.0
            {
                shorten(&mut words.text.0, kept);
                entry.length = heard;
                entry.revision += 1;
            }
            entry.cut = true;
        });
    }

    pub(super) fn remove(&mut self, item: &ItemId) {
        if let Some(index) = self.index(item)
            && let Some(entry) = self.entries.remove(index)
        {
            self.bytes -= entry.weight();
        }
    }

    /// Tells whether this link has the item as it was first said. One that is not known here may be
    /// anything.
    pub(super) fn is_native(&self, item: &ItemId, link: u64) -> bool {
        self.index(item)
            .is_none_or(|index| self.entries[index].link == link)
    }

    /// Tells whether there is speech that will be transcribed, and was not yet.
    pub(super) fn expects_transcript(&self) -> bool {
        let last = self.entries.iter().rev().take(4);
        let mut spoken = last.filter_map(|entry| match &entry.item.body {
            Body::Message {
                role: Role::User,
                words,
            } => Some(words),
            Body::Message { .. } | Body::Call { .. } | Body::Output { .. } | Body::Other(_) => None,
        });

        spoken.any(|words| words.sound.is_some() && words.text.0.is_empty())
    }

    /// Tells whether the provider has the whole of all there is.
    pub(super) fn is_complete(&self) -> bool {
        self.entries.iter().all(|entry| entry.done)
    }

    /// Brings a link from what it was told to what there is: the rest, and what has changed. What is
    /// being said just now is told when it is complete.
    pub(super) fn restore(&self, told: &Told) -> (Vec<ToVoice>, Told) {
        let summary = self
            .summary
            .item()
            .map(|item| (item, self.summary.revision(), None));
        let items = self.entries.iter().filter(|entry| entry.done).map(|entry| {
            let sound = entry.sound.clone();
            (entry.item.clone(), entry.revision, sound)
        });
        let wanted: Vec<_> = summary.into_iter().chain(items).collect();
        let is_wanted = |(id, revision): &(ItemId, u32)| {
            wanted
                .iter()
                .any(|(item, now, _)| item.id == *id && now == revision)
        };
        let (kept, stale): (Vec<_>, Vec<_>) = told.items.iter().cloned().partition(is_wanted);
        let stale: Vec<_> = stale.into_iter().map(|(id, _)| id).collect();
        let mut messages: Vec<_> = stale.iter().cloned().map(ToVoice::Delete).collect();

        let mut after = None;
        let mut known = Told {
            items: vec![],
            stale: [told.stale.as_slice(), &stale].concat(),
        };
        for (item, revision, sound) in wanted {
            let id = item.id.clone();
            if !kept.iter().any(|(kept, _)| *kept == id) {
                messages.push(ToVoice::Restore(Restored { item, after, sound }));
            }
            after = Some(id.clone());
            known.items.push((id, revision));
        }

        (messages, known)
    }

    /// Tells this link anew of an item that it was told of, as it is now.
    pub(super) fn rewrite(&self, item: &ItemId, told: &Told, link: u64) -> ToVoice {
        let deletion = ToVoice::Delete(item.clone());
        let Some(index) = self.index(item) else {
            return deletion;
        };
        let before = index
            .checked_sub(1)
            .map(|before| self.entries[before].item.id.clone());
        let restored = Restored {
            item: self.entries[index].item.clone(),
            after: before.or_else(|| self.before_all(told, link)),
            sound: None,
        };

        ToVoice::All(vec![deletion, ToVoice::Restore(restored)])
    }

    /// Returns what is kept of it elsewhere: what was said, and not the sound of it.
    pub(super) fn contents(&self) -> (Vec<Item>, Abridged) {
        let done = self.entries.iter().filter(|entry| entry.done);

        (
            done.map(|entry| entry.item.clone()).collect(),
            self.summary.lines(),
        )
    }

    /// Takes what was kept.
    pub(super) fn refill(&mut self, items: Vec<Item>, summary: &Abridged) {
        self.summary = Summary::of(summary);
        self.entries = items.into_iter().map(Entry::own).collect();
        self.fold();
    }

    /// What comes before all of these on a link: the last that was folded, if it has that, or the
    /// summary.
    fn before_all(&self, told: &Told, link: u64) -> Option<ItemId> {
        let folded = self.folded.as_ref();
        let has = |(id, of): &&(ItemId, u64)| *of == link || told.has(id);
        let summary = || self.summary.item().map(|item| item.id);

        folded
            .filter(has)
            .map(|(id, _)| id.clone())
            .or_else(|| summary().filter(|id| told.has(id)))
    }

    pub(super) fn facts(&self) -> (usize, usize) {
        (self.entries.len(), self.summary.len())
    }

    fn fold(&mut self) {
        self.bytes = self.entries.iter().map(Entry::weight).sum();
        while self.entries.len() > self.most || (self.bytes > BYTES && self.entries.len() > 1) {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.weight();
            self.summary.add(&oldest.item.body);
            self.folded = Some((oldest.item.id.clone(), oldest.link));
            if let Body::Call { call: of, .. } = &oldest.item.body {
                let output = |entry: &Entry| matches!(&entry.item.body, Body::Output { call, .. } if call == of);
                if let Some(index) = self.entries.iter().position(output)
                    && let Some(output) = self.entries.remove(index)
                {
                    self.bytes -= output.weight();
                    self.summary.add(&output.item.body);
                }
            }
        }
    }

    fn edit(&mut self, item: &ItemId, edit: impl FnOnce(&mut Entry)) {
        if let Some(index) = self.index(item) {
            let entry = &mut self.entries[index];
            self.bytes -= entry.weight();
            edit(entry);
            self.bytes += entry.weight();
        }
    }

    /// The latest are asked for most.
    fn index(&self, item: &ItemId) -> Option<usize> {
        self.entries
            .iter()
            .rposition(|entry| entry.item.id == *item)
    }
}

impl Told {
    /// Tells whether the link has the item from the relay, or had.
    pub(super) fn knows(&self, item: &ItemId) -> bool {
        self.has(item) || self.stale.contains(item)
    }

    fn has(&self, item: &ItemId) -> bool {
        self.items.iter().any(|(told, _)| told == item)
    }

    /// The link is told to forget the item, be it to be told anew.
    pub(super) fn replace(&mut self, item: ItemId) {
        self.stale.push(item);
    }

    /// Tells whether a link that confirms to have forgotten the item was told to.
    pub(super) fn is_stale(&mut self, item: &ItemId) -> bool {
        let index = self.stale.iter().position(|stale| stale == item);

        index.map(|index| self.stale.remove(index)).is_some()
    }

    /// The item is gone.
    pub(super) fn forget(&mut self, item: &ItemId) {
        self.items.retain(|(told, _)| told != item);
    }
}

impl Entry {
    fn new(item: Item, link: u64) -> Self {
        Self {
            item,
            link,
            done: false,
            revision: 0,
            length: Duration::ZERO,
            cut: false,
            sound: None,
        }
    }

    /// One that the relay has, and no link.
    fn own(item: Item) -> Self {
        Self {
            done: true,
            ..Self::new(item, RELAY)
        }
    }

    /// The provider has the whole of it now.
    fn complete(&mut self, body: Body) {
        self.done = true;
        if self.cut {
            return;
        }
        match (&mut self.item.body, body) {
            (
                Body::Message { words, .. },
                Body::Message {
                    words: Words { text, sound },
                    ..
                },
            ) => {
                if !text.0.is_empty() {
                    words.text = text;
                }
                words.sound = words.sound.or(sound);
            }
            (mine, body) => *mine = body,
        }
    }

    fn weight(&self) -> usize {
        self.item.weight()
    }
}

/// Keeps this share of a text, to the end of a word.
fn shorten(text: &mut String, share: f64) {
    let wanted = (text.chars().count() as f64 * share).floor() as usize;
    let end = text
        .char_indices()
        .nth(wanted)
        .map_or(text.len(), |(index, _)| index);
    let in_word = text[end..].starts_with(|next: char| !next.is_whitespace());
    let end = match text[..end].rfind(char::is_whitespace) {
        Some(space) if in_word => space,
        Some(_) => end,
        None if in_word => 0,
        None => end,
    };
    text.truncate(end);
    text.truncate(text.trim_end().len());
}

#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it expects"
)]
mod tests {
    use super::*;
    use crate::core::audio::Format;
    use crate::core::item::Said;
    use proptest::prelude::*;

    #[test]
    fn another_link_is_told_of_all_in_order() {
        let mut history = talk();

        let (messages, _) = history.restore(&Told::default());

        assert_eq!(
            shown(&messages),
            [
                "u1 \"hello there\"",
                "a1 after u1 \"good day to you\"",
                "u2 after a1 \"\" with 300ms"
            ]
        );
        history.answered();
        let (messages, _) = history.restore(&Told::default());
        assert_eq!(shown(&messages)[2], "u2 after a1 \"\"");
    }

    #[test]
    fn a_link_that_was_told_before_is_told_what_is_new_and_what_has_changed() {
        let mut history = talk();
        let (_, told) = history.restore(&Told::default());

        assert!(history.restore(&told).0.is_empty());
        history.cut(&"a1".into(), ms(500));
        history.remove(&"u2".into());
        message(&mut history, "u3", Some("a1"), Role::User, "well");
        let (messages, told) = history.restore(&told);

        assert_eq!(
            shown(&messages),
            [
                "delete a1",
                "delete u2",
                "a1 after u1 \"good day\"",
                "u3 after a1 \"well\""
            ]
        );
        assert!(history.restore(&told).0.is_empty());
    }

    #[test]
    fn an_answer_that_was_not_heard_was_not_given() {
        let mut history = talk();
        history.cut(&"a1".into(), Duration::ZERO);

        let (messages, _) = history.restore(&Told::default());

        assert_eq!(shown(&messages)[1], "u2 after u1 \"\" with 300ms");
        assert_eq!(
            shown(&[history.rewrite(&"a1".into(), &Told::default(), 2)]),
            ["delete a1"]
        );
    }

    #[test]
    fn what_is_late_adds_nothing_to_what_was_cut() {
        let mut history = talk();
        history.cut(&"a1".into(), ms(500));
        say(&mut history, "a1", " and good night");
        history.sound(&"a1".into(), ms(500));
        message(&mut history, "a1", Some("u1"), Role::Assistant, "all of it");

        let rewritten = shown(&[history.rewrite(&"a1".into(), &Told::default(), 2)]);

        assert_eq!(rewritten, ["delete a1", "a1 after u1 \"good day\""]);
    }

    #[test]
    fn the_end_of_what_was_deleted_is_no_news() {
        let mut history = talk();
        history.remove(&"a1".into());
        let item = call("a1", "c1");
        history.note(item, Some(&"u1".into()), Stage::Done, 1);

        assert_eq!(history.facts().0, 2);
    }

    #[test]
    fn what_comes_before_all_is_what_the_link_has() {
        let mut history = History::new(1);
        message(&mut history, "u1", None, Role::User, "hello");
        let (_, told) = history.restore(&Told::default());
        message(&mut history, "a1", Some("u1"), Role::Assistant, "good day");
        let (_, summed_up) = history.restore(&Told::default());

        for (told, link, after) in [
            (&told, 2, "u1"),
            (&Told::default(), 1, "u1"),
            (&summed_up, 2, "item_voxline_summary"),
            (&Told::default(), 2, "the start"),
        ] {
            let ToVoice::All(messages) = history.rewrite(&"a1".into(), told, link) else {
                panic!("it is there");
            };
            let [_, ToVoice::Restore(Restored { after: before, .. })] = &messages[..] else {
                panic!("it is told anew");
            };
            let before = before.as_ref().map_or("the start", ItemId::as_str);
            assert_eq!(before, after);
        }
    }

    #[test]
    fn what_was_being_said_when_the_link_was_lost_counts_as_far_as_it_was_told() {
        let mut history = talk();
        for id in ["silent", "aloud"] {
            let body = Body::Message {
                role: Role::Assistant,
                words: Words::default(),
            };
            let item = Item {
                id: id.into(),
                body,
            };
            history.note(item, Some(&"u2".into()), Stage::Added, 1);
            say(&mut history, id, "words of it");
        }
        history.sound(&"aloud".into(), ms(100));

        assert!(history.break_off());
        history.add_note("n1".into(), "it broke");
        let (messages, _) = history.restore(&Told::default());

        let shown = shown(&messages);
        assert_eq!(shown.len(), 5, "{shown:?}");
        assert_eq!(shown[3], "aloud after u2 \"words of it\"");
        assert_eq!(shown[4], "n1 after aloud \"it broke\"");
        assert!(!history.break_off());
    }

    #[test]
    fn what_is_older_than_the_window_is_summed_up_and_a_call_keeps_its_output() {
        let mut history = History::new(3);
        message(&mut history, "u1", None, Role::User, "what is the weather");
        add(&mut history, call("f1", "c1"), Some("u1"));
        message(&mut history, "u2", Some("f1"), Role::User, "well?");
        add(&mut history, output("o1", "c1"), Some("u2"));
        message(&mut history, "a1", Some("o1"), Role::Assistant, "it rains");

        let (messages, _) = history.restore(&Told::default());

        let shown = shown(&messages);
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown[0].contains("what is the weather"), "{shown:?}");
        assert!(shown[0].contains("weather({})"), "{shown:?}");
        assert!(shown[1].starts_with("u2 after item_voxline_summary"));
        assert_eq!(shown[2], "a1 after u2 \"it rains\"");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut history = History::new(50);
        let mut last = None;
        for index in 0..1_000 {
            let id = format!("i{index}");
            let text = "word ".repeat(10_000);
            message(&mut history, &id, last.as_deref(), Role::User, &text);
            last = Some(id);
        }

        assert!(history.bytes <= BYTES);
        let (items, summary) = history.facts();
        assert!(items <= 6, "{items}");
        assert!(summary <= summary::BYTES, "{summary}");
    }

    proptest! {
        #[test]
        fn a_text_is_cut_between_words_and_to_its_share(text in "[a-zà-ÿ ]{0,60}", share in 0.0..1.0f64) {
            let mut short = text.clone();
            shorten(&mut short, share);
            prop_assert!(text.starts_with(&short));
            prop_assert!(short.chars().count() as f64 <= text.chars().count() as f64 * share);
            let rest = &text[short.len()..];
            prop_assert!(short.is_empty() || rest.is_empty() || rest.starts_with(' '));
        }

        #[test]
        fn a_link_that_is_brought_up_to_date_knows_what_there_is(
            steps in prop::collection::vec((0_u8..6, 0_usize..12), 1..80),
        ) {
            let mut history = History::new(8);
            let mut link: Vec<(ItemId, String)> = vec![];
            let mut told = Told::default();
            let mut next = 0;
            for (act, which) in steps {
                let known = history.entries.get(which).map(|entry| entry.item.id.clone());
                match (act, known) {
                    (0 | 1, after) => {
                        let after = after.or_else(|| history.entries.back().map(|entry| entry.item.id.clone()));
                        next += 1;
                        let id = format!("i{next}");
                        message(&mut history, &id, after.as_ref().map(|id| id.as_str()), Role::Assistant, "some words of it");
                        history.sound(&id.as_str().into(), ms(100));
                    }
                    (2, Some(id)) => history.cut(&id, ms(50)),
                    (3, Some(id)) => history.remove(&id),
                    _ => {
                        let (messages, now) = history.restore(&told);
                        told = now;
                        messages.iter().for_each(|message| apply(&mut link, message));
                        let wanted: Vec<_> = history.summary.item().into_iter()
                            .chain(history.entries.iter().map(|entry| entry.item.clone()))
                            .map(|item| (item.id.clone(), text(&item))).collect();
                        prop_assert_eq!(&link, &wanted);
                    }
                }
            }
        }
    }

    fn apply(link: &mut Vec<(ItemId, String)>, message: &ToVoice) {
        match message {
            ToVoice::Delete(id) => link.retain(|(item, _)| item != id),
            ToVoice::Restore(Restored { item, after, .. }) => {
                let index = after.as_ref().map_or(0, |after| {
                    1 + link.iter().position(|(item, _)| item == after).unwrap()
                });
                link.insert(index, (item.id.clone(), text(item)));
            }
            other => panic!("{other:?}"),
        }
    }

    fn talk() -> History {
        let mut history = History::new(100);
        message(&mut history, "u1", None, Role::User, "hello there");
        message(&mut history, "a1", Some("u1"), Role::Assistant, "");
        say(&mut history, "a1", "good day");
        say(&mut history, "a1", " to you");
        history.sound(&"a1".into(), ms(800));
        let sound = Frame {
            format: Format::Pcm,
            payload: vec![0; 300 * 48].into(),
        };
        history.ask("u2".into(), Some(sound));
        message(&mut history, "u2", Some("a1"), Role::User, "");

        history
    }

    fn say(history: &mut History, item: &str, text: &str) {
        history.say(&Utterance {
            item: item.into(),
            text: text.into(),
            aloud: true,
        });
    }

    fn message(history: &mut History, id: &str, after: Option<&str>, role: Role, text: &str) {
        let body = Body::Message {
            role,
            words: Words {
                text: text.into(),
                sound: None,
            },
        };
        let item = Item {
            id: id.into(),
            body,
        };
        add(history, item, after);
    }

    fn add(history: &mut History, item: Item, after: Option<&str>) {
        let after = after.map(ItemId::from);
        for stage in [Stage::Added, Stage::Done] {
            history.note(item.clone(), after.as_ref(), stage, 1);
        }
    }

    fn call(id: &str, call: &str) -> Item {
        Item {
            id: id.into(),
            body: Body::Call {
                call: call.into(),
                name: "weather".to_owned(),
                arguments: "{}".into(),
            },
        }
    }

    fn output(id: &str, call: &str) -> Item {
        Item {
            id: id.into(),
            body: Body::Output {
                call: call.into(),
                output: "rain".into(),
            },
        }
    }

    fn shown(messages: &[ToVoice]) -> Vec<String> {
        let show = |message: &ToVoice| match message {
            ToVoice::All(messages) => shown(messages),
            ToVoice::Delete(id) => vec![format!("delete {id}")],
            ToVoice::Restore(Restored { item, after, sound }) => {
                let mut line = item.id.to_string();
                if let Some(after) = after {
                    line += &format!(" after {after}");
                }
                line += &format!(" {:?}", text(item));
                if let Some(sound) = sound {
                    line += &format!(" with {:?}", sound.duration());
                }
                vec![line]
            }
            other => panic!("{other:?}"),
        };
        messages.iter().flat_map(show).collect()
    }

    fn text(item: &Item) -> String {
        match &item.body {
            Body::Message { words, .. } => words.text.0.clone(),
            Body::Call {
                arguments: Said(said),
                ..
            }
            | Body::Output {
                output: Said(said), ..
            } => said.clone(),
            Body::Other(json) => json.as_str().to_owned(),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
