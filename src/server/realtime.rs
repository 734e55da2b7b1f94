//! WebSockets: to a session of their own, back to one, or beside one. They are judged as OpenAI
//! judges them, after the upgrade, so that any client can read why it was turned away.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;

use crate::auth::Caller;
use crate::client::websocket::{Leg, Settings};
use crate::core::ids::SessionId;
use crate::core::port::Fault;
use crate::otlp::Parent;
use crate::server::App;
use crate::server::admission::Owner;
use crate::server::auth::{Verdict, device, protocols};
use crate::server::error::ApiError;
use crate::server::fields::heard;
use crate::server::joining::{self, Role};
use crate::server::session::{self, INVALID, Opener};
use crate::server::sessions::{Conversation, Media};
use crate::server::wanted::{Asked, Wanted};
use crate::wire::realtime::Carrier;
use crate::wire::voxline;

/// OpenAI's close code for a credential that is not accepted.
const UNAUTHORIZED: u16 = 3000;

/// The largest message that is read of a client that is being turned away: it is dropped.
const REFUSED_SIZE: usize = 64 << 10;

/// OpenAI's subprotocol, and the one that its beta had.
const REALTIME: &str = "realtime";
const BETA: &str = "openai-beta.realtime-v1";

#[derive(Default, Deserialize)]
pub(crate) struct Parameters {
    model: Option<String>,
    call_id: Option<String>,
    intent: Option<String>,
    heard_ms: Option<f64>,
}

/// What a client is let in to.
enum Entry {
    /// A session of its own.
    Begin(Box<Opener>, Wanted),
    /// One that runs.
    Join(Arc<Conversation>, Role),
}

impl Entry {
    /// What this one may say, who offers to say it like that. Whoever joins a call from beside
    /// says what its own client may say, but for sound.
    fn carrier(&self, offered: Carrier) -> Carrier {
        match self {
            Self::Begin(..) => offered,
            Self::Join(conversation, role) => match (conversation.media, role) {
                (Media::WebSocket, _) => Carrier::WebSocket,
                (Media::Relay, Role::Client { .. }) => Carrier::Playout,
                (Media::Relay, Role::Sideband) | (Media::Direct, _) => Carrier::WebRtc,
            },
        }
    }
}

/// `GET /v1/realtime`
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    Verdict(verdict): Verdict,
    parameters: Result<Query<Parameters>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| not_an_upgrade())?;
    let parameters = parameters.unwrap_or_default().0;
    let offers = |name| protocols(&headers).any(|offer| offer == name);
    let notices = offers(voxline::SUBPROTOCOL);
    let offered = match notices && offers(voxline::PLAYOUT_SUBPROTOCOL) {
        true => Carrier::Playout,
        false => Carrier::WebSocket,
    };
    let entry = verdict.and_then(|caller| judge(&app, caller, parameters, offered, &headers, &uri));
    let carrier = entry.as_ref().map(|entry| entry.carrier(offered));
    let carrier = carrier.unwrap_or(Carrier::WebSocket);
    let settings = Settings {
        write_time: app.config.limits.write_time,
        ping_interval: app.config.limits.ping_interval,
        event: app.config.limits.event.0,
        notices,
        carrier,
    };
    let size = match entry {
        Ok(_) => settings.readable(),
        Err(_) => REFUSED_SIZE,
    };
    let mut upgrade = upgrade.max_message_size(size).max_frame_size(size);
    if carrier == Carrier::Playout {
        let selected = HeaderValue::from_static(voxline::PLAYOUT_SUBPROTOCOL);
        upgrade.set_selected_protocol(selected);
    } else if notices {
        upgrade.set_selected_protocol(HeaderValue::from_static(voxline::SUBPROTOCOL));
    } else if offers(REALTIME) {
        upgrade.set_selected_protocol(HeaderValue::from_static(REALTIME));
    }
    let leg = move |socket: WebSocket| Leg::new(socket, settings);
    match entry {
        Ok(Entry::Begin(opener, wanted)) => Ok(upgrade.on_upgrade(async move |socket| {
            session::websocket(&app, *opener, leg(socket), wanted);
        })),
        Ok(Entry::Join(conversation, role)) => Ok(upgrade.on_upgrade(async move |socket| {
            joining::websocket(&app, &conversation, role, leg(socket)).await;
        })),
        Err(error) => {
            let Some(code) = in_band(error.status()) else {
                return Err(error);
            };
            let Ok(turn) = Arc::clone(&app.refusals).try_acquire_owned() else {
                return Err(error);
            };
            Ok(upgrade.on_upgrade(async move |socket| {
                leg(socket).refuse(error.into_fault(), code).await;
                drop(turn);
            }))
        }
    }
}

/// The close code for a refusal; `None` for those that are told before the upgrade, since a
/// client that is merely too early reads `Retry-After` there.
fn in_band(status: StatusCode) -> Option<u16> {
    if status == StatusCode::UNAUTHORIZED {
        return Some(UNAUTHORIZED);
    }
    let is_final = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
    is_final.then_some(INVALID)
}

fn judge(
    app: &Arc<App>,
    caller: Caller,
    parameters: Parameters,
    offered: Carrier,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Entry, ApiError> {
    if headers.contains_key("openai-beta") || protocols(headers).any(|offer| offer == BETA) {
        let fault = Fault::invalid(
            "beta_api_shape_disabled",
            "The Realtime beta is over: leave out the `OpenAI-Beta` header (and the subprotocol \
             `openai-beta.realtime-v1`) and use the GA shapes.",
        );
        return Err(ApiError::bad_request(fault));
    }
    let Parameters {
        model,
        call_id,
        intent,
        heard_ms,
    } = parameters;
    if let Some(call) = call_id {
        if model.is_some() || intent.is_some() {
            let message = "`call_id` joins a call as it is; leave out `model` and `intent`.";
            let fault = Fault::invalid("invalid_value", message).at("call_id");
            return Err(ApiError::bad_request(fault));
        }
        app.sessions.is_open()?;
        let (conversation, role) = joining::joining(app, &caller, &call)?;
        return Ok(Entry::Join(conversation, role));
    }
    if let Caller::Returning(_, id) = &caller {
        app.sessions.is_open()?;
        // Whatever else it asks for, the session goes on as it is.
        let conversation = joining::returning(app, &caller, id, offered)?;
        let heard = heard(heard_ms)?;
        return Ok(Entry::Join(conversation, Role::Client { heard }));
    }
    let asked = Asked {
        session: None,
        model,
        intent,
    };
    let wanted = Wanted::judge(asked, &caller, None)?;
    let opener = Opener {
        id: SessionId::from(format!("sess_{}", uuid::Uuid::new_v4().simple())),
        device: device(headers, uri)?,
        trace: Parent::of(headers),
        slot: app.sessions.admit(Owner::of(&caller))?,
        handshake: app.admission.handshake()?,
        caller,
    };
    Ok(Entry::Begin(Box::new(opener), wanted))
}

fn not_an_upgrade() -> ApiError {
    let fault = Fault::invalid(
        "upgrade_required",
        "`/v1/realtime` is a WebSocket: connect with `ws://` or `wss://`. WebRTC offers go to \
         `POST /v1/realtime/calls`.",
    );
    ApiError::new(StatusCode::UPGRADE_REQUIRED, fault)
}
