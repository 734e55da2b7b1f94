//! Tells the person's own voice from the echo of what is being played to them.
//!
//! An echo is what was played, later and through a room: its loudness rises and falls as that of
//! the played sound did, a fixed while ago. So the loudness of the microphone is compared to that of
//! the played sound at every delay an echo may have. Where they go together the way of the echo is
//! known, its delay and how much of the sound comes back, and only what is louder than that is the
//! person. Until it can be known, right after playing has begun, only what is nearly as loud as
//! what is played counts.
//!
//! **Invariants.** Nothing is held back or changed: this says what a sound is, and the sound goes
//! its way. Where nothing was played for [`LONGEST`] every sound is the person's.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::SAMPLE_RATE;

/// What is compared: the loudness of 10 ms.
pub const HOP: Duration = Duration::from_millis(10);
const HOP_SAMPLES: usize = SAMPLE_RATE as usize / 100;

/// The longest way of an echo, network and buffers included; a longer one is taken for a voice.
pub const LONGEST: Duration = Duration::from_millis(600);
const LAGS: usize = 61;

/// Played sound that is remembered: the longest way, and how unevenly both streams come.
const KEPT: usize = 2 * LAGS;

/// Below this root mean square nothing is loud.
const FLOOR: f32 = 30.0;

/// How much of the past counts: 1 in 150 hops.
const MEMORY: f32 = 1.0 - 1.0 / 150.0;

/// How well loudnesses must go together to be an echo.
const ALIKE: f32 = 0.6;

/// Played hops after which an echo would have shown, ...
const KNOWN: u32 = 100;

/// ... and until then, how loud an echo may be beside what is played.
const WORST: f32 = 0.7;

/// How much louder than its echo the person must be.
const MARGIN: f32 = 2.5;

/// How much of a sound is left in the room after another hop.
const REVERB: f32 = 0.8;

/// Bands of loudness: below 700 Hz, to 2 kHz, above, and all of it.
const BANDS: usize = 4;
type Loudness = [f32; BANDS];

/// Compares one microphone with one loudspeaker.
pub struct Guard {
    played: Meter,
    heard: Meter,
    /// What was played, by hop of the playout timeline; the newest at the back.
    reference: VecDeque<Loudness>,
    /// The hop after the newest.
    end: u64,
    lags: Vec<Lag>,
    sum: f32,
    squares: f32,
    weight: f32,
    /// How many played hops have been compared.
    compared: u32,
    /// What of the echo is still in the room.
    tail: Loudness,
    path: Option<Path>,
}

/// How the microphone and the sound played this long before go together.
#[derive(Clone, Copy, Default)]
struct Lag {
    sum: f32,
    squares: f32,
    products: f32,
    band_squares: Loudness,
    band_products: Loudness,
}

/// The way of an echo.
#[derive(Clone, Copy, Debug)]
struct Path {
    lag: usize,
    gain: Loudness,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

impl Guard {
    pub fn new() -> Self {
        Self {
            played: Meter::default(),
            heard: Meter::default(),
            reference: VecDeque::new(),
            end: 0,
            lags: vec![Lag::default(); LAGS],
            sum: 0.0,
            squares: 0.0,
            weight: 0.0,
            compared: 0,
            tail: [0.0; BANDS],
            path: None,
        }
    }

    /// Takes what is played, whole hops of it, from this position of the playout timeline on.
    pub fn play(&mut self, pcm: &[i16], position: Duration) {
        let at = hop(position);
        if at > self.end + KEPT as u64 {
            self.reference.clear();
            self.end = at;
        }
        while self.end < at {
            self.push(Loudness::default());
        }
        for samples in pcm.chunks(HOP_SAMPLES) {
            let loudness = self.played.measure(samples);
            self.push(loudness);
        }
    }

    /// Takes 10 ms of the microphone that were heard at this position of the playout timeline;
    /// returns whether the person is in it, if anybody is.
    pub fn hear(&mut self, samples: &[i16], position: Duration) -> bool {
        let heard = self.heard.measure(samples);
        let now = hop(position);
        let played: Vec<Loudness> = (0..LAGS).map(|lag| self.reference(now, lag)).collect();
        let loudest = played.iter().map(|hop| hop[BANDS - 1]).fold(0.0, f32::max);
        if loudest < FLOOR {
            return true;
        }
        self.compare(&heard, &played);
        self.compared = self.compared.saturating_add(1);
        self.find_path();
        match self.path {
            Some(path) => self.exceeds(&heard, &played, path),
            None if self.compared < KNOWN => heard[BANDS - 1] > WORST * loudest,
            None => true,
        }
    }

    fn push(&mut self, loudness: Loudness) {
        if self.reference.len() == KEPT {
            self.reference.pop_front();
        }
        self.reference.push_back(loudness);
        self.end += 1;
    }

    /// What was played `lag` hops before `now`.
    fn reference(&self, now: u64, lag: usize) -> Loudness {
        let first = self.end - self.reference.len() as u64;
        let index = now
            .checked_sub(lag as u64)
            .and_then(|at| at.checked_sub(first));
        let index = index.and_then(|index| usize::try_from(index).ok());
        let found = index.and_then(|index| self.reference.get(index));
        found.copied().unwrap_or_default()
    }

    fn compare(&mut self, heard: &Loudness, played: &[Loudness]) {
        let y = heard[BANDS - 1];
        self.sum = self.sum * MEMORY + y;
        self.squares = self.squares * MEMORY + y * y;
        self.weight = self.weight * MEMORY + 1.0;
        for (lag, played) in self.lags.iter_mut().zip(played) {
            let x = played[BANDS - 1];
            lag.sum = lag.sum * MEMORY + x;
            lag.squares = lag.squares * MEMORY + x * x;
            lag.products = lag.products * MEMORY + x * y;
            for band in 0..BANDS {
                let (x, y) = (played[band], heard[band]);
                lag.band_squares[band] = lag.band_squares[band] * MEMORY + x * x;
                lag.band_products[band] = lag.band_products[band] * MEMORY + x * y;
            }
        }
    }

    /// Looks for the delay at which both go together best.
    fn find_path(&mut self) {
        let alike = |lag: &Lag| {
            let weight = self.weight;
            let covariance = lag.products - lag.sum * self.sum / weight;
            let x = lag.squares - lag.sum * lag.sum / weight;
            let y = self.squares - self.sum * self.sum / weight;
            covariance / (x * y).sqrt().max(1.0)
        };
        let alike: Vec<f32> = self.lags.iter().map(alike).collect();
        let best = (0..LAGS).max_by(|a, b| alike[*a].total_cmp(&alike[*b]));
        let found = best.filter(|best| alike[*best] >= ALIKE);
        if let Some(lag) = found {
            let Lag {
                band_squares,
                band_products,
                ..
            } = self.lags[lag];
            let mut gain = Loudness::default();
            for band in 0..BANDS {
                gain[band] = band_products[band] / band_squares[band].max(1.0);
            }
            self.path = Some(Path { lag, gain });
        }
    }

    /// Whether something is in the microphone that its echo does not explain.
    fn exceeds(&mut self, heard: &Loudness, played: &[Loudness], path: Path) -> bool {
        let around = path.lag.saturating_sub(1)..(path.lag + 2).min(LAGS);
        let mut louder = 0;
        for band in 0..BANDS {
            let played = played[around.clone()].iter().map(|hop| hop[band]);
            let direct = played.fold(0.0, f32::max) * path.gain[band];
            self.tail[band] = direct.max(self.tail[band] * REVERB);
            louder += u32::from(heard[band] > MARGIN * self.tail[band] + FLOOR);
        }
        louder >= 2
    }
}

/// Measures loudness in bands.
#[derive(Default)]
struct Meter {
    low: f32,
    middle: f32,
}

impl Meter {
    fn measure(&mut self, samples: &[i16]) -> Loudness {
        // One-pole low passes at 700 Hz and 2 kHz.
        const LOW: f32 = 0.167;
        const MIDDLE: f32 = 0.408;
        let mut sums = Loudness::default();
        for &sample in samples {
            let sample = f32::from(sample);
            self.low += LOW * (sample - self.low);
            self.middle += MIDDLE * (sample - self.middle);
            let bands = [
                self.low,
                self.middle - self.low,
                sample - self.middle,
                sample,
            ];
            for (sum, band) in sums.iter_mut().zip(bands) {
                *sum += band * band;
            }
        }
        sums.map(|sum| (sum / samples.len().max(1) as f32).sqrt())
    }
}

fn hop(position: Duration) -> u64 {
    u64::try_from(position.as_millis() / HOP.as_millis()).unwrap_or(u64::MAX)
}
