//! Mints and verifies what opens the relay's doors: tenants' API keys, client secrets (`ek_...`)
//! and resume tokens (`rt_...`).
//!
//! **Invariants**
//! - A token is signed with Ed25519 and nothing else; its own header chooses only among our keys.
//! - Nothing here shows a key, a token, or a client's session settings by its `Debug`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::core::ids::{SessionId, TokenId};
use crate::core::port::{Fault, Token};

/// Who pays, and what they may do. A limit that is `None` is the relay's own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tenant {
    pub id: String,
    /// Conversations at one time, of all its users.
    pub sessions: Option<u32>,
    /// Conversations at one time of each of its users.
    pub user_sessions: Option<u32>,
    /// Client secrets a minute.
    pub secrets_per_minute: Option<u32>,
    /// The models that it may use.
    pub models: Option<Vec<String>>,
}

/// Who makes a request, proven by what they showed.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A tenant's own server, by an API key: it may do everything that its tenant may.
    Tenant(Arc<Tenant>),
    /// A user's device, by a client secret: it may hold conversations.
    Client(Grant),
    /// A client that comes back to its session, by a resume token.
    Returning(Grant, SessionId),
}

/// What a client secret grants.
#[derive(Clone)]
pub struct Grant {
    pub tenant: Arc<Tenant>,
    /// The tenant's name for the user.
    pub user: Option<String>,
    /// A digest of the tenant's name for the device; the device shows the name.
    pub device: Option<String>,
    /// The models it may use; all that its tenant may, if `None`.
    pub models: Option<Vec<String>>,
    /// The session settings that the tenant's server attached.
    pub session: Option<Arc<Value>>,
    pub token: TokenId,
    pub expires: SystemTime,
}

/// What a tenant's server wants a client secret for.
#[derive(Clone, Default)]
pub struct Wish {
    pub user: Option<String>,
    pub device: Option<String>,
    pub models: Option<Vec<String>>,
    /// OpenAI's session object.
    pub session: Option<Value>,
    /// How long it is valid; the configured default if `None`.
    pub ttl: Option<Duration>,
}

/// A client secret that was just made.
#[derive(Clone, Debug)]
pub struct Minted {
    pub id: TokenId,
    /// With its `ek_`.
    pub token: Token,
    pub expires: SystemTime,
}

/// Whom a revocation is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Subject {
    Tenant(String),
    User { tenant: String, user: String },
    Device { tenant: String, device: String },
    Session(SessionId),
}

/// Judges credentials and makes them. Shared by all requests; every call is short and computes.
#[derive(Debug, Default)]
pub struct Authority {}

impl Authority {
    /// Tells who shows this credential; `device` is the device's name, if it says one.
    pub fn authenticate(
        &self,
        _shown: &str,
        _device: Option<&str>,
        _now: SystemTime,
    ) -> Result<Caller, Fault> {
        Err(Fault::server("internal_error", "not there yet"))
    }

    /// Makes a client secret.
    pub fn mint(
        &self,
        _tenant: &Arc<Tenant>,
        _wish: Wish,
        _now: SystemTime,
    ) -> Result<Minted, Fault> {
        Err(Fault::server("internal_error", "not there yet"))
    }

    /// Makes a client secret that grants what this one does, for longer.
    pub fn renew(&self, _grant: &Grant, _now: SystemTime) -> Result<Minted, Fault> {
        Err(Fault::server("internal_error", "not there yet"))
    }

    /// Makes a token that attaches to this session, and is valid until then.
    pub fn resume(
        &self,
        _grant: &Grant,
        _session: &SessionId,
        _until: SystemTime,
        _now: SystemTime,
    ) -> Result<Token, Fault> {
        Err(Fault::server("internal_error", "not there yet"))
    }

    /// The public halves of the signing keys, as a JWK set (RFC 7517).
    pub fn jwks(&self) -> Value {
        Value::Null
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("tenant", &self.tenant.id)
            .field("user", &self.user)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
