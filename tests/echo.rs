//! What the relay's own ear makes of an echo, of a person who speaks over one, and of noises.
//!
//! Prints how often an answer would be paused by its own echo, and how often and how soon by a
//! person, for echoes of several delays and loudnesses. Everything is seeded: the counts are the same
//! each time, if those of installed recordings differ from those of the made-up voice.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use voxline::media::SAMPLE_RATE;
use voxline::media::ear::{Ear, Sound};
use voxline::media::resample::Resampler;

const SECOND: usize = SAMPLE_RATE as usize;
const FRAME: usize = SECOND / 50;

/// Debian's `pocketsphinx-testdata`: a person reads Jane Austen (LibriVox), 16 kHz.
const FOLDER: &str = "/usr/share/pocketsphinx/test/data/librivox";
const READINGS: [&str; 5] = ["0870", "0880", "0890", "0920", "0930"];

/// A person who is noticed later than this is noticed late.
const LATE: f64 = 300.0;

#[test]
fn an_echo_pauses_little_and_a_person_is_heard_over_it() {
    let voices = voices();
    let mut random = StdRng::seed_from_u64(7);
    let mut clear = Tally::default();
    println!("echo            pauses  person as loud as the answer   half as loud");
    println!("delay    below  per 10 s  in time  p50     p90         in time  p50     p90");
    for delay in [20, 100, 200, 400] {
        for below in [6, 12, 20, 30] {
            let row = row(&voices, delay, below, &mut random);
            println!(
                "{delay:4} ms  {below:2} dB  {:5.2}     {}      {}",
                row.pauses as f64 * 10.0 / row.seconds,
                row.loud.summary(),
                row.soft.summary()
            );
            clear.pauses += row.pauses;
            clear.seconds += row.seconds;
            if below >= 12 {
                clear.loud.0.extend(row.loud.0);
            }
        }
    }
    let rate = clear.pauses as f64 * 10.0 / clear.seconds;
    let missed = 1.0 - clear.loud.in_time() as f64 / clear.loud.0.len() as f64;
    println!("all: {rate:.2} false pauses in 10 s; missed or late at 12 dB and more: {missed:.3}");
    assert!(rate < 0.5, "{rate}");
    assert!(missed < 0.1, "{missed}");
}

#[test]
fn a_person_is_heard_within_moments_and_noises_pause_little() {
    let mut random = StdRng::seed_from_u64(1);
    let mut times = Times::default();
    for voice in voices() {
        for word in 1..9 {
            let Some(speech) = loud_from(&voice, voice.len() / 9 * word) else {
                continue;
            };
            let mut microphone = noise(2 * SECOND + speech.len(), 12, &mut random);
            mix(&mut microphone, speech, SECOND);
            let heard = began(&silence(microphone.len()), &microphone);
            times.note(&heard, 1_000.0);
        }
    }
    println!("onset of speech, nothing playing: {}", times.summary());
    assert_eq!(times.in_time(), times.0.len());

    for (name, most, microphone) in noises(&mut random) {
        let count = began(&silence(microphone.len()), &microphone).len();
        println!("{name}: {count} false alarms in 6 s");
        assert!(count <= most, "{name}: {count}");
    }
}

#[derive(Default)]
struct Tally {
    pauses: usize,
    seconds: f64,
    loud: Times,
    soft: Times,
}

fn row(voices: &[Vec<i16>], delay: usize, below: i32, random: &mut StdRng) -> Tally {
    let mut tally = Tally::default();
    for (index, voice) in voices.iter().enumerate() {
        let answer = &voice[..voice.len().min(6 * SECOND)];
        let played = [&silence(SECOND), answer, &silence(SECOND)].concat();
        let mut echoed = noise(played.len(), 15, random);
        mix(&mut echoed, &echo(&played, delay, below, random), 0);
        tally.pauses += began(&played, &echoed).len();
        tally.seconds += answer.len() as f64 / SECOND as f64;

        for turn in 0..4 {
            let other = &voices[(index + 1 + turn) % voices.len()];
            let Some(speech) = loud_from(other, (turn + 1) * SECOND) else {
                continue;
            };
            let starts = SECOND * 5 / 2 + turn * SECOND / 2;
            for (quieter, times) in [(0, &mut tally.loud), (6, &mut tally.soft)] {
                let mut microphone = echoed.clone();
                mix(&mut microphone, &attenuated(speech, quieter), starts);
                let heard = began(&played, &microphone);
                times.note(&heard, starts as f64 * 1_000.0 / SECOND as f64);
            }
        }
    }

    tally
}

/// When the ear says that a person begins, in ms.
fn began(played: &[i16], microphone: &[i16]) -> Vec<f64> {
    let mut ear = Ear::new();
    let mut began = vec![];
    for index in 0..microphone.len() / FRAME {
        let frame = index * FRAME..(index + 1) * FRAME;
        let position = Duration::from_millis(1_000 + 20 * index as u64);
        if played[frame.clone()].iter().any(|sample| *sample != 0) {
            ear.play(&played[frame.clone()], position);
        }
        let mut sounds = vec![];
        let end = position + Duration::from_millis(20);
        ear.push(&microphone[frame], end, &mut sounds);
        let starts = sounds.iter().filter(|sound| **sound != Sound::Ended);
        began.extend(starts.map(|_| 20.0 * (index + 1) as f64));
    }

    began
}

/// How long it took, each time, until a person was noticed.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn note(&mut self, began: &[f64], spoke: f64) {
        let found = began.iter().find(|at| **at >= spoke);
        self.0.push(found.map_or(f64::INFINITY, |at| at - spoke));
    }

    fn in_time(&self) -> usize {
        self.0.iter().filter(|time| **time <= LATE).count()
    }

    fn summary(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let quantile = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize];
        format!(
            "{:2}/{:2}  {:4.0} ms {:4.0} ms",
            self.in_time(),
            sorted.len(),
            quantile(0.5),
            quantile(0.9)
        )
    }
}

/// What comes back of a sound through a small room: itself and eight reflections, dulled.
fn echo(played: &[i16], delay: usize, below: i32, random: &mut StdRng) -> Vec<i16> {
    let reflection = |index: i32, random: &mut StdRng| {
        let after = random.random_range(20..1_500);
        let sign = if random.random_bool(0.5) { 1.0 } else { -1.0 };
        let left = 0.5 * 0.85_f64.powi(index) * (-f64::from(after) / 900.0).exp();
        (after as usize, sign * left)
    };
    let mut ways = vec![(0, 1.0)];
    ways.extend((0..8).map(|index| reflection(index, random)));
    let (delay, gain) = (
        delay * SECOND / 1_000,
        10_f64.powf(f64::from(-below) / 20.0),
    );
    let mut dull = 0.0;
    (0..played.len())
        .map(|at| {
            let part = |(after, left): &(usize, f64)| {
                let source = at.checked_sub(delay + after).map(|at| played[at]);
                left * f64::from(source.unwrap_or(0))
            };
            let sum: f64 = ways.iter().map(part).sum();
            dull += 0.6 * (sum - dull);
            (dull * gain) as i16
        })
        .collect()
}

/// Sounds that are no speech, and how many false alarms each may cause: this ear takes a steady
/// tone for a voice.
fn noises(random: &mut StdRng) -> Vec<(&'static str, usize, Vec<i16>)> {
    let burst = |length: usize, dull: f64, decay: f64, level: f64, random: &mut StdRng| {
        let mut low = 0.0;
        let sample = |at: usize| {
            low += dull * (random.random_range(-1.0..1.0) - low);
            let at = at as f64;
            (low * (at / 240.0).min(1.0) * (-at / decay).exp() * level) as i16
        };
        (0..length).map(sample).collect::<Vec<_>>()
    };
    let mut series = |count: usize, length, dull, decay, level| {
        let mut sound = noise(6 * SECOND, 12, random);
        for index in 0..count {
            let one = burst(length, dull, decay, level, random);
            mix(&mut sound, &one, SECOND + index * 5 * SECOND / count);
        }
        sound
    };
    let clicks = series(10, 100, 1.0, 1e9, 30_000.0);
    let coughs = series(10, 4_800, 0.35, 1_600.0, 16_000.0);
    let breaths = series(5, 9_600, 0.15, 4_000.0, 6_000.0);
    let typing = series(40, 500, 1.0, 120.0, 9_000.0);
    let tone = |at: usize| (8_000.0 * (at as f64 * 0.115).sin()) as i16;
    vec![
        ("clicks", 0, clicks),
        ("coughs", 2, coughs),
        ("breaths", 2, breaths),
        ("typing", 2, typing),
        ("hiss", 0, noise(6 * SECOND, 1_500, random)),
        ("a tone of 440 Hz", 30, (0..6 * SECOND).map(tone).collect()),
    ]
}

/// Up to a second from where it is loud.
fn loud_from(voice: &[i16], from: usize) -> Option<&[i16]> {
    let starts = (from..voice.len().checked_sub(SECOND / 2)?).step_by(240);
    let loud = |at: &usize| {
        let hop = voice[*at..*at + 240].iter();
        hop.map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / 240.0 > 1_200.0_f64.powi(2)
    };
    let start = starts.into_iter().find(loud)?;

    Some(&voice[start..voice.len().min(start + SECOND)])
}

fn attenuated(speech: &[i16], below: i32) -> Vec<i16> {
    let gain = 10_f64.powf(f64::from(-below) / 20.0);
    let quieter = speech
        .iter()
        .map(|sample| (f64::from(*sample) * gain) as i16);

    quieter.collect()
}

fn mix(sound: &mut [i16], other: &[i16], at: usize) {
    for (sample, more) in sound[at..].iter_mut().zip(other) {
        *sample = sample.saturating_add(*more);
    }
}

fn noise(length: usize, level: i16, random: &mut StdRng) -> Vec<i16> {
    (0..length)
        .map(|_| random.random_range(-level..=level))
        .collect()
}

fn silence(length: usize) -> Vec<i16> {
    vec![0; length]
}

/// Five people: recordings if they are installed, else something with the rhythm of speech.
fn voices() -> Vec<Vec<i16>> {
    let read = |name: &&str| {
        let path = format!("{FOLDER}/sense_and_sensibility_01_austen_64kb-{name}.wav");
        let wave = std::fs::read(path).ok()?;
        let samples: Vec<i16> = wave[44..]
            .chunks_exact(2)
            .map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]))
            .collect();
        let mut speech = Vec::new();
        Resampler::new(16_000, SAMPLE_RATE).process(&samples, &mut speech);
        Some(speech)
    };
    let recorded: Option<Vec<_>> = READINGS.iter().map(read).collect();
    recorded.unwrap_or_else(|| (0..5).map(spoken).collect())
}

/// Vowels of one voice: pulses through the resonances of a throat, with a rhythm of its own.
fn spoken(voice: u32) -> Vec<i16> {
    const VOWELS: [[f64; 3]; 3] = [
        [730.0, 1_090.0, 2_440.0],
        [270.0, 2_290.0, 3_010.0],
        [570.0, 840.0, 2_410.0],
    ];
    let mut random = StdRng::seed_from_u64(u64::from(voice));
    let rate = f64::from(SAMPLE_RATE);
    let (mut memory, mut phase) = ([[0.0_f64; 2]; 3], 0.0);
    let mut sound = Vec::new();
    while sound.len() < 7 * SECOND {
        let length = random.random_range(SECOND / 10..SECOND / 3);
        let vowel = VOWELS[random.random_range(0..3)];
        let level = random.random_range(0.3..1.0);
        for at in 0..length {
            let pitch = 100.0 + 20.0 * f64::from(voice) + 15.0 * (at as f64 / 3_000.0).sin();
            phase += pitch / rate;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase %= 1.0;
            let shape = (std::f64::consts::PI * at as f64 / length as f64)
                .sin()
                .sqrt();
            let mut sum = 0.0;
            for (formant, memory) in vowel.iter().zip(&mut memory) {
                let radius = (-std::f64::consts::PI * 90.0 / rate).exp();
                let turn = std::f64::consts::TAU * formant / rate;
                let out =
                    pulse + 2.0 * radius * turn.cos() * memory[0] - radius * radius * memory[1];
                *memory = [out, memory[0]];
                sum += out / 2.0;
            }
            sound.push((sum * shape * level * 4_000.0) as i16);
        }
        sound.extend(silence(random.random_range(0..SECOND / 8)));
    }

    sound
}
