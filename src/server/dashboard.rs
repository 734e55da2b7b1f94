//! `/admin/latency`: where the time goes, for the page at `/dashboard` and for whoever asks.
//!
//! **Invariants**
//! - What is shown is reckoned once for each second and view, however many look at it.
//! - No more than [`VIEWERS`] look at one time. One that does not read loses its connection
//!   (`limits.write_time`), and all do when the relay has shut down: nobody is waited for.

mod body;
mod calls;
mod counts;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::core::latency::Measure;
use crate::core::port::Fault;
use crate::server::App;
use crate::server::admission::lock;
use crate::server::alerts::{FirstAudio, Watch};
use crate::server::dashboard::body::Snapshot;
use crate::server::error::ApiError;
use crate::server::form::malformed;
use crate::server::operator::Operator;
use crate::server::view::{Asked, View};
use crate::telemetry::{Filter, Window};

/// Who may look at one time.
const VIEWERS: usize = 16;

/// When somebody who was turned away should come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// Views that are kept at one time; further ones are reckoned for whoever asks.
const VIEWS: usize = 64;

/// How often there is something new.
const EVERY: Duration = Duration::from_secs(1);

/// What is shown, and to how many.
pub(crate) struct Board {
    began: Instant,
    places: Arc<Semaphore>,
    shown: Mutex<Shown>,
    watch: Mutex<Watch>,
}

/// What was reckoned in this second.
#[derive(Default)]
struct Shown {
    second: u64,
    views: HashMap<View, Arc<OnceCell<Arc<Snapshot>>>>,
}

/// One who looks.
struct Viewer {
    app: Arc<App>,
    view: View,
    /// The last point of the line over time that it has.
    since: Option<Instant>,
    next: Instant,
    _place: OwnedSemaphorePermit,
}

/// `GET /admin/latency`
pub(crate) async fn latency(
    _: Operator,
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let view = view(asked)?;
    let snapshot = app.board.snapshot(&app, &view).await;
    let content_type = (header::CONTENT_TYPE, "application/json");

    Ok(([content_type], snapshot.since(None)).into_response())
}

/// `GET /admin/latency/events`
pub(crate) async fn events(
    _: Operator,
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let view = view(asked)?;
    let place = Arc::clone(&app.board.places).try_acquire_owned();
    let place = place.map_err(|_full| {
        let message = "As many look at this relay's figures as may at one time.";
        let fault = Fault::server("too_many_viewers", message);
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, fault).retry_after(COME_BACK)
    })?;
    let closing = app.closing.clone();
    let viewer = Viewer {
        view,
        since: None,
        next: clock::now(),
        app,
        _place: place,
    };
    let content_type = (header::CONTENT_TYPE, "text/event-stream");

    Ok(([content_type], Body::from_stream(viewer.until(closing))).into_response())
}

fn view(asked: Result<Query<Asked>, QueryRejection>) -> Result<View, ApiError> {
    let Query(asked) = asked.map_err(|error| malformed("query", &error.body_text()))?;

    View::try_from(asked).map_err(ApiError::bad_request)
}

impl Board {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            places: Arc::new(Semaphore::new(VIEWERS)),
            shown: Mutex::default(),
            watch: Mutex::default(),
        }
    }

    /// Looks at the rules of the alerts. To be called about once a second, whoever looks.
    pub(crate) fn watch(&self, app: &App, now: Instant) {
        let budget = &app.config.budget;
        let (window, all) = (Window::FiveMinutes, Filter::default());
        let whole = app
            .latencies
            .distribution(Measure::EndToEnd, window, &all, now);
        let first_audio = FirstAudio {
            turns: whole.count(),
            percentile: budget.percentile,
            reached: whole.quantile(f64::from(budget.percentile) / 100.0),
            limit: budget.end_to_end,
        };
        let counts = counts::of(&app.counters).for_alerts();
        lock(&self.watch).look(counts, first_audio, now);
    }

    /// Returns what is to be seen in this second.
    async fn snapshot(&self, app: &App, view: &View) -> Arc<Snapshot> {
        let now = clock::now();
        let second = now.saturating_duration_since(self.began).as_secs();
        let cell = lock(&self.shown).cell(view, second);
        let reckon = async { Arc::new(body::snapshot(app, view, now).await) };

        Arc::clone(cell.get_or_init(|| reckon).await)
    }

    /// The first instant of the next second.
    fn next(&self, now: Instant) -> Instant {
        let second = now.saturating_duration_since(self.began).as_secs();

        self.began + EVERY.mul_f64(second as f64 + 1.0)
    }
}

impl Shown {
    fn cell(&mut self, view: &View, second: u64) -> Arc<OnceCell<Arc<Snapshot>>> {
        if self.second != second {
            self.second = second;
            self.views.clear();
        }

        if self.views.len() >= VIEWS && !self.views.contains_key(view) {
            return Arc::default();
        }

        Arc::clone(self.views.entry(view.clone()).or_default())
    }
}

impl Viewer {
    /// All that it is told.
    fn until(self, closing: CancellationToken) -> impl Stream<Item = Result<String, Infallible>> {
        let told = stream::unfold(self, |mut viewer| async {
            clock::sleep_until(Some(viewer.next)).await;
            let event = viewer.event().await;
            Some((Ok(event), viewer))
        });

        told.take_until(closing.cancelled_owned())
    }

    async fn event(&mut self) -> String {
        let board = &self.app.board;
        let snapshot = board.snapshot(&self.app, &self.view).await;
        let data = snapshot.since(self.since);
        self.since = snapshot.last().or(self.since);
        self.next = board.next(clock::now());

        format!("event: snapshot\ndata: {data}\n\n")
    }
}
