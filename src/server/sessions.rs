//! The conversations that run: how many there may be, whose they are, who may come to them, when
//! they must end.
//!
//! **Invariants**
//! - A conversation holds its slot from its admission to its last breath.
//! - To whoever has no part in a conversation there is none: nobody learns that it exists.
//! - After `stop` nobody is admitted, and after the drain limit nobody is left.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::auth::Caller;
use crate::client::webrtc::Control;
use crate::clock;
use crate::config::Diagnosis;
use crate::core::ids::{SessionId, TokenId};
use crate::core::port::Fault;
use crate::core::session::Playback;
use crate::driver::{Arrival, Observer, Signals, View};
use crate::server::admission::{Admission, Owner, Slot, lock};
use crate::server::error::ApiError;
use crate::server::past::{Ended, Past};
use crate::wire::realtime::event_name;

/// When somebody who was turned away should come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// How long conversations may take to fold up, at the drain limit and once they are cut off.
const FOLD_UP: Duration = Duration::from_secs(3);

/// Those who have come to a conversation and wait to be let in, which takes no time.
const NEWCOMERS: usize = 4;

/// WebRTC legs of one conversation that can be reached from outside: the client's, and those that
/// are to take its place.
const CONTROLS: usize = 4;

/// Client secrets that open the way to one conversation: the client may hold the one before the
/// last until it has acknowledged the last.
const TOKENS: usize = 3;

pub(crate) struct Sessions {
    admission: Arc<Admission>,
    running: Arc<Mutex<HashMap<SessionId, Arc<Conversation>>>>,
    past: Arc<Mutex<Past>>,
    diagnosis: Diagnosis,
    tasks: Mutex<JoinSet<()>>,
    stopping: CancellationToken,
    cut_off: CancellationToken,
}

/// How a conversation's sound travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Media {
    /// As the relay plays it: by WebRTC, or in the events of a WebSocket; the client may change.
    Relay,
    /// In the events of a WebSocket, and the client plays it.
    WebSocket,
    /// By WebRTC, between the client and the provider.
    Direct,
}

impl From<Playback> for Media {
    fn from(playback: Playback) -> Self {
        match playback {
            Playback::Relay(_) => Self::Relay,
            Playback::Client => Self::WebSocket,
            Playback::Provider => Self::Direct,
        }
    }
}

/// What others may know of a conversation that runs, and do to it.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) id: SessionId,
    pub(crate) owner: Owner,
    pub(crate) media: Media,
    pub(crate) began: SystemTime,
    /// Shows what happens in it.
    pub(crate) view: View,
    tokens: Tokens,
    /// What reaches its WebRTC legs, the one that came last at the back.
    controls: Mutex<VecDeque<Control>>,
    newcomers: mpsc::Sender<Newcomer>,
    signals: Signals,
}

/// Carries the messages of one who takes part, until either side is gone.
pub(crate) type Leg = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Somebody who comes to a conversation that runs.
pub(crate) struct Newcomer {
    pub(crate) arrival: Arrival,
    pub(crate) leg: Leg,
}

/// What a conversation is given to run with.
pub(crate) struct Floor {
    pub(crate) signals: Signals,
    pub(crate) newcomers: mpsc::Receiver<Newcomer>,
    pub(crate) observer: Observer,
}

impl Sessions {
    pub(crate) fn new(admission: Arc<Admission>, diagnosis: Diagnosis) -> Self {
        Self {
            admission,
            running: Arc::default(),
            past: Arc::new(Mutex::new(Past::new(diagnosis))),
            diagnosis,
            tasks: Mutex::default(),
            stopping: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        }
    }

    /// Takes a slot, before anything costly is done.
    pub(crate) fn admit(&self, owner: Owner) -> Result<Slot, ApiError> {
        self.is_open()?;
        self.admission.session(owner)
    }

    /// Refuses whoever comes during the shutdown, be it to a conversation that still runs.
    pub(crate) fn is_open(&self) -> Result<(), ApiError> {
        if !self.is_stopping() {
            return Ok(());
        }
        let fault = Fault::server("shutting_down", "The relay is restarting; try again soon.");
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, fault).retry_after(COME_BACK))
    }

    /// Runs a conversation until it ends by itself or is cut off.
    pub(crate) fn start<F>(
        &self,
        id: SessionId,
        media: Media,
        slot: Slot,
        tokens: Tokens,
        conversation: impl FnOnce(Floor) -> F,
    ) -> Arc<Conversation>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let signals = Signals {
            shutdown: self.stopping.clone(),
            revoked: CancellationToken::new(),
            cancel: self.cut_off.child_token(),
        };
        let (sender, newcomers) = mpsc::channel(NEWCOMERS);
        let (observer, view) = Observer::new(self.diagnosis.events, event_name, clock::now());
        let known = Arc::new(Conversation {
            id: id.clone(),
            owner: slot.owner().clone(),
            tokens,
            media,
            began: clock::wall(),
            view,
            controls: Mutex::default(),
            newcomers: sender,
            signals: signals.clone(),
        });
        lock(&self.running).insert(id.clone(), Arc::clone(&known));
        let entry = Entry {
            id,
            running: Arc::clone(&self.running),
            past: Arc::clone(&self.past),
        };
        let conversation = conversation(Floor {
            signals,
            newcomers,
            observer,
        });
        let mut tasks = lock(&self.tasks);
        while let Some(done) = tasks.try_join_next() {
            report(done);
        }
        tasks.spawn(async move {
            conversation.await;
            drop((entry, slot));
        });
        known
    }

    /// Finds a conversation in which this caller has a part.
    pub(crate) fn find(&self, id: &SessionId, caller: &Caller) -> Option<Arc<Conversation>> {
        let running = lock(&self.running);
        let found = running.get(id);
        found
            .filter(|conversation| conversation.admits(caller))
            .cloned()
    }

    /// All that run, the latest first.
    pub(crate) fn running(&self) -> Vec<Arc<Conversation>> {
        let mut running: Vec<_> = lock(&self.running).values().cloned().collect();
        running.sort_by_key(|conversation| std::cmp::Reverse(conversation.began));
        running
    }

    /// All that are over and not yet forgotten, the latest first.
    pub(crate) fn ended(&self) -> Vec<Ended> {
        lock(&self.past).all(clock::now())
    }

    /// Finds a conversation for the operator, running or over.
    pub(crate) fn look_up(&self, id: &SessionId) -> Option<(Arc<Conversation>, Option<Ended>)> {
        if let Some(running) = lock(&self.running).get(id) {
            return Some((Arc::clone(running), None));
        }
        let ended = lock(&self.past).find(id, clock::now())?;
        Some((Arc::clone(&ended.conversation), Some(ended)))
    }

    /// Ends the conversations that this says are revoked, and counts them.
    pub(crate) fn end_revoked(&self, revoked: impl Fn(&SessionId, &Owner) -> bool) -> usize {
        let running = lock(&self.running);
        let revoked = running
            .values()
            .filter(|conversation| !conversation.signals.revoked.is_cancelled())
            .filter(|conversation| revoked(&conversation.id, &conversation.owner));
        revoked
            .map(|conversation| conversation.signals.revoked.cancel())
            .count()
    }

    /// Lets all tasks die, as a fault would.
    #[cfg(test)]
    pub(crate) fn abort_all(&self) {
        lock(&self.tasks).abort_all();
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

impl Conversation {
    /// Users without a name are told apart by their client secrets.
    fn admits(&self, caller: &Caller) -> bool {
        let is_known = match caller {
            Caller::Client(grant) => grant.user.is_some() || self.tokens.contains(&grant.token),
            Caller::Tenant(_) | Caller::Returning(..) => true,
        };
        is_known && self.owner.admits(caller, &self.id)
    }

    /// Names the latest client secret that opens the way to it.
    pub(crate) fn token(&self) -> Option<TokenId> {
        self.tokens.latest()
    }

    /// Opens the door to somebody, who is to be sent through it at once.
    pub(crate) fn door(&self) -> Result<mpsc::OwnedPermit<Newcomer>, ApiError> {
        let door = self.newcomers.clone().try_reserve_owned();
        door.map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => Self::gone(),
            mpsc::error::TrySendError::Full(_) => {
                let message = "Others are coming to this session at this moment; try again.";
                let fault = Fault::server("rate_limit_exceeded", message);
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, fault).retry_after(COME_BACK)
            }
        })
    }

    /// What to tell whoever comes too late.
    pub(crate) fn gone() -> ApiError {
        let message = "The session has ended, or its client was away for too long: begin a new \
                       one with a client secret.";
        let fault = Fault::invalid("session_not_found", message);
        ApiError::new(StatusCode::NOT_FOUND, fault)
    }

    /// What reaches the client's WebRTC legs from outside, the latest first: one that takes
    /// another's place may not be connected yet, or never be.
    pub(crate) fn controls(&self) -> Vec<Control> {
        lock(&self.controls).iter().rev().cloned().collect()
    }

    pub(crate) fn add_control(&self, control: Control) {
        let mut controls = lock(&self.controls);
        controls.retain(|control| control.etag().is_some());
        if controls.len() == CONTROLS {
            controls.pop_front();
        }
        controls.push_back(control);
    }

    pub(crate) fn hang_up(&self) {
        self.signals.cancel.cancel();
    }

    /// Ends whatever belongs to it at once.
    pub(crate) fn cancel(&self) -> CancellationToken {
        self.signals.cancel.clone()
    }
}

/// The client secrets by which a conversation was opened, and those issued to it since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens(Arc<Mutex<VecDeque<TokenId>>>);

impl Tokens {
    /// Begins with the one that the caller shows, if it shows one.
    pub(crate) fn of(caller: &Caller) -> Self {
        let tokens = Self::default();
        if let Some(grant) = caller.grant() {
            tokens.add(grant.token.clone());
        }
        tokens
    }

    pub(crate) fn add(&self, token: TokenId) {
        let mut tokens = lock(&self.0);
        if tokens.len() == TOKENS {
            tokens.pop_front();
        }
        tokens.push_back(token);
    }

    /// The one that was issued last.
    pub(crate) fn latest(&self) -> Option<TokenId> {
        lock(&self.0).back().cloned()
    }

    fn contains(&self, token: &TokenId) -> bool {
        lock(&self.0).contains(token)
    }
}

/// Takes its conversation off the list, however it ended.
struct Entry {
    id: SessionId,
    running: Arc<Mutex<HashMap<SessionId, Arc<Conversation>>>>,
    past: Arc<Mutex<Past>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let over = lock(&self.running).remove(&self.id);
        if let Some(over) = over {
            lock(&self.past).add(over, clock::now());
        }
    }
}

fn report(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        tracing::error!("A session panicked; the others go on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    use crate::auth::{Grant, Tenant};
    use crate::clock;
    use crate::config::{Config, Sources};

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_free_again_when_its_conversation_has_ended() {
        let sessions = relay(1);
        let running = start(&sessions, &tenant("t"), until_cancelled);
        assert_eq!(sessions.count(), 1);
        assert!(sessions.admit(Owner::of(&tenant("t"))).is_err());
        running.hang_up();
        sessions.all_ended().await;
        assert_eq!(sessions.count(), 0);
        assert!(sessions.find(&running.id, &tenant("t")).is_none());
        sessions.admit(Owner::of(&tenant("t"))).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_that_panics_gives_everything_back() {
        let sessions = relay(1);
        start(&sessions, &tenant("t"), |_| async { panic!("on purpose") });
        sessions.all_ended().await;
        assert_eq!(sessions.count(), 0);
        sessions.admit(Owner::of(&tenant("t"))).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn conversations_that_end_when_told_are_not_cut_off() {
        let sessions = relay(2);
        let started = clock::now();
        start(&sessions, &tenant("t"), |floor| async move {
            floor.signals.shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!floor.signals.cancel.is_cancelled());
        });
        sessions.stop(Duration::from_secs(10)).await;
        assert_eq!(clock::now() - started, Duration::from_secs(1));
        assert!(sessions.admit(Owner::of(&tenant("t"))).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_outlives_the_drain_limit_for_long() {
        let sessions = relay(2);
        let started = clock::now();
        start(&sessions, &tenant("polite"), until_cancelled);
        start(&sessions, &tenant("stuck"), |_| std::future::pending());
        let drain = Duration::from_secs(10);
        sessions.stop(drain).await;
        assert_eq!(clock::now() - started, drain + 2 * FOLD_UP);
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_is_found_by_its_tenant_and_its_user_and_nobody_else() {
        let sessions = relay(9);
        let anna = start(&sessions, &user("t", Some("anna"), "1"), until_cancelled);
        let found = |caller: &Caller| sessions.find(&anna.id, caller).is_some();
        assert!(found(&tenant("t")));
        assert!(!found(&tenant("other")));
        assert!(found(&user("t", Some("anna"), "2")), "by another token");
        assert!(!found(&user("t", Some("bert"), "1")));
        assert!(!found(&user("t", None, "1")));
        assert!(!found(&user("other", Some("anna"), "1")));
        let back = |name: &str| match user("t", Some("anna"), "1") {
            Caller::Client(grant) => Caller::Returning(grant, SessionId::from(name)),
            other @ (Caller::Tenant(_) | Caller::Returning(..)) => other,
        };
        assert!(found(&back(anna.id.as_str())));
        assert!(!found(&back("another session")));
    }

    #[tokio::test(start_paused = true)]
    async fn users_without_a_name_are_told_apart_by_their_tokens() {
        let sessions = relay(9);
        let somebody = start(&sessions, &user("t", None, "1"), until_cancelled);
        let found = |token| {
            let caller = user("t", None, token);
            sessions.find(&somebody.id, &caller).is_some()
        };
        assert!(found("1"));
        assert!(!found("2"));
        somebody.tokens.add(TokenId::from("2"));
        assert!(found("1"), "until it is known to have the next");
        assert!(found("2"));
        for later in ["3", "4"] {
            somebody.tokens.add(TokenId::from(later));
        }
        assert!(!found("1"));

        let server = start(&sessions, &tenant("t"), until_cancelled);
        assert!(sessions.find(&server.id, &user("t", None, "1")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_revoked_are_told_and_no_others() {
        let sessions = relay(9);
        let conversations = ["anna", "bert"]
            .map(|name| start(&sessions, &user("t", Some(name), "1"), until_cancelled));
        let of_anna = |_: &SessionId, owner: &Owner| owner.user.as_deref() == Some("anna");
        assert_eq!(sessions.end_revoked(of_anna), 1);
        let revoked = conversations.map(|one| one.signals.revoked.is_cancelled());
        assert_eq!(revoked, [true, false]);
    }

    async fn until_cancelled(floor: Floor) {
        floor.signals.cancel.cancelled().await;
    }

    fn start<F>(
        sessions: &Sessions,
        caller: &Caller,
        conversation: impl FnOnce(Floor) -> F,
    ) -> Arc<Conversation>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let slot = sessions.admit(Owner::of(caller)).unwrap();
        let id = SessionId::from(uuid::Uuid::new_v4().to_string());
        let tokens = Tokens::of(caller);
        sessions.start(id, Media::WebSocket, slot, tokens, conversation)
    }

    fn relay(most: u32) -> Sessions {
        let config = Config::load(&Sources {
            flags: vec![("limits.sessions", most.to_string())],
            ..Sources::default()
        });
        let config = config.unwrap();
        Sessions::new(Arc::new(Admission::new(&config.limits)), config.diagnosis)
    }

    fn tenant(id: &str) -> Caller {
        Caller::Tenant(Arc::new(Tenant {
            id: id.to_owned(),
            ..Tenant::default()
        }))
    }

    fn user(tenant: &str, user: Option<&str>, token: &str) -> Caller {
        Caller::Client(Grant {
            tenant: Arc::new(Tenant {
                id: tenant.to_owned(),
                ..Tenant::default()
            }),
            user: user.map(str::to_owned),
            device: None,
            models: None,
            session: None,
            token: TokenId::from(token),
            ttl: Duration::from_secs(300),
            expires: SystemTime::UNIX_EPOCH,
        })
    }
}
