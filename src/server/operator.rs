//! Who may see the figures: whoever shows the admin key, or whoever sits at this machine.
//!
//! **Invariant:** without the key nothing is told where anybody else could have asked: the relay listens on
//! loopback only, nothing says that somebody forwarded the request, it was made by a loopback name (no
//! DNS rebinding), and by no page of another origin.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::request::Parts;

use crate::config::SiteOrigin;
use crate::server::App;
use crate::server::admin::Admin;
use crate::server::error::ApiError;
use crate::server::pages::is_this_machine;

/// What proxies say of the requests that they pass on ...
const FORWARDED: [HeaderName; 3] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-real-ip"),
];

/// ... and how the rest of it begins.
const FORWARDED_PREFIX: &str = "x-forwarded";

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Proof that a request is the operator's.
pub(crate) struct Operator;

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let target = parts.uri.host();
        if app.config.is_loopback_only()
            && target.is_none_or(is_this_machine)
            && is_local(&parts.headers)
        {
            return Ok(Self);
        }
        let Admin = Admin::from_request_parts(parts, app).await?;

        Ok(Self)
    }
}

/// Returns whether a request comes from this machine, if the relay can be reached from nowhere else.
fn is_local(headers: &HeaderMap) -> bool {
    let once = |name: &HeaderName| headers.get_all(name).iter().count() < 2;
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(&header::HOST).unwrap_or_default();
    let is_forwarded = headers
        .keys()
        .any(|name| FORWARDED.contains(name) || name.as_str().starts_with(FORWARDED_PREFIX));
    let is_own = |origin| SiteOrigin::parse(origin).is_some_and(|site| site.is_of(host));
    let is_of_no_other_page = match headers.get(header::ORIGIN) {
        Some(origin) => origin.to_str().is_ok_and(is_own),
        None => true,
    };
    // Says it also of requests that bring no `Origin`.
    let is_asked_by_us = match headers.get(FETCH_SITE) {
        Some(site) => site == "same-origin" || site == "none",
        None => true,
    };

    is_this_machine(host)
        && once(&header::HOST)
        && once(&header::ORIGIN)
        && once(&FETCH_SITE)
        && !is_forwarded
        && is_of_no_other_page
        && is_asked_by_us
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_local_if_nothing_speaks_against_it() {
        for headers in [
            &[("host", "localhost:8080")][..],
            &[("host", "127.0.0.1:8080")],
            &[
                ("host", "[::1]:8080"),
                ("origin", "http://[::1]:8080"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("host", "localhost"), ("sec-fetch-site", "none")],
        ] {
            assert!(is_local(&map(headers)), "{headers:?}");
        }
    }

    #[test]
    fn whatever_speaks_against_it_makes_a_request_foreign() {
        let host = ("host", "localhost:8080");
        for headers in [
            &[][..],
            &[("host", "relay.example")],
            &[("host", "192.168.0.7:8080")],
            &[host, host],
            &[host, ("forwarded", "for=192.0.2.1")],
            &[host, ("via", "1.1 proxy")],
            &[host, ("x-forwarded-for", "127.0.0.1")],
            &[host, ("x-forwarded-proto", "https")],
            &[host, ("x-real-ip", "192.0.2.1")],
            &[host, ("origin", "https://app.example")],
            &[host, ("origin", "http://localhost:5173")],
            &[host, ("origin", "null")],
            &[
                host,
                ("origin", "http://localhost:8080"),
                ("origin", "http://localhost:8080"),
            ],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
        ] {
            assert!(!is_local(&map(headers)), "{headers:?}");
        }
    }

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        map
    }
}
