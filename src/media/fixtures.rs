//! Sounds and measures for the tests of this module.

use std::f64::consts::TAU;

use crate::media::SAMPLE_RATE;
use crate::media::resample::Resampler;

/// Recordings of people reading, if the package `pocketsphinx-testdata` is installed: 24 kHz.
pub(crate) fn human_speech() -> Option<Vec<i16>> {
    let folder = "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb";
    let wave = std::fs::read(format!("{folder}-0870.wav")).ok()?;
    let samples: Vec<i16> = wave[44..]
        .chunks_exact(2)
        .map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]))
        .collect();
    let mut speech = Vec::new();
    Resampler::new(16_000, SAMPLE_RATE).process(&samples, &mut speech);
    Some(speech)
}

/// Something like a person saying vowels, four a second: a train of glottal pulses through the
/// resonances of a throat.
pub(crate) fn voice(seconds: f64) -> Vec<i16> {
    let vowels = [
        [730.0, 1090.0, 2440.0],
        [270.0, 2290.0, 3010.0],
        [570.0, 840.0, 2410.0],
    ];
    let rate = f64::from(SAMPLE_RATE);
    let mut resonators = [[0.0_f64; 2]; 3];
    let mut phase = 0.0;
    (0..(seconds * rate) as usize)
        .map(|n| {
            let t = n as f64 / rate;
            let pitch = 120.0 + 15.0 * (TAU * 0.7 * t).sin() + 20.0 * (TAU * 2.3 * t).sin();
            phase += pitch / rate;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase %= 1.0;
            let syllable = (TAU * 2.0 * t).sin().abs().sqrt();
            let formants = vowels[(t * 4.0) as usize % vowels.len()];
            let sound: f64 = formants
                .iter()
                .zip(&mut resonators)
                .zip([1.0, 0.5, 0.25])
                .map(|((frequency, memory), gain)| gain * resonate(memory, pulse, *frequency, rate))
                .sum();
            (sound * syllable * 6_000.0) as i16
        })
        .collect()
}

/// A sine wave at a quarter of full scale.
pub(crate) fn tone(frequency: f64, seconds: f64, rate: u32) -> Vec<i16> {
    (0..(seconds * f64::from(rate)) as usize)
        .map(|n| (8_192.0 * (TAU * frequency * n as f64 / f64::from(rate)).sin()) as i16)
        .collect()
}

/// Mean square.
pub(crate) fn energy(samples: &[i16]) -> f64 {
    let sum: f64 = samples.iter().map(|&s| f64::from(s).powi(2)).sum();
    sum / samples.len().max(1) as f64
}

/// Signal to noise in dB, where noise is what `actual` adds to or lacks of `expected`.
pub(crate) fn snr(expected: &[i16], actual: &[i16]) -> f64 {
    assert_eq!(expected.len(), actual.len());
    let noise: f64 = expected
        .iter()
        .zip(actual)
        .map(|(&e, &a)| (f64::from(e) - f64::from(a)).powi(2))
        .sum();
    10.0 * (energy(expected) * expected.len() as f64 / noise.max(1.0)).log10()
}

fn resonate(memory: &mut [f64; 2], input: f64, frequency: f64, rate: f64) -> f64 {
    let radius = (-std::f64::consts::PI * 90.0 / rate).exp();
    let output = input + 2.0 * radius * (TAU * frequency / rate).cos() * memory[0]
        - radius * radius * memory[1];
    *memory = [output, memory[0]];
    output
}
