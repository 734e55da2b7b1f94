//! Stand-ins until the media modules are merged.
use std::time::Duration;

use crate::media::speech::{Edge, Sensitivity};

pub(crate) struct Detector {
    sensitivity: Sensitivity,
    position: usize,
    frame: Vec<i16>,
    loud: usize,
    quiet: usize,
    speaking: bool,
}

impl Detector {
    pub(crate) fn new(sensitivity: Sensitivity) -> Self {
        Self {
            sensitivity,
            position: 0,
            frame: Vec::new(),
            loud: 0,
            quiet: 0,
            speaking: false,
        }
    }

    pub(crate) fn push(&mut self, pcm: &[i16], edges: &mut Vec<Edge>) {
        for &sample in pcm {
            self.frame.push(sample);
            if self.frame.len() < 480 {
                continue;
            }
            let energy: i64 = self
                .frame
                .iter()
                .map(|&s| i64::from(s) * i64::from(s))
                .sum();
            self.frame.clear();
            self.position += 480;
            if energy / 480 > 400 * 400 {
                self.loud += 1;
                self.quiet = 0;
            } else {
                self.loud = 0;
                self.quiet += 1;
            }
            let at = Duration::from_millis(self.position as u64 / 24);
            if !self.speaking && self.loud == 3 {
                self.speaking = true;
                edges.push(Edge::Started {
                    at: at.saturating_sub(self.sensitivity.prefix_padding),
                });
            } else if self.speaking
                && Duration::from_millis(20 * self.quiet as u64)
                    >= self.sensitivity.silence.max(Duration::from_millis(20))
            {
                self.speaking = false;
                edges.push(Edge::Stopped { at });
            }
        }
    }
}

pub(crate) mod g711 {
    pub(crate) fn encode_ulaw(pcm: &[i16]) -> Vec<u8> {
        vec![0xff; pcm.len() / 3]
    }
    pub(crate) fn encode_alaw(pcm: &[i16]) -> Vec<u8> {
        vec![0xd5; pcm.len() / 3]
    }
    pub(crate) fn decode_ulaw(bytes: &[u8]) -> Vec<i16> {
        vec![0; bytes.len() * 3]
    }
    pub(crate) fn decode_alaw(bytes: &[u8]) -> Vec<i16> {
        vec![0; bytes.len() * 3]
    }
}
