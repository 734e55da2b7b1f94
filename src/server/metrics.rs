//! `GET /metrics`: what there is to measure and to count, in Prometheus' text format.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::clock;
use crate::core::latency::Hop;
use crate::core::latency::budget::Budget;
use crate::core::resilience::{Pace, Standing};
use crate::gateway::{Health, VOICE};
use crate::server::App;
use crate::telemetry::prometheus::{head, labels};

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4");

    ([content_type], page(&app))
}

fn page(app: &App) -> String {
    let now = clock::now();
    let budget = &app.config.budget;
    let mut page = app.latencies.prometheus(budget, now);
    page.push_str(&app.counters.prometheus());
    page.push_str(&app.tools.prometheus());
    page.push_str(&app.otlp.prometheus());
    limits(&mut page, budget);
    health(
        &mut page,
        app.config.provider.name(),
        app.gateway.health(now),
    );
    let name = "voxline_sessions";
    head(&mut page, name, "Conversations that run.", "gauge");
    let _ = writeln!(page, "{name} {}", app.sessions.count());

    page
}

/// What the histograms and the counters of turns are held against. The burn rate is left to whoever asks:
/// it is a matter of two counters, the objective, and a while of their choice.
fn limits(page: &mut String, budget: &Budget) {
    let name = "voxline_budget_seconds";
    let help = "How long a hop may take, and all of them together (`end_to_end`).";
    head(page, name, help, "gauge");
    let hops = Hop::ALL.map(|hop| (hop.name(), budget.limit(hop)));
    for (hop, limit) in hops.into_iter().chain([("end_to_end", budget.end_to_end)]) {
        let _ = writeln!(page, "{name}{{hop=\"{hop}\"}} {}", limit.as_secs_f64());
    }
    let name = "voxline_budget_objective";
    let help = "The share of turns that is to be within the budget.";
    head(page, name, help, "gauge");
    let _ = writeln!(page, "{name} {}", budget.objective);
}

fn health(page: &mut String, provider: &str, health: Health) {
    let labels = labels(&[("name", VOICE), ("provider", provider)]);
    let state = match health.standing {
        Standing::Closed => 0,
        Standing::HalfOpen => 1,
        Standing::Open => 2,
    };
    let slow = match health.pace {
        Pace::Prompt => 0,
        Pace::Slow => 1,
    };
    for (name, help, value) in [
        (
            "voxline_breaker_state",
            "Whether links are asked for: 0 yes (closed), 1 one to try (half-open), 2 no (open).",
            f64::from(state),
        ),
        (
            "voxline_provider_slow_share",
            "The share of the turns of the last 5 minutes in which the provider was too slow.",
            health.slow_share,
        ),
        (
            "voxline_provider_slow",
            "Whether the provider counts as slow: 1 if it does.",
            f64::from(slow),
        ),
    ] {
        head(page, name, help, "gauge");
        let _ = writeln!(page, "{name}{{{labels}}} {value}");
    }
}
