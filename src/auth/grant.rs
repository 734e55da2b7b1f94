//! Who somebody is, and what they may do.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256};
use serde_json::Value;

use crate::core::ids::{SessionId, TokenId};
use crate::core::port::{Fault, Token};

/// The longest name of a user or device, in bytes.
const MAX_NAME: usize = 128;
/// The most models in a client secret, and the longest name of one.
const MAX_MODELS: usize = 16;
const MAX_MODEL: usize = 200;

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

impl Tenant {
    /// Refuses a model that the tenant may not use.
    pub fn check_model(&self, model: &str) -> Result<(), Fault> {
        check_model(self.models.as_deref(), model)
    }
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

impl Caller {
    /// Who pays for it.
    pub fn tenant(&self) -> &Arc<Tenant> {
        match self {
            Self::Tenant(tenant) => tenant,
            Self::Client(grant) | Self::Returning(grant, _) => &grant.tenant,
        }
    }

    /// What it was granted, if it is not the tenant itself.
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Tenant(_) => None,
            Self::Client(grant) | Self::Returning(grant, _) => Some(grant),
        }
    }

    /// Refuses a model that the caller may not use.
    pub fn check_model(&self, model: &str) -> Result<(), Fault> {
        match self {
            Self::Tenant(tenant) => tenant.check_model(model),
            Self::Client(grant) | Self::Returning(grant, _) => grant.check_model(model),
        }
    }
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
    /// How long it was made to live; a renewal lives as long.
    pub ttl: Duration,
    pub expires: SystemTime,
}

impl Grant {
    /// Refuses a model that the client may not use.
    pub fn check_model(&self, model: &str) -> Result<(), Fault> {
        self.tenant.check_model(model)?;
        check_model(self.models.as_deref(), model)
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

impl Wish {
    /// Refuses what a token cannot carry, and what the tenant may not grant.
    pub(crate) fn check(&self, tenant: &Tenant) -> Result<(), Fault> {
        if let Some(user) = &self.user {
            check_name(user, |c| !c.is_control(), "without control characters")
                .map_err(|fault| fault.at("voxline.user"))?;
        }
        if let Some(device) = &self.device {
            // It must fit into a subprotocol's name: a token of RFC 9110.
            let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            check_name(device, fits, "ASCII letters, digits and !#$%&'*+-.^_`|~")
                .map_err(|fault| fault.at("voxline.device"))?;
        }
        if let Some(models) = &self.models {
            check_models(tenant, models).map_err(|fault| fault.at("voxline.models"))?;
        }
        let session = self.session.as_ref();
        match session.and_then(|session| session.get("model")) {
            Some(Value::String(model)) => tenant
                .check_model(model)
                .and_then(|()| check_model(self.models.as_deref(), model))
                .map_err(|fault| fault.at("session.model")),
            Some(_) | None => Ok(()),
        }
    }
}

/// A client secret that was just made.
#[derive(Clone, Debug)]
pub struct Minted {
    pub id: TokenId,
    /// With its `ek_`.
    pub token: Token,
    pub expires: SystemTime,
}

/// Digests a tenant's name for a device: what stands in tokens in place of the name.
pub(crate) fn device_digest(tenant: &str, device: &str) -> String {
    let mut digest = Context::new(&SHA256);
    for part in [tenant, device] {
        digest.update(part.as_bytes());
        // No name holds it, so no two pairs of names run together alike.
        digest.update(&[0]);
    }
    URL_SAFE_NO_PAD.encode(digest.finish())
}

fn check_model(allowed: Option<&[String]>, model: &str) -> Result<(), Fault> {
    let Some(allowed) = allowed else {
        return Ok(());
    };
    if allowed.iter().any(|allowed| allowed == model) {
        return Ok(());
    }
    Err(Fault::invalid(
        "model_not_allowed",
        format!(
            "The model {model:?} is not among those allowed here: {}.",
            allowed.join(", ")
        ),
    )
    .at("model"))
}

fn check_name(name: &str, fits: impl Fn(char) -> bool, rule: &str) -> Result<(), Fault> {
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    let message = format!("The name must be 1 to {MAX_NAME} bytes, {rule}.");
    Err(Fault::invalid("invalid_value", message))
}

fn check_models(tenant: &Tenant, models: &[String]) -> Result<(), Fault> {
    if models.is_empty() || models.len() > MAX_MODELS {
        let message = format!("There must be 1 to {MAX_MODELS} models; leave them out for all.");
        return Err(Fault::invalid("invalid_value", message));
    }
    for model in models {
        if model.is_empty() || model.len() > MAX_MODEL {
            let message = format!("A model's name has 1 to {MAX_MODEL} bytes.");
            return Err(Fault::invalid("invalid_value", message));
        }
        tenant.check_model(model)?;
    }
    Ok(())
}
