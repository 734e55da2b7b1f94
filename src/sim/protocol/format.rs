//! `audio.input.format` and `audio.output.format`.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::core::audio::Format;
use crate::media::SAMPLE_RATE;
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::reader::{Fields, Read, integer, word};

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
