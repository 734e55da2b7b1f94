//! The line-test agent: a partner whose job is to let a person test the line.
//!
//! It understands nothing. It greets, then takes the turns as they come through its repertoire:
//! plays the person's own voice back, tells a story to be interrupted, counts, says the time.
//!
//! **Invariant:** what it says about a turn was measured: how long it lasted, how fast the last
//! answer came, after how many words it was cut.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock;
use crate::sim::agent::{Heard, Occasion, Prompt};
use crate::sim::speech::{Clip, Speech, samples};
use crate::sim::voice::Voice;

/// Between sentences.
const PAUSE: Duration = Duration::from_millis(250);
/// The most of a recording that is played back.
const LONGEST_ECHO: Duration = Duration::from_secs(10);
/// Shorter speech is no test of a line.
const SHORTEST_ECHO: Duration = Duration::from_millis(300);
/// A recording whose peak stays below this, of 32,767, is quiet.
const QUIET: u16 = 1_600;
/// A recording is loud if more than a thousandth of it reaches this.
const CLIPPED: u16 = 32_000;

const STORY: [&str; 14] = [
    "story-intro",
    "story-1",
    "story-2",
    "story-3",
    "story-4",
    "story-5",
    "story-6",
    "story-7",
    "story-8",
    "story-9",
    "story-10",
    "story-11",
    "story-12",
    "story-end",
];
const COUNT_TO: u64 = 30;

pub(crate) struct LineTest {
    voice: Arc<Voice>,
    greeted: bool,
    next: Act,
    performance: Option<Performance>,
}

/// The repertoire, in its order.
#[derive(Clone, Copy)]
enum Act {
    Echo,
    Story,
    Count,
    Time,
}

/// An answer that was meant to be interrupted.
struct Performance {
    item_id: String,
    kind: Kind,
    words: usize,
    /// How many words were heard, if not all.
    cut: Option<usize>,
}

enum Kind {
    Story,
    /// The numbers come after this many words.
    Count {
        after: usize,
    },
}

impl LineTest {
    pub(crate) fn new(voice: Arc<Voice>) -> Self {
        Self {
            voice,
            greeted: false,
            next: Act::Echo,
            performance: None,
        }
    }

    pub(crate) fn answer(&mut self, prompt: Prompt<'_>) -> Speech {
        let mut speech = Speech::default();
        let asked_for_more = matches!(prompt.occasion, Occasion::Answered(_));
        if !self.greeted && !asked_for_more {
            self.greeted = true;
            self.say(&mut speech, "greeting");
            return speech;
        }
        if let Some(performance) = self.performance.take() {
            self.review(&mut speech, &performance);
        }
        match &prompt.occasion {
            Occasion::Spoken(heard) => self.perform(&mut speech, heard, &prompt),
            Occasion::Typed(_) => self.say(&mut speech, "text-only"),
            Occasion::Answered(outputs) => self.tell(&mut speech, outputs),
            Occasion::Silence => self.say(&mut speech, "still-there"),
            Occasion::Asked => self.say(&mut speech, "say-something"),
        }
        speech
    }

    pub(crate) fn aside(&self) -> Speech {
        let mut speech = Speech::default();
        self.say(&mut speech, "listening");
        speech
    }

    pub(crate) fn on_cut(&mut self, item_id: &str, words: usize) {
        if let Some(performance) = &mut self.performance
            && performance.item_id == item_id
            && words < performance.cut.unwrap_or(performance.words)
        {
            performance.cut = Some(words);
        }
    }

    fn perform(&mut self, speech: &mut Speech, heard: &Heard, prompt: &Prompt<'_>) {
        match self.next {
            Act::Echo if heard.lasted < SHORTEST_ECHO => self.say(speech, "very-short"),
            Act::Echo => {
                self.echo(speech, heard, prompt.answered_in);
                self.next = Act::Story;
            }
            Act::Story => {
                for line in STORY {
                    self.say(speech, line);
                }
                self.perform_until_cut(speech, Kind::Story, prompt.item_id);
                self.next = Act::Count;
            }
            Act::Count => {
                self.say(speech, "counting-intro");
                speech.pause(PAUSE);
                let after = speech.words().len();
                for number in 1..=COUNT_TO {
                    speech.push(self.voice.clip(&format!("count-{number}")));
                    speech.pause(PAUSE);
                }
                self.perform_until_cut(speech, Kind::Count { after }, prompt.item_id);
                self.next = Act::Time;
            }
            Act::Time => {
                self.tell_time(speech, prompt.wall);
                self.say(speech, "hint-echo");
                self.next = Act::Echo;
            }
        }
    }

    /// Shows what tools answered; there is no clip that could say it.
    fn tell(&self, speech: &mut Speech, outputs: &[String]) {
        self.say(speech, "test-ok");
        for output in outputs {
            let silence = Arc::new(Clip::sound(vec![0; samples(PAUSE)]));
            speech.push_sound(silence, &format!("[tool: {output}]"));
        }
    }

    fn echo(&self, speech: &mut Speech, heard: &Heard, answered_in: Option<Duration>) {
        let sound = &heard.sound.pcm;
        let longest = samples(LONGEST_ECHO);
        self.say(
            speech,
            if sound.len() > longest {
                "echo-tail"
            } else {
                "echo-intro"
            },
        );
        speech.pause(PAUSE);
        let tail = if sound.len() > longest {
            Arc::new(Clip::sound(sound[sound.len() - longest..].to_vec()))
        } else {
            Arc::clone(&heard.sound)
        };
        speech.push_sound(tail, "[your voice]");
        speech.pause(PAUSE);
        self.report(speech, heard.lasted, answered_in);
        match level(sound) {
            Level::Quiet => self.say(speech, "quiet"),
            Level::Loud => self.say(speech, "loud"),
            Level::Good => {}
        }
    }

    /// "I heard you for 3.2 seconds, and I answered in 420 milliseconds."
    fn report(&self, speech: &mut Speech, lasted: Duration, answered_in: Option<Duration>) {
        let tenths = (lasted.as_millis() as u64 + 50) / 100;
        speech.push(self.voice.clip("heard-you-for"));
        self.say_number(speech, tenths / 10);
        if !tenths.is_multiple_of(10) {
            speech.push(self.voice.clip("point"));
            self.say_number(speech, tenths % 10);
        }
        let unit = if tenths == 10 { "second" } else { "seconds" };
        match answered_in {
            Some(answered_in) => {
                speech.push(self.voice.clip(unit));
                speech.push(self.voice.clip("i-answered-in"));
                self.say_number(speech, answered_in.as_millis() as u64);
                speech.push(self.voice.clip("milliseconds-end"));
            }
            None => speech.push(self.voice.clip(&format!("{unit}-end"))),
        }
    }

    /// "You interrupted me after 17 words." "I counted to 12."
    fn review(&self, speech: &mut Speech, performance: &Performance) {
        let Some(words) = performance.cut else {
            return self.say(speech, "not-cut");
        };
        match performance.kind {
            Kind::Count { after } if words > after => {
                speech.push(self.voice.clip("counted-to"));
                self.say_number(speech, (words - after) as u64);
            }
            Kind::Story | Kind::Count { .. } => {
                speech.push(self.voice.clip("cut-after"));
                self.say_number(speech, words as u64);
                let unit = if words == 1 { "word" } else { "words" };
                speech.push(self.voice.clip(unit));
            }
        }
    }

    /// "The time is 5:03 p.m. UTC."
    fn tell_time(&self, speech: &mut Speech, wall: SystemTime) {
        let minutes = clock::unix(wall) / 60 % (24 * 60);
        let (hour, minute) = (minutes / 60, minutes % 60);
        if !speech.words().is_empty() {
            speech.pause(PAUSE);
        }
        speech.push(self.voice.clip("time-is"));
        self.say_number(speech, (hour + 11) % 12 + 1);
        match minute {
            0 => speech.push(self.voice.clip("oclock")),
            1..=9 => {
                speech.push(self.voice.clip("oh"));
                self.say_number(speech, minute);
            }
            _ => self.say_number(speech, minute),
        }
        if minute != 0 {
            speech.push(self.voice.clip(if hour < 12 { "am" } else { "pm" }));
        }
        speech.push(self.voice.clip("utc"));
    }

    fn say_number(&self, speech: &mut Speech, number: u64) {
        for id in number_clips(number) {
            speech.push(self.voice.clip(&id));
        }
    }

    /// Says a whole sentence, set off from the one before.
    fn say(&self, speech: &mut Speech, id: &str) {
        if !speech.words().is_empty() {
            speech.pause(PAUSE);
        }
        speech.push(self.voice.clip(id));
    }

    fn perform_until_cut(&mut self, speech: &Speech, kind: Kind, item_id: &str) {
        self.performance = Some(Performance {
            item_id: item_id.to_owned(),
            kind,
            words: speech.words().len(),
            cut: None,
        });
    }
}

enum Level {
    Quiet,
    Good,
    Loud,
}

fn level(pcm: &[i16]) -> Level {
    let peak = pcm.iter().map(|sample| sample.unsigned_abs()).max();
    let clipped = pcm.iter().filter(|sample| sample.unsigned_abs() >= CLIPPED);
    if peak < Some(QUIET) {
        Level::Quiet
    } else if clipped.count() * 1_000 > pcm.len() {
        Level::Loud
    } else {
        Level::Good
    }
}

/// Returns the clips that say a number; beyond 999,999 that is said.
fn number_clips(number: u64) -> Vec<String> {
    let number = number.min(999_999);
    let (thousands, hundreds, rest) = (number / 1_000, number % 1_000 / 100, number % 100);
    let mut clips = Vec::new();
    if thousands > 0 {
        clips.extend(number_clips(thousands));
        clips.push("thousand".to_owned());
    }
    if hundreds > 0 {
        clips.push(format!("n{}", hundreds * 100));
    }
    if rest > 0 || number == 0 {
        clips.push(format!("n{rest}"));
    }
    clips
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn numbers_are_said_as_people_say_them() {
        assert_eq!(number_clips(0), ["n0"]);
        assert_eq!(number_clips(420), ["n400", "n20"]);
        assert_eq!(number_clips(1_005), ["n1", "thousand", "n5"]);
        assert_eq!(number_clips(32_000), ["n32", "thousand"]);
    }

    #[test]
    fn the_agent_greets_echoes_performs_and_says_where_it_was_cut() {
        let mut agent = agent();
        assert!(text(&agent.answer(asked())).starts_with("Hello! This is Voxline's"));
        assert_eq!(
            text(&agent.answer(spoken("item_1", 3_200))),
            "Here is how you sound. [your voice] I heard you for three point two seconds, \
             and I answered in four hundred twenty milliseconds."
        );
        let story = text(&agent.answer(spoken("item_2", 1_000)));
        assert!(story.starts_with("Let me tell you a story."), "{story}");
        agent.on_cut("item_2", 40);
        agent.on_cut("item_2", 17);
        agent.on_cut("item_1", 3);
        let counting = text(&agent.answer(spoken("item_3", 1_000)));
        let expected = "You interrupted me after seventeen words. I will count.";
        assert!(counting.starts_with(expected), "{counting}");
        let time = text(&agent.answer(spoken("item_4", 1_000)));
        assert_eq!(
            time,
            "You let me finish. Thank you for listening. The time is five oh three p.m. UTC. \
             Say something else, and I will play it back again."
        );
    }

    #[test]
    fn counting_that_is_cut_is_reviewed_by_its_number() {
        let mut agent = agent();
        agent.greeted = true;
        agent.next = Act::Count;
        agent.answer(spoken("item_1", 1_000));
        agent.on_cut("item_1", 8 + 12);
        let review = text(&agent.answer(asked()));
        assert!(review.starts_with("I counted to twelve"), "{review}");
    }

    #[test]
    fn a_long_recording_is_played_back_from_its_last_part() {
        let mut agent = agent();
        agent.answer(asked());
        let echo = agent.answer(spoken("item_1", 30_000));
        assert!(text(&echo).starts_with("You spoke for a long time."));
        assert!(echo.samples() < samples(Duration::from_secs(20)));
    }

    #[test]
    fn every_clip_that_the_agent_may_say_is_there() {
        let voice = Voice::shared().unwrap();
        let mut ids: Vec<String> = (1..=COUNT_TO).map(|n| format!("count-{n}")).collect();
        ids.extend((0..1_000).flat_map(number_clips));
        ids.extend(STORY.map(str::to_owned));
        let others = "greeting text-only still-there say-something listening very-short \
            counting-intro test-ok hint-echo echo-tail echo-intro quiet loud heard-you-for point second \
            seconds i-answered-in milliseconds-end second-end seconds-end not-cut counted-to \
            cut-after word words time-is oclock oh am pm utc thousand";
        ids.extend(others.split_whitespace().map(str::to_owned));
        for id in ids {
            assert!(voice.has(&id), "{id}");
        }
    }

    fn agent() -> LineTest {
        LineTest::new(Voice::shared().unwrap())
    }

    fn asked() -> Prompt<'static> {
        prompt("item_0", Occasion::Asked)
    }

    fn spoken(item_id: &str, ms: u64) -> Prompt<'_> {
        let lasted = Duration::from_millis(ms);
        let sound = Arc::new(Clip::sound(vec![8_000; samples(lasted)]));
        prompt(
            item_id,
            Occasion::Spoken(Heard {
                sound,
                lasted,
                ended: clock::now(),
            }),
        )
    }

    fn prompt(item_id: &str, occasion: Occasion) -> Prompt<'_> {
        Prompt {
            item_id,
            occasion,
            answered_in: Some(Duration::from_millis(420)),
            wall: UNIX_EPOCH + Duration::from_secs((17 * 60 + 3) * 60),
        }
    }

    fn text(speech: &Speech) -> String {
        speech.words().iter().map(|word| &*word.text).collect()
    }
}
