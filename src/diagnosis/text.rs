//! A report for people to read.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::core::latency::Hop;
use crate::diagnosis::events::Event;
use crate::diagnosis::report::{Budget, Report};
use crate::diagnosis::rules::{Finding, Level, Step, headline};

/// How many events are shown; all of them are in the JSON.
const EVENTS: usize = 60;

impl Report {
    /// Writes it all down, what is wrong first.
    pub fn to_text(&self) -> String {
        let mut page = String::new();
        if let Some(found) = headline(&self.diagnosis) {
            let _ = writeln!(page, "{}: {}", self.id, found.says);
        }
        let status = match &self.close_reason {
            Some(reason) => format!("{} ({reason})", self.status.name()),
            None => self.status.name().replace('_', " "),
        };
        let _ = writeln!(page, "{status} after {}", seconds(self.lasted_ms));
        for (number, step) in (1..).zip(Step::ALL) {
            let found: Vec<_> = self.found_at(step).collect();
            let level = found.iter().map(|found| found.level).max();
            let _ = writeln!(
                page,
                "\n{number} {:<14} {}",
                step.name(),
                level.unwrap_or(Level::Ok).name()
            );
            for finding in found {
                let _ = writeln!(page, "    {}", finding.says);
                if !finding.advice.is_empty() {
                    let _ = writeln!(page, "      do: {}", finding.advice);
                }
            }
            for (name, value) in self.lines_of(step) {
                let _ = writeln!(page, "    {name:<20} {value}");
            }
        }
        self.write_events(&mut page);

        page
    }

    fn found_at(&self, step: Step) -> impl Iterator<Item = &Finding> {
        let found = self.diagnosis.iter();
        found.filter(move |found| found.step == step)
    }

    fn lines_of(&self, step: Step) -> Vec<(&'static str, String)> {
        match step {
            Step::Auth => self.auth_lines(),
            Step::Connectivity => self.connectivity_lines(),
            Step::StateMachine => self.state_lines(),
            Step::Budget => self.budget_lines(),
            Step::Replay => self.replay_lines(),
        }
    }

    fn auth_lines(&self) -> Vec<(&'static str, String)> {
        let auth = &self.auth;
        let mut credential = auth.credential.clone();
        append(&mut credential, "expires in", auth.expires_in_ms);
        append(&mut credential, "renewed in", auth.renewed_in_ms);
        let mut renewals = format!("{} taken, {} failed", auth.rotations, auth.rotations_failed);
        if let Some(step) = &auth.last_renewal_step {
            let _ = write!(renewals, "; last step {step}");
            append(&mut renewals, "ago", auth.last_renewal_step_ago_ms);
        }
        vec![
            ("tenant", auth.tenant.clone()),
            ("user", or_none(auth.user.as_deref())),
            ("device", or_none(auth.device.as_deref())),
            ("credential", credential),
            ("token", or_none(auth.token_id.as_deref())),
            ("renewals", renewals),
            ("resume token", yes(auth.resume_token_issued)),
        ]
    }

    fn connectivity_lines(&self) -> Vec<(&'static str, String)> {
        let to = &self.connectivity;
        let mut client = format!("{}, over {}", to.client, to.transport);
        append(&mut client, "connected for", to.connected_for_ms);
        append(&mut client, "heard before", to.client_heard_ago_ms);
        append(&mut client, "waited for another", to.away_for_another_ms);
        let number = to.link_number.unwrap_or_default();
        let mut link = format!("{}, number {number} ({})", to.link, to.provider);
        append(&mut link, "heard before", to.provider_heard_ago_ms);
        let mut losses = format!("{}, {} of them lately", to.link_lost, to.link_lost_lately);
        if let Some(how) = &to.last_link_loss {
            let _ = write!(losses, "; last: {how}");
        }
        vec![
            ("client", client),
            (
                "voxline.v1",
                to.extended.map_or_else(|| "-".to_owned(), yes),
            ),
            (
                "client lost",
                format!(
                    "{} lately; came back or was replaced {} times",
                    to.client_lost_lately, to.attached
                ),
            ),
            ("provider's link", link),
            ("links lost", losses),
        ]
    }

    fn state_lines(&self) -> Vec<(&'static str, String)> {
        let machine = &self.state_machine;
        let mut state = machine.state.clone().unwrap_or_else(|| "closed".to_owned());
        append(&mut state, "since", machine.since_ms);
        let mut next = or_none(machine.next_deadline.as_deref());
        append(&mut next, "in", machine.next_deadline_in_ms);
        let states: Vec<_> = machine
            .transitions
            .iter()
            .map(|(at, state)| format!("{state} at {}", seconds(*at)))
            .collect();
        let sound = match (machine.person_speaks, machine.assistant_sounds) {
            (false, false) => "nobody is heard",
            (true, false) => "the person speaks",
            (false, true) => "the assistant sounds",
            (true, true) => "both are heard",
        };
        vec![
            ("state", state),
            ("sound", sound.to_owned()),
            ("next", next),
            ("states", listed(&states)),
            ("open responses", listed(&machine.open_responses)),
            ("cancelling", listed(&machine.cancelling)),
            ("interruptions", machine.interruptions.to_string()),
            ("last fault", or_none(machine.last_fault.as_deref())),
            ("provider's errors", {
                let last = or_none(machine.last_provider_error.as_deref());
                format!("{}; last: {last}", machine.provider_errors)
            }),
        ]
    }

    fn budget_lines(&self) -> Vec<(&'static str, String)> {
        let Budget {
            limits_ms,
            turns,
            last_turns,
        } = &self.budget;
        let last_turns = last_turns.iter().map(|turn| {
            let broken = turn.broken_by.as_ref();
            let broken = broken.map_or_else(String::new, |hop| format!(", too late for {hop}"));
            let parts = format!(
                "turn {}: {} = {} ms{broken}",
                turn.turn,
                in_order(&turn.hops_ms, " + "),
                turn.total_ms
            );
            ("", parts)
        });
        let end_to_end = limits_ms.get("end_to_end").copied().unwrap_or_default();
        let budget = format!("{}, end to end {end_to_end} ms", in_order(limits_ms, ", "));

        [("budget", budget), ("answers", turns.to_string())]
            .into_iter()
            .chain(last_turns)
            .collect()
    }

    fn replay_lines(&self) -> Vec<(&'static str, String)> {
        let replay = &self.replay;
        vec![
            ("session_id", replay.session_id.clone()),
            ("response_id", or_none(replay.response_id.as_deref())),
            (
                "last_user_audio_seq",
                replay.last_user_audio_seq.to_string(),
            ),
            ("audio sent", seconds(replay.audio_sent_ms)),
            (
                "conversation",
                format!(
                    "{} items, {} bytes of summary before them",
                    replay.items, replay.summary_bytes
                ),
            ),
            (
                "unanswered",
                format!(
                    "{} of sound, {} events, an answer owed: {}",
                    seconds(replay.unanswered_audio_ms),
                    replay.unanswered_events,
                    yes(replay.answer_owed)
                ),
            ),
            (
                "waiting for client",
                format!(
                    "{} events, {} lost",
                    replay.events_waiting, replay.events_lost
                ),
            ),
        ]
    }

    fn write_events(&self, page: &mut String) {
        let hidden = self.events.len().saturating_sub(EVENTS);
        let earlier = self.events_forgotten + hidden as u64;
        let _ = writeln!(page, "\nEvents");
        if earlier > 0 {
            let _ = writeln!(page, "    ... {earlier} earlier");
        }
        for event in &self.events[hidden..] {
            let _ = writeln!(page, "    {}", line(event));
        }
    }
}

/// The hops that are known, in the order in which they follow each other.
fn in_order(hops_ms: &BTreeMap<String, u64>, between: &str) -> String {
    let hops = Hop::ALL.map(Hop::name);
    let known = hops
        .iter()
        .filter_map(|hop| Some((hop, hops_ms.get(*hop)?)));
    let known: Vec<_> = known.map(|(hop, ms)| format!("{hop} {ms}")).collect();

    known.join(between)
}

fn line(event: &Event) -> String {
    let way = format!("{} → {}", event.from, event.to);
    let mut line = format!(
        "{:>10}  {way:<19} {}",
        seconds_exact(event.at_ms),
        event.kind
    );
    if event.count > 1 {
        let _ = write!(line, " ×{}", event.count);
    }
    if let Some(until) = event.until_ms {
        let _ = write!(line, " until {}", seconds_exact(until));
    }
    if let Some(detail) = &event.detail {
        let _ = write!(line, " {detail}");
    }
    if event.length_ms > 0 {
        let _ = write!(line, " {} ms", event.length_ms);
    }
    if event.bytes > 0 {
        let _ = write!(line, " {} B", event.bytes);
    }
    for id in [&event.response_id, &event.item_id].into_iter().flatten() {
        let _ = write!(line, " {id}");
    }
    if event.count > 1 && event.passed_on > 0 && event.passed_on < u64::from(event.count) {
        let _ = write!(line, " ({} passed on)", event.passed_on);
    }

    line
}

fn append(text: &mut String, name: &str, millis: Option<u64>) {
    let Some(millis) = millis else {
        return;
    };
    let span = seconds(millis);
    let _ = match name {
        "ago" => write!(text, ", {span} ago"),
        "heard before" => write!(text, ", heard {span} ago"),
        _ => write!(text, ", {name} {span}"),
    };
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

fn seconds_exact(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

fn or_none(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn listed(texts: &[String]) -> String {
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(", ")
    }
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}
