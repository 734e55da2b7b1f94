//! What the facts of a session mean, and what to do about it.
//!
//! One rule looks at one thing. They are asked in the order in which trouble is looked for, since
//! what is wrong further down often follows from what is wrong further up.

use serde::{Deserialize, Serialize};

use crate::core::latency::Hop;
use crate::diagnosis::report::{Report, Status};

/// Where to look, in this order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Auth,
    Connectivity,
    StateMachine,
    Budget,
    Replay,
}

impl Step {
    pub const ALL: [Self; 5] = [
        Self::Auth,
        Self::Connectivity,
        Self::StateMachine,
        Self::Budget,
        Self::Replay,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Connectivity => "connectivity",
            Self::StateMachine => "state machine",
            Self::Budget => "budget",
            Self::Replay => "replay",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be, or of no harm.
    Ok,
    /// It hurts, or will.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// Something that is so, and what to do.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Finding {
    pub step: Step,
    pub level: Level,
    /// What is so: a sentence without its stop.
    pub says: String,
    /// What to do; empty where there is nothing to be done.
    #[serde(rename = "do", default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    pub fn new(step: Step, level: Level, says: impl Into<String>, advice: &str) -> Self {
        Self {
            step,
            level,
            says: says.into(),
            advice: advice.to_owned(),
        }
    }
}

/// Returns the worst of what was found, and of equals the one to look at first.
pub fn headline(findings: &[Finding]) -> Option<&Finding> {
    findings
        .iter()
        .rev()
        .max_by_key(|finding| (finding.level, std::cmp::Reverse(finding.step)))
}

/// A client of which nothing has been heard for so long is not talking, in milliseconds.
const SILENT: u64 = 4_000;

/// So long without a word is long for a provider that owes an answer.
const SLOW: u64 = 4_000;

/// A link lost once may happen.
const OFTEN: usize = 2;

pub(super) fn diagnose(report: &Report) -> Vec<Finding> {
    let rules = [
        failed,
        credential,
        refused_renewal,
        revoked,
        client,
        client_losses,
        link,
        provider,
        overrun,
        recovering,
        errors,
        ending,
        budget,
        missed,
    ];
    let mut found: Vec<_> = rules.iter().filter_map(|rule| rule(report)).collect();
    found.sort_by_key(|finding| finding.step);
    if found.is_empty() {
        let says = match report.status {
            Status::Opening | Status::Running => "nothing is wrong that the relay can see",
            Status::Ended | Status::NeverBegan | Status::Failed => {
                "nothing was wrong that the relay could see"
            }
        };
        found.push(Finding::new(Step::Auth, Level::Ok, says, ""));
    }

    found
}

fn failed(report: &Report) -> Option<Finding> {
    let (step, says, advice) = match report.status {
        Status::Failed => (
            Step::StateMachine,
            "the session ended by a fault of the relay's own",
            "Read the relay's log at that time, and report the fault with the events below.",
        ),
        Status::NeverBegan => (
            Step::Connectivity,
            "the session never began: no link to the provider could be opened",
            "The client was told why. `voxline doctor` on the relay's host tries to open one.",
        ),
        Status::Running if !report.answers => (
            Step::StateMachine,
            "the session does not answer",
            "Its task is stuck, or the host is far too busy. Look at the host's load.",
        ),
        Status::Opening | Status::Running | Status::Ended => return None,
    };
    Some(Finding::new(step, Level::Fail, says, advice))
}

fn credential(report: &Report) -> Option<Finding> {
    let auth = &report.auth;
    let step = last_step(report);
    match auth.credential.as_str() {
        "expired" => Some(Finding::new(
            Step::Auth,
            Level::Warn,
            format!("the client's token expired and was not renewed{step}"),
            "The conversation goes on, but the client cannot come back for long. Does the client \
             acknowledge `voxline.token`, or fetch and present a token when told to?",
        )),
        "renewing" if auth.renewal_attempt > Some(2) => Some(Finding::new(
            Step::Auth,
            Level::Warn,
            format!(
                "the client has not taken its next token, offered {} times{step}",
                auth.renewal_attempt.unwrap_or_default()
            ),
            "Does the client handle `voxline.token` (answer: `voxline.token_ack`) or \
             `voxline.token_expiring`?",
        )),
        _ => (auth.rotations_failed > 0).then(|| {
            Finding::new(
                Step::Auth,
                Level::Warn,
                format!(
                    "{} renewals of the token failed, a later one did not",
                    auth.rotations_failed
                ),
                "Look for what was slow then: the client, its network, or your token endpoint.",
            )
        }),
    }
}

fn refused_renewal(report: &Report) -> Option<Finding> {
    let step = report.auth.last_renewal_step.as_deref()?;
    let is_refusal = step.starts_with("token_")
        || step.starts_with("insufficient_")
        || step.starts_with("invalid_");
    is_refusal.then(|| {
        Finding::new(
            Step::Auth,
            Level::Warn,
            format!("the token that the client presented was refused: `{step}`"),
            "It must be a client secret for the same tenant, user and device, and expire later.",
        )
    })
}

fn revoked(report: &Report) -> Option<Finding> {
    (report.close_reason.as_deref() == Some("revoked")).then(|| {
        Finding::new(
            Step::Auth,
            Level::Fail,
            "the session was ended by a revocation",
            "`GET /admin/revocations` lists them; `DELETE /admin/revocations/{id}` lifts one.",
        )
    })
}

fn client(report: &Report) -> Option<Finding> {
    let to = &report.connectivity;
    if report.status != Status::Running {
        return None;
    }
    if let Some(left) = to.away_for_another_ms {
        return Some(Finding::new(
            Step::Connectivity,
            Level::Warn,
            format!(
                "the client's connection is lost, and the session waits for it another {}",
                seconds(left)
            ),
            "It comes back with its resume token. Does the client try?",
        ));
    }
    let silent = to.client_heard_ago_ms.filter(|ago| *ago >= SILENT)?;
    let talked = report.replay.last_user_audio_seq > 0;
    (talked && to.client == "present").then(|| {
        Finding::new(
            Step::Connectivity,
            Level::Warn,
            format!(
                "nothing was heard from the client since {}",
                seconds(silent)
            ),
            "Its microphone is off, its page is in the background, or its network drops packets.",
        )
    })
}

fn client_losses(report: &Report) -> Option<Finding> {
    let lost = report.connectivity.client_lost_lately;
    (lost >= OFTEN).then(|| {
        Finding::new(
            Step::Connectivity,
            Level::Warn,
            format!("the client's connection was lost {lost} times within 10 min"),
            "Look at the client's network: a change between networks, a proxy that cuts long \
             connections, a firewall without the relay's UDP port.",
        )
    })
}

fn link(report: &Report) -> Option<Finding> {
    let to = &report.connectivity;
    let how = to.last_link_loss.as_deref().unwrap_or("unknown");
    if to.link_lost_lately >= OFTEN {
        return Some(Finding::new(
            Step::Connectivity,
            Level::Fail,
            format!(
                "the provider's link was lost {} times within 10 min; the last time: {how}",
                to.link_lost_lately
            ),
            "Look at the provider's status page, at its limits for your account, and at the \
             network between.",
        ));
    }
    if report.status == Status::Running && to.link == "lost" {
        return Some(Finding::new(
            Step::Connectivity,
            Level::Fail,
            format!("the provider's link is lost ({how}), and another is looked for"),
            "It is given up after `recovery.window`. `voxline doctor` on the relay's host tells \
             whether a link can be opened.",
        ));
    }
    (report.status == Status::Running && to.link == "down").then(|| {
        Finding::new(
            Step::Connectivity,
            Level::Fail,
            format!("there is no link to the provider: {how}"),
            "`voxline doctor` on the relay's host tells whether one can be opened.",
        )
    })
}

fn provider(report: &Report) -> Option<Finding> {
    let silent = report.connectivity.provider_heard_ago_ms?;
    let owes = report.state_machine.next_deadline.as_deref() == Some("answer_owed");
    (owes && silent >= SLOW).then(|| {
        Finding::new(
            Step::Connectivity,
            Level::Warn,
            format!(
                "the provider owes an answer and has said nothing since {}",
                seconds(silent)
            ),
            "It is given up after `session.thinking_timeout`.",
        )
    })
}

fn overrun(report: &Report) -> Option<Finding> {
    (report.close_reason.as_deref() == Some("overrun")).then(|| {
        Finding::new(
            Step::Connectivity,
            Level::Fail,
            "the client did not take what it was sent, and was closed",
            "Its connection is too slow for the sound, or its program does not read.",
        )
    })
}

fn recovering(report: &Report) -> Option<Finding> {
    let machine = &report.state_machine;
    let times = machine.recoveries_lately;
    (times > 0).then(|| {
        let now = machine.state.as_deref() == Some("recovering");
        let since = machine
            .since_ms
            .filter(|_| now)
            .map_or_else(String::new, |since| {
                format!(", and it is since {}", seconds(since))
            });
        Finding::new(
            Step::StateMachine,
            if now { Level::Fail } else { Level::Warn },
            format!("the session had to recover {times} times within 10 min{since}"),
            "The events before `voxline.state` `recovering` tell why: an answer that did not \
             come, one that failed, or a link that was lost.",
        )
    })
}

fn errors(report: &Report) -> Option<Finding> {
    let machine = &report.state_machine;
    let code = machine.last_provider_error.as_deref()?;
    Some(Finding::new(
        Step::StateMachine,
        Level::Warn,
        format!(
            "the provider has refused {} times; last: `{code}`",
            machine.provider_errors
        ),
        "The client was told the full message in an `error` event.",
    ))
}

fn ending(report: &Report) -> Option<Finding> {
    let (level, says, advice) = match report.close_reason.as_deref()? {
        "provider_gone" => (
            Level::Fail,
            "the session ended because the provider was gone",
            "Look at `connectivity`, and at the provider's status page.",
        ),
        "expired" => (
            Level::Warn,
            "the session ended with the provider's longest session",
            "Begin a new one.",
        ),
        "too_long" => (
            Level::Warn,
            "the session ended because it had lasted for `limits.session_length`",
            "Raise the limit, or begin a new one.",
        ),
        "idle" => (
            Level::Ok,
            "the session ended because nobody spoke for `session.idle_timeout`",
            "",
        ),
        _ => return None,
    };
    Some(Finding::new(Step::StateMachine, level, says, advice))
}

fn budget(report: &Report) -> Option<Finding> {
    let turns = &report.budget.last_turns;
    let broken = turns.iter().filter_map(|turn| turn.broken_by.as_deref());
    let broken: Vec<&str> = broken.collect();
    let worst = most_frequent(&broken)?;
    let worst_ms = turns
        .iter()
        .map(|turn| turn.total_ms)
        .max()
        .unwrap_or_default();
    let hop = Hop::ALL.into_iter().find(|hop| hop.name() == worst);
    Some(Finding::new(
        Step::Budget,
        Level::Warn,
        format!(
            "{} of the last {} answers were too late (the slowest after {worst_ms} ms), most for \
             `{}`",
            broken.len(),
            turns.len(),
            worst
        ),
        hop.map_or("", too_late),
    ))
}

/// What to do about a hop that takes too long.
fn too_late(hop: Hop) -> &'static str {
    match hop {
        Hop::Capture => {
            "The device is slow to send what it hears: look at its sound card, its driver, a \
             wireless headset."
        }
        Hop::Uplink | Hop::Downlink => {
            "The network between the client and the relay is slow: put a relay nearer to its \
             clients, and see that WebRTC is not kept from UDP."
        }
        Hop::RelayIn => {
            "Sound waited in the relay on its way to the provider: for late packets of a bad \
             network, else look at the load of the relay's host."
        }
        Hop::SilenceWait => {
            "The provider waits long to be sure that the person has stopped: lower \
             `silence_duration_ms` of `turn_detection`."
        }
        Hop::Inference => {
            "The provider is slow to answer: try a smaller model, shorter instructions, fewer \
             tools; look at its status page."
        }
        Hop::RelayOut => {
            "The answer waited in the relay, as a rule behind one that still sounded; else look \
             at the load of the relay's host."
        }
        Hop::Playback => {
            "The device is slow to play: its jitter buffer grows on a bad network; else look at \
             its sound card, a wireless headset."
        }
    }
}
fn missed(report: &Report) -> Option<Finding> {
    let lost = report.replay.events_lost;
    (lost > 0).then(|| {
        Finding::new(
            Step::Replay,
            Level::Warn,
            format!("the client is away, and has missed {lost} events more than are kept for it"),
            "When it is back it should retrieve the items that it lacks.",
        )
    })
}

/// Returns the one that is there most often; of equals the last.
fn most_frequent<'a>(names: &[&'a str]) -> Option<&'a str> {
    let count = |name: &str| names.iter().filter(|other| **other == name).count();
    names.iter().copied().max_by_key(|name| count(name))
}

fn last_step(report: &Report) -> String {
    let auth = &report.auth;
    match (&auth.last_renewal_step, auth.last_renewal_step_ago_ms) {
        (Some(step), Some(ago)) => format!(" (last step: {step}, {} ago)", seconds(ago)),
        _ => String::new(),
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::report::Turn;

    fn report() -> Report {
        Report {
            answers: true,
            ..Report::default()
        }
    }

    #[test]
    fn where_nothing_is_wrong_that_is_said() {
        let found = diagnose(&report());

        assert_eq!(found.len(), 1);
        assert_eq!(found[0].level, Level::Ok);
    }

    #[test]
    fn each_trouble_is_named_where_it_belongs() {
        type Break = fn(&mut Report);
        let cases: [(Break, Step, &str); 14] = [
            (
                |r| r.auth.credential = "expired".into(),
                Step::Auth,
                "expired and was not renewed",
            ),
            (
                |r| {
                    r.auth.credential = "renewing".into();
                    r.auth.renewal_attempt = Some(3);
                },
                Step::Auth,
                "offered 3 times",
            ),
            (
                |r| r.auth.rotations_failed = 1,
                Step::Auth,
                "1 renewals of the token failed",
            ),
            (
                |r| r.auth.last_renewal_step = Some("token_not_newer".into()),
                Step::Auth,
                "refused: `token_not_newer`",
            ),
            (
                |r| r.close_reason = Some("revoked".into()),
                Step::Auth,
                "revocation",
            ),
            (
                |r| r.connectivity.away_for_another_ms = Some(12_340),
                Step::Connectivity,
                "another 12.3 s",
            ),
            (
                |r| {
                    r.connectivity.client = "present".into();
                    r.connectivity.client_heard_ago_ms = Some(4_200);
                    r.replay.last_user_audio_seq = 1;
                },
                Step::Connectivity,
                "since 4.2 s",
            ),
            (
                |r| r.connectivity.client_lost_lately = 2,
                Step::Connectivity,
                "lost 2 times within 10 min",
            ),
            (
                |r| {
                    r.connectivity.link_lost_lately = 3;
                    r.connectivity.last_link_loss = Some("1011".into());
                },
                Step::Connectivity,
                "lost 3 times within 10 min; the last time: 1011",
            ),
            (
                |r| r.connectivity.link = "lost".into(),
                Step::Connectivity,
                "another is looked for",
            ),
            (
                |r| r.connectivity.link = "down".into(),
                Step::Connectivity,
                "no link",
            ),
            (
                |r| r.state_machine.recoveries_lately = 2,
                Step::StateMachine,
                "recover 2 times",
            ),
            (
                |r| r.status = Status::Failed,
                Step::StateMachine,
                "fault of the relay's own",
            ),
            (|r| r.replay.events_lost = 7, Step::Replay, "7 events more"),
        ];
        for (break_it, step, says) in cases {
            let mut report = report();
            break_it(&mut report);
            let found = diagnose(&report);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].step, step);
            assert!(found[0].says.contains(says), "{}", found[0].says);
            assert!(found[0].level > Level::Ok && !found[0].advice.is_empty());
        }
    }

    #[test]
    fn a_client_that_never_spoke_may_be_silent() {
        let mut report = report();
        report.connectivity.client = "present".into();
        report.connectivity.client_heard_ago_ms = Some(60_000);

        assert_eq!(diagnose(&report)[0].level, Level::Ok);
    }

    #[test]
    fn the_part_that_is_most_often_late_is_the_one_to_look_at() {
        let mut report = report();
        let turn = |broken_by: Option<&str>, total_ms| Turn {
            broken_by: broken_by.map(str::to_owned),
            total_ms,
            ..Turn::default()
        };
        report.budget.last_turns = vec![
            turn(None, 600),
            turn(Some("silence_wait"), 900),
            turn(Some("inference"), 1900),
            turn(Some("inference"), 1100),
        ];

        let found = diagnose(&report);
        assert_eq!(
            found[0].says,
            "3 of the last 4 answers were too late (the slowest after 1900 ms), most for `inference`"
        );
    }

    #[test]
    fn the_headline_is_the_worst_and_of_equals_the_first_to_look_at() {
        let of = |step, level| Finding::new(step, level, format!("{step:?}"), "");
        let found = [
            of(Step::Auth, Level::Ok),
            of(Step::Connectivity, Level::Fail),
            of(Step::StateMachine, Level::Fail),
            of(Step::Replay, Level::Warn),
        ];

        assert_eq!(
            headline(&found).map(|one| one.step),
            Some(Step::Connectivity)
        );
    }
}
