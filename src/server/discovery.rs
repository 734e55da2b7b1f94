//! What the relay tells about itself to whoever asks: its API, and the keys its tokens can be
//! verified with.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::server::App;

/// OpenAPI 3.1.
const DOCUMENT: &str = include_str!("openapi.json");

/// Keys are announced well before they sign; whoever meets one they do not know asks again.
const KEYS_KEPT: &str = "public, max-age=60";

/// `GET /.well-known/jwks.json`
pub(crate) async fn jwks(State(app): State<Arc<App>>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "application/jwk-set+json"),
        (header::CACHE_CONTROL, KEYS_KEPT),
    ];
    (headers, app.authority.jwks().to_string())
}

/// `GET /openapi.json`
pub(crate) async fn openapi() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, DOCUMENT)
}
