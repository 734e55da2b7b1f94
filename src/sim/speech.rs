//! Sound with the words in it, and how it is put together from clips.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::media::SAMPLE_RATE;

/// Sound at 24 kHz and the words that it says.
#[derive(Debug)]
pub(crate) struct Clip {
    pub(crate) pcm: Vec<i16>,
    pub(crate) words: Vec<Word>,
}

/// A word and the samples that say it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Word {
    pub(crate) text: Arc<str>,
    pub(crate) samples: Range<usize>,
}

impl Clip {
    /// Sound without known words.
    pub(crate) fn sound(pcm: Vec<i16>) -> Self {
        Self {
            pcm,
            words: Vec::new(),
        }
    }
}

/// Clips, one after the other. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speech {
    clips: Vec<Arc<Clip>>,
    words: Vec<Word>,
    samples: usize,
}

impl Speech {
    /// Appends a clip; its first word is set off from what was said before.
    pub(crate) fn push(&mut self, clip: Arc<Clip>) {
        let start = self.samples;
        for word in &clip.words {
            let samples = word.samples.start + start..word.samples.end + start;
            self.push_word(&word.text, samples);
        }
        self.samples += clip.pcm.len();
        self.clips.push(clip);
    }

    /// Appends sound under a description of it.
    pub(crate) fn push_sound(&mut self, clip: Arc<Clip>, description: &str) {
        self.push_word(description, self.samples..self.samples + clip.pcm.len());
        self.samples += clip.pcm.len();
        self.clips.push(clip);
    }

    /// Appends all of another speech.
    pub(crate) fn append(&mut self, other: &Self) {
        let start = self.samples;
        for word in &other.words {
            let samples = word.samples.start + start..word.samples.end + start;
            self.push_word(word.text.trim_start(), samples);
        }
        self.samples += other.samples;
        self.clips.extend(other.clips.iter().cloned());
    }

    pub(crate) fn pause(&mut self, pause: Duration) {
        self.push(Arc::new(Clip::sound(vec![0; samples(pause)])));
    }

    fn push_word(&mut self, text: &str, samples: Range<usize>) {
        let text = match self.words.is_empty() {
            true => text.into(),
            false => format!(" {text}").into(),
        };
        self.words.push(Word { text, samples });
    }

    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    pub(crate) fn words(&self) -> &[Word] {
        &self.words
    }

    /// Returns these samples, or as many of them as there are.
    pub(crate) fn read(&self, range: Range<usize>) -> Vec<i16> {
        let mut read = Vec::with_capacity(range.len().min(self.samples));
        let mut start = 0;
        for clip in &self.clips {
            let length = clip.pcm.len();
            let from = range.start.saturating_sub(start).min(length);
            let to = range.end.saturating_sub(start).min(length);
            read.extend_from_slice(&clip.pcm[from..to.max(from)]);
            start += length;
        }
        read
    }

    /// Returns how many words are over at `samples`.
    pub(crate) fn words_heard(&self, samples: usize) -> usize {
        self.words
            .iter()
            .filter(|word| word.samples.end <= samples)
            .count()
    }
}

/// Returns how long this many samples last.
pub(crate) fn duration(samples: usize) -> Duration {
    Duration::from_nanos((samples as u64).saturating_mul(1_000_000_000) / u64::from(SAMPLE_RATE))
}

/// Returns how many whole samples last this long.
pub(crate) fn samples(duration: Duration) -> usize {
    (duration.as_nanos() * u128::from(SAMPLE_RATE) / 1_000_000_000) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(pcm: &[i16], text: &str) -> Arc<Clip> {
        Arc::new(Clip {
            pcm: pcm.to_vec(),
            words: vec![Word {
                text: text.into(),
                samples: 0..pcm.len(),
            }],
        })
    }

    #[test]
    fn a_speech_reads_across_its_clips_and_ends_where_they_end() {
        let mut speech = Speech::default();
        speech.push(clip(&[1, 2, 3], "a"));
        speech.push(clip(&[4, 5], "b"));
        assert_eq!(speech.read(1..4), [2, 3, 4]);
        assert_eq!(speech.read(4..100), [5]);
        assert_eq!(speech.read(9..12), [0i16; 0]);
        assert_eq!(speech.words()[1].samples, 3..5);
        assert_eq!(speech.words_heard(4), 1);
    }
}
