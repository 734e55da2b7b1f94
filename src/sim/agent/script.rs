//! A tone of exact length, for benches and tests.

use std::f32::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use crate::media::SAMPLE_RATE;
use crate::sim::settings::Script;
use crate::sim::speech::{Clip, Speech, Word, samples};

/// How long what a tool answered sounds; there are words for it, and no sound.
const TOLD: Duration = Duration::from_millis(100);
/// The longest tone that is made.
const LONGEST: Duration = Duration::from_secs(600);
/// There is a word for each of these.
const WORD: Duration = Duration::from_millis(250);

/// Tells what tools answered, then plays the tone.
pub(crate) fn told(outputs: &[String], tone: &Speech) -> Speech {
    let mut speech = Speech::default();
    for output in outputs {
        let silence = Arc::new(Clip::sound(vec![0; samples(TOLD)]));
        speech.push_sound(silence, &format!("[tool: {output}]"));
    }
    speech.append(tone);
    speech
}

pub(crate) fn speech(script: &Script) -> Speech {
    let length = samples(script.length.min(LONGEST));
    let amplitude = script.amplitude.clamp(0.0, 1.0) * f32::from(i16::MAX);
    let step = TAU * script.tone_hz / SAMPLE_RATE as f32;
    let pcm = (0..length)
        .map(|index| ((index as f32 * step).sin() * amplitude) as i16)
        .collect();
    let word = samples(WORD);
    let words = (0..length.div_ceil(word))
        .map(|index| Word {
            text: "tone".into(),
            samples: index * word..((index + 1) * word).min(length),
        })
        .collect();
    let mut speech = Speech::default();
    speech.push(Arc::new(Clip { pcm, words }));
    speech
}
