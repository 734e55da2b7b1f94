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
use crate::core::random::Random;

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

impl RotationConfig {
    /// How long before the end of such a life it is renewed at the latest.
    pub fn lead_in(&self, life: Duration) -> Duration {
        self.lead.min(life / 3)
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

/// How it stands with a credential, as seen from one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    Holding {
        expires_in: Duration,
        renewed_in: Duration,
    },
    /// It is being renewed for the time of this number.
    Renewing { expires_in: Duration, attempt: u32 },
    /// It has expired, and there is no other.
    Lapsed,
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
            random: Random::new(seed),
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

    /// The client has fetched a credential that expires then; returns whether that is later than
    /// what it holds.
    pub fn accept(&mut self, expires_at: Instant, now: Instant) -> bool {
        let later = match self.stage {
            Stage::Holding {
                expires_at: held, ..
            } => expires_at > held,
            Stage::Renewing { until, .. } => expires_at > until,
            Stage::Lapsed { .. } => expires_at > now,
        };
        if later {
            self.hold(expires_at, now);
        }

        later
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

    /// Tells how it stands with the credential.
    pub fn standing(&self, now: Instant) -> Standing {
        let until = |at: Instant| at.saturating_duration_since(now);
        match self.stage {
            Stage::Holding {
                expires_at,
                renew_at,
            } => Standing::Holding {
                expires_in: until(expires_at),
                renewed_in: until(renew_at),
            },
            Stage::Renewing {
                until: end,
                attempts,
                ..
            } => Standing::Renewing {
                expires_in: until(end),
                attempt: attempts,
            },
            Stage::Lapsed { .. } => Standing::Lapsed,
        }
    }

    fn hold(&mut self, expires_at: Instant, now: Instant) {
        let life = expires_at.saturating_duration_since(now);
        self.lead = self.config.lead_in(life);
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_due_well_ahead_of_the_end_but_not_too_early() {
        for (life, earliest, latest) in [
            (300, 255_000, 270_000),
            (60, 30_000, 40_000),
            (10, 5_000, 6_667),
        ] {
            for seed in 0..100 {
                let (rotation, t0) = rotation(life, seed);
                let due = rotation.poll_timeout().unwrap() - t0;
                assert!(due >= ms(earliest) && due <= ms(latest), "{life}: {due:?}");
            }
        }
    }

    #[test]
    fn ten_thousand_that_begin_together_renew_apart() {
        let sessions = 10_000;
        let mut due: Vec<_> = (0..sessions)
            .map(|seed| {
                let (rotation, t0) = rotation(300, seed);
                (rotation.poll_timeout().unwrap() - t0).as_millis()
            })
            .collect();
        due.sort_unstable();

        // Fifteen seconds of jitter: some 667 of them in each.
        let busiest = due.chunk_by(|a, b| a / 1_000 == b / 1_000);
        let busiest = busiest.map(<[_]>::len).max().unwrap();
        assert!(busiest < 800, "{busiest} within one second");
        let most_at_once = due.chunk_by(PartialEq::eq).map(<[_]>::len).max().unwrap();
        assert!(most_at_once < 10, "{most_at_once} within a millisecond");
    }

    #[test]
    fn the_same_seed_is_the_same_schedule_and_each_renewal_has_its_own_moment() {
        let (mut one, t0) = rotation(300, 7);
        let (two, _) = rotation(300, 7);
        let due = one.poll_timeout().unwrap() - t0;
        assert!(two.poll_timeout().is_some());

        let now = renewed(&mut one, "b", 300);
        let again = one.poll_timeout().unwrap() - now;
        assert_ne!(due, again, "the jitter is drawn anew");
    }

    #[test]
    fn an_acknowledged_credential_is_held_until_the_next_is_due() {
        let (mut rotation, _) = rotation(60, 1);
        let now = renewed(&mut rotation, "b", 60);

        let due = rotation.poll_timeout().unwrap();
        assert!(due >= now + secs(30) && due <= now + secs(40));
        assert_eq!(rotation.poll(due - ms(1)), None);
        assert_eq!(rotation.poll(due), Some(Step::Renew));
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_and_again_and_given_up_once() {
        let (mut rotation, t0) = rotation(300, 1);
        let due = rotation.poll_timeout().unwrap();
        assert_eq!(rotation.poll(due), Some(Step::Renew));
        rotation.offer(credential("b", due + secs(300)), due);

        let steps = steps(&mut rotation, t0 + secs(10_000));
        let (last, offers) = steps.split_last().unwrap();
        let offered: Vec<_> = offers.iter().map(|(at, _)| *at - due).collect();
        let left = t0 + secs(300) - due;
        let expected = [secs(5), secs(15), secs(35)].into_iter();
        let expected: Vec<_> = expected.filter(|after| *after < left).collect();
        assert_eq!(offered, expected);
        let all_offers = offers.iter().all(
            |(_, step)| matches!(step, Step::Offer(credential) if credential.id == "b".into()),
        );
        assert!(all_offers);
        assert_eq!(*last, (t0 + secs(300), Step::Lapse));
        assert_eq!(rotation.poll_timeout(), None);
    }

    #[test]
    fn an_issuer_that_has_nothing_is_asked_again_until_it_has() {
        let (mut rotation, t0) = rotation(300, 1);
        let due = rotation.poll_timeout().unwrap();
        assert_eq!(rotation.poll(due), Some(Step::Renew));
        rotation.fail(due);
        for after in [1, 3, 7, 15] {
            assert_eq!(rotation.poll_timeout(), Some(due + secs(after)));
            assert_eq!(rotation.poll(due + secs(after)), Some(Step::Renew));
            rotation.fail(due + secs(after));
        }
        let now = due + secs(16);
        rotation.offer(credential("b", now + secs(300)), now);
        assert!(rotation.acknowledge(&"b".into(), now));
        assert!(rotation.poll_timeout().unwrap() > t0 + secs(300));
    }

    #[test]
    fn an_issuer_that_never_has_anything_lets_the_credential_lapse() {
        let (mut rotation, t0) = rotation(10, 1);
        let mut lapses = vec![];
        while let Some(at) = rotation.poll_timeout() {
            match rotation.poll(at) {
                Some(Step::Renew) => rotation.fail(at),
                Some(Step::Lapse) => lapses.push(at - t0),
                other => assert_eq!(other, None),
            }
        }
        assert_eq!(lapses, [secs(10)]);
    }

    #[test]
    fn only_the_credential_that_was_offered_is_acknowledged_and_once() {
        let (mut rotation, _) = rotation(60, 1);
        let due = rotation.poll_timeout().unwrap();
        assert!(!rotation.acknowledge(&"b".into(), due), "nothing is due");
        rotation.poll(due);
        assert!(!rotation.acknowledge(&"b".into(), due), "not offered");
        rotation.offer(credential("b", due + secs(60)), due);
        assert!(!rotation.acknowledge(&"a".into(), due), "another one");
        assert!(rotation.acknowledge(&"b".into(), due));
        assert!(!rotation.acknowledge(&"b".into(), due), "no news");
    }

    #[test]
    fn an_acknowledgement_that_is_late_still_counts() {
        let (mut rotation, t0) = rotation(60, 1);
        let due = rotation.poll_timeout().unwrap();
        rotation.poll(due);
        rotation.offer(credential("b", t0 + secs(120)), due);
        assert_eq!(rotation.poll(t0 + secs(60)), Some(Step::Lapse));

        assert!(rotation.acknowledge(&"b".into(), t0 + secs(61)));
        assert!(rotation.poll_timeout().unwrap() > t0 + secs(61));
    }

    #[test]
    fn a_client_that_fetches_is_reminded_and_what_it_fetched_is_held() {
        let (mut rotation, t0) = rotation_by(Renewal::Fetch, 300, 1);
        let due = rotation.poll_timeout().unwrap();
        let within = t0 + secs(300) - due;
        assert_eq!(rotation.poll(due), Some(Step::Announce { within }));
        let reminder = due + secs(5);
        assert_eq!(rotation.poll_timeout(), Some(reminder));
        let within = within - secs(5);
        assert_eq!(rotation.poll(reminder), Some(Step::Announce { within }));

        assert!(!rotation.accept(t0 + secs(300), reminder), "the old one");
        assert!(rotation.accept(t0 + secs(600), reminder));
        assert!(rotation.poll_timeout().unwrap() > t0 + secs(500));
    }

    #[test]
    fn a_client_that_comes_back_late_has_time_to_take_a_new_credential() {
        let (mut rotation, t0) = rotation(60, 1);
        let due = rotation.poll_timeout().unwrap();
        rotation.poll(due);
        rotation.fail(due);
        assert_eq!(
            steps(&mut rotation, t0 + secs(61)).last().unwrap().1,
            Step::Lapse
        );

        let back = t0 + secs(100);
        rotation.attach(back);
        assert_eq!(rotation.poll(back), Some(Step::Renew));
        rotation.offer(credential("b", back + secs(60)), back);
        let steps = steps(&mut rotation, back + secs(1_000));
        let lapses = steps.iter().filter(|(_, step)| *step == Step::Lapse);
        assert_eq!(
            lapses.map(|(at, _)| *at).collect::<Vec<_>>(),
            [back + secs(20)]
        );
    }

    #[test]
    fn a_client_that_comes_back_in_time_keeps_what_it_holds() {
        let (mut rotation, t0) = rotation(60, 1);
        let due = rotation.poll_timeout();
        rotation.attach(t0 + secs(10));
        assert_eq!(rotation.poll_timeout(), due);
        assert_eq!(rotation.poll(t0 + secs(10)), None);
    }

    #[test]
    fn a_credential_that_is_dead_on_arrival_does_not_spin() {
        let (mut rotation, t0) = rotation(0, 1);
        let steps = steps(&mut rotation, t0 + secs(100));
        assert!(steps.len() < 10, "{steps:?}");
        assert_eq!(steps.last().unwrap().1, Step::Lapse);
    }

    fn rotation(life: u64, seed: u64) -> (Rotation, Instant) {
        rotation_by(Renewal::InBand, life, seed)
    }

    fn rotation_by(renewal: Renewal, life: u64, seed: u64) -> (Rotation, Instant) {
        let t0 = Instant::now();
        let config = RotationConfig::default();

        (
            Rotation::new(config, renewal, t0 + secs(life), seed, t0),
            t0,
        )
    }

    /// Renews when it is due, and says when that was.
    fn renewed(rotation: &mut Rotation, id: &str, life: u64) -> Instant {
        let due = rotation.poll_timeout().unwrap();
        assert_eq!(rotation.poll(due), Some(Step::Renew));
        rotation.offer(credential(id, due + secs(life)), due);
        assert!(rotation.acknowledge(&id.into(), due));

        due
    }

    /// All that is due until then, if nobody answers.
    fn steps(rotation: &mut Rotation, until: Instant) -> Vec<(Instant, Step)> {
        let mut steps = vec![];
        while let Some(at) = rotation.poll_timeout().filter(|at| *at <= until) {
            steps.extend(rotation.poll(at).map(|step| (at, step)));
            assert!(rotation.poll_timeout().is_none_or(|next| next > at));
        }

        steps
    }

    fn credential(id: &str, expires_at: Instant) -> Credential {
        Credential {
            id: id.into(),
            token: "ek_x".into(),
            resume: "rt_x".into(),
            expires_at,
            expires_unix: 0,
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
