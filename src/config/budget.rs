//! How long an answer may take, as it is configured.

use crate::config::{ConfigError, Reader};
use crate::core::latency::budget::Budget;

pub(super) fn read(entries: &Reader<'_>) -> Result<Budget, ConfigError> {
    Ok(Budget {
        limits: [
            entries.bounded("budget.capture")?,
            entries.bounded("budget.uplink")?,
            entries.bounded("budget.relay_in")?,
            entries.bounded("budget.silence_wait")?,
            entries.bounded("budget.inference")?,
            entries.bounded("budget.relay_out")?,
            entries.bounded("budget.downlink")?,
            entries.bounded("budget.playback")?,
        ],
        end_to_end: entries.bounded("budget.end_to_end")?,
        percentile: entries.bounded("budget.percentile")?,
        objective: entries.bounded("budget.objective")?,
    })
}
