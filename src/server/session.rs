//! Joins legs, a voice link and a driver into one conversation.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::ws::close_code;
use axum::http::StatusCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::auth::Caller;
use crate::client::webrtc::{self, OfferError};
use crate::client::websocket;
use crate::clock;
use crate::config::{self, Config};
use crate::core::ids::SessionId;
use crate::core::latency::Transport;
use crate::core::playout::PlayoutConfig;
use crate::core::port::{Device, FromClient, ToClient};
use crate::core::session::{Access, Playback, RecoveryConfig, Session, SessionConfig, Snapshot};
use crate::core::token::{Renewal, RotationConfig};
use crate::driver::{self, ClientLine, Issuer, Line, Lines};
use crate::gateway::Opening;
use crate::otlp::Parent;
use crate::provider::OpenError;
use crate::provider::realtime::Link;
use crate::server::App;
use crate::server::admission::{Handshake, Owner, Slot};
use crate::server::dialing::dialer;
use crate::server::error::ApiError;
use crate::server::issuer::{self, Terms};
use crate::server::revival::{Custody, Kept};
use crate::server::sessions::{Floor, Leg, Media, Newcomer, Tokens};
use crate::server::told::traces;
use crate::server::wanted::Wanted;
use crate::tools;
use crate::wire::realtime::Carrier;

/// Messages on their way between a leg and its session, each way.
pub(crate) const QUEUE: usize = 128;
const _: () = assert!(QUEUE > driver::ROOM);

/// OpenAI's close code for a request that must not be repeated as it is.
pub(crate) const INVALID: u16 = 4000;

/// Whoever opens a conversation.
pub(crate) struct Opener {
    pub(crate) id: SessionId,
    pub(crate) caller: Caller,
    /// The name of its device, if it showed one.
    pub(crate) device: Option<String>,
    /// The client's span that the conversation belongs to, if it named one.
    pub(crate) trace: Option<Parent>,
    pub(crate) slot: Slot,
    pub(crate) handshake: Handshake,
}

/// Which conversation it is, whose, and who issues the credentials of its client.
pub(crate) struct Identity {
    id: SessionId,
    owner: Owner,
    access: Access,
    issuer: Issuer,
    tokens: Tokens,
    /// The name of the client's device, if it showed one.
    device: Option<String>,
    trace: Option<Parent>,
}

/// What a conversation is made of.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    /// Absent where the session is begun again, and dials.
    pub(crate) link: Option<Link>,
    /// For the links that follow; absent where the session ends with the first.
    pub(crate) opening: Option<Opening>,
    pub(crate) playback: Playback,
    /// What the session is begun again from.
    pub(crate) restored: Option<Snapshot>,
    /// Absent where the provider has the client's leg.
    pub(crate) client: Option<(ClientLine, Leg)>,
}

/// The answer to an offer.
pub(crate) struct Answer {
    pub(crate) sdp: String,
    /// The relay's name for the ICE session; `None` where the relay has no part in it.
    pub(crate) etag: Option<String>,
}

/// Answers an offer and starts its call. The voice link is opened first, so that the caller can
/// still be told what is wrong with it.
pub(crate) async fn call(
    app: &Arc<App>,
    opener: Opener,
    offer: &str,
    wanted: Wanted,
) -> Result<Answer, ApiError> {
    let opening = wanted.opening(Carrier::WebRtc)?;
    let opening = opening.with_tools(app.tools.toolbox());
    let (answer, leg) = app.endpoint.answer(offer).await.map_err(unanswered)?;
    let span = tracing::info_span!("session", id = %opener.id);
    let opened = app.gateway.open(&opening).instrument(span.clone()).await;
    let link = opened.map_err(unopened)?;
    let playback = played(over_webrtc(app, None));
    let tokens = Tokens::of(&opener.caller);
    let parts = Parts {
        identity: opener.identity(app, &tokens),
        link: Some(link),
        opening: Some(opening),
        playback,
        restored: None,
        client: None,
    };
    let Opener { id, slot, .. } = opener;
    let own = Arc::clone(app);
    let control = leg.control();
    let conversation = app.sessions.start(id, Media::Relay, slot, tokens, |floor| {
        let client = Some(on_webrtc(&own, leg, floor.signals.cancel.clone()));
        converse(own, floor, Parts { client, ..parts }).instrument(span)
    });
    conversation.add_control(control.clone());
    Ok(Answer {
        sdp: answer,
        etag: control.etag(),
    })
}

/// Opens the voice link for a WebSocket client, and starts its conversation.
pub(crate) fn websocket(app: &Arc<App>, opener: Opener, leg: websocket::Leg, wanted: Wanted) {
    let span = tracing::info_span!("session", id = %opener.id);
    let own = Arc::clone(app);
    let tokens = Tokens::of(&opener.caller);
    let identity = opener.identity(app, &tokens);
    let Opener {
        id,
        slot,
        handshake,
        ..
    } = opener;
    let carrier = leg.carrier();
    let (media, playback) = if carrier.relay_plays() {
        (Media::Relay, played(over_websocket(app, None)))
    } else {
        (Media::WebSocket, Playback::Client)
    };
    app.sessions.start(id, media, slot, tokens, |floor| {
        let conversation = async move {
            let opening = match wanted.opening(carrier) {
                Ok(opening) => opening.with_tools(own.tools.toolbox()),
                Err(error) => return leg.refuse(error.into_fault(), INVALID).await,
            };
            let opened = tokio::select! {
                biased;
                () = floor.signals.cancel.cancelled() => return,
                opened = own.gateway.open(&opening) => opened,
            };
            drop(handshake);
            match opened {
                Ok(link) => {
                    let parts = Parts {
                        identity,
                        link: Some(link),
                        opening: Some(opening),
                        playback,
                        restored: None,
                        client: Some(on_websocket(leg, QUEUE)),
                    };
                    converse(own, floor, parts).await;
                }
                Err(error) => leg.refuse(error.fault(), unopened_code(&error)).await,
            }
        };
        conversation.instrument(span)
    });
}

impl Opener {
    pub(crate) fn identity(&self, app: &App, tokens: &Tokens) -> Identity {
        let owner = self.slot.owner().clone();
        let device = self.device.clone();
        Identity::new(
            app,
            self.id.clone(),
            &self.caller,
            owner,
            device,
            self.trace.clone(),
            tokens.clone(),
        )
    }
}

impl Identity {
    pub(crate) fn new(
        app: &App,
        id: SessionId,
        caller: &Caller,
        owner: Owner,
        device: Option<String>,
        trace: Option<Parent>,
        tokens: Tokens,
    ) -> Self {
        let terms = Terms {
            window: app.config.tuning.resume_window,
            length: app.config.limits.session_length,
        };
        Self {
            access: access(app, caller),
            issuer: issuer::issuer(
                Arc::clone(&app.authority),
                id.clone(),
                caller,
                device.clone(),
                terms,
                tokens.clone(),
            ),
            id,
            owner,
            tokens,
            device,
            trace,
        }
    }
}

/// What is known of a device that comes by WebRTC.
pub(crate) fn over_webrtc(app: &App, heard: Option<Duration>) -> Device {
    let PlayoutConfig { ear_delay, .. } = PlayoutConfig::default();
    Device {
        transport: Transport::WebRtc,
        lead: app.config.tuning.playout_lead,
        ear_delay,
        flushes: false,
        heard,
    }
}

/// What is known of a device that comes by WebSocket: sound that TCP may hold up is sent earlier,
/// and is heard as late as the rest.
pub(crate) fn over_websocket(app: &App, heard: Option<Duration>) -> Device {
    let lead = app.config.tuning.websocket_lead;
    let PlayoutConfig { ear_delay, .. } = PlayoutConfig::default();
    Device {
        transport: Transport::WebSocket,
        lead,
        ear_delay,
        flushes: true,
        heard,
    }
}

fn played(device: Device) -> Playback {
    Playback::Relay(PlayoutConfig {
        lead: device.lead,
        ear_delay: device.ear_delay,
        flushes: device.flushes,
        ..PlayoutConfig::default()
    })
}

/// Tells how long the credential of this caller is good.
fn access(app: &App, caller: &Caller) -> Access {
    let Some(grant) = caller.grant() else {
        return Access::Lasting;
    };
    let left = grant.expires.duration_since(clock::wall());
    Access::Expiring {
        expires_at: clock::now() + left.unwrap_or_default(),
        renewal: match app.config.tuning.renewal {
            config::Renewal::InBand => Renewal::InBand,
            config::Renewal::Fetch => Renewal::Fetch,
        },
        rotation: RotationConfig::default(),
    }
}

/// Gives an answered call its queues.
pub(crate) fn on_webrtc(
    app: &App,
    leg: webrtc::Leg,
    cancel: CancellationToken,
) -> (ClientLine, Leg) {
    let (line, to_session, from_session) = queues(QUEUE);
    let (recorder, ledger) = (app.recorder.clone(), app.counters.ledger());
    let leg = async move {
        leg.run(to_session, from_session, recorder, ledger, cancel)
            .await;
    };
    (line, Box::pin(leg))
}

/// Gives a WebSocket its queues.
pub(crate) fn on_websocket(leg: websocket::Leg, queue: usize) -> (ClientLine, Leg) {
    let (line, to_session, from_session) = queues(queue);
    (line, Box::pin(leg.run(to_session, from_session)))
}

/// `queue` messages may be on their way to the leg.
fn queues(
    queue: usize,
) -> (
    ClientLine,
    mpsc::Sender<FromClient>,
    mpsc::Receiver<ToClient>,
) {
    let (to_session, inbox) = mpsc::channel(QUEUE);
    let (outbox, from_session) = mpsc::channel(queue);
    (Line { outbox, inbox }, to_session, from_session)
}

/// Runs a conversation, and lets in whoever comes to it.
pub(crate) async fn converse(app: Arc<App>, floor: Floor, parts: Parts) {
    let Floor {
        signals,
        mut newcomers,
        observer,
    } = floor;
    let mut legs = JoinSet::new();
    let client = parts.client.map(|(line, leg)| {
        legs.spawn(leg.in_current_span());
        line
    });
    let (arriving, arrivals) = mpsc::channel(1);
    let opened = clock::now();
    let tools = tools(&app, &parts.identity);
    let Identity {
        id,
        owner,
        access,
        issuer,
        tokens,
        device,
        trace,
    } = parts.identity;
    let traces = traces(&app, &id, parts.opening.as_ref(), trace.clone());
    let opening = parts.opening.map(Mutex::new).map(Arc::new);
    let custody = Custody::new(Arc::clone(&app), id.clone());
    let kept = opening.clone().map(|opening| Kept {
        owner: owner.clone(),
        playback: parts.playback,
        tokens,
        device,
        trace,
        opening,
    });
    let recovers = opening.is_some();
    let lines = Lines {
        client,
        voice: parts.link.map(Into::into),
        dialer: dialer(Arc::clone(&app), opening),
        arrivals,
        tools,
        keeper: custody.keeper(kept),
        traces,
        observer,
    };
    // Until now a revocation did not find it.
    let verdict = app.authority.verdict(owner.holder(&id), clock::wall());
    if verdict.is_err() {
        signals.revoked.cancel();
    }
    let offered = match parts.playback {
        // The client's own connection to the provider could hide nothing.
        Playback::Provider => Arc::default(),
        Playback::Relay(_) | Playback::Client => app.tools.names(),
    };
    let settings = settings(&app.config, id, parts.playback, access, recovers, offered);
    let session = match parts.restored {
        Some(snapshot) => Session::restore(settings, snapshot, opened),
        None => Session::new(settings, opened),
    };
    tracing::info!("Session opened");
    let driving = driver::run(
        session,
        lines,
        issuer,
        app.recorder.clone(),
        app.counters.ledger(),
        signals,
    );
    let hosting = async {
        loop {
            tokio::select! {
                Some(newcomer) = newcomers.recv() => {
                    let Newcomer { arrival, leg } = newcomer;
                    legs.spawn(leg.in_current_span());
                    // If the session has just ended, the leg finds that out by itself.
                    let _ = arriving.send(arrival).await;
                }
                Some(_) = legs.join_next() => {}
                else => std::future::pending().await,
            }
        }
    };
    let reason = tokio::select! {
        reason = driving => reason,
        () = hosting => unreachable!("it never ends"),
    };
    custody.release();
    drop(newcomers);
    while legs.join_next().await.is_some() {}
    let open_for = clock::now() - opened;
    tracing::info!(?reason, ?open_for, "Session closed");
}

/// Carries out the calls of one conversation.
fn tools(app: &App, identity: &Identity) -> driver::Tools {
    let tools = app.tools.clone();
    let caller = tools::Caller {
        session: identity.id.clone(),
        user: identity.owner.user.clone(),
    };
    let span = tracing::Span::current();
    Box::new(move |call| {
        let (tools, caller) = (tools.clone(), caller.clone());
        let running = async move { tools.call(call, caller).await };
        Box::pin(running.instrument(span.clone()))
    })
}

fn settings(
    config: &Config,
    id: SessionId,
    playback: Playback,
    access: Access,
    recovers: bool,
    tools: Arc<[String]>,
) -> SessionConfig {
    let tuning = &config.tuning;
    let config::Recovery {
        window,
        history,
        sound,
        link_length,
        rollover_lead,
        ..
    } = config.recovery;
    let recovery = RecoveryConfig {
        window,
        history: history as usize,
        sound,
        link_length,
        rollover_lead,
        ..RecoveryConfig::default()
    };
    SessionConfig {
        id,
        playback,
        access,
        tools,
        seed: rand::random(),
        thinking_timeout: tuning.thinking_timeout,
        cancel_timeout: tuning.cancel_timeout,
        barge_in_wait: tuning.barge_in_wait,
        idle_after: tuning.idle_timeout,
        drain: config.limits.drain,
        resume_window: tuning.resume_window,
        max_length: Some(config.limits.session_length),
        recovery: (recovers && !window.is_zero()).then_some(recovery),
        began: clock::since_1970(clock::wall()),
    }
}

pub(crate) fn unanswered(error: OfferError) -> ApiError {
    ApiError::of_leg(error.status(), error.fault())
}

pub(crate) fn unopened(error: OpenError) -> ApiError {
    let fault = error.fault();
    match error {
        OpenError::Refused(_) => ApiError::bad_request(fault),
        OpenError::Credential(_) | OpenError::Unreachable(_) => {
            ApiError::new(StatusCode::BAD_GATEWAY, fault)
        }
        OpenError::Resting { retry_after } => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, fault).retry_after(retry_after)
        }
        OpenError::Busy { retry_after, .. } => ApiError::new(StatusCode::TOO_MANY_REQUESTS, fault)
            .retry_after(retry_after.unwrap_or_default()),
    }
}

fn unopened_code(error: &OpenError) -> u16 {
    match error {
        OpenError::Refused(_) => INVALID,
        OpenError::Credential(_) => close_code::ERROR,
        OpenError::Busy { .. } | OpenError::Resting { .. } | OpenError::Unreachable(_) => {
            close_code::AGAIN
        }
    }
}
