//! The recorded clips that the line-test agent speaks with.
//!
//! **Invariant:** a voice that has been loaded has every clip of its manifest, decoded.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ogg::PacketReader;
use rust_embed::RustEmbed;
use serde::Deserialize;

use crate::media::opus::Decoder;
use crate::sim::speech::{Clip, Word, samples};

/// Clips by id.
pub(crate) struct Voice(HashMap<String, Arc<Clip>>);

/// Why the clips cannot be spoken with.
#[derive(Debug, thiserror::Error)]
#[error("clip {id} of the embedded provider's voice: {fault}")]
pub(crate) struct VoiceError {
    id: String,
    fault: String,
}

#[derive(RustEmbed)]
#[folder = "src/sim/voice"]
struct Files;

#[derive(Deserialize)]
struct Manifest {
    clips: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    file: String,
    ms: u64,
    words: Vec<EntryWord>,
}

#[derive(Deserialize)]
struct EntryWord {
    text: Arc<str>,
    end_ms: u64,
}

impl Voice {
    /// Returns the voice that all providers of the process speak with; the first call decodes it,
    /// four minutes of speech.
    pub(crate) fn shared() -> Result<Arc<Self>, VoiceError> {
        static SHARED: OnceLock<Arc<Voice>> = OnceLock::new();
        if let Some(voice) = SHARED.get() {
            return Ok(Arc::clone(voice));
        }
        let voice = Arc::new(Self::load()?);
        Ok(Arc::clone(SHARED.get_or_init(|| voice)))
    }

    fn load() -> Result<Self, VoiceError> {
        let manifest = file("manifest.json").map_err(|fault| VoiceError::new("manifest", fault))?;
        let manifest: Manifest = serde_json::from_slice(&manifest)
            .map_err(|fault| VoiceError::new("manifest", fault.to_string()))?;
        let mut clips = HashMap::with_capacity(manifest.clips.len());
        for entry in manifest.clips {
            let clip = decode(&entry).map_err(|fault| VoiceError::new(&entry.id, fault))?;
            clips.insert(entry.id, Arc::new(clip));
        }
        Ok(Self(clips))
    }

    /// Returns a clip; one that there is not is silent.
    pub(crate) fn clip(&self, id: &str) -> Arc<Clip> {
        match self.0.get(id) {
            Some(clip) => Arc::clone(clip),
            None => Arc::new(Clip::sound(Vec::new())),
        }
    }

    #[cfg(test)]
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }
}

impl VoiceError {
    fn new(id: &str, fault: String) -> Self {
        Self {
            id: id.to_owned(),
            fault,
        }
    }
}

fn file(name: &str) -> Result<Vec<u8>, String> {
    Files::get(name)
        .map(|file| file.data.into_owned())
        .ok_or_else(|| format!("{name} is not there"))
}

fn decode(entry: &Entry) -> Result<Clip, String> {
    let at = |ms| samples(Duration::from_millis(ms));
    let mut pcm = demux(file(&entry.file)?)?;
    pcm.resize(at(entry.ms), 0);
    let starts = [0]
        .into_iter()
        .chain(entry.words.iter().map(|word| word.end_ms));
    let words = starts
        .zip(&entry.words)
        .map(|(start, word)| Word {
            text: Arc::clone(&word.text),
            samples: at(start)..at(word.end_ms),
        })
        .collect();
    Ok(Clip { pcm, words })
}

/// Decodes an Ogg Opus file (RFC 7845) of one mono stream.
fn demux(file: Vec<u8>) -> Result<Vec<i16>, String> {
    let mut packets = PacketReader::new(Cursor::new(file));
    let mut next = || packets.read_packet().map_err(|fault| fault.to_string());
    let header = next()?.ok_or("no header")?.data;
    let [
        b'O',
        b'p',
        b'u',
        b's',
        b'H',
        b'e',
        b'a',
        b'd',
        1,
        1,
        low,
        high,
        ..,
    ] = header[..]
    else {
        return Err("not one mono stream of Opus".to_owned());
    };
    let pre_skip = usize::from(u16::from_le_bytes([low, high])) / 2;
    next()?.ok_or("no tags")?;
    let mut decoder = Decoder::new().map_err(|fault| fault.to_string())?;
    let mut pcm = Vec::new();
    while let Some(packet) = next()? {
        pcm.extend(
            decoder
                .decode(&packet.data)
                .map_err(|fault| fault.to_string())?,
        );
    }
    pcm.drain(..pre_skip.min(pcm.len()));
    Ok(pcm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clip_is_as_long_as_its_manifest_says_and_can_be_heard() {
        let voice = Voice::shared().unwrap();
        assert!(voice.0.len() > 100);
        for (id, clip) in &voice.0 {
            let loudest = clip.pcm.iter().map(|sample| sample.unsigned_abs()).max();
            assert!(loudest > Some(3_000), "{id} is silent");
            let last = clip.words.last().unwrap();
            assert_eq!(last.samples.end, clip.pcm.len(), "{id}");
        }
    }
}
