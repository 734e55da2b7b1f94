//! What can be set about the embedded provider.

use std::fmt;
use std::time::Duration;

use crate::sim::faults::Fault;

/// The embedded provider's settings; the defaults serve a person who talks to it.
#[derive(Clone)]
pub struct Settings {
    /// The key that clients must bring; with `None`, any key that is not empty is accepted.
    pub api_key: Option<String>,
    pub agent: AgentKind,
    /// How long a session may last: 60 minutes, as at OpenAI.
    pub max_session: Duration,
    /// From the creation of a response to its first audio: 250 ms.
    pub first_audio: Duration,
    /// How much audio is in a delta: 100 ms. From 1 ms to 5 s.
    pub delta: Duration,
    /// The time from one delta to the next: 25 ms, so audio is made four times faster than it is
    /// heard.
    pub delta_interval: Duration,
    /// How many sessions may be open at once: 256. One more is refused with HTTP status 503.
    pub max_sessions: usize,
    /// A spoken turn that is answered by a call.
    pub spoken_call: Option<SpokenCall>,
    /// Something to go wrong from the start. [`Control`](crate::sim::Control) changes it.
    pub fault: Option<Fault>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentKind {
    /// A partner whose job is to let a person test the line.
    LineTest,
    /// The same tone every time: for benches and tests, which need exact figures.
    Scripted(Script),
}

/// A scripted answer: a sine tone, or tones that tell where in the answer they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Script {
    pub tone_hz: f32,
    /// How much higher the tone is a second later.
    pub rise_hz: f32,
    /// From 0 to 1.
    pub amplitude: f32,
    pub length: Duration,
    /// Whether each 20 ms have a tone of their own: [`mark_hz`].
    pub marked: bool,
}

/// The tone of the 20 ms with this number, in a marked answer: those of the first tenth of a second
/// are unlike all others, of which there are sixteen in turn.
pub(crate) const fn mark_hz(number: usize) -> f32 {
    match number {
        0..5 => 300.0,
        _ => 500.0 + 200.0 * (number % 16) as f32,
    }
}

/// A tool that the agent calls without being asked: a spoken turn is answered by the call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpokenCall {
    /// Which spoken turn of a session; the first is 1.
    pub turn: u32,
    /// The function, if the session has it.
    pub name: String,
    /// In JSON.
    pub arguments: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_key: None,
            agent: AgentKind::LineTest,
            max_session: Duration::from_secs(60 * 60),
            first_audio: Duration::from_millis(250),
            delta: Duration::from_millis(100),
            delta_interval: Duration::from_millis(25),
            max_sessions: 256,
            spoken_call: None,
            fault: None,
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self {
            tone_hz: 440.0,
            rise_hz: 0.0,
            amplitude: 0.3,
            length: Duration::from_secs(2),
            marked: false,
        }
    }
}

impl Script {
    /// A tone whose height tells which moment of it is heard: for tests of what is lost, or comes
    /// twice.
    pub fn sweep() -> Self {
        Self {
            tone_hz: 300.0,
            rise_hz: 150.0,
            ..Self::default()
        }
    }
}

/// The key must not reach a log by way of `{:?}`.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.api_key.as_ref().map(|_| "[hidden]");
        f.debug_struct("Settings")
            .field("api_key", &key)
            .field("agent", &self.agent)
            .field("max_session", &self.max_session)
            .field("first_audio", &self.first_audio)
            .field("delta", &self.delta)
            .field("delta_interval", &self.delta_interval)
            .field("max_sessions", &self.max_sessions)
            .field("spoken_call", &self.spoken_call)
            .field("fault", &self.fault)
            .finish()
    }
}
