//! What WHIP (RFC 9725) asks of a call's URL beside `DELETE`: trickled candidates and ICE restarts
//! by `PATCH`, and what there is to ask for by `OPTIONS`.
//!
//! **Invariant:** a fragment reaches the leg whose ICE session it is meant for, or the latest leg
//! that is connected (`If-Match: *`); others know nothing of it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::auth::Caller;
use crate::client::webrtc::{Control, MAX_FRAGMENT, PatchError, Patched, SDP_FRAGMENT};
use crate::core::port::Fault;
use crate::server::error::ApiError;
use crate::server::fields::heard;
use crate::server::form::{SDP, content_type, malformed, text_body, unsupported};
use crate::server::joining::no_call;
use crate::server::{App, joining};
use crate::telemetry::Counter;

pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

pub(crate) const ICE_RESTARTS: Counter = Counter {
    name: "voxline_ice_restarts_total",
    help: "ICE restarts that clients have asked for, and got.",
    labels: &[],
};

/// Where the ear of a client is that restarts ICE.
#[derive(Deserialize)]
pub(crate) struct Ear {
    heard_ms: Option<f64>,
}

/// `PATCH /v1/realtime/calls/{id}`
pub(crate) async fn patch(
    caller: Caller,
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    ear: Result<Query<Ear>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|error| malformed("path", &error.body_text()))?;
    let Query(ear) = ear.map_err(|error| malformed("query", &error.body_text()))?;
    let heard = heard(ear.heard_ms)?;
    let conversation = joining::find(&app, &caller, &id)?;
    let controls = conversation.controls();
    if controls.is_empty() {
        return Err(no_ice());
    }
    let kind = content_type(request.headers());
    if kind != SDP_FRAGMENT {
        let error = unsupported(&kind, SDP_FRAGMENT);
        return Ok(([(ACCEPT_PATCH, SDP_FRAGMENT)], error).into_response());
    }
    let controls = meant(request.headers(), controls).map_err(|error| error.into_error(&id))?;
    let limits = &app.config.limits;
    let fragment = text_body(request, "The SDP fragment", MAX_FRAGMENT, limits).await?;
    let patched = patched(&controls, &fragment, heard);
    if let Ok(Patched::Restarted { .. }) = patched {
        app.counters.add(&ICE_RESTARTS, &[], 1);
    }
    answer(patched)
}

/// Gives the fragment to the first leg that is connected.
fn patched(
    controls: &[Control],
    fragment: &str,
    heard: Option<Duration>,
) -> Result<Patched, PatchError> {
    let mut patched = Err(PatchError::Gone);
    for control in controls {
        patched = control.patch(fragment, heard);
        if patched != Err(PatchError::NotConnected) {
            break;
        }
    }

    patched
}

fn answer(patched: Result<Patched, PatchError>) -> Result<Response, ApiError> {
    match patched {
        Ok(Patched::Trickled) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Patched::Restarted { fragment, etag }) => {
            let content_type = HeaderValue::from_static(SDP_FRAGMENT);
            let mut response = fragment.into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, content_type);
            if let Ok(etag) = HeaderValue::from_str(&etag) {
                headers.insert(header::ETAG, etag);
            }
            Ok(response)
        }
        Err(error) => Err(ApiError::of_leg(error.status(), error.fault())),
    }
}

/// `OPTIONS /v1/realtime/calls`
pub(crate) async fn endpoint_options() -> impl IntoResponse {
    let allow = (header::ALLOW, "OPTIONS, POST");
    (StatusCode::NO_CONTENT, [allow, (ACCEPT_POST, SDP)])
}

/// `OPTIONS /v1/realtime/calls/{id}`
pub(crate) async fn call_options() -> impl IntoResponse {
    let allow = (header::ALLOW, "DELETE, OPTIONS, PATCH");
    (
        StatusCode::NO_CONTENT,
        [allow, (ACCEPT_PATCH, SDP_FRAGMENT)],
    )
}

/// Returns those that `If-Match` names, by the strong comparison (RFC 9110, section 13.1.1).
fn meant(headers: &HeaderMap, controls: Vec<Control>) -> Result<Vec<Control>, Unmet> {
    let values = headers.get_all(header::IF_MATCH);
    let tags: Vec<&str> = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    if tags.is_empty() {
        return Err(Unmet::NotSaid);
    }
    let running = controls.into_iter();
    let running = running.filter_map(|control| Some((control.etag()?, control)));
    let running: Vec<(String, Control)> = running.collect();
    if running.is_empty() {
        return Err(Unmet::Gone);
    }
    let meant = running.into_iter().filter(|(etag, _)| {
        let mut tags = tags.iter();
        tags.any(|tag| *tag == "*" || tag == etag)
    });
    let meant: Vec<Control> = meant.map(|(_, control)| control).collect();

    if meant.is_empty() {
        Err(Unmet::Over)
    } else {
        Ok(meant)
    }
}

/// Why a request is for no leg.
enum Unmet {
    NotSaid,
    /// No leg runs any more.
    Gone,
    /// The named ICE session is over.
    Over,
}

impl Unmet {
    fn into_error(self, call: &str) -> ApiError {
        match self {
            Self::NotSaid => {
                let message = "`If-Match` is missing: send the `ETag` of the answer with \
                               candidates, and `*` to restart ICE (RFC 9725, section 4.3).";
                let fault = Fault::invalid("if_match_required", message);
                ApiError::new(StatusCode::PRECONDITION_REQUIRED, fault)
            }
            Self::Gone => no_call(call),
            Self::Over => {
                let message = "`If-Match` names an ICE session that is over: restart ICE with `*`.";
                let fault = Fault::invalid("ice_session_over", message);
                ApiError::new(StatusCode::PRECONDITION_FAILED, fault)
            }
        }
    }
}

/// This session's sound does not come here by WebRTC.
fn no_ice() -> ApiError {
    let message = "The relay has no part in this session's ICE; there is nothing to restart or to \
                   add here. Make a new call instead.";
    let fault = Fault::invalid("method_not_supported", message);
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, fault)
}
