//! What the relay does besides serving: it keeps its credentials fresh, and ends conversations
//! whose owners may hold none any more.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::server::App;

/// Works until `closing`.
pub(crate) async fn run(app: &App, closing: CancellationToken) {
    tokio::select! {
        () = closing.cancelled() => {}
        () = Arc::clone(&app.authority).keep_fresh() => {}
        () = end_revoked(app) => {}
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
