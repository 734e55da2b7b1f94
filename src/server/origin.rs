//! Which web pages may use the relay: the same-origin policy's counterpart on this side.
//!
//! **Invariants**
//! - A page of a foreign origin gets nothing but a refusal, by HTTP or WebSocket, and no header
//!   that would let it read more.
//! - Only the API may be read across origins, pages and the admin's routes never: a page may hold
//!   a key.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::{Origins, SiteOrigin};
use crate::core::port::Fault;
use crate::server::App;
use crate::server::error::ApiError;

/// What a page may ask with.
const METHODS: &str = "GET, POST, PATCH, DELETE";

/// Headers that clients send, besides those that every page may send unasked ...
const HEADERS: [&str; 7] = [
    "authorization",
    "content-type",
    "if-match",
    "traceparent",
    "tracestate",
    "voxline-device",
    "x-openai-agents-sdk",
];

/// ... and the beginnings of others: OpenAI's own clients tell about themselves.
const HEADER_PREFIXES: [&str; 2] = ["openai-", "x-stainless-"];

/// The answer's headers that a page may read.
const EXPOSED: &str = "etag, link, location, retry-after, x-request-id";

/// How long a browser may remember the answer to its preflight, in seconds.
const MAX_AGE: &str = "600";

/// What an answer that a page may read says in `Access-Control-Allow-Origin`.
#[derive(Clone)]
struct Reader(HeaderValue);

/// Refuses pages of foreign origins, before anything else is done.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    match judge(request.headers(), &app.config.origins) {
        Ok(None) => next.run(request).await,
        Ok(Some(reader)) => {
            request.extensions_mut().insert(reader);
            next.run(request).await
        }
        Err(error) => vary(error.into_response()),
    }
}

/// Answers preflights, and lets the answers to allowed pages be read by them.
pub(crate) async fn share(mut request: Request, next: Next) -> Response {
    let Some(Reader(origin)) = request.extensions_mut().remove() else {
        return vary(next.run(request).await);
    };
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight {
        preflight(request.headers())
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = HeaderValue::from_static(EXPOSED);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    vary(response)
}

/// Refuses what a foreign page asks; returns who may read the answer, if it is a page that asks.
fn judge(headers: &HeaderMap, allowed: &Origins) -> Result<Option<Reader>, ApiError> {
    let mut values = headers.get_all(header::ORIGIN).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let host = headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or("");
    let is_own = |origin| SiteOrigin::parse(origin).is_some_and(|site| site.is_of(host));
    let origin = value.to_str().ok().filter(|_| values.next().is_none());
    if origin.is_some_and(|origin| allowed.allow(origin) || is_own(origin)) {
        let everybody = HeaderValue::from_static("*");
        let reader = if allowed.allow_all() {
            everybody
        } else {
            value.clone()
        };
        return Ok(Some(Reader(reader)));
    }
    let fault = Fault::invalid(
        "origin_not_allowed",
        "Pages of this origin may not use this relay. Its operator lists those that may in \
         `origins` (VOXLINE_ORIGINS).",
    );
    Err(ApiError::new(StatusCode::FORBIDDEN, fault))
}

fn preflight(request: &HeaderMap) -> Response {
    let asked = request.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked.into_iter().filter_map(|value| value.to_str().ok());
    let asked = asked.flat_map(|value| value.split(',')).map(str::trim);
    let more = asked.filter(|name| {
        let begins_with = |prefix: &&str| {
            let beginning = name.get(..prefix.len());
            beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix))
        };
        HEADER_PREFIXES.iter().any(begins_with)
    });
    let allowed: Vec<&str> = HEADERS.into_iter().chain(more).collect();
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Keeps caches from giving one origin's answer to another.
fn vary(mut response: Response) -> Response {
    let origin = HeaderValue::from_static("origin");
    response.headers_mut().append(header::VARY, origin);
    response
}
