//! When a client's credential is renewed.
//!
//! ```text
//!            due                  acknowledged, or fetched and accepted
//!   HOLDING ─────▶ RENEWING ──────────────────────────────────────────▶ HOLDING
//!                    │  ▲ └ again: not acknowledged, nothing to be had     ▲
//!                    │  └──────────── the client came back ────┐           │ late, but there
//!                    └ the credential has expired ──────▶ LAPSED ──────────┘
//! ```
//!
//! **Invariants**
//! - What the client holds is renewed before it expires, at a moment of its own: sessions that
//!   began together do not renew together.
//! - Attempts are further and further apart, and end when the credential does.
//! - A renewal that came to nothing is told once; whatever follows begins with a client that
//!   acknowledges after all, or comes back.

use std::time::{Duration, Instant};

use crate::core::ids::TokenId;
use crate::core::port::Credential;

/// How renewals are timed.
#[derive(Clone, Copy, Debug)]
pub struct RotationConfig {
    /// How long before its end a credential is renewed; at most a third of its life.
    pub lead: Duration,
    /// How much earlier it may be, at random; at most half of the lead.
    pub jitter: Duration,
    /// How long a client has to acknowledge, or to fetch; at most a sixth of the lead, and twice
    /// as long with each attempt.
    pub ack_timeout: Duration,
    /// When to ask again if nothing can be issued; at most a thirtieth of the lead, and twice as
    /// late with each attempt.
    pub retry: Duration,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self {
            lead: Duration::from_secs(30),
            jitter: Duration::from_secs(15),
            ack_timeout: Duration::from_secs(5),
            retry: Duration::from_secs(1),
        }
    }
}

/// How the client comes by a fresh credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewal {
    /// The relay sends it.
    InBand,
    /// The client is told when to fetch one by itself.
    Fetch,
}

/// The least time that a client gets for a renewal, whatever its credential says.
const LEAST: Duration = Duration::from_secs(1);

/// The least time between two attempts.
const SHORTEST: Duration = Duration::from_millis(100);

/// The renewals of one session's credential.
#[derive(Debug)]
pub struct Rotation {
    config: RotationConfig,
    renewal: Renewal,
    random: Random,
    /// The lead that fits the life of the credential.
    lead: Duration,
    stage: Stage,
}

/// What is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Have one issued.
    Renew,
    /// Send this one (again).
    Offer(Credential),
    /// Tell the client to fetch one within this time.
    Announce { within: Duration },
    /// The renewal has failed.
    Lapse,
}

#[derive(Debug)]
enum Stage {
    Holding {
        expires_at: Instant,
        renew_at: Instant,
    },
    Renewing {
        until: Instant,
        next: Instant,
        attempts: u32,
        offered: Option<Credential>,
    },
    Lapsed {
        offered: Option<Credential>,
    },
}

impl Rotation {
    /// The client holds a credential that expires then. `seed` is the session's own.
    pub fn new(
        config: RotationConfig,
        renewal: Renewal,
        expires_at: Instant,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut rotation = Self {
            config,
            renewal,
            random: Random(seed),
            lead: config.lead,
            stage: Stage::Lapsed { offered: None },
        };
        rotation.hold(expires_at, now);

        rotation
    }

    /// There is a client, new or come back. What it holds may have expired by now.
    pub fn attach(&mut self, now: Instant) {
        let expires_at = match self.stage {
            Stage::Holding {
                expires_at,
                renew_at,
            } if renew_at <= now => expires_at,
            Stage::Holding { .. } => return,
            Stage::Renewing { until, .. } => until,
            Stage::Lapsed { .. } => now,
        };
        self.begin(expires_at.max(now + self.lead), now);
    }

    /// A credential was issued, and is on its way to the client.
    pub fn offer(&mut self, credential: Credential, now: Instant) {
        let patience = self.patience();
        if let Stage::Renewing {
            next,
            attempts,
            offered,
            ..
        } = &mut self.stage
        {
            *next = now + wait(patience, *attempts);
            *offered = Some(credential);
        }
    }

    /// Nothing could be issued.
    pub fn fail(&mut self, now: Instant) {
        let retry = self.config.retry.min(self.lead / 30);
        if let Stage::Renewing { next, attempts, .. } = &mut self.stage {
            *next = now + wait(retry, *attempts);
        }
    }

    /// The client has this credential; returns whether that was news.
    pub fn acknowledge(&mut self, token: &TokenId, now: Instant) -> bool {
        let (Stage::Renewing { offered, .. } | Stage::Lapsed { offered }) = &self.stage else {
            return false;
        };
        match offered {
            Some(credential) if credential.id == *token => {
                self.hold(credential.expires_at, now);
                true
            }
            Some(_) | None => false,
        }
    }

    /// The client has fetched a credential that expires then.
    pub fn accept(&mut self, expires_at: Instant, now: Instant) {
        self.hold(expires_at, now);
    }

    /// Returns what is due at `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Step> {
        if let Stage::Holding {
            expires_at,
            renew_at,
        } = self.stage
            && renew_at <= now
        {
            self.begin(expires_at, now);
        }
        let patience = self.patience();
        let Stage::Renewing {
            until,
            next,
            attempts,
            offered,
        } = &mut self.stage
        else {
            return None;
        };
        if *until <= now {
            let offered = offered.take();
            self.stage = Stage::Lapsed { offered };
            return Some(Step::Lapse);
        }
        if *next > now {
            return None;
        }

        *attempts += 1;
        *next = now + wait(patience, *attempts);
        Some(match (self.renewal, offered) {
            (Renewal::Fetch, _) => Step::Announce {
                within: *until - now,
            },
            (Renewal::InBand, Some(credential)) => Step::Offer(credential.clone()),
            (Renewal::InBand, None) => Step::Renew,
        })
    }

    /// Returns when [`poll`](Self::poll) has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Holding { renew_at, .. } => Some(*renew_at),
            Stage::Renewing { until, next, .. } => Some(*next.min(until)),
            Stage::Lapsed { .. } => None,
        }
    }

    fn hold(&mut self, expires_at: Instant, now: Instant) {
        let life = expires_at.saturating_duration_since(now);
        self.lead = self.config.lead.min(life / 3);
        let jitter = self.config.jitter.min(self.lead / 2);
        let early = self.lead + self.random.below(jitter);
        self.stage = Stage::Holding {
            expires_at,
            renew_at: now + LEAST.max(life.saturating_sub(early)),
        };
    }

    fn patience(&self) -> Duration {
        self.config.ack_timeout.min(self.lead / 6)
    }

    fn begin(&mut self, expires_at: Instant, now: Instant) {
        self.stage = Stage::Renewing {
            until: expires_at.max(now + LEAST),
            next: now,
            attempts: 0,
            offered: None,
        };
    }
}

/// How long to wait after this attempt, the first of which is 1.
fn wait(first: Duration, attempt: u32) -> Duration {
    let doubled = 2u32.saturating_pow(attempt.saturating_sub(1));

    first.max(SHORTEST).saturating_mul(doubled)
}

/// SplitMix64 (Steele, Lea, Flood, 2014): a few instructions, and the same everywhere.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;

        bound.mul_f64(share)
    }
}
