//! Makes what a forger would, from the relay's own key where that is what it takes.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

use crate::auth::tests::{at, code, settings};
use crate::auth::{Authority, Settings};

/// The relay's own key: that of RFC 8037, appendix A.
pub(crate) const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                   -----END PRIVATE KEY-----\n";
pub(crate) const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

/// An authority whose only key is [`PEM`].
pub(crate) fn authority() -> (Authority, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("1.pem"), PEM).unwrap();
    let settings = Settings {
        keys: Some(dir.path().to_owned()),
        ..settings()
    };
    (Authority::open(settings, at(0)).unwrap(), dir)
}

pub(crate) fn verdict(authority: &Authority, jwt: &str) -> String {
    code(authority.authenticate(&format!("ek_{jwt}"), None, at(0)))
}

pub(crate) fn own_key() -> Ed25519KeyPair {
    let text = PEM.lines().nth(1).unwrap();
    let der = STANDARD.decode(text).unwrap();
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap()
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": "voxline",
        "aud": "voxline:realtime",
        "iat": seconds(0),
        "nbf": seconds(0),
        "exp": seconds(60),
        "jti": "1",
        "tenant": "default",
    })
}

pub(crate) fn seconds(after: u64) -> u64 {
    let since = at(after).duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

/// The object with this field, or without it where the value is null.
pub(crate) fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.as_object().unwrap().clone();
    if value.is_null() {
        object.remove(name);
    } else {
        object.insert(name.to_owned(), value);
    }
    object.into()
}

pub(crate) fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

pub(crate) fn signed(header: &Value, claims: &Value, key: &Ed25519KeyPair) -> String {
    signed_text(&part(header), &part(claims), key)
}

pub(crate) fn signed_text(header: &str, claims: &str, key: &Ed25519KeyPair) -> String {
    let message = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}
