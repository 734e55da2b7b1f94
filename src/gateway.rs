//! Picks the upstream for a voice link.
//!
//! There is one voice upstream for now; what it takes to open a link is asked for here and
//! nowhere else, so that a second one changes this file only.

use crate::core::latency::Recorder;
use crate::core::port::Fault;
use crate::provider::realtime::{self, Link};
use crate::provider::{OpenError, Patience, Upstream};
use crate::wire::realtime::{Carrier, Pinned};

/// What a link is wanted for.
#[derive(Clone, Debug)]
pub struct Opening {
    pub model: String,
    pub session: Pinned,
}

impl Opening {
    /// Takes a client's session object as it came; `Null` is none.
    pub fn new(model: String, session: serde_json::Value, carrier: Carrier) -> Result<Self, Fault> {
        let session = if session.is_null() {
            Pinned::default()
        } else {
            Pinned::new(session, carrier)?
        };

        Ok(Self { model, session })
    }
}

/// Opens voice links.
pub struct Gateway {
    upstream: Upstream,
    patience: Patience,
    recorder: Recorder,
}

impl Gateway {
    pub fn new(upstream: Upstream, patience: Patience, recorder: Recorder) -> Self {
        Self {
            upstream,
            patience,
            recorder,
        }
    }

    /// Opens a link that is ready for use.
    pub async fn open(&self, opening: &Opening) -> Result<Link, OpenError> {
        let opened = realtime::open(
            &self.upstream,
            &opening.model,
            &opening.session,
            self.patience,
            self.recorder.clone(),
        )
        .await;
        if let Err(error) = &opened {
            tracing::warn!(%error, base_url = self.upstream.base_url, "No voice link");
        }

        opened
    }
}
