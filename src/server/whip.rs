//! What WHIP (RFC 9725) asks of a call's URL beside `DELETE`: trickled candidates and ICE restarts
//! by `PATCH`, and what there is to ask for by `OPTIONS`.
//!
//! **Invariant:** a fragment reaches the call only if it is meant for the ICE session that the call
//! has, or for whichever it has (`If-Match: *`).

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use crate::auth::Caller;
use crate::client::webrtc::{Control, MAX_FRAGMENT, Patched, SDP_FRAGMENT};
use crate::core::port::Fault;
use crate::server::error::ApiError;
use crate::server::form::{SDP, content_type, malformed, text_body, unsupported};
use crate::server::joining::no_call;
use crate::server::{App, joining};

pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// `PATCH /v1/realtime/calls/{id}`
pub(crate) async fn patch(
    caller: Caller,
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|error| malformed("path", &error.body_text()))?;
    let conversation = joining::find(&app, &caller, &id)?;
    let control = conversation.control().ok_or_else(no_ice)?;
    let kind = content_type(request.headers());
    if kind != SDP_FRAGMENT {
        let error = unsupported(&kind, SDP_FRAGMENT);
        return Ok(([(ACCEPT_PATCH, SDP_FRAGMENT)], error).into_response());
    }
    let etag = control.etag().ok_or_else(|| no_call(&id))?;
    meant_for(request.headers(), &etag)?;
    let limits = &app.config.limits;
    let fragment = text_body(request, "The SDP fragment", MAX_FRAGMENT, limits).await?;
    answer(&control, &fragment)
}

fn answer(control: &Control, fragment: &str) -> Result<Response, ApiError> {
    match control.patch(fragment) {
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

/// Judges `If-Match` by the strong comparison (RFC 9110, section 13.1.1).
fn meant_for(headers: &HeaderMap, etag: &str) -> Result<(), ApiError> {
    let values = headers.get_all(header::IF_MATCH);
    let tags: Vec<&str> = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    if tags.is_empty() {
        let message = "`If-Match` is missing: send the `ETag` of the answer with candidates, and \
                       `*` to restart ICE (RFC 9725, section 4.3).";
        let fault = Fault::invalid("if_match_required", message);
        return Err(ApiError::new(StatusCode::PRECONDITION_REQUIRED, fault));
    }
    if tags.iter().any(|tag| *tag == "*" || *tag == etag) {
        return Ok(());
    }
    let message = "`If-Match` names an ICE session that is over: restart ICE with `*`.";
    let fault = Fault::invalid("ice_session_over", message);
    Err(ApiError::new(StatusCode::PRECONDITION_FAILED, fault))
}

/// This session's sound does not come here by WebRTC.
fn no_ice() -> ApiError {
    let message = "The relay has no part in this session's ICE; there is nothing to restart or to \
                   add here. Make a new call instead.";
    let fault = Fault::invalid("method_not_supported", message);
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, fault)
}
