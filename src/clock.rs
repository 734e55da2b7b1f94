//! The only place that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Counts a time of day from the beginning of 1970, before which there is none.
pub fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The same in whole seconds, as tokens and events have it.
pub fn unix(time: SystemTime) -> u64 {
    since_1970(time).as_secs()
}

/// Sleeps until `deadline`; forever if there is none.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
