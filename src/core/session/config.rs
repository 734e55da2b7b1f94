//! What a session is for, and its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::ids::SessionId;
use crate::core::latency::Transport;
use crate::core::playout::PlayoutConfig;
use crate::core::session::recovery::RecoveryConfig;
use crate::core::token::{Renewal, RotationConfig};

/// What a session is for, and its limits.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    pub id: SessionId,
    pub playback: Playback,
    pub access: Access,
    /// Sets what this session does at a random moment apart from what others do.
    pub seed: u64,
    /// How long the provider may take from the end of speech to the first sound.
    pub thinking_timeout: Duration,
    /// How long the provider may take to confirm that it has stopped.
    pub cancel_timeout: Duration,
    /// How long an answer pauses on the relay's own word that the person speaks, until the
    /// provider says so too; zero: it does not.
    pub barge_in_wait: Duration,
    /// The functions that the relay carries out itself.
    pub tools: Arc<[String]>,
    /// How long both sides may be silent.
    pub idle_after: Duration,
    /// How long a shutdown waits for the answer that is sounding.
    pub drain: Duration,
    /// How long a session waits for a client that it has lost.
    pub resume_window: Duration,
    /// How long a session may last until it is brought to its end.
    pub max_length: Option<Duration>,
    /// How it recovers from the loss of its link; `None` if it ends with it.
    pub recovery: Option<RecoveryConfig>,
    /// The time of day at which it begins, since 1970: providers tell the end of their sessions so.
    /// Zero if it is not known.
    pub began: Duration,
}

/// How long the client's credential is good.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// For ever, as far as the session cares.
    Lasting,
    /// It is renewed while the session runs.
    Expiring {
        expires_at: Instant,
        renewal: Renewal,
        rotation: RotationConfig,
    },
}

/// Who paces the assistant's sound and knows what was heard of it.
#[derive(Clone, Copy, Debug)]
pub enum Playback {
    /// The relay does, and truncates by itself (WebRTC, as at OpenAI).
    Relay(PlayoutConfig),
    /// The client does, and truncates by itself (WebSocket, as at OpenAI).
    Client,
    /// The provider does, and truncates by itself: sound goes past the relay. The session ends
    /// with the voice link, with or without a client.
    Provider,
}

impl Playback {
    /// How the sound of the first client travels: only over WebSocket can it be taken back.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Relay(PlayoutConfig { flushes: false, .. }) => Transport::WebRtc,
            Self::Relay(_) | Self::Client => Transport::WebSocket,
            Self::Provider => Transport::Direct,
        }
    }
}

impl SessionConfig {
    pub fn new(id: SessionId, playback: Playback) -> Self {
        Self {
            id,
            playback,
            access: Access::Lasting,
            seed: 0,
            thinking_timeout: Duration::from_secs(20),
            cancel_timeout: Duration::from_secs(2),
            barge_in_wait: Duration::from_millis(700),
            tools: Arc::default(),
            idle_after: Duration::from_secs(600),
            drain: Duration::from_secs(10),
            resume_window: Duration::from_secs(30),
            max_length: None,
            recovery: None,
            began: Duration::ZERO,
        }
    }
}
