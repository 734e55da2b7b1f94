//! Judges who connects, after the upgrade, as OpenAI does: by an `error` event and a close.

use std::time::Instant;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use crate::sim::faults::Faults;
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::reader::Read;
use crate::sim::protocol::session::Purpose;
use crate::sim::secrets::{self, Attached, Secrets};
use crate::sim::settings::Settings;

/// The subprotocol that is selected, if it is offered.
pub(crate) const SUBPROTOCOL: &str = "realtime";

const KEY_SUBPROTOCOL: &str = "openai-insecure-api-key.";
const BETA_SUBPROTOCOL: &str = "openai-beta.";

/// What a client shows to be let in.
pub(crate) struct Key(String);

/// What a client wants, by the URL it connects to.
#[derive(Default, Deserialize)]
pub(crate) struct Wanted {
    model: Option<String>,
    call_id: Option<String>,
    intent: Option<String>,
}

/// What a client has come for.
pub(crate) enum Errand {
    /// A session of its own.
    Session(Box<Attached>),
    /// To join the call of this name from beside.
    Call(String),
}

/// What a client brings to the door.
pub(crate) struct Visitor {
    key: Key,
    beta: bool,
    wanted: Wanted,
}

/// Why a client is sent away.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: ApiError,
    pub(crate) close: u16,
    pub(crate) reason: String,
}

impl Key {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim());
        let insecure = || offered(headers).find_map(|it| it.strip_prefix(KEY_SUBPROTOCOL));
        Self(bearer.or_else(insecure).unwrap_or_default().to_owned())
    }

    /// Returns the text, for the one who must show it again.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether it is an API key.
    pub(crate) fn opens_all(&self, settings: &Settings, faults: &Faults) -> Read<()> {
        let opens = match &settings.api_key {
            _ if faults.unauthorized => false,
            Some(expected) => expected.as_bytes().ct_eq(self.0.as_bytes()).into(),
            None => !self.0.is_empty() && !self.0.starts_with(secrets::PREFIX),
        };
        if opens {
            Ok(())
        } else if self.0.starts_with(secrets::PREFIX) {
            let message = "Incorrect API key provided: the client secret is unknown or has \
                expired, or does not open this. Make one by 'POST /v1/realtime/client_secrets'.";
            Err(ApiError::new("invalid_api_key", message))
        } else {
            Err(ApiError::new(
                "invalid_api_key",
                "Incorrect API key provided.",
            ))
        }
    }

    /// Tells whether it opens a session, and returns the one that it is for if it is a client
    /// secret.
    pub(crate) fn opens_session(
        &self,
        settings: &Settings,
        faults: &Faults,
        secrets: &Secrets,
        now: Instant,
    ) -> Read<Option<Attached>> {
        match secrets.find(&self.0, now) {
            Some(attached) if !faults.unauthorized => Ok(Some(attached)),
            _ => self.opens_all(settings, faults).map(|()| None),
        }
    }
}

impl From<Attached> for Errand {
    fn from(attached: Attached) -> Self {
        Self::Session(Box::new(attached))
    }
}

impl Visitor {
    pub(crate) fn new(headers: &HeaderMap, wanted: Wanted) -> Self {
        let is_beta = |protocol: &str| protocol.starts_with(BETA_SUBPROTOCOL);
        Self {
            key: Key::of(headers),
            beta: headers.contains_key("openai-beta") || offered(headers).any(is_beta),
            wanted,
        }
    }

    /// Returns what it is let in for.
    pub(crate) fn judge(
        self,
        settings: &Settings,
        faults: &Faults,
        secrets: &Secrets,
        now: Instant,
    ) -> Result<Errand, Refusal> {
        let attached = self.key.opens_session(settings, faults, secrets, now);
        let attached = attached.map_err(|error| Refusal::new(3000, error))?;
        if self.beta {
            let message = "The Realtime Beta API is no longer supported. Connect without the \
                'OpenAI-Beta' header.";
            let error = ApiError::new("beta_api_shape_disabled", message);
            return Err(Refusal::new(4000, error));
        }
        let judged = match (self.wanted.goal(), attached) {
            (Err(error), _) => Err(error),
            (Ok(Goal::Call(call)), None) => Ok(Errand::Call(call)),
            (Ok(Goal::Call(_)), Some(_)) => {
                let message = "A client secret opens sessions; join a call with an API key.";
                Err(ApiError::invalid_value("call_id", message))
            }
            (Ok(Goal::Unsaid), Some(attached)) => Ok(attached.into()),
            (Ok(Goal::Session(purpose)), Some(attached)) => {
                attached.joined_to(purpose).map(Errand::from)
            }
            (Ok(Goal::Session(purpose)), None) => {
                let config = purpose.config();
                Ok(Attached { purpose, config }.into())
            }
            (Ok(Goal::Unsaid), None) => {
                let message = "You must provide a model parameter, such as \
                    '?model=gpt-realtime-2.1'.";
                Err(ApiError::new("missing_model", message).at("model"))
            }
        };
        judged.map_err(|error| Refusal::new(4000, error))
    }
}

/// What a URL says.
enum Goal {
    Unsaid,
    Session(Purpose),
    Call(String),
}

impl Wanted {
    fn goal(self) -> Read<Goal> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let all = (given(self.model), given(self.call_id), given(self.intent));
        match all {
            (None, None, None) => Ok(Goal::Unsaid),
            (Some(name), None, None) => {
                let model = model(name)?;
                Ok(Goal::Session(Purpose::Conversation { model }))
            }
            (None, None, Some(intent)) if intent == "transcription" => {
                Ok(Goal::Session(Purpose::Transcription))
            }
            (None, None, Some(intent)) => {
                Err(ApiError::unsupported("intent", &intent, &["transcription"]))
            }
            (None, Some(call), None) => Ok(Goal::Call(call)),
            _ => {
                let message = "Provide exactly one of 'model', 'call_id' and 'intent'.";
                Err(ApiError::invalid_value("model", message))
            }
        }
    }
}

impl Attached {
    /// Takes what the client itself wants, if it fits.
    fn joined_to(self, wanted: Purpose) -> Read<Self> {
        let (param, message) = match (&self.purpose, &wanted) {
            (Purpose::Conversation { .. }, Purpose::Conversation { .. })
            | (Purpose::Transcription, Purpose::Transcription) => {
                return Ok(Self {
                    purpose: wanted,
                    ..self
                });
            }
            (Purpose::Conversation { .. }, Purpose::Transcription) => (
                "intent",
                "The client secret is for a conversation: connect with '?model=...'.",
            ),
            (Purpose::Transcription, Purpose::Conversation { .. }) => (
                "model",
                "The client secret is for a transcription: connect with '?intent=transcription'.",
            ),
        };
        Err(ApiError::invalid_value(param, message))
    }
}

/// Takes the name of a model that can hold a conversation.
pub(crate) fn model(name: String) -> Read<String> {
    if name.starts_with("gpt-realtime") && name.len() <= 128 {
        return Ok(name);
    }
    let message = "The model is not supported in realtime mode; connect with one whose name starts \
        with 'gpt-realtime'.";
    Err(ApiError::new("invalid_model", message).at("model"))
}

/// The subprotocols that a client offers.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
}

impl Refusal {
    /// There is no call of the name that is to be joined.
    pub(crate) fn unknown_call() -> Self {
        let message = "No session found for the provided call_id.";
        Self::new(
            4000,
            ApiError::new("call_id_not_found", message).at("call_id"),
        )
    }

    fn new(close: u16, error: ApiError) -> Self {
        let code = error.code.unwrap_or_default();
        Self {
            reason: format!("{}.{code}", error.kind),
            error,
            close,
        }
    }
}
