//! What was counted, as far as the dashboard and its alerts are concerned.

use serde::Serialize;

use crate::server::alerts;
use crate::telemetry::Counters;

/// Since the start.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Counts {
    rotations: u64,
    rotations_failed: u64,
    links_lost: u64,
    links_restored: u64,
    parked: u64,
    resumed: u64,
    interruptions: u64,
    interruptions_failed: u64,
    ice_restarts: u64,
}

pub(super) fn of(counters: &Counters) -> Counts {
    Counts {
        rotations: counters.total("voxline_token_renewals_total"),
        rotations_failed: counters.total("session_rotate_fail_total"),
        links_lost: counters.total("voxline_provider_links_lost_total"),
        links_restored: counters.total("voxline_provider_links_restored_total"),
        parked: counters.total("voxline_sessions_parked_total"),
        resumed: counters.total("voxline_sessions_resumed_total"),
        interruptions: counters.total("voxline_interruptions_total"),
        interruptions_failed: counters.total("voxline_interruptions_failed_total"),
        ice_restarts: counters.total("voxline_ice_restarts_total"),
    }
}

impl Counts {
    pub(super) fn for_alerts(self) -> alerts::Counts {
        alerts::Counts {
            rotations_failed: self.rotations_failed,
            interruptions: self.interruptions,
            interruptions_failed: self.interruptions_failed,
            ice_restarts: self.ice_restarts,
        }
    }
}
