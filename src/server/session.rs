//! Joins a device's leg, a voice link and a driver into one conversation.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;

use crate::client::websocket::Leg;
use crate::core::ids::SessionId;
use crate::core::port::{CloseReason, Fault};
use crate::server::App;
use crate::server::error::ApiError;
use crate::server::sessions::Slot;

pub(crate) async fn call(
    _app: &Arc<App>,
    _slot: Slot,
    _id: SessionId,
    _offer: &str,
    _model: String,
    _session: Option<Value>,
) -> Result<String, ApiError> {
    let fault = Fault::server("provider_unavailable", "No provider yet.");
    Err(ApiError::new(StatusCode::BAD_GATEWAY, fault))
}

pub(crate) fn websocket(app: Arc<App>, slot: Slot, id: SessionId, leg: Leg, _model: String) {
    app.sessions.start(id, slot, |_signals| async move {
        leg.close(CloseReason::ProviderGone).await;
    });
}
