//! The assistant's sound, whoever plays it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::core::audio::Format;
use crate::core::ids::{ItemId, ResponseId};
use crate::core::playout::{Cut, Full, Hearing, Playout, Release};
use crate::core::port::{Device, Network, Played};
use crate::core::session::Playback;

/// Where sound comes out.
#[derive(Debug)]
pub(super) enum Speaker {
    Relay(Playout),
    /// The client plays at its own pace: all that is known is how long its sound lasts if it
    /// plays at once.
    Client {
        response: Option<ResponseId>,
        done: bool,
        ends: Instant,
    },
    /// The provider plays, and says so: what sounds, or was cut and may not be silent yet, and
    /// since when.
    Provider {
        sounding: Option<(ResponseId, Instant)>,
        cut: Option<(ResponseId, Instant)>,
    },
}

/// Who takes a piece of sound to the ear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Carried {
    ByRelay,
    ByClient,
}

impl Speaker {
    pub(super) fn new(playback: Playback, now: Instant) -> Self {
        match playback {
            Playback::Relay(config) => Self::Relay(Playout::new(config, now)),
            Playback::Client => Self::Client {
                response: None,
                done: false,
                ends: now,
            },
            Playback::Provider => Self::Provider {
                sounding: None,
                cut: None,
            },
        }
    }

    pub(super) fn push(
        &mut self,
        from: &ResponseId,
        item: &ItemId,
        content_index: u32,
        payload: Bytes,
        format: Format,
        now: Instant,
    ) -> Result<Carried, Full> {
        match self {
            Self::Relay(playout) => {
                playout.push(from, item, content_index, payload, now)?;
                Ok(Carried::ByRelay)
            }
            Self::Client {
                response,
                done,
                ends,
            } => {
                *response = Some(from.clone());
                *done = false;
                *ends = (*ends).max(now) + format.duration(payload.len());
                Ok(Carried::ByClient)
            }
            Self::Provider { .. } => Ok(Carried::ByClient),
        }
    }

    /// The provider has begun to play.
    pub(super) fn start(&mut self, response: ResponseId, now: Instant) {
        if let Self::Provider { sounding, .. } = self {
            *sounding = Some((response, now));
        }
    }

    /// The provider has stopped playing; returns how long it has played, if that is known.
    pub(super) fn stop(&mut self, response: &ResponseId, now: Instant) -> Option<Duration> {
        let Self::Provider { sounding, cut } = self else {
            return None;
        };
        let (_, since) = sounding
            .take_if(|(sounding, _)| sounding == response)
            .or_else(|| cut.take_if(|(cut, _)| cut == response))?;

        Some(now.saturating_duration_since(since))
    }

    /// The device is out of reach, and was within it until then.
    pub(super) fn pause(&mut self, reached: Instant) {
        if let Self::Relay(playout) = self {
            playout.pause(reached);
        }
    }

    /// There is a device again.
    pub(super) fn resume(&mut self, device: Device, now: Instant) {
        if let Self::Relay(playout) = self {
            playout.resume(device, now);
        }
    }

    /// The device has heard all up to `heard`, and nothing of what came after.
    pub(super) fn rewind(&mut self, heard: Duration, now: Instant) {
        if let Self::Relay(playout) = self {
            playout.rewind(heard, now);
        }
    }

    pub(super) fn finish_item(&mut self, response: &ResponseId, item: &ItemId) {
        if let Self::Relay(playout) = self {
            playout.finish_item(response, item);
        }
    }

    pub(super) fn finish(&mut self, finished: &ResponseId) {
        match self {
            Self::Relay(playout) => playout.finish(finished),
            Self::Client { response, done, .. } => *done |= response.as_ref() == Some(finished),
            Self::Provider { .. } => {}
        }
    }

    pub(super) fn report(&mut self, played: Played) {
        if let Self::Relay(playout) = self {
            playout.report(played);
        }
    }

    pub(super) fn measure(&mut self, network: Network, now: Instant) {
        if let Self::Relay(playout) = self {
            playout.measure(network, now);
        }
    }

    /// How far behind the ear is, where the relay plays.
    pub(super) fn hearing(&self, now: Instant) -> Option<Hearing> {
        match self {
            Self::Relay(playout) => Some(playout.hearing(now)),
            Self::Client { .. } | Self::Provider { .. } => None,
        }
    }

    /// When the ear hears what is released for this position, where the relay plays.
    pub(super) fn heard_at(&self, position: Duration) -> Option<Instant> {
        match self {
            Self::Relay(playout) => Some(playout.heard_at(position)),
            Self::Client { .. } | Self::Provider { .. } => None,
        }
    }

    /// Has the sound wait where the relay plays it; returns what was sounding.
    pub(super) fn hold(&mut self) -> Option<ResponseId> {
        match self {
            Self::Relay(playout) => playout.hold(),
            Self::Client { .. } | Self::Provider { .. } => None,
        }
    }

    /// The sound waits no longer.
    pub(super) fn let_go(&mut self, now: Instant) {
        if let Self::Relay(playout) = self {
            playout.let_go(now);
        }
    }

    pub(super) fn poll_frame(&mut self, now: Instant) -> Option<Release> {
        match self {
            Self::Relay(playout) => playout.poll_frame(now),
            Self::Client { .. } | Self::Provider { .. } => None,
        }
    }

    /// Returns a response that has been heard to its end.
    pub(super) fn poll_finished(&mut self, now: Instant) -> Option<ResponseId> {
        match self {
            Self::Relay(playout) => playout.poll_finished(now),
            Self::Client {
                response,
                done,
                ends,
            } => {
                if *done && *ends <= now {
                    *response = None;
                    *done = false;
                }
                None
            }
            Self::Provider { .. } => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Relay(playout) => playout.poll_timeout(),
            Self::Client { done, ends, .. } => done.then_some(*ends),
            Self::Provider { .. } => None,
        }
    }

    /// Returns whether nothing sounds or waits to.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            Self::Relay(playout) => playout.is_empty(),
            Self::Client { response, .. } => response.is_none(),
            Self::Provider { sounding, .. } => sounding.is_none(),
        }
    }

    /// Stops the sound; what was heard is known where the relay plays it.
    pub(super) fn cut(&mut self, now: Instant) -> Option<Cut> {
        match self {
            Self::Relay(playout) => Some(playout.cut(now)),
            Self::Client {
                response,
                done,
                ends,
            } => {
                *response = None;
                *done = false;
                *ends = now;
                None
            }
            Self::Provider { sounding, cut } => {
                *cut = sounding.take();
                None
            }
        }
    }
}
