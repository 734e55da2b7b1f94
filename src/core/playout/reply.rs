//! The sound of one response, item by item: what waits, what was released, what was heard of it.
//!
//! **Invariants**
//! - heard <= released <= received, for each item; what was taken back counts as not released.
//! - An item's spans are in the order of the timeline, and do not overlap.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::core::audio::Format;
use crate::core::ids::{ItemId, ResponseId};

pub(super) const FRAME_BYTES: usize = 20 * Format::Pcm.bytes_per_ms();

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) response: ResponseId,
    /// Nothing more will be received.
    pub(super) done: bool,
    pub(super) begun: bool,
    pub(super) items: VecDeque<Item>,
    /// How long the items that are already gone were.
    pub(super) gone: Duration,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: ItemId,
    pub(super) content_index: u32,
    pub(super) complete: bool,
    received: usize,
    waiting: VecDeque<(Bytes, Instant)>,
    waiting_bytes: usize,
    /// What was released last, and may not have got to the ear.
    released: VecDeque<Released>,
    /// Where its sound lies on the timeline, in order, without overlaps.
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Released {
    position: Duration,
    payload: Bytes,
    arrived: Instant,
}

#[derive(Debug)]
struct Span {
    position: Duration,
    length: Duration,
}

impl Reply {
    pub(super) fn new(response: ResponseId) -> Self {
        Self {
            response,
            done: false,
            begun: false,
            items: VecDeque::new(),
            gone: Duration::ZERO,
        }
    }

    pub(super) fn item(&mut self, id: &ItemId, content_index: u32) -> &mut Item {
        let found = self
            .items
            .iter()
            .position(|item| item.id == *id && item.content_index == content_index);
        let index = found.unwrap_or_else(|| {
            // Items are spoken one after another.
            self.items.iter_mut().for_each(|item| item.complete = true);
            self.items.push_back(Item {
                id: id.clone(),
                content_index,
                complete: false,
                received: 0,
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                released: VecDeque::new(),
                spans: Vec::new(),
            });
            self.items.len() - 1
        });

        &mut self.items[index]
    }

    pub(super) fn has_frame(&self) -> bool {
        self.current().is_some_and(Item::has_frame)
    }

    pub(super) fn take_frame(
        &mut self,
        position: Duration,
        heard: Duration,
    ) -> Option<(Bytes, Instant)> {
        let item = self.items.iter_mut().find(|item| !item.is_released())?;

        item.take_frame(position, heard)
    }

    /// The item whose turn it is.
    fn current(&self) -> Option<&Item> {
        self.items.iter().find(|item| !item.is_released())
    }

    /// Where it ends on the timeline, once that is known.
    pub(super) fn ends(&self) -> Option<Duration> {
        let all = self.done && self.current().is_none();

        all.then(|| self.items.back().map_or(Duration::ZERO, Item::end))
    }
}

impl Released {
    fn end(&self) -> Duration {
        self.position + Format::Pcm.duration(self.payload.len())
    }
}

impl Item {
    pub(super) fn push(&mut self, payload: Bytes, now: Instant) {
        self.received += payload.len();
        self.waiting_bytes += payload.len();
        self.waiting.push_back((payload, now));
    }

    fn has_frame(&self) -> bool {
        self.waiting_bytes >= FRAME_BYTES || (self.complete && self.waiting_bytes > 0)
    }

    fn is_released(&self) -> bool {
        self.complete && self.waiting_bytes == 0
    }

    /// Takes up to a frame, and says when the last of it arrived. What ended before `heard` has
    /// surely been heard.
    fn take_frame(&mut self, position: Duration, heard: Duration) -> Option<(Bytes, Instant)> {
        let mut frame = BytesMut::with_capacity(FRAME_BYTES);
        let mut arrived = None;
        while frame.len() < FRAME_BYTES
            && let Some((chunk, at)) = self.waiting.front_mut()
        {
            let some = chunk.split_to(chunk.len().min(FRAME_BYTES - frame.len()));
            frame.extend_from_slice(&some);
            arrived = Some(*at);
            if chunk.is_empty() {
                self.waiting.pop_front();
            }
        }
        self.waiting_bytes -= frame.len();
        let (payload, arrived) = (frame.freeze(), arrived?);
        while self.released.front().is_some_and(|out| out.end() <= heard) {
            self.released.pop_front();
        }
        self.released.push_back(Released {
            position,
            payload: payload.clone(),
            arrived,
        });
        self.release(position, Format::Pcm.duration(payload.len()));

        Some((payload, arrived))
    }

    /// Has what the ear has not got to the end of wait again, and says how many bytes that is.
    pub(super) fn take_back(&mut self, ear: Duration) -> usize {
        let mut bytes = 0;
        while self.released.back().is_some_and(|out| out.end() > ear)
            && let Some(unheard) = self.released.pop_back()
        {
            bytes += unheard.payload.len();
            self.unrelease(unheard.position);
            self.waiting.push_front((unheard.payload, unheard.arrived));
        }
        self.waiting_bytes += bytes;

        bytes
    }

    /// Forgets what lies at `position` and after it.
    fn unrelease(&mut self, position: Duration) {
        if let Some(last) = self.spans.last_mut() {
            last.length = position.saturating_sub(last.position);
            if last.length.is_zero() {
                self.spans.pop();
            }
        }
    }

    fn release(&mut self, position: Duration, length: Duration) {
        match self.spans.last_mut() {
            Some(last) if last.position + last.length == position => last.length += length,
            Some(_) | None => self.spans.push(Span { position, length }),
        }
    }

    pub(super) fn length(&self) -> Duration {
        Format::Pcm.duration(self.received)
    }

    pub(super) fn heard(&self, ear: Duration) -> Duration {
        let spans = self.spans.iter();

        spans
            .map(|span| ear.saturating_sub(span.position).min(span.length))
            .sum()
    }

    fn end(&self) -> Duration {
        self.spans
            .last()
            .map_or(Duration::ZERO, |span| span.position + span.length)
    }

    /// Whether all of it has been heard.
    pub(super) fn is_over(&self, ear: Duration) -> bool {
        self.is_released() && self.end() <= ear
    }
}
