//! Counts what happens.
//!
//! **Invariant:** no label of a counter has more than [`VALUES`] values, whoever chooses them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::latency::budget::Verdict;
use crate::core::latency::{Hop, TurnTrace};
use crate::core::port::{Received, Source, Usage};
use crate::core::tally::{Ledger, Tally};
use crate::telemetry::prometheus::{head, labels};

/// Something that is counted, as Prometheus shows it.
#[derive(Debug)]
pub struct Counter {
    pub name: &'static str,
    pub help: &'static str,
    /// What its values are told apart by.
    pub labels: &'static [&'static str],
}

/// How many values a counter may have; all others count as `other`.
const VALUES: usize = 64;

const RENEWALS: Counter = Counter {
    name: "voxline_token_renewals_total",
    help: "Clients that hold a renewed token, by in-band rotation or their own fetch.",
    labels: &[],
};
const ROTATE_FAIL: Counter = Counter {
    name: "session_rotate_fail_total",
    help: "Tokens that expired before their client took the next one.",
    labels: &[],
};
const PARKED: Counter = Counter {
    name: "voxline_sessions_parked_total",
    help: "Sessions that lost their client and waited for it.",
    labels: &[],
};
const RESUMED: Counter = Counter {
    name: "voxline_sessions_resumed_total",
    help: "Parked sessions whose client came back.",
    labels: &[],
};
const ABANDONED: Counter = Counter {
    name: "voxline_sessions_abandoned_total",
    help: "Parked sessions that ended without their client.",
    labels: &[],
};
const CUTS: Counter = Counter {
    name: "voxline_cuts_total",
    help: "Answers that were cut, by how it was known what was heard of them.",
    labels: &["source"],
};
const PAUSES: Counter = Counter {
    name: "voxline_pauses_total",
    help: "Answers that were paused on the relay's own word that the person speaks.",
    labels: &[],
};
const FALSE_ALARMS: Counter = Counter {
    name: "voxline_false_alarms_total",
    help: "Pauses that the provider did not confirm: the answer sounded on.",
    labels: &[],
};
const LINKS_LOST: Counter = Counter {
    name: "voxline_provider_links_lost_total",
    help: "Links to the provider that were lost while their conversation went on, by reason.",
    labels: &["reason"],
};
const LINKS_RESTORED: Counter = Counter {
    name: "voxline_provider_links_restored_total",
    help: "Lost links that another one has replaced.",
    labels: &[],
};
const LINKS_ROLLED_OVER: Counter = Counter {
    name: "voxline_provider_links_rolled_over_total",
    help: "Links that were replaced before the provider's session reached its greatest length.",
    labels: &[],
};
const LINKS_GIVEN_UP: Counter = Counter {
    name: "voxline_provider_links_given_up_total",
    help: "Conversations that ended because no other link could be had in time.",
    labels: &[],
};
const PROVIDER_TOKENS: Counter = Counter {
    name: "voxline_provider_tokens_total",
    help: "Tokens that providers bill for; `input_cached` is part of the other inputs.",
    labels: &["kind"],
};

const INTERRUPTIONS: Counter = Counter {
    name: "voxline_interruptions_total",
    help: "Answers that were to end before their time, since the person spoke or the client asked.",
    labels: &[],
};
const INTERRUPTIONS_FAILED: Counter = Counter {
    name: "voxline_interruptions_failed_total",
    help: "Interruptions that the provider did not confirm in time.",
    labels: &[],
};
/// By `way`: `up` is a microphone's sound, as the relay receives it over WebRTC; `down` that of answers, as
/// clients report.
const SOUND_PACKETS: Counter = Counter {
    name: "voxline_sound_packets_total",
    help: "Packets of sound that were received, `up` by the relay, `down` by clients that report it.",
    labels: &["way"],
};
const SOUND_PACKETS_LOST: Counter = Counter {
    name: "voxline_sound_packets_lost_total",
    help: "Packets of sound that were not received, or too late.",
    labels: &["way"],
};
const SOUND_SAMPLES: Counter = Counter {
    name: "voxline_sound_samples_total",
    help: "Samples of sound that were played (`down`) or passed on (`up`).",
    labels: &["way"],
};
const SOUND_SAMPLES_CONCEALED: Counter = Counter {
    name: "voxline_sound_samples_concealed_total",
    help: "Samples of those that were made up, since theirs were not there.",
    labels: &["way"],
};
const TURNS: Counter = Counter {
    name: "voxline_turns_total",
    help: "Turns that were answered.",
    labels: &["provider", "transport"],
};
const TURNS_OVER_BUDGET: Counter = Counter {
    name: "voxline_turns_over_budget_total",
    help: "Answered turns that broke the latency budget, by the hop that is to blame.",
    labels: &["hop"],
};

/// What has happened since the start.
#[derive(Debug)]
pub struct Counters(Mutex<BTreeMap<&'static str, Family>>);

/// A counter's values, by those of its labels.
#[derive(Debug)]
struct Family {
    counter: &'static Counter,
    values: BTreeMap<Vec<String>, u64>,
}

impl Counters {
    /// Starts all at zero: sessions' own counters, and these.
    pub fn new(others: &[&'static Counter]) -> Self {
        let own = [
            &RENEWALS,
            &ROTATE_FAIL,
            &PARKED,
            &RESUMED,
            &ABANDONED,
            &PAUSES,
            &FALSE_ALARMS,
            &LINKS_LOST,
            &LINKS_RESTORED,
            &LINKS_ROLLED_OVER,
            &LINKS_GIVEN_UP,
            &INTERRUPTIONS,
            &INTERRUPTIONS_FAILED,
            &TURNS,
        ];
        let counters = Self(Mutex::default());
        for counter in own.iter().chain(others) {
            match counter.labels {
                [] => counters.add(counter, &[], 0),
                _ => counters.family(counter, |_| {}),
            }
        }
        for hop in Hop::ALL {
            counters.add(&TURNS_OVER_BUDGET, &[hop.name()], 0);
        }
        counters.sound("up", Received::default());
        counters.sound("down", Received::default());
        counters.used(Usage::default());
        counters.cut(Source::Reported, 0);
        counters.cut(Source::Estimated, 0);
        counters
    }

    /// Returns where sessions put what they count.
    pub fn ledger(self: &Arc<Self>) -> Ledger {
        let counters = Arc::clone(self);
        Arc::new(move |tally| counters.count(tally))
    }

    /// Counts an answered turn.
    pub fn turn(&self, turn: &TurnTrace, verdict: &Verdict, provider: &str) {
        self.add(&TURNS, &[provider, turn.transport.name()], 1);
        if let Some(breach) = verdict.breach {
            self.add(&TURNS_OVER_BUDGET, &[breach.hop.name()], 1);
        }
    }

    /// Adds to a counter; `values` are those of its labels.
    pub fn add(&self, counter: &'static Counter, values: &[&str], more: u64) {
        debug_assert_eq!(values.len(), counter.labels.len(), "{}", counter.name);
        self.family(counter, |counts| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            let is_full = counts.len() >= VALUES && !counts.contains_key(&values);
            let values = if is_full {
                vec!["other".to_owned(); values.len()]
            } else {
                values
            };
            *counts.entry(values).or_default() += more;
        });
    }

    /// Returns what a counter has come to, whatever its labels; zero if there is none of this name.
    pub fn total(&self, name: &str) -> u64 {
        let families = self.lock();

        families
            .get(name)
            .map_or(0, |family| family.values.values().sum())
    }

    /// Returns all counters in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let mut page = String::new();
        for Family { counter, values } in self.lock().values() {
            let name = counter.name;
            head(&mut page, name, counter.help, "counter");
            for (values, count) in values {
                let names = counter.labels.iter().copied();
                let pairs: Vec<_> = names.zip(values.iter().map(String::as_str)).collect();
                let _ = match labels(&pairs).as_str() {
                    "" => writeln!(page, "{name} {count}"),
                    labels => writeln!(page, "{name}{{{labels}}} {count}"),
                };
            }
        }
        page
    }

    fn count(&self, tally: Tally) {
        match tally {
            Tally::Rotated => self.add(&RENEWALS, &[], 1),
            Tally::RotationFailed => self.add(&ROTATE_FAIL, &[], 1),
            Tally::Parked => self.add(&PARKED, &[], 1),
            Tally::Resumed => self.add(&RESUMED, &[], 1),
            Tally::Abandoned => self.add(&ABANDONED, &[], 1),
            Tally::Cut(source) => self.cut(source, 1),
            Tally::Paused => self.add(&PAUSES, &[], 1),
            Tally::FalseAlarm => self.add(&FALSE_ALARMS, &[], 1),
            Tally::LinkLost(reason) => self.add(&LINKS_LOST, &[reason.name()], 1),
            Tally::LinkRestored(_) => self.add(&LINKS_RESTORED, &[], 1),
            Tally::RolledOver => self.add(&LINKS_ROLLED_OVER, &[], 1),
            Tally::LinkGivenUp => self.add(&LINKS_GIVEN_UP, &[], 1),
            Tally::Received(received) => self.sound("down", received),
            Tally::Arrived(received) => self.sound("up", received),
            Tally::Interrupted => self.add(&INTERRUPTIONS, &[], 1),
            Tally::InterruptionUnconfirmed => self.add(&INTERRUPTIONS_FAILED, &[], 1),
            Tally::Used(usage) => self.used(usage),
        }
    }

    fn cut(&self, source: Source, more: u64) {
        self.add(&CUTS, &[source.name()], more);
    }

    fn sound(&self, way: &str, received: Received) {
        let Received {
            packets,
            lost,
            samples,
            concealed,
        } = received;
        for (counter, more) in [
            (&SOUND_PACKETS, packets),
            (&SOUND_PACKETS_LOST, lost),
            (&SOUND_SAMPLES, samples),
            (&SOUND_SAMPLES_CONCEALED, concealed),
        ] {
            self.add(counter, &[way], more);
        }
    }

    fn used(&self, usage: Usage) {
        let Usage {
            input_text,
            input_audio,
            input_cached,
            output_text,
            output_audio,
        } = usage;
        for (kind, tokens) in [
            ("input_text", input_text),
            ("input_audio", input_audio),
            ("input_cached", input_cached),
            ("output_text", output_text),
            ("output_audio", output_audio),
        ] {
            self.add(&PROVIDER_TOKENS, &[kind], tokens);
        }
    }

    fn family(
        &self,
        counter: &'static Counter,
        change: impl FnOnce(&mut BTreeMap<Vec<String>, u64>),
    ) {
        let mut families = self.lock();
        let family = families.entry(counter.name).or_insert_with(|| Family {
            counter,
            values: BTreeMap::new(),
        });
        change(&mut family.values);
    }

    /// Counts are whole after every call, whoever panicked while holding the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_there_before_anything_happens() {
        let page = Counters::new(&[]).prometheus();
        for line in [
            "# TYPE session_rotate_fail_total counter",
            "session_rotate_fail_total 0",
            "voxline_token_renewals_total 0",
            "voxline_sessions_parked_total 0",
            "voxline_sessions_resumed_total 0",
            "voxline_sessions_abandoned_total 0",
            "voxline_pauses_total 0",
            "voxline_interruptions_total 0",
            "voxline_interruptions_failed_total 0",
            "voxline_turns_over_budget_total{hop=\"inference\"} 0",
            "voxline_sound_samples_concealed_total{way=\"down\"} 0",
            "voxline_false_alarms_total 0",
            "voxline_cuts_total{source=\"reported\"} 0",
            "voxline_provider_tokens_total{kind=\"input_cached\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn what_sessions_tell_is_counted() {
        let counters = Arc::new(Counters::new(&[]));
        let tell = counters.ledger();
        tell(Tally::RotationFailed);
        tell(Tally::RotationFailed);
        let usage = Usage {
            output_audio: 7,
            ..Usage::default()
        };
        tell(Tally::Used(usage));
        tell(Tally::Used(usage));
        let page = counters.prometheus();
        assert!(page.contains("\nsession_rotate_fail_total 2\n"), "{page}");
        let spoken = "voxline_provider_tokens_total{kind=\"output_audio\"} 14\n";
        assert!(page.contains(spoken), "{page}");
    }

    #[test]
    fn a_label_has_a_bounded_number_of_values() {
        const SEEN: Counter = Counter {
            name: "seen_total",
            help: "Things seen.",
            labels: &["thing"],
        };
        let counters = Counters::new(&[&SEEN]);
        for thing in 0..1_000 {
            counters.add(&SEEN, &[&format!("a \"{thing}\"")], 1);
        }
        let page = counters.prometheus();
        let lines = page.lines().filter(|line| line.starts_with("seen_total"));
        assert_eq!(lines.count(), VALUES + 1);
        assert!(
            page.contains("seen_total{thing=\"a \\\"7\\\"\"} 1\n"),
            "{page}"
        );
        assert!(page.contains("seen_total{thing=\"other\"} 936\n"), "{page}");
    }
}
