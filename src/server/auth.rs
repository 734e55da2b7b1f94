//! Who makes a request: what it shows -> the caller it proves.
//!
//! **Invariants**
//! - A request is judged by its head alone, before its body is read.
//! - A request that shows two different credentials, or devices, is refused: which of them counts
//!   is nobody's guess.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};

use crate::auth::{Authority, Caller, Tenant};
use crate::clock;
use crate::core::port::{Fault, FaultKind};
use crate::server::App;
use crate::server::error::ApiError;

/// How a browser, which cannot set headers, shows its credential on a WebSocket ...
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// ... and its device's name.
const DEVICE_PROTOCOL: &str = "voxline-device.";

const DEVICE: HeaderName = HeaderName::from_static("voxline-device");

/// The same as a part of the query.
const DEVICE_PARAMETER: &str = "device";

/// As an extractor it is judged before the body is read.
impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        judge(&app.authority, &parts.headers, &parts.uri)
    }
}

/// The same for those who are told in-band, which is after the upgrade.
pub(crate) struct Verdict(pub(crate) Result<Caller, ApiError>);

impl FromRequestParts<Arc<App>> for Verdict {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self(judge(&app.authority, &parts.headers, &parts.uri)))
    }
}

/// A tenant's own server: whoever shows an API key. Client secrets and resume tokens are refused.
pub(crate) struct ByKey(pub(crate) Arc<Tenant>);

impl FromRequestParts<Arc<App>> for ByKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        match judge(&app.authority, &parts.headers, &parts.uri)? {
            Caller::Tenant(tenant) => Ok(Self(tenant)),
            Caller::Client(_) | Caller::Returning(..) => Err(forbidden(
                "This needs an API key, and was shown a token that a client holds: call it from \
                 your own server.",
            )),
        }
    }
}

/// Refuses a caller who is known, and may not do this.
pub(crate) fn forbidden(why: impl Into<String>) -> ApiError {
    let fault = Fault::invalid("insufficient_permissions", why);
    ApiError::new(StatusCode::FORBIDDEN, fault)
}

/// Lists the subprotocols that a client offers.
pub(crate) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Returns the one bearer token in `Authorization`, if there is one.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ambiguous("`Authorization` is there more than once"));
    }
    let parts = value.to_str().ok().and_then(|text| text.split_once(' '));
    let bearer = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Ok(bearer.map(|(_, token)| token.trim()))
}

fn judge(authority: &Authority, headers: &HeaderMap, uri: &Uri) -> Result<Caller, ApiError> {
    let credentials = protocols(headers).filter_map(|name| name.strip_prefix(KEY_PROTOCOL));
    let shown = one(bearer(headers)?, credentials, "credentials")?;
    let Some(shown) = shown else {
        let message = "No credential was given: send one as `Authorization: Bearer ...`, or in a \
                       browser's WebSocket as the subprotocol `openai-insecure-api-key....`.";
        let fault = Fault::invalid("invalid_api_key", message);
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, fault));
    };
    let device = device(headers, uri)?;
    let judged = authority.authenticate(shown, device.as_deref(), clock::wall());
    judged.map_err(|fault| {
        let status = match fault.kind {
            FaultKind::InvalidRequest => StatusCode::UNAUTHORIZED,
            FaultKind::Server => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, fault)
    })
}

/// Returns the name of the device that a request says it comes from.
pub(crate) fn device(headers: &HeaderMap, uri: &Uri) -> Result<Option<String>, ApiError> {
    let by_header = headers.get_all(DEVICE).into_iter().map(|value| {
        let text = value.to_str().map(str::trim).map(str::to_owned);
        text.map_err(|_| ambiguous("`Voxline-Device` is not plain text"))
    });
    let by_protocol = protocols(headers)
        .filter_map(|name| name.strip_prefix(DEVICE_PROTOCOL))
        .map(|name| Ok(name.to_owned()));
    let by_query = query(uri)
        .filter(|(name, _)| name == DEVICE_PARAMETER)
        .map(|(_, device)| Ok(device));
    let devices: Result<Vec<_>, ApiError> = by_header.chain(by_protocol).chain(by_query).collect();
    one(None, devices?.into_iter(), "devices")
}

/// Reads the query's pairs.
fn query(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    pairs.map(|pairs| pairs.0).unwrap_or_default().into_iter()
}

/// Returns what is there once, or several times and always the same.
fn one<T: PartialEq>(
    first: Option<T>,
    mut others: impl Iterator<Item = T>,
    what: &str,
) -> Result<Option<T>, ApiError> {
    let Some(first) = first.or_else(|| others.next()) else {
        return Ok(None);
    };
    if others.all(|other| other == first) {
        Ok(Some(first))
    } else {
        Err(ambiguous(&format!("the request shows different {what}")))
    }
}

fn ambiguous(why: &str) -> ApiError {
    let message = format!("It is not clear who asks: {why}. Send one.");
    ApiError::bad_request(Fault::invalid("ambiguous_credential", message))
}
