//! Changes the sample rate of a stream.
//!
//! **Invariant:** however the input is cut into pieces, the output is the same.

use std::f64::consts::PI;

/// Zero crossings of the windowed sinc on either side of its peak: longer is steeper.
const LOBES: usize = 16;

/// The cut-off as a share of the lower Nyquist frequency; leaves room for the filter's slope.
const CUTOFF: f64 = 0.9;

/// A polyphase low-pass filter between two rates in a small whole-number ratio.
pub struct Resampler {
    up: usize,
    down: usize,
    /// One filter for each of the `up` positions that an output has between two inputs,
    /// oldest input first.
    phases: Vec<Vec<f32>>,
    /// What the next output still needs of the past, then what has not been used.
    input: Vec<f32>,
    /// Where the next output lies, in steps of 1/`up` of an input after `input`'s first that
    /// has all its past.
    position: usize,
}

impl Resampler {
    pub fn new(from: u32, to: u32) -> Self {
        let divisor = gcd(from, to);
        let (up, down) = ((to / divisor) as usize, (from / divisor) as usize);
        let phases = phases(up, down);
        Self {
            up,
            down,
            input: vec![0.0; phases[0].len() - 1],
            phases,
            position: 0,
        }
    }

    /// Takes the next samples, any number; appends what they become to `output`.
    pub fn process(&mut self, samples: &[i16], output: &mut Vec<i16>) {
        self.input.extend(samples.iter().copied().map(f32::from));
        let taps = self.phases[0].len();
        while let Some(window) = self
            .input
            .get(self.position / self.up..self.position / self.up + taps)
        {
            let filter = &self.phases[self.position % self.up];
            let sum: f32 = window.iter().zip(filter).map(|(x, h)| x * h).sum();
            // `as` saturates.
            output.push(sum.round() as i16);
            self.position += self.down;
        }
        let used = (self.position / self.up).min(self.input.len());
        self.input.drain(..used);
        self.position -= used * self.up;
    }
}

/// Cuts a windowed sinc, sampled `up` times as fast as the input, into its `up` phases.
fn phases(up: usize, down: usize) -> Vec<Vec<f32>> {
    let slower = up.max(down) as f64;
    let half = LOBES * up.max(down);
    let taps = (2 * half + 1).div_ceil(up);
    let mut phases = vec![vec![0.0; taps]; up];
    for (phase, filter) in phases.iter_mut().enumerate() {
        let tap = |k: usize| {
            let t = (phase + k * up) as f64 - half as f64;
            sinc(t * CUTOFF / slower) * window(t / half as f64)
        };
        // Each phase passes a constant unchanged, or the output would hum at the input's rate.
        let gain: f64 = (0..taps).map(tap).sum();
        for (k, h) in filter.iter_mut().rev().enumerate() {
            *h = (tap(k) / gain) as f32;
        }
    }
    phases
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    (PI * x).sin() / (PI * x)
}

/// Blackman's window over -1..=1.
fn window(x: f64) -> f64 {
    if x.abs() > 1.0 {
        return 0.0;
    }
    0.42 + 0.5 * (PI * x).cos() + 0.08 * (2.0 * PI * x).cos()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::fixtures::{energy, tone};

    #[test]
    fn the_output_lasts_as_long_as_the_input() {
        for (from, to) in RATES {
            let output = resampled(&vec![0; from as usize], from, to);
            assert!(output.len().abs_diff(to as usize) <= 1, "{from} -> {to}");
        }
    }

    #[test]
    fn a_tone_keeps_its_frequency_and_loudness() {
        for (from, to) in RATES {
            let output = resampled(&tone(1_000.0, 0.5, from), from, to);
            let expected = tone(1_000.0, 0.5, to);
            // The filter delays by a few samples: try them all.
            let snr = (0..200)
                .map(|delay| snr(&expected[200..], &output[200 + delay..], 2_000))
                .fold(f64::MIN, f64::max);
            // Where the delay is a fraction of a sample the wave cannot be laid over exactly.
            let floor = if to > from || from / to == 3 {
                50.0
            } else {
                18.0
            };
            assert!(snr > floor, "{from} -> {to}: {snr:.1} dB");
            let ratio = energy(&output[400..]) / energy(&expected[400..]);
            assert!((0.99..1.01).contains(&ratio), "{from} -> {to}: {ratio}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_removed() {
        for (from, to, frequency) in [(24_000, 16_000, 9_000.0), (24_000, 8_000, 5_000.0)] {
            let input = tone(frequency, 0.5, from);
            let output = resampled(&input, from, to);
            let ratio = energy(&output[400..]) / energy(&input);
            assert!(ratio < 1e-5, "{from} -> {to}: {ratio}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            samples in prop::collection::vec(any::<i16>(), 0..1_000),
            cuts in prop::collection::vec(0usize..1_000, 0..10),
            rates in prop::sample::select(&RATES[..]),
        ) {
            let (from, to) = rates;
            let whole = resampled(&samples, from, to);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(samples.len())).collect();
            cuts.extend([0, samples.len()]);
            cuts.sort_unstable();
            let mut resampler = Resampler::new(from, to);
            let mut pieces = Vec::new();
            for pair in cuts.windows(2) {
                resampler.process(&samples[pair[0]..pair[1]], &mut pieces);
            }
            prop_assert_eq!(pieces, whole);
        }
    }

    const RATES: [(u32, u32); 4] = [
        (24_000, 16_000),
        (24_000, 8_000),
        (8_000, 24_000),
        (16_000, 24_000),
    ];

    fn resampled(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
        let mut output = Vec::new();
        Resampler::new(from, to).process(samples, &mut output);
        output
    }

    fn snr(expected: &[i16], actual: &[i16], length: usize) -> f64 {
        crate::media::fixtures::snr(&expected[..length], &actual[..length])
    }
}
