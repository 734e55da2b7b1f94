//! Audio formats: their JSON, and their bytes.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::core::audio::Format;
use crate::media::SAMPLE_RATE;
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::reader::{Fields, Read, integer, word};
use crate::sim::standin::g711;

/// An audio format as a session's field.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct AudioFormat(pub(crate) Format);

impl AudioFormat {
    pub(crate) fn read(value: Value, path: &str) -> Read<Self> {
        let mut fields = Fields::open(value, path)?;
        let name = fields.required("type", word(&["audio/pcm", "audio/pcmu", "audio/pcma"]))?;
        let format = match name {
            "audio/pcmu" => Format::Pcmu,
            "audio/pcma" => Format::Pcma,
            _ => {
                let rate = fields.optional("rate", integer(0..=u64::MAX))?;
                let only = u64::from(SAMPLE_RATE);
                if rate.is_some_and(|rate| rate != only) {
                    let param = fields.path_of("rate");
                    let message = format!("Invalid '{param}': the rate of audio/pcm is {only}.");
                    return Err(ApiError::invalid_value(&param, message));
                }
                Format::Pcm
            }
        };
        fields.finish()?;
        Ok(Self(format))
    }

    pub(crate) fn encode(self, pcm: &[i16]) -> Vec<u8> {
        match self.0 {
            Format::Pcm => pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
            Format::Pcmu => g711::encode_ulaw(pcm),
            Format::Pcma => g711::encode_alaw(pcm),
        }
    }

    /// Decodes to 24 kHz PCM; half a sample at the end is dropped.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<i16> {
        match self.0 {
            Format::Pcm => bytes
                .chunks_exact(2)
                .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                .collect(),
            Format::Pcmu => g711::decode_ulaw(bytes),
            Format::Pcma => g711::decode_alaw(bytes),
        }
    }
}

impl Serialize for AudioFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Format::Pcm => {
                map.serialize_entry("type", "audio/pcm")?;
                map.serialize_entry("rate", &SAMPLE_RATE)?;
            }
            Format::Pcmu => map.serialize_entry("type", "audio/pcmu")?,
            Format::Pcma => map.serialize_entry("type", "audio/pcma")?,
        }
        map.end()
    }
}
