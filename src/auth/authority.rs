//! Judges credentials and makes them.
//!
//! **Invariants**
//! - A lock is held for a look-up or a change, never while a file is read or a token is signed.
//! - A thread that panics takes nobody else's access away.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use subtle::{Choice, ConstantTimeEq};

use crate::auth::attached::{Attached, Room};
use crate::auth::crypto;
use crate::auth::grant::{Caller, Grant, Minted, Tenant, Wish, device_digest};
use crate::auth::key::KeyDigest;
use crate::auth::keydir::{self, FileError};
use crate::auth::keyring::{Keyring, Listing};
use crate::auth::settings::Settings;
use crate::auth::signing::NewKey;
use crate::auth::token::{Claims, Purpose, from_unix, unix};
use crate::clock;
use crate::core::ids::{SessionId, TokenId};
use crate::core::port::{Fault, Token};

/// What OpenAI takes as `expires_after.seconds`, at least.
const MIN_TTL: Duration = Duration::from_secs(10);
/// How long a resume token may outlive the longest client secret.
const RESUME: Duration = Duration::from_secs(600);
/// The longest name of a user or device.
const MAX_NAME: usize = 128;
const MAX_MODELS: usize = 16;
const MAX_MODEL: usize = 200;

/// Judges credentials and makes them. Shared by all requests; every call is short and computes.
pub struct Authority {
    settings: Settings,
    keys: RwLock<Keyring>,
    tenant: Arc<Tenant>,
    attached: RwLock<Attached>,
}

impl Authority {
    /// Reads all files that the settings name.
    pub fn open(settings: Settings, now: SystemTime) -> Result<Self, FileError> {
        crypto::install();
        let listing = match &settings.keys {
            Some(dir) => keydir::read(dir, now)?,
            None => {
                let key = Arc::new(NewKey::generate().into_key());
                Listing::from([(String::new(), (key, now))])
            }
        };
        let linger = settings.max_ttl + RESUME + settings.skew;
        let keys = Keyring::new(&listing, settings.reload, linger, now);
        Ok(Self {
            keys: RwLock::new(keys.expect("a listing holds a key")),
            tenant: Arc::new(Tenant {
                id: "default".to_owned(),
                ..Tenant::default()
            }),
            attached: RwLock::new(Attached::new(Room::default())),
            settings,
        })
    }

    /// Tells who shows this credential; `device` is the device's name, if it says one.
    pub fn authenticate(
        &self,
        shown: &str,
        device: Option<&str>,
        now: SystemTime,
    ) -> Result<Caller, Fault> {
        let Some((purpose, jwt)) = Purpose::of(shown) else {
            return self.tenant_of_key(shown).map(Caller::Tenant);
        };
        let (grant, claims) = self.verify(purpose, jwt, now)?;
        check_device(&grant, device)?;
        match purpose {
            Purpose::Secret => Ok(Caller::Client(grant)),
            Purpose::Resume => {
                let session = claims.sid.unwrap_or_default();
                Ok(Caller::Returning(grant, session.into()))
            }
        }
    }

    /// Makes a client secret.
    pub fn mint(&self, tenant: &Arc<Tenant>, wish: Wish, now: SystemTime) -> Result<Minted, Fault> {
        let ttl = self.check_ttl(wish.ttl)?;
        check_wish(tenant, &wish)?;
        let device = wish.device.as_deref();
        let grant = Grant {
            tenant: Arc::clone(tenant),
            device: device.map(|device| device_digest(&tenant.id, device)),
            user: wish.user,
            models: wish.models,
            session: wish.session.map(Arc::new),
            token: TokenId::from(""),
            ttl,
            expires: now,
        };
        self.renew(&grant, now)
    }

    /// Makes a client secret that grants what this one does, for as long.
    pub fn renew(&self, grant: &Grant, now: SystemTime) -> Result<Minted, Fault> {
        let expires = unix(now) + grant.ttl.as_secs();
        let claims = self.claims(Purpose::Secret, grant, expires, now)?;
        let token = claims.sign(Purpose::Secret, &read(&self.keys).signing())?;
        Ok(Minted {
            id: TokenId::from(claims.jti),
            token,
            expires: from_unix(expires),
        })
    }

    /// Makes a token that attaches to this session, and is valid until then.
    pub fn resume(
        &self,
        grant: &Grant,
        session: &SessionId,
        until: SystemTime,
        now: SystemTime,
    ) -> Result<Token, Fault> {
        let until = until.min(now + self.settings.max_ttl + RESUME);
        let mut claims = self.claims(Purpose::Resume, grant, unix(until), now)?;
        claims.sid = Some(session.as_str().to_owned());
        claims.sign(Purpose::Resume, &read(&self.keys).signing())
    }

    /// The public halves of the signing keys, as a JWK set (RFC 7517).
    pub fn jwks(&self) -> Value {
        read(&self.keys).jwks()
    }

    fn tenant_of_key(&self, shown: &str) -> Result<Arc<Tenant>, Fault> {
        let shown = KeyDigest::of(shown);
        let known = self
            .settings
            .api_keys
            .iter()
            .fold(Choice::from(0), |known, key| known | key.compare(&shown));
        if bool::from(known) {
            return Ok(Arc::clone(&self.tenant));
        }
        Err(Fault::invalid(
            "invalid_api_key",
            "The key is not one of this relay's; its operator sets them with VOXLINE_API_KEY or \
             in the file of tenants.",
        ))
    }

    fn verify(
        &self,
        purpose: Purpose,
        jwt: &str,
        now: SystemTime,
    ) -> Result<(Grant, Claims), Fault> {
        let issuer = &self.settings.issuer;
        let key_of = |kid: &str| read(&self.keys).find(kid);
        let claims = Claims::verify(purpose, jwt, issuer, key_of)?;
        claims.check_time(self.settings.skew, now)?;
        if claims.tenant != self.tenant.id {
            return Err(Fault::invalid(
                "tenant_unknown",
                "The token's tenant is not one of this relay's, or no longer.",
            ));
        }
        let tenant = Arc::clone(&self.tenant);
        let session = match &claims.config {
            None => None,
            Some(name) => read(&self.attached).find(&tenant.id, name),
        };
        if purpose == Purpose::Secret && claims.config.is_some() && session.is_none() {
            return Err(Fault::invalid(
                "token_unknown_config",
                "The session settings of this client secret are not kept by this relay: it was \
                 made before a restart, or by another relay. Fetch a new one here.",
            ));
        }
        let grant = Grant {
            tenant,
            user: claims.sub.clone(),
            device: claims.device.clone(),
            models: claims.models.clone(),
            session,
            token: TokenId::from(claims.jti.as_str()),
            ttl: claims.life(),
            expires: from_unix(claims.exp),
        };
        Ok((grant, claims))
    }

    fn claims(
        &self,
        purpose: Purpose,
        grant: &Grant,
        expires: u64,
        now: SystemTime,
    ) -> Result<Claims, Fault> {
        let tenant = &grant.tenant.id;
        let until = from_unix(expires) + self.settings.skew;
        let keep = |session| write(&self.attached).keep(tenant, session, until, now);
        let config = grant.session.as_ref().map(keep).transpose()?;
        Ok(Claims {
            sub: grant.user.clone(),
            device: grant.device.clone(),
            models: grant.models.clone(),
            config,
            ..Claims::new(purpose, &self.settings.issuer, tenant, expires, now)
        })
    }

    fn check_ttl(&self, asked: Option<Duration>) -> Result<Duration, Fault> {
        let cap = self.settings.max_ttl;
        let ttl = asked.unwrap_or_else(|| self.settings.ttl.min(cap));
        if (MIN_TTL..=cap).contains(&ttl) {
            return Ok(ttl);
        }
        Err(Fault::invalid(
            "invalid_value",
            format!(
                "A client secret lives from {} to {} seconds here (`tokens.max_ttl`), not {}.",
                MIN_TTL.as_secs(),
                cap.as_secs(),
                ttl.as_secs()
            ),
        )
        .at("expires_after.seconds"))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::open(Settings::default(), clock::wall()).expect("no file, nothing to refuse")
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn check_device(grant: &Grant, shown: Option<&str>) -> Result<(), Fault> {
    let Some(bound) = &grant.device else {
        return Ok(());
    };
    let shown = shown.map(|name| device_digest(&grant.tenant.id, name));
    let is_it = shown.is_some_and(|shown| shown.as_bytes().ct_eq(bound.as_bytes()).into());
    if is_it {
        return Ok(());
    }
    Err(Fault::invalid(
        "token_wrong_device",
        "The token is bound to a device and only good together with its name: send it as the \
         header `Voxline-Device`, as the subprotocol `voxline-device.<name>`, or as `?device=`.",
    ))
}

fn check_wish(tenant: &Tenant, wish: &Wish) -> Result<(), Fault> {
    if let Some(user) = &wish.user {
        check_name(user, |c| !c.is_control(), "without control characters")
            .map_err(|fault| fault.at("voxline.user"))?;
    }
    if let Some(device) = &wish.device {
        // It must fit into a subprotocol's name: a token of RFC 9110.
        let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        check_name(device, fits, "ASCII letters, digits and !#$%&'*+-.^_`|~")
            .map_err(|fault| fault.at("voxline.device"))?;
    }
    if let Some(models) = &wish.models {
        check_models(tenant, models).map_err(|fault| fault.at("voxline.models"))?;
    }
    let model = wish
        .session
        .as_ref()
        .and_then(|session| session.get("model"));
    if let Some(model) = model.and_then(Value::as_str) {
        let of_wish = Tenant {
            models: wish.models.clone(),
            ..Tenant::default()
        };
        tenant
            .check_model(model)
            .and_then(|()| of_wish.check_model(model))
            .map_err(|fault| fault.at("session.model"))?;
    }
    Ok(())
}

fn check_name(name: &str, fits: impl Fn(char) -> bool, rule: &str) -> Result<(), Fault> {
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    let message = format!("Must be 1 to {MAX_NAME} bytes, {rule}.");
    Err(Fault::invalid("invalid_value", message))
}

fn check_models(tenant: &Tenant, models: &[String]) -> Result<(), Fault> {
    if models.is_empty() || models.len() > MAX_MODELS {
        let message = format!("Must be 1 to {MAX_MODELS} models; leave it out for all.");
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

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
