//! Where the time of the turn that is answered goes.
//!
//! The instants of a turn are gathered as they become known: the person's last sound when the
//! provider has heard them stop, the first sound of the answer when it arrives and when it leaves,
//! and where the ear is from what the client reports next. All are on the relay's clock.
//!
//! **Invariants**
//! - The hops of a turn follow each other without a gap: they sum to the total.
//! - A turn is told once, when its first sound has been heard, as far as that is ever known; one
//!   whose answer nobody hears is not told.
//! - What no client has reported is called an estimate.

use std::time::{Duration, Instant};

use crate::core::ids::ResponseId;
use crate::core::latency::{Hop, Measure, Stretch, Transport, TurnTrace};
use crate::core::playout::Hearing;
use crate::core::port::{Notice, Played, Received, Source, Stats, Ways};
use crate::core::session::seat::Seat;
use crate::core::session::{Effect, Playback, Session};
use crate::core::tally::Tally;

/// How long a client may take to report that an answer has begun to sound.
const REPORT_WITHIN: Duration = Duration::from_secs(1);

/// A report of an earlier moment than this tells nothing of an answer's beginning.
const NEAR: Duration = Duration::from_millis(200);

/// A microphone and its driver, where the client does not say.
const MICROPHONE: Duration = Duration::from_millis(20);

/// Where the turn stands, and what is known of the client.
#[derive(Debug, Default)]
pub(super) struct Trace {
    transport: Transport,
    ways: Option<Ways>,
    stats: Stats,
    turn: Turn,
    /// How much of the person's sound there was when an answer was asked for last.
    asked_to: Duration,
    /// An answer that has left, and was not heard yet.
    pending: Option<Pending>,
    /// The answer that sounds, and when the person was last heard before it.
    sounding: Option<(ResponseId, Instant)>,
}

/// What is known of the turn that is being answered.
#[derive(Debug, Default)]
enum Turn {
    /// The person has not spoken since the last answer.
    #[default]
    None,
    /// The person stopped speaking.
    Asked {
        spoken: Spoken,
        stopped_at: Instant,
        /// The response that has begun since.
        answer: Option<ResponseId>,
    },
    /// The answer's first sound has arrived and waits for its release.
    Answered {
        spoken: Spoken,
        stopped_at: Instant,
        arrived_at: Instant,
        answer: ResponseId,
    },
}

/// The person's last sound, on its way to the provider.
#[derive(Clone, Copy, Debug)]
struct Spoken {
    /// How long it waited for the rest of its packet.
    packet: Duration,
    received: Instant,
    /// Whether the relay knows, or the provider was taken at its word.
    source: Source,
    handed: Option<Instant>,
    ways: Option<Ways>,
}

/// An answer whose first sound is on its way to the ear.
#[derive(Debug)]
struct Pending {
    spoken: Spoken,
    stopped_at: Instant,
    arrived_at: Instant,
    answer: ResponseId,
    /// Where on the playout timeline it is, where the relay plays.
    position: Option<Duration>,
    left_at: Instant,
    /// It is waited for until then to be reported.
    until: Instant,
}

impl Trace {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            ..Self::default()
        }
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// Another device is there, of which nothing is known yet.
    pub(super) fn attach(&mut self, transport: Transport) {
        self.transport = transport;
        self.ways = None;
        self.stats = Stats::default();
        self.pending = None;
    }

    pub(super) fn measure(&mut self, ways: Ways) {
        self.ways = Some(ways);
    }

    /// The first sound of an answer has really left.
    pub(super) fn sent(&mut self, position: Duration, at: Instant, now: Instant) {
        if let Some(pending) = &mut self.pending
            && pending.position == Some(position)
        {
            pending.left_at = at.clamp(pending.left_at, now.max(pending.left_at));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.until)
    }

    /// The person speaks: what was asked before is not answered any more.
    pub(super) fn forget(&mut self) {
        self.turn = Turn::None;
    }

    /// The provider begins to answer; returns how long it took to say so.
    pub(super) fn begin(&mut self, response: &ResponseId, now: Instant) -> Option<Duration> {
        let Turn::Asked {
            stopped_at, answer, ..
        } = &mut self.turn
        else {
            return None;
        };
        let first = answer.replace(response.clone()).is_none();

        first.then(|| now.saturating_duration_since(*stopped_at))
    }

    /// Sound of this response has arrived.
    pub(super) fn arrive(&mut self, response: &ResponseId, now: Instant) {
        if let Turn::Asked {
            spoken,
            stopped_at,
            answer: Some(answer),
        } = &self.turn
            && answer == response
        {
            self.turn = Turn::Answered {
                spoken: *spoken,
                stopped_at: *stopped_at,
                arrived_at: now,
                answer: response.clone(),
            };
        }
    }

    fn leave(&mut self, response: &ResponseId, position: Option<Duration>, now: Instant) -> bool {
        let Turn::Answered {
            spoken,
            stopped_at,
            arrived_at,
            answer,
        } = &self.turn
        else {
            return false;
        };
        if answer != response {
            return false;
        }
        self.pending = Some(Pending {
            spoken: *spoken,
            stopped_at: *stopped_at,
            arrived_at: *arrived_at,
            answer: answer.clone(),
            position,
            left_at: now,
            until: now + REPORT_WITHIN,
        });
        self.turn = Turn::None;
        true
    }
}

impl Session {
    /// The person has stopped, as the provider says, at this position of their sound.
    pub(super) fn on_asked(&mut self, at: Duration, handed: Option<Instant>, now: Instant) {
        let silence = self.upstream.latest.silence;
        self.owe(at.saturating_sub(silence), silence, handed, now);
    }

    /// The client asks for an answer, where the provider gives none by itself: what the person has
    /// said since the last one is their turn.
    pub(super) fn on_requested(&mut self, now: Instant) {
        if self.upstream.latest.responds || self.is_direct() {
            return;
        }
        if let Turn::Asked {
            stopped_at,
            answer: None,
            ..
        } = &mut self.trace.turn
        {
            *stopped_at = now;
        } else if self.input.length() > self.trace.asked_to {
            self.owe(self.input.length(), Duration::ZERO, None, now);
        }
    }

    /// An answer is owed to what the person has said, up to this position of their sound.
    fn owe(&mut self, at: Duration, silence: Duration, handed: Option<Instant>, now: Instant) {
        let found = self.input.passed(self.loudness.last_sound(at));
        let spoken = match found {
            Some((received, packet)) => Spoken {
                packet,
                received,
                source: Source::Reported,
                handed: handed
                    .and_then(|handed| self.handed_before(handed, at, received))
                    .filter(|handed| (received..=now).contains(handed)),
                ways: self.trace.ways,
            },
            // Sound that the relay does not carry, or not any more: the provider is taken at its
            // word.
            None => Spoken {
                packet: Duration::ZERO,
                received: now.checked_sub(silence).unwrap_or(now),
                source: Source::Estimated,
                handed: None,
                ways: None,
            },
        };
        self.trace.asked_to = self.input.length();
        self.trace.turn = Turn::Asked {
            spoken,
            stopped_at: now,
            answer: None,
        };
    }

    /// Sound at the position `said` was handed on at `handed`: when it was what was received then.
    fn handed_before(&self, handed: Instant, said: Duration, received: Instant) -> Option<Instant> {
        let (then, _) = self.input.passed(said)?;

        handed.checked_sub(then.saturating_duration_since(received))
    }

    /// The first sound of `response` leaves the relay, for this position of the playout timeline.
    pub(super) fn on_left(
        &mut self,
        response: &ResponseId,
        position: Option<Duration>,
        now: Instant,
    ) {
        self.tell_turn_unreported(now);
        let reports = position.is_some() && matches!(self.seat, Seat::Taken { extended: true });
        if self.trace.leave(response, position, now) && !reports {
            self.tell_turn_unreported(now);
        }
    }

    /// The client says where its ear is.
    pub(super) fn on_played(&mut self, played: Played, now: Instant) {
        self.speaker.report(played);
        self.on_heard(played, now);
    }

    /// The client says how its sound is.
    pub(super) fn on_stats(&mut self, stats: Stats) {
        let received = stats.received.since(self.trace.stats.received);
        self.trace.stats = stats;
        if let Some(jitter_buffer) = stats.jitter_buffer {
            self.record(Measure::JitterBuffer, jitter_buffer, Source::Reported);
        }
        if received != Received::default() {
            self.count(Tally::Received(received));
        }
    }

    fn on_heard(&mut self, played: Played, now: Instant) {
        let Some(pending) = &self.trace.pending else {
            return;
        };
        let Some(first) = pending.position else {
            return;
        };
        if played.position + NEAR < first || played.at < pending.left_at {
            return;
        }
        let source = match played.exact {
            true => Source::Reported,
            false => Source::Estimated,
        };
        let late = self.lateness(played);
        // A report is of one moment; at the same pace the beginning was heard earlier, or will be.
        let heard_at = (played.at + first.saturating_sub(played.position))
            .checked_sub(played.position.saturating_sub(first) + late);
        self.tell_turn(heard_at.unwrap_or(now), source, Duration::ZERO);
    }

    /// By how much a report is older than it says, for its own way here.
    fn lateness(&self, played: Played) -> Duration {
        match self.trace.ways {
            Some(ways) if !played.exact => ways.up,
            _ => Duration::ZERO,
        }
    }

    /// No report has come in time: the turn is told by what is reckoned.
    pub(super) fn tell_turn_in_time(&mut self, now: Instant) {
        if self.trace.poll_timeout().is_some_and(|until| until <= now) {
            self.tell_turn_unreported(now);
        }
    }

    /// There will be no report of the answer that has left, if one has.
    pub(super) fn tell_turn_unreported(&mut self, now: Instant) {
        let Some(pending) = &self.trace.pending else {
            return;
        };
        let left_at = pending.left_at;
        let heard = pending.position.and_then(|first| {
            let Hearing { accuracy, .. } = self.speaker.hearing(now)?;
            Some((self.speaker.heard_at(first)?, accuracy.uncertainty))
        });
        match heard {
            Some((heard_at, uncertainty)) => {
                self.tell_turn(heard_at, Source::Estimated, uncertainty);
            }
            // It plays by itself, and may say how long that takes.
            None => {
                let down = self.trace.ways.map_or(Duration::ZERO, |ways| ways.down);
                let Stats {
                    jitter_buffer,
                    output_latency,
                    ..
                } = self.trace.stats;
                let playback =
                    jitter_buffer.unwrap_or_default() + output_latency.unwrap_or_default();
                self.tell_turn(left_at + down + playback, Source::Estimated, Duration::ZERO);
            }
        }
    }

    /// The first sound of the answer is at the ear at `heard_at`.
    fn tell_turn(&mut self, heard_at: Instant, source: Source, uncertainty: Duration) {
        let Some(pending) = self.trace.pending.take() else {
            return;
        };
        let Pending {
            spoken,
            stopped_at,
            arrived_at,
            left_at,
            ..
        } = pending;
        let hop = |took, source| Some(Stretch { took, source });
        let between = Instant::saturating_duration_since;
        let carried = !self.is_direct();
        let known = carried && spoken.source == Source::Reported;

        // Up to the relay, from the last known instant back.
        let up = spoken.ways.filter(|_| known);
        let capture = self.trace.stats.capture;
        let capture_source = capture.map_or(Source::Estimated, |_| Source::Reported);
        let capture = spoken.packet + capture.unwrap_or(MICROPHONE);
        let before = up.map_or(Duration::ZERO, |ways| ways.up)
            + if known { capture } else { Duration::ZERO };
        let began = spoken.received.checked_sub(before);
        let began = began.unwrap_or(spoken.received);
        // Down to the ear; what the way takes cannot be more than there was time for.
        let heard_at = heard_at.max(left_at);
        let way = between(&heard_at, left_at);
        let down = self.trace.ways.filter(|_| carried);
        let plays = match self.config.playback {
            Playback::Relay(_) => true,
            Playback::Client => self.trace.stats.output_latency.is_some(),
            Playback::Provider => false,
        };
        let downlink = down.map_or(Duration::ZERO, |ways| ways.down.min(way));
        let end = if plays { heard_at } else { left_at + downlink };
        let sources = down.map(|ways| ways.source);
        let playback_source = if sources == Some(Source::Reported) {
            source
        } else {
            Source::Estimated
        };

        let handed = spoken.handed;
        let stop_from = handed.unwrap_or(spoken.received);
        let trace = TurnTrace {
            turn: self.turns + 1,
            response: pending.answer,
            transport: self.trace.transport,
            began,
            hops: [
                hop(capture, capture_source).filter(|_| known),
                up.and_then(|ways| hop(ways.up, ways.source)),
                handed.and_then(|handed| hop(between(&handed, spoken.received), Source::Reported)),
                hop(between(&stopped_at, stop_from), spoken.source),
                hop(between(&arrived_at, stopped_at), Source::Reported),
                hop(between(&left_at, arrived_at), Source::Reported).filter(|_| carried),
                down.and_then(|ways| hop(downlink, ways.source)),
                hop(between(&heard_at, left_at + downlink), playback_source).filter(|_| plays),
            ],
            total: between(&end, began),
            uncertainty: down.map_or(uncertainty, |ways| ways.uncertainty.max(uncertainty)),
        };
        self.turns = trace.turn;
        self.trace.sounding = Some((trace.response.clone(), began));
        self.notice(Notice::Latency(Box::new(trace.clone())));
        self.effects.push_back(Effect::Turn(Box::new(trace)));
    }

    /// An answer has been heard to its end.
    pub(super) fn on_heard_out(&mut self, response: &ResponseId, now: Instant) {
        let pending = self.trace.pending.as_ref();
        if pending.is_some_and(|pending| pending.answer == *response) {
            self.tell_turn_unreported(now);
        }
        let sounding = self
            .trace
            .sounding
            .take_if(|(sounding, _)| sounding == response);
        if let Some((_, began)) = sounding {
            let took = now.saturating_duration_since(began);
            self.record(Measure::FullTurn, took, Source::Reported);
        }
    }

    pub(super) fn record_first_byte(&mut self, response: &ResponseId, now: Instant) {
        if let Some(took) = self.trace.begin(response, now) {
            self.record(Measure::FirstByte, took, Source::Reported);
        }
    }
}

/// The names of hops are their places.
const _: () = assert!(Hop::Capture as usize == 0 && Hop::Playback as usize == 7);
