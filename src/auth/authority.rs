//! Judges credentials and makes them.
//!
//! **Invariants**
//! - A lock that requests wait for is held for a look-up or a change, never while a file is read or
//!   written, nor while a token is signed.
//! - A thread that panics takes nobody else's access away.

use std::fmt;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::auth::attached::{Attached, Room};
use crate::auth::crypto;
use crate::auth::files::FileError;
use crate::auth::grant::{Caller, Grant, Minted, Tenant, Wish, device_digest};
use crate::auth::keyring::Keyring;
use crate::auth::revocation::{Holder, Revocations};
use crate::auth::settings::Settings;
use crate::auth::sources::Sources;
use crate::auth::tenants::Tenants;
use crate::auth::token::{Claims, MAX_TOKEN, Purpose, from_unix, malformed};
use crate::auth::upkeep::read;
use crate::clock::{self, unix};
use crate::core::ids::{SessionId, TokenId};
use crate::core::port::{Fault, Token};

/// What OpenAI takes as `expires_after.seconds`, at least.
const MIN_TTL: Duration = Duration::from_secs(10);
/// How long a resume token may outlive the longest client secret.
const RESUME: Duration = Duration::from_secs(600);

/// Judges credentials and makes them. Shared by all requests; every call is short and computes,
/// but for those that say that they use files.
pub struct Authority {
    pub(crate) settings: Settings,
    pub(crate) keys: RwLock<Keyring>,
    pub(crate) tenants: RwLock<Arc<Tenants>>,
    pub(crate) attached: Attached,
    pub(crate) revocations: RwLock<Revocations>,
    /// Held while files are read.
    pub(crate) sources: Mutex<Sources>,
    /// Held while revocations are changed and their file is written.
    pub(crate) saving: Mutex<()>,
    pub(crate) changed: watch::Sender<u64>,
}

impl Authority {
    /// Reads all files that the settings name.
    pub fn open(settings: Settings, now: SystemTime) -> Result<Self, FileError> {
        crypto::install();
        let (sources, listing, tenants) = Sources::open(&settings, now)?;
        // Another relay may sign with a removed key until it looks again.
        let linger = longest_life(&settings) + settings.reload;
        let keys = Keyring::new(&listing, settings.reload, linger, now);
        let revocations = match &settings.revocations {
            Some(path) => Revocations::load(path, now)?,
            None => Revocations::default(),
        };
        Ok(Self {
            keys: RwLock::new(keys.expect("a listing that was taken holds a key")),
            tenants: RwLock::new(Arc::new(tenants)),
            attached: Attached::new(Room::default()),
            revocations: RwLock::new(revocations),
            sources: Mutex::new(sources),
            saving: Mutex::new(()),
            changed: watch::Sender::new(0),
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
        let caller = match Purpose::of(shown) {
            None => Caller::Tenant(self.tenant_of_key(shown)?),
            Some((purpose, jwt)) => self.bearer(purpose, jwt, device, now)?,
        };
        self.verdict(Holder::from(&caller), now)?;
        Ok(caller)
    }

    /// Judges a client secret that the client of a running session has fetched by itself: it must
    /// be one for the same user and device.
    pub fn present(&self, running: &Grant, shown: &str, now: SystemTime) -> Result<Grant, Fault> {
        let Some((Purpose::Secret, jwt)) = Purpose::of(shown) else {
            return Err(Fault::invalid(
                "token_malformed",
                "A client secret must be presented here: it begins with `ek_`.",
            ));
        };
        let (grant, _) = self.verify(Purpose::Secret, jwt, now)?;
        self.verdict(Holder::of(&grant, None), now)?;
        if (&grant.tenant.id, &grant.user) != (&running.tenant.id, &running.user) {
            return Err(Fault::invalid(
                "insufficient_permissions",
                "The token is somebody else's: present one for this session's tenant and user.",
            ));
        }
        if grant.device != running.device {
            return Err(Fault::invalid(
                "token_wrong_device",
                "The token is not bound to this session's device: present one that is.",
            ));
        }
        Ok(grant)
    }

    /// Tells whether this opens the admin API.
    pub fn authenticate_admin(&self, shown: &str) -> Result<(), Fault> {
        let Some(key) = &self.settings.admin_key else {
            return Err(Fault::invalid(
                "invalid_api_key",
                "This relay has no admin API; its operator opens it with VOXLINE_ADMIN_KEY.",
            ));
        };
        if key.admits(shown) {
            return Ok(());
        }
        Err(Fault::invalid(
            "invalid_api_key",
            "The key is not this relay's admin key.",
        ))
    }

    /// Makes a client secret.
    pub fn mint(&self, tenant: &Tenant, wish: Wish, now: SystemTime) -> Result<Minted, Fault> {
        let ttl = self.check_ttl(wish.ttl)?;
        let tenant = self.tenant(&tenant.id)?;
        wish.check(&tenant)?;
        let device = wish.device.as_deref();
        let grant = Grant {
            device: device.map(|device| device_digest(&tenant.id, device)),
            tenant,
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
        self.verdict(Holder::of(grant, None), now)?;
        let expires = unix(now).saturating_add(grant.ttl.as_secs());
        let claims = self.claims(Purpose::Secret, grant, expires, now)?;
        let key = read(&self.keys).signing();
        Ok(Minted {
            token: claims.sign(Purpose::Secret, &key)?,
            id: TokenId::from(claims.jti),
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
        self.verdict(Holder::of(grant, Some(session)), now)?;
        let until = until.min(now + self.settings.max_ttl + RESUME);
        let claims = Claims {
            sid: Some(session.as_str().to_owned()),
            ttl: Some(grant.ttl.as_secs()),
            ..self.claims(Purpose::Resume, grant, unix(until), now)?
        };
        let key = read(&self.keys).signing();
        claims.sign(Purpose::Resume, &key)
    }

    /// Judges again somebody who is let in already: is the tenant still there, and is none of
    /// them revoked? To be asked of every running session when [`Authority::changed`] says so.
    pub fn verdict(&self, holder: Holder<'_>, now: SystemTime) -> Result<(), Fault> {
        self.tenant(holder.tenant)?;
        read(&self.revocations).check(holder, now)
    }

    /// Marks each change after which somebody who was let in may have to go.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The tenant as it is now, if it still is one.
    pub fn tenant(&self, id: &str) -> Result<Arc<Tenant>, Fault> {
        read(&self.tenants).find(id).ok_or_else(|| {
            Fault::invalid(
                "tenant_unknown",
                "The tenant is not one of this relay's, or no longer; its operator lists them in \
                 the file of tenants.",
            )
        })
    }

    /// The public halves of the signing keys, as a JWK set (RFC 7517).
    pub fn jwks(&self) -> Value {
        read(&self.keys).jwks()
    }

    fn tenant_of_key(&self, shown: &str) -> Result<Arc<Tenant>, Fault> {
        let tenants = Arc::clone(&read(&self.tenants));
        let fits = shown.len() <= MAX_TOKEN;
        fits.then(|| tenants.of_key(shown)).flatten().ok_or_else(|| {
            Fault::invalid(
                "invalid_api_key",
                "The key is not one of this relay's; its operator sets them with VOXLINE_API_KEY \
                 or in the file of tenants.",
            )
        })
    }

    fn bearer(
        &self,
        purpose: Purpose,
        jwt: &str,
        device: Option<&str>,
        now: SystemTime,
    ) -> Result<Caller, Fault> {
        let (grant, claims) = self.verify(purpose, jwt, now)?;
        check_device(&grant, device)?;
        match (purpose, claims.sid) {
            (Purpose::Secret, None) => Ok(Caller::Client(grant)),
            (Purpose::Resume, Some(session)) => Ok(Caller::Returning(grant, session.into())),
            (Purpose::Secret, Some(_)) | (Purpose::Resume, None) => {
                Err(malformed("it says something else than its audience"))
            }
        }
    }

    fn verify(
        &self,
        purpose: Purpose,
        jwt: &str,
        now: SystemTime,
    ) -> Result<(Grant, Claims), Fault> {
        let key_of = |kid: &str| read(&self.keys).find(kid);
        let claims = Claims::verify(purpose, jwt, &self.settings.issuer, key_of)?;
        claims.check_time(self.settings.skew, now)?;
        let tenant = self.tenant(&claims.tenant)?;
        let config = claims.config.as_deref();
        let session = config.and_then(|name| self.attached.find(&tenant.id, name));
        // A session that runs has its settings already.
        if purpose == Purpose::Secret && config.is_some() && session.is_none() {
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
        let keep = |session| self.attached.keep(tenant, session, until, now);
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

/// How long a token is good at most.
pub(crate) fn longest_life(settings: &Settings) -> Duration {
    settings.max_ttl + RESUME + settings.skew
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
