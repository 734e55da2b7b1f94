//! What keeps an authority up to date: files that are read again, and revocations.
//!
//! **Invariant:** a revocation is in effect before anybody waits for its file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use crate::auth::authority::{Authority, longest_life};
use crate::auth::revocation::{Revocation, Revocations, Subject};
use crate::auth::sources::Sources;
use crate::clock;
use crate::core::port::Fault;

impl Authority {
    /// Shuts somebody out, until then or until it is lifted. One of a session is forgotten when no
    /// token can name that session any more. Writes a file; what cannot be written stands
    /// nevertheless, until the relay ends.
    pub fn revoke(
        &self,
        subject: Subject,
        reason: String,
        expires: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<Revocation, Fault> {
        let _saving = lock(&self.saving);
        let expires = match &subject {
            Subject::Session(_) => expires.or_else(|| Some(now + longest_life(&self.settings))),
            Subject::Tenant(_) | Subject::User { .. } | Subject::Device { .. } => expires,
        };
        let revocation = write(&self.revocations).add(subject, reason, expires, now)?;
        tracing::info!(id = revocation.id, subject = ?revocation.subject, "Revoked");
        self.mark_changed();
        self.save(|| read(&self.revocations).clone(), now)?;
        Ok(revocation)
    }

    /// Takes a revocation back; `None` if there is none of this name. Writes a file; if that
    /// cannot be written, the revocation stands.
    pub fn lift(&self, id: &str, now: SystemTime) -> Result<Option<Revocation>, Fault> {
        let _saving = lock(&self.saving);
        let mut revocations = read(&self.revocations).clone();
        let Some(lifted) = revocations.remove(id) else {
            return Ok(None);
        };
        self.save(|| revocations.clone(), now)?;
        *write(&self.revocations) = revocations;
        tracing::info!(id, subject = ?lifted.subject, "Revocation lifted");
        Ok(Some(lifted))
    }

    /// All revocations that stand, the oldest first.
    pub fn revocations(&self, now: SystemTime) -> Vec<Revocation> {
        read(&self.revocations).list(now)
    }

    /// Reads again what may have changed. Reads files.
    pub fn reload(&self, now: SystemTime) {
        let mut sources = lock(&self.sources);
        self.reload_keys(&mut sources, now);
        let before = Arc::clone(&read(&self.tenants));
        if let Some(tenants) = sources.tenants(&self.settings)
            && tenants != *before
        {
            tracing::info!(tenants = tenants.len(), "Tenants changed");
            *write(&self.tenants) = Arc::new(tenants);
            self.mark_changed();
        }
        self.attached.forget(now);
    }

    /// Reloads each time that it is due, for as long as it is polled.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            clock::sleep_until(Some(clock::now() + self.settings.reload)).await;
            let authority = Arc::clone(&self);
            let reload = tokio::task::spawn_blocking(move || authority.reload(clock::wall()));
            if let Err(error) = reload.await {
                tracing::error!(%error, "Reloading tenants and keys has failed");
            }
        }
    }

    fn reload_keys(&self, sources: &mut Sources, now: SystemTime) {
        let listing = sources.keys(&self.settings, now);
        let mut keys = write(&self.keys);
        let before = keys.signing();
        match listing {
            Some(listing) => keys.replace(&listing, now),
            None => keys.settle(now),
        }
        let signing = keys.signing();
        if signing.kid() != before.kid() {
            tracing::info!(kid = signing.kid(), "Another key signs tokens");
        }
    }

    fn save(&self, all: impl FnOnce() -> Revocations, now: SystemTime) -> Result<(), Fault> {
        let Some(path) = &self.settings.revocations else {
            return Ok(());
        };
        all().save(path, now).map_err(|error| {
            tracing::error!(%error, "Revocations are not saved: a restart forgets the last change");
            Fault::server(
                "revocation_not_saved",
                "The file of revocations cannot be written: what is newly revoked stands only \
                 until the relay ends, and nothing is lifted. Its log names the reason; mend it \
                 and ask again.",
            )
        })
    }

    fn mark_changed(&self) {
        self.changed.send_modify(|generation| *generation += 1);
    }
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
