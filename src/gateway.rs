//! Picks the upstream for a voice link, and shares what is learned about its health.
//!
//! There is one voice upstream for now; what it takes to open a link is asked for here and
//! nowhere else, so that a second one changes this file only.
//!
//! An upstream that has become slow is not left alone as one that fails is: there is no other, and a late
//! answer is better than none. Operators are told; `core::resilience::Slowness` decides where links go once
//! there are two.
//!
//! **Invariant:** an upstream that has failed too often lately is not asked; the locks on its health are
//! held for no longer than it takes to look.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::clock;
use crate::core::latency::Recorder;
use crate::core::latency::budget::Verdict;
use crate::core::port::{Fault, Json};
use crate::core::resilience::{
    Breaker, BreakerConfig, Outcome, Pace, Slowness, SlownessConfig, Standing,
};
use crate::provider::calls::{Calls, Created};
use crate::provider::realtime::{self, Link, Target};
use crate::provider::{OpenError, Patience, Upstream};
use crate::wire::realtime::{Carrier, Pinned, Toolbox, call_session};

/// What a link is wanted for.
#[derive(Clone, Debug)]
pub struct Opening {
    target: Target,
    session: Pinned,
}

impl Opening {
    /// Wants a conversation, with a client's session object as it came; `Null` is none.
    pub fn conversation(model: String, session: Value, carrier: Carrier) -> Result<Self, Fault> {
        Ok(Self {
            target: Target::Model(model),
            session: Pinned::new(or_empty(session), carrier)?,
        })
    }

    /// Wants what is said transcribed, with a client's session object as it came; `Null` is none.
    pub fn transcription(session: Value, carrier: Carrier) -> Result<Self, Fault> {
        let mut session = or_empty(session);
        if let Some(fields) = session.as_object_mut() {
            fields
                .entry("type")
                .or_insert_with(|| Value::from("transcription"));
        }

        Ok(Self {
            target: Target::Transcription,
            session: Pinned::new(session, carrier)?,
        })
    }

    /// The model of a conversation.
    pub fn model(&self) -> Option<&str> {
        match &self.target {
            Target::Model(model) => Some(model),
            Target::Call(_) | Target::Transcription => None,
        }
    }

    /// Whoever opens the next link wants it with what this `session.update` has changed.
    pub fn adopt(&mut self, update: &Json) {
        self.session.adopt(update);
    }

    /// Offers the relay's own tools too, where somebody answers who could call them.
    pub fn with_tools(self, toolbox: &Toolbox) -> Self {
        match self.target {
            Target::Model(_) => Self {
                session: self.session.with_tools(toolbox.clone()),
                ..self
            },
            Target::Call(_) | Target::Transcription => self,
        }
    }

    /// Wants to join the provider's own call of this name, as it is.
    pub fn sideband(call: String) -> Self {
        Self {
            target: Target::Call(call),
            session: Pinned::default(),
        }
    }
}

fn or_empty(session: Value) -> Value {
    if session.is_null() {
        Value::Object(Map::new())
    } else {
        session
    }
}

/// The waits, in milliseconds, for a provider to know the call that it has just created.
const KNOWN_AFTER: [u64; 5] = [50, 100, 200, 400, 800];

/// Opens voice links, and calls at the provider.
pub struct Gateway {
    upstream: Upstream,
    calls: Calls,
    patience: Patience,
    recorder: Recorder,
    breaker: Mutex<Breaker>,
    slowness: Mutex<Slowness>,
}

/// What its breaker is called where there are several.
pub const VOICE: &str = "voice";

/// The upstreams that could take the place of the one there is.
const OTHERS: usize = 0;

/// How the upstream has been lately.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    pub standing: Standing,
    pub pace: Pace,
    /// The share of turns in which it was too slow; zero if there were none.
    pub slow_share: f64,
}

impl Gateway {
    pub fn new(
        upstream: Upstream,
        patience: Patience,
        breaker: BreakerConfig,
        recorder: Recorder,
    ) -> Self {
        Self {
            calls: Calls::new(upstream.clone(), patience),
            upstream,
            patience,
            recorder,
            breaker: Mutex::new(Breaker::new(breaker)),
            slowness: Mutex::new(Slowness::new(SlownessConfig::default())),
        }
    }

    /// Tells how the upstream has been lately.
    pub fn health(&self, now: Instant) -> Health {
        let slowness = self.slowness();
        Health {
            standing: self.breaker().standing(now),
            pace: slowness.pace(now),
            slow_share: slowness.lately(now).share().unwrap_or_default(),
        }
    }

    /// Hears how an answered turn was.
    pub fn turn(&self, verdict: &Verdict, now: Instant) {
        let Some(was_slow) = verdict.slow_provider else {
            return;
        };
        let mut slowness = self.slowness();
        let changed = slowness.turn(was_slow, now);
        let choice = slowness.decide(OTHERS, now);
        let slow_share = slowness.lately(now).share();
        drop(slowness);
        let base_url = &self.upstream.base_url;
        match changed {
            Some(Pace::Slow) => {
                tracing::warn!(
                    base_url,
                    ?slow_share,
                    ?choice,
                    "The provider has become slow"
                );
            }
            Some(Pace::Prompt) => {
                tracing::info!(base_url, ?slow_share, "The provider is prompt again");
            }
            None => {}
        }
    }

    /// Opens a link that is ready for use. A call that is not known yet is asked for again.
    pub async fn open(&self, opening: &Opening) -> Result<Link, OpenError> {
        let admitted = self.breaker().admit(clock::now());
        let ticket = admitted.map_err(|resting| OpenError::Resting {
            retry_after: resting.retry_after,
        })?;
        let opened = self.ask(opening).await;
        let outcome = match &opened {
            Ok(_) => Outcome::Success,
            // A call that has ended, or is about to, says nothing of the provider.
            Err(_) if opening.target.is_call() => Outcome::Neutral,
            Err(error) => outcome(error),
        };
        self.breaker().settle(ticket, outcome, clock::now());

        opened.inspect_err(|error| self.warn(error, "No voice link"))
    }

    async fn ask(&self, opening: &Opening) -> Result<Link, OpenError> {
        let mut waits = KNOWN_AFTER.iter();
        loop {
            let opened = realtime::open(
                &self.upstream,
                &opening.target,
                &opening.session,
                self.patience,
                self.recorder.clone(),
            )
            .await;
            match (&opened, waits.next()) {
                (Err(error), Some(wait)) if error.is_unknown_call() => {
                    tokio::time::sleep(Duration::from_millis(*wait)).await;
                }
                _ => return opened,
            }
        }
    }

    /// Creates a call at the provider, for the device that made this offer.
    pub async fn create_call(&self, offer: &str, opening: &Opening) -> Result<Created, OpenError> {
        let Target::Model(model) = &opening.target else {
            let fault = Fault::invalid("invalid_value", "Only a conversation can be a call.");
            return Err(OpenError::Refused(fault.at("session.type")));
        };
        let session = call_session(&opening.session, model);
        let created = self.calls.create(offer, &session).await;

        created.inspect_err(|error| self.warn(error, "No call at the provider"))
    }

    /// Ends a call at the provider.
    pub async fn hang_up(&self, call: &str) -> Result<(), OpenError> {
        let ended = self.calls.hang_up(call).await;

        ended.inspect_err(|error| self.warn(error, "A call at the provider may go on"))
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Nothing in it can be half done.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slowness(&self) -> MutexGuard<'_, Slowness> {
        self.slowness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, error: &OpenError, so: &str) {
        tracing::warn!(%error, base_url = self.upstream.base_url, "{so}");
    }
}

/// What a failure says of the upstream's health.
fn outcome(error: &OpenError) -> Outcome {
    match error {
        // The client has asked for what nobody grants.
        OpenError::Refused(_) | OpenError::Resting { .. } => Outcome::Neutral,
        OpenError::Credential(_) | OpenError::Busy { .. } | OpenError::Unreachable(_) => {
            Outcome::Failure
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::extract::ws::{Message, WebSocketUpgrade};
    use axum::extract::{RawQuery, State};
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::core::port::FromVoice;

    #[tokio::test]
    async fn a_call_that_is_not_known_yet_is_asked_for_again_and_comes_with_its_session() {
        for refusal in [Refusal::Status, Refusal::Event] {
            let provider = Provider::start(refusal, 2).await;

            let opening = Opening::sideband("rtc_1".to_owned());
            let mut link = provider.gateway().open(&opening).await.unwrap();

            let first = link.inbox.recv().await;
            assert!(matches!(first, Some(FromVoice::Session(..))), "{first:?}");
            assert_eq!(provider.asked(), 3);
        }
    }

    #[tokio::test]
    async fn a_call_that_nobody_knows_is_given_up() {
        let provider = Provider::start(Refusal::Status, u32::MAX).await;

        let opening = Opening::sideband("rtc_1".to_owned());
        let Err(error) = provider.gateway().open(&opening).await else {
            panic!("joined");
        };

        assert!(error.is_unknown_call(), "{error}");
        assert_eq!(provider.asked(), 1 + KNOWN_AFTER.len() as u32);
    }

    #[tokio::test]
    async fn an_upstream_that_keeps_failing_is_left_alone() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream {
            base_url: format!("http://{}", silent.local_addr().unwrap()),
            api_key: "sk-test".to_owned(),
        };
        drop(silent);
        let breaker = BreakerConfig {
            failures: 2,
            ..BreakerConfig::default()
        };
        let gateway = Gateway::new(upstream, Patience::default(), breaker, Arc::new(|_| {}));
        let model = "gpt-realtime-2.1".to_owned();
        let opening = Opening::conversation(model, Value::Null, Carrier::WebRtc).unwrap();

        for _ in 0..2 {
            let opened = gateway.open(&opening).await;
            assert!(matches!(opened, Err(OpenError::Unreachable(_))));
        }
        let resting = gateway.open(&opening).await;

        assert!(matches!(resting, Err(OpenError::Resting { .. })));
        assert_eq!(gateway.health(clock::now()).standing, Standing::Open);
    }

    #[tokio::test]
    async fn a_slow_upstream_is_known_for_it_and_asked_all_the_same() {
        let provider = Provider::start(Refusal::Status, 0).await;
        let gateway = provider.gateway();
        let now = clock::now();
        let turn = |slow_provider| {
            let breach = None;
            gateway.turn(
                &Verdict {
                    breach,
                    slow_provider,
                },
                now,
            );
        };
        turn(None);
        for _ in 0..20 {
            turn(Some(true));
        }

        let health = gateway.health(now);
        assert_eq!(
            (health.standing, health.pace),
            (Standing::Closed, Pace::Slow)
        );
        assert!((health.slow_share - 1.0).abs() < 1e-9);
        let opening = Opening::sideband("rtc_1".to_owned());
        assert!(gateway.open(&opening).await.is_ok());
    }

    /// How a provider says that it does not know a call.
    #[derive(Clone, Copy)]
    enum Refusal {
        Status,
        Event,
    }

    /// Does not know the call when it is asked for the first few times.
    struct Provider {
        base_url: String,
        asked: Arc<AtomicU32>,
        _tasks: JoinSet<()>,
    }

    impl Provider {
        async fn start(refusal: Refusal, times: u32) -> Self {
            let asked = Arc::new(AtomicU32::new(0));
            let handle = async move |State(asked): State<Arc<AtomicU32>>,
                                     RawQuery(query): RawQuery,
                                     upgrade: WebSocketUpgrade|
                        -> Response {
                assert_eq!(query.as_deref(), Some("call_id=rtc_1"));
                let known = asked.fetch_add(1, Ordering::Relaxed) >= times;
                let text = match (known, refusal) {
                    (true, _) => r#"{"type":"session.created","session":{"type":"realtime"}}"#,
                    (false, Refusal::Status) => return StatusCode::NOT_FOUND.into_response(),
                    (false, Refusal::Event) => {
                        r#"{"type":"error","error":{"code":"call_id_not_found","message":"m"}}"#
                    }
                };
                upgrade.on_upgrade(async move |mut socket| {
                    socket.send(Message::text(text)).await.unwrap();
                    while let Some(Ok(_)) = socket.recv().await {}
                })
            };
            let router = Router::new()
                .route("/realtime", get(handle))
                .with_state(asked.clone());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let base_url = format!("http://{}", listener.local_addr().unwrap());
            let mut tasks = JoinSet::new();
            tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
            Self {
                base_url,
                asked,
                _tasks: tasks,
            }
        }

        fn gateway(&self) -> Gateway {
            let upstream = Upstream {
                base_url: self.base_url.clone(),
                api_key: "sk-test".to_owned(),
            };
            let breaker = BreakerConfig::default();
            Gateway::new(upstream, Patience::default(), breaker, Arc::new(|_| {}))
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }
    }
}
