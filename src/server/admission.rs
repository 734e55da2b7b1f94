//! Who may begin something costly: how many conversations there are, of whom, how many are being
//! set up, how often client secrets are made.
//!
//! **Invariants**
//! - Whoever is over a limit is told which one, and when to come back, before anything was done.
//! - What was taken is given back when its guard is dropped, however its work ended.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::{Caller, Grant, Holder, Tenant};
use crate::config::Limits;
use crate::core::ids::SessionId;
use crate::core::limit::{Rate, RateLimiter};
use crate::core::port::Fault;
use crate::server::error::ApiError;

/// When somebody who found all lines taken should come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// The same for somebody who found all hands full: setting up takes moments.
const COME_BACK_SOON: Duration = Duration::from_secs(1);

/// Tenants whose rate of making client secrets is remembered at one time.
const TENANTS: usize = 10_000;

/// Whose a conversation is.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) user: Option<String>,
    /// A digest of the device's name, as in [`Grant::device`].
    pub(crate) device: Option<String>,
}

impl Owner {
    pub(crate) fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Tenant(tenant) => Self {
                tenant: Arc::clone(tenant),
                user: None,
                device: None,
            },
            Caller::Client(grant) | Caller::Returning(grant, _) => Self::of_grant(grant),
        }
    }

    pub(crate) fn of_grant(grant: &Grant) -> Self {
        Self {
            tenant: Arc::clone(&grant.tenant),
            user: grant.user.clone(),
            device: grant.device.clone(),
        }
    }

    /// Tells whether the caller may act on the conversation `id` of this owner: its tenant's
    /// server may, the same user's devices may, and whoever holds its resume token.
    pub(crate) fn admits(&self, caller: &Caller, id: &SessionId) -> bool {
        let is_same = |other: &Self| {
            other.tenant.id == self.tenant.id
                && other.user == self.user
                && other.device == self.device
        };
        match caller {
            Caller::Tenant(tenant) => tenant.id == self.tenant.id,
            Caller::Client(grant) => is_same(&Self::of_grant(grant)),
            Caller::Returning(grant, session) => session == id && is_same(&Self::of_grant(grant)),
        }
    }

    /// Names those of this owner's that a revocation of the conversation `id` could be about.
    pub(crate) fn holder<'a>(&'a self, id: &'a SessionId) -> Holder<'a> {
        Holder {
            tenant: &self.tenant.id,
            user: self.user.as_deref(),
            device: self.device.as_deref(),
            session: Some(id),
        }
    }

    fn user_key(&self) -> Option<(String, String)> {
        let user = self.user.clone()?;
        Some((self.tenant.id.clone(), user))
    }
}

pub(crate) struct Admission {
    most: u32,
    tenant_sessions: u32,
    user_sessions: u32,
    secrets_per_minute: u32,
    lines: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
    handshakes: Arc<Semaphore>,
    secrets: Mutex<RateLimiter<String>>,
}

/// Conversations, by whose they are. Whoever has none is not in it.
#[derive(Default)]
struct Taken {
    tenants: HashMap<String, u32>,
    users: HashMap<(String, String), u32>,
}

/// Room for one conversation.
pub(crate) struct Slot {
    owner: Owner,
    taken: Arc<Mutex<Taken>>,
    _line: OwnedSemaphorePermit,
}

/// Room for setting up one conversation.
pub(crate) struct Handshake {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            most: limits.sessions,
            tenant_sessions: limits.tenant_sessions,
            user_sessions: limits.user_sessions,
            secrets_per_minute: limits.secrets_per_minute,
            lines: Arc::new(Semaphore::new(limits.sessions as usize)),
            taken: Arc::default(),
            handshakes: Arc::new(Semaphore::new(limits.handshakes as usize)),
            secrets: Mutex::new(RateLimiter::new(TENANTS)),
        }
    }

    /// Takes room for a conversation of this owner.
    pub(crate) fn session(&self, owner: Owner) -> Result<Slot, ApiError> {
        let Ok(line) = Arc::clone(&self.lines).try_acquire_owned() else {
            let message = "All of this relay's lines are taken (`limits.sessions`)";
            return Err(over(message, COME_BACK));
        };
        let mut taken = lock(&self.taken);
        let tenant = &owner.tenant;
        let most = tenant.sessions.unwrap_or(self.tenant_sessions);
        if count(&taken.tenants, &tenant.id) >= most {
            let message = format!(
                "All {most} lines of your organization are taken (`limits.tenant_sessions`)"
            );
            return Err(over(&message, COME_BACK));
        }
        let most = tenant.user_sessions.unwrap_or(self.user_sessions);
        let user = owner.user_key();
        let of_user = user.as_ref().map_or(0, |user| count(&taken.users, user));
        if of_user >= most && user.is_some() {
            let message =
                format!("All {most} lines of this user are taken (`limits.user_sessions`)");
            return Err(over(&message, COME_BACK));
        }
        *taken.tenants.entry(tenant.id.clone()).or_default() += 1;
        if let Some(user) = user {
            *taken.users.entry(user).or_default() += 1;
        }
        drop(taken);
        Ok(Slot {
            owner,
            taken: Arc::clone(&self.taken),
            _line: line,
        })
    }

    /// Takes room for setting up a conversation: answering an offer, opening a link.
    pub(crate) fn handshake(&self) -> Result<Handshake, ApiError> {
        match Arc::clone(&self.handshakes).try_acquire_owned() {
            Ok(permit) => Ok(Handshake { _permit: permit }),
            Err(_full) => Err(over(
                "Too many conversations are being set up at this moment (`limits.handshakes`)",
                COME_BACK_SOON,
            )),
        }
    }

    /// Counts one client secret for this tenant.
    pub(crate) fn secret(&self, tenant: &Tenant, now: Instant) -> Result<(), ApiError> {
        let count = tenant.secrets_per_minute.unwrap_or(self.secrets_per_minute);
        let rate = Rate::per_minute(count);
        let taken = lock(&self.secrets).take(tenant.id.clone(), rate, now);
        taken.map_err(|wait| {
            over(
                &format!(
                    "Your organization has {count} client secrets made a minute and no more \
                     (`limits.secrets_per_minute`)"
                ),
                wait,
            )
        })
    }

    /// Waits until nobody has room for a conversation, be it to talk or to begin to.
    pub(crate) async fn all_returned(&self) {
        // The semaphore is never closed.
        let _ = self.lines.acquire_many(self.most).await;
    }
}

impl Slot {
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        give_back(&mut taken.tenants, self.owner.tenant.id.clone());
        if let Some(user) = self.owner.user_key() {
            give_back(&mut taken.users, user);
        }
    }
}

fn count<K: Eq + Hash>(counts: &HashMap<K, u32>, key: &K) -> u32 {
    counts.get(key).copied().unwrap_or_default()
}

fn give_back<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

fn over(limit: &str, wait: Duration) -> ApiError {
    let wait = Duration::from_secs(wait.as_secs_f64().ceil() as u64).max(COME_BACK_SOON);
    let message = format!("{limit}; try again in {} s.", wait.as_secs());
    let fault = Fault::server("rate_limit_exceeded", message);
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, fault).retry_after(wait)
}

/// What the locks here and in `sessions` protect is whole after every call, whoever panicked while
/// holding one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    #[tokio::test]
    async fn what_is_dropped_is_given_back() {
        let admission = admission(&[("limits.sessions", "2"), ("limits.handshakes", "1")]);
        let slots = [anna("a"), anna("a")].map(|owner| admission.session(owner).unwrap());
        assert!(admission.session(anna("a")).is_err());
        drop(slots);
        assert!(lock(&admission.taken).tenants.is_empty());
        assert!(lock(&admission.taken).users.is_empty());
        admission.all_returned().await;
        admission.session(anna("a")).unwrap();
        let handshake = admission.handshake().unwrap();
        assert!(admission.handshake().is_err());
        drop(handshake);
        admission.handshake().unwrap();
    }

    #[tokio::test]
    async fn a_refusal_takes_nothing() {
        let admission = admission(&[("limits.sessions", "2"), ("limits.user_sessions", "1")]);
        let _first = admission.session(anna("a")).unwrap();
        for _ in 0..5 {
            assert!(admission.session(anna("a")).is_err());
        }
        admission.session(anna("b")).unwrap();
    }

    #[tokio::test]
    async fn users_of_different_tenants_are_different_people() {
        let admission = admission(&[("limits.user_sessions", "1")]);
        let _one = admission.session(anna("a")).unwrap();
        let _other = admission.session(anna("b")).unwrap();
        assert!(admission.session(anna("b")).is_err());
    }

    #[tokio::test]
    async fn a_tenant_s_own_limits_come_first() {
        let admission = admission(&[("limits.tenant_sessions", "1")]);
        let tenant = Arc::new(Tenant {
            sessions: Some(2),
            secrets_per_minute: Some(1),
            ..Tenant::default()
        });
        let owner = || Owner::of(&Caller::Tenant(Arc::clone(&tenant)));
        let _slots = [owner(), owner()].map(|owner| admission.session(owner).unwrap());
        assert!(admission.session(owner()).is_err());
        let now = crate::clock::now();
        admission.secret(&tenant, now).unwrap();
        assert!(admission.secret(&tenant, now).is_err());
        admission
            .secret(&tenant, now + Duration::from_secs(60))
            .unwrap();
    }

    fn admission(settings: &[(&'static str, &str)]) -> Admission {
        let flags = settings
            .iter()
            .map(|(key, text)| (*key, (*text).to_owned()));
        let config = Config::load(&Sources {
            flags: flags.collect(),
            ..Sources::default()
        });
        Admission::new(&config.unwrap().limits)
    }

    fn anna(tenant: &str) -> Owner {
        Owner {
            tenant: Arc::new(Tenant {
                id: tenant.to_owned(),
                ..Tenant::default()
            }),
            user: Some("anna".to_owned()),
            device: None,
        }
    }
}
