//! Lets others see a session: while it runs, and what it left when it is over.
//!
//! The journal is behind a lock and not in the driver's hands, so that it outlives a driver that
//! panics: such a session is the one that somebody wants to see. The lock is held for one entry,
//! or for one copy, and never across a wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::core::journal::{Course, Journal, NameOf};
use crate::core::session::facts::Facts;
use crate::core::session::{Effect, Input, Session};

/// Questions that wait for an answer; one more is answered from what is known.
const QUESTIONS: usize = 8;

/// How long a driver may take to answer, which it does between two inputs.
const ANSWERED: Duration = Duration::from_millis(500);

/// The driver's end.
#[derive(Debug)]
pub struct Observer(Option<Eye>);

#[derive(Debug)]
struct Eye {
    shown: Arc<Mutex<Shown>>,
    questions: mpsc::Receiver<oneshot::Sender<Facts>>,
}

/// The other end. Cloning shows the same.
#[derive(Clone, Debug)]
pub struct View {
    shown: Arc<Mutex<Shown>>,
    questions: mpsc::Sender<oneshot::Sender<Facts>>,
}

#[derive(Debug)]
struct Shown {
    journal: Journal,
    /// How it was at its end.
    last: Option<Facts>,
}

/// Whence the facts of a session come.
#[derive(Clone, Debug)]
pub enum Seen {
    /// From the session itself, now.
    Running(Facts),
    /// From its last moment.
    Ended(Facts),
    /// Its driver is gone, or does not answer.
    Silent,
}

impl Observer {
    /// Begins to keep the last `capacity` events of a session that begins now.
    pub fn new(capacity: usize, name_of: NameOf, now: Instant) -> (Self, View) {
        let shown = Arc::new(Mutex::new(Shown {
            journal: Journal::new(capacity, name_of, now),
            last: None,
        }));
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let view = View {
            shown: Arc::clone(&shown),
            questions: sender,
        };

        (Self(Some(Eye { shown, questions })), view)
    }

    /// Shows nothing to anybody.
    pub fn nobody() -> Self {
        Self(None)
    }

    pub(super) fn hear(&self, input: &Input, now: Instant) {
        if let Some(eye) = &self.0 {
            lock(&eye.shown).journal.hear(input, now);
        }
    }

    pub(super) fn say(&self, effect: &Effect, session: &Session, now: Instant) {
        let Some(eye) = &self.0 else {
            return;
        };
        let mut shown = lock(&eye.shown);
        shown.journal.say(effect, now);
        if let Effect::Close(_) = effect {
            shown.last = Some(session.facts(now));
        }
    }

    pub(super) fn tick(&self) {
        if let Some(eye) = &self.0 {
            lock(&eye.shown).journal.tick();
        }
    }

    /// Waits for somebody who wants to know.
    pub(super) async fn asked(&mut self) -> oneshot::Sender<Facts> {
        if let Some(eye) = &mut self.0
            && let Some(question) = eye.questions.recv().await
        {
            return question;
        }

        std::future::pending().await
    }
}

impl View {
    /// Returns a copy of what happened lately.
    pub fn journal(&self) -> Journal {
        lock(&self.shown).journal.clone()
    }

    /// Returns a copy of how it has gone so far, without what happened.
    pub fn course(&self) -> Course {
        lock(&self.shown).journal.course().clone()
    }

    /// Asks the session how it is, or says how it was.
    pub async fn facts(&self) -> Seen {
        let (question, answer) = oneshot::channel();
        // Where nothing has happened yet there is no driver to ask.
        if lock(&self.shown).journal.entries().len() > 0
            && self.questions.try_send(question).is_ok()
            && let Ok(Ok(facts)) = timeout(ANSWERED, answer).await
        {
            return Seen::Running(facts);
        }

        match lock(&self.shown).last.clone() {
            Some(facts) => Seen::Ended(facts),
            None => Seen::Silent,
        }
    }
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    // A journal is whole after every entry, whoever panicked while adding one.
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}
