//! G.711 µ-law and A-law (ITU-T G.711) at 8 kHz, to and from 24 kHz PCM.

use crate::media::SAMPLE_RATE;
use crate::media::resample::Resampler;

/// The rate that G.711 prescribes.
const RATE: u32 = 8_000;

/// How G.711 squeezes a sample into eight bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Law {
    /// North America and Japan: `audio/pcmu`.
    Mu,
    /// Elsewhere: `audio/pcma`.
    A,
}

/// Encodes one stream.
pub struct Encoder {
    law: Law,
    resampler: Resampler,
    /// Kept for its allocation.
    narrow: Vec<i16>,
}

impl Encoder {
    pub fn new(law: Law) -> Self {
        Self {
            law,
            resampler: Resampler::new(SAMPLE_RATE, RATE),
            narrow: Vec::new(),
        }
    }

    /// Encodes the next samples, any number: one byte for three of them.
    pub fn encode(&mut self, pcm: &[i16]) -> Vec<u8> {
        self.narrow.clear();
        self.resampler.process(pcm, &mut self.narrow);
        self.narrow
            .iter()
            .map(|sample| match self.law {
                Law::Mu => ulaw_from_linear(*sample),
                Law::A => alaw_from_linear(*sample),
            })
            .collect()
    }
}

/// Decodes one stream.
pub struct Decoder {
    law: Law,
    resampler: Resampler,
    /// Kept for its allocation.
    narrow: Vec<i16>,
}

impl Decoder {
    pub fn new(law: Law) -> Self {
        Self {
            law,
            resampler: Resampler::new(RATE, SAMPLE_RATE),
            narrow: Vec::new(),
        }
    }

    /// Decodes the next bytes, any number: three samples for each.
    pub fn decode(&mut self, bytes: &[u8]) -> Vec<i16> {
        self.narrow.clear();
        self.narrow.extend(bytes.iter().map(|byte| match self.law {
            Law::Mu => linear_from_ulaw(*byte),
            Law::A => linear_from_alaw(*byte),
        }));
        let mut pcm = Vec::with_capacity(3 * bytes.len());
        self.resampler.process(&self.narrow, &mut pcm);
        pcm
    }
}

/// What is added to a magnitude so that the segments of the µ-law begin at powers of two, on
/// the scale of 16 bits.
const BIAS: i32 = 0x84;

/// The most that the µ-law expresses.
const CLIP: i32 = 0x7fff - BIAS;

fn ulaw_from_linear(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    let segment = magnitude.ilog2() - 7;
    let step = (magnitude >> (segment + 3)) & 0x0f;
    // G.711 sends the µ-law inverted.
    !(sign | (segment as u8) << 4 | step as u8)
}

fn linear_from_ulaw(byte: u8) -> i16 {
    let byte = !byte;
    let (segment, step) = ((byte >> 4) & 7, i32::from(byte & 0x0f));
    let magnitude = (((step << 3) + BIAS) << segment) - BIAS;
    signed(magnitude, byte & 0x80 != 0)
}

/// A-law inverts every other bit on the line.
const EVEN_BITS: u8 = 0x55;

fn alaw_from_linear(sample: i16) -> u8 {
    // The sign bit is set for positive values.
    let sign = if sample < 0 { 0 } else { 0x80 };
    // Ones' complement, so that both halves have the same thresholds.
    let magnitude = i32::from(if sample < 0 { !sample } else { sample }) >> 4;
    let code = match magnitude {
        // The first two segments are one line.
        0..32 => magnitude,
        _ => {
            let segment = magnitude.ilog2() - 3;
            (segment as i32) << 4 | (magnitude >> (segment - 1)) & 0x0f
        }
    };
    (sign | code as u8) ^ EVEN_BITS
}

fn linear_from_alaw(byte: u8) -> i16 {
    let byte = byte ^ EVEN_BITS;
    let (segment, step) = ((byte >> 4) & 7, i32::from(byte & 0x0f));
    let magnitude = if segment == 0 {
        (step << 4) + 8
    } else {
        ((step << 4) + 0x108) << (segment - 1)
    };
    signed(magnitude, byte & 0x80 == 0)
}

fn signed(magnitude: i32, is_negative: bool) -> i16 {
    // Both laws reach no farther than 15 bits and a sign.
    (if is_negative { -magnitude } else { magnitude }) as i16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::fixtures::{energy, tone};

    /// The ends, the middle and some points between of tables 1a and 2a of G.711, which count
    /// in 14 (µ-law) and 13 (A-law) bits: (line, value).
    const MU: [(u8, i16); 8] = [
        (0b1000_0000, 8_031),
        (0b1000_1111, 4_191),
        (0b1001_1111, 2_079),
        (0b1010_1111, 1_023),
        (0b1110_1111, 33),
        (0b1111_1110, 2),
        (0b1111_1111, 0),
        (0b0000_0000, -8_031),
    ];
    const A: [(u8, i16); 6] = [
        (0b1111_1111 ^ EVEN_BITS, 4_032),
        (0b1111_0000 ^ EVEN_BITS, 2_112),
        (0b1110_0000 ^ EVEN_BITS, 1_056),
        (0b1001_0000 ^ EVEN_BITS, 33),
        (0b1000_0000 ^ EVEN_BITS, 1),
        (0b0111_1111 ^ EVEN_BITS, -4_032),
    ];

    #[test]
    fn bytes_mean_what_the_recommendation_says() {
        for (byte, value) in MU {
            assert_eq!(linear_from_ulaw(byte), value * 4, "{byte:08b}");
        }
        for (byte, value) in A {
            assert_eq!(linear_from_alaw(byte), value * 8, "{byte:08b}");
        }
    }

    #[test]
    fn every_byte_survives_being_decoded_and_encoded() {
        for byte in 0..=u8::MAX {
            assert_eq!(alaw_from_linear(linear_from_alaw(byte)), byte);
            // The µ-law has two zeros; the negative one becomes the positive.
            let expected = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(ulaw_from_linear(linear_from_ulaw(byte)), expected);
        }
    }

    #[test]
    fn the_error_is_in_proportion_to_the_sample() {
        for sample in i16::MIN..=i16::MAX {
            let bound = (u32::from(sample.unsigned_abs()) + 256) / 32;
            let mu = linear_from_ulaw(ulaw_from_linear(sample));
            assert!(u32::from(mu.abs_diff(sample)) <= bound, "{sample} -> {mu}");
            let a = linear_from_alaw(alaw_from_linear(sample));
            assert!(u32::from(a.abs_diff(sample)) <= bound, "{sample} -> {a}");
        }
    }

    #[test]
    fn a_tone_comes_through() {
        for law in [Law::Mu, Law::A] {
            let tone = tone(997.0, 1.0, SAMPLE_RATE);
            let (mut encoder, mut decoder) = (Encoder::new(law), Decoder::new(law));
            let bytes: Vec<u8> = tone
                .chunks(480)
                .flat_map(|pcm| encoder.encode(pcm))
                .collect();
            assert!((7_980..=8_000).contains(&bytes.len()), "{}", bytes.len());
            let heard: Vec<i16> = bytes.chunks(160).flat_map(|b| decoder.decode(b)).collect();
            assert_eq!(heard.len(), 3 * bytes.len());
            let ratio = energy(&heard[480..]) / energy(&tone[480..]);
            assert!((0.98..1.02).contains(&ratio), "{law:?}: {ratio}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            for law in [Law::Mu, Law::A] {
                prop_assert_eq!(Decoder::new(law).decode(&bytes).len(), 3 * bytes.len());
            }
        }
    }
}
