//! What is to be done about what went wrong.
//!
//! There are two ways to recover. What carries the sound may be replaced while the session stays as
//! it is (*transport*); or the provider's session is gone, and another must be told what was said
//! (*session*). Which one is a matter of the cause alone.

use std::time::Duration;

use crate::core::port::LinkEnd;
use crate::core::resilience::BackoffConfig;

/// How a session recovers from the loss of its link.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryConfig {
    /// How long it tries, before it gives up and ends.
    pub window: Duration,
    pub backoff: BackoffConfig,
    /// How many items of the conversation the next link is told; a summary stands for older ones.
    pub history: usize,
    /// How much of the person's sound that has no answer yet is kept for the next link.
    pub sound: Duration,
    /// How long a link may last.
    pub link_length: Duration,
    /// How long before its end the next one is opened; at most a third of its life.
    pub rollover_lead: Duration,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(120),
            backoff: BackoffConfig::default(),
            history: 100,
            sound: Duration::from_secs(30),
            link_length: Duration::from_secs(60 * 60),
            rollover_lead: Duration::from_secs(60),
        }
    }
}

/// What went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The client's connection broke, fell silent, or moves to another network.
    ClientLost,
    /// The client does not take what it is told.
    ClientOverrun,
    /// The client's token has expired, and it took no other.
    TokenExpired,
    /// The link ended.
    LinkEnded(LinkEnd),
    /// The provider does not take what it is told.
    LinkOverrun,
    /// The provider owes an answer, was told to forget it, and says nothing.
    LinkSilent,
    /// The provider turned something down, and goes on.
    Refusal,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plan {
    /// Nothing: the session goes on as it is.
    GoOn,
    /// Wait for another connection of the client's. The session stays, and its token unless that has
    /// expired.
    Transport { fresh_token: bool },
    /// Open another link and tell it what was said: never the old sound, but for what is unanswered.
    Session { reason: Reason },
    /// End the session.
    End,
}

/// Why another link is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The connection broke, or takes nothing any more.
    Lost,
    /// The provider's session has reached its greatest length.
    Expired,
    /// The provider owes an answer, and says nothing any more.
    Silent,
    /// The provider has turned the relay's credential down.
    Refused,
    /// What the provider says makes no sense.
    Garbled,
}

impl Reason {
    /// As clients and metrics are told it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Expired => "expired",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Garbled => "garbled",
        }
    }
}

/// Tells what to do about this.
pub fn plan(cause: Cause) -> Plan {
    match cause {
        Cause::ClientLost => Plan::Transport { fresh_token: false },
        Cause::TokenExpired => Plan::Transport { fresh_token: true },
        // It has a connection, and does not use it: another would fare no better.
        Cause::ClientOverrun => Plan::End,
        Cause::LinkEnded(end) => Plan::Session {
            reason: match end {
                LinkEnd::Lost => Reason::Lost,
                LinkEnd::Expired => Reason::Expired,
                LinkEnd::Refused => Reason::Refused,
                LinkEnd::Garbled => Reason::Garbled,
            },
        },
        Cause::LinkOverrun => Plan::Session {
            reason: Reason::Lost,
        },
        Cause::LinkSilent => Plan::Session {
            reason: Reason::Silent,
        },
        Cause::Refusal => Plan::GoOn,
    }
}

/// What a session does that has no link to a voice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fallback {
    /// The client is told, what was received sounds, and the session waits for a link.
    Wait,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_client_is_waited_for_and_a_lost_link_is_replaced() {
        let session = |reason| Plan::Session { reason };
        let ended = Cause::LinkEnded;
        let transport = |fresh_token| Plan::Transport { fresh_token };

        for (cause, expected) in [
            (Cause::ClientLost, transport(false)),
            (Cause::TokenExpired, transport(true)),
            (Cause::ClientOverrun, Plan::End),
            (ended(LinkEnd::Lost), session(Reason::Lost)),
            (ended(LinkEnd::Expired), session(Reason::Expired)),
            (ended(LinkEnd::Refused), session(Reason::Refused)),
            (ended(LinkEnd::Garbled), session(Reason::Garbled)),
            (Cause::LinkOverrun, session(Reason::Lost)),
            (Cause::LinkSilent, session(Reason::Silent)),
            (Cause::Refusal, Plan::GoOn),
        ] {
            assert_eq!(plan(cause), expected, "{cause:?}");
        }
    }
}
