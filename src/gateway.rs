//! Picks the upstream for a voice link.
//!
//! There is one voice upstream for now; what it takes to open a link is asked for here and
//! nowhere else, so that a second one changes this file only.

use serde_json::{Map, Value};

use crate::core::latency::Recorder;
use crate::core::port::Fault;
use crate::provider::realtime::{self, Link, Target};
use crate::provider::{OpenError, Patience, Upstream};
use crate::wire::realtime::{Carrier, Pinned};

/// What a link is wanted for.
#[derive(Clone, Debug)]
pub struct Opening {
    target: Target,
    session: Pinned,
}

impl Opening {
    /// Wants a conversation, with a client's session object as it came; `Null` is none.
    pub fn conversation(model: String, session: Value, carrier: Carrier) -> Result<Self, Fault> {
        Ok(Self {
            target: Target::Model(model),
            session: Pinned::new(or_empty(session), carrier)?,
        })
    }

    /// Wants what is said transcribed, with a client's session object as it came; `Null` is none.
    pub fn transcription(session: Value, carrier: Carrier) -> Result<Self, Fault> {
        let mut session = or_empty(session);
        if let Some(fields) = session.as_object_mut() {
            fields
                .entry("type")
                .or_insert_with(|| Value::from("transcription"));
        }

        Ok(Self {
            target: Target::Transcription,
            session: Pinned::new(session, carrier)?,
        })
    }

    /// Wants to join the provider's own call of this name, as it is.
    pub fn sideband(call: String) -> Self {
        Self {
            target: Target::Call(call),
            session: Pinned::default(),
        }
    }
}

fn or_empty(session: Value) -> Value {
    if session.is_null() {
        Value::Object(Map::new())
    } else {
        session
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
            &opening.target,
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
