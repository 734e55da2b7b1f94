//! From RTP packets as the network delivers them to an even stream of 20 ms PCM frames.
//!
//! **Invariants:** the stream's length follows the sender's RTP clock: what is lost is rebuilt
//! (Opus in-band FEC, then concealment, then silence), what is doubled or comes after its turn
//! is dropped, what the sender pauses is silence. It departs from that clock only
//! - where sound comes after silence has already stood in for it (a stalled network): it is
//!   not lost but follows, up to twice as fast, and
//! - where the clock jumps by more than [`MAX_GAP`] or back: the stream goes on at once.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::media::jitter::{Pushed, Queue, Schedule};
use crate::media::opus::{self, Decoder};
use crate::media::{FRAME_SAMPLES, SAMPLE_RATE};

/// How long a gap is filled; a longer one is skipped.
pub const MAX_GAP: Duration = Duration::from_secs(1);

/// How long, in one go, sound is made up from what came before.
pub const MAX_CONCEALMENT: Duration = Duration::from_millis(100);

/// How long the stream waits for a sender that says nothing before silence stands in.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// How long silence stands in for a sender that says nothing; then the stream rests.
pub const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The least time between frames, when there is something to catch up with.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Ticks of the 48 kHz RTP clock in one sample.
const TICKS: i64 = 48_000 / SAMPLE_RATE as i64;

const MAX_GAP_TICKS: i64 = samples(MAX_GAP) as i64 * TICKS;

/// Less than Opus can code, 2.5 ms: no gap but a sender's rounding.
const ROUNDING: i64 = 120;

/// An RTP packet's payload and the header fields that order it.
#[derive(Clone, Debug)]
pub struct Packet {
    pub sequence: u16,
    /// 48 kHz clock (RFC 7587).
    pub timestamp: u32,
    pub payload: Bytes,
    /// When the datagram was read from the socket.
    pub received: Instant,
}

/// 20 ms of PCM: 480 samples, 24 kHz mono.
#[derive(Clone, Debug)]
pub struct Pcm {
    pub samples: Vec<i16>,
    /// When the packet that carried its end (or, if made up, revealed the gap) was received.
    pub received: Instant,
}

/// What has become of the sound of one RTP stream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Packets that were received.
    pub packets: u64,
    /// Packets that were not, or too late for their place.
    pub lost: u64,
    /// Samples that were handed out.
    pub samples: u64,
    /// Those of them that were made up; what a later packet has a copy of is not.
    pub concealed: u64,
}

/// A jitter buffer and a decoder, for one RTP stream.
pub struct Receiver {
    queue: Queue,
    schedule: Schedule,
    decoder: Decoder,
    /// The timestamp last received, extended past its 32 bits.
    newest: i64,
    /// The extended timestamp up to which the sender's clock has been served.
    head: Option<i64>,
    /// Samples that stand in for a sender that says nothing, not yet counted in `head`.
    filler: usize,
    /// Packets before this one, by extended sequence number, may be late for their place.
    repaired: i64,
    /// Samples made up in one go.
    concealed: usize,
    /// The next frames: less than one, or what a packet left over.
    pcm: Vec<i16>,
    /// When the last of `pcm` was received.
    received: Option<Instant>,
    /// When the last frame was handed out.
    last: Option<Instant>,
    figures: Figures,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    pub fn new() -> Self {
        Self {
            queue: Queue::default(),
            schedule: Schedule::default(),
            decoder: Decoder::new().expect("Opus decodes to 24 kHz mono"),
            newest: 0,
            head: None,
            filler: 0,
            repaired: i64::MIN,
            concealed: 0,
            pcm: Vec::new(),
            received: None,
            last: None,
            figures: Figures::default(),
        }
    }

    /// Returns what has become of the sound so far.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Takes a packet as it comes from the network.
    pub fn push(&mut self, packet: Packet) {
        // Padding to probe the network: it stands at another packet's place.
        if packet.payload.is_empty() {
            return;
        }
        let (timestamp, received) = (packet.timestamp, packet.received);
        match self.queue.push(packet) {
            Pushed::Stray => return,
            // A stale one still tells how late packets may be.
            Pushed::Stale => {}
            Pushed::Queued => self.figures.packets += 1,
            Pushed::Restarted => {
                self.figures.packets += 1;
                self.forget();
            }
        }
        self.newest = self.extended(timestamp);
        self.schedule.observe(self.newest, received);
    }

    /// Returns the next frame that is due at `now`. To be asked until there is none.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Pcm> {
        loop {
            self.poll_timeout().filter(|due| *due <= now)?;
            if self.pcm.len() >= FRAME_SAMPLES {
                self.last = Some(now);
                self.figures.samples += FRAME_SAMPLES as u64;
                return Some(Pcm {
                    samples: self.pcm.drain(..FRAME_SAMPLES).collect(),
                    received: self.received.unwrap_or(now),
                });
            }
            self.advance(now);
        }
    }

    /// Returns when [`poll_frame`](Self::poll_frame) is to be asked next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.queue.first();
        let head = match (self.head, first) {
            (Some(head), _) => head,
            (None, Some((_, packet))) => self.extended(packet.timestamp),
            (None, None) => return None,
        };
        let unheard = self.pcm.len() as i64 - self.filler as i64;
        let mut due = self.schedule.due(head - unheard * TICKS)?;
        if first.is_none() && self.pcm.len() < FRAME_SAMPLES {
            if self.filler >= samples(MAX_PAUSE) {
                return None;
            }
            if self.filler == 0 {
                due += PATIENCE;
            }
        }
        Some(due.max(self.last.map_or(due, |last| last + MIN_INTERVAL)))
    }

    /// Starts over with another stream, as when the SSRC changes.
    pub fn reset(&mut self) {
        self.queue = Queue::default();
        self.forget();
    }

    fn forget(&mut self) {
        self.schedule = Schedule::default();
        self.decoder.reset();
        self.head = None;
        self.filler = 0;
        self.repaired = i64::MIN;
    }

    /// Brings the stream forward by some samples.
    fn advance(&mut self, now: Instant) {
        let Some((number, packet)) = self.queue.first() else {
            self.received = Some(now);
            self.filler += FRAME_SAMPLES;
            return self.make_up(FRAME_SAMPLES);
        };
        self.received = Some(packet.received);
        let at = self.extended(packet.timestamp);
        let payload = packet.payload.clone();
        let ahead = self.settle(at);
        if ahead < -ROUNDING && number < self.repaired {
            // Its place has been filled meanwhile.
            self.queue.take();
        } else if !(-ROUNDING..=MAX_GAP_TICKS).contains(&ahead) {
            self.schedule.restart();
            self.queue.take();
            self.decode(&payload, at);
        } else if ahead < ROUNDING {
            self.queue.take();
            self.decode(&payload, at);
        } else {
            let missing = (ahead / TICKS) as usize;
            let made = if self.queue.is_missing_any() {
                self.repaired = number;
                self.repair(missing, &payload)
            } else {
                let pause = missing.min(FRAME_SAMPLES);
                self.pcm.resize(self.pcm.len() + pause, 0);
                pause
            };
            self.head = Some(at - ahead + made as i64 * TICKS);
        }
    }

    /// Returns how far ahead of the stream this timestamp is, less what has stood in for it.
    fn settle(&mut self, at: i64) -> i64 {
        let ahead = self.head.map_or(0, |head| at - head);
        let filler = std::mem::take(&mut self.filler) as i64 * TICKS;
        let stood_for = filler.min(ahead.max(0));
        if stood_for < filler - ROUNDING {
            // Either the packets or the sender's clock stood still.
            self.schedule.restart();
        }
        ahead - stood_for
    }

    fn decode(&mut self, payload: &[u8], at: i64) {
        // A packet that cannot be decoded is as good as lost: the next one reveals the gap.
        self.head = Some(at);
        if let Ok(pcm) = self.decoder.decode(payload) {
            self.head = Some(at + pcm.len() as i64 * TICKS);
            self.pcm.extend(pcm);
            self.concealed = 0;
        }
    }

    /// Fills at most a frame of a gap before the packet with this payload.
    fn repair(&mut self, missing: usize, next: &[u8]) -> usize {
        self.figures.lost += 1;
        let copied = opus::frame_samples(next).unwrap_or(0);
        if missing == copied
            && let Ok(pcm) = self.decoder.recover(next)
        {
            self.pcm.extend(pcm);
            return missing;
        }
        let uncopied = if missing > copied {
            missing - copied
        } else {
            missing
        };
        let samples = uncopied.min(FRAME_SAMPLES);
        self.figures.concealed += samples as u64;
        self.make_up(samples);
        samples
    }

    fn make_up(&mut self, samples: usize) {
        let silence = self.pcm.len() + samples;
        if self.concealed < self::samples(MAX_CONCEALMENT) {
            self.concealed += samples;
            self.pcm.extend(self.decoder.conceal(samples));
        }
        self.pcm.resize(silence, 0);
    }

    fn extended(&self, timestamp: u32) -> i64 {
        let ahead = timestamp.wrapping_sub(self.newest as u32) as i32;
        self.newest + i64::from(ahead)
    }
}

const fn samples(duration: Duration) -> usize {
    (duration.as_millis() as usize) * SAMPLE_RATE as usize / 1_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::media::fixtures::{energy, human_speech, snr, voice};
    use crate::media::jitter::{CAPACITY, MAX_DELAY};
    use crate::media::opus::Encoder;

    #[test]
    fn a_calm_network_delivers_even_frames_of_what_was_said() {
        let call = Call::new(200);
        let frames = call.heard(|n| Some(n * 20_000 + 30_000));
        assert_eq!(frames.len(), 200);
        assert_same(&pcm(&frames), &call.lossless());
        // The first second still has the delay of a network not yet known.
        for pair in frames[60..].windows(2) {
            assert_eq!(pair[1].0 - pair[0].0, 20_000);
        }
    }

    #[test]
    fn loss_and_jitter_change_neither_length_nor_sense() {
        for seed in 0..5 {
            let mut random = StdRng::seed_from_u64(seed);
            let call = Call::new(500);
            let frames = call.heard(|n| {
                let jitter = random.random_range(0..40_000);
                (n == 0 || !random.random_bool(0.05)).then_some(n * 20_000 + 30_000 + jitter)
            });
            assert!(
                (495..=505).contains(&frames.len()),
                "seed {seed}: {}",
                frames.len()
            );
            let (lossless, heard) = (call.lossless(), pcm(&frames));
            let length = lossless.len().min(heard.len());
            let snr = snr(&lossless[..length], &heard[..length]);
            assert!(snr > 12.0, "seed {seed}: {snr:.1} dB");
        }
    }

    #[test]
    fn what_is_lost_and_made_up_is_counted() {
        let call = Call::new(100);
        let mut receiver = Receiver::new();
        // Of one that is lost the next has a copy, of two the first is made up.
        let arrivals = call.arrivals(|n| {
            let lost = matches!(n % 20, 5 | 6 | 15);
            (!lost).then_some(n * 20_000)
        });

        let heard = play_on(&mut receiver, arrivals, 100 * 20_000 + AFTER);

        let figures = receiver.figures();
        assert_eq!((figures.packets, figures.lost), (85, 15));
        assert_eq!(figures.concealed, 5 * FRAME_SAMPLES as u64);
        assert_eq!(figures.samples, pcm(&heard).len() as u64);
    }

    #[test]
    fn sequence_numbers_and_timestamps_wrap_around() {
        let call = Call::starting(100, 65_500, u32::MAX - 30_000);
        let frames = call.heard(|n| Some(n * 20_000));
        assert_same(&pcm(&frames), &call.lossless());
    }

    #[test]
    fn doubled_and_swapped_packets_are_put_right() {
        let call = Call::new(100);
        let swapped = |n: i64| {
            if n % 2 == 0 {
                n * 20_000 + 25_000
            } else {
                n * 20_000
            }
        };
        let arrivals = call.arrivals(|n| Some(swapped(n)));
        let doubled: Vec<_> = arrivals
            .iter()
            .flat_map(|(at, packet)| [(*at, packet.clone()), (at + 7_000, packet.clone())])
            .collect();
        assert_same(&pcm(&play(doubled, 2_000_000 + AFTER)), &call.lossless());
    }

    #[test]
    fn a_stalled_network_delays_speech_and_loses_none() {
        let call = Call::new(300);
        // Nothing gets through from 1 s to 2.5 s.
        let frames = call.heard(|n| {
            let at = n * 20_000;
            let stalled = (1_000_000..2_500_000).contains(&at);
            Some(if stalled { 2_490_000 + n } else { at })
        });
        // The silence that stood in is extra; what follows is not cut.
        assert!(
            (300 + 65..=300 + 75).contains(&frames.len()),
            "{}",
            frames.len()
        );
        let (heard, lossless) = (pcm(&frames), call.lossless());
        let said = &lossless[50 * FRAME_SAMPLES..];
        let after = &heard[heard.len() - said.len()..];
        let snr = snr(said, after);
        assert!(snr > 15.0, "{snr:.1} dB");
        // It has caught up by the end.
        let behind = frames.last().unwrap().0 - 299 * 20_000;
        assert!(behind <= 40_000, "{behind}");
    }

    #[test]
    fn a_pause_of_the_sender_is_silence_of_the_same_length() {
        let call = Call::new(100).pausing(50, 400_000);
        let frames = call.heard(|n| Some(n * 20_000 + if n < 50 { 0 } else { 400_000 }));
        assert_eq!(frames.len(), 120);
        // Concealment first, then nothing.
        let pause = pcm(&frames[56..69]);
        assert_eq!(energy(&pause), 0.0);
        let pauses: Vec<_> = frames
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0)
            .collect();
        assert!(pauses.iter().all(|pause| *pause <= 120_000), "{pauses:?}");
    }

    #[test]
    fn silence_flows_while_the_sender_says_nothing_and_rests_in_the_end() {
        let call = Call::new(50);
        let arrivals = call.arrivals(|n| Some(n * 20_000));
        let frames = play(arrivals, 60_000_000);
        let pause = MAX_PAUSE.as_millis() as usize / 20;
        assert_eq!(frames.len(), 50 + pause);
        let rested = frames.last().unwrap().0;
        assert!(
            (11_000_000 - 100_000..11_000_000 + 100_000).contains(&rested),
            "{rested}"
        );
    }

    #[test]
    fn a_sender_comes_back_after_an_hour_without_an_hour_of_silence() {
        let hour = 3_600_000_000;
        let call = Call::new(100).pausing(50, hour);
        let frames = call.heard(|n| Some(n * 20_000 + if n < 50 { 0 } else { hour }));
        assert_eq!(frames.len(), 100 + MAX_PAUSE.as_millis() as usize / 20);
        let again = frames[frames.len() - 50].0 - (hour + 1_000_000);
        assert!((0..200_000).contains(&again), "{again}");
    }

    #[test]
    fn a_clock_that_jumps_without_a_pause_is_followed_at_once() {
        for jump in [5_000_000, -5_000_000, 2_000_000_000] {
            let call = Call::new(200).pausing(50, jump);
            let frames = call.heard(|n| Some(n * 20_000));
            assert_eq!(frames.len(), 200, "{jump}");
            assert_same(&pcm(&frames), &call.lossless());
            let last = frames.last().unwrap().0;
            assert!(last < 199 * 20_000 + 60_000, "{jump}: {last}");
        }
    }

    #[test]
    fn a_clock_that_stood_still_during_a_pause_loses_nothing() {
        let call = Call::new(200);
        let frames = call.heard(|n| Some(n * 20_000 + if n < 50 { 0 } else { 3_000_000 }));
        assert!((345..=350).contains(&frames.len()), "{}", frames.len());
        let last = frames.last().unwrap().0;
        assert!(last < 3_000_000 + 199 * 20_000 + 60_000, "{last}");
    }

    #[test]
    fn a_new_sequence_replaces_the_old_one() {
        let (old, new) = (Call::new(50), Call::starting(50, 40_000, 3_000_000_000));
        let mut arrivals = old.arrivals(|n| Some(n * 20_000));
        arrivals.extend(new.arrivals(|n| Some(1_000_000 + n * 20_000)));
        let frames = play(arrivals, 2_000_000 + AFTER);
        // What was still waiting is gone.
        assert!((95..=100).contains(&frames.len()), "{}", frames.len());
        let tail = 45 * FRAME_SAMPLES;
        let heard = pcm(&frames);
        assert_eq!(
            heard[heard.len() - tail..],
            new.lossless()[5 * FRAME_SAMPLES..]
        );
    }

    #[test]
    fn one_packet_from_elsewhere_changes_nothing() {
        let call = Call::new(100);
        let mut arrivals = call.arrivals(|n| Some(n * 20_000));
        let mut stray = arrivals[50].clone();
        stray.1.sequence = stray.1.sequence.wrapping_add(20_000);
        stray.1.timestamp = 77;
        arrivals.push(stray);
        assert_same(&pcm(&play(arrivals, 1_980_000 + AFTER)), &call.lossless());
    }

    #[test]
    fn padding_between_packets_changes_nothing() {
        let call = Call::new(100);
        let mut arrivals = call.arrivals(|n| Some(n * 20_000));
        for (n, (_, packet)) in arrivals.iter_mut().enumerate() {
            packet.sequence = packet.sequence.wrapping_add(n as u16);
        }
        let padding: Vec<_> = arrivals
            .iter()
            .map(|(at, packet)| {
                let padding = Packet {
                    sequence: packet.sequence.wrapping_add(1),
                    payload: Bytes::new(),
                    ..packet.clone()
                };
                (*at + 1_000, padding)
            })
            .collect();
        arrivals.extend(padding);
        assert_same(&pcm(&play(arrivals, 1_980_000 + AFTER)), &call.lossless());
    }

    #[test]
    fn packets_that_cannot_be_decoded_are_silence_of_their_length() {
        let call = Call::new(100);
        let mut arrivals = call.arrivals(|n| Some(n * 20_000));
        for (_, packet) in &mut arrivals[50..60] {
            // A packet of code 3 must tell how many frames it has.
            packet.payload = Bytes::from_static(&[0xff]);
        }
        let frames = play(arrivals, 1_980_000 + AFTER);
        assert_eq!(frames.len(), 100);
        assert_eq!(energy(&pcm(&frames[50..60])), 0.0);
        assert!(energy(&pcm(&frames[60..])) > 0.0);
    }

    #[test]
    fn after_a_reset_another_stream_follows() {
        let mut receiver = Receiver::new();
        let first = Call::new(50);
        let mut now = 0;
        for (at, packet) in first.arrivals(|n| Some(n * 20_000)) {
            now = at;
            receiver.push(received(packet, at));
            while receiver.poll_frame(instant(at)).is_some() {}
        }
        receiver.reset();
        assert_eq!(receiver.poll_timeout(), None);
        let second = Call::starting(50, 9, 9);
        let arrivals = second.arrivals(|n| Some(now + 20_000 + n * 20_000));
        let frames = play_on(&mut receiver, arrivals, now + 1_000_000 + AFTER);
        assert_same(&pcm(&frames), &second.lossless());
    }

    #[test]
    fn clocks_that_drift_apart_neither_starve_nor_grow_the_buffer() {
        for ppm in [-500, 500] {
            let minutes = 5;
            let count = minutes * 60 * 50;
            let packet = Call::new(2).packets[1].clone();
            let mut receiver = Receiver::new();
            let mut random = StdRng::seed_from_u64(7);
            let mut frames = 0;
            let mut delay = 0..=0;
            for n in 0..count {
                let sent = n * 20_000 + n * 20 * ppm / 1_000;
                let at = sent + random.random_range(0..10_000);
                while let Some(due) = receiver.poll_timeout().filter(|due| *due < instant(at)) {
                    while receiver.poll_frame(due).is_some() {
                        frames += 1;
                        // How long after it was sent the frame came out, once all is settled.
                        let out = micros_since(due) - (frames * 20_000 + frames * 20 * ppm / 1_000);
                        if frames == 1_000 {
                            delay = out..=out;
                        } else if frames > 1_000 {
                            delay = out.min(*delay.start())..=out.max(*delay.end());
                        }
                    }
                }
                let packet = Packet {
                    sequence: n as u16,
                    timestamp: (n * 960) as u32,
                    ..packet.clone()
                };
                receiver.push(received(packet, at));
            }
            assert!((count - frames).abs() < 5, "{ppm} ppm: {frames} of {count}");
            assert!(
                delay.end() - delay.start() < 15_000,
                "{ppm} ppm: {delay:?} µs"
            );
        }
    }

    #[test]
    fn packets_of_other_durations_become_20_ms_frames() {
        for samples in [60, 120, 240, 960, 1_440] {
            let call = Call::of_frames(samples, 4_800 * 5 / samples);
            let step = samples as i64 * 1_000 / 24;
            let frames = call.heard(|n| Some(n * step));
            assert_same(&pcm(&frames), &call.lossless());
        }
    }

    #[test]
    fn a_full_buffer_drops_the_oldest_and_goes_on() {
        let call = Call::new(3 * CAPACITY);
        let mut receiver = Receiver::new();
        for (_, packet) in call.arrivals(|_| Some(0)) {
            receiver.push(received(packet, 0));
        }
        let mut frames = 0;
        while let Some(due) = receiver
            .poll_timeout()
            .filter(|due| *due < instant(AFTER * 100))
        {
            frames += usize::from(receiver.poll_frame(due).is_some());
        }
        assert_eq!(frames, CAPACITY + MAX_PAUSE.as_millis() as usize / 20);
    }

    #[test]
    fn more_jitter_means_more_delay_within_bounds() {
        let delays: Vec<_> = [0, 60_000, 500_000]
            .map(|jitter| {
                let mut random = StdRng::seed_from_u64(3);
                let call = Call::new(500);
                let frames = call.heard(|n| Some(n * 20_000 + random.random_range(0..=jitter)));
                frames[400].0 - 400 * 20_000
            })
            .into();
        assert_eq!(delays[0], 20_000);
        assert!((50_000..80_000).contains(&delays[1]), "{delays:?}");
        assert!(
            delays[2] <= MAX_DELAY.as_micros() as i64 + 40_000,
            "{delays:?}"
        );
    }

    proptest! {
        #[test]
        fn no_packets_panic_it_or_make_it_run_away(
            packets in prop::collection::vec(
                (any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40), 0i64..100_000),
                0..60,
            ),
            near in any::<bool>(),
        ) {
            let mut at = 0;
            let count = packets.len();
            let arrivals = packets
                .into_iter()
                .map(|(sequence, timestamp, payload, later)| {
                    at += later;
                    let packet = Packet {
                        sequence: if near { sequence % 64 } else { sequence },
                        timestamp: if near { timestamp % 100_000 } else { timestamp },
                        payload: payload.into(),
                        received: instant(at),
                    };
                    (at, packet)
                })
                .collect();
            let frames = play(arrivals, at + 30_000_000);
            // Each packet carries at most 120 ms, and brings at most a gap and a pause.
            let most = count * (6 + MAX_GAP.as_millis() as usize / 20) + at as usize / 20_000 + 501;
            prop_assert!(frames.len() <= most, "{} frames of {count} packets", frames.len());
            for pair in frames.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= 10_000);
            }
        }
    }

    /// Long enough for all that has arrived to come out, and too short for concealment.
    const AFTER: i64 = 120_000;

    /// One side of a conversation, in packets.
    struct Call {
        packets: Vec<Packet>,
    }

    impl Call {
        fn new(packets: usize) -> Self {
            Self::starting(packets, 1_000, 123_456)
        }

        fn starting(packets: usize, sequence: u16, timestamp: u32) -> Self {
            let speech = human_speech().unwrap_or_else(|| voice(4.0));
            let mut encoder = Encoder::new().unwrap();
            let packets = speech
                .chunks_exact(FRAME_SAMPLES)
                .cycle()
                .take(packets)
                .map(|frame| encoder.encode(frame).unwrap());
            Self::of(packets, FRAME_SAMPLES, sequence, timestamp)
        }

        fn of_frames(samples: usize, packets: usize) -> Self {
            let mut encoder =
                opus_pure::OpusEncoder::new(24_000, 1, opus_pure::Application::Voip).unwrap();
            let speech = voice(2.0);
            let packets = speech.chunks_exact(samples).take(packets).map(|frame| {
                let mut packet = vec![0; 1_275];
                let length = encoder.encode_s16(frame, samples, &mut packet).unwrap();
                packet.truncate(length);
                packet
            });
            Self::of(packets, samples, 7, 7)
        }

        fn of(
            packets: impl Iterator<Item = Vec<u8>>,
            samples: usize,
            sequence: u16,
            timestamp: u32,
        ) -> Self {
            let packets = packets
                .enumerate()
                .map(|(n, payload)| Packet {
                    sequence: sequence.wrapping_add(n as u16),
                    timestamp: timestamp.wrapping_add((n * samples * 2) as u32),
                    payload: payload.into(),
                    received: instant(0),
                })
                .collect();
            Self { packets }
        }

        /// Moves the clock by so many microseconds before the packet `from`.
        fn pausing(mut self, from: usize, pause: i64) -> Self {
            for packet in &mut self.packets[from..] {
                packet.timestamp = packet.timestamp.wrapping_add((pause * 48 / 1_000) as u32);
            }
            self
        }

        /// What comes out of a decoder that gets everything.
        fn lossless(&self) -> Vec<i16> {
            let mut decoder = Decoder::new().unwrap();
            self.packets
                .iter()
                .flat_map(|packet| decoder.decode(&packet.payload).unwrap())
                .collect()
        }

        fn arrivals(&self, mut at: impl FnMut(i64) -> Option<i64>) -> Vec<(i64, Packet)> {
            (0..)
                .zip(&self.packets)
                .filter_map(|(n, packet)| Some((at(n)?, packet.clone())))
                .collect()
        }

        /// What comes out of the receiver if each packet arrives at its microsecond, or never.
        fn heard(&self, at: impl FnMut(i64) -> Option<i64>) -> Vec<(i64, Pcm)> {
            let arrivals = self.arrivals(at);
            let last = arrivals.iter().map(|(at, _)| *at).max().unwrap();
            play(arrivals, last + AFTER)
        }
    }

    fn play(arrivals: Vec<(i64, Packet)>, until: i64) -> Vec<(i64, Pcm)> {
        play_on(&mut Receiver::new(), arrivals, until)
    }

    fn play_on(
        receiver: &mut Receiver,
        mut arrivals: Vec<(i64, Packet)>,
        until: i64,
    ) -> Vec<(i64, Pcm)> {
        arrivals.sort_by_key(|(at, _)| *at);
        let mut arrivals = arrivals.into_iter().peekable();
        let mut frames = Vec::new();
        let mut now = 0;
        loop {
            let due = receiver.poll_timeout().map_or(i64::MAX, micros_since);
            let arrival = arrivals.peek().map_or(i64::MAX, |(at, _)| *at);
            now = now.max(due.min(arrival));
            if now > until {
                return frames;
            }
            if arrival <= due {
                let (at, packet) = arrivals.next().unwrap();
                receiver.push(received(packet, at));
            } else if let Some(frame) = receiver.poll_frame(instant(now)) {
                frames.push((now, frame));
            }
        }
    }

    fn received(packet: Packet, at: i64) -> Packet {
        Packet {
            received: instant(at),
            ..packet
        }
    }

    fn assert_same(actual: &[i16], expected: &[i16]) {
        let differs = actual.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!((actual.len(), differs), (expected.len(), None));
    }

    fn pcm(frames: &[(i64, Pcm)]) -> Vec<i16> {
        frames
            .iter()
            .flat_map(|(_, frame)| frame.samples.clone())
            .collect()
    }

    /// An instant at this many microseconds of the test's time.
    fn instant(micros: i64) -> Instant {
        origin() + Duration::from_micros(micros as u64)
    }

    fn micros_since(instant: Instant) -> i64 {
        instant.saturating_duration_since(origin()).as_micros() as i64
    }

    fn origin() -> Instant {
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *ORIGIN.get_or_init(crate::clock::now)
    }
}
