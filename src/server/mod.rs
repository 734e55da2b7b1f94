//! Routes, admission, tasks, shutdown, web pages.
//!
//! **Invariants**
//! - Credentials are judged before a body is read, and admission before anything costly is done.
//! - Every failed request is answered in OpenAI's shape.

mod auth;
mod calls;
mod connections;
mod error;
mod pages;
mod realtime;
mod session;
mod sessions;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tracing::Instrument;

use crate::config::{Config, Log, LogFormat};
use crate::core::latency::Recorder;
use crate::server::connections::Connections;
use crate::server::sessions::Sessions;
use crate::telemetry::{self, Latencies};

/// WebSockets that are being told at one time why they are turned away. Beyond these the answer
/// is a plain HTTP error, which costs nothing to hold.
const REFUSALS: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A relay that holds its ports.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    app: Arc<App>,
}

/// What every request may use.
pub(crate) struct App {
    config: Config,
    latencies: Arc<Latencies>,
    recorder: Recorder,
    sessions: Sessions,
    refusals: Arc<Semaphore>,
}

/// Why a relay cannot start. All of these are for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "{address} (TCP) is in use: stop the program that uses it, or choose another address with \
         --listen or VOXLINE_LISTEN"
    )]
    ListenInUse { address: SocketAddr },
    #[error("cannot listen on {address} (TCP): {source}; see --listen or VOXLINE_LISTEN")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
}

impl Server {
    /// Takes the ports.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let address = config.listen;
        let refuse = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                StartError::ListenInUse { address }
            } else {
                StartError::Listen { address, source }
            }
        };
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let local_addr = listener.local_addr().map_err(refuse)?;
        let latencies = Arc::new(Latencies::default());
        let app = App {
            sessions: Sessions::new(config.limits.sessions),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            recorder: latencies.recorder(),
            latencies,
            config,
        };
        Ok(Self {
            listener,
            local_addr,
            app: Arc::new(app),
        })
    }

    /// Where HTTP and WebSockets are served.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where WebRTC's packets arrive.
    pub fn media_addr(&self) -> SocketAddr {
        self.app.config.udp
    }

    pub fn config(&self) -> &Config {
        &self.app.config
    }

    /// Serves until `stop`, then brings all conversations to their end within the drain limit.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, app, .. } = self;
        let limits = &app.config.limits;
        let connections = Connections::new(limits.connections, limits.request_time);
        let router = router(Arc::clone(&app));
        let closing = CancellationToken::new();
        let end = async {
            stop.cancelled().await;
            tracing::info!(sessions = app.sessions.count(), "Shutting down");
            // New connections are still taken, to be told that the relay is restarting.
            app.sessions.stop(limits.drain).await;
            closing.cancel();
        };
        tokio::join!(connections.serve(listener, router, closing.clone()), end);
        tracing::info!("Shut down");
    }
}

/// Starts the log on standard error.
pub fn start_log(log: &Log) {
    telemetry::start_log(log.filter.as_str(), log.format == LogFormat::Json);
}

fn router(app: Arc<App>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::LOCATION, header::RETRY_AFTER, REQUEST_ID]);
    let api = Router::new()
        .route("/v1/realtime", get(realtime::connect))
        .route("/v1/realtime/calls", post(calls::create))
        .route(
            "/v1/realtime/calls/{id}",
            axum::routing::delete(calls::hang_up),
        )
        .route("/v1/realtime/calls/{id}/hangup", post(calls::hang_up))
        .layer(cors)
        .layer(DefaultBodyLimit::max(app.config.limits.body.0));
    Router::new()
        .merge(api)
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(get(pages::page))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            error::method_not_allowed(&method, &uri)
        })
        .layer(middleware::from_fn(identify))
        .with_state(app)
}

async fn healthy() -> &'static str {
    "ok\n"
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.sessions.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
    let page = format!(
        "{}# TYPE voxline_sessions gauge\nvoxline_sessions {}\n",
        app.latencies.prometheus(),
        app.sessions.count(),
    );
    ([content_type], page)
}

/// Gives every request a name, on its log lines and on its answer.
async fn identify(request: Request, next: Next) -> Response {
    let id = format!("req_{}", uuid::Uuid::new_v4().simple());
    let span = tracing::info_span!("request", %id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    tracing::debug!(parent: &span, %method, path, status, "Answered");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
