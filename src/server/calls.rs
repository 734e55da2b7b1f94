//! WebRTC calls: an SDP offer in, an answer out, and how a call is hung up.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::auth::Caller;
use crate::client::webrtc::SDP_FRAGMENT;
use crate::config::MediaMode;
use crate::core::ids::SessionId;
use crate::core::port::Fault;
use crate::otlp::Parent;
use crate::server::admission::Owner;
use crate::server::auth::device;
use crate::server::error::ApiError;
use crate::server::fields::{heard, shown};
use crate::server::form::{Form, SDP, malformed};
use crate::server::session::{self, Answer, Opener};
use crate::server::wanted::{Asked, Wanted};
use crate::server::whip::ACCEPT_PATCH;
use crate::server::{App, direct, joining};
use crate::wire::realtime::Carrier;

#[derive(Deserialize)]
pub(crate) struct Parameters {
    model: Option<String>,
    intent: Option<String>,
    media: Option<String>,
    heard_ms: Option<f64>,
}

/// `POST /v1/realtime/calls`
pub(crate) async fn create(
    caller: Caller,
    State(app): State<Arc<App>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Query(parameters) = parameters.map_err(|error| malformed("query", &error.body_text()))?;
    if let Caller::Returning(_, id) = &caller {
        let heard = heard(parameters.heard_ms)?;
        return resume(&app, &caller, id, heard, request).await;
    }
    let mode = match &parameters.media {
        None => app.config.media,
        Some(name) => MediaMode::named(name).ok_or_else(|| no_mode(name))?,
    };
    let device = device(request.headers(), request.uri())?;
    let trace = Parent::of(request.headers());
    let slot = app.sessions.admit(Owner::of(&caller))?;
    let Form { offer, session } = Form::read(request, &app.config.limits).await?;
    let opener = Opener {
        id: SessionId::from(format!("rtc_{}", uuid::Uuid::new_v4().simple())),
        device,
        trace,
        slot,
        // Only now: whoever sends slowly must not keep others from being set up.
        handshake: app.admission.handshake()?,
        caller,
    };
    let asked = Asked {
        session,
        model: parameters.model,
        intent: parameters.intent,
    };
    let wanted = Wanted::judge(asked, &opener.caller, Some(app.config.model.as_str()))?;
    let id = opener.id.clone();
    let answer = match mode {
        MediaMode::Relay => session::call(&app, opener, &offer, wanted).await?,
        MediaMode::Direct => direct::call(&app, opener, offer, wanted).await?,
    };
    Ok(created(&id, answer))
}

/// Answers a client that comes back to its call.
async fn resume(
    app: &Arc<App>,
    caller: &Caller,
    id: &SessionId,
    heard: Option<Duration>,
    request: Request,
) -> Result<Response, ApiError> {
    app.sessions.is_open()?;
    let conversation = joining::returning(app, caller, id, Carrier::WebRtc)?;
    // The session goes on as it is: what else the form asks for has no meaning here.
    let Form { offer, .. } = Form::read(request, &app.config.limits).await?;
    let _handshake = app.admission.handshake()?;
    let answer = joining::call(app, &conversation, &offer, heard).await?;
    Ok(created(id, answer))
}

fn created(id: &SessionId, answer: Answer) -> Response {
    let headers: [(HeaderName, String); 2] = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, format!("/v1/realtime/calls/{id}")),
    ];
    let mut response = (StatusCode::CREATED, headers, answer.sdp).into_response();
    let etag = answer.etag.and_then(|etag| etag.parse().ok());
    if let Some(etag) = etag {
        let headers = response.headers_mut();
        headers.insert(header::ETAG, etag);
        headers.insert(ACCEPT_PATCH, HeaderValue::from_static(SDP_FRAGMENT));
    }
    response
}

fn no_mode(name: &str) -> ApiError {
    let message = format!(
        "`media` is {:?}; it can be `relay` or `direct`.",
        shown(name)
    );
    ApiError::bad_request(Fault::invalid("invalid_value", message).at("media"))
}

/// `POST /v1/realtime/calls/{id}/hangup`, and `DELETE /v1/realtime/calls/{id}` as WHIP has it.
pub(crate) async fn hang_up(
    caller: Caller,
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = id.map_err(|error| malformed("path", &error.body_text()))?;
    joining::find(&app, &caller, &id)?.hang_up();
    Ok(StatusCode::OK)
}
