//! Tells speech from everything else.
//!
//! **Invariants:** starts and stops alternate, and their positions never go back.

use std::time::Duration;

use crate::media::SAMPLE_RATE;
use crate::media::resample::Resampler;

/// The person has begun or stopped speaking, at this position of the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Edge {
    /// OpenAI's `audio_start_ms`: where the speech began, less the prefix padding.
    Started { at: Duration },
    /// OpenAI's `audio_end_ms`: where the speech ended, plus the silence that told.
    /// The last sound was at `at` less [`Sensitivity::silence`].
    Stopped { at: Duration },
}

/// OpenAI's `server_vad` settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensitivity {
    /// How sure the detector must be that it hears speech, 0 to 1.
    pub threshold: f32,
    /// How much sound before the detected start belongs to the turn.
    pub prefix_padding: Duration,
    /// How long silence lasts before speech counts as stopped.
    pub silence: Duration,
}

/// A speech detector over one stream of 24 kHz mono PCM.
pub struct Detector {
    sensitivity: Sensitivity,
    resampler: Resampler,
    model: Box<earshot::Detector>,
    /// Samples at the model's rate that do not fill a frame yet.
    pending: Vec<i16>,
    /// Frames the model has heard.
    heard: u64,
    phase: Phase,
    /// Where the last stop was.
    stopped: Duration,
}

enum Phase {
    /// `voiced` frames in a row have sounded like speech.
    Silent { voiced: u64 },
    /// The last sound was before the frame `until`.
    Speaking { until: u64 },
}

/// What the model listens to: frames of 16 ms at 16 kHz.
const MODEL_RATE: u32 = 16_000;
const MODEL_FRAME: usize = 256;

/// The model takes this many frames, 400 ms, to find its feet; until then it cries wolf.
const COLD: u64 = 25;

/// How many frames in a row must sound like speech: a click does not.
const ONSET: u64 = 3;

/// How many frames the model goes on being sure after the last sound.
const TAIL: u64 = 4;

impl Detector {
    pub fn new(sensitivity: Sensitivity) -> Self {
        Self {
            sensitivity,
            resampler: Resampler::new(SAMPLE_RATE, MODEL_RATE),
            model: earshot::Detector::default_boxed(),
            pending: Vec::new(),
            heard: 0,
            phase: Phase::Silent { voiced: 0 },
            stopped: Duration::ZERO,
        }
    }

    /// Takes the next samples, any number; appends what it found to `edges`.
    pub fn push(&mut self, pcm: &[i16], edges: &mut Vec<Edge>) {
        let mut pending = std::mem::take(&mut self.pending);
        self.resampler.process(pcm, &mut pending);
        let mut frames = pending.chunks_exact(MODEL_FRAME);
        for frame in &mut frames {
            let score = self.model.predict_i16(frame);
            self.heard += 1;
            edges.extend(self.on_score(score));
        }
        self.pending = frames.remainder().to_vec();
    }

    fn on_score(&mut self, score: f32) -> Option<Edge> {
        if self.heard <= COLD {
            return None;
        }
        match self.phase {
            Phase::Silent { voiced } if score >= self.sensitivity.threshold => {
                let voiced = voiced + 1;
                if voiced < ONSET {
                    self.phase = Phase::Silent { voiced };
                    return None;
                }
                // Nothing of the tail is from before the first of it.
                self.phase = Phase::Speaking {
                    until: self.heard - TAIL.min(voiced),
                };
                let start = position(self.heard - voiced);
                let padded = start.saturating_sub(self.sensitivity.prefix_padding);
                Some(Edge::Started {
                    at: padded.max(self.stopped),
                })
            }
            Phase::Silent { .. } => {
                self.phase = Phase::Silent { voiced: 0 };
                None
            }
            Phase::Speaking { .. } if score >= self.sensitivity.threshold => {
                self.phase = Phase::Speaking {
                    until: self.heard - TAIL,
                };
                None
            }
            Phase::Speaking { until } => {
                let stop = position(until) + self.sensitivity.silence;
                if position(self.heard) < stop {
                    return None;
                }
                self.phase = Phase::Silent { voiced: 0 };
                self.stopped = stop;
                Some(Edge::Stopped { at: stop })
            }
        }
    }
}

/// Returns where the frame of this number begins.
fn position(frame: u64) -> Duration {
    Duration::from_millis(16 * frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::media::fixtures::{human_speech, tone, voice};

    #[test]
    fn a_turn_is_found_where_it_is() {
        for speech in speeches() {
            let spoken = duration(speech.len());
            let edges = edges(&[silence(2.0), speech, silence(1.0)].concat(), SERVER_VAD);
            let (Edge::Started { at: start }, Edge::Stopped { at: stop }) = (edges[0], edges[1])
            else {
                panic!("{edges:?}");
            };
            let start = start + SERVER_VAD.prefix_padding;
            assert!(near(start, ms(2_000), ms(250)), "{start:?}");
            let end = stop - SERVER_VAD.silence;
            assert!(
                near(end, ms(2_000) + spoken, ms(150)),
                "{end:?}, {spoken:?}"
            );
            assert_eq!(edges.len(), 2);
        }
    }

    #[test]
    fn a_pause_shorter_than_the_silence_does_not_end_a_turn() {
        for speech in speeches() {
            let pcm = [
                silence(1.0),
                speech.clone(),
                silence(0.1),
                speech,
                silence(1.0),
            ]
            .concat();
            assert_eq!(edges(&pcm, SERVER_VAD).len(), 2);
        }
    }

    #[test]
    fn a_longer_pause_does() {
        for speech in speeches() {
            let pcm = [
                silence(1.0),
                speech.clone(),
                silence(0.8),
                speech,
                silence(1.0),
            ]
            .concat();
            assert_eq!(edges(&pcm, SERVER_VAD).len(), 4);
        }
    }

    #[test]
    fn a_turn_does_not_reach_back_into_the_last_one() {
        let sensitivity = Sensitivity {
            prefix_padding: ms(5_000),
            ..SERVER_VAD
        };
        let pcm = [silence(1.0), voice(1.0), silence(1.0), voice(1.0)].concat();
        let edges = edges(&pcm, sensitivity);
        let (Edge::Stopped { at: stop }, Edge::Started { at: start }) = (edges[1], edges[2]) else {
            panic!("{edges:?}");
        };
        assert_eq!(edges[0], Edge::Started { at: ms(0) });
        assert_eq!(start, stop);
    }

    #[test]
    fn the_stop_is_told_as_soon_as_the_silence_has_lasted() {
        for silence_ms in [200, 500, 1_500] {
            let sensitivity = Sensitivity {
                silence: ms(silence_ms),
                ..SERVER_VAD
            };
            let mut detector = Detector::new(sensitivity);
            let mut found = Vec::new();
            detector.push(&[silence(1.0), voice(1.0)].concat(), &mut found);
            assert_eq!(found.len(), 1);
            let mut waited = Duration::ZERO;
            while found.len() < 2 {
                detector.push(&silence(0.02), &mut found);
                waited += ms(20);
            }
            assert!(
                near(waited, ms(silence_ms), ms(100)),
                "{silence_ms}: {waited:?}"
            );
        }
    }

    #[test]
    fn noise_silence_and_clicks_are_not_speech() {
        let mut random = StdRng::seed_from_u64(1);
        let mut noise = |level: i16| -> Vec<i16> {
            (0..5 * SAMPLE_RATE)
                .map(|_| random.random_range(-level..=level))
                .collect()
        };
        let mut click = silence(3.0);
        click[48_000..48_100].fill(20_000);
        for (name, pcm) in [
            ("silence", silence(5.0)),
            ("faint noise", noise(30)),
            ("loud noise", noise(3_000)),
            ("a click", click),
            ("a whistle", tone(2_000.0, 5.0, SAMPLE_RATE)),
        ] {
            assert_eq!(edges(&pcm, SERVER_VAD), [], "{name}");
        }
    }

    #[test]
    fn a_higher_threshold_hears_less() {
        let pcm = [silence(1.0), voice(2.0), silence(1.0)].concat();
        let at = |threshold| {
            edges(
                &pcm,
                Sensitivity {
                    threshold,
                    ..SERVER_VAD
                },
            )
        };
        let start = |threshold| match at(threshold)[0] {
            Edge::Started { at } => at,
            Edge::Stopped { .. } => panic!("stopped first"),
        };
        assert!(start(0.9) > start(0.5));
        assert_eq!(at(1.0), []);
    }

    #[test]
    fn the_shortest_of_sounds_does_not_stop_before_it_starts() {
        let mut detector = Detector::new(Sensitivity {
            threshold: 0.5,
            prefix_padding: ms(0),
            silence: ms(0),
        });
        detector.heard = COLD;
        let mut edges = vec![];
        for score in [1.0, 1.0, 1.0, 0.0] {
            detector.heard += 1;
            edges.extend(detector.on_score(score));
        }
        let at = position(COLD);
        assert_eq!(edges, [Edge::Started { at }, Edge::Stopped { at }]);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(sizes in prop::collection::vec(1usize..5_000, 1..20)) {
            let pcm = [silence(0.6), voice(0.6), silence(0.8)].concat();
            let mut detector = Detector::new(SERVER_VAD);
            let mut found = Vec::new();
            let mut rest = &pcm[..];
            for size in sizes.into_iter().cycle() {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                detector.push(piece, &mut found);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, edges(&pcm, SERVER_VAD));
        }

        #[test]
        fn edges_alternate_and_never_go_back_whatever_comes(
            blocks in prop::collection::vec((any::<i16>(), 1usize..4_000, any::<bool>()), 0..60),
            threshold in 0.0f32..=1.0,
            padding in 0u64..2_000,
            silence in 0u64..1_000,
        ) {
            let sensitivity = Sensitivity {
                threshold,
                prefix_padding: ms(padding),
                silence: ms(silence),
            };
            let voice = voice(0.2);
            let mut detector = Detector::new(sensitivity);
            let mut found = Vec::new();
            for (level, length, voiced) in blocks {
                if voiced {
                    detector.push(&voice[..length.min(voice.len())], &mut found);
                } else {
                    detector.push(&vec![level; length], &mut found);
                }
            }
            let mut last = Duration::ZERO;
            for (n, edge) in found.iter().enumerate() {
                let (starts, at) = match *edge {
                    Edge::Started { at } => (true, at),
                    Edge::Stopped { at } => (false, at),
                };
                prop_assert_eq!(starts, n % 2 == 0);
                prop_assert!(at >= last, "{:?}", found);
                last = at;
            }
        }
    }

    /// OpenAI's defaults.
    const SERVER_VAD: Sensitivity = Sensitivity {
        threshold: 0.5,
        prefix_padding: Duration::from_millis(300),
        silence: Duration::from_millis(500),
    };

    fn speeches() -> Vec<Vec<i16>> {
        // The recording begins and ends with a breath.
        let human = human_speech().map(|speech| speech[4_800..speech.len() - 4_800].to_vec());
        [Some(voice(2.0)), human].into_iter().flatten().collect()
    }

    fn edges(pcm: &[i16], sensitivity: Sensitivity) -> Vec<Edge> {
        let mut edges = Vec::new();
        Detector::new(sensitivity).push(pcm, &mut edges);
        edges
    }

    fn silence(seconds: f64) -> Vec<i16> {
        vec![0; (seconds * f64::from(SAMPLE_RATE)) as usize]
    }

    fn duration(samples: usize) -> Duration {
        Duration::from_secs_f64(samples as f64 / f64::from(SAMPLE_RATE))
    }

    fn near(a: Duration, b: Duration, tolerance: Duration) -> bool {
        a.abs_diff(b) <= tolerance
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
