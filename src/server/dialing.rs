//! Opens the links that follow a session's first.

use std::sync::{Arc, Mutex};

use tracing::Instrument;

use crate::core::port::{DialFailure, ToDialer};
use crate::driver::{Dialer, Line, VoiceLine};
use crate::gateway::Opening;
use crate::provider::OpenError;
use crate::provider::realtime::Link;
use crate::server::App;
use crate::server::admission::lock;

/// Opens a session's further links, with the settings that its client has by then.
pub(crate) fn dialer(app: Arc<App>, opening: Option<Arc<Mutex<Opening>>>) -> Dialer {
    let span = tracing::Span::current();
    Box::new(move |question| {
        let opening = opening.as_ref()?;
        match question {
            ToDialer::Adopt(update) => {
                lock(opening).adopt(&update);
                None
            }
            ToDialer::Open => {
                let (app, opening) = (Arc::clone(&app), lock(opening).clone());
                let dialing = async move {
                    let opened = app.gateway.open(&opening).await;
                    opened.map(Into::into).map_err(|error| failure(&error))
                };
                Some(Box::pin(dialing.instrument(span.clone())))
            }
        }
    })
}

fn failure(error: &OpenError) -> DialFailure {
    match error {
        OpenError::Refused(_) | OpenError::Credential(_) => DialFailure::Refused,
        OpenError::Busy { retry_after, .. } => DialFailure::Busy {
            retry_after: *retry_after,
        },
        OpenError::Resting { .. } => DialFailure::Resting,
        OpenError::Unreachable(_) => DialFailure::Unreachable,
    }
}

impl From<Link> for VoiceLine {
    fn from(link: Link) -> Self {
        let Link {
            outbox,
            inbox,
            tasks,
        } = link;
        Self {
            line: Line { outbox, inbox },
            tasks,
        }
    }
}
