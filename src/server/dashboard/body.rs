//! What is to be seen of the relay's latency at one moment.
//!
//! **Invariant:** nothing that people say is in it, and no credential.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde_json::Value;

use crate::clock;
use crate::core::latency::budget::Budget;
use crate::core::latency::{Hop, Measure};
use crate::core::port::Source;
use crate::core::resilience::Standing;
use crate::gateway::VOICE;
use crate::server::App;
use crate::server::admission::lock;
use crate::server::dashboard::calls::{self, Call};
use crate::server::dashboard::counts::{self, Counts};
use crate::server::view::View;
use crate::telemetry::{Distribution, Point, Turn};

/// Turns that are shown.
const TURNS: usize = 50;

/// The whiles over which it is told how fast the budget burns.
const BURNT: [(&str, Duration); 2] = [
    ("5m", Duration::from_secs(300)),
    ("1h", Duration::from_secs(3_600)),
];

/// All that is shown; only the line over time may be left out in part.
pub(super) struct Snapshot {
    /// A JSON object, without its end.
    head: String,
    line: Vec<Point>,
    moment: Moment,
}

/// One instant, by both clocks.
#[derive(Clone, Copy)]
struct Moment {
    now: Instant,
    wall: SystemTime,
}

#[derive(Serialize)]
struct Body<'a> {
    at: u64,
    uptime_s: u64,
    window: &'static str,
    provider: Option<&'a str>,
    transport: Option<&'static str>,
    providers: Vec<String>,
    transports: Vec<&'static str>,
    budget: Limits,
    measures: Vec<Figures>,
    culprit: Option<Culprit>,
    burn: Vec<Burn>,
    sessions: Vec<Call>,
    sessions_more: usize,
    turns: Vec<Value>,
    counters: Counts,
    breakers: Vec<Breaker<'a>>,
    alerts: Vec<Alarm>,
}

#[derive(Serialize)]
struct Limits {
    percentile: u8,
    objective: f64,
    limits_ms: serde_json::Map<String, Value>,
}

#[derive(Serialize)]
struct Figures {
    name: &'static str,
    hop: bool,
    count: u64,
    estimated: u64,
    p50_ms: f64,
    p90_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    over: u64,
    curve: Vec<(f64, f64)>,
}

#[derive(Serialize)]
struct Culprit {
    hop: &'static str,
    percentile_ms: f64,
    limit_ms: f64,
    over_ms: f64,
    says: String,
}

#[derive(Serialize)]
struct Burn {
    window: &'static str,
    turns: u64,
    over: u64,
    rate: f64,
}

#[derive(Serialize)]
struct Breaker<'a> {
    name: &'static str,
    provider: &'a str,
    state: &'static str,
    slow: f64,
}

#[derive(Serialize)]
struct Alarm {
    name: &'static str,
    since: u64,
    says: String,
}

/// Looks at all there is.
pub(super) async fn snapshot(app: &App, view: &View, now: Instant) -> Snapshot {
    let moment = Moment {
        now,
        wall: clock::wall(),
    };
    let (sessions, sessions_more) = calls::running(&app.sessions).await;
    let budget = &app.config.budget;
    let known = Measure::ALL.map(|measure| {
        let all = app
            .latencies
            .distribution(measure, view.window, &view.filter, now);
        (measure, all)
    });
    let body = Body {
        at: clock::since_1970(moment.wall).as_millis() as u64,
        uptime_s: now
            .saturating_duration_since(app.latencies.began())
            .as_secs(),
        window: view.window.name(),
        provider: view.filter.provider.as_deref(),
        transport: view.filter.transport.map(|transport| transport.name()),
        providers: app.latencies.providers(),
        transports: app
            .latencies
            .transports()
            .into_iter()
            .map(|transport| transport.name())
            .collect(),
        budget: Limits::of(budget),
        culprit: Culprit::find(&known, budget),
        measures: known
            .iter()
            .map(|(measure, all)| Figures::of(*measure, all, budget))
            .collect(),
        burn: burnt(app, now),
        sessions,
        sessions_more,
        turns: turns(app, view),
        counters: counts::of(&app.counters),
        breakers: vec![breaker(app, now)],
        alerts: alerts(app, moment),
    };
    let mut head = serde_json::to_string(&body).expect("it has text for keys, and finite numbers");
    head.pop();

    Snapshot {
        head,
        line: app.latencies.series(&view.filter, None, now),
        moment,
    }
}

impl Snapshot {
    /// All of it, with those points of the line that are later than this.
    pub(super) fn since(&self, since: Option<Instant>) -> String {
        let is_later = |point: &&Point| since.is_none_or(|since| point.at > since);
        let line: Vec<_> = self.line.iter().filter(is_later).collect();
        let points = line.into_iter().map(|point| {
            let at = self.moment.unix_ms(point.at);
            (at, ms(point.p50), ms(point.p95), point.turns)
        });
        let points = serde_json::to_string(&points.collect::<Vec<_>>());
        let points = points.expect("they are numbers, and finite");

        format!("{},\"series\":{points}}}", self.head)
    }

    /// The last point of the line.
    pub(super) fn last(&self) -> Option<Instant> {
        self.line.last().map(|point| point.at)
    }
}

impl Moment {
    fn unix_ms(self, at: Instant) -> u64 {
        let ago = self.now.saturating_duration_since(at);
        let then = clock::since_1970(self.wall).saturating_sub(ago);

        then.as_millis() as u64
    }
}

impl Limits {
    fn of(budget: &Budget) -> Self {
        let hops = Hop::ALL.map(|hop| (hop.name(), budget.limit(hop)));
        let limits = hops.into_iter().chain([("end_to_end", budget.end_to_end)]);
        Self {
            percentile: budget.percentile,
            objective: budget.objective,
            limits_ms: limits
                .map(|(name, limit)| (name.to_owned(), ms(limit).into()))
                .collect(),
        }
    }
}

impl Figures {
    fn of(measure: Measure, all: &Distribution, budget: &Budget) -> Self {
        let limit = if let Measure::Hop(hop) = measure {
            Some(budget.limit(hop))
        } else {
            (measure == Measure::EndToEnd).then_some(budget.end_to_end)
        };
        let at = |quantile| ms(all.quantile(quantile));
        let curve = all.curve().map(|(percentile, took)| (percentile, ms(took)));
        Self {
            name: measure.name(),
            hop: matches!(measure, Measure::Hop(_)),
            count: all.count(),
            estimated: all.estimated(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: ms(all.max()),
            over: limit.map_or(0, |limit| all.over(limit)),
            curve: if all.count() == 0 {
                vec![]
            } else {
                curve.collect()
            },
        }
    }
}

impl Culprit {
    /// Holds the percentile of the budget against its limits.
    fn find(known: &[(Measure, Distribution)], budget: &Budget) -> Option<Self> {
        let reached = |wanted: Measure| {
            let (_, all) = known.get(wanted.index())?;
            let quantile = f64::from(budget.percentile) / 100.0;
            (all.count() > 0).then(|| all.quantile(quantile))
        };
        let hops = Hop::ALL.map(|hop| reached(Measure::Hop(hop)));
        let breach = budget.breach(&hops, reached(Measure::EndToEnd))?;

        Some(Self {
            hop: breach.hop.name(),
            percentile_ms: ms(breach.took),
            limit_ms: ms(breach.limit),
            over_ms: ms(breach.over()),
            says: budget.says(&breach),
        })
    }
}

fn burnt(app: &App, now: Instant) -> Vec<Burn> {
    let burn = |(window, length)| {
        let turns = app.turns.within(length, now);
        Burn {
            window,
            turns: turns.all,
            over: turns.such,
            rate: rounded(app.config.budget.burn_rate(turns)),
        }
    };

    BURNT.map(burn).into()
}

fn turns(app: &App, view: &View) -> Vec<Value> {
    let provider = app.config.provider.name();
    let wanted = &view.filter;
    if wanted
        .provider
        .as_deref()
        .is_some_and(|one| one != provider)
    {
        return vec![];
    }
    let turns = app.turns.last().into_iter();
    let turns = turns.filter(|turn| {
        wanted
            .transport
            .is_none_or(|one| one == turn.trace.transport)
    });

    turns.take(TURNS).map(|turn| told(&turn)).collect()
}

fn told(turn: &Turn) -> Value {
    let trace = &turn.trace;
    let hops: serde_json::Map<_, _> = trace
        .known()
        .map(|(hop, stretch)| (hop.name().to_owned(), ms(stretch.took).into()))
        .collect();
    let estimated: Vec<_> = trace
        .known()
        .filter(|(_, stretch)| stretch.source == Source::Estimated)
        .map(|(hop, _)| hop.name())
        .collect();

    serde_json::json!({
        "session": turn.session.as_str(),
        "turn": trace.turn,
        "at": clock::since_1970(turn.at).as_millis() as u64,
        "transport": trace.transport.name(),
        "total_ms": ms(trace.total),
        "hops_ms": hops,
        "estimated": estimated,
        "uncertainty_ms": ms(trace.uncertainty),
        "culprit": turn.verdict.breach.map(|breach| breach.hop.name()),
    })
}

fn breaker(app: &App, now: Instant) -> Breaker<'_> {
    let health = app.gateway.health(now);
    Breaker {
        name: VOICE,
        provider: app.config.provider.name(),
        state: match health.standing {
            Standing::Closed => "closed",
            Standing::Open => "open",
            Standing::HalfOpen => "half_open",
        },
        slow: rounded(health.slow_share),
    }
}

fn alerts(app: &App, moment: Moment) -> Vec<Alarm> {
    let watch = lock(&app.board.watch);
    let alarms = watch.firing().iter().map(|alert| Alarm {
        name: alert.rule.name(),
        since: moment.unix_ms(alert.since) / 1_000,
        says: alert.says.clone(),
    });

    alarms.collect()
}

/// In milliseconds; a microsecond is all that is measured.
pub(super) fn ms(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1_000.0)
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
