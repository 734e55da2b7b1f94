//! What is written about metrics, against the page of a relay that runs: the document, the alert rules and
//! the dashboard name what there is, and all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::time::timeout;

use voxline::sim::Act;

use crate::harness::{BEARER, MODEL, PATIENCE, Relay};
use crate::otlp::say_something;

/// Labels that Prometheus adds by itself.
const ADDED: [&str; 3] = ["instance", "job", "le"];

#[tokio::test]
async fn every_family_is_on_the_page_from_the_start_and_in_the_document() {
    let relay = Relay::start(&[]).await;
    let page = Page::of(&relay).await;
    let document = Document::read();
    let types = |families: &BTreeMap<String, Family>| -> BTreeMap<String, String> {
        let pairs = families.iter();
        pairs
            .map(|(name, family)| (name.clone(), family.kind.clone()))
            .collect()
    };
    assert_eq!(types(&page.families), types(&document.families));
    for (name, family) in &page.families {
        assert!(family.has_help, "{name} says what it is for");
    }
}

#[tokio::test]
async fn the_labels_of_a_relay_that_was_used_are_in_the_document() {
    let mut tools = NamedTempFile::new().unwrap();
    let tool = "hosts = [\"127.0.0.1\"]\nnetworks = [\"127.0.0.1\"]\n\
                [tool.weather]\ndescription = \"d\"\nurl = \"http://127.0.0.1:1/\"\n";
    tools.write_all(tool.as_bytes()).unwrap();
    let relay = Relay::start(&[
        ("tools", tools.path().to_str().unwrap()),
        ("sim.agent", "tone"),
        ("sim.call", "1:weather"),
    ])
    .await;
    let headers = [
        ("sec-websocket-protocol", "voxline.v1, voxline.playout"),
        ("authorization", BEARER),
    ];
    let query = format!("?model={MODEL}");
    let mut client = relay.connect_with(&query, &headers).await.unwrap();
    client.event_of("session.created").await;
    say_something(&mut client).await;
    client.event_of("response.created").await;
    client.send(json!({"type": "response.create"})).await;
    // Until then the line is not there.
    let turns = "voxline_turns_total{provider=\"embedded\",transport=\"websocket\"} 1\n";
    let told = async {
        while !Page::of(&relay).await.text.contains(turns) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("a turn is told");
    // A link that is lost has a reason.
    relay.sim.act(&Act::Reset);
    relay
        .until("voxline_provider_links_restored_total", 1)
        .await;

    let page = Page::of(&relay).await;
    let document = Document::read();
    let mut seen = BTreeSet::new();
    for (name, family) in &page.families {
        let described = &document.families[name];
        for (label, values) in &family.labels {
            if ADDED.contains(&label.as_str()) {
                continue;
            }
            assert!(described.labels.contains_key(label), "{name}: `{label}`");
            seen.insert((name.clone(), label.clone()));
            let Some(known) = document.values(name, label) else {
                continue;
            };
            for value in values {
                assert!(known.contains(value), "{name}: `{label}` is `{value}`");
            }
        }
    }
    let written = document.families.iter().flat_map(|(name, family)| {
        let labels = family.labels.keys();
        labels.map(|label| (name.clone(), label.clone()))
    });
    let labels = |pairs: BTreeSet<(String, String)>| -> BTreeSet<String> {
        pairs.into_iter().map(|(_, label)| label).collect()
    };
    let unseen = written.filter(|(name, _)| !page.families[name].labels.is_empty());
    assert_eq!(
        labels(unseen.collect()),
        labels(seen),
        "no label is only written"
    );

    // For `promtool check metrics`.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.txt");
    fs::write(path, page.text).unwrap();
}

#[test]
fn the_alert_rules_ask_for_what_there_is() {
    let rules = read("docs/prometheus/alerts.yml");
    let recorded: BTreeSet<_> = after(&rules, "record: ").collect();
    let document = Document::read();
    let asked = asked(&rules);
    assert!(asked.len() > 10, "{asked:?}");
    for query in &asked {
        if !recorded.contains(query.name.as_str()) {
            document.check(query);
        }
    }
    // And each alert is tested.
    let tests = read("docs/prometheus/alerts.test.yml");
    let alerts: BTreeSet<_> = after(&rules, "alert: ").collect();
    let tested: BTreeSet<_> = after(&tests, "alertname: ").collect();
    assert_eq!(alerts, tested);
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(&read("docs/grafana/dashboard.json")).unwrap();
    assert_eq!(dashboard["uid"], "voxline-latency");
    let mut texts = vec![];
    strings(&dashboard, &mut texts);
    let document = Document::read();
    let asked = asked(&texts.join("\n"));
    for query in &asked {
        document.check(query);
    }
    let shown: BTreeSet<_> = asked
        .iter()
        .map(|query| document.family(&query.name))
        .collect();
    for name in document.families.keys() {
        assert!(shown.contains(name), "{name} is on no panel");
    }
    let ids = dashboard["panels"].as_array().unwrap().iter();
    let ids: BTreeSet<_> = ids.map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), dashboard["panels"].as_array().unwrap().len());
}

#[test]
fn every_metric_that_a_document_names_exists() {
    let document = Document::read();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let files = fs::read_dir(docs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for query in asked(&text) {
            // `voxline_provider_links_*` is all that begin so.
            let mut names = document.families.keys();
            let begins = |name: &String| name.starts_with(&query.name);
            let exists = match query.name.ends_with('_') {
                true => names.any(begins),
                false => document
                    .families
                    .contains_key(&document.family(&query.name)),
            };
            assert!(exists, "{}: {}", page.display(), query.name);
        }
    }
}

#[test]
fn every_runbook_is_a_chapter() {
    let rules = read("docs/prometheus/alerts.yml");
    let runbooks: BTreeSet<_> = after(&rules, "runbook: ").collect();
    assert!(runbooks.len() > 3, "{runbooks:?}");
    for runbook in runbooks {
        let (file, anchor) = runbook.split_once('#').unwrap();
        let chapters = read(file);
        let titles = chapters.lines().filter_map(|line| line.strip_prefix('#'));
        let mut anchors = titles.map(|title| {
            let title = title.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || "- _".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        });
        assert!(anchors.any(|found| found == anchor), "{runbook}");
    }
}

/// A family of metrics, as the page or the document has it.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    has_help: bool,
    /// With the values that were seen.
    labels: BTreeMap<String, BTreeSet<String>>,
}

struct Page {
    text: String,
    families: BTreeMap<String, Family>,
}

impl Page {
    async fn of(relay: &Relay) -> Self {
        let page = reqwest::get(relay.url("/metrics")).await.unwrap();
        Self::parse(page.text().await.unwrap())
    }

    fn parse(text: String) -> Self {
        let mut families = BTreeMap::<String, Family>::new();
        let mut last = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, _) = help.split_once(' ').unwrap();
                families.entry(name.to_owned()).or_default().has_help = true;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                let family = families.entry(name.to_owned()).or_default();
                assert_eq!(family.kind, "", "{name} is on the page once");
                family.kind = kind.to_owned();
                name.clone_into(&mut last);
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let name = sample.split('{').next().unwrap();
                let family = families.get_mut(&last).unwrap();
                let rest = name
                    .strip_prefix(&last)
                    .expect("samples follow their family");
                let is_histogram = family.kind == "histogram";
                assert!(rest.is_empty() != is_histogram, "{line}");
                for (label, value) in labels(sample) {
                    family.labels.entry(label).or_default().insert(value);
                }
            }
        }
        Self { text, families }
    }
}

/// `docs/METRICS.md`
struct Document {
    families: BTreeMap<String, Family>,
    /// By label, and the family that it is only meant of.
    values: BTreeMap<(String, Option<String>), Option<BTreeSet<String>>>,
}

impl Document {
    fn read() -> Self {
        let text = read("docs/METRICS.md");
        let (mut families, mut values) = (BTreeMap::new(), BTreeMap::new());
        let mut is_label = false;
        for line in text.lines() {
            if line.starts_with("## ") {
                is_label = line == "## Labels";
            }
            let Some(row) = line.strip_prefix("| `") else {
                continue;
            };
            let cells: Vec<_> = row.split(" | ").collect();
            let named: Vec<_> = cells[0].split('`').step_by(2).collect();
            if is_label {
                let (label, of) = (cells[0].split('`').next().unwrap(), named.get(1));
                let of = of
                    .and_then(|_| cells[0].split('`').nth(2))
                    .map(str::to_owned);
                let known = cells[1].split('`').skip(1).step_by(2).map(str::to_owned);
                let known = (!cells[1].starts_with("any")).then(|| known.collect());
                values.insert((label.to_owned(), of), known);
            } else {
                let name = cells[0].trim_end_matches('`').to_owned();
                let labels = cells[2].split('`').skip(1).step_by(2);
                let family = Family {
                    kind: cells[1].to_owned(),
                    has_help: true,
                    labels: labels
                        .map(|label| (label.to_owned(), BTreeSet::new()))
                        .collect(),
                };
                assert!(
                    families.insert(name.clone(), family).is_none(),
                    "{name} twice"
                );
            }
        }
        Self { families, values }
    }

    /// The values that a label may have; `None` if it may have any.
    fn values(&self, family: &str, label: &str) -> Option<&BTreeSet<String>> {
        let special = (label.to_owned(), Some(family.to_owned()));
        let general = (label.to_owned(), None);
        let known = self
            .values
            .get(&special)
            .or_else(|| self.values.get(&general));
        known
            .unwrap_or_else(|| panic!("{family}: `{label}` has no values"))
            .as_ref()
    }

    /// The family that a sample is of.
    fn family(&self, name: &str) -> String {
        let parts = ["_bucket", "_sum", "_count"].map(|part| name.strip_suffix(part));
        let family = parts.into_iter().flatten().find(|family| {
            let family = self.families.get(*family);
            family.is_some_and(|family| family.kind == "histogram")
        });
        family.unwrap_or(name).to_owned()
    }

    /// Asserts that this can be asked.
    fn check(&self, query: &Query) {
        let family = self.family(&query.name);
        let known = self.families.get(&family);
        let known = known.unwrap_or_else(|| panic!("there is no {}", query.name));
        let is_histogram = known.kind == "histogram";
        assert_eq!(is_histogram, family != query.name, "{}", query.name);
        for (label, value) in &query.labels {
            let is_known = ADDED.contains(&label.as_str()) || known.labels.contains_key(label);
            assert!(is_known, "{}: `{label}`", query.name);
            // Not a pattern, nor a variable.
            let is_plain = value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if is_plain
                && !ADDED.contains(&label.as_str())
                && let Some(known) = self.values(&family, label)
            {
                assert!(known.contains(value), "{}: {label}={value}", query.name);
            }
        }
    }
}

/// What an expression asks for.
#[derive(Debug)]
struct Query {
    name: String,
    labels: Vec<(String, String)>,
}

/// Finds all metrics of the relay's in expressions.
fn asked(text: &str) -> Vec<Query> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = vec![];
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (name, more) = rest.split_at(end);
        rest = more;
        if ["voxline_", "session_rotate", "job:"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            let selector = more.strip_prefix('{').and_then(|more| more.split_once('}'));
            let selector = selector.map(|(inside, _)| labels(&format!("{{{inside}}}")));
            found.push(Query {
                name: name.trim_end_matches(':').to_owned(),
                labels: selector.unwrap_or_default(),
            });
        }
    }
    found.retain(|query| query.name != "job");
    found
}

/// Reads `{label="value",...}`, whatever stands between label and value.
fn labels(sample: &str) -> Vec<(String, String)> {
    let Some((_, inside)) = sample.split_once('{') else {
        return vec![];
    };
    let mut quoted = inside.split('"');
    let mut found = vec![];
    while let (Some(label), Some(value)) = (quoted.next(), quoted.next()) {
        let label = label.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        found.push((label.to_owned(), value.to_owned()));
    }
    found
}

/// What stands after this on lines that have it.
fn after<'a>(text: &'a str, key: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines();
    lines.filter_map(move |line| {
        let line = line.trim_start().trim_start_matches("- ");
        line.strip_prefix(key).map(str::trim)
    })
}

fn strings<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap()
}
