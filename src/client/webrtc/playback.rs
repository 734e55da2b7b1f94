//! From positions on the session's playout timeline to RTP packets, and back.
//!
//! **Invariants.** A packet's timestamp is a random base plus its position at 48 kHz, so silence
//! costs no packets and the client's reports name positions. Sequence numbers have no gaps. The
//! marker bit opens each talkspurt (RFC 7587, section 4.1; RFC 3551, section 4.1). A report of
//! what has not been sent counts up to what has.

use std::time::Duration;

use rtc::rtp;

use crate::core::audio::Frame;
use crate::media::FRAME_SAMPLES;
use crate::media::opus::{CodecError, Encoder};

pub(crate) struct Playback {
    encoder: Encoder,
    ssrc: u32,
    payload_type: u8,
    base: u32,
    sequence: u16,
    /// Where the last sent frame ends; zero before the first one.
    end: Duration,
    /// Whether a frame at `end` continues the talkspurt.
    sounding: bool,
}

impl Playback {
    pub(crate) fn new(ssrc: u32, payload_type: u8) -> Result<Self, CodecError> {
        Ok(Self {
            encoder: Encoder::new()?,
            ssrc,
            payload_type,
            base: rand::random(),
            sequence: rand::random(),
            end: Duration::ZERO,
            sounding: false,
        })
    }

    /// The RTP timestamp of the timeline's beginning.
    pub(crate) fn origin(&self) -> u32 {
        self.base
    }

    /// Packs 20 ms of PCM; what is shorter is filled up with silence.
    pub(crate) fn pack(
        &mut self,
        frame: &Frame,
        position: Duration,
    ) -> Result<rtp::Packet, CodecError> {
        let (pairs, _) = frame.payload.as_chunks();
        let mut pcm: Vec<i16> = pairs.iter().copied().map(i16::from_le_bytes).collect();
        pcm.resize(FRAME_SAMPLES, 0);
        let payload = self.encoder.encode(&pcm)?;

        let header = rtp::Header {
            version: 2,
            marker: !(self.sounding && position == self.end),
            payload_type: self.payload_type,
            sequence_number: self.sequence,
            timestamp: self.base.wrapping_add(low_bits(ticks(position))),
            ssrc: self.ssrc,
            ..Default::default()
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.sounding = true;
        self.end = self.end.max(position + FRAME);
        Ok(rtp::Packet {
            header,
            payload: payload.into(),
        })
    }

    /// Starts afresh after a cut, without an echo of what was cut.
    pub(crate) fn cut(&mut self) {
        self.encoder.reset();
        self.sounding = false;
    }

    /// Returns the position that sounds when a client plays the packet of this RTP timestamp;
    /// `None` if it names none.
    pub(crate) fn locate(&self, timestamp: u32) -> Option<Duration> {
        let end = ticks(self.end);
        let ahead = timestamp
            .wrapping_sub(self.base)
            .wrapping_sub(low_bits(end))
            .cast_signed();
        let at = end.checked_add_signed(ahead.min(0).into())?;
        let packet = Duration::from_micros(at * 1_000 / TICKS_PER_MS);
        (end > 0).then(|| packet.saturating_sub(LOOK_AHEAD))
    }
}

const FRAME: Duration = Duration::from_millis(20);

/// An Opus encoder looks so far ahead (`OPUS_GET_LOOKAHEAD`): the sound that comes out of a packet is
/// so much older than its timestamp says.
const LOOK_AHEAD: Duration = Duration::from_micros(6_500);

/// RFC 7587, section 4.1: the clock runs at 48 kHz whatever the sampling rate.
const TICKS_PER_MS: u64 = 48;

fn ticks(position: Duration) -> u64 {
    u64::try_from(position.as_micros()).unwrap_or(u64::MAX / TICKS_PER_MS) * TICKS_PER_MS / 1_000
}

/// RTP timestamps wrap (RFC 3550, section 5.1).
#[expect(clippy::cast_possible_truncation, reason = "wrapping is what is meant")]
fn low_bits(ticks: u64) -> u32 {
    ticks as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::audio::Format;

    fn frame() -> Frame {
        Frame {
            format: Format::Pcm,
            payload: vec![1; 960].into(),
        }
    }

    fn playback(base: u32) -> Playback {
        let mut playback = Playback::new(7, 111).unwrap();
        playback.base = base;
        playback
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn timestamps_follow_the_timeline_and_sequence_numbers_have_no_gaps() {
        let mut playback = playback(u32::MAX - 100);
        let first = playback.pack(&frame(), ms(1000)).unwrap().header;
        let second = playback.pack(&frame(), ms(1020)).unwrap().header;
        let later = playback.pack(&frame(), ms(5000)).unwrap().header;
        let offsets = [first.timestamp, second.timestamp, later.timestamp]
            .map(|timestamp| timestamp.wrapping_sub(playback.base));
        assert_eq!(offsets, [48_000, 48_960, 240_000]);
        let steps = [second.sequence_number, later.sequence_number]
            .map(|sequence| sequence.wrapping_sub(first.sequence_number));
        assert_eq!(steps, [1, 2]);
    }

    #[test]
    fn the_marker_opens_each_talkspurt() {
        let mut playback = playback(0);
        let mut marker = |position| playback.pack(&frame(), ms(position)).unwrap().header.marker;
        assert!(marker(0));
        assert!(!marker(20));
        assert!(marker(60));
        assert!(!marker(80));
    }

    #[test]
    fn a_cut_opens_a_talkspurt() {
        let mut playback = playback(0);
        playback.pack(&frame(), ms(0)).unwrap();
        playback.cut();
        assert!(playback.pack(&frame(), ms(20)).unwrap().header.marker);
    }

    #[test]
    fn a_reported_timestamp_names_its_position_across_the_wrap() {
        let mut playback = playback(u32::MAX - 48_000);
        let timestamp = playback.pack(&frame(), ms(3000)).unwrap().header.timestamp;
        assert_eq!(playback.locate(timestamp), Some(ms(3000) - LOOK_AHEAD));
        let day = ms(25 * 60 * 60 * 1000);
        let timestamp = playback.pack(&frame(), day).unwrap().header.timestamp;
        assert_eq!(playback.locate(timestamp), Some(day - LOOK_AHEAD));
        assert_eq!(
            playback.locate(timestamp.wrapping_sub(960)),
            Some(day - ms(20) - LOOK_AHEAD)
        );
    }

    #[test]
    fn a_report_from_the_future_counts_up_to_what_was_sent() {
        let mut playback = playback(5);
        assert_eq!(playback.locate(5), None);
        playback.pack(&frame(), ms(0)).unwrap();
        assert_eq!(playback.locate(5 + 48_000), Some(ms(20) - LOOK_AHEAD));
        assert_eq!(playback.locate(4), None);
    }
}
