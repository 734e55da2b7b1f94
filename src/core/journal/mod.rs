//! What happened in a session lately, for whoever has to find out what is wrong with it.
//!
//! **Invariants**
//! - Nothing that people say is in it: names of events, ids, codes, sizes and times only.
//! - At most `capacity` entries are kept; the oldest is forgotten for the next.
//! - What streams (sound, deltas) is one entry for up to [`RUN`], so that the entries cover minutes.

mod course;
mod entry;
mod notes;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use crate::core::journal::course::Course;
pub use crate::core::journal::entry::{Entry, Note, Party, Word};

use crate::core::port::Json;
use crate::core::session::{Effect, Input};

/// The longest time for which one entry stands.
pub const RUN: Duration = Duration::from_secs(10);

/// How many entries back one of the same kind is looked for: several streams run at once.
const NEAR: usize = 8;

/// Tells the name of an event that the session passes on unread.
pub type NameOf = fn(&Json) -> Word;

/// The last events of one session, and how it has gone so far.
#[derive(Clone, Debug)]
pub struct Journal {
    began: Instant,
    capacity: usize,
    name_of: NameOf,
    entries: VecDeque<Entry>,
    forgotten: u64,
    /// What was said to the session last, as a number that counts all entries there ever were.
    heard: Option<(Party, u64)>,
    course: Course,
}

impl Journal {
    pub fn new(capacity: usize, name_of: NameOf, now: Instant) -> Self {
        Self {
            began: now,
            capacity,
            name_of,
            entries: VecDeque::new(),
            forgotten: 0,
            heard: None,
            course: Course::default(),
        }
    }

    /// Notes what the session is told, before it is.
    pub fn hear(&mut self, input: &Input, now: Instant) {
        let at = now.saturating_duration_since(self.began);
        self.course.hear(input, at);
        let note = notes::of_input(input, self.name_of);
        let from = note.from;
        self.heard = Some((from, self.add(note, at)));
    }

    /// Notes what the session says, in answer to what it was told last.
    pub fn say(&mut self, effect: &Effect, now: Instant) {
        let at = now.saturating_duration_since(self.began);
        self.course.say(effect, at);
        if let Some((from, sound)) = notes::passed_on(effect)
            && let Some((heard, number)) = self.heard
            && from == heard
        {
            if let Some(entry) = self.entry(number) {
                entry.passed_on += 1;
                entry.note.length += sound;
            }
            return;
        }
        notes::of_effect(effect, self.name_of, &mut |note| {
            self.add(note, at);
        });
    }

    /// Time has passed: what the session says next answers nobody.
    pub fn tick(&mut self) {
        self.heard = None;
    }

    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many entries are no longer there.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub fn course(&self) -> &Course {
        &self.course
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    fn add(&mut self, note: Note, at: Duration) -> u64 {
        let far = self.entries.len().saturating_sub(NEAR);
        let merged = (far..self.entries.len())
            .rev()
            .find(|index| self.entries[*index].merge(&note, at, RUN));
        if let Some(index) = merged {
            return self.forgotten + index as u64;
        }
        if self.entries.len() >= self.capacity.max(1) {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        self.entries.push_back(Entry::new(note, at));

        self.forgotten + self.entries.len() as u64 - 1
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let index = number.checked_sub(self.forgotten)?;

        self.entries.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    use bytes::Bytes;

    use crate::core::audio::{Format, Frame};
    use crate::core::port::{ClientEvent, FromClient, FromVoice, Notice, State, ToClient, ToVoice};

    const CAPACITY: usize = 32;

    #[test]
    fn streams_that_run_at_once_are_an_entry_each_and_more_every_ten_seconds() {
        let mut journal = Kept::new();
        for frame in 0..1500 {
            journal.at = ms(20 * frame);
            journal.hear_sound();
            journal.play();
        }

        let entries: Vec<&Entry> = journal.journal.entries().collect();
        assert_eq!(entries.len(), 6, "{entries:#?}");
        let [sound, play] = entries[..2] else {
            panic!("two kinds");
        };
        assert_eq!((sound.count, sound.passed_on), (500, 500));
        assert_eq!((sound.at, sound.until), (ms(0), ms(9980)));
        assert_eq!((sound.note.bytes, sound.note.length), (480_000, ms(10_000)));
        assert_eq!((play.count, play.note.length), (500, ms(10_000)));
        assert_eq!(journal.journal.course().audio_in, 1500);
    }

    #[test]
    fn what_is_passed_on_is_told_from_what_is_dropped() {
        let mut journal = Kept::new();
        journal.hear(delta("r1"));
        journal.say(Effect::Everyone(ToClient::Event(json())));
        journal.hear(delta("r1"));

        let entries: Vec<_> = journal.journal.entries().collect();
        assert_eq!(entries.len(), 1, "{entries:#?}");
        assert_eq!((entries[0].count, entries[0].passed_on), (2, 1));
    }

    #[test]
    fn what_is_sent_again_stands_for_itself() {
        let mut journal = Kept::new();
        journal.hear(Input::Voice(FromVoice::Event(json())));
        journal.send_sound();
        journal.journal.tick();
        journal.send_sound();

        let names: Vec<_> = journal.journal.entries().map(name).collect();
        assert_eq!(
            names,
            ["provider event 1", "relay input_audio_buffer.append 2"]
        );
    }

    #[test]
    fn the_oldest_entry_is_forgotten_for_the_next() {
        let mut journal = Kept::new();
        for index in 0..1000 {
            journal.at = ms(index);
            journal.hear(Input::Client(FromClient::Event(ClientEvent::Other, json())));
            journal.say(Effect::Voice(ToVoice::Event(json())));
        }

        assert_eq!(journal.journal.entries().len(), CAPACITY);
        assert_eq!(journal.journal.forgotten(), 1000 - CAPACITY as u64);
        assert!(journal.journal.entries().all(|entry| entry.passed_on == 1));
        assert_eq!(journal.journal.course().client_heard, Some(ms(999)));
    }

    #[test]
    fn a_state_that_is_told_twice_was_entered_once() {
        let mut journal = Kept::new();
        for state in [State::Listening, State::Listening, State::Thinking] {
            journal.say(Effect::Everyone(ToClient::Notice(Notice::State(state))));
        }

        assert_eq!(journal.journal.course().states.count(), 2);
        assert_eq!(journal.journal.course().state(), Some(State::Thinking));
    }

    #[test]
    fn a_word_is_no_sentence() {
        assert_eq!(Word::of("response.done").as_str(), "response.done");
        for text in ["", "two words", "na\u{ef}ve", &"x".repeat(65)] {
            assert_eq!(Word::of(text).as_str(), "?");
        }
    }

    struct Kept {
        journal: Journal,
        origin: Instant,
        at: Duration,
    }

    impl Kept {
        fn new() -> Self {
            let origin = Instant::now();
            Self {
                journal: Journal::new(CAPACITY, |_| Word::new("event"), origin),
                origin,
                at: Duration::ZERO,
            }
        }

        fn hear(&mut self, input: Input) {
            self.journal.hear(&input, self.origin + self.at);
        }

        fn say(&mut self, effect: Effect) {
            self.journal.say(&effect, self.origin + self.at);
        }

        fn hear_sound(&mut self) {
            let received = self.origin + self.at;
            let payload = frame().payload;
            self.hear(Input::Client(FromClient::Audio { payload, received }));
            self.send_sound();
        }

        fn send_sound(&mut self) {
            let received = self.origin + self.at;
            let frame = frame();
            self.say(Effect::Voice(ToVoice::Audio { frame, received }));
        }

        fn play(&mut self) {
            self.say(Effect::Client(ToClient::Play {
                frame: frame(),
                position: self.at,
                due: self.origin + self.at,
                first: false,
            }));
        }
    }

    fn name(entry: &Entry) -> String {
        let note = &entry.note;
        format!("{} {} {}", note.from.name(), note.kind, entry.count)
    }

    fn delta(response: &str) -> Input {
        Input::Voice(FromVoice::Delta {
            response: response.into(),
            said: None,
            json: json(),
        })
    }

    fn json() -> Json {
        Json::from("{}")
    }

    fn frame() -> Frame {
        Frame {
            format: Format::Pcm,
            payload: Bytes::from_static(&[0; 960]),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
