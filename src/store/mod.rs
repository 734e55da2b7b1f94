//! Keeps what sessions can be begun again from, outside of the tasks that run them.
//!
//! In memory for now, which survives a session's task and not the process. A store that relays
//! share becomes a second variant in here: there is no trait until there are two.
//!
//! **Invariants**
//! - At most `most` sessions are kept, and [`BYTES`] of them; whoever waits longest for its client
//!   gives way first, and nobody who runs gives way at all.
//! - A session that nobody runs any more is kept for `window`, and given out once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::ids::SessionId;
use crate::core::session::Snapshot;

/// What all snapshots together may take.
pub const BYTES: usize = 64 << 20;

/// What is kept, each with what its shell needs to run it again.
#[derive(Debug)]
pub struct Store<Context> {
    most: usize,
    window: Duration,
    kept: Mutex<Kept<Context>>,
}

#[derive(Debug)]
struct Kept<Context> {
    records: HashMap<SessionId, Record<Context>>,
    bytes: usize,
}

#[derive(Debug)]
struct Record<Context> {
    snapshot: Snapshot,
    context: Context,
    bytes: usize,
    /// Since when nobody runs it.
    orphaned: Option<Instant>,
}

impl<Context: Clone> Store<Context> {
    pub fn new(most: usize, window: Duration) -> Self {
        Self {
            most,
            window,
            kept: Mutex::new(Kept {
                records: HashMap::new(),
                bytes: 0,
            }),
        }
    }

    /// Keeps this in place of what was kept of the session before; returns whether there was room.
    pub fn save(&self, snapshot: Snapshot, context: Context, now: Instant) -> bool {
        let mut kept = self.kept();
        kept.forget(&snapshot.session);
        kept.expire(self.window, now);
        let bytes = snapshot.weight();
        while kept.records.len() >= self.most || kept.bytes + bytes > BYTES {
            let Some(oldest) = kept.oldest_orphan() else {
                return false;
            };
            kept.forget(&oldest);
        }
        kept.bytes += bytes;
        let record = Record {
            context,
            bytes,
            orphaned: None,
            snapshot,
        };
        kept.records.insert(record.snapshot.session.clone(), record);

        true
    }

    /// The session has come to its end.
    pub fn forget(&self, session: &SessionId) {
        self.kept().forget(session);
    }

    /// Nobody runs the session any more, if it was kept.
    pub fn orphan(&self, session: &SessionId, now: Instant) {
        if let Some(record) = self.kept().records.get_mut(session) {
            record.orphaned = Some(now);
        }
    }

    /// Gives out a session that nobody runs, to somebody to whom `admits` lets it.
    pub fn take(
        &self,
        session: &SessionId,
        now: Instant,
        admits: impl FnOnce(&Context) -> bool,
    ) -> Option<(Snapshot, Context)> {
        let mut kept = self.kept();
        kept.expire(self.window, now);
        let record = kept.records.get(session)?;
        if record.orphaned.is_none() || !admits(&record.context) {
            return None;
        }
        let record = kept.forget(session)?;

        Some((record.snapshot, record.context))
    }

    fn kept(&self) -> MutexGuard<'_, Kept<Context>> {
        // The books are in order after every call, whoever panicked in between.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Context> Kept<Context> {
    fn forget(&mut self, session: &SessionId) -> Option<Record<Context>> {
        let record = self.records.remove(session)?;
        self.bytes -= record.bytes;

        Some(record)
    }

    fn expire(&mut self, window: Duration, now: Instant) {
        let is_over = |record: &Record<Context>| {
            let since = record.orphaned;
            since.is_some_and(|since| now.saturating_duration_since(since) >= window)
        };
        let over: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| is_over(record))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.forget(&id);
        }
    }

    fn oldest_orphan(&self) -> Option<SessionId> {
        let orphans = self.records.iter();
        let orphans = orphans.filter_map(|(id, record)| Some((record.orphaned?, id)));

        orphans.min().map(|(_, id)| id.clone())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    #[test]
    fn a_session_is_given_out_once_when_nobody_runs_it_to_whom_it_belongs() {
        let (store, now) = (store(9), Instant::now());
        let id = SessionId::from("a");
        store.save(snapshot("a", 10), "anna", now);
        assert!(store.take(&id, now, |_| true).is_none(), "it runs");
        store.orphan(&id, now);
        assert!(store.take(&id, now, |of| *of == "ben").is_none());
        let taken = store.take(&id, now, |of| *of == "anna");
        assert_eq!(taken.map(|(snapshot, _)| snapshot.turns), Some(10));
        assert!(store.take(&id, now, |_| true).is_none(), "it was given out");
    }

    #[test]
    fn a_session_that_nobody_comes_back_to_is_forgotten() {
        let (store, now) = (store(9), Instant::now());
        for name in ["ended", "late", "runs"] {
            store.save(snapshot(name, 0), "", now);
        }
        store.forget(&"ended".into());
        store.orphan(&"ended".into(), now);
        store.orphan(&"late".into(), now);
        let later = now + WINDOW;
        for name in ["ended", "late", "runs"] {
            assert!(store.take(&name.into(), later, |_| true).is_none());
        }
        store.orphan(&"runs".into(), later);
        assert!(store.take(&"runs".into(), later, |_| true).is_some());
    }

    #[test]
    fn who_waits_longest_gives_way_and_nobody_who_runs() {
        let (store, now) = (store(3), Instant::now());
        for name in ["a", "b", "runs"] {
            assert!(store.save(snapshot(name, 0), "", now));
        }
        store.orphan(&"b".into(), now);
        store.orphan(&"a".into(), now + WINDOW / 2);
        assert!(store.save(snapshot("c", 0), "", now + WINDOW / 2));
        assert!(store.save(snapshot("d", 0), "", now + WINDOW / 2));
        assert!(!store.save(snapshot("e", 0), "", now + WINDOW / 2));
        assert!(
            store.save(snapshot("d", 1), "", now + WINDOW / 2),
            "in place"
        );
        assert!(store.kept().records.contains_key(&"runs".into()));
    }

    #[test]
    fn the_size_of_all_is_bounded() {
        let (store, now) = (store(1000), Instant::now());
        let large = |name: &str| Snapshot {
            described: Some("x".repeat(BYTES / 4).as_str().into()),
            ..snapshot(name, 0)
        };
        let saved = (0..8).filter(|n| store.save(large(&n.to_string()), "", now));
        assert_eq!(saved.count(), 3, "with what they weigh beside");
        assert!(store.kept().bytes <= BYTES);
    }

    fn store(most: usize) -> Store<&'static str> {
        Store::new(most, WINDOW)
    }

    fn snapshot(name: &str, turns: u64) -> Snapshot {
        Snapshot {
            session: name.into(),
            conversation: None,
            response: None,
            last_user_audio_seq: 0,
            events: 0,
            last_ack_event_id: None,
            described: None,
            items: vec![],
            summary: Default::default(),
            turns,
            link: 1,
            resume: None,
        }
    }
}
