//! The conversations that run: how many there may be, who they are, when they must end.
//!
//! **Invariants**
//! - A conversation holds its slot from its admission to its last breath.
//! - After `stop` nobody is admitted, and after the drain limit nobody is left.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::core::ids::SessionId;
use crate::core::port::Fault;
use crate::driver::Signals;
use crate::server::admission::{Admission, Owner, Slot};
use crate::server::error::ApiError;

/// When somebody who was turned away should come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// How long conversations may take to fold up, at the drain limit and once they are cut off.
const FOLD_UP: Duration = Duration::from_secs(3);

pub(crate) struct Sessions {
    admission: Arc<Admission>,
    running: Arc<Mutex<HashMap<SessionId, CancellationToken>>>,
    tasks: Mutex<JoinSet<()>>,
    stopping: CancellationToken,
    cut_off: CancellationToken,
}

impl Sessions {
    pub(crate) fn new(admission: Arc<Admission>) -> Self {
        Self {
            admission,
            running: Arc::default(),
            tasks: Mutex::default(),
            stopping: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        }
    }

    /// Takes a slot, before anything costly is done.
    pub(crate) fn admit(&self, owner: Owner) -> Result<Slot, ApiError> {
        if self.is_stopping() {
            let fault = Fault::server("shutting_down", "The relay is restarting; try again soon.");
            return Err(
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, fault).retry_after(COME_BACK)
            );
        }
        self.admission.session(owner)
    }

    /// Runs a conversation until it ends by itself or is cut off.
    pub(crate) fn start<F>(&self, id: SessionId, slot: Slot, session: impl FnOnce(Signals) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cut_off.child_token();
        lock(&self.running).insert(id.clone(), cancel.clone());
        let entry = Entry {
            id,
            running: Arc::clone(&self.running),
        };
        let session = session(Signals {
            shutdown: self.stopping.clone(),
            revoked: CancellationToken::new(),
            cancel,
        });
        let mut tasks = lock(&self.tasks);
        while let Some(done) = tasks.try_join_next() {
            report(done);
        }
        tasks.spawn(async move {
            session.await;
            drop((entry, slot));
        });
    }

    /// Ends a conversation; `false` if there is none of this name.
    pub(crate) fn hang_up(&self, id: &SessionId) -> bool {
        let running = lock(&self.running);
        running.get(id).inspect(|cancel| cancel.cancel()).is_some()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.running).len()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Tells all conversations to come to an end, and cuts off those that do not in time. They
    /// know the drain limit themselves; what they say at last takes a little longer.
    pub(crate) async fn stop(&self, drain: Duration) {
        self.stopping.cancel();
        if timeout(drain + FOLD_UP, self.all_ended()).await.is_ok() {
            return;
        }
        tracing::warn!(
            sessions = self.count(),
            "Cutting off what did not end in time"
        );
        self.cut_off.cancel();
        if timeout(FOLD_UP, self.all_ended()).await.is_err() {
            let mut stuck = std::mem::take(&mut *lock(&self.tasks));
            stuck.shutdown().await;
        }
    }

    /// Waits until nobody holds a slot, be it to talk or to begin to.
    async fn all_ended(&self) {
        self.admission.all_returned().await;
    }
}

/// Takes its conversation off the list, however it ended.
struct Entry {
    id: SessionId,
    running: Arc<Mutex<HashMap<SessionId, CancellationToken>>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.id);
    }
}

fn report(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        tracing::error!("A session panicked; the others go on");
    }
}

/// What these locks protect is whole after every call, whoever panicked while holding one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Caller;
    use crate::clock;
    use crate::config::{Config, Sources};

    fn id(name: &str) -> SessionId {
        SessionId::from(name)
    }

    fn relay(most: u32) -> Sessions {
        let config = Config::load(&Sources {
            flags: vec![("limits.sessions", most.to_string())],
            ..Sources::default()
        });
        let limits = config.unwrap().limits;
        Sessions::new(Arc::new(Admission::new(&limits)))
    }

    fn owner() -> Owner {
        Owner::of(&Caller::Tenant(Arc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_free_again_when_its_conversation_has_ended() {
        let sessions = relay(1);
        let slot = sessions.admit(owner()).unwrap();
        assert!(sessions.admit(owner()).is_err());
        sessions.start(id("a"), slot, |signals| async move {
            signals.cancel.cancelled().await;
        });
        assert_eq!(sessions.count(), 1);
        assert!(sessions.admit(owner()).is_err());
        assert!(sessions.hang_up(&id("a")));
        sessions.all_ended().await;
        assert_eq!(sessions.count(), 0);
        assert!(!sessions.hang_up(&id("a")));
        sessions.admit(owner()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_that_panics_gives_everything_back() {
        let sessions = relay(1);
        let slot = sessions.admit(owner()).unwrap();
        sessions.start(id("a"), slot, |_| async { panic!("on purpose") });
        sessions.all_ended().await;
        assert_eq!(sessions.count(), 0);
        sessions.admit(owner()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn conversations_that_end_when_told_are_not_cut_off() {
        let sessions = relay(2);
        let started = clock::now();
        sessions.start(
            id("a"),
            sessions.admit(owner()).unwrap(),
            |signals| async move {
                signals.shutdown.cancelled().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(!signals.cancel.is_cancelled());
            },
        );
        sessions.stop(Duration::from_secs(10)).await;
        assert_eq!(clock::now() - started, Duration::from_secs(1));
        assert!(sessions.admit(owner()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_outlives_the_drain_limit_for_long() {
        let sessions = relay(2);
        let started = clock::now();
        sessions.start(
            id("polite"),
            sessions.admit(owner()).unwrap(),
            |signals| async move {
                signals.cancel.cancelled().await;
            },
        );
        sessions.start(id("stuck"), sessions.admit(owner()).unwrap(), |_| {
            std::future::pending()
        });
        let drain = Duration::from_secs(10);
        sessions.stop(drain).await;
        assert_eq!(clock::now() - started, drain + 2 * FOLD_UP);
        assert_eq!(sessions.count(), 0);
    }
}
