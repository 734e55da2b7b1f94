//! Routes, admission, tasks, shutdown, web pages.
//!
//! **Invariants**
//! - Credentials are judged before a body is read, and admission before anything costly is done.
//! - Every failed request is answered in OpenAI's shape.

mod admin;
mod admission;
mod alerts;
mod auth;
mod body;
mod calls;
mod certificate;
mod connections;
mod dashboard;
mod dialing;
mod direct;
mod discovery;
mod error;
mod fields;
mod form;
mod histograms;
mod inspection;
mod issuer;
mod joining;
mod metrics;
mod operator;
mod origin;
mod pages;
mod past;
mod probe;
mod realtime;
mod revival;
mod routes;
mod secrets;
mod session;
mod sessions;
mod tls;
mod told;
mod turns;
mod upkeep;
mod view;
mod wanted;
mod whip;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::{Authority, FileError};
use crate::client::webrtc::{self, Endpoint};
use crate::clock;
use crate::config::{CertificateFiles, Config, Log, LogFormat, Provider, Secret};
use crate::core::latency::Recorder;
use crate::core::resilience::BreakerConfig;
use crate::gateway::Gateway;
use crate::otlp::{Export, Otlp};
use crate::provider::{Patience, Upstream};
use crate::server::admission::Admission;
use crate::server::certificate::SelfSigned;
use crate::server::connections::{Connections, Ports};
use crate::server::dashboard::Board;
use crate::server::revival::Kept;
use crate::server::sessions::Sessions;
use crate::server::tls::Tls;
use crate::sim::{self, Sim};
use crate::store::Store;
use crate::telemetry::{self, Counters, Latencies, Turns};
use crate::tools::{Tools, ToolsError};

pub use crate::server::certificate::CertificateError;
pub use crate::server::probe::{certificate_end, open_link};

/// WebSockets that are being told at one time why they are turned away. Beyond these the answer
/// is a plain HTTP error, which costs nothing to hold.
const REFUSALS: usize = 64;

/// Sessions that are kept to be begun again, for each one that may run.
const KEPT: usize = 2;

/// A relay that holds its ports.
pub struct Server {
    ports: Ports,
    local_addr: SocketAddr,
    sim: Option<Sim>,
    export: Option<Export>,
    app: Arc<App>,
}

/// What every request may use.
pub(crate) struct App {
    config: Config,
    gateway: Gateway,
    tools: Tools,
    endpoint: Arc<Endpoint>,
    latencies: Latencies,
    recorder: Recorder,
    counters: Arc<Counters>,
    otlp: Otlp,
    turns: Turns,
    board: Board,
    authority: Arc<Authority>,
    admission: Arc<Admission>,
    sessions: Sessions,
    store: Store<Kept>,
    refusals: Arc<Semaphore>,
    /// All conversations are over, and what is still served ends.
    closing: CancellationToken,
}

/// Why a relay cannot start. All of these are for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "{address} ({protocol}) is in use: stop the program that uses it, or choose another \
         address with {flag}"
    )]
    InUse {
        address: SocketAddr,
        protocol: &'static str,
        flag: &'static str,
    },
    #[error("cannot bind {address} ({protocol}, {flag}): {source}")]
    Bind {
        address: SocketAddr,
        protocol: &'static str,
        flag: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Credentials(#[from] FileError),
    #[error(transparent)]
    Tools(#[from] ToolsError),
    #[error("there can be no client for `otlp.endpoint`: {0}")]
    Collector(#[from] reqwest::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Server {
    /// Takes the ports. Needs a tokio runtime.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let address = config.listen;
        let refuse = |source| unbound(address, "TCP", "--listen", source);
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let local_addr = listener.local_addr().map_err(refuse)?;
        let tls = match &config.tls {
            Some(settings) => Some(Tls::bind(settings).await?),
            None => None,
        };
        let media = webrtc::Settings {
            listen: config.udp,
            announced: config.public_addr,
            // A client that comes back has two legs for a moment.
            max_calls: 2 * config.limits.sessions as usize,
            max_offer: config.limits.sdp.0,
            ..webrtc::Settings::default()
        };
        let endpoint =
            Endpoint::bind(media).map_err(|source| unbound(config.udp, "UDP", "--udp", source))?;
        let (sim, upstream) = upstream(&config)?;
        let patience = Patience {
            open: config.connect_timeout,
            ..Patience::default()
        };
        let breaker = BreakerConfig {
            failures: config.recovery.failures,
            open_for: config.recovery.rest,
            probe_for: config.connect_timeout,
        };
        let latencies = Latencies::new(clock::now());
        let recorder = latencies.recorder(config.provider.name());
        let tools = match &config.tools {
            Some(path) => Tools::open(path, |name| std::env::var(name).ok())?,
            None => Tools::none()?,
        };
        let (otlp, export) = match config.otlp.clone() {
            Some(settings) => {
                let (otlp, export) = Otlp::open(settings)?;
                (otlp, Some(export))
            }
            None => (Otlp::off(), None),
        };
        let admission = Arc::new(Admission::new(&config.limits));
        let app = App {
            tools,
            gateway: Gateway::new(upstream, patience, breaker, recorder.clone()),
            endpoint,
            latencies,
            recorder,
            counters: Arc::new(Counters::new(&[&whip::ICE_RESTARTS])),
            otlp,
            turns: Turns::default(),
            board: Board::new(clock::now()),
            authority: Arc::new(Authority::open(config.auth.clone(), clock::wall())?),
            store: Store::new(
                KEPT * config.limits.sessions as usize,
                config.tuning.resume_window,
            ),
            sessions: Sessions::new(Arc::clone(&admission), config.diagnosis),
            admission,
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            closing: CancellationToken::new(),
            config,
        };
        Ok(Self {
            ports: Ports {
                plain: listener,
                tls,
            },
            local_addr,
            sim,
            export,
            app: Arc::new(app),
        })
    }

    /// Where HTTP and WebSockets are served.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the same is served over TLS, if it is.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.ports.tls.as_ref().map(Tls::local_addr)
    }

    /// The SHA-256 of a certificate that was made for this run.
    pub fn tls_fingerprint(&self) -> Option<&str> {
        self.ports.tls.as_ref()?.fingerprint()
    }

    /// Where WebRTC's packets are to be sent, the preferred address first.
    pub fn media_addrs(&self) -> &[SocketAddr] {
        self.app.endpoint.addresses()
    }

    /// Returns the control of the embedded provider, if that is who answers.
    pub fn sim_control(&self) -> Option<sim::Control> {
        self.sim.as_ref().map(Sim::control)
    }

    pub fn config(&self) -> &Config {
        &self.app.config
    }

    /// Serves until `stop`, then brings all conversations to their end within the drain limit.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            ports,
            sim,
            export,
            app,
            ..
        } = self;
        let limits = &app.config.limits;
        let connections =
            Connections::new(limits.connections, limits.request_time, limits.write_time);
        let router = routes::router(Arc::clone(&app));
        let closing = app.closing.clone();
        let end = async {
            stop.cancelled().await;
            tracing::info!(sessions = app.sessions.count(), "Shutting down");
            // New connections are still taken, to be told that the relay is restarting.
            app.sessions.stop(limits.drain).await;
            closing.cancel();
        };
        tokio::join!(
            connections.serve(ports, router, closing.clone()),
            embedded(sim, closing.clone()),
            upkeep::run(&app, closing.clone()),
            told(export, closing.clone()),
            end,
        );
        tracing::info!("Shut down");
    }
}

/// Takes a port for the embedded provider alone.
pub fn bind_sim(address: SocketAddr, config: &Config) -> Result<Sim, StartError> {
    Sim::bind(address, config.sim.clone())
        .map_err(|source| unbound(address, "TCP", "--listen", source))
}

/// Writes a certificate for development, and its key, into a directory. It is good for this
/// machine's own names and these others.
pub fn write_certificate(
    directory: &Path,
    names: &[String],
) -> Result<CertificateFiles, CertificateError> {
    SelfSigned::new(names, clock::wall())?.write(directory)
}

/// Decides who answers, and brings the embedded provider to a port of its own if it is the one.
fn upstream(config: &Config) -> Result<(Option<Sim>, Upstream), StartError> {
    match &config.provider {
        Provider::OpenAi { base_url, api_key } => {
            let upstream = Upstream {
                base_url: base_url.as_str().to_owned(),
                api_key: api_key.as_ref().map_or("", Secret::expose).to_owned(),
            };
            Ok((None, upstream))
        }
        Provider::Embedded => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let refuse = |source| unbound(address, "TCP", "the embedded provider", source);
            let key = uuid::Uuid::new_v4().simple().to_string();
            let settings = sim::Settings {
                api_key: Some(key.clone()),
                max_sessions: config.limits.sessions as usize,
                ..config.sim.clone()
            };
            let sim = Sim::bind(address, settings).map_err(refuse)?;
            let bound = sim.local_addr().map_err(refuse)?;
            let upstream = Upstream {
                base_url: format!("http://{bound}/v1"),
                api_key: key,
            };
            Ok((Some(sim), upstream))
        }
    }
}

async fn embedded(sim: Option<Sim>, closing: CancellationToken) {
    if let Some(sim) = sim
        && let Err(error) = sim.run(closing).await
    {
        tracing::error!(%error, "The embedded provider is gone");
    }
}

async fn told(export: Option<Export>, closing: CancellationToken) {
    if let Some(export) = export {
        export.run(closing).await;
    }
}

pub(crate) fn unbound(
    address: SocketAddr,
    protocol: &'static str,
    flag: &'static str,
    source: io::Error,
) -> StartError {
    if source.kind() == io::ErrorKind::AddrInUse {
        StartError::InUse {
            address,
            protocol,
            flag,
        }
    } else {
        StartError::Bind {
            address,
            protocol,
            flag,
            source,
        }
    }
}

/// Starts the log on standard error.
pub fn start_log(log: &Log) {
    telemetry::start_log(log.filter.as_str(), log.format == LogFormat::Json);
}
