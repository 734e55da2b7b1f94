//! `voxline doctor`: finds out what is wrong, with this host or with a session of a relay that
//! runs, in the order auth, connectivity, state machine, budget, replay.
//!
//! **Invariant:** no credential is printed, and nothing that people say.

mod host;
mod remote;
mod trial;

use std::fmt::Write;

use serde::Serialize;

pub use crate::doctor::remote::{Admin, RemoteError, inspect};

use crate::config::{Config, ConfigError};
use crate::diagnosis::{Finding, Level, Step};

/// What an examination of this host has found, in the order in which trouble is looked for.
#[derive(Clone, Debug, Serialize)]
pub struct Checkup {
    pub level: Level,
    pub findings: Vec<Finding>,
}

/// Examines the configuration, this host, and what the relay needs of others. Talks for some
/// seconds with the embedded provider, in this process.
pub async fn examine(config: Result<Config, ConfigError>) -> Checkup {
    let mut findings = vec![];
    match config {
        Ok(config) => {
            findings.extend(host::auth(&config));
            findings.extend(host::connectivity(&config).await);
            findings.extend(trial::run().await);
            findings.extend(host::replay(&config));
        }
        Err(error) => findings.push(Finding::new(
            Step::Auth,
            Level::Fail,
            format!("the configuration is refused: {error}"),
            "Mend that first; `voxline config` describes every setting.",
        )),
    }
    Checkup::of(findings)
}

impl Checkup {
    fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.step);
        let level = findings.iter().map(|finding| finding.level).max();

        Self {
            level: level.unwrap_or(Level::Ok),
            findings,
        }
    }

    /// Writes it down for people.
    pub fn to_text(&self) -> String {
        let count = |level| {
            self.findings
                .iter()
                .filter(|one| one.level == level)
                .count()
        };
        let (fails, warnings) = (count(Level::Fail), count(Level::Warn));
        let mut page = match (fails, warnings) {
            (0, 0) => "voxline doctor: all is well\n".to_owned(),
            (0, _) => format!("voxline doctor: it works; {warnings} to look at\n"),
            (_, _) => format!("voxline doctor: {fails} wrong, {warnings} to look at\n"),
        };
        for (number, step) in (1..).zip(Step::ALL) {
            let _ = writeln!(page, "\n{number} {}", step.name());
            for finding in self.findings.iter().filter(|one| one.step == step) {
                let _ = writeln!(page, "  {:<4}  {}", finding.level.name(), finding.says);
                if !finding.advice.is_empty() {
                    let _ = writeln!(page, "        do: {}", finding.advice);
                }
            }
        }

        page
    }
}
