//! Calls whose sound goes straight between the client and the provider. The relay takes the offer
//! there with its own credential, joins the call from beside, and follows it.
//!
//! **Invariant:** a call that the relay has made at the provider ends with the relay's
//! conversation, be it that the client left before it had its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Instrument;

use crate::core::port::Fault;
use crate::core::session::Playback;
use crate::gateway::Opening;
use crate::provider::OpenError;
use crate::provider::realtime::Link;
use crate::server::App;
use crate::server::error::ApiError;
use crate::server::session::{Answer, Opener, Parts, converse, unopened};
use crate::server::sessions::{Media, Tokens};
use crate::server::wanted::Wanted;
use crate::wire::realtime::Carrier;

/// How long the provider may take to end a call.
const FAREWELL: Duration = Duration::from_secs(2);

/// Has the provider answer an offer, and follows the call from then on.
pub(crate) async fn call(
    app: &Arc<App>,
    opener: Opener,
    offer: String,
    wanted: Wanted,
) -> Result<Answer, ApiError> {
    let opening = wanted.opening(Carrier::WebRtc)?;
    let span = tracing::info_span!("session", id = %opener.id);
    let own = Arc::clone(app);
    let tokens = Tokens::of(&opener.caller);
    let identity = opener.identity(app, &tokens);
    let Opener {
        id,
        slot,
        handshake,
        ..
    } = opener;
    let (answered, answer) = oneshot::channel();
    // On a task of its own, which goes on if the client leaves before it has its answer.
    app.sessions
        .start(id, Media::Direct, slot, tokens, |floor| {
            let conversation = async move {
                let created = match own.gateway.create_call(&offer, &opening).await {
                    Ok(created) => created,
                    Err(error) => return drop(answered.send(Err(error))),
                };
                let joined = join(&own, &created.call).await;
                drop(handshake);
                match joined {
                    Ok(link) => {
                        if answered.send(Ok(created.answer)).is_ok() {
                            let parts = Parts {
                                identity,
                                link: Some(link),
                                opening: None,
                                playback: Playback::Provider,
                                restored: None,
                                client: None,
                            };
                            converse(Arc::clone(&own), floor, parts).await;
                        }
                    }
                    Err(error) => drop(answered.send(Err(error))),
                }
                // If this fails the provider ends the call in its own time; the gateway has said so.
                let _ = timeout(FAREWELL, own.gateway.hang_up(&created.call)).await;
            };
            conversation.instrument(span)
        });
    match answer.await {
        Ok(answer) => answer
            .map_err(unopened)
            .map(|sdp| Answer { sdp, etag: None }),
        Err(_) => {
            let fault = Fault::server("internal_error", "The call ended before it was answered.");
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, fault))
        }
    }
}

async fn join(app: &App, call: &str) -> Result<Link, OpenError> {
    app.gateway.open(&Opening::sideband(call.to_owned())).await
}
