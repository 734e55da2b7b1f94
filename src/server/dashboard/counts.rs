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
    links_given_up: u64,
    parked: u64,
    resumed: u64,
    abandoned: u64,
    interruptions: u64,
    ice_restarts: u64,
}

pub(super) fn of(counters: &Counters) -> Counts {
    Counts {
        rotations: counters.total("voxline_token_renewals_total"),
        rotations_failed: counters.total("session_rotate_fail_total"),
        links_lost: counters.total("voxline_provider_links_lost_total"),
        links_restored: counters.total("voxline_provider_links_restored_total"),
        links_given_up: counters.total("voxline_provider_links_given_up_total"),
        parked: counters.total("voxline_sessions_parked_total"),
        resumed: counters.total("voxline_sessions_resumed_total"),
        abandoned: counters.total("voxline_sessions_abandoned_total"),
        interruptions: counters.total("voxline_cuts_total"),
        ice_restarts: counters.total("voxline_ice_restarts_total"),
    }
}

impl Counts {
    pub(super) fn for_alerts(self) -> alerts::Counts {
        alerts::Counts {
            rotations_failed: self.rotations_failed,
            recovered: self.links_restored + self.resumed,
            unrecovered: self.links_given_up + self.abandoned,
            ice_restarts: self.ice_restarts,
        }
    }
}
