//! What a client wants to talk to: its own words, over what its tenant's server attached to its
//! client secret, over the relay's defaults.
//!
//! **Invariants**
//! - No session is opened with a model that the tenant, or the client secret, may not use.
//! - A client secret for transcription opens no conversation, nor the other way round.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::auth::Caller;
use crate::core::port::Fault;
use crate::gateway::Opening;
use crate::server::error::ApiError;
use crate::server::fields::shown;
use crate::wire::realtime::Carrier;

/// Characters of a model's name. It becomes a part of the provider's URL.
const LONGEST_MODEL: usize = 256;

/// The parts of a session object that hold parts themselves; all others are replaced whole.
const NESTED: [&str; 3] = ["audio", "input", "output"];

/// What a client says it wants.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Its session object.
    pub(crate) session: Option<Value>,
    /// `?model=`
    pub(crate) model: Option<String>,
    /// `?intent=`
    pub(crate) intent: Option<String>,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    /// Settings to begin with; `Null` if there are none.
    pub(crate) session: Value,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Conversation { model: String },
    Transcription,
}

impl Wanted {
    /// Judges what this caller asks for; `fallback` is the model for a conversation that names
    /// none.
    pub(crate) fn judge(
        asked: Asked,
        caller: &Caller,
        fallback: Option<&str>,
    ) -> Result<Self, ApiError> {
        let own = asked.session.unwrap_or_default();
        let attached = attached(caller);
        let model = match model(&own)? {
            Some(model) => Some(model),
            None => asked.model.filter(|model| !model.is_empty()),
        };
        let kind = if transcribes(&own, attached, model.as_deref(), asked.intent.as_deref())? {
            Kind::Transcription
        } else {
            let attached_model = attached["model"].as_str();
            let model = model
                .as_deref()
                .or(attached_model)
                .or(fallback)
                .ok_or_else(no_model)?;
            allowed(caller, model, "model")?;
            Kind::Conversation {
                model: model.to_owned(),
            }
        };
        let session = merged(attached.clone(), own);
        if kind == Kind::Transcription {
            let model = session.pointer("/audio/input/transcription/model");
            let model = model.and_then(Value::as_str).unwrap_or("");
            allowed(caller, model, "session.audio.input.transcription.model")?;
        }
        Ok(Self { kind, session })
    }

    /// Describes the link that this takes.
    pub(crate) fn opening(self, carrier: Carrier) -> Result<Opening, ApiError> {
        let opening = match self.kind {
            Kind::Conversation { model } => Opening::conversation(model, self.session, carrier),
            Kind::Transcription => Opening::transcription(self.session, carrier),
        };
        opening.map_err(ApiError::bad_request)
    }
}

/// The session object that the tenant's server attached.
fn attached(caller: &Caller) -> &Value {
    let session = caller.grant().and_then(|grant| grant.session.as_deref());
    session.unwrap_or(&Value::Null)
}

/// Tells a transcription from a conversation.
fn transcribes(
    own: &Value,
    attached: &Value,
    model: Option<&str>,
    intent: Option<&str>,
) -> Result<bool, ApiError> {
    let asked = match (intent, own["type"].as_str()) {
        (Some("transcription"), _) if model.is_some() => {
            let message = "`model` and `intent` exclude each other: a transcription session \
                           names its model in `session.audio.input.transcription.model`.";
            return Err(invalid("invalid_value", message, "intent"));
        }
        (Some("transcription"), _) | (None, Some("transcription")) => Some(true),
        (Some(other), _) => {
            let other = shown(other);
            let message = format!("`intent` is {other:?}; it can be `transcription`.");
            return Err(invalid("invalid_value", &message, "intent"));
        }
        (None, Some(_)) => Some(false),
        (None, None) => model.is_some().then_some(false),
    };
    let granted = attached["type"]
        .as_str()
        .map(|kind| kind == "transcription");
    match (asked, granted) {
        (Some(asked), Some(granted)) if asked != granted => {
            let [is, wanted] = if granted {
                [
                    "transcription: connect with `?intent=transcription`",
                    "a conversation",
                ]
            } else {
                ["a conversation: connect with a `model`", "transcription"]
            };
            let message =
                format!("The client secret is for {is}; it opens no session for {wanted}.");
            Err(invalid("invalid_value", &message, "session.type"))
        }
        (asked, granted) => Ok(asked.or(granted).unwrap_or(false)),
    }
}

fn model(session: &Value) -> Result<Option<String>, ApiError> {
    match session.get("model") {
        None => Ok(None),
        Some(Value::String(model)) => Ok(Some(model.clone())),
        Some(other) => {
            let other = shown(&other.to_string());
            let message = format!("`session.model` is {other}; it must be a string.");
            Err(invalid("invalid_type", &message, "session.model"))
        }
    }
}

fn allowed(caller: &Caller, model: &str, param: &str) -> Result<(), ApiError> {
    if model.chars().count() > LONGEST_MODEL {
        let message = format!("`{param}` has more than {LONGEST_MODEL} characters.");
        return Err(invalid("invalid_value", &message, param));
    }
    caller.check_model(model).map_err(|fault| {
        let fault = Fault {
            param: Some(param.to_owned()),
            ..fault
        };
        ApiError::new(StatusCode::FORBIDDEN, fault)
    })
}

/// Lays a client's settings over those that were attached, as a `session.update` would.
fn merged(base: Value, over: Value) -> Value {
    match (base, over) {
        (base, Value::Null) => base,
        (Value::Object(base), Value::Object(over)) => Value::Object(laid(base, over)),
        (_, over) => over,
    }
}

fn laid(mut base: Map<String, Value>, over: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in over {
        let value = match base.remove(&key) {
            Some(under) if NESTED.contains(&key.as_str()) && !value.is_null() => {
                merged(under, value)
            }
            Some(_) | None => value,
        };
        base.insert(key, value);
    }
    base
}

fn no_model() -> ApiError {
    let message = "No model was given: connect to `/v1/realtime?model=...`.";
    invalid("missing_model", message, "model")
}

fn invalid(code: &'static str, message: &str, param: &str) -> ApiError {
    ApiError::bad_request(Fault::invalid(code, message).at(param))
}
