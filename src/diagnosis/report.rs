//! What is known of one session.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::core::journal::{Course, Journal};
use crate::core::latency::budget;
use crate::core::latency::{Hop, TurnTrace};
use crate::core::session::facts::{Facts, Presence};
use crate::core::token::Standing;
use crate::diagnosis::events::{Event, ms};
use crate::diagnosis::rules::{Finding, diagnose};

/// What counts as lately.
pub(super) const LATELY: Duration = Duration::from_secs(600);

/// Everything, in the order in which trouble is looked for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    pub id: String,
    pub status: Status,
    /// Seconds since 1970.
    pub began_at: u64,
    pub lasted_ms: u64,
    /// Whether the session itself has told how it is; else only its events are known.
    pub answers: bool,
    /// Why it has ended.
    pub close_reason: Option<String>,
    pub diagnosis: Vec<Finding>,
    pub auth: Auth,
    pub connectivity: Connectivity,
    pub state_machine: StateMachine,
    pub budget: Budget,
    pub replay: Replay,
    /// Earlier events than the first of `events`, which are no longer kept.
    pub events_forgotten: u64,
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its link to the provider is being opened.
    Opening,
    #[default]
    Running,
    Ended,
    /// It could not be opened.
    NeverBegan,
    /// It ended by a fault of the relay's own.
    Failed,
}

impl Status {
    fn of(is_over: bool, facts: Option<&Facts>, journal: &Journal) -> Self {
        let has_begun = facts.is_some() || journal.entries().len() > 0;
        match (is_over, has_begun) {
            (false, false) => Self::Opening,
            (false, true) => Self::Running,
            (true, false) => Self::NeverBegan,
            (true, true) if journal.course().closed.is_some() => Self::Ended,
            (true, true) => Self::Failed,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Ended => "ended",
            Self::NeverBegan => "never_began",
            Self::Failed => "failed",
        }
    }
}

/// Who it is, and what they hold.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Auth {
    pub tenant: String,
    pub user: Option<String>,
    /// A digest of the device's name.
    pub device: Option<String>,
    /// `lasting` (an API key), `held`, `renewing` or `expired`.
    pub credential: String,
    pub token_id: Option<String>,
    pub expires_in_ms: Option<u64>,
    pub renewed_in_ms: Option<u64>,
    pub renewal_attempt: Option<u32>,
    pub last_renewal_step: Option<String>,
    pub last_renewal_step_ago_ms: Option<u64>,
    pub rotations: u32,
    pub rotations_failed: u32,
    pub resume_token_issued: bool,
}

/// How it is connected, on both sides.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Connectivity {
    /// `webrtc`, `websocket` or `direct`.
    pub transport: String,
    /// `present`, `away` or `none`.
    pub client: String,
    /// Whether it speaks `voxline.v1`.
    pub extended: Option<bool>,
    pub connected_for_ms: Option<u64>,
    pub client_heard_ago_ms: Option<u64>,
    pub away_for_another_ms: Option<u64>,
    /// Connections that took the place of the one before.
    pub attached: u32,
    pub parked: u32,
    pub client_lost_lately: usize,
    pub provider: String,
    /// `opening`, `up` or `down`.
    pub link: String,
    /// Counts the links of this session.
    pub link_number: Option<u64>,
    pub provider_heard_ago_ms: Option<u64>,
    pub link_lost: u64,
    pub link_lost_lately: usize,
    pub last_link_loss: Option<String>,
}

/// Where the conversation stands, and how it came there.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct StateMachine {
    pub state: Option<String>,
    pub since_ms: Option<u64>,
    /// The last states, each with when it was entered (milliseconds since the session began).
    pub transitions: Vec<(u64, String)>,
    pub recoveries_lately: usize,
    pub person_speaks: bool,
    pub assistant_sounds: bool,
    pub open_responses: Vec<String>,
    /// Responses that were cut, and that the provider has not confirmed to be over.
    pub cancelling: Vec<String>,
    pub next_deadline: Option<String>,
    pub next_deadline_in_ms: Option<u64>,
    pub ending: Option<String>,
    pub interruptions: u32,
    pub last_fault: Option<String>,
    pub last_provider_error: Option<String>,
    pub provider_errors: u64,
}

/// How long the last answers took.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Budget {
    /// How long each hop may take, and all together (`end_to_end`).
    pub limits_ms: BTreeMap<String, u64>,
    pub turns: u64,
    pub last_turns: Vec<Turn>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Turn {
    pub turn: u64,
    /// Those that are known.
    pub hops_ms: BTreeMap<String, u64>,
    pub total_ms: u64,
    /// The hop that is to blame, if it took too long.
    pub broken_by: Option<String>,
}

/// What a new connection, on either side, would be told.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Replay {
    pub session_id: String,
    /// The response that is open, or the last one that was.
    pub response_id: Option<String>,
    /// Frames of the person's sound that have come.
    pub last_user_audio_seq: u64,
    pub audio_sent_ms: u64,
    /// Items of the conversation that the next link would be told of ...
    pub items: usize,
    /// ... and the length of the summary of those before them.
    pub summary_bytes: usize,
    /// The person's sound that has no answer yet.
    pub unanswered_audio_ms: u64,
    /// Events of the client's that the provider has not answered.
    pub unanswered_events: usize,
    /// An answer was lost with its link, and is to be asked for again.
    pub answer_owed: bool,
    /// Messages that wait for a client that is away.
    pub events_waiting: usize,
    /// Messages more than are kept for it.
    pub events_lost: u64,
}

/// What only the one who runs the session knows.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    pub id: String,
    /// Seconds since 1970.
    pub began_at: u64,
    /// When it was over.
    pub ended: Option<Instant>,
    pub tenant: String,
    pub user: Option<String>,
    pub device: Option<String>,
    /// The latest token that opens the way to it.
    pub token: Option<String>,
    pub transport: &'static str,
    pub provider: String,
}

impl Report {
    /// Puts together what is known; `facts` are missing if the session does not answer.
    pub fn new(
        subject: Subject,
        facts: Option<&Facts>,
        journal: &Journal,
        budget: &budget::Budget,
        now: Instant,
    ) -> Self {
        let clock = Clock {
            course: journal.course(),
            at: subject
                .ended
                .unwrap_or(now)
                .saturating_duration_since(journal.began()),
        };
        let mut report = Self {
            status: Status::of(subject.ended.is_some(), facts, journal),
            answers: facts.is_some(),
            began_at: subject.began_at,
            lasted_ms: ms(clock.at),
            close_reason: clock
                .course
                .closed
                .map(|(_, reason)| reason.name().to_owned()),
            diagnosis: vec![],
            auth: clock.auth(&subject, facts),
            connectivity: clock.connectivity(&subject, facts),
            state_machine: clock.state_machine(facts),
            budget: clock.budget(budget),
            replay: clock.replay(&subject.id, facts, journal),
            events_forgotten: journal.forgotten(),
            events: journal.entries().map(Event::of).collect(),
            id: subject.id,
        };
        report.diagnosis = diagnose(&report);

        report
    }
}

/// A course, seen from one moment.
struct Clock<'a> {
    course: &'a Course,
    /// Since the session began.
    at: Duration,
}

impl Clock<'_> {
    fn ago(&self, then: Option<Duration>) -> Option<u64> {
        then.map(|then| ms(self.at.saturating_sub(then)))
    }

    fn lately(&self) -> Duration {
        self.at.saturating_sub(LATELY)
    }

    fn auth(&self, subject: &Subject, facts: Option<&Facts>) -> Auth {
        let course = self.course;
        let standing = facts.and_then(|facts| facts.credential);
        let renewal = course.renewal.as_ref();
        let (credential, expires, renewed, attempt) = match standing {
            None => ("lasting", None, None, None),
            Some(Standing::Holding {
                expires_in,
                renewed_in,
            }) => ("held", Some(expires_in), Some(renewed_in), None),
            Some(Standing::Renewing {
                expires_in,
                attempt,
            }) => ("renewing", Some(expires_in), None, Some(attempt)),
            Some(Standing::Lapsed) => ("expired", None, None, None),
        };
        Auth {
            tenant: subject.tenant.clone(),
            user: subject.user.clone(),
            device: subject.device.clone(),
            credential: credential.to_owned(),
            token_id: subject.token.clone(),
            expires_in_ms: expires.map(ms),
            renewed_in_ms: renewed.map(ms),
            renewal_attempt: attempt,
            last_renewal_step: renewal.map(|(_, step)| step.to_string()),
            last_renewal_step_ago_ms: self.ago(renewal.map(|(at, _)| *at)),
            rotations: course.rotated,
            rotations_failed: course.rotations_failed,
            resume_token_issued: course.resume_issued,
        }
    }

    fn connectivity(&self, subject: &Subject, facts: Option<&Facts>) -> Connectivity {
        let course = self.course;
        let presence = facts.map(|facts| &facts.presence);
        let (client, extended, left) = match presence {
            Some(Presence::Present { extended }) => ("present", Some(*extended), None),
            Some(Presence::Away { left, .. }) => ("away", None, Some(*left)),
            Some(Presence::Vacant) => ("none", None, None),
            None => ("unknown", None, None),
        };
        let loss = course.link_losses.latest();
        Connectivity {
            transport: subject.transport.to_owned(),
            client: client.to_owned(),
            extended,
            connected_for_ms: self.ago(course.connected),
            client_heard_ago_ms: self.ago(course.client_heard),
            away_for_another_ms: left.map(ms),
            attached: course.attached,
            parked: course.parked,
            client_lost_lately: course.client_losses.since(self.lately()),
            provider: subject.provider.clone(),
            link: facts
                .map_or("unknown", |facts| facts.link.name())
                .to_owned(),
            link_number: facts.map(|facts| facts.replay.link),
            provider_heard_ago_ms: self.ago(course.provider_heard),
            link_lost: course.link_losses.count(),
            link_lost_lately: course.link_losses.since(self.lately()),
            last_link_loss: loss.map(|(_, how)| how.to_string()),
        }
    }

    fn state_machine(&self, facts: Option<&Facts>) -> StateMachine {
        let course = self.course;
        let names = |ids: &[crate::core::ids::ResponseId]| -> Vec<String> {
            ids.iter().map(ToString::to_string).collect()
        };
        let state = match facts {
            Some(facts) => facts.state,
            None => course.state(),
        };
        let next = facts.and_then(|facts| facts.next);
        let recoveries = course
            .states
            .iter()
            .filter(|(at, state)| *at >= self.lately() && state.name() == "recovering");
        StateMachine {
            state: state.map(|state| state.name().to_owned()),
            since_ms: self.ago(course.states.latest().map(|(at, _)| *at)),
            transitions: course
                .states
                .iter()
                .map(|(at, state)| (ms(*at), state.name().to_owned()))
                .collect(),
            recoveries_lately: recoveries.count(),
            person_speaks: facts.is_some_and(|facts| facts.hearing),
            assistant_sounds: facts.is_some_and(|facts| facts.sounding),
            open_responses: facts.map_or_else(Vec::new, |facts| names(&facts.open)),
            cancelling: facts.map_or_else(Vec::new, |facts| names(&facts.cut)),
            next_deadline: next.map(|(deadline, _)| deadline.name().to_owned()),
            next_deadline_in_ms: next.map(|(_, within)| ms(within)),
            ending: facts
                .and_then(|facts| facts.ending)
                .map(|reason| reason.name().to_owned()),
            interruptions: course.interruptions,
            last_fault: course.faults.latest().map(|(_, code)| code.to_string()),
            last_provider_error: course
                .provider_errors
                .latest()
                .map(|(_, code)| code.to_string()),
            provider_errors: course.provider_errors.count(),
        }
    }

    fn budget(&self, budget: &budget::Budget) -> Budget {
        let limits = Hop::ALL.map(|hop| (hop.name(), budget.limit(hop)));
        let limits = limits
            .into_iter()
            .chain([("end_to_end", budget.end_to_end)]);
        let turn = |turn: &TurnTrace| {
            let hops = turn.known();
            let breach = budget.judge(turn).breach;
            Turn {
                turn: turn.turn,
                hops_ms: hops
                    .map(|(hop, it)| (hop.name().to_owned(), ms(it.took)))
                    .collect(),
                total_ms: ms(turn.total),
                broken_by: breach.map(|breach| breach.hop.name().to_owned()),
            }
        };
        let turns = &self.course.turns;
        Budget {
            limits_ms: limits
                .map(|(name, limit)| (name.to_owned(), ms(limit)))
                .collect(),
            turns: turns.count(),
            last_turns: turns.iter().map(|(_, one)| turn(one)).collect(),
        }
    }

    fn replay(&self, id: &str, facts: Option<&Facts>, journal: &Journal) -> Replay {
        let (waiting, lost) = match facts.map(|facts| &facts.presence) {
            Some(Presence::Away { waiting, lost, .. }) => (*waiting, *lost),
            Some(Presence::Present { .. } | Presence::Vacant) | None => (0, 0),
        };
        let replay = facts.map(|facts| facts.replay);
        let open = facts.and_then(|facts| facts.open.last().cloned());
        let last = || {
            let responses = journal
                .entries()
                .filter_map(|entry| entry.note.response.clone());
            responses.last()
        };
        Replay {
            session_id: id.to_owned(),
            response_id: open.or_else(last).map(|id| id.to_string()),
            last_user_audio_seq: self.course.audio_in,
            audio_sent_ms: facts.map_or(0, |facts| ms(facts.sent)),
            items: replay.map_or(0, |replay| replay.items),
            summary_bytes: replay.map_or(0, |replay| replay.summary),
            unanswered_audio_ms: replay.map_or(0, |replay| ms(replay.sound)),
            unanswered_events: replay.map_or(0, |replay| replay.events),
            answer_owed: replay.is_some_and(|replay| replay.owes),
            events_waiting: waiting,
            events_lost: lost,
        }
    }
}
