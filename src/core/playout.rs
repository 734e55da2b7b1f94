//! Releases answers at the pace they are heard, and knows what was heard.
//!
//! Providers send sound much faster than it lasts. What has been released cannot be taken back,
//! so little is: the rest waits here. Released sound has a *position* on a timeline that starts
//! with the session and also runs through silence; a WebRTC leg's RTP timestamps are that
//! timeline, and a client's playout reports come back on it.
//!
//! While the device is out of reach ([`Playout::pause`]) nothing is released, and what was on its
//! way to the ear waits again: as far as the ear's delay is known, nobody has heard it. What the
//! ear had reached by then counts as heard, also if the network was dead for a while before that
//! was noticed: such a listener misses some words, and nothing is said twice.
//!
//! **Invariants**
//! - At most `lead`, plus one frame, of sound is released ahead of its position.
//! - heard <= released <= received, for each item; what was taken back counts as not released.
//! - After [`Playout::cut`] nothing received before it is released.

mod reply;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::core::audio::{Format, Frame};
use crate::core::ids::{ItemId, ResponseId};
use crate::core::playout::reply::{FRAME_BYTES, Reply};
use crate::core::port::Played;

/// What is released at once.
pub const FRAME: Duration = Duration::from_millis(20);

/// An ear further behind than this is a mistaken report.
const MAX_EAR_DELAY: Duration = Duration::from_secs(5);

/// How playout behaves.
#[derive(Clone, Copy, Debug)]
pub struct PlayoutConfig {
    /// How far released sound runs ahead of its position.
    pub lead: Duration,
    /// From a position's instant to the ear, until the client reports: network, jitter buffer
    /// and loudspeaker.
    pub ear_delay: Duration,
    /// How much sound may wait.
    pub capacity: Duration,
}

impl Default for PlayoutConfig {
    fn default() -> Self {
        Self {
            lead: Duration::from_millis(40),
            ear_delay: Duration::from_millis(80),
            capacity: Duration::from_secs(600),
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
    ear_delay: Duration,
    waiting: usize,
    replies: VecDeque<Reply>,
    pace: Pace,
}

#[derive(Debug)]
enum Pace {
    Paused,
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
#[derive(Debug, Default)]
pub struct Cut {
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
            ear_delay: config.ear_delay,
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
        let delay = self.position(played.at).checked_sub(played.position);
        if let Some(delay) = delay.filter(|delay| *delay <= MAX_EAR_DELAY) {
            self.ear_delay = delay;
        }
    }

    /// The device is out of reach: what it has not heard waits until it, or another, is there.
    pub fn pause(&mut self, now: Instant) {
        let ear = self.ear(now);
        let items = self.replies.iter_mut().flat_map(|reply| &mut reply.items);
        self.waiting += items.map(|item| item.take_back(ear)).sum::<usize>();
        self.pace = Pace::Paused;
    }

    /// There is a device again, of which nothing is known yet.
    pub fn resume(&mut self, now: Instant) {
        self.ear_delay = self.config.ear_delay;
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
        let heard = self.position(now).saturating_sub(MAX_EAR_DELAY);
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
        let ear = self.ear(now);
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
            Pace::Paused => false,
            Pace::Since(_) => self.replies.iter().any(Reply::has_frame),
        };
        let frame = releases.then(|| self.origin + self.end.saturating_sub(self.config.lead));
        let finished = self
            .replies
            .front()
            .and_then(Reply::ends)
            .map(|end| self.origin + end + self.ear_delay);

        [frame, finished].into_iter().flatten().min()
    }

    /// Returns whether nothing waits or sounds.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// Stops everything, and says what was heard.
    pub fn cut(&mut self, now: Instant) -> Cut {
        let ear = self.ear(now);
        let mut cut = Cut::default();
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
    fn ear(&self, now: Instant) -> Duration {
        self.position(now).saturating_sub(self.ear_delay)
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
    fn only_what_the_ear_has_reached_counts_as_heard() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 500);

        let cut = playout.cut(t0 + ms(500));

        assert_eq!(cut.items, [item("a", 420, false)]);
        assert_eq!(cut.silenced, [(ResponseId::from("r"), ms(420))]);
        assert_eq!(drain(&mut playout, t0 + ms(600)), 0, "the rest is gone");
    }

    #[test]
    fn a_report_moves_the_ear() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 1000, t0);
        play(&mut playout, t0, 400);
        playout.report(Played {
            position: ms(100),
            at: t0 + ms(300),
        });

        assert_eq!(playout.cut(t0 + ms(400)).items, [item("a", 200, false)]);
    }

    #[test]
    fn a_hole_in_the_stream_is_not_heard() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 100, t0);
        play(&mut playout, t0, 500);
        push(&mut playout, "r", "a", 100, t0 + ms(500));
        play(&mut playout, t0 + ms(500), 30);

        assert_eq!(playout.cut(t0 + ms(610)).items, [item("a", 130, false)]);
    }

    #[test]
    fn every_item_that_waits_is_covered() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 100, t0);
        push(&mut playout, "r", "b", 100, t0);
        push(&mut playout, "r", "c", 100, t0);
        play(&mut playout, t0, 200);

        let cut = playout.cut(t0 + ms(230));

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

        playout.resume(t0 + ms(5_000));
        let first = playout.poll_frame(t0 + ms(5_000)).unwrap();

        assert_eq!(first.position, ms(5_000));
        assert_eq!(first.due, t0 + ms(5_000), "the wait is no delay");
        assert!(!first.first, "it has begun before");
        let cut = playout.cut(t0 + ms(5_090));
        assert_eq!(cut.items, [item("a", 410, false)], "400 before, 10 after");
    }

    #[test]
    fn a_device_that_takes_over_at_once_gets_what_is_not_heard_later_on_the_timeline() {
        let (mut playout, t0) = playout();
        push(&mut playout, "r", "a", 150, t0);
        playout.finish(&"r".into());
        assert_eq!(play(&mut playout, t0, 200), 8);
        assert_eq!(playout.poll_finished(t0 + ms(200)), None, "not heard");

        playout.pause(t0 + ms(200));
        playout.resume(t0 + ms(200));

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

    fn playout() -> (Playout, Instant) {
        let t0 = Instant::now();

        (Playout::new(PlayoutConfig::default(), t0), t0)
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
