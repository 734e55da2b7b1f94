//! What the relay does besides serving: it keeps its credentials fresh, and ends conversations
//! whose owners may hold none any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::server::App;

/// How soon after a revocation those are ended who were on their way in when it was made.
const AGAIN: Duration = Duration::from_millis(500);

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
    // Until the first revocation nobody is let in who may not be.
    let _ = changes.changed().await;
    loop {
        let now = clock::wall();
        let ended = app
            .sessions
            .end_revoked(|id, owner| app.authority.verdict(owner.holder(id), now).is_err());
        if ended > 0 {
            tracing::info!(sessions = ended, "Ending what was revoked");
        }
        let _ = timeout(AGAIN, changes.changed()).await;
    }
}
