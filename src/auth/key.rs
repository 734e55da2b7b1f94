//! API keys: made with 256 random bits, kept as digests.
//!
//! **Invariant:** nothing here keeps a key, and comparing takes the same time for all that differ.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq};

const PREFIX: &str = "sha256:";

/// The SHA-256 digest of a key: enough to recognize it, useless to show. A fast digest will do,
/// for a key has too much randomness to be guessed.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    pub fn of(key: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Tells whether the key is the one digested, without telling by its time how close it came.
    pub fn admits(&self, key: &str) -> bool {
        self.compare(&Self::of(key)).into()
    }

    pub(crate) fn compare(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// As it stands in the file of tenants: `sha256:` and 64 hexadecimal digits.
impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A digest is no secret, but it is nobody's business either.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl FromStr for KeyDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let digits = text.strip_prefix(PREFIX).ok_or(NotADigest)?.as_bytes();
        if digits.len() != 64 {
            return Err(NotADigest);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(NotADigest);
            let value = digit(pair[0])? * 16 + digit(pair[1])?;
            *byte = u8::try_from(value).map_err(|_| NotADigest)?;
        }
        Ok(Self(bytes))
    }
}

/// Says what a digest looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "must be `sha256:` and 64 hexadecimal digits, as `voxline api-key` prints; the key itself \
     does not belong here"
)]
pub struct NotADigest;

/// Makes a key for a tenant: `vx_` and 256 random bits.
pub fn new_api_key() -> String {
    let mut random = [0; 32];
    rand::rng().fill_bytes(&mut random);
    format!("vx_{}", URL_SAFE_NO_PAD.encode(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_sha256sum_prints_it() {
        let digest = KeyDigest::of("abc");
        // FIPS 180-2, appendix B.1.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        for wrong in [
            "",
            "sha256:",
            "abc",
            &text[7..],
            &text[..70],
            &text.replace('b', "g"),
            &format!("{text}0"),
            &text.replacen("ba", "+a", 1),
        ] {
            assert_eq!(wrong.parse::<KeyDigest>(), Err(NotADigest), "{wrong:?}");
        }
    }

    #[test]
    fn only_the_key_itself_is_admitted() {
        let key = new_api_key();
        let digest = KeyDigest::of(&key);
        assert!(key.starts_with("vx_") && key.len() == 46, "{key}");
        assert!(digest.admits(&key));
        for wrong in ["", &key[..45], &digest.to_string(), &new_api_key()] {
            assert!(!digest.admits(wrong), "{wrong:?}");
        }
    }
}
