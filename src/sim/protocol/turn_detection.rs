//! `session.audio.input.turn_detection`.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::media::speech::Sensitivity;
use crate::sim::protocol::reader::{Fields, Read, boolean, integer, nullable, number, word, words};

/// How the server finds out that a turn has ended. Every field is echoed, since clients read
/// `create_response` and `interrupt_response` from the echo.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum TurnDetection {
    ServerVad {
        threshold: f64,
        prefix_padding_ms: u64,
        silence_duration_ms: u64,
        idle_timeout_ms: Option<u64>,
        create_response: bool,
        interrupt_response: bool,
    },
    SemanticVad {
        eagerness: Eagerness,
        create_response: bool,
        interrupt_response: bool,
    },
}

words! {
    /// How soon `semantic_vad` takes a pause for the end of a turn.
    Eagerness { Low = "low", Medium = "medium", High = "high", Auto = "auto" }
}

impl Default for TurnDetection {
    /// What `session.created` shows on the wire: 200 ms of silence, though 500 are documented.
    fn default() -> Self {
        Self::ServerVad {
            threshold: 0.5,
            prefix_padding_ms: 300,
            silence_duration_ms: 200,
            idle_timeout_ms: None,
            create_response: true,
            interrupt_response: true,
        }
    }
}

impl TurnDetection {
    /// Reads an update of `current`: a detector of the same type keeps what the update leaves out.
    pub(crate) fn read(current: Option<&Self>, value: Value, path: &str) -> Read<Self> {
        let mut fields = Fields::open(value, path)?;
        let name = fields.required("type", word(&["server_vad", "semantic_vad"]))?;
        let mut next = match (current, name) {
            (Some(same @ Self::ServerVad { .. }), "server_vad")
            | (Some(same @ Self::SemanticVad { .. }), "semantic_vad") => same.clone(),
            (_, "semantic_vad") => Self::SemanticVad {
                eagerness: Eagerness::Auto,
                create_response: true,
                interrupt_response: true,
            },
            _ => Self::default(),
        };
        let (create, interrupt) = match &mut next {
            Self::ServerVad {
                threshold,
                prefix_padding_ms,
                silence_duration_ms,
                idle_timeout_ms,
                create_response,
                interrupt_response,
            } => {
                fields.set("threshold", threshold, number(0.0..=1.0))?;
                fields.set("prefix_padding_ms", prefix_padding_ms, integer(0..=10_000))?;
                fields.set(
                    "silence_duration_ms",
                    silence_duration_ms,
                    integer(0..=10_000),
                )?;
                let idle = nullable(integer(5_000..=30_000));
                fields.set("idle_timeout_ms", idle_timeout_ms, idle)?;
                (create_response, interrupt_response)
            }
            Self::SemanticVad {
                eagerness,
                create_response,
                interrupt_response,
            } => {
                fields.set("eagerness", eagerness, Eagerness::read)?;
                (create_response, interrupt_response)
            }
        };
        fields.set("create_response", create, boolean)?;
        fields.set("interrupt_response", interrupt, boolean)?;
        fields.finish()?;
        Ok(next)
    }

    pub(crate) fn creates_response(&self) -> bool {
        match self {
            Self::ServerVad {
                create_response, ..
            }
            | Self::SemanticVad {
                create_response, ..
            } => *create_response,
        }
    }

    pub(crate) fn interrupts_response(&self) -> bool {
        match self {
            Self::ServerVad {
                interrupt_response, ..
            }
            | Self::SemanticVad {
                interrupt_response, ..
            } => *interrupt_response,
        }
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        match self {
            Self::ServerVad {
                idle_timeout_ms, ..
            } => idle_timeout_ms.map(Duration::from_millis),
            Self::SemanticVad { .. } => None,
        }
    }

    /// Nothing here understands what is said, so `semantic_vad` is a longer wait for silence.
    pub(crate) fn sensitivity(&self) -> Sensitivity {
        match self {
            Self::ServerVad {
                threshold,
                prefix_padding_ms,
                silence_duration_ms,
                ..
            } => Sensitivity {
                threshold: *threshold as f32,
                prefix_padding: Duration::from_millis(*prefix_padding_ms),
                silence: Duration::from_millis(*silence_duration_ms),
            },
            Self::SemanticVad { eagerness, .. } => Sensitivity {
                threshold: 0.5,
                prefix_padding: Duration::from_millis(300),
                silence: Duration::from_millis(match eagerness {
                    Eagerness::High => 300,
                    Eagerness::Medium | Eagerness::Auto => 600,
                    Eagerness::Low => 1_200,
                }),
            },
        }
    }
}
