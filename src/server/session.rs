//! Joins a device's leg, a voice link and a driver into one conversation.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::close_code;
use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::Instrument;

use crate::client::websocket;
use crate::clock;
use crate::config::Config;
use crate::core::ids::SessionId;
use crate::core::playout::PlayoutConfig;
use crate::core::port::{FromClient, FromIssuer, ToClient};
use crate::core::session::{Playback, Session, SessionConfig};
use crate::driver::{self, Line, Lines, Signals};
use crate::gateway::Opening;
use crate::provider::OpenError;
use crate::provider::realtime::Link;
use crate::server::App;
use crate::server::admission::{Handshake, Slot};
use crate::server::error::ApiError;
use crate::wire::realtime::Carrier;

/// Messages on their way between a leg and its session, each way.
const QUEUE: usize = 128;
const _: () = assert!(QUEUE > driver::ROOM);

/// How long the provider's link may take to end in good order.
const FAREWELL: Duration = Duration::from_secs(2);

/// OpenAI's close code for a request that must not be repeated as it is.
const INVALID: u16 = 4000;

/// Answers an offer and starts its call. The voice link is opened first, so that the caller can
/// still be told what is wrong with it.
pub(crate) async fn call(
    app: &Arc<App>,
    slot: Slot,
    id: SessionId,
    offer: &str,
    model: String,
    session: Option<Value>,
) -> Result<String, ApiError> {
    let opening = Opening::conversation(model, session.unwrap_or_default(), Carrier::WebRtc)
        .map_err(ApiError::bad_request)?;
    let (answer, leg) = app.endpoint.answer(offer).await.map_err(|error| {
        let status = StatusCode::from_u16(error.status());
        ApiError::new(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            error.fault(),
        )
    })?;
    let span = tracing::info_span!("session", %id);
    let opened = app.gateway.open(&opening).instrument(span.clone()).await;
    let link = opened.map_err(unopened)?;
    let playback = Playback::Relay(PlayoutConfig {
        lead: app.config.tuning.playout_lead,
        ..PlayoutConfig::default()
    });
    let (app, recorder) = (Arc::clone(app), app.recorder.clone());
    let sessions = Arc::clone(&app);
    sessions.sessions.start(id.clone(), slot, |signals| {
        let cancel = signals.cancel.clone();
        let leg = async move |to_session, from_session| {
            leg.run(to_session, from_session, recorder, cancel).await;
        };
        converse(app, id, link, playback, signals, leg).instrument(span)
    });
    Ok(answer)
}

/// Opens the voice link for a WebSocket client, and starts its conversation.
pub(crate) fn websocket(
    app: &Arc<App>,
    slot: Slot,
    id: SessionId,
    leg: websocket::Leg,
    model: String,
    handshake: Handshake,
) {
    let span = tracing::info_span!("session", %id);
    let own = Arc::clone(app);
    app.sessions.start(id.clone(), slot, |signals| {
        let conversation = async move {
            let opening = match Opening::conversation(model, Value::Null, Carrier::WebSocket) {
                Ok(opening) => opening,
                Err(fault) => return leg.refuse(fault, INVALID).await,
            };
            let opened = tokio::select! {
                biased;
                () = signals.cancel.cancelled() => return,
                opened = own.gateway.open(&opening) => opened,
            };
            drop(handshake);
            match opened {
                Ok(link) => {
                    let leg = async move |to_session, from_session| {
                        leg.run(to_session, from_session).await;
                    };
                    converse(own, id, link, Playback::Client, signals, leg).await;
                }
                Err(error) => leg.refuse(error.fault(), unopened_code(&error)).await,
            }
        };
        conversation.instrument(span)
    });
}

async fn converse(
    app: Arc<App>,
    id: SessionId,
    link: Link,
    playback: Playback,
    signals: Signals,
    leg: impl AsyncFnOnce(mpsc::Sender<FromClient>, mpsc::Receiver<ToClient>),
) {
    let (to_session, from_client) = mpsc::channel(QUEUE);
    let (to_client, from_session) = mpsc::channel(QUEUE);
    let Link {
        outbox,
        inbox,
        mut tasks,
    } = link;
    let (_arrivals, arrivals) = mpsc::channel(1);
    let lines = Lines {
        client: Some(Line {
            outbox: to_client,
            inbox: from_client,
        }),
        voice: Line { outbox, inbox },
        arrivals,
    };
    let issuer = Box::new(|_| FromIssuer::Unavailable);
    let opened = clock::now();
    let session = Session::new(settings(&app.config, id, playback), opened);
    let (recorder, ledger) = (app.recorder.clone(), app.counters.ledger());
    tracing::info!("Session opened");
    let driving = driver::run(session, lines, issuer, recorder, ledger, signals);
    let (reason, ()) = tokio::join!(driving, leg(to_session, from_session));
    let open_for = clock::now() - opened;
    tracing::info!(?reason, ?open_for, "Session closed");
    let farewell = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(FAREWELL, farewell).await;
}

fn settings(config: &Config, id: SessionId, playback: Playback) -> SessionConfig {
    let tuning = &config.tuning;
    SessionConfig {
        thinking_timeout: tuning.thinking_timeout,
        cancel_timeout: tuning.cancel_timeout,
        idle_after: tuning.idle_timeout,
        drain: config.limits.drain,
        ..SessionConfig::new(id, playback)
    }
}

fn unopened(error: OpenError) -> ApiError {
    let fault = error.fault();
    match error {
        OpenError::Refused(_) => ApiError::bad_request(fault),
        OpenError::Credential(_) | OpenError::Unreachable(_) => {
            ApiError::new(StatusCode::BAD_GATEWAY, fault)
        }
        OpenError::Busy { retry_after, .. } => ApiError::new(StatusCode::TOO_MANY_REQUESTS, fault)
            .retry_after(retry_after.unwrap_or_default()),
    }
}

fn unopened_code(error: &OpenError) -> u16 {
    match error {
        OpenError::Refused(_) => INVALID,
        OpenError::Credential(_) => close_code::ERROR,
        OpenError::Busy { .. } | OpenError::Unreachable(_) => close_code::AGAIN,
    }
}
