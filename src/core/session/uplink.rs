//! What the person's side has said, and the provider has not taken in: should the link be lost, the
//! next one must be told.
//!
//! Sound is taken in when it has become an item, an event when the provider has answered it. Where
//! the provider detects turns, silence between them is of no use to anybody, but for the last of it.
//!
//! **Invariants**
//! - Sound and events are told anew in the order in which they were said.
//! - At most the set length of sound is kept; the oldest goes first.
//! - At most [`EVENTS`] events wait, of [`EVENT_BYTES`] together. While there is a link the oldest
//!   gives way, which the provider has seen long ago; while there is none, nothing more is taken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::core::audio::{Format, Frame};
use crate::core::port::{ClientEvent, Json, ToVoice};

/// How much sound before the person speaks is kept: a detector hears speech a moment late, and wants
/// what was before it.
const LEAD_IN: Duration = Duration::from_secs(1);

/// Events of the client's that wait for their answers.
pub(super) const EVENTS: usize = 64;

/// How long a provider takes at most to answer an event.
const ANSWERED_BY: Duration = Duration::from_secs(10);

/// What all of them may say.
pub(super) const EVENT_BYTES: usize = 512 << 10;

#[derive(Debug)]
pub(super) struct Uplink {
    /// How much sound is kept.
    most: Duration,
    format: Format,
    /// Where the input ends, on the timeline of the link.
    end: Duration,
    steps: VecDeque<Step>,
    sound: Duration,
    events: usize,
    event_bytes: usize,
    /// Where the sound of the turn begins, while the person speaks.
    turn: Option<Duration>,
}

#[derive(Debug)]
enum Step {
    Sound {
        payload: Bytes,
        /// Where it ends.
        end: Duration,
        received: Instant,
    },
    /// And when the provider was told, or would have been.
    Said(ClientEvent, Json, Instant),
}

/// There is no link, and enough waits for one.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Full;

impl Uplink {
    pub(super) fn new(most: Duration) -> Self {
        Self {
            most: most.max(LEAD_IN),
            format: Format::default(),
            end: Duration::ZERO,
            steps: VecDeque::new(),
            sound: Duration::ZERO,
            events: 0,
            event_bytes: 0,
            turn: None,
        }
    }

    /// Takes sound. `detects` if the provider tells turns from silence by itself.
    pub(super) fn hear(&mut self, frame: &Frame, received: Instant, detects: bool) {
        if frame.format != self.format {
            self.format = frame.format;
            self.drop_sound(Duration::MAX);
        }
        let length = frame.duration();
        self.end += length;
        self.sound += length;
        self.steps.push_back(Step::Sound {
            payload: frame.payload.clone(),
            end: self.end,
            received,
        });
        let most = match self.turn {
            None if detects => LEAD_IN.min(self.most),
            None | Some(_) => self.most,
        };
        if self.sound > most {
            self.drop_sound(self.end.saturating_sub(most));
        }
    }

    /// Takes an event. Those that nothing depends on are only kept while there is no link.
    pub(super) fn say(
        &mut self,
        event: ClientEvent,
        json: &Json,
        linked: bool,
        now: Instant,
    ) -> Result<(), Full> {
        if linked && event == ClientEvent::Other {
            return Ok(());
        }
        let bytes = json.as_str().len();
        while self.events >= EVENTS || self.event_bytes + bytes > EVENT_BYTES {
            if !linked || !self.drop_oldest_event() {
                return Err(Full);
            }
        }
        self.events += 1;
        self.event_bytes += bytes;
        self.steps.push_back(Step::Said(event, json.clone(), now));

        Ok(())
    }

    /// The person speaks, from this position of the input on.
    pub(super) fn begin_turn(&mut self, at: Duration) {
        self.turn = Some(at);
        self.split(at);
        self.drop_sound(at);
    }

    /// The provider has made an item of what it heard, up to this position if it was its own
    /// detector that ended the turn; returns the sound of it.
    pub(super) fn commit(&mut self, until: Option<Duration>) -> Option<Frame> {
        self.turn = None;
        let commanded = self
            .steps
            .iter()
            .position(|step| is_said(step, ClientEvent::CommitAudio));
        let until = match (commanded, until) {
            (Some(index), _) => {
                let before = self.steps.range(..index).rev();
                before.filter_map(end).next().unwrap_or_default()
            }
            (None, until) => until.unwrap_or(Duration::MAX),
        };
        self.answered(ClientEvent::CommitAudio);
        self.split(until);
        let mut sound = BytesMut::new();
        for step in &self.steps {
            if let Step::Sound { payload, end, .. } = step
                && *end <= until
            {
                sound.extend_from_slice(payload);
            }
        }
        self.drop_sound(until);

        (!sound.is_empty()).then(|| Frame {
            format: self.format,
            payload: sound.freeze(),
        })
    }

    /// The provider has dropped what it heard.
    pub(super) fn clear(&mut self) {
        let commanded = self
            .steps
            .iter()
            .position(|step| is_said(step, ClientEvent::ClearAudio));
        let until = match commanded {
            Some(index) => self.steps.range(..index).rev().filter_map(end).next(),
            None => Some(Duration::MAX),
        };
        self.answered(ClientEvent::ClearAudio);
        self.turn = None;
        self.drop_sound(until.unwrap_or_default());
    }

    /// A provider that is there has answered by now, if in words that nobody here understands.
    pub(super) fn settle(&mut self, now: Instant) {
        let stale = |step: &Step| match step {
            Step::Said(event, _, told) => (*told + ANSWERED_BY <= now).then_some(*event),
            Step::Sound { .. } => None,
        };
        while self.events > 0
            && let Some(event) = self.steps.iter().find_map(stale)
        {
            self.answered(event);
        }
    }

    /// The provider has answered the earliest event of this kind; returns it.
    pub(super) fn answered(&mut self, event: ClientEvent) -> Option<Json> {
        let index = self.steps.iter().position(|step| is_said(step, event))?;
        let Some(Step::Said(_, json, _)) = self.steps.remove(index) else {
            return None;
        };
        self.events -= 1;
        self.event_bytes -= json.as_str().len();

        Some(json)
    }

    pub(super) fn expects(&self, event: ClientEvent) -> bool {
        self.steps.iter().any(|step| is_said(step, event))
    }

    /// Tells whether any event waits for its answer.
    pub(super) fn expects_any(&self) -> bool {
        self.events > 0
    }

    /// How much sound would be told anew.
    pub(super) fn sound(&self) -> Duration {
        self.sound
    }

    /// How many events would be told anew.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// Tells a new link all of it; the timeline begins anew with what it is told. Calls `heard` with
    /// the length of each piece of sound, and when it was received. What nothing depends on is told
    /// once.
    pub(super) fn retell(
        &mut self,
        now: Instant,
        mut heard: impl FnMut(Duration, Instant),
    ) -> Vec<ToVoice> {
        let mut messages: Vec<ToVoice> = vec![];
        let mut run: Option<(BytesMut, Instant)> = None;
        let (format, mut position) = (self.format, Duration::ZERO);
        let finish = |run: &mut Option<(BytesMut, Instant)>, messages: &mut Vec<ToVoice>| {
            if let Some((sound, received)) = run.take() {
                let payload = sound.freeze();
                let frame = Frame { format, payload };
                messages.push(ToVoice::Audio { frame, received });
            }
        };
        for step in &mut self.steps {
            match step {
                Step::Sound {
                    payload,
                    end,
                    received,
                } => {
                    let length = format.duration(payload.len());
                    position += length;
                    *end = position;
                    heard(length, *received);
                    let (sound, last) = run.get_or_insert_with(|| (BytesMut::new(), *received));
                    sound.extend_from_slice(payload);
                    *last = *received;
                }
                Step::Said(_, json, told) => {
                    *told = now;
                    finish(&mut run, &mut messages);
                    messages.push(ToVoice::Event(json.clone()));
                }
            }
        }
        finish(&mut run, &mut messages);
        self.end = position;
        // What began before is a turn until the new link says where it begins.
        let goes_on = self.turn.is_some() || self.sound > LEAD_IN;
        self.turn = goes_on.then_some(Duration::ZERO);
        while self.answered(ClientEvent::Other).is_some() {}

        messages
    }

    /// Forgets the sound that ends no later than this.
    fn drop_sound(&mut self, until: Duration) {
        let (format, sound) = (self.format, &mut self.sound);
        self.steps.retain(|step| match step {
            Step::Sound { payload, end, .. } if *end <= until => {
                *sound = sound.saturating_sub(format.duration(payload.len()));
                false
            }
            Step::Sound { .. } | Step::Said(..) => true,
        });
    }

    fn drop_oldest_event(&mut self) -> bool {
        let oldest = self.steps.iter().find_map(|step| match step {
            Step::Said(event, ..) => Some(*event),
            Step::Sound { .. } => None,
        });

        oldest.is_some_and(|event| self.answered(event).is_some())
    }

    /// Has a piece of sound end at this position.
    fn split(&mut self, at: Duration) {
        let format = self.format;
        let after = |step: &Step| end(step).is_some_and(|end| end > at);
        let Some(index) = self.steps.iter().position(after) else {
            return;
        };
        let Some(Step::Sound {
            payload,
            end,
            received,
        }) = self.steps.get_mut(index)
        else {
            return;
        };
        let start = end.saturating_sub(format.duration(payload.len()));
        let millis = at.saturating_sub(start).as_millis() as usize;
        let bytes = millis * format.bytes_per_ms();
        if bytes == 0 || bytes >= payload.len() {
            return;
        }
        let first = Step::Sound {
            payload: payload.split_to(bytes),
            end: at,
            received: *received,
        };
        self.steps.insert(index, first);
    }
}

fn is_said(step: &Step, wanted: ClientEvent) -> bool {
    matches!(step, Step::Said(event, ..) if *event == wanted)
}

fn end(step: &Step) -> Option<Duration> {
    match step {
        Step::Sound { end, .. } => Some(*end),
        Step::Said(..) => None,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it expects"
)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_kept_for_a_second_and_speech_to_its_end() {
        let mut uplink = uplink();
        hear(&mut uplink, 5_000, true);
        assert_eq!(uplink.sound(), ms(1_000));

        uplink.begin_turn(ms(4_700));
        hear(&mut uplink, 3_000, true);
        assert_eq!(uplink.sound(), ms(3_300));

        let sound = uplink.commit(Some(ms(7_510))).unwrap();
        assert_eq!(sound.duration(), ms(2_810), "to the millisecond");
        assert_eq!(uplink.sound(), ms(490));
    }

    #[test]
    fn where_nobody_detects_turns_all_is_kept_up_to_the_limit() {
        let mut uplink = uplink();
        hear(&mut uplink, 20_000, false);
        assert_eq!(uplink.sound(), ms(10_000));
    }

    #[test]
    fn a_link_is_told_in_the_order_in_which_it_was_said_and_once_what_asks_for_nothing() {
        let mut uplink = uplink();
        hear(&mut uplink, 40, false);
        say(&mut uplink, ClientEvent::CommitAudio, "commit", true);
        say(&mut uplink, ClientEvent::CreateResponse, "create", true);
        say(&mut uplink, ClientEvent::Other, "gone with its link", true);
        hear(&mut uplink, 60, false);
        say(&mut uplink, ClientEvent::Other, "retrieve", false);

        let mut heard = ms(0);
        let told = shown(&uplink.retell(Instant::now(), |length, _| heard += length));

        assert_eq!(told, ["40ms", "commit", "create", "60ms", "retrieve"]);
        assert_eq!(heard, ms(100));
        let again = shown(&uplink.retell(Instant::now(), |_, _| {}));
        assert_eq!(again, ["40ms", "commit", "create", "60ms"]);
    }

    #[test]
    fn a_commit_takes_the_sound_before_it() {
        let mut uplink = uplink();
        hear(&mut uplink, 40, false);
        say(&mut uplink, ClientEvent::CommitAudio, "commit", true);
        hear(&mut uplink, 60, false);

        let sound = uplink.commit(None).unwrap();

        assert_eq!(sound.duration(), ms(40));
        assert_eq!(shown(&uplink.retell(Instant::now(), |_, _| {})), ["60ms"]);
        assert!(!uplink.expects_any());
    }

    #[test]
    fn a_clearing_drops_the_sound_before_it() {
        let mut uplink = uplink();
        hear(&mut uplink, 40, false);
        say(&mut uplink, ClientEvent::ClearAudio, "clear", true);
        hear(&mut uplink, 60, false);

        uplink.clear();

        assert_eq!(shown(&uplink.retell(Instant::now(), |_, _| {})), ["60ms"]);
    }

    #[test]
    fn positions_begin_anew_with_each_link() {
        let mut uplink = uplink();
        hear(&mut uplink, 5_000, true);
        uplink.retell(Instant::now(), |_, _| {});
        hear(&mut uplink, 200, true);

        uplink.begin_turn(ms(900));
        assert_eq!(
            uplink.sound(),
            ms(300),
            "of the second that was told, and 200"
        );
    }

    #[test]
    fn a_provider_that_is_there_has_answered_after_ten_seconds() {
        let mut uplink = uplink();
        let t0 = Instant::now();
        for (event, at) in [
            (ClientEvent::CreateItem, 0),
            (ClientEvent::CreateResponse, 5_000),
        ] {
            uplink
                .say(event, &"event".into(), true, t0 + ms(at))
                .unwrap();
        }

        uplink.settle(t0 + ms(10_000));

        assert!(!uplink.expects(ClientEvent::CreateItem));
        assert!(uplink.expects(ClientEvent::CreateResponse));
        uplink.retell(t0 + ms(60_000), |_, _| {});
        uplink.settle(t0 + ms(69_999));
        assert!(uplink.expects_any(), "another link has as long");
    }

    #[test]
    fn events_are_bounded() {
        let mut uplink = uplink();
        for index in 0..2 * EVENTS {
            say(
                &mut uplink,
                ClientEvent::CreateItem,
                &index.to_string(),
                true,
            );
        }
        assert_eq!(uplink.events(), EVENTS);
        let first = uplink.answered(ClientEvent::CreateItem).unwrap();
        assert_eq!(first.as_str(), EVENTS.to_string(), "the latest are kept");

        say(&mut uplink, ClientEvent::Other, "fits", false);
        let now = Instant::now();
        let more = uplink.say(ClientEvent::Other, &"more".into(), false, now);
        assert_eq!(more, Err(Full));
        let long = Json::from("x".repeat(EVENT_BYTES + 1));
        assert_eq!(
            uplink.say(ClientEvent::CreateItem, &long, true, now),
            Err(Full)
        );
    }

    fn uplink() -> Uplink {
        Uplink::new(ms(10_000))
    }

    fn hear(uplink: &mut Uplink, millis: usize, detects: bool) {
        let now = Instant::now();
        for _ in 0..millis / 20 {
            let frame = Frame {
                format: Format::Pcm,
                payload: vec![0; 20 * 48].into(),
            };
            uplink.hear(&frame, now, detects);
        }
    }

    fn say(uplink: &mut Uplink, event: ClientEvent, text: &str, linked: bool) {
        uplink
            .say(event, &text.into(), linked, Instant::now())
            .unwrap();
    }

    fn shown(messages: &[ToVoice]) -> Vec<String> {
        let show = |message: &ToVoice| match message {
            ToVoice::Audio { frame, .. } => format!("{:?}", frame.duration()),
            ToVoice::Event(json) => json.as_str().to_owned(),
            other => panic!("{other:?}"),
        };
        messages.iter().map(show).collect()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
