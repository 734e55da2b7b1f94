//! Listens, upgrades, and owns every task of the embedded provider.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::clock;
use crate::sim::admission::{Errand, Refusal, SUBPROTOCOL, Visitor, Wanted};
use crate::sim::agent::Cast;
use crate::sim::calls::{self, Calls};
use crate::sim::control::{self, Control};
use crate::sim::faults::Rejection;
use crate::sim::protocol::error::ApiError;
use crate::sim::secrets::{self, Attached, Secrets};
use crate::sim::session::{Session, Setup};
use crate::sim::settings::Settings;
use crate::sim::wire::{Fuse, Fused};
use crate::sim::{call_request, connection};

/// The largest event: 15 MiB of audio, as an append may carry, and what is around it.
const LARGEST_EVENT: usize = 16 << 20;
/// How long sessions may take to end once they are told to.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// The embedded provider, bound to its address.
pub struct Sim {
    listener: TcpListener,
    settings: Arc<Settings>,
    control: Control,
    cast: Cast,
}

/// A client that has been upgraded.
struct Arrival {
    socket: WebSocket,
    visitor: Visitor,
    fuse: Fuse,
    _place: OwnedSemaphorePermit,
}

/// What a client finds inside.
struct Hall {
    settings: Arc<Settings>,
    control: Control,
    cast: Cast,
    secrets: Secrets,
    calls: Calls,
}

#[derive(Clone)]
struct Door {
    control: Control,
    places: Arc<Semaphore>,
    arrivals: mpsc::Sender<Arrival>,
}

impl Sim {
    /// Binds the address; port 0 takes a free one.
    pub fn bind(addr: SocketAddr, settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            cast: Cast::new(&settings.agent).map_err(io::Error::other)?,
            control: Control::new(settings.fault),
            settings: Arc::new(settings),
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the way to change what goes wrong while it runs, and to see what it knows.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Serves until cancelled; then ends its sessions and returns within two seconds or so.
    pub async fn run(self, cancel: CancellationToken) -> io::Result<()> {
        let addr = self.listener.local_addr()?;
        let listener = Fused(tokio::net::TcpListener::from_std(self.listener)?);
        let max_sessions = self.settings.max_sessions.min(Semaphore::MAX_PERMITS);
        let (arrivals, mut arrived) = mpsc::channel(64);
        let (placing, mut placed) = mpsc::channel(64);
        let secrets = Secrets::default();
        let calls = Calls::bind(addr, self.settings.clone(), placing, cancel.clone())?;
        let door = Door {
            control: self.control.clone(),
            places: Arc::new(Semaphore::new(max_sessions)),
            arrivals,
        };
        let router = Router::new()
            .route("/v1/realtime", get(realtime))
            .fallback(|| async { refused(StatusCode::NOT_FOUND, &not_found()) })
            .with_state(door)
            .merge(control::routes::router(
                self.settings.clone(),
                self.control.clone(),
            ))
            .merge(secrets::router(
                self.settings.clone(),
                self.control.clone(),
                secrets.clone(),
            ))
            .merge(call_request::router(
                self.settings.clone(),
                self.control.clone(),
                secrets.clone(),
                calls.clone(),
            ));
        let mut tasks = JoinSet::new();
        let router = router.into_make_service_with_connect_info::<Fuse>();
        let serve = axum::serve(listener, router)
            .with_graceful_shutdown(cancel.clone().cancelled_owned())
            .into_future();
        tasks.spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "The embedded provider no longer accepts connections");
            }
        });
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(arrival) = arrived.recv() => {
                    let hall = Hall {
                        settings: self.settings.clone(),
                        control: self.control.clone(),
                        cast: self.cast.clone(),
                        secrets: secrets.clone(),
                        calls: calls.clone(),
                    };
                    tasks.spawn(receive(arrival, hall, cancel.clone()));
                }
                Some(call) = placed.recv() => {
                    tasks.spawn(call);
                }
                Some(_) = tasks.join_next() => {}
            }
        }
        drop((arrived, placed));
        let drained = async { while tasks.join_next().await.is_some() {} };
        if timeout(DRAIN_WITHIN, drained).await.is_err() {
            tracing::debug!("Sessions of the embedded provider were cut short");
            tasks.shutdown().await;
        }
        Ok(())
    }
}

/// Judges one arrival and serves it to its end.
async fn receive(arrival: Arrival, hall: Hall, cancel: CancellationToken) {
    let Arrival {
        socket,
        visitor,
        fuse,
        _place,
    } = arrival;
    let Hall {
        settings,
        control,
        cast,
        secrets,
        calls,
    } = hall;
    let seed = rand::random();
    let judged = visitor.judge(&settings, &control.current(), &secrets, clock::now());
    let Attached { purpose, config } = match judged {
        Ok(Errand::Session(attached)) => *attached,
        Ok(Errand::Call(id)) => {
            match calls.find(&id) {
                Some(call) => calls::join(socket, call).await,
                None => {
                    connection::refuse(socket, Refusal::unknown_call(), seed).await;
                }
            }
            return;
        }
        Err(refusal) => {
            tracing::debug!(
                code = refusal.error.code,
                "Client of the embedded provider refused"
            );
            connection::refuse(socket, refusal, seed).await;
            return;
        }
    };
    let (session, seat) = control.seat(|faults| {
        let setup = Setup {
            settings,
            faults,
            cast,
            purpose,
            config,
            seed,
            wall: clock::wall(),
        };
        Session::new(setup, clock::now())
    });
    let span = tracing::info_span!("sim", session = session.id());
    async move {
        tracing::info!("Session of the embedded provider opened");
        let end = connection::run(socket, session, seat, fuse, cancel).await;
        tracing::info!(?end, "Session of the embedded provider ended");
    }
    .instrument(span)
    .await;
}

async fn realtime(
    State(door): State<Door>,
    ConnectInfo(fuse): ConnectInfo<Fuse>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let error = ApiError::new("invalid_request", rejection.body_text());
            return refused(rejection.status(), &error);
        }
    };
    if let Some(rejection) = door.control.current().rejection {
        return rejection_of(rejection);
    }
    let Ok(place) = Arc::clone(&door.places).try_acquire_owned() else {
        let error = ApiError::server("server_busy", "All sessions are taken. Try again later.");
        return refused(StatusCode::SERVICE_UNAVAILABLE, &error);
    };
    let visitor = Visitor::new(&headers, wanted);
    upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(LARGEST_EVENT)
        .max_frame_size(LARGEST_EVENT)
        .on_upgrade(move |socket| async move {
            let arrival = Arrival {
                socket,
                visitor,
                fuse,
                _place: place,
            };
            // If nobody takes it, the server is shutting down.
            let _ = door.arrivals.send(arrival).await;
        })
}

fn not_found() -> ApiError {
    ApiError::new(
        "not_found",
        "The embedded provider serves 'GET /v1/realtime', 'POST /v1/realtime/client_secrets', \
         'POST /v1/realtime/calls' and 'POST /v1/realtime/calls/{id}/hangup'.",
    )
}

/// Answers as a fault wants it.
pub(crate) fn rejection_of(rejection: Rejection) -> Response {
    let status = StatusCode::from_u16(rejection.status);
    let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let error = ApiError::server("server_error", "Refused on command.");
    let mut response = refused(status, &error);
    if let Some(after) = rejection.retry_after {
        // Whole seconds; one that is too short would be no help.
        let seconds = after.as_millis().div_ceil(1_000) as u64;
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn refused(status: StatusCode, error: &ApiError) -> Response {
    (status, axum::Json(json!({"error": error}))).into_response()
}
