//! Issues the credentials of one session, for as long as it runs.
//!
//! **Invariants**
//! - What is issued grants what the client was granted when it came, and nothing more.
//! - A resume token outlives its client secret by the resume window, so that a client which could
//!   not renew in time can still come back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::auth::{Authority, Caller, Grant, Tenant};
use crate::clock;
use crate::core::ids::{SessionId, TokenId};
use crate::core::port::{Credential, Fault, FromIssuer, ToIssuer, Token};
use crate::driver;
use crate::server::sessions::Tokens;

/// How long what is issued is valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long a client may be away.
    pub(crate) window: Duration,
    /// How long a session may last.
    pub(crate) length: Duration,
}

/// Who holds a session's credentials.
struct Holder {
    authority: Arc<Authority>,
    session: SessionId,
    terms: Terms,
    grant: Grant,
    /// The device's name, as the client showed it.
    device: Option<String>,
    /// A client that came with a client secret gets fresh ones; an API key lasts.
    renews: bool,
    tokens: Tokens,
}

/// Begins to issue credentials to this caller, who shows this name of a device.
pub(crate) fn issuer(
    authority: Arc<Authority>,
    session: SessionId,
    caller: &Caller,
    device: Option<String>,
    terms: Terms,
    tokens: Tokens,
) -> driver::Issuer {
    let (grant, renews) = match caller {
        Caller::Tenant(tenant) => (lasting(tenant, clock::wall() + terms.length), false),
        Caller::Client(grant) | Caller::Returning(grant, _) => (grant.clone(), true),
    };
    let mut holder = Holder {
        authority,
        session,
        terms,
        grant,
        device,
        renews,
        tokens,
    };
    Box::new(move |request| holder.answer(&request, clock::wall(), clock::now()))
}

/// What an API key grants to a session that it opens.
fn lasting(tenant: &Arc<Tenant>, until: SystemTime) -> Grant {
    Grant {
        tenant: Arc::clone(tenant),
        user: None,
        device: None,
        models: None,
        session: None,
        token: TokenId::from("api_key"),
        ttl: Duration::ZERO,
        expires: until,
    }
}

impl Holder {
    fn answer(&mut self, request: &ToIssuer, wall: SystemTime, now: Instant) -> FromIssuer {
        let answer = match request {
            ToIssuer::Resume => self.resume(wall).map(FromIssuer::Resume),
            ToIssuer::Renew => self.renew(wall, now).map(FromIssuer::Issued),
            ToIssuer::Check(shown) => return self.check(shown, wall, now),
        };
        answer.unwrap_or_else(|fault| {
            tracing::warn!(code = %fault.code, "No credential was issued");
            FromIssuer::Unavailable
        })
    }

    fn resume(&self, wall: SystemTime) -> Result<Token, Fault> {
        let until = self.grant.expires + self.terms.window;
        self.authority
            .resume(&self.grant, &self.session, until, wall)
    }

    fn renew(&mut self, wall: SystemTime, now: Instant) -> Result<Credential, Fault> {
        if !self.renews {
            let why = "A session that an API key opened needs no token.";
            return Err(Fault::invalid("invalid_request", why));
        }
        let minted = self.authority.renew(&self.grant, wall)?;
        self.grant.token = minted.id;
        self.grant.expires = minted.expires;
        self.credential(minted.token, wall, now)
    }

    /// Judges a token that the client has fetched by itself.
    fn check(&mut self, shown: &Token, wall: SystemTime, now: Instant) -> FromIssuer {
        let judged = self
            .authority
            .authenticate(shown.expose(), self.device.as_deref(), wall);
        let grant = match judged {
            Ok(Caller::Client(grant)) if self.is_same(&grant) => grant,
            Ok(_) => {
                let why = "The token is not a client secret for this session's user and device; \
                           ask your server for one that is.";
                return FromIssuer::Refused(Fault::invalid("insufficient_permissions", why));
            }
            Err(fault) => return FromIssuer::Refused(fault),
        };
        self.grant.token = grant.token;
        self.grant.expires = grant.expires;
        match self.credential(shown.clone(), wall, now) {
            Ok(credential) => FromIssuer::Issued(credential),
            Err(fault) => FromIssuer::Refused(fault),
        }
    }

    fn is_same(&self, grant: &Grant) -> bool {
        self.renews
            && grant.tenant.id == self.grant.tenant.id
            && grant.user == self.grant.user
            && grant.device == self.grant.device
    }

    /// Describes a client secret that is good until `self.grant` expires.
    fn credential(
        &self,
        token: Token,
        wall: SystemTime,
        now: Instant,
    ) -> Result<Credential, Fault> {
        let id = self.grant.token.clone();
        self.tokens.add(id.clone());
        let expires = self.grant.expires;
        Ok(Credential {
            id,
            token,
            resume: self.resume(wall)?,
            expires_at: now + expires.duration_since(wall).unwrap_or_default(),
            expires_unix: clock::unix(expires),
        })
    }
}
