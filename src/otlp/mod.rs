//! Tells an OpenTelemetry collector where the time of each turn went: a span for the turn, and one
//! for each hop below it, over OTLP (HTTP, protocol buffers).
//!
//! **Invariants**
//! - Nobody waits for a collector: what finds no room in the queue is dropped, and counted.
//! - Spans hold times, names and ids, and nothing that people say.

mod context;
mod metrics;
mod post;
mod spans;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::core::ids::SessionId;
use crate::core::latency::budget::{Breach, Budget};
use crate::core::latency::{Traces, TurnTrace};
use crate::otlp::metrics::{Loss, Metrics};
use crate::otlp::post::Collector;

pub use crate::otlp::context::Parent;

/// Turns that are told at one time.
const BATCH: usize = 64;

/// How long a turn waits for others to be told with.
const DELAY: Duration = Duration::from_secs(1);

/// How long what is left may take to be told when the relay stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the collector takes spans: `http://127.0.0.1:4318/v1/traces`.
    pub url: String,
    /// Sent with every request: the collector's credential, mostly.
    pub headers: HeaderMap,
    /// Whose spans these are: `service.name`.
    pub service: String,
    /// The share of the turns that are told, where the client has not decided.
    pub sampling: f64,
    /// Turns that may wait to be told.
    pub queue: usize,
    /// How long one request may take.
    pub timeout: Duration,
}

/// What all spans of a conversation have in common.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub session: SessionId,
    /// As the convention has it (`openai`), or the relay's own name.
    pub provider: String,
    pub model: Option<String>,
    /// Where the provider is: host and port.
    pub server: Option<(String, u16)>,
    /// The client's span that the conversation belongs to.
    pub parent: Option<Parent>,
}

/// A turn that is to be told.
#[derive(Debug)]
pub(crate) struct Turn {
    conversation: Arc<Conversation>,
    trace: [u8; 16],
    began: SystemTime,
    measured: TurnTrace,
    /// The budget was broken.
    breach: Option<Breach>,
}

/// Where conversations put their turns.
#[derive(Clone, Debug)]
pub struct Otlp {
    told: Option<Told>,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Debug)]
struct Told {
    outbox: mpsc::Sender<Turn>,
    sampling: f64,
}

/// Brings turns to the collector.
pub struct Export {
    inbox: mpsc::Receiver<Turn>,
    collector: Collector,
    metrics: Arc<Metrics>,
    /// Taken from the queue, and not yet with the collector.
    batch: Vec<Turn>,
}

impl Otlp {
    /// Tells nobody.
    pub fn off() -> Self {
        Self {
            told: None,
            metrics: Arc::default(),
        }
    }

    /// Tells this collector, while the [`Export`] runs.
    pub fn open(settings: Settings) -> Result<(Self, Export), reqwest::Error> {
        let (outbox, inbox) = mpsc::channel(settings.queue);
        let metrics = Arc::<Metrics>::default();
        let told = Told {
            outbox,
            sampling: settings.sampling,
        };
        let otlp = Self {
            told: Some(told),
            metrics: Arc::clone(&metrics),
        };
        let export = Export {
            inbox,
            collector: Collector::new(settings)?,
            metrics,
            batch: vec![],
        };

        Ok((otlp, export))
    }

    /// Returns where a conversation puts its turns, which are held against this budget; `None` if
    /// nobody wants them.
    pub fn traces(&self, conversation: Conversation, budget: Budget) -> Option<Traces> {
        let Told { outbox, sampling } = self.told.clone()?;
        if conversation
            .parent
            .as_ref()
            .is_some_and(|parent| !parent.sampled)
        {
            return None;
        }
        let (conversation, metrics) = (Arc::new(conversation), Arc::clone(&self.metrics));
        Some(Arc::new(move |measured| {
            let trace = match &conversation.parent {
                Some(parent) => parent.trace,
                None => rand::random(),
            };
            if conversation.parent.is_none() && !is_sampled(trace, sampling) {
                return;
            }
            let turn = Turn {
                conversation: Arc::clone(&conversation),
                trace,
                began: clock::wall() - clock::now().saturating_duration_since(measured.began),
                breach: budget.judge(measured).breach,
                measured: measured.clone(),
            };
            if let Err(refused) = outbox.try_send(turn) {
                let (loss, turn) = match refused {
                    mpsc::error::TrySendError::Full(turn) => (Loss::Full, turn),
                    mpsc::error::TrySendError::Closed(turn) => (Loss::Unreachable, turn),
                };
                metrics.lose(loss, spans::count(&turn));
            }
        }))
    }

    /// Returns what became of the spans, in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        self.metrics.prometheus()
    }
}

/// Tells whether a trace is among this share of all, by its last seven bytes, which are random: all
/// who see the trace and want the same share, or a larger one, keep it.
fn is_sampled(trace: [u8; 16], share: f64) -> bool {
    const ALL: u64 = 1 << 56;
    let [.., a, b, c, d, e, f, g] = trace;
    let random = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
    let threshold = ((1.0 - share) * ALL as f64) as u64;

    random >= threshold
}

impl Export {
    /// Works until `closing`, and then tells what is left, once, in a bounded time.
    pub async fn run(mut self, closing: CancellationToken) {
        let mut is_open = true;
        while is_open {
            tokio::select! {
                biased;
                () = closing.cancelled() => is_open = false,
                () = self.tell() => {}
            }
        }
        self.inbox.close();
        if tokio::time::timeout(FAREWELL, self.tell_the_rest())
            .await
            .is_err()
        {
            while let Ok(turn) = self.inbox.try_recv() {
                self.batch.push(turn);
            }
            self.lose(Loss::Unreachable);
        }
    }

    /// Gathers turns, and tells them however often it takes. Whoever stops waiting for this loses
    /// nothing.
    async fn tell(&mut self) {
        self.gather().await;
        let outcome = self.collector.deliver(&self.batch).await;
        self.settle(outcome);
    }

    async fn gather(&mut self) {
        if self.batch.is_empty() {
            self.inbox.recv_many(&mut self.batch, BATCH).await;
        }
        let until = clock::now() + DELAY;
        while self.batch.len() < BATCH {
            let room = BATCH - self.batch.len();
            tokio::select! {
                biased;
                _ = self.inbox.recv_many(&mut self.batch, room) => {}
                () = clock::sleep_until(Some(until)) => break,
            }
        }
    }

    async fn tell_the_rest(&mut self) {
        loop {
            let room = BATCH - self.batch.len();
            if room > 0
                && self.inbox.recv_many(&mut self.batch, room).await == 0
                && self.batch.is_empty()
            {
                return;
            }
            let outcome = self.collector.deliver_once(&self.batch).await;
            self.settle(outcome);
        }
    }

    /// What became of the batch.
    fn settle(&mut self, outcome: Result<u64, Loss>) {
        match outcome {
            Ok(refused) => {
                let all = self.spans();
                self.metrics.lose(Loss::Refused, refused.min(all));
                self.metrics.export(all.saturating_sub(refused));
                self.batch.clear();
            }
            Err(loss) => self.lose(loss),
        }
    }

    fn lose(&mut self, loss: Loss) {
        self.metrics.lose(loss, self.spans());
        self.batch.clear();
    }

    fn spans(&self) -> u64 {
        self.batch.iter().map(spans::count).sum()
    }
}

#[cfg(test)]
mod tests;
