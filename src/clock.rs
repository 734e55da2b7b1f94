//! The only place that reads the clock.

use std::time::{Instant, SystemTime};

/// Returns the current instant, on tokio's clock so that tests can pause it.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the clock"
)]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the time of day, for what leaves the process: `expires_at`, log lines, the spoken time.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Sleeps until `deadline`; forever if there is none.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
