//! Tries what a relay needs of others, without one that runs: for `voxline doctor`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::timeout;

use crate::clock;
use crate::config::{CertificateFiles, Config};
use crate::core::resilience::BreakerConfig;
use crate::gateway::{Gateway, Opening};
use crate::provider::{OpenError, Patience};
use crate::server::certificate::{CertificateError, Pem};
use crate::server::upstream;
use crate::wire::realtime::Carrier;

/// How long the provider may take to part in good order.
const FAREWELL: Duration = Duration::from_secs(2);

/// Opens a voice link to the configured provider and closes it; returns how long opening took.
/// The embedded provider is always there.
pub async fn open_link(config: &Config) -> Result<Duration, OpenError> {
    let (_sim, upstream) =
        upstream(config).map_err(|error| OpenError::Unreachable(error.to_string()))?;
    let patience = Patience {
        open: config.connect_timeout,
        ..Patience::default()
    };
    let gateway = Gateway::new(
        upstream,
        patience,
        BreakerConfig::default(),
        Arc::new(|_| {}),
    );
    let model = config.model.as_str().to_owned();
    let opening = Opening::conversation(model, Value::Null, Carrier::WebSocket)
        .map_err(OpenError::Refused)?;
    let began = clock::now();
    let mut link = gateway.open(&opening).await?;
    let took = clock::now() - began;
    drop(link.outbox);
    let goodbye = async { while link.tasks.join_next().await.is_some() {} };
    // A goodbye that is not answered changes nothing.
    let _ = timeout(FAREWELL, goodbye).await;

    Ok(took)
}

/// Reads a certificate and its key as a relay would, and tells when it expires.
pub fn certificate_end(files: &CertificateFiles) -> Result<SystemTime, CertificateError> {
    let pem = Pem::read(files)?;
    pem.parse(files)?;
    pem.end(files)
}
