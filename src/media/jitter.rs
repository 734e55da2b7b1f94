//! Puts packets in order and decides when each is due.
//!
//! **Invariants:** packets leave in the order of their sequence numbers, each at most once; at
//! most [`CAPACITY`] of them wait.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::media::receiver::Packet;

/// How many packets wait at most: five seconds in 20 ms packets. The oldest makes room.
pub const CAPACITY: usize = 256;

/// How long packets are held back, beyond the fastest one's way, before the jitter is known.
pub const START_DELAY: Duration = Duration::from_millis(40);

/// The least ...
pub const MIN_DELAY: Duration = Duration::from_millis(20);

/// ... and the most that packets are held back once it is.
pub const MAX_DELAY: Duration = Duration::from_millis(120);

/// How far ahead or back a sequence number may be (RFC 3550 appendix A.1); what is farther
/// belongs to another sequence.
const MAX_DROPOUT: i64 = 3_000;
const MAX_MISORDER: i64 = 100;

/// Packets in the order of their sequence numbers.
#[derive(Default)]
pub(crate) struct Queue {
    /// By sequence number, extended past its 16 bits.
    packets: BTreeMap<i64, Packet>,
    /// The highest number seen, ...
    highest: Option<i64>,
    /// ... and the one after the last taken.
    next: Option<i64>,
    /// A packet far from the others: the first of a new sequence if its successor follows.
    stray: Option<Packet>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pushed {
    /// If the queue was full, the oldest had to go: it is as good as lost.
    Queued,
    /// Dropped: it came twice, or after its turn.
    Stale,
    /// Dropped: it has nothing to do with the others, so far.
    Stray,
    /// It starts a new sequence, which has replaced the old one.
    Restarted,
}

impl Queue {
    pub(crate) fn push(&mut self, packet: Packet) -> Pushed {
        let Some(highest) = self.highest else {
            self.insert(i64::from(packet.sequence), packet);
            return Pushed::Queued;
        };
        let ahead = i64::from(packet.sequence.wrapping_sub(highest as u16) as i16);
        if !(-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead) {
            return self.push_far(packet);
        }
        self.stray = None;
        let number = highest + ahead;
        if self.next.is_some_and(|next| number < next) || self.packets.contains_key(&number) {
            return Pushed::Stale;
        }
        self.insert(number, packet);
        if self.packets.len() > CAPACITY {
            self.packets.pop_first();
        }
        Pushed::Queued
    }

    /// Returns the first packet and its extended sequence number.
    pub(crate) fn first(&self) -> Option<(i64, &Packet)> {
        let (number, packet) = self.packets.first_key_value()?;
        Some((*number, packet))
    }

    /// Tells whether any packet is missing before the first.
    pub(crate) fn is_missing_any(&self) -> bool {
        let first = self.packets.keys().next();
        self.next
            .zip(first)
            .is_some_and(|(next, first)| next < *first)
    }

    pub(crate) fn take(&mut self) -> Option<Packet> {
        let (number, packet) = self.packets.pop_first()?;
        self.next = Some(number + 1);
        Some(packet)
    }

    fn push_far(&mut self, packet: Packet) -> Pushed {
        match self.stray.take() {
            Some(stray) if stray.sequence.wrapping_add(1) == packet.sequence => {
                *self = Self::default();
                let first = i64::from(stray.sequence);
                self.insert(first, stray);
                self.insert(first + 1, packet);
                Pushed::Restarted
            }
            Some(_) | None => {
                self.stray = Some(packet);
                Pushed::Stray
            }
        }
    }

    fn insert(&mut self, number: i64, packet: Packet) {
        self.highest = self.highest.max(Some(number));
        self.packets.insert(number, packet);
    }
}

/// Maps the sender's clock to ours.
///
/// The fastest of the recent packets tells how the clocks relate, and as it is the fastest of
/// the *recent* ones, the mapping follows clocks that drift apart. How far the others stay
/// behind it is the jitter, which decides how long packets are held back.
#[derive(Default)]
pub(crate) struct Schedule {
    epoch: Option<Instant>,
    /// Microseconds from a packet's place on the sender's clock to its arrival since `epoch`;
    /// the newest last.
    transits: VecDeque<i64>,
    /// The transit at which packets are due.
    due: i64,
}

impl Schedule {
    /// How many packets are remembered: five seconds in 20 ms packets.
    const MEMORY: usize = 256;

    /// How many tell enough about the jitter.
    const ENOUGH: usize = 50;

    /// Learns from a packet with this timestamp, in ticks of 1/48 ms.
    pub(crate) fn observe(&mut self, timestamp: i64, received: Instant) {
        let epoch = *self.epoch.get_or_insert(received);
        let arrival = received.saturating_duration_since(epoch).as_micros() as i64;
        if self.transits.len() == Self::MEMORY {
            self.transits.pop_front();
        }
        self.transits.push_back(arrival - micros(timestamp));
        self.settle();
    }

    /// Returns when the sound at this timestamp is due.
    pub(crate) fn due(&self, timestamp: i64) -> Option<Instant> {
        let epoch = self.epoch?;
        let due = self.due + micros(timestamp);
        let distance = Duration::from_micros(due.unsigned_abs());
        if due < 0 {
            epoch.checked_sub(distance).or(Some(epoch))
        } else {
            epoch.checked_add(distance)
        }
    }

    /// Forgets all but the newest packet: the clocks have a new relation.
    pub(crate) fn restart(&mut self) {
        self.transits.drain(..self.transits.len().saturating_sub(1));
        self.settle();
    }

    fn settle(&mut self) {
        let mut sorted: Vec<_> = self.transits.iter().copied().collect();
        sorted.sort_unstable();
        let Some(&fastest) = sorted.first() else {
            return;
        };
        let most = sorted[(sorted.len() * 49 / 50).min(sorted.len() - 1)];
        let least_delay = if sorted.len() < Self::ENOUGH {
            START_DELAY
        } else {
            MIN_DELAY
        };
        let delay =
            (most - fastest).clamp(least_delay.as_micros() as i64, MAX_DELAY.as_micros() as i64);
        self.due = fastest + delay;
    }
}

fn micros(ticks: i64) -> i64 {
    // A peer that jumps about may get far, given time.
    ticks.saturating_mul(125) / 6
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn packets_leave_in_order_once_across_the_wrap_around() {
        let mut queue = Queue::default();
        for sequence in [65_534, 0, 65_535, 0, 2, 1, 65_534] {
            queue.push(packet(sequence));
        }
        assert_eq!(taken(&mut queue), [65_534, 65_535, 0, 1, 2]);
    }

    #[test]
    fn what_comes_after_its_turn_is_dropped() {
        let mut queue = Queue::default();
        queue.push(packet(7));
        queue.push(packet(9));
        assert_eq!(taken(&mut queue), [7, 9]);
        assert_eq!(queue.push(packet(8)), Pushed::Stale);
        assert_eq!(queue.push(packet(9)), Pushed::Stale);
        assert_eq!(queue.push(packet(10)), Pushed::Queued);
        assert!(!queue.is_missing_any());
        queue.take();
        queue.push(packet(12));
        assert!(queue.is_missing_any());
    }

    #[test]
    fn a_full_queue_lets_the_oldest_go() {
        let mut queue = Queue::default();
        for sequence in 0..=CAPACITY as u16 {
            assert_eq!(queue.push(packet(sequence)), Pushed::Queued);
        }
        let taken = taken(&mut queue);
        assert_eq!((taken.len(), taken[0]), (CAPACITY, 1));
    }

    #[test]
    fn two_packets_in_a_row_make_a_new_sequence() {
        let mut queue = Queue::default();
        queue.push(packet(100));
        assert_eq!(queue.push(packet(40_000)), Pushed::Stray);
        assert_eq!(queue.push(packet(101)), Pushed::Queued);
        assert_eq!(queue.push(packet(40_001)), Pushed::Stray);
        assert_eq!(queue.push(packet(50_000)), Pushed::Stray);
        assert_eq!(queue.push(packet(50_001)), Pushed::Restarted);
        assert_eq!(taken(&mut queue), [50_000, 50_001]);
    }

    #[test]
    fn a_packet_is_due_its_delay_after_the_fastest_would_have_come() {
        let start = crate::clock::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(0), None);
        for (n, jitter) in (0..200).zip([0, 50, 10, 30].into_iter().cycle()) {
            schedule.observe(
                n * 960,
                start + Duration::from_millis(n as u64 * 20 + jitter),
            );
        }
        let due = schedule.due(200 * 960).unwrap() - start;
        assert_eq!(due, Duration::from_millis(200 * 20 + 50));
    }

    #[test]
    fn after_a_restart_only_the_newest_packet_counts() {
        let start = crate::clock::now();
        let mut schedule = Schedule::default();
        schedule.observe(0, start);
        schedule.observe(960, start + Duration::from_millis(520));
        schedule.restart();
        let due = schedule.due(960).unwrap() - start;
        assert_eq!(due, Duration::from_millis(520) + START_DELAY);
    }

    fn taken(queue: &mut Queue) -> Vec<u16> {
        std::iter::from_fn(|| queue.take())
            .map(|packet| packet.sequence)
            .collect()
    }

    fn packet(sequence: u16) -> Packet {
        Packet {
            sequence,
            timestamp: 0,
            payload: Bytes::new(),
            received: crate::clock::now(),
        }
    }
}
