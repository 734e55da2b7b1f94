//! Client secrets and resume tokens as text: JWTs (RFC 7519) behind a prefix.
//!
//! **Invariants**
//! - What a token says of itself decides nothing but which of our keys verifies it.
//! - No claim is looked at before the signature is verified.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::signing::SigningKey;
use crate::clock::{since_1970, unix};
use crate::core::port::{Fault, Token};

/// The longest text that is looked at: several times what the relay makes.
pub(crate) const MAX_TOKEN: usize = 4096;

/// How many bytes of that are left for what only a resume token says.
const ROOM_TO_RESUME: usize = 256;

/// What a token is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// To hold conversations.
    Secret,
    /// To come back to one.
    Resume,
}

impl Purpose {
    /// Tells by its prefix what a credential is for, if it is a token at all.
    pub(crate) fn of(shown: &str) -> Option<(Self, &str)> {
        [Self::Secret, Self::Resume]
            .into_iter()
            .find_map(|purpose| Some((purpose, shown.strip_prefix(purpose.prefix())?)))
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Secret => "ek_",
            Self::Resume => "rt_",
        }
    }

    fn audience(self) -> &'static str {
        match self {
            Self::Secret => "voxline:realtime",
            Self::Resume => "voxline:resume",
        }
    }
}

/// What a token says.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    /// The tenant's name for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sub: Option<String>,
    pub(crate) iat: u64,
    pub(crate) nbf: u64,
    pub(crate) exp: u64,
    pub(crate) jti: String,
    pub(crate) tenant: String,
    /// A digest of the tenant's name for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) models: Option<Vec<String>>,
    /// Names the session settings that the relay keeps for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    /// The session that a resume token attaches to, and the life of that session's client secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<u64>,
}

impl Claims {
    /// Starts the claims of a new token; the times are in whole seconds, as JWTs have them.
    pub(crate) fn new(
        purpose: Purpose,
        issuer: &str,
        tenant: &str,
        expires: u64,
        now: SystemTime,
    ) -> Self {
        let now = unix(now);
        Self {
            iss: issuer.to_owned(),
            aud: purpose.audience().to_owned(),
            sub: None,
            iat: now,
            nbf: now,
            exp: expires,
            jti: uuid::Uuid::new_v4().simple().to_string(),
            tenant: tenant.to_owned(),
            device: None,
            models: None,
            config: None,
            sid: None,
            ttl: None,
        }
    }

    /// How long it was made to live, or what it renews.
    pub(crate) fn life(&self) -> Duration {
        let life = self.exp.saturating_sub(self.iat);
        Duration::from_secs(self.ttl.unwrap_or(life))
    }

    pub(crate) fn sign(&self, purpose: Purpose, key: &SigningKey) -> Result<Token, Fault> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.kid().to_owned());
        let jwt = jsonwebtoken::encode(&header, self, key.private())
            .map_err(|error| Fault::server("internal_error", format!("Cannot sign: {error}")))?;
        let token = format!("{}{jwt}", purpose.prefix());
        let most = match purpose {
            // Who holds it must be able to get a resume token, which says a little more.
            Purpose::Secret => MAX_TOKEN - ROOM_TO_RESUME,
            Purpose::Resume => MAX_TOKEN,
        };
        if token.len() > most {
            return Err(Fault::invalid(
                "invalid_value",
                format!(
                    "The token would have {} bytes, and {most} is the most: give a shorter user \
                     or fewer models.",
                    token.len()
                ),
            )
            .at("voxline"));
        }
        Ok(token.into())
    }

    /// Verifies a token's text, without its prefix, by the key of ours that it names.
    pub(crate) fn verify(
        purpose: Purpose,
        jwt: &str,
        issuer: &str,
        key_of: impl FnOnce(&str) -> Option<Arc<SigningKey>>,
    ) -> Result<Self, Fault> {
        if jwt.len() > MAX_TOKEN {
            return Err(malformed(&format!(
                "it has {} bytes, and {MAX_TOKEN} is the most",
                jwt.len()
            )));
        }
        let kid = chosen_key(jwt)?;
        let Some(key) = key_of(&kid) else {
            return Err(Fault::invalid(
                "token_unknown_key",
                "The token is signed with a key that this relay does not have, or no longer: \
                 fetch a new token from this relay.",
            ));
        };
        let mut validation = Validation::new(Algorithm::EdDSA);
        // Time is checked by the caller, whose clock it is.
        validation.validate_exp = false;
        validation.set_audience(&[purpose.audience()]);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["aud", "exp", "iss", "nbf"]);
        jsonwebtoken::decode(jwt, key.public(), &validation)
            .map(|data| data.claims)
            .map_err(|error| refusal(error.kind(), purpose))
    }

    /// Checks the token's time; clocks may differ by `skew`.
    pub(crate) fn check_time(&self, skew: Duration, now: SystemTime) -> Result<(), Fault> {
        let now = since_1970(now);
        if now + skew < Duration::from_secs(self.nbf) {
            return Err(Fault::invalid(
                "token_not_yet_valid",
                format!(
                    "The token is valid from {} on (seconds since 1970), and it is {} here: check \
                     the clocks, or use it later.",
                    self.nbf,
                    now.as_secs()
                ),
            ));
        }
        if now >= Duration::from_secs(self.exp).saturating_add(skew) {
            return Err(Fault::invalid(
                "token_expired",
                format!(
                    "The token expired at {} (seconds since 1970), and it is {} here: fetch a new \
                     one.",
                    self.exp,
                    now.as_secs()
                ),
            ));
        }
        Ok(())
    }
}

/// Reads which of our keys a token says it is signed with, and refuses whatever else it says of
/// how it should be verified.
fn chosen_key(jwt: &str) -> Result<String, Fault> {
    let mut parts = jwt.split('.');
    let (Some(header), Some(_), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed(
            "after its prefix there must be three parts with a dot between them",
        ));
    };
    let header = URL_SAFE_NO_PAD
        .decode(header)
        .map_err(|_| malformed("its first part is not base64url"))?;
    let mut header: Map<String, Value> = serde_json::from_slice(&header)
        .map_err(|_| malformed("its first part is not a JSON object"))?;
    match header.remove("alg") {
        Some(Value::String(algorithm)) if algorithm == "EdDSA" => {}
        Some(Value::String(algorithm)) => {
            let algorithm: String = algorithm.chars().take(20).collect();
            return Err(Fault::invalid(
                "token_algorithm",
                format!("The token's algorithm is {algorithm:?}; only EdDSA is accepted."),
            ));
        }
        Some(_) | None => return Err(malformed("its header has no `alg`")),
    }
    let kid = header.remove("kid");
    header.remove("typ");
    if !header.is_empty() {
        // Such as `jku`, `jwk`, `x5u`, `crit`: nothing that we write, so not ours.
        return Err(malformed("its header may hold `alg`, `kid` and `typ` only"));
    }
    match kid {
        Some(Value::String(kid)) => Ok(kid),
        Some(_) | None => Err(malformed("its header has no `kid`")),
    }
}

fn refusal(kind: &ErrorKind, purpose: Purpose) -> Fault {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "not exhaustive; whatever else is wrong with it, it is not a token of ours"
    )]
    match kind {
        ErrorKind::InvalidSignature => Fault::invalid(
            "token_signature",
            "The token's signature does not fit its content: it was changed on its way, or is \
             not this relay's.",
        ),
        ErrorKind::InvalidAudience => Fault::invalid(
            "token_wrong_audience",
            format!(
                "The token is for something else than its prefix says; `{}` needs the audience \
                 `{}`.",
                purpose.prefix(),
                purpose.audience()
            ),
        ),
        ErrorKind::InvalidIssuer => Fault::invalid(
            "token_wrong_issuer",
            "The token was issued by another service, not by this relay (`tokens.issuer`).",
        ),
        _ => malformed("its content is not what this relay writes"),
    }
}

pub(crate) fn malformed(reason: &str) -> Fault {
    Fault::invalid("token_malformed", format!("The token is broken: {reason}."))
}

pub(crate) fn from_unix(seconds: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}
