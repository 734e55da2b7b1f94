//! Calls over WebRTC: the embedded provider plays its answers to a device by itself, as OpenAI
//! does, and lets others join a call from beside.
//!
//! A call is what the relay itself is made of, put in front of this provider's own WebSocket: a
//! leg for the device, a session that owns playback, and a link.
//!
//! **Invariants:** there are as many calls as sessions, and each holds one; offers and sessions of
//! calls are bounded in size and in time; a call is known by its name until it has ended.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::WebSocket;
use tokio::sync::mpsc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::client::{webrtc, websocket};
use crate::clock;
use crate::core::ids::SessionId;
use crate::core::playout::PlayoutConfig;
use crate::core::port::FromIssuer;
use crate::core::session::{Playback, Session, SessionConfig};
use crate::driver::{self, Arrival, Line, Lines, Observer, Signals, VoiceLine};
use crate::provider::realtime::{self, Link, Target};
use crate::provider::{OpenError, Patience, Upstream};
use crate::sim::admission::Key;
use crate::sim::call_request::{CallRequest, Refused};
use crate::sim::protocol::error::ApiError;
use crate::sim::settings::Settings;
use crate::wire::realtime::{Carrier, Pinned};

/// The largest offer. A browser's has three to eight thousand bytes.
pub(crate) const MAX_OFFER: usize = 64 << 10;

/// Messages on their way between a leg and its session, each way.
const QUEUE: usize = 128;
const _: () = assert!(QUEUE > driver::ROOM);

/// Those who come to a call at one time.
const ARRIVALS: usize = 4;

/// The largest event of one who joins from beside.
const MAX_EVENT: usize = 8 << 20;

/// The calls of one provider. Cloned for everyone who needs to know them.
#[derive(Clone)]
pub(crate) struct Calls(Arc<Inner>);

/// Runs a call. Its owner is the provider's main loop.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Inner {
    settings: Arc<Settings>,
    endpoint: Arc<webrtc::Endpoint>,
    /// Where this provider itself is.
    base_url: String,
    running: Mutex<HashMap<String, Running>>,
    tasks: mpsc::Sender<Task>,
    shutdown: CancellationToken,
}

/// How a call is reached.
struct Running {
    arrivals: mpsc::Sender<Arrival>,
    cancel: CancellationToken,
}

/// A call that was placed.
pub(crate) struct Placed {
    pub(crate) id: String,
    /// For the device.
    pub(crate) answer: String,
}

impl Calls {
    /// Binds a UDP port beside the provider's address. Calls are handed to `tasks`.
    pub(crate) fn bind(
        addr: SocketAddr,
        settings: Arc<Settings>,
        tasks: mpsc::Sender<Task>,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let endpoint = webrtc::Endpoint::bind(webrtc::Settings {
            listen: (addr.ip(), 0).into(),
            max_calls: settings.max_sessions,
            max_offer: MAX_OFFER,
            notices: false,
            ..webrtc::Settings::default()
        })?;
        Ok(Self(Arc::new(Inner {
            settings,
            endpoint,
            base_url: format!("http://{}/v1", reachable(addr)),
            running: Mutex::default(),
            tasks,
            shutdown,
        })))
    }

    /// Answers an offer, and starts its call with a session of the provider's own.
    pub(crate) async fn place(&self, key: &Key, request: CallRequest) -> Result<Placed, Refused> {
        let CallRequest {
            offer,
            model,
            session,
        } = request;
        let session = Pinned::new(session, Carrier::WebRtc).map_err(|fault| (400, fault))?;
        let answered = self.0.endpoint.answer(&offer).await;
        let (answer, leg) = answered.map_err(|error| (error.status(), error.fault()))?;
        let upstream = Upstream {
            base_url: self.0.base_url.clone(),
            api_key: key.expose().to_owned(),
        };
        let target = Target::Model(model);
        let patience = Patience::default();
        let opened = realtime::open(&upstream, &target, &session, patience, Arc::new(|_| {}));
        let link = opened.await.map_err(unopened)?;

        let id = format!("rtc_{}", uuid::Uuid::new_v4().simple());
        let (arrivals, arrived) = mpsc::channel(ARRIVALS);
        let cancel = CancellationToken::new();
        let running = Running {
            arrivals,
            cancel: cancel.clone(),
        };
        self.running().insert(id.clone(), running);
        let call = Call {
            entry: Entry {
                calls: self.clone(),
                id: id.clone(),
            },
            leg,
            link,
            arrived,
            cancel,
        };
        let span = tracing::info_span!("sim", call = id);
        let running = self.0.tasks.send(Box::pin(call.run().instrument(span)));
        if running.await.is_err() {
            let error = ApiError::server("server_error", "The server is shutting down.");
            return Err((503, error).into());
        }
        Ok(Placed { id, answer })
    }

    /// Ends a call; `false` if there is none of this name.
    pub(crate) fn hang_up(&self, id: &str) -> bool {
        let running = self.running();
        running
            .get(id)
            .inspect(|call| call.cancel.cancel())
            .is_some()
    }

    /// Returns the way into a call.
    pub(crate) fn find(&self, id: &str) -> Option<mpsc::Sender<Arrival>> {
        self.running().get(id).map(|call| call.arrivals.clone())
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        let running = self.0.running.lock();
        running.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one who joins a call from beside, to the end of either.
pub(crate) async fn join(socket: WebSocket, call: mpsc::Sender<Arrival>) {
    let leg = websocket::Leg::new(
        socket,
        websocket::Settings {
            write_time: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            event: MAX_EVENT,
            notices: false,
            carrier: Carrier::WebRtc,
        },
    );
    let (to_session, inbox) = mpsc::channel(QUEUE);
    let (outbox, from_session) = mpsc::channel(driver::SIDEBAND_QUEUE);
    // If the call is over by now, the leg finds its queues closed and says so.
    let _ = call.send(Arrival::Sideband(Line { outbox, inbox })).await;
    leg.run(to_session, from_session).await;
}

struct Call {
    entry: Entry,
    leg: webrtc::Leg,
    link: Link,
    arrived: mpsc::Receiver<Arrival>,
    cancel: CancellationToken,
}

impl Call {
    async fn run(self) {
        let Inner {
            settings, shutdown, ..
        } = &*self.entry.calls.0;
        let config = SessionConfig {
            // The provider's own session has a limit, and knows no idleness.
            idle_after: settings.max_session,
            drain: Duration::ZERO,
            // Its own detector is the one that decides.
            barge_in_wait: Duration::ZERO,
            ..SessionConfig::new(
                SessionId::from(self.entry.id.as_str()),
                Playback::Relay(PlayoutConfig::default()),
            )
        };
        let session = Session::new(config, clock::now());
        let (to_session, from_client) = mpsc::channel(QUEUE);
        let (to_client, from_session) = mpsc::channel(QUEUE);
        let Link {
            outbox,
            inbox,
            tasks,
        } = self.link;
        let lines = Lines {
            client: Some(Line {
                outbox: to_client,
                inbox: from_client,
            }),
            voice: Some(VoiceLine {
                line: Line { outbox, inbox },
                tasks,
            }),
            // The provider's own calls end with their link.
            dialer: Box::new(|_| None),
            arrivals: self.arrived,
            tools: driver::no_tools(),
            keeper: Box::new(|_| {}),
            traces: Arc::new(|_| {}),
            observer: Observer::nobody(),
        };
        let signals = Signals {
            shutdown: shutdown.clone(),
            revoked: CancellationToken::new(),
            cancel: self.cancel.clone(),
        };
        tracing::info!("Call at the embedded provider began");
        let issuer = Box::new(|_| FromIssuer::Unavailable);
        let driving = driver::run(
            session,
            lines,
            issuer,
            Arc::new(|_| {}),
            Arc::new(|_| {}),
            signals,
        );
        let leg = self.leg.run(
            to_session,
            from_session,
            Arc::new(|_| {}),
            Arc::new(|_| {}),
            self.cancel,
        );
        let (reason, end) = tokio::join!(driving, leg);
        tracing::info!(?reason, ?end, "Call at the embedded provider ended");
    }
}

/// Takes its call off the list, however it ended.
struct Entry {
    calls: Calls,
    id: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.calls.running().remove(&self.id);
    }
}

/// Returns where the provider reaches itself.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr {
        _ if !addr.ip().is_unspecified() => addr.ip(),
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    (ip, addr.port()).into()
}

fn unopened(error: OpenError) -> Refused {
    match error {
        OpenError::Refused(fault) => (400, fault).into(),
        OpenError::Credential(why) => (401, ApiError::new("invalid_api_key", why)).into(),
        OpenError::Busy { message, .. } => (503, ApiError::server("server_busy", message)).into(),
        error @ OpenError::Resting { .. } => {
            (503, ApiError::server("server_busy", error.to_string())).into()
        }
        OpenError::Unreachable(why) => (500, ApiError::server("server_error", why)).into(),
    }
}
