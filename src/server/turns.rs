//! What is done with an answered turn: it is judged, recorded, counted, and kept for a while.

use crate::clock;
use crate::core::ids::SessionId;
use crate::core::latency::TurnTrace;
use crate::server::App;
use crate::telemetry::Turn;

/// Takes a turn of this session that has been answered.
pub(crate) fn answered(app: &App, session: &SessionId, trace: &TurnTrace) {
    let now = clock::now();
    let provider = app.config.provider.name();
    let verdict = app.config.budget.judge(trace);
    app.latencies.turn(trace, provider);
    app.counters.turn(trace, &verdict, provider);
    app.gateway.turn(&verdict, now);
    if let Some(breach) = verdict.breach {
        let (hop, took, limit) = (breach.hop.name(), breach.took, breach.limit);
        let (turn, total) = (trace.turn, trace.total);
        tracing::debug!(turn, hop, ?took, ?limit, ?total, "Over the budget");
    }
    let turn = Turn {
        session: session.clone(),
        at: clock::wall(),
        trace: trace.clone(),
        verdict,
    };
    app.turns.add(turn, now);
}
