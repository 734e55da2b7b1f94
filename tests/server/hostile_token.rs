//! Tokens that somebody might forge, with the relay's own key where that is the point.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use voxline::auth::write_signing_key;

/// Holds the relay's signing key, and one that is not the relay's.
pub(crate) struct Forge {
    directory: TempDir,
    kid: String,
    key: Ed25519KeyPair,
    foreign: Ed25519KeyPair,
    now: u64,
}

impl Forge {
    #[expect(
        clippy::disallowed_methods,
        reason = "tokens are about the time of day"
    )]
    pub(crate) fn new() -> Self {
        let now = SystemTime::now();
        let [directory, elsewhere] = [(); 2].map(|()| TempDir::new().unwrap());
        let (path, kid) = write_signing_key(directory.path(), now).unwrap();
        let (foreign, _) = write_signing_key(elsewhere.path(), now).unwrap();
        let [key, foreign] =
            [path, foreign].map(|path| read(&std::fs::read_to_string(path).unwrap()));
        Self {
            directory,
            kid,
            key,
            foreign,
            now: now.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        }
    }

    pub(crate) fn directory(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// What it is, the token, and the code that it gets.
    pub(crate) fn tokens(&self) -> Vec<(&'static str, String, &'static str)> {
        let header = self.header();
        let good = self.signed(&header, &self.claims(&json!({})));
        let (body, signature) = good.rsplit_once('.').unwrap();
        let with = |changes: Value| format!("ek_{}", self.signed(&header, &self.claims(&changes)));
        let headed = |changes: Value| {
            format!(
                "ek_{}",
                self.signed(&merged(&header, &changes), &self.claims(&json!({})))
            )
        };
        let claims = encode(&self.claims(&json!({"user": "root"})));
        let altered = format!("{}.{claims}.{signature}", body.split_once('.').unwrap().0);
        let stranger = sign(&self.foreign, &header, &self.claims(&json!({})));
        let hour = 3600;
        vec![
            ("ek_ and nothing", "ek_".to_owned(), "token_malformed"),
            (
                "ek_ and nonsense",
                "ek_let-me-in".to_owned(),
                "token_malformed",
            ),
            (
                "ek_ and three empty parts",
                "ek_...".to_owned(),
                "token_malformed",
            ),
            ("two parts", format!("ek_{body}"), "token_malformed"),
            (
                "5,000 bytes",
                format!("ek_{}", "x".repeat(5000)),
                "token_malformed",
            ),
            (
                "a header that is not JSON",
                format!("ek_eHh4.{claims}.{signature}"),
                "token_malformed",
            ),
            ("alg none", self.unsigned("none"), "token_algorithm"),
            ("alg NoNe", self.unsigned("NoNe"), "token_algorithm"),
            (
                "HS256 with the public key as secret",
                self.confused(),
                "token_algorithm",
            ),
            ("RS256", self.unsigned("RS256"), "token_algorithm"),
            (
                "a key of its own in the header",
                headed(json!({"jwk": {}})),
                "token_malformed",
            ),
            (
                "a key's address in the header",
                headed(json!({"jku": "https://evil.example"})),
                "token_malformed",
            ),
            (
                "an unknown key id",
                headed(json!({"kid": "x"})),
                "token_unknown_key",
            ),
            (
                "a path as key id",
                headed(json!({"kid": "../../dev/null"})),
                "token_unknown_key",
            ),
            ("no key id", headed(json!({"kid": null})), "token_malformed"),
            (
                "a foreign key under our id",
                format!("ek_{stranger}"),
                "token_signature",
            ),
            (
                "other claims under our signature",
                format!("ek_{altered}"),
                "token_signature",
            ),
            ("no signature", format!("ek_{body}."), "token_signature"),
            (
                "expired",
                with(json!({"exp": self.now - hour})),
                "token_expired",
            ),
            (
                "not yet valid",
                with(json!({"nbf": self.now + hour})),
                "token_not_yet_valid",
            ),
            ("no end", with(json!({"exp": null})), "token_malformed"),
            (
                "an end that is text",
                with(json!({"exp": "never"})),
                "token_malformed",
            ),
            (
                "another issuer",
                with(json!({"iss": "evil"})),
                "token_wrong_issuer",
            ),
            (
                "for another audience",
                with(json!({"aud": "openai"})),
                "token_wrong_audience",
            ),
            (
                "a client secret as resume token",
                format!("rt_{good}"),
                "token_wrong_audience",
            ),
            (
                "a resume token as client secret",
                with(json!({"aud": "voxline:resume"})),
                "token_wrong_audience",
            ),
            (
                "a tenant that is not there",
                with(json!({"tenant": "nobody"})),
                "tenant_unknown",
            ),
            (
                "settings that are not kept",
                with(json!({"config": "x"})),
                "token_unknown_config",
            ),
        ]
    }

    fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": "EdDSA", "kid": self.kid})
    }

    /// What a good token claims, but for these changes.
    fn claims(&self, changes: &Value) -> Value {
        let good = json!({
            "iss": "voxline", "aud": "voxline:realtime", "tenant": "default", "jti": "forged",
            "iat": self.now, "nbf": self.now, "exp": self.now + 300,
        });
        merged(&good, changes)
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        sign(&self.key, header, claims)
    }

    fn unsigned(&self, algorithm: &str) -> String {
        let header = merged(&self.header(), &json!({ "alg": algorithm }));
        format!(
            "ek_{}.{}.",
            encode(&header),
            encode(&self.claims(&json!({})))
        )
    }

    /// Signs with what everybody knows, for a relay that takes the header's word for it.
    fn confused(&self) -> String {
        let header = merged(&self.header(), &json!({"alg": "HS256"}));
        let body = format!("{}.{}", encode(&header), encode(&self.claims(&json!({}))));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.public_key().as_ref());
        let signature = hmac::sign(&key, body.as_bytes());
        format!("ek_{body}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn read(pem: &str) -> Ed25519KeyPair {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    let der = STANDARD.decode(lines.collect::<String>()).unwrap();
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap()
}

fn sign(key: &Ed25519KeyPair, header: &Value, claims: &Value) -> String {
    let body = format!("{}.{}", encode(header), encode(claims));
    let signature = key.sign(body.as_bytes());
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Lays changes over an object; `null` takes a field away.
fn merged(object: &Value, changes: &Value) -> Value {
    let mut merged = object.clone();
    for (name, value) in changes.as_object().unwrap() {
        let fields = merged.as_object_mut().unwrap();
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    merged
}
