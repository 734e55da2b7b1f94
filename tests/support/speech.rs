//! Speech for tests.

use std::path::Path;

use voxline::media::opus::Encoder;
use voxline::media::{FRAME_SAMPLES, SAMPLE_RATE};

/// Debian's `pocketsphinx-testdata`: a person reads Jane Austen (LibriVox), 16 kHz.
const RECORDING: &str =
    "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0890.wav";
const RECORDING_RATE: usize = 16_000;
const WAV_HEADER: usize = 44;

/// Seconds of speech at 24 kHz: a person's if the recording is installed, else something with
/// the rhythm and the pitch of speech.
pub(crate) fn speech() -> Vec<i16> {
    match std::fs::read(Path::new(RECORDING)) {
        Ok(wav) => resample(&wav[WAV_HEADER..]),
        Err(_) => synthetic(),
    }
}

/// Encodes as browsers do: 20 ms packets with in-band FEC.
pub(crate) fn packets(pcm: &[i16]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new().unwrap();
    let frames = pcm.chunks_exact(FRAME_SAMPLES);
    frames.map(|frame| encoder.encode(frame).unwrap()).collect()
}

/// By straight lines between samples: good enough for a source.
fn resample(bytes: &[u8]) -> Vec<i16> {
    let source: Vec<f64> = bytes
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]).into())
        .collect();
    let rate = SAMPLE_RATE as usize;
    let count = (source.len() - 1) * rate / RECORDING_RATE;
    let sample = |index: usize| {
        let at = index * RECORDING_RATE;
        let (left, part) = (at / rate, (at % rate) as f64 / rate as f64);
        (source[left] * (1.0 - part) + source[left + 1] * part) as i16
    };
    (0..count).map(sample).collect()
}

fn synthetic() -> Vec<i16> {
    let rate = f64::from(SAMPLE_RATE);
    let sample = |index: u32| {
        let t = f64::from(index) / rate;
        let turn = std::f64::consts::TAU;
        let syllables = (turn * 2.0 * t).sin().max(0.0);
        let pitch = 120.0 * t + 4.0 * (turn * 0.7 * t).sin();
        let voice: f64 = (1..20)
            .map(|n| (turn * pitch * f64::from(n)).sin() / f64::from(n))
            .sum();
        (voice * syllables * 6000.0) as i16
    };
    (0..SAMPLE_RATE * 5).map(sample).collect()
}
