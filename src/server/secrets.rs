//! `POST /v1/realtime/client_secrets`: what an application's own server fetches for its users'
//! devices, in OpenAI's shapes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use crate::auth::{Minted, Wish};
use crate::clock;
use crate::core::port::{Fault, FaultKind};
use crate::core::token::RotationConfig;
use crate::server::App;
use crate::server::auth::ByKey;
use crate::server::body::json_object;
use crate::server::error::ApiError;
use crate::server::fields::{known, text, unsupported, wrong_type};

/// What OpenAI takes as `expires_after.seconds`.
const SECONDS: (u64, u64) = (10, 7200);

/// How a server that speaks OpenAI's API names the user on whose behalf it asks.
const USER: &str = "openai-safety-identifier";

/// Kinds of sessions, and how OpenAI names their objects.
const TYPES: [(&str, &str); 2] = [
    ("realtime", "realtime.session"),
    ("transcription", "realtime.transcription_session"),
];

/// `POST /v1/realtime/client_secrets`
pub(crate) async fn create(
    ByKey(tenant): ByKey,
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    app.admission.secret(&tenant, clock::now())?;
    let user = user(request.headers())?;
    let body = json_object(request, &app.config.limits).await?;
    let mut wish = wish(&body).map_err(ApiError::bad_request)?;
    wish.user = wish.user.or(user);
    let session = effective(wish.session.as_ref(), app.config.model.as_str());
    let now = clock::wall();
    let minted = app.authority.mint(&tenant, wish, now).map_err(unminted)?;
    tracing::info!(tenant = tenant.id, token = %minted.id, "Client secret made");
    Ok(axum::Json(answer(&minted, &session, now)))
}

fn answer(minted: &Minted, session: &Value, now: SystemTime) -> Value {
    let life = minted.expires.duration_since(now).unwrap_or_default();
    let renew_at = minted.expires - RotationConfig::default().lead_in(life);
    json!({
        "value": minted.token.expose(),
        "expires_at": clock::unix(minted.expires),
        "session": session,
        "voxline": { "token_id": minted.id.as_str(), "renew_at": clock::unix(renew_at) },
    })
}

/// Reads the request's body.
fn wish(body: &Value) -> Result<Wish, Fault> {
    known(body, "", &["expires_after", "session", "voxline"])?;
    let session = &body["session"];
    check_session(session)?;
    let own = &body["voxline"];
    if !own.is_null() {
        known(own, "voxline", &["user", "device", "models"])?;
    }
    Ok(Wish {
        user: text(&own["user"], "voxline.user")?,
        device: text(&own["device"], "voxline.device")?,
        models: models(&own["models"])?,
        session: (!session.is_null()).then(|| session.clone()),
        ttl: ttl(&body["expires_after"])?,
    })
}

fn ttl(expires_after: &Value) -> Result<Option<Duration>, Fault> {
    if expires_after.is_null() {
        return Ok(None);
    }
    known(expires_after, "expires_after", &["anchor", "seconds"])?;
    let anchor = text(&expires_after["anchor"], "expires_after.anchor")?;
    if let Some(anchor) = anchor.filter(|anchor| anchor != "created_at") {
        return Err(unsupported(&anchor, "expires_after.anchor", "'created_at'"));
    }
    let seconds = &expires_after["seconds"];
    if seconds.is_null() {
        return Ok(None);
    }
    let param = "expires_after.seconds";
    if !seconds.is_i64() && !seconds.is_u64() {
        return Err(wrong_type(seconds, param, "an integer"));
    }
    let (least, most) = SECONDS;
    let (code, bound) = match seconds.as_u64() {
        Some(seconds) if (least..=most).contains(&seconds) => {
            return Ok(Some(Duration::from_secs(seconds)));
        }
        Some(seconds) if seconds > most => (
            "integer_above_max_value",
            format!("integer above maximum value. Expected a value <= {most}"),
        ),
        Some(_) | None => (
            "integer_below_min_value",
            format!("integer below minimum value. Expected a value >= {least}"),
        ),
    };
    let message = format!("Invalid '{param}': {bound}, but got {seconds} instead.");
    Err(Fault::invalid(code, message).at(param))
}

fn check_session(session: &Value) -> Result<(), Fault> {
    if session.is_null() {
        return Ok(());
    }
    if !session.is_object() {
        return Err(wrong_type(session, "session", "an object"));
    }
    let Some(kind) = text(&session["type"], "session.type")? else {
        let message = "Missing required parameter: 'session.type'.";
        return Err(Fault::invalid("missing_required_parameter", message).at("session.type"));
    };
    if !TYPES.iter().any(|(known, _)| *known == kind) {
        let all = "'realtime' and 'transcription'";
        return Err(unsupported(&kind, "session.type", all));
    }
    text(&session["model"], "session.model")?;
    Ok(())
}

/// What a session that is opened with this secret will be, as far as it is known before.
fn effective(attached: Option<&Value>, model: &str) -> Value {
    let mut session = match attached {
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) | None => Map::new(),
    };
    let kind = session.get("type").and_then(Value::as_str);
    let kind = kind.unwrap_or("realtime").to_owned();
    let object = TYPES.iter().find(|(known, _)| *known == kind);
    session.insert("object".to_owned(), object.map(|(_, name)| *name).into());
    let id = format!("sess_{}", uuid::Uuid::new_v4().simple());
    session.insert("id".to_owned(), id.into());
    // There is no session yet.
    session.insert("expires_at".to_owned(), 0.into());
    if kind == "realtime" && session.get("model").is_none_or(Value::is_null) {
        session.insert("model".to_owned(), model.into());
    }
    session.insert("type".to_owned(), kind.into());
    Value::Object(session)
}

fn models(value: &Value) -> Result<Option<Vec<String>>, Fault> {
    let param = "voxline.models";
    let list = match value {
        Value::Null => return Ok(None),
        Value::Array(list) => list,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            return Err(wrong_type(value, param, "an array of strings"));
        }
    };
    let name = |value: &Value| {
        let name = value.as_str().map(str::to_owned);
        name.ok_or_else(|| wrong_type(value, param, "an array of strings"))
    };
    list.iter().map(name).collect::<Result<_, _>>().map(Some)
}

fn user(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(USER).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(user) if values.next().is_none() => Ok(Some(user.to_owned())),
        Ok(_) | Err(_) => {
            let message = "`OpenAI-Safety-Identifier` must be there once, as plain text.";
            Err(ApiError::bad_request(Fault::invalid(
                "invalid_value",
                message,
            )))
        }
    }
}

fn unminted(fault: Fault) -> ApiError {
    match fault.kind {
        FaultKind::InvalidRequest if fault.code == "model_not_allowed" => {
            ApiError::new(StatusCode::FORBIDDEN, fault)
        }
        FaultKind::InvalidRequest => ApiError::bad_request(fault),
        FaultKind::Server => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, fault),
    }
}
