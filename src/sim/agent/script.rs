//! A tone of exact length, or a row of tones that tell where they are, for benches and tests.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use crate::media::SAMPLE_RATE;
use crate::sim::settings::{Script, mark_hz};
use crate::sim::speech::{Clip, Speech, Word, samples};

/// How long what a tool answered sounds; there are words for it, and no sound.
const TOLD: Duration = Duration::from_millis(100);
/// The longest tone that is made.
const LONGEST: Duration = Duration::from_secs(600);
/// How long each tone of a marked answer lasts.
const MARK: Duration = Duration::from_millis(20);
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
    let amplitude = f64::from(script.amplitude.clamp(0.0, 1.0)) * f64::from(i16::MAX);
    let (tone, rise) = (f64::from(script.tone_hz), f64::from(script.rise_hz));
    let (mark, mut turns) = (samples(MARK), 0.0);
    let mut pcm = Vec::with_capacity(length);
    for index in 0..length {
        let seconds = index as f64 / f64::from(SAMPLE_RATE);
        let now = if script.marked {
            f64::from(mark_hz(index / mark))
        } else {
            tone + rise * seconds
        };
        pcm.push(((TAU * turns).sin() * amplitude) as i16);
        turns = (turns + now / f64::from(SAMPLE_RATE)).fract();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_height_of_a_sweep_tells_which_moment_of_it_sounds() {
        let script = Script {
            length: Duration::from_secs(11),
            ..Script::sweep()
        };
        let sweep = speech(&script);
        let pcm = sweep.read(0..sweep.samples());
        // How often it crosses zero within 100 ms, a second and ten seconds after its beginning.
        let hertz = |second: usize| {
            let from = second * SAMPLE_RATE as usize;
            let piece = &pcm[from..from + SAMPLE_RATE as usize / 10];
            let crossings = piece.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0);
            crossings.count() * 10
        };

        assert!(hertz(1).abs_diff(457) <= 10, "{}", hertz(1));
        assert!(hertz(10).abs_diff(1_807) <= 10, "{}", hertz(10));
    }
}
