//! Makes the ids of events, items and responses.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The source of a session's ids: the same seed gives the same ids.
pub(crate) struct Ids(StdRng);

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Returns `prefix_` and 21 random letters and digits: the shape of OpenAI's own.
    pub(crate) fn next(&mut self, prefix: &str) -> String {
        let mut id = format!("{prefix}_");
        id.extend((0..21).map(|_| char::from(self.0.sample(rand::distr::Alphanumeric))));
        id
    }

    /// Returns a random string for the `obfuscation` field, which hides the length of a text delta.
    pub(crate) fn obfuscation(&mut self) -> String {
        let length = self.0.random_range(4..=14);
        (0..length)
            .map(|_| char::from(self.0.sample(rand::distr::Alphanumeric)))
            .collect()
    }
}
