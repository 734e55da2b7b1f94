//! The web pages, from inside the binary: the demo's, and the dashboard.
//!
//! **Invariant:** only a development key is ever put into a page, and only for a browser that
//! asked for this machine by a loopback name, so that no other site can have it read out by a
//! name of its own that it points here.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::config::Provider;
use crate::server::App;
use crate::server::error;

#[derive(RustEmbed)]
#[folder = "web-demo/dist"]
#[allow_missing = true]
struct Dist;

const INDEX: &str = "index.html";
const DASHBOARD: &str = "dashboard.html";

/// Everything comes from the relay itself.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
                      worker-src 'self' blob:; object-src 'none'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const SECURITY: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("permissions-policy"),
        "microphone=(self), camera=(), geolocation=()",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

const UNBUILT: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <title>voxline</title>\n<h1>voxline is running</h1>\n\
    <p>This build has no web page in it: run <code>make web</code>, then start again. \
    The API is there without it.</p>\n</html>\n";

/// Serves a page or one of its files.
pub(crate) async fn page(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "dashboard" => DASHBOARD,
        path => path,
    };
    let is_read = matches!(method, Method::GET | Method::HEAD);
    let mut response = match (path, Dist::get(path)) {
        ("" | INDEX, _) if is_read => index(&app, &headers),
        (DASHBOARD, None) if is_read => Html(UNBUILT).into_response(),
        (_, Some(file)) if is_read => asset(path, file),
        ("" | INDEX | DASHBOARD, _) | (_, Some(_)) => {
            return error::method_not_allowed(&method, &uri).into_response();
        }
        (_, None) => return error::not_found(&method, &uri).into_response(),
    };
    for (name, value) in SECURITY {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn index(app: &App, headers: &HeaderMap) -> Response {
    let Some(file) = Dist::get(INDEX) else {
        return (StatusCode::OK, Html(UNBUILT)).into_response();
    };
    let mut page = String::from_utf8_lossy(&file.data).into_owned();
    let provider = match app.config.provider {
        Provider::Embedded => "embedded",
        Provider::OpenAi { .. } => "openai",
    };
    page = fill(&page, "voxline-provider", provider);
    if let Some(key) = &app.config.development_key
        && asks_this_machine(headers)
    {
        page = fill(&page, "voxline-key", key.expose());
    }
    ([(header::CACHE_CONTROL, "no-store")], Html(page)).into_response()
}

/// Neither keys nor providers hold anything that HTML would read as its own.
fn fill(page: &str, name: &str, content: &str) -> String {
    let empty = format!("<meta name=\"{name}\" content=\"\"");
    let full = format!("<meta name=\"{name}\" content=\"{content}\"");
    page.replace(&empty, &full)
}

/// Files under `assets/` are named by what they hold, so they never change.
fn asset(path: &str, file: EmbeddedFile) -> Response {
    let caching = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = [
        (header::CONTENT_TYPE, file.metadata.mimetype().to_owned()),
        (header::CACHE_CONTROL, caching.to_owned()),
    ];
    (headers, file.data).into_response()
}

fn asks_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST);

    host.is_some_and(|host| host.to_str().is_ok_and(is_this_machine))
}

/// Returns whether a host, with or without its port, is named as only this machine can be.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _port)| name);

    name.eq_ignore_ascii_case("localhost")
        || name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_this_machine() {
        let is_ours = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            asks_this_machine(&headers)
        };
        for ours in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in [
            "",
            "example.org:8080",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "192.168.0.1:8080",
            "localhost@example.org",
            "localhost:8080:example.org",
            "0.0.0.0",
        ] {
            assert!(!is_ours(other), "{other}");
        }
        assert!(!asks_this_machine(&HeaderMap::new()));
    }

    #[test]
    fn a_page_is_filled_where_it_asks_to_be() {
        let page = "<meta name=\"voxline-key\" content=\"\"><meta name=\"other\" content=\"\">";
        assert_eq!(
            fill(page, "voxline-key", "k"),
            "<meta name=\"voxline-key\" content=\"k\"><meta name=\"other\" content=\"\">"
        );
    }
}
