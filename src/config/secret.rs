//! Keys, and how they stay unseen.
//!
//! **Invariant:** no formatting of a [`Secret`] shows it; only [`Secret::expose`] does.

use std::fmt;

use rand::Rng;
use rand::distr::Alphanumeric;

/// Text that is not for anybody's eyes.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Returns the text, for the one who must send or print it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Makes a development key.
    pub(crate) fn develop() -> Self {
        let random = rand::rng().sample_iter(Alphanumeric).take(32);
        Self("vx_dev_".chars().chain(random.map(char::from)).collect())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::from("sk-abcdef");
        assert!(!format!("{secret:?}").contains("abc"));
    }

    #[test]
    fn every_development_key_is_a_new_one() {
        let [one, other] = [Secret::develop(), Secret::develop()];
        assert!(one.expose().starts_with("vx_dev_"));
        assert_ne!(one.expose(), other.expose());
    }
}
