//! What goes wrong on command: [`Fault`]s last until they are taken away, [`Act`]s happen once.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the embedded provider does wrong, for as long as it is told to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Answers the upgrade with this HTTP status.
    Refuse {
        status: u16,
        #[serde(
            rename = "retry_after_ms",
            with = "optional_millis",
            default,
            skip_serializing_if = "Option::is_none"
        )]
        retry_after: Option<Duration>,
    },
    /// Takes no key for valid.
    Unauthorized,
    /// Accepts connections and says nothing, on those that there are as well.
    Mute,
    /// Sessions that begin now never say anything; those that there are go on.
    NeverCreated,
    /// Each response falls silent after this much audio and is never done.
    Stall {
        #[serde(rename = "after_ms", with = "millis")]
        after: Duration,
    },
    /// The connection breaks after this much audio of a response.
    Drop {
        #[serde(rename = "after_ms", with = "millis")]
        after: Duration,
    },
    /// Each response fails with `server_error` when its first audio is due.
    FailResponses,
    /// Responses that begin now take this long to their first audio.
    SlowFirstAudio {
        #[serde(rename = "delay_ms", with = "millis")]
        delay: Duration,
    },
    /// The time from one delta to the next.
    SlowDeltas {
        #[serde(rename = "interval_ms", with = "millis")]
        interval: Duration,
    },
    /// Before each event of which the count is a multiple of this comes something that is none.
    Garbage { every: u32 },
    /// Each event of which the count is a multiple of this overtakes the one before it, if that is
    /// still unsent.
    Disorder { every: u32 },
}

/// What goes wrong once, in sessions that there are.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// The connection is reset (TCP RST).
    Reset,
    /// The connection ends (TCP FIN) without a close.
    HangUp,
    /// The connection is closed in order.
    Close { code: u16, reason: String },
    /// The session's time is up now.
    Expire,
    /// The session says nothing any more, and goes on listening.
    Mute,
    /// The running responses fall silent and are never done.
    Stall,
    /// The running responses fail with `server_error`.
    Fail,
    /// One of each kind of thing that is no event comes.
    Garbage,
}

/// What is wrong at the moment, by what it is asked for. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Wrong>);

#[derive(Debug, Default)]
pub(crate) struct Wrong {
    pub(crate) list: Vec<Fault>,
    pub(crate) rejection: Option<Rejection>,
    pub(crate) unauthorized: bool,
    pub(crate) mute: bool,
    pub(crate) never_created: bool,
    pub(crate) stall_after: Option<Duration>,
    pub(crate) drop_after: Option<Duration>,
    pub(crate) fail_responses: bool,
    pub(crate) first_audio: Option<Duration>,
    pub(crate) delta_interval: Option<Duration>,
    garbage_every: Option<u32>,
    disorder_every: Option<u32>,
}

/// What a `Refuse` answers with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rejection {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
}

/// The most faults at one time.
pub(crate) const MAX_FAULTS: usize = 16;

impl Faults {
    /// Keeps the first [`MAX_FAULTS`]; of two of a kind the later one counts.
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let mut wrong = Wrong::default();
        for fault in faults.into_iter().take(MAX_FAULTS) {
            wrong.add(fault);
        }
        Self(Arc::new(wrong))
    }
}

impl Deref for Faults {
    type Target = Wrong;

    fn deref(&self) -> &Wrong {
        &self.0
    }
}

impl Wrong {
    fn add(&mut self, fault: Fault) {
        self.list.push(fault);
        match fault {
            Fault::Refuse {
                status,
                retry_after,
            } => {
                self.rejection = Some(Rejection {
                    status,
                    retry_after,
                });
            }
            Fault::Unauthorized => self.unauthorized = true,
            Fault::Mute => self.mute = true,
            Fault::NeverCreated => self.never_created = true,
            Fault::Stall { after } => self.stall_after = Some(after),
            Fault::Drop { after } => self.drop_after = Some(after),
            Fault::FailResponses => self.fail_responses = true,
            Fault::SlowFirstAudio { delay } => self.first_audio = Some(delay),
            Fault::SlowDeltas { interval } => self.delta_interval = Some(interval),
            Fault::Garbage { every } => self.garbage_every = Some(every),
            Fault::Disorder { every } => self.disorder_every = Some(every),
        }
    }

    /// Tells whether garbage comes before the event of this count.
    pub(crate) fn spoils(&self, count: u64) -> bool {
        is_multiple(count, self.garbage_every)
    }

    /// Tells whether the event of this count overtakes another.
    pub(crate) fn disorders(&self, count: u64) -> bool {
        is_multiple(count, self.disorder_every)
    }
}

fn is_multiple(count: u64, every: Option<u32>) -> bool {
    every.is_some_and(|every| every > 0 && count.is_multiple_of(u64::from(every)))
}

/// What is no event, each of another kind: text frames.
pub(crate) const GARBAGE: [&str; 7] = [
    "{\"type\": \"response.output_audio.delta\", \"event_id\": \"event_",
    "not an event",
    "42",
    "{\"event_id\": \"event_without_a_type\"}",
    "{\"event_id\": \"event_unknown\", \"type\": \"embedded.provider.garbage\"}",
    "{\"event_id\": \"event_misshapen\", \"type\": \"response.done\", \"response\": 7}",
    "{\"event_id\": \"event_unreadable\", \"type\": \"response.output_audio.delta\", \
     \"response_id\": \"resp_nobody\", \"item_id\": \"item_nobody\", \"output_index\": 0, \
     \"content_index\": 0, \"delta\": \"?\"}",
];

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        // Nobody waits longer than a day.
        let ms = u64::deserialize(deserializer)?.min(24 * 60 * 60 * 1_000);
        Ok(Duration::from_millis(ms))
    }
}

mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => crate::sim::faults::millis::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Millis(#[serde(with = "crate::sim::faults::millis")] Duration);
        let millis = Option::<Millis>::deserialize(deserializer)?;
        Ok(millis.map(|Millis(duration)| duration))
    }
}
