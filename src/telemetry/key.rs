//! What samples are told apart by.

use crate::core::latency::{Measure, Sample, Transport};
use crate::core::port::Source;

/// Which of a provider's histograms a sample belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Key {
    pub(super) measure: Measure,
    /// `None` where whoever has measured does not know.
    pub(super) transport: Option<Transport>,
    pub(super) source: Source,
}

/// Which samples are looked at; all, where nothing is said.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Filter {
    pub provider: Option<String>,
    pub transport: Option<Transport>,
}

impl Key {
    const SOURCES: [Source; 2] = [Source::Reported, Source::Estimated];
    const TRANSPORTS: [Option<Transport>; 4] = [
        Some(Transport::WebRtc),
        Some(Transport::WebSocket),
        Some(Transport::Direct),
        None,
    ];
    /// How many a measure has.
    const EACH: usize = Self::TRANSPORTS.len() * Self::SOURCES.len();
    pub(super) const COUNT: usize = Measure::ALL.len() * Self::EACH;

    /// All there are, by [`index`](Self::index).
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Measure::ALL.into_iter().flat_map(Self::of)
    }

    /// All of a measure.
    pub(super) fn of(measure: Measure) -> impl Iterator<Item = Self> {
        Self::TRANSPORTS.into_iter().flat_map(move |transport| {
            Self::SOURCES.map(|source| Self {
                measure,
                transport,
                source,
            })
        })
    }

    pub(super) const fn index(self) -> usize {
        let transport = match self.transport {
            Some(Transport::WebRtc) => 0,
            Some(Transport::WebSocket) => 1,
            Some(Transport::Direct) => 2,
            None => 3,
        };
        let source = match self.source {
            Source::Reported => 0,
            Source::Estimated => 1,
        };

        self.measure.index() * Self::EACH + transport * Self::SOURCES.len() + source
    }
}

impl From<Sample> for Key {
    fn from(sample: Sample) -> Self {
        Self {
            measure: sample.measure,
            transport: sample.transport,
            source: sample.source,
        }
    }
}

impl Filter {
    /// Returns the keys of a measure that are looked at.
    pub(super) fn keys(&self, measure: Measure) -> impl Iterator<Item = Key> {
        let wanted = self.transport;

        Key::of(measure).filter(move |key| wanted.is_none() || wanted == key.transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_place() {
        let all: Vec<_> = Key::all().map(Key::index).collect();
        assert_eq!(all, (0..Key::COUNT).collect::<Vec<_>>());
    }
}
