//! Keys, and how they stay unseen.
//!
//! **Invariant:** no formatting of a [`Secret`] shows it; only [`Secret::expose`] does.

use std::fmt;

use rand::Rng;
use rand::distr::Alphanumeric;
use subtle::{Choice, ConstantTimeEq};

use crate::auth::KeyDigest;

/// Text that is not for anybody's eyes.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Returns the text, for the one who must send or print it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Takes as long for a near miss as for a far one of the same length.
    fn compare(&self, candidate: &str) -> Choice {
        self.0.as_bytes().ct_eq(candidate.as_bytes())
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

/// What clients of the relay may show.
#[derive(Clone, Debug)]
pub enum Keys {
    /// The operator's own.
    Configured(Vec<Secret>),
    /// Made at the start, for a relay that only this machine can reach.
    Development(Secret),
}

impl Keys {
    /// Makes a development key.
    pub(crate) fn develop() -> Self {
        let random = rand::rng().sample_iter(Alphanumeric).take(32);
        let key: String = "vx_dev_".chars().chain(random.map(char::from)).collect();
        Self::Development(Secret(key))
    }

    /// Tells whether the candidate is one of the keys, without telling by its time which.
    pub fn admit(&self, candidate: &str) -> bool {
        let keys = match self {
            Self::Configured(keys) => keys.as_slice(),
            Self::Development(key) => std::slice::from_ref(key),
        };
        keys.iter()
            .fold(Choice::from(0), |known, key| known | key.compare(candidate))
            .into()
    }

    /// Returns what the keys are recognized by.
    pub(crate) fn digests(&self) -> Vec<KeyDigest> {
        let keys = match self {
            Self::Configured(keys) => keys.as_slice(),
            Self::Development(key) => std::slice::from_ref(key),
        };
        keys.iter().map(|key| KeyDigest::of(key.expose())).collect()
    }

    /// Returns the development key, if that is what there is.
    pub fn development(&self) -> Option<&Secret> {
        match self {
            Self::Configured(_) => None,
            Self::Development(key) => Some(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::from("sk-abcdef");
        assert!(!format!("{secret:?}").contains("abc"));
        let keys = Keys::Configured(vec![secret]);
        assert!(!format!("{keys:?}").contains("abc"));
    }

    #[test]
    fn only_a_whole_key_is_admitted() {
        let keys = Keys::Configured(vec!["first-key".into(), "second-key".into()]);
        assert!(keys.admit("first-key"));
        assert!(keys.admit("second-key"));
        for wrong in [
            "",
            "first",
            "first-key ",
            "first-keysecond-key",
            "third-key",
        ] {
            assert!(!keys.admit(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn every_development_key_is_a_new_one() {
        let [one, other] = [Keys::develop(), Keys::develop()];
        let key = one.development().unwrap().expose();
        assert!(key.starts_with("vx_dev_"));
        assert!(one.admit(key));
        assert!(!other.admit(key));
    }
}
