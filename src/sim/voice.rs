//! The embedded provider's voice.

use std::f32::consts::TAU;
use std::sync::Arc;

use crate::sim::speech::{Clip, Word};

/// Clips by id.
pub(crate) struct Voice(());

impl Voice {
    pub(crate) fn load() -> Self {
        Self(())
    }

    pub(crate) fn clip(&self, id: &str) -> Arc<Clip> {
        let mut pcm = Vec::new();
        let mut words = Vec::new();
        for word in id.split('-') {
            let start = pcm.len();
            for syllable in 0..word.len().div_ceil(3) {
                let hz = 180.0 + 40.0 * (syllable % 4) as f32;
                pcm.extend((0..24 * 160).map(|index| {
                    let t = index as f32 / 24_000.0;
                    let shape = (index as f32 / (24.0 * 160.0) * TAU / 2.0).sin();
                    let wave: f32 = (1..8)
                        .map(|k| (t * hz * TAU * k as f32).sin() / k as f32)
                        .sum();
                    (wave * shape * 6_000.0) as i16
                }));
            }
            pcm.extend(std::iter::repeat_n(0, 24 * 60));
            words.push(Word {
                text: format!(" {word}").into(),
                samples: start..pcm.len(),
            });
        }
        Arc::new(Clip { pcm, words })
    }
}
