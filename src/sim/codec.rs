//! Turns a stream of encoded sound into 24 kHz samples and back.

use crate::core::audio::Format;
use crate::media::g711::{self, Law};

/// Decodes one stream.
pub(crate) enum Decoder {
    /// `half` is half a sample, of which the other half is still to come.
    Pcm {
        half: Option<u8>,
    },
    G711(Box<g711::Decoder>),
}

/// Encodes one stream.
pub(crate) enum Encoder {
    Pcm,
    G711(Box<g711::Encoder>),
}

impl Decoder {
    pub(crate) fn new(format: Format) -> Self {
        match format {
            Format::Pcm => Self::Pcm { half: None },
            Format::Pcmu => Self::G711(Box::new(g711::Decoder::new(Law::Mu))),
            Format::Pcma => Self::G711(Box::new(g711::Decoder::new(Law::A))),
        }
    }

    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Vec<i16> {
        let half = match self {
            Self::G711(decoder) => return decoder.decode(bytes),
            Self::Pcm { half } => half,
        };
        let mut samples = Vec::with_capacity(bytes.len() / 2 + 1);
        for &byte in bytes {
            match half.take() {
                Some(low) => samples.push(i16::from_le_bytes([low, byte])),
                None => *half = Some(byte),
            }
        }
        samples
    }
}

impl Encoder {
    pub(crate) fn new(format: Format) -> Self {
        match format {
            Format::Pcm => Self::Pcm,
            Format::Pcmu => Self::G711(Box::new(g711::Encoder::new(Law::Mu))),
            Format::Pcma => Self::G711(Box::new(g711::Encoder::new(Law::A))),
        }
    }

    pub(crate) fn encode(&mut self, samples: &[i16]) -> Vec<u8> {
        match self {
            Self::Pcm => samples.iter().flat_map(|s| s.to_le_bytes()).collect(),
            Self::G711(encoder) => encoder.encode(samples),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_may_be_cut_in_half_between_two_appends() {
        let mut decoder = Decoder::new(Format::Pcm);
        assert_eq!(decoder.decode(&[1, 0, 2]), [1]);
        assert_eq!(decoder.decode(&[]), [0i16; 0]);
        assert_eq!(decoder.decode(&[0, 3, 0]), [2, 3]);
    }
}
