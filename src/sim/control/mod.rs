//! Takes commands while the embedded provider runs: what goes wrong, and what it knows.
//!
//! **Invariants:** a session sees every change of the faults since it began; what is kept of ended
//! sessions is bounded, the oldest goes first; a command waits for nobody.

pub(crate) mod routes;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::sim::faults::{Act, Fault, Faults};
use crate::sim::report::SessionReport;
use crate::sim::session::Session;

/// Ended sessions that are remembered.
pub(crate) const ENDED: usize = 32;
/// Commands on their way to one session. One that has so many before it is lost.
const ORDERS: usize = 64;

/// The way to change what goes wrong, and to see what the provider knows. Cloning shares it; the
/// default is nobody's.
#[derive(Clone, Default)]
pub struct Control(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    faults: Faults,
    live: BTreeMap<u64, Live>,
    next: u64,
    /// The latest last.
    ended: VecDeque<SessionReport>,
}

struct Live {
    id: String,
    orders: mpsc::Sender<Order>,
}

/// A command, as a session gets it.
pub(crate) enum Order {
    Faults(Faults),
    Act(Act),
    Report(oneshot::Sender<SessionReport>),
}

/// A session's place on the board; it is taken off when it is dropped.
pub(crate) struct Seat {
    key: u64,
    orders: mpsc::Receiver<Order>,
    control: Control,
    /// What is known of the session when its task is ended.
    last: Option<SessionReport>,
}

impl Control {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self(Arc::new(Mutex::new(Board {
            faults: Faults::new(fault),
            ..Board::default()
        })))
    }

    /// Replaces all that goes wrong; nothing does from now on if there are none. At most 16.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        let faults = Faults::new(faults);
        let mut board = self.board();
        board.faults = faults.clone();
        for live in board.live.values() {
            let _ = live.orders.try_send(Order::Faults(faults.clone()));
        }
    }

    /// Returns what goes wrong.
    pub fn faults(&self) -> Vec<Fault> {
        self.board().faults.list.clone()
    }

    /// Does something to all sessions, and returns to how many.
    pub fn act(&self, act: &Act) -> usize {
        self.act_where(act, |_| true)
    }

    /// Does something to the session of this id, and returns whether there is one.
    pub fn act_on(&self, session: &str, act: &Act) -> bool {
        self.act_where(act, |id| id == session) > 0
    }

    /// Returns what is known of the last ended sessions, and of those that there are, in the order
    /// in which they ended and began.
    pub async fn sessions(&self) -> Vec<SessionReport> {
        let mut asked = Vec::new();
        for live in self.board().live.values() {
            let (answer, asking) = oneshot::channel();
            let _ = live.orders.try_send(Order::Report(answer));
            asked.push(asking);
        }
        let mut live = Vec::with_capacity(asked.len());
        for asking in asked {
            // A session that does not answer has ended, and is among those.
            live.extend(asking.await);
        }
        let mut reports: Vec<SessionReport> = self.board().ended.iter().cloned().collect();
        live.retain(|report| reports.iter().all(|ended| ended.id != report.id));
        reports.append(&mut live);
        reports
    }

    /// Returns what is known of the session of this id.
    pub async fn session(&self, id: &str) -> Option<SessionReport> {
        let reports = self.sessions().await;
        reports.into_iter().rfind(|report| report.id == id)
    }

    pub(crate) fn current(&self) -> Faults {
        self.board().faults.clone()
    }

    /// Opens a session with the faults as they are, and tells it of every change.
    pub(crate) fn seat(&self, open: impl FnOnce(Faults) -> Session) -> (Session, Seat) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let mut board = self.board();
        let session = open(board.faults.clone());
        let key = board.next;
        board.next += 1;
        let live = Live {
            id: session.id().to_owned(),
            orders: sender,
        };
        board.live.insert(key, live);
        drop(board);
        let seat = Seat {
            key,
            orders,
            control: self.clone(),
            last: None,
        };
        (session, seat)
    }

    fn act_where(&self, act: &Act, chosen: impl Fn(&str) -> bool) -> usize {
        let board = self.board();
        let live = board.live.values().filter(|live| chosen(&live.id));
        live.filter(|live| live.orders.try_send(Order::Act(act.clone())).is_ok())
            .count()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Returns the next command.
    pub(crate) async fn order(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            // The board keeps the sender for as long as there is a seat.
            None => std::future::pending().await,
        }
    }

    /// Takes the session off the board.
    pub(crate) fn leave(&mut self, report: SessionReport) {
        self.last = Some(report);
        self.clear();
    }

    fn clear(&mut self) {
        let mut board = self.control.board();
        board.live.remove(&self.key);
        if let Some(report) = self.last.take() {
            if board.ended.len() == ENDED {
                board.ended.pop_front();
            }
            board.ended.push_back(report);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("faults", &self.faults())
            .finish_non_exhaustive()
    }
}
