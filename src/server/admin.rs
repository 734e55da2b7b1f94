//! `/admin`: what the operator may do while the relay runs. Revoking, so far.
//!
//! **Invariant:** nothing is told, read or done before the admin key was shown.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::auth::{Authority, Revocation, Subject};
use crate::clock;
use crate::core::port::{Fault, FaultKind};
use crate::server::App;
use crate::server::auth::bearer;
use crate::server::body::json_object;
use crate::server::error::ApiError;
use crate::server::fields::{known, text, wrong_type};

/// The end of the year 9999, in seconds since 1970.
const LATEST: u64 = 253_402_300_799;

/// Proof that a request showed the admin key.
pub(crate) struct Admin;

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if app.config.auth.admin_key.is_none() {
            let message = "This relay has no admin API: its operator opens it by setting \
                           `admin_key` (VOXLINE_ADMIN_KEY).";
            let fault = Fault::invalid("admin_disabled", message);
            return Err(ApiError::new(StatusCode::NOT_FOUND, fault));
        }
        let shown = bearer(&parts.headers)?.ok_or_else(|| {
            let message = "Send the admin key as `Authorization: Bearer ...`.";
            unauthorized(Fault::invalid("invalid_api_key", message))
        })?;
        let judged = app.authority.authenticate_admin(shown);
        judged.map(|()| Self).map_err(unauthorized)
    }
}

/// `GET /admin/revocations`
pub(crate) async fn revocations(_: Admin, State(app): State<Arc<App>>) -> Json<Value> {
    let all = app.authority.revocations(clock::wall());
    Json(json!({ "object": "list", "data": all }))
}

/// `POST /admin/revocations`
pub(crate) async fn revoke(
    _: Admin,
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let body = json_object(request, &app.config.limits).await?;
    let Wish {
        subject,
        reason,
        expires,
    } = wish(&body).map_err(ApiError::bad_request)?;
    let revoke =
        move |authority: &Authority| authority.revoke(subject, reason, expires, clock::wall());
    let revocation: Revocation = on_file(&app, revoke).await?;
    let location = format!("/admin/revocations/{}", revocation.id);
    let headers = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, Json(revocation)))
}

/// `DELETE /admin/revocations/{id}`
pub(crate) async fn lift(
    _: Admin,
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Revocation>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let lifted = on_file(&app, move |authority| authority.lift(&id, clock::wall())).await?;
    lifted.map(Json).ok_or_else(|| {
        let message = "There is no such revocation (any more).";
        let fault = Fault::invalid("revocation_not_found", message).at("id");
        ApiError::new(StatusCode::NOT_FOUND, fault)
    })
}

struct Wish {
    subject: Subject,
    reason: String,
    expires: Option<SystemTime>,
}

fn wish(body: &Value) -> Result<Wish, Fault> {
    let names = [
        "tenant",
        "user",
        "device",
        "session",
        "reason",
        "expires_at",
    ];
    known(body, "", &names)?;
    let part = |name: &str| text(&body[name], name);
    let subject = Subject::new(
        part("tenant")?,
        part("user")?,
        part("device")?,
        part("session")?,
    )?;
    Ok(Wish {
        subject,
        reason: part("reason")?.unwrap_or_default(),
        expires: expires(&body["expires_at"])?,
    })
}

fn expires(value: &Value) -> Result<Option<SystemTime>, Fault> {
    if value.is_null() {
        return Ok(None);
    }
    let seconds = value.as_u64().filter(|seconds| *seconds <= LATEST);
    let seconds = seconds
        .ok_or_else(|| wrong_type(value, "expires_at", "a time, in whole seconds since 1970"))?;
    Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}

/// Does what may wait for a file.
async fn on_file<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Authority) -> Result<T, Fault> + Send + 'static,
) -> Result<T, ApiError> {
    let authority = Arc::clone(&app.authority);
    let done = spawn_blocking(move || work(&authority)).await;
    let done = done.unwrap_or_else(|_panic| {
        Err(Fault::server(
            "internal_error",
            "The relay has failed at it; its log tells more.",
        ))
    });
    done.map_err(|fault| match fault.kind {
        FaultKind::InvalidRequest => ApiError::bad_request(fault),
        FaultKind::Server => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, fault),
    })
}

fn unauthorized(fault: Fault) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, fault)
}
