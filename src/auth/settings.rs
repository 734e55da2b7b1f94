//! What an [`Authority`](crate::auth::Authority) goes by.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::key::KeyDigest;

/// Whom to trust, and for how long.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys of the tenant `default`.
    pub api_keys: Vec<KeyDigest>,
    /// A file that names further tenants.
    pub tenants: Option<PathBuf>,
    /// Opens the admin API; there is none without it.
    pub admin_key: Option<KeyDigest>,
    /// How long a client secret lives for which nothing else is asked ...
    pub ttl: Duration,
    /// ... and at most.
    pub max_ttl: Duration,
    /// How far clocks may differ.
    pub skew: Duration,
    pub issuer: String,
    /// A directory of signing keys; if there is none they are made here and shared with nobody.
    pub keys: Option<PathBuf>,
    /// How often files are looked at again.
    pub reload: Duration,
    /// Where revocations survive a restart.
    pub revocations: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_keys: vec![],
            tenants: None,
            admin_key: None,
            ttl: Duration::from_secs(300),
            max_ttl: Duration::from_secs(7200),
            skew: Duration::from_secs(5),
            issuer: "voxline".to_owned(),
            keys: None,
            reload: Duration::from_secs(10),
            revocations: None,
        }
    }
}
