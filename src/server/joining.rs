//! How others come to a conversation that runs: its own client again, or somebody beside it.
//!
//! **Invariant:** a resumed leg takes the place of the one before; it never is a second session.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;

use crate::auth::Caller;
use crate::client::websocket;
use crate::core::ids::SessionId;
use crate::core::port::Fault;
use crate::driver::{Arrival, SIDEBAND_QUEUE};
use crate::server::App;
use crate::server::error::ApiError;
use crate::server::fields::shown;
use crate::server::revival::revive;
use crate::server::session::{
    Answer, INVALID, QUEUE, on_webrtc, on_websocket, over_webrtc, over_websocket, unanswered,
};
use crate::server::sessions::{Conversation, Media, Newcomer};
use crate::wire::realtime::Carrier;

/// As what somebody comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// The session's client, in place of the one it had, whose ear has got to there if it says so.
    Client { heard: Option<Duration> },
    /// Somebody beside it.
    Sideband,
}

/// Finds the session to which a resume token leads, for a client that comes like this: the
/// transport of a session that the relay plays may change.
pub(crate) fn returning(
    app: &Arc<App>,
    caller: &Caller,
    id: &SessionId,
    carrier: Carrier,
) -> Result<Arc<Conversation>, ApiError> {
    let conversation = app
        .sessions
        .find(id, caller)
        .or_else(|| revive(app, caller, id))
        .ok_or_else(Conversation::gone)?;
    let has = match conversation.media {
        Media::Relay if carrier.relay_plays() => return Ok(conversation),
        Media::WebSocket if carrier != Carrier::WebRtc => return Ok(conversation),
        Media::Relay => {
            "WebRTC, or a WebSocket with the subprotocol `voxline.playout`: the relay plays it"
        }
        Media::WebSocket => "a WebSocket, and its client plays it: connect to `/v1/realtime`",
        Media::Direct => {
            "WebRTC straight to the provider: post an offer for a new call, or join this one by \
             `/v1/realtime?call_id=...` with a client secret"
        }
    };
    let message = format!("This session runs over {has}.");
    let fault = Fault::invalid("resume_wrong_transport", message);
    Err(ApiError::new(StatusCode::CONFLICT, fault))
}

/// Finds the call that somebody wants to join, and tells as what they would.
pub(crate) fn joining(
    app: &App,
    caller: &Caller,
    call: &str,
) -> Result<(Arc<Conversation>, Role), ApiError> {
    let conversation = find(app, caller, call)?;
    let role = match (caller, conversation.media) {
        // The provider has its leg; this is how it hears of what is the relay's own.
        (Caller::Client(_) | Caller::Returning(..), Media::Direct) => Role::Client { heard: None },
        (Caller::Client(_) | Caller::Returning(..) | Caller::Tenant(_), _) => Role::Sideband,
    };
    Ok((conversation, role))
}

/// Answers the offer of a client that has come back.
pub(crate) async fn call(
    app: &App,
    conversation: &Conversation,
    offer: &str,
    heard: Option<Duration>,
) -> Result<Answer, ApiError> {
    let (answer, leg) = app.endpoint.answer(offer).await.map_err(unanswered)?;
    let door = conversation.door()?;
    let control = leg.control();
    conversation.add_control(control.clone());
    let (line, leg) = on_webrtc(app, leg, conversation.cancel());
    let arrival = Arrival::Client(line, over_webrtc(app, heard));
    door.send(Newcomer { arrival, leg });
    Ok(Answer {
        sdp: answer,
        etag: control.etag(),
    })
}

/// Lets a WebSocket take part.
pub(crate) async fn websocket(
    app: &App,
    conversation: &Conversation,
    role: Role,
    leg: websocket::Leg,
) {
    let door = match conversation.door() {
        Ok(door) => door,
        Err(error) => return leg.refuse(error.into_fault(), INVALID).await,
    };
    let (arrival, leg) = match role {
        Role::Client { heard } => {
            let (line, leg) = on_websocket(leg, QUEUE);
            (Arrival::Client(line, over_websocket(app, heard)), leg)
        }
        Role::Sideband => {
            let (line, leg) = on_websocket(leg, SIDEBAND_QUEUE);
            (Arrival::Sideband(line), leg)
        }
    };
    door.send(Newcomer { arrival, leg });
}

/// Finds the call of this name, if it is the caller's business.
pub(crate) fn find(app: &App, caller: &Caller, call: &str) -> Result<Arc<Conversation>, ApiError> {
    let conversation = app.sessions.find(&SessionId::from(call), caller);
    conversation.ok_or_else(|| no_call(call))
}

/// There is no call of this name, or none that is the caller's business.
pub(crate) fn no_call(call: &str) -> ApiError {
    let message = format!("There is no call {:?} (any more).", shown(call));
    let fault = Fault::invalid("call_not_found", message).at("call_id");
    ApiError::new(StatusCode::NOT_FOUND, fault)
}
