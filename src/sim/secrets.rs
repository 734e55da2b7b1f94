//! Client secrets: keys that a server has made for its clients, with the session they are for.
//!
//! **Invariants:** a secret opens any number of sessions until it expires, and none after; it
//! makes no other secrets; at most [`MAX_SECRETS`] are valid at one time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::clock;
use crate::sim::admission::{Key, model};
use crate::sim::control::Control;
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::ids::Ids;
use crate::sim::protocol::reader::{Fields, Read, integer, nullable, object, string, word};
use crate::sim::protocol::server::SessionObject;
use crate::sim::protocol::session::{Purpose, Rules, SessionConfig};
use crate::sim::settings::Settings;

/// What every secret begins with, as OpenAI's do.
pub(crate) const PREFIX: &str = "ek_";

/// The most secrets that are valid at one time.
const MAX_SECRETS: usize = 4_096;
/// The largest request: instructions and tools fit many times.
const MAX_BODY: usize = 1 << 20;
/// How long a secret is valid if nobody says.
const DEFAULT_SECONDS: u64 = 600;
/// The model of a session for which nobody names one.
const DEFAULT_MODEL: &str = "gpt-realtime-2.1";

/// The secrets that have been made. Cloned for everyone who needs to know them.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<HashMap<String, Secret>>>);

struct Secret {
    expires: Instant,
    session: Attached,
}

/// The session that a secret is for.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    pub(crate) purpose: Purpose,
    pub(crate) config: SessionConfig,
}

/// What a server asks for.
#[derive(Debug)]
struct Wish {
    valid: Duration,
    session: Attached,
}

impl Secrets {
    /// Returns the session that this secret is for, if it is valid.
    pub(crate) fn find(&self, value: &str, now: Instant) -> Option<Attached> {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = secrets.get(value).filter(|secret| now < secret.expires)?;
        Some(secret.session.clone())
    }

    /// Keeps a new secret; forgets those that have expired.
    fn keep(&self, value: String, secret: Secret, now: Instant) -> Read<()> {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if secrets.len() >= MAX_SECRETS {
            secrets.retain(|_, kept| now < kept.expires);
        }
        if secrets.len() >= MAX_SECRETS {
            let message = format!("At most {MAX_SECRETS} client secrets can be valid at once.");
            return Err(ApiError::new("rate_limit_exceeded", message));
        }
        secrets.insert(value, secret);
        Ok(())
    }
}

#[derive(Clone)]
struct Mint {
    settings: Arc<Settings>,
    control: Control,
    secrets: Secrets,
}

/// Serves `POST /v1/realtime/client_secrets`.
pub(crate) fn router(settings: Arc<Settings>, control: Control, secrets: Secrets) -> Router {
    Router::new()
        .route("/v1/realtime/client_secrets", post(create))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Mint {
            settings,
            control,
            secrets,
        })
}

async fn create(
    State(mint): State<Mint>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Err(error) = Key::of(&headers).opens_all(&mint.settings, &mint.control.current()) {
        return refused(StatusCode::UNAUTHORIZED, &error);
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let error = ApiError::new("invalid_request", rejection.body_text());
            return refused(rejection.status(), &error);
        }
    };
    let made = wish(&body).and_then(|wish| {
        let mut ids = Ids::new(rand::random());
        let value = format!("{PREFIX}{:032x}", rand::random::<u128>());
        let (now, wall) = (clock::now(), clock::wall());
        let shown = shown(&value, &wish, ids.next("sess"), wall);
        let secret = Secret {
            expires: now + wish.valid,
            session: wish.session,
        };
        mint.secrets.keep(value, secret, now).map(|()| shown)
    });
    match made {
        Ok(shown) => axum::Json(shown).into_response(),
        Err(error) if error.code == Some("rate_limit_exceeded") => {
            refused(StatusCode::TOO_MANY_REQUESTS, &error)
        }
        Err(error) => refused(StatusCode::BAD_REQUEST, &error.bounded()),
    }
}

fn wish(body: &[u8]) -> Read<Wish> {
    let body = match body.trim_ascii() {
        [] => json!({}),
        body => serde_json::from_slice(body).map_err(|fault| {
            let message = format!("Invalid JSON in the body of the request: {fault}.");
            ApiError::new("invalid_json", message)
        })?,
    };
    let mut fields = Fields::open(body, "")?;
    let valid = fields.optional("expires_after", nullable(expires_after))?;
    let session = fields.optional("session", nullable(object))?.flatten();
    fields.finish()?;
    Ok(Wish {
        valid: valid
            .flatten()
            .unwrap_or(Duration::from_secs(DEFAULT_SECONDS)),
        session: attached(session)?,
    })
}

fn expires_after(value: Value, path: &str) -> Read<Duration> {
    let mut fields = Fields::open(value, path)?;
    fields.optional("anchor", word(&["created_at"]))?;
    let seconds = fields.optional("seconds", integer(10..=7_200))?;
    fields.finish()?;
    Ok(Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS)))
}

/// Reads a session object, either kind.
fn attached(session: Option<Value>) -> Read<Attached> {
    let mut session = session.unwrap_or_else(|| json!({"type": "realtime"}));
    let purpose = if session["type"] == "transcription" {
        Purpose::Transcription
    } else {
        let named = session.as_object_mut().and_then(|s| s.remove("model"));
        let model = match named {
            Some(named) => {
                model(string(named, "session.model")?).map_err(|error| error.at("session.model"))?
            }
            None => DEFAULT_MODEL.to_owned(),
        };
        Purpose::Conversation { model }
    };
    let rules = Rules {
        purpose: &purpose,
        voice_locked: false,
    };
    let config = purpose.config().updated(session, &rules)?;
    Ok(Attached { purpose, config })
}

fn shown(value: &str, wish: &Wish, id: String, wall: SystemTime) -> Value {
    let Attached { purpose, config } = wish.session.clone();
    let session = SessionObject {
        id,
        expires_at: 0,
        purpose,
        config,
    };
    json!({
        "value": value,
        "expires_at": clock::unix(wall + wish.valid),
        "session": session,
    })
}

fn refused(status: StatusCode, error: &ApiError) -> Response {
    (status, axum::Json(json!({"error": error}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_sessions_until_it_expires() {
        let (secrets, now) = (Secrets::default(), clock::now());
        let minute = Duration::from_secs(60);
        keep(&secrets, "ek_1", now + minute, now).unwrap();

        for at in [now, now, now + minute - Duration::from_nanos(1)] {
            assert!(secrets.find("ek_1", at).is_some());
        }
        assert!(secrets.find("ek_1", now + minute).is_none());
        assert!(secrets.find("ek_2", now).is_none());
    }

    #[test]
    fn beyond_the_bound_only_those_that_expired_make_room() {
        let (secrets, now) = (Secrets::default(), clock::now());
        let minute = Duration::from_secs(60);
        for index in 0..MAX_SECRETS {
            let expires = now + minute * (1 + u32::from(index > 0));
            keep(&secrets, &format!("ek_{index}"), expires, now).unwrap();
        }

        let error = keep(&secrets, "ek_x", now + minute, now).unwrap_err();
        assert_eq!(error.code, Some("rate_limit_exceeded"));
        keep(&secrets, "ek_x", now + minute * 3, now + minute).unwrap();
        assert!(secrets.find("ek_x", now + minute).is_some());
        assert!(secrets.find("ek_1", now + minute).is_some());
    }

    fn keep(secrets: &Secrets, value: &str, expires: Instant, now: Instant) -> Read<()> {
        let session = attached(None)?;
        secrets.keep(value.to_owned(), Secret { expires, session }, now)
    }
}
