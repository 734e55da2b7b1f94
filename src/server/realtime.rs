//! WebSocket sessions: judged as OpenAI does, after the upgrade, so that any client can read why
//! it was turned away.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use crate::auth::Caller;
use crate::client::websocket::{Leg, Settings};
use crate::core::ids::SessionId;
use crate::core::port::Fault;
use crate::server::admission::Owner;
use crate::server::auth::{Verdict, protocols};
use crate::server::error::ApiError;
use crate::server::{App, session};
use crate::wire::realtime::Carrier;
use crate::wire::voxline;

/// OpenAI's close codes for clients that must not come back as they are.
const UNAUTHORIZED: u16 = 3000;
const INVALID: u16 = 4000;

/// The largest message that is read of a client that is being turned away: it is dropped.
const REFUSED_SIZE: usize = 64 << 10;

/// OpenAI's subprotocol, and the one that its beta had.
const REALTIME: &str = "realtime";
const BETA: &str = "openai-beta.realtime-v1";

#[derive(Default, Deserialize)]
pub(crate) struct Wanted {
    model: Option<String>,
    call_id: Option<String>,
    intent: Option<String>,
}

/// `GET /v1/realtime`
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    Verdict(verdict): Verdict,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| not_an_upgrade())?;
    let wanted = wanted.unwrap_or_default().0;
    let verdict = judge(verdict, &headers, wanted);
    let notices = protocols(&headers).any(|offer| offer == voxline::SUBPROTOCOL);
    let settings = Settings {
        write_time: app.config.limits.write_time,
        ping_interval: app.config.limits.ping_interval,
        event: app.config.limits.event.0,
        notices,
        carrier: Carrier::WebSocket,
    };
    let size = match verdict {
        Ok(_) => settings.readable(),
        Err(_) => REFUSED_SIZE,
    };
    let mut upgrade = upgrade.max_message_size(size).max_frame_size(size);
    if notices {
        upgrade.set_selected_protocol(HeaderValue::from_static(voxline::SUBPROTOCOL));
    } else if protocols(&headers).any(|offer| offer == REALTIME) {
        upgrade.set_selected_protocol(HeaderValue::from_static(REALTIME));
    }
    let leg = move |socket: WebSocket| Leg::new(socket, settings);
    let (caller, model) = match verdict {
        Ok(wanted) => wanted,
        Err(refusal) => {
            let Refusal { fault, code } = *refusal;
            let Ok(turn) = Arc::clone(&app.refusals).try_acquire_owned() else {
                let status = match code {
                    UNAUTHORIZED => StatusCode::UNAUTHORIZED,
                    _ => StatusCode::BAD_REQUEST,
                };
                return Err(ApiError::new(status, fault));
            };
            return Ok(upgrade.on_upgrade(async move |socket| {
                leg(socket).refuse(fault, code).await;
                drop(turn);
            }));
        }
    };
    let slot = app.sessions.admit(Owner::of(&caller))?;
    let handshake = app.admission.handshake()?;
    let id = SessionId::from(format!("sess_{}", uuid::Uuid::new_v4().simple()));
    Ok(upgrade.on_upgrade(async move |socket| {
        session::websocket(&app, slot, id, leg(socket), model, handshake);
    }))
}

/// Why a client is turned away, and OpenAI's close code for it.
struct Refusal {
    fault: Fault,
    code: u16,
}

/// Returns who asks for which model, if all is as it must be.
fn judge(
    verdict: Result<Caller, ApiError>,
    headers: &HeaderMap,
    wanted: Wanted,
) -> Result<(Caller, String), Box<Refusal>> {
    let caller = verdict.map_err(|error| {
        let code = match error.status() {
            StatusCode::UNAUTHORIZED => UNAUTHORIZED,
            _ => INVALID,
        };
        let fault = error.into_fault();
        Box::new(Refusal { fault, code })
    })?;
    let model = request(headers, wanted).map_err(|fault| {
        let code = INVALID;
        Box::new(Refusal { fault, code })
    })?;
    Ok((caller, model))
}

fn request(headers: &HeaderMap, wanted: Wanted) -> Result<String, Fault> {
    if headers.contains_key("openai-beta") || protocols(headers).any(|offer| offer == BETA) {
        return Err(Fault::invalid(
            "beta_api_shape_disabled",
            "The Realtime beta is over: leave out the `OpenAI-Beta` header (and the subprotocol \
             `openai-beta.realtime-v1`) and use the GA shapes.",
        ));
    }
    if wanted.call_id.is_some() {
        let message = "`call_id` is not supported: nothing can join a call from beside it.";
        return Err(Fault::invalid("invalid_value", message).at("call_id"));
    }
    if wanted.intent.is_some() {
        let message = "`intent` is not supported: this relay serves conversations; give a `model`.";
        return Err(Fault::invalid("invalid_value", message).at("intent"));
    }
    let model = wanted.model.filter(|model| !model.is_empty());
    model.ok_or_else(|| {
        let message = "No model was given: connect to `/v1/realtime?model=...`.";
        Fault::invalid("missing_model", message).at("model")
    })
}

fn not_an_upgrade() -> ApiError {
    let fault = Fault::invalid(
        "upgrade_required",
        "`/v1/realtime` is a WebSocket: connect with `ws://` or `wss://`. WebRTC offers go to \
         `POST /v1/realtime/calls`.",
    );
    ApiError::new(StatusCode::UPGRADE_REQUIRED, fault)
}
