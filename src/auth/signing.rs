//! One Ed25519 key: reads it, writes it, names it, publishes its public half.
//!
//! **Invariant:** only [`NewKey::pem`] lets a private half out.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use rand::RngCore;
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// What comes before the 32 secret bytes of an Ed25519 key in PKCS#8 (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key that signs tokens and verifies them.
#[derive(Clone)]
pub(crate) struct SigningKey {
    /// Its JWK thumbprint (RFC 7638).
    kid: String,
    /// The public half, as a JWK has it.
    x: String,
    private: EncodingKey,
    public: DecodingKey,
}

/// Why a file holds no key for us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(
        "it holds no `-----BEGIN PRIVATE KEY-----` (PKCS#8 in PEM, not encrypted), such as \
         `voxline signing-key` and `openssl genpkey -algorithm ed25519` write"
    )]
    NotPem,
    #[error("its key is not an Ed25519 key in PKCS#8 ({0})")]
    NotEd25519(ring::error::KeyRejected),
}

impl SigningKey {
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| KeyError::NotPem)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(KeyError::NotEd25519)?;
        let public = pair.public_key().as_ref();
        let x = URL_SAFE_NO_PAD.encode(public);
        Ok(Self {
            kid: thumbprint(&x),
            private: EncodingKey::from_ed_der(der),
            // The raw 32 bytes: that is what `crypto` verifies with.
            public: DecodingKey::from_ed_der(public),
            x,
        })
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn private(&self) -> &EncodingKey {
        &self.private
    }

    pub(crate) fn public(&self) -> &DecodingKey {
        &self.public
    }

    /// The public half as a JWK (RFC 8037).
    pub(crate) fn jwk(&self) -> Value {
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": self.x,
            "kid": self.kid,
            "use": "sig",
            "alg": "EdDSA",
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

/// A key that was just made and is nowhere else yet.
pub(crate) struct NewKey {
    der: Vec<u8>,
    key: SigningKey,
}

impl NewKey {
    pub(crate) fn generate() -> Self {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let der = [PKCS8_PREFIX.as_slice(), &seed].concat();
        let key = SigningKey::from_pkcs8(&der).expect("any 32 bytes are an Ed25519 key");
        Self { der, key }
    }

    pub(crate) fn into_key(self) -> SigningKey {
        self.key
    }

    pub(crate) fn kid(&self) -> &str {
        self.key.kid()
    }

    pub(crate) fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }
}

fn thumbprint(x: &str) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        // RFC 8037, appendix A.1 and A.3.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                   -----END PRIVATE KEY-----\n";
        let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(
            key.jwk()["x"],
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let new = NewKey::generate();
        let read = SigningKey::from_pem(new.pem().as_bytes()).unwrap();
        assert_eq!(read.kid(), new.kid());
    }

    #[test]
    fn a_file_without_an_ed25519_key_is_refused_with_its_reason() {
        let rsa = "-----BEGIN PRIVATE KEY-----\nMIIBVQIBADANBgkqhkiG9w0BAQEFAASC\n\
                   -----END PRIVATE KEY-----\n";
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4=\n\
                         -----END ENCRYPTED PRIVATE KEY-----\n";
        let reason = |text: &str| {
            let refused = SigningKey::from_pem(text.as_bytes());
            refused.unwrap_err().to_string()
        };
        assert!(reason("").contains("openssl genpkey"));
        assert!(reason(encrypted).contains("not encrypted"));
        assert!(reason(rsa).contains("not an Ed25519 key"));
    }

    #[test]
    fn nothing_of_the_private_half_shows() {
        let new = NewKey::generate();
        let secret = STANDARD.encode(&new.der[16..]);
        assert!(new.pem().len() > 100);
        let shown = format!("{:?} {}", new.key, new.key.jwk());
        assert!(!shown.contains(&secret[..20]), "{shown}");
    }
}
