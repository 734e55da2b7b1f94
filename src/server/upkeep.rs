//! What the relay does besides serving: it keeps its credentials fresh, ends conversations whose
//! owners may hold none any more, lets the windows slide in which latencies are looked at, and looks
//! whether anything is to wake the operator.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::server::App;

/// How often the slots of time are looked at that windows are made of.
const TICK: Duration = Duration::from_secs(1);

/// Works until `closing`.
pub(crate) async fn run(app: &App, closing: CancellationToken) {
    tokio::select! {
        () = closing.cancelled() => {}
        () = Arc::clone(&app.authority).keep_fresh() => {}
        () = end_revoked(app) => {}
        () = slide(app) => {}
    }
}

async fn slide(app: &App) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let now = clock::now();
        app.latencies.advance(now);
        app.board.watch(app, now);
    }
}

async fn end_revoked(app: &App) {
    let mut changes = app.authority.changed();
    // Who is on the way in at that moment is judged as the conversation begins.
    while changes.changed().await.is_ok() {
        let now = clock::wall();
        let ended = app
            .sessions
            .end_revoked(|id, owner| app.authority.verdict(owner.holder(id), now).is_err());
        if ended > 0 {
            tracing::info!(sessions = ended, "Ending what was revoked");
        }
    }
}
