//! Releases answers at the pace they are heard, and knows what was heard.
//!
//! Providers send sound much faster than it lasts. What has been released cannot be taken back,
//! so little is: the rest waits here. Released sound has a *position* on a timeline that starts
//! with the session and also runs through silence; a WebRTC leg's RTP timestamps are that
//! timeline, and a client's playout reports come back on it.
//!
//! While the device is out of reach ([`Playout::pause`]) nothing is released, and the ear stays
//! where it was. When it is back what it has not heard is released again, at a later position:
//! what it says itself of where its ear has got to counts, else what was known of its delay.
//!
//! While it is not clear whether the person interrupts ([`Playout::hold`]) nothing is released
//! either. What is out already will be heard, then as after a cut, unless the device drops it
//! ([`PlayoutConfig::flushes`]): it counts as heard.
//!
//! **Invariants**
//! - At most `lead`, plus one frame, of sound is released ahead of its position.
//! - heard <= released <= received, for each item; what was taken back counts as not released.
//! - After [`Playout::cut`] nothing received before it is released.

mod ear;
mod reply;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::core::audio::{Format, Frame};
use crate::core::ids::{ItemId, ResponseId};
pub use crate::core::playout::ear::Hearing;
use crate::core::playout::ear::{Ear, MAX_DELAY};
use crate::core::playout::reply::{FRAME_BYTES, Reply};
use crate::core::port::{Device, Network, Played};

/// What is released at once.
pub const FRAME: Duration = Duration::from_millis(20);

/// How playout behaves.
#[derive(Clone, Copy, Debug)]
pub struct PlayoutConfig {
    /// How far released sound runs ahead of its position.
    pub lead: Duration,
    /// From a position's instant to the ear, until more is known: network, jitter buffer and
    /// loudspeaker.
    pub ear_delay: Duration,
    /// How much sound may wait.
    pub capacity: Duration,
    /// Whether the device drops what it has not played yet when it is told to: a WebRTC client's
    /// jitter buffer does not.
    pub flushes: bool,
}

impl Default for PlayoutConfig {
    fn default() -> Self {
        Self {
            lead: Duration::from_millis(40),
            ear_delay: Duration::from_millis(80),
            capacity: Duration::from_secs(600),
            flushes: false,
        }
    }
}

/// Sound that waits, sounds, or was just heard.
#[derive(Debug)]
pub struct Playout {
    config: PlayoutConfig,
    origin: Instant,
    /// Where released sound ends on the timeline.
    end: Duration,
    ear: Ear,
    waiting: usize,
    replies: VecDeque<Reply>,
    pace: Pace,
}

#[derive(Debug)]
enum Pace {
    /// The ear has got to there, as far as is known.
    Paused {
        ear: Duration,
    },
    Held,
    /// Nothing was due before then.
    Since(Instant),
}

/// Twenty milliseconds for the device.
#[derive(Debug)]
pub struct Release {
    pub response: ResponseId,
    /// Whether this is the first sound of its response.
    pub first: bool,
    pub frame: Frame,
    pub position: Duration,
    /// When it should be released: whatever is later is delay.
    pub due: Instant,
}

/// What a cut left of an item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CutItem {
    pub item: ItemId,
    pub content_index: u32,
    pub heard: Duration,
    /// Whether that was all of it.
    pub whole: bool,
}

/// What a cut stopped.
#[derive(Debug)]
pub struct Cut {
    /// When the ear has heard what is out, and how well that is known.
    pub silent_at: Instant,
    pub hearing: Hearing,
    /// Responses of which something had sounded, with how much.
    pub silenced: Vec<(ResponseId, Duration)>,
    pub items: Vec<CutItem>,
}

/// There is more sound waiting than the limit allows.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("more sound is waiting than may wait")]
pub struct Full;

impl Playout {
    pub fn new(config: PlayoutConfig, now: Instant) -> Self {
        Self {
            config,
            origin: now,
            end: Duration::ZERO,
            ear: Ear::new(config.ear_delay, config.lead),
            waiting: 0,
            replies: VecDeque::new(),
            pace: Pace::Since(now),
        }
    }

    /// Takes sound as it is received.
    pub fn push(
        &mut self,
        response: &ResponseId,
        item: &ItemId,
        content_index: u32,
        payload: Bytes,
        now: Instant,
    ) -> Result<(), Full> {
        let total = self.waiting + payload.len();
        if Format::Pcm.duration(total) > self.config.capacity {
            return Err(Full);
        }
        if payload.is_empty() {
            return Ok(());
        }
        self.waiting = total;
        self.reply(response)
            .item(item, content_index)
            .push(payload, now);

        Ok(())
    }

    /// Nothing more of this item will be received.
    pub fn finish_item(&mut self, response: &ResponseId, item: &ItemId) {
        let items = self
            .replies
            .iter_mut()
            .filter(|reply| reply.response == *response)
            .flat_map(|reply| &mut reply.items);
        for found in items.filter(|found| found.id == *item) {
            found.complete = true;
        }
    }

    /// Nothing more of this response will be received.
    pub fn finish(&mut self, response: &ResponseId) {
        for reply in &mut self.replies {
            if reply.response == *response {
                reply.done = true;
                reply.items.iter_mut().for_each(|item| item.complete = true);
            }
        }
    }

    /// Learns from a client's report how far behind its ear is.
    pub fn report(&mut self, played: Played) {
        if let Some(delay) = self.position(played.at).checked_sub(played.position) {
            self.ear.report(delay, played);
        }
    }

    /// Learns how the network is.
    pub fn measure(&mut self, network: Network, now: Instant) {
        self.ear.measure(network, now);
    }

    /// Returns how far behind the ear is, and how well that is known.
    pub fn hearing(&self, now: Instant) -> Hearing {
        self.ear.hearing(now)
    }

    /// Releases nothing more until [`let_go`](Self::let_go); returns the response that sounds, if
    /// one does and was not held before.
    pub fn hold(&mut self) -> Option<ResponseId> {
        let Pace::Since(_) = self.pace else {
            return None;
        };
        let sounding = self.replies.iter().find(|reply| reply.begun)?;
        self.pace = Pace::Held;

        Some(sounding.response.clone())
    }

    /// Goes on from where it was held.
    pub fn let_go(&mut self, now: Instant) {
        if let Pace::Held = self.pace {
            self.pace = Pace::Since(now);
        }
    }

    /// Returns when the ear hears what is released for `position`.
    pub fn heard_at(&self, position: Duration) -> Instant {
        self.origin + position + self.ear.delay()
    }

    /// Returns when the ear has heard all that is out.
    fn silent_at(&self) -> Instant {
        self.heard_at(self.end)
    }

    /// The device is out of reach, and was within it until then.
    pub fn pause(&mut self, reached: Instant) {
        let ear = self.heard_to(reached);
        self.pace = Pace::Paused { ear };
    }

    /// There is a device again, of which nothing is known but this.
    pub fn resume(&mut self, device: Device, now: Instant) {
        self.go_on(device.heard.unwrap_or_else(|| self.heard_to(now)), now);
        self.config.lead = device.lead;
        self.config.flushes = device.flushes;
        self.ear = Ear::new(device.ear_delay, device.lead);
    }

    /// The device has heard all up to `heard`, and hears nothing of what was released after it.
    pub fn rewind(&mut self, heard: Duration, now: Instant) {
        self.go_on(heard, now);
    }

    fn go_on(&mut self, heard: Duration, now: Instant) {
        let items = self.replies.iter_mut().flat_map(|reply| &mut reply.items);
        self.waiting += items.map(|item| item.take_back(heard)).sum::<usize>();
        self.pace = Pace::Since(now);
    }

    /// Returns the next frame, if it may be released at `now`.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Release> {
        let Pace::Since(resumed) = self.pace else {
            return None;
        };
        let position = self.end.max(self.position(now));
        if position > self.position(now) + self.config.lead {
            return None;
        }
        let allowed = self.origin + self.end.saturating_sub(self.config.lead);
        let heard = self.position(now).saturating_sub(MAX_DELAY);
        let reply = self.replies.iter_mut().find(|reply| reply.has_frame())?;
        let (payload, arrived) = reply.take_frame(position, heard)?;
        let first = !std::mem::replace(&mut reply.begun, true);
        self.waiting = self.waiting.saturating_sub(payload.len());
        self.end = position + FRAME;

        Some(Release {
            response: reply.response.clone(),
            first,
            frame: Frame {
                format: Format::Pcm,
                payload: padded(&payload),
            },
            position,
            due: allowed.max(arrived).max(resumed),
        })
    }

    /// Returns a response that has been heard to its end.
    pub fn poll_finished(&mut self, now: Instant) -> Option<ResponseId> {
        let ear = self.heard_to(now);
        let reply = self.replies.front_mut()?;
        while reply.items.front().is_some_and(|item| item.is_over(ear)) {
            let item = reply.items.pop_front()?;
            reply.gone += item.length();
        }
        if !(reply.done && reply.items.is_empty()) {
            return None;
        }

        self.replies.pop_front().map(|reply| reply.response)
    }

    /// Returns when [`poll_frame`](Self::poll_frame) or [`poll_finished`](Self::poll_finished)
    /// has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let releases = match self.pace {
            Pace::Paused { .. } | Pace::Held => false,
            Pace::Since(_) => self.replies.iter().any(Reply::has_frame),
        };
        let frame = releases.then(|| self.origin + self.end.saturating_sub(self.config.lead));
        let ends = match self.pace {
            Pace::Paused { .. } => None,
            Pace::Held | Pace::Since(_) => self.replies.front().and_then(Reply::ends),
        };
        let finished = ends.map(|end| self.origin + end + self.ear.delay());

        [frame, finished].into_iter().flatten().min()
    }

    /// Returns whether nothing waits or sounds.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// Stops everything, and says what is heard of it in all.
    pub fn cut(&mut self, now: Instant) -> Cut {
        let hearing = self.hearing(now);
        let (ear, silent_at) = if let Pace::Paused { ear } = self.pace {
            (ear, now)
        } else if self.config.flushes {
            let silent_at = now + self.ear.silenced_after();
            (self.heard_to(silent_at), silent_at.min(self.silent_at()))
        } else {
            (self.end, self.silent_at())
        };
        self.let_go(now);
        let mut cut = Cut {
            silent_at,
            hearing,
            silenced: vec![],
            items: vec![],
        };
        for reply in std::mem::take(&mut self.replies) {
            let heard: Duration = reply.items.iter().map(|item| item.heard(ear)).sum();
            if reply.begun {
                cut.silenced
                    .push((reply.response.clone(), reply.gone + heard));
            }
            let items = reply.items.iter().map(|item| CutItem {
                item: item.id.clone(),
                content_index: item.content_index,
                heard: item.heard(ear),
                whole: item.is_over(ear),
            });
            cut.items.extend(items);
        }
        self.waiting = 0;

        cut
    }

    fn reply(&mut self, response: &ResponseId) -> &mut Reply {
        let found = self
            .replies
            .iter()
            .position(|reply| reply.response == *response);
        let index = found.unwrap_or_else(|| {
            self.replies.push_back(Reply::new(response.clone()));
            self.replies.len() - 1
        });

        &mut self.replies[index]
    }

    fn position(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }

    /// What the ear has got to.
    fn heard_to(&self, now: Instant) -> Duration {
        match self.pace {
            Pace::Paused { ear } => ear,
            Pace::Held | Pace::Since(_) => self.position(now).saturating_sub(self.ear.delay()),
        }
    }
}

/// A last, short frame ends in silence.
fn padded(payload: &Bytes) -> Bytes {
    if payload.len() == FRAME_BYTES {
        return payload.clone();
    }
    let mut frame = BytesMut::from(payload.as_ref());
    frame.resize(FRAME_BYTES, 0);

    frame.freeze()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;
    use crate::core::latency::Transport;

    #[test]
    fn a_burst_is_released_at_the_pace_it_is_heard() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 200, t0);

        assert_eq!(drain(&mut playout, t0), 3, "the lead, and a frame");
        assert_eq!(playout.poll_timeout(), Some(t0 + ms(20)));
        assert_eq!(drain(&mut playout, t0 + ms(19)), 0);
        assert_eq!(drain(&mut playout, t0 + ms(20)), 1);
    }

    #[test]
    fn an_item_without_sound_is_not_waited_for() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 200, t0);
        push(&mut playout, "r", "b", 0, t0);
        playout.finish(&"r".into());
        play(&mut playout, t0, 200);

        assert_eq!(playout.poll_timeout(), Some(t0 + ms(280)), "heard");
        assert_eq!(playout.poll_finished(t0 + ms(280)), Some("r".into()));
    }

    #[test]
    fn what_is_out_counts_as_heard_by_a_device_that_plays_it_all_the_same() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 500);

        let cut = playout.cut(t0 + ms(500));

        assert_eq!(cut.items, [item("a", 560, false)]);
        assert_eq!(cut.silenced, [(ResponseId::from("r"), ms(560))]);
        assert_eq!(cut.silent_at, t0 + ms(640));
        assert_eq!(drain(&mut playout, t0 + ms(600)), 0, "the rest is gone");
    }

    #[test]
    fn where_the_ear_is_when_it_is_told_counts_for_a_device_that_drops_the_rest() {
        let (mut playout, t0) = flushing();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 500);

        let cut = playout.cut(t0 + ms(500));

        // What is on the way from the sound card to the air, 40 ms, sounds.
        assert_eq!(cut.items, [item("a", 460, false)]);
        assert_eq!(cut.silent_at, t0 + ms(540));

        let (mut playout, t0) = flushing();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 500);
        playout.measure(network(100), t0 + ms(500));

        // The word is 50 ms on its way, as the sound was; 80 lie in the buffer, 40 on the way to
        // the air; 40 of that were sent ahead.
        let cut = playout.cut(t0 + ms(500));
        assert_eq!(cut.items, [item("a", 460, false)]);
        assert_eq!(cut.silent_at, t0 + ms(590));
    }

    #[test]
    fn a_pause_releases_nothing_and_forgets_nothing() {
        let (mut playout, t0) = playout();
        push_numbered(&mut playout, 500, t0);
        let before = frames(&mut playout, t0 + ms(100));
        assert_eq!(playout.hold(), Some("r".into()));
        assert_eq!(playout.hold(), None, "it is held already");

        assert_eq!(playout.poll_timeout(), None);
        assert!(frames(&mut playout, t0 + ms(900)).is_empty());
        push_numbered(&mut playout, 20, t0 + ms(900));

        playout.let_go(t0 + ms(1_000));
        let after = playout.poll_frame(t0 + ms(1_000)).unwrap();
        assert_eq!((after.position, after.due), (ms(1_000), t0 + ms(1_000)));
        assert!(!after.first, "it has begun before");
        let after = [vec![after.frame], frames(&mut playout, t0 + ms(2_000))].concat();
        let heard = [before, after].concat();
        let payload: Vec<u8> = heard
            .iter()
            .flat_map(|frame| frame.payload.clone())
            .collect();
        assert_eq!(payload, [numbered(500), numbered(20)].concat());
    }

    #[test]
    fn a_pause_before_the_first_sound_is_none() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 100, t0);

        assert_eq!(playout.hold(), None);
        assert_eq!(drain(&mut playout, t0), 3);
    }

    #[test]
    fn what_follows_a_cut_that_ends_a_pause_sounds() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 500, t0);
        drain(&mut playout, t0);
        playout.hold();
        let cut = playout.cut(t0 + ms(300));
        assert_eq!(cut.items, [item("a", 60, false)]);

        push(&mut playout, "s", "b", 100, t0 + ms(400));
        assert_eq!(drain(&mut playout, t0 + ms(400)), 3);
    }

    #[test]
    fn a_report_moves_the_ear() {
        let (mut playout, t0) = flushing();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 400);
        playout.report(Played {
            position: ms(100),
            at: t0 + ms(300),
            exact: false,
        });

        assert_eq!(playout.cut(t0 + ms(360)).items, [item("a", 200, false)]);
    }

    #[test]
    fn a_hole_in_the_stream_is_not_heard() {
        let (mut playout, t0) = flushing();
        push(&mut playout, "r", "a", 100, t0);
        play(&mut playout, t0, 500);
        push(&mut playout, "r", "a", 100, t0 + ms(500));
        play(&mut playout, t0 + ms(500), 30);

        assert_eq!(playout.cut(t0 + ms(570)).items, [item("a", 130, false)]);
    }

    #[test]
    fn every_item_that_waits_is_covered() {
        let (mut playout, t0) = flushing();
        push(&mut playout, "r", "a", 100, t0);
        push(&mut playout, "r", "b", 100, t0);
        push(&mut playout, "r", "c", 100, t0);
        play(&mut playout, t0, 200);

        let cut = playout.cut(t0 + ms(190));

        let expected = [
            item("a", 100, true),
            item("b", 50, false),
            item("c", 0, false),
        ];
        assert_eq!(cut.items, expected);
    }

    #[test]
    fn what_was_on_its_way_to_a_lost_device_waits_and_sounds_again() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 490);
        playout.pause(t0 + ms(490));

        assert_eq!(playout.poll_timeout(), None);
        assert_eq!(drain(&mut playout, t0 + ms(5_000)), 0);

        playout.resume(device(None), t0 + ms(5_000));
        let first = playout.poll_frame(t0 + ms(5_000)).unwrap();

        assert_eq!(first.position, ms(5_000));
        assert_eq!(first.due, t0 + ms(5_000), "the wait is no delay");
        assert!(!first.first, "it has begun before");
        let cut = playout.cut(t0 + ms(5_090));
        assert_eq!(cut.items, [item("a", 420, false)], "400 before, 20 after");
    }

    #[test]
    fn a_device_that_takes_over_at_once_gets_what_is_not_heard_later_on_the_timeline() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 150, t0);
        playout.finish(&"r".into());
        assert_eq!(play(&mut playout, t0, 200), 8);
        assert_eq!(playout.poll_finished(t0 + ms(200)), None, "not heard");

        playout.pause(t0 + ms(200));
        playout.resume(device(None), t0 + ms(200));

        let again = playout.poll_frame(t0 + ms(200)).unwrap();
        assert_eq!(again.position, ms(200), "after all that was released");
        assert_eq!(play(&mut playout, t0 + ms(200), 200), 1, "30 ms in all");
        assert_eq!(playout.poll_finished(t0 + ms(310)), Some("r".into()));
    }

    #[test]
    fn a_finished_response_is_over_when_it_has_been_heard() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 70, t0);
        playout.finish(&"r".into());

        play(&mut playout, t0, 60);
        assert_eq!(playout.poll_timeout(), Some(t0 + ms(150)));
        assert_eq!(playout.poll_finished(t0 + ms(149)), None);
        assert_eq!(playout.poll_finished(t0 + ms(150)), Some("r".into()));
        assert!(playout.is_empty());
    }

    #[test]
    fn sound_over_the_limit_is_refused_and_what_waits_stays() {
        let t0 = Instant::now();
        let config = PlayoutConfig {
            capacity: ms(100),
            ..PlayoutConfig::default()
        };
        let mut playout = Playout::new(config, t0);
        push(&mut playout, "r", "a", 90, t0);

        let more = playout.push(&"r".into(), &"a".into(), 0, sound(20), t0);

        assert_eq!(more, Err(Full));
        playout.finish(&"r".into());
        assert_eq!(play(&mut playout, t0, 200), 5, "90 ms, in frames");
    }

    #[test]
    fn a_device_that_says_what_it_has_heard_is_believed_whatever_was_reckoned() {
        for said in [100, 460, 9_999] {
            let (mut playout, t0) = playout();
            push(&mut playout, "r", "a", 480, t0);
            playout.finish(&"r".into());
            play(&mut playout, t0, 480);
            playout.pause(t0 + ms(300));

            assert_eq!(playout.poll_timeout(), None, "it waits");
            playout.resume(device(Some(ms(said))), t0 + ms(2_000));

            let frames = play(&mut playout, t0 + ms(2_000), 600);
            let missing = 480_u64.saturating_sub(said);
            assert_eq!(frames, missing.div_ceil(20) as usize, "{said}");
        }
    }

    #[test]
    fn what_is_cut_while_the_device_is_out_of_reach_was_heard_until_it_was() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 600);
        playout.pause(t0 + ms(400));

        assert_eq!(playout.cut(t0 + ms(900)).items, [item("a", 320, false)]);
    }

    #[test]
    fn another_device_has_a_lead_of_its_own() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 1000, t0);
        let far = Device {
            transport: Transport::WebRtc,
            lead: ms(150),
            ..device(None)
        };
        playout.pause(t0);
        playout.resume(far, t0);

        assert_eq!(drain(&mut playout, t0), 8, "the lead, and a frame");
    }

    #[test]
    fn a_device_on_a_line_that_was_dead_for_a_while_hears_on_from_where_it_was() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 800);
        playout.rewind(ms(400), t0 + ms(800));

        assert_eq!(playout.poll_timeout(), Some(t0 + ms(820)));
        let next = playout.poll_frame(t0 + ms(820)).unwrap();
        assert_eq!(next.position, ms(860), "after all that was released");
        play(&mut playout, t0 + ms(820), 140);
        let cut = playout.cut(t0 + ms(960));
        assert_eq!(cut.items, [item("a", 560, false)], "400, and what is out");
    }

    fn device(heard: Option<Duration>) -> Device {
        let PlayoutConfig {
            lead,
            ear_delay,
            flushes,
            ..
        } = PlayoutConfig::default();
        Device {
            transport: Transport::WebRtc,
            lead,
            ear_delay,
            flushes,
            heard,
        }
    }

    fn playout() -> (Playout, Instant) {
        let t0 = Instant::now();

        (Playout::new(PlayoutConfig::default(), t0), t0)
    }

    /// A device that drops what it has not played when it is told to.
    fn flushing() -> (Playout, Instant) {
        let t0 = Instant::now();
        let config = PlayoutConfig {
            flushes: true,
            ..PlayoutConfig::default()
        };

        (Playout::new(config, t0), t0)
    }

    fn network(round_trip: u64) -> Network {
        Network {
            round_trip: ms(round_trip),
            jitter: Duration::ZERO,
        }
    }

    fn push_numbered(playout: &mut Playout, millis: usize, now: Instant) {
        playout
            .push(&"r".into(), &"a".into(), 0, numbered(millis).into(), now)
            .unwrap();
    }

    /// Sound of which each millisecond is told from the next.
    fn numbered(millis: usize) -> Vec<u8> {
        (0..millis).flat_map(|at| [at as u8; 48]).collect()
    }

    fn frames(playout: &mut Playout, until: Instant) -> Vec<Frame> {
        let mut frames = vec![];
        let mut now = until - ms(1_000).min(until - playout.origin);
        while now <= until {
            frames.extend(std::iter::from_fn(|| playout.poll_frame(now)).map(|out| out.frame));
            now += ms(1);
        }

        frames
    }

    fn push(playout: &mut Playout, response: &str, item: &str, millis: usize, now: Instant) {
        playout
            .push(&response.into(), &item.into(), 0, sound(millis), now)
            .unwrap();
    }

    fn play(playout: &mut Playout, from: Instant, millis: u64) -> usize {
        (0..=millis).map(|at| drain(playout, from + ms(at))).sum()
    }

    fn drain(playout: &mut Playout, now: Instant) -> usize {
        std::iter::from_fn(|| playout.poll_frame(now)).count()
    }

    fn item(item: &str, heard: u64, whole: bool) -> CutItem {
        CutItem {
            item: item.into(),
            content_index: 0,
            heard: ms(heard),
            whole,
        }
    }

    fn sound(millis: usize) -> Bytes {
        vec![0; millis * 48].into()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
