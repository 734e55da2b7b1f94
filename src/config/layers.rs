//! Collects what each source says of each setting: file, environment, flags, the later the
//! stronger.
//!
//! **Invariant:** whatever a source says is either taken or refused by name; nothing is ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::ConfigError;
use crate::config::setting::Setting;
use crate::config::settings::{self, SETTINGS};

/// Names the configuration file in the environment.
pub const FILE_VARIABLE: &str = "VOXLINE_CONFIG";

/// What the sources say, before any of it is understood.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file named on the command line.
    pub file: Option<PathBuf>,
    /// Variables, as `std::env::vars` has them.
    pub environment: Vec<(String, String)>,
    /// Settings given as flags: key and text.
    pub flags: Vec<(&'static str, String)>,
}

/// Who gave a setting its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// What a source said.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) texts: Vec<String>,
    pub(crate) origin: Origin,
}

/// The strongest word on each setting.
pub(crate) type Entries = BTreeMap<&'static str, Entry>;

pub(crate) fn collect(sources: &Sources) -> Result<Entries, ConfigError> {
    let mut entries = Entries::new();
    let named = sources
        .environment
        .iter()
        .find(|(name, _)| name == FILE_VARIABLE)
        .map(|(_, path)| PathBuf::from(path));
    if let Some(path) = sources.file.clone().or(named) {
        read_file(&path, &mut entries)?;
    }
    read_environment(&sources.environment, &mut entries)?;
    for (key, text) in &sources.flags {
        let origin = Origin::Flag(key.replace(['.', '_'], "-"));
        let texts = vec![text.clone()];
        entries.insert(key, Entry { texts, origin });
    }
    Ok(entries)
}

fn read_file(path: &Path, entries: &mut Entries) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Malformed {
        path: path.to_owned(),
        line: line_of(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let origin = |offset| Origin::File {
        path: path.to_owned(),
        line: line_of(offset),
    };
    read_table("", table.get_ref(), &origin, entries)
}

fn read_table(
    prefix: &str,
    table: &DeTable<'_>,
    origin: &dyn Fn(usize) -> Origin,
    entries: &mut Entries,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        let origin_here = origin(name.span().start);
        if let Some(setting) = settings::find(&key) {
            let texts = read_value(setting, value, &origin_here)?;
            let origin = origin_here;
            entries.insert(setting.key, Entry { texts, origin });
            continue;
        }
        let inner = format!("{key}.");
        let is_section = SETTINGS
            .iter()
            .any(|setting| setting.key.starts_with(&inner));
        match value.get_ref() {
            DeValue::Table(table) if is_section || !table.is_empty() => {
                // Whatever an unknown section holds is refused by its whole name.
                read_table(&inner, table, origin, entries)?;
            }
            DeValue::Table(_)
            | DeValue::Array(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => return Err(unknown_key(key, origin_here, is_section)),
        }
    }
    Ok(())
}

fn read_value(
    setting: &Setting,
    value: &Spanned<DeValue<'_>>,
    origin: &Origin,
) -> Result<Vec<String>, ConfigError> {
    let texts: Option<Vec<String>> = match value.get_ref().as_array() {
        Some(values) if is_list(setting) => {
            values.iter().map(|value| scalar(value.get_ref())).collect()
        }
        Some(_) | None => scalar(value.get_ref()).map(|text| vec![text]),
    };
    texts.ok_or_else(|| ConfigError::Invalid {
        origin: origin.clone(),
        key: setting.key,
        message: format!("must be one value: {}", setting.value),
    })
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn read_environment(
    environment: &[(String, String)],
    entries: &mut Entries,
) -> Result<(), ConfigError> {
    for (name, text) in environment {
        let setting = SETTINGS.iter().find(|setting| setting.variable() == *name);
        let Some(setting) = setting else {
            if name.starts_with("VOXLINE_") && name != FILE_VARIABLE {
                return Err(unknown_variable(name));
            }
            continue;
        };
        // An empty variable is how a script or a container file says "not set".
        if text.is_empty() {
            continue;
        }
        let texts = if is_list(setting) {
            text.split(',').map(|item| item.trim().to_owned()).collect()
        } else {
            vec![text.clone()]
        };
        let origin = Origin::Variable(name.clone());
        entries.insert(setting.key, Entry { texts, origin });
    }
    Ok(())
}

fn is_list(setting: &Setting) -> bool {
    setting.value.ends_with("...]")
}

fn unknown_key(key: String, origin: Origin, is_section: bool) -> ConfigError {
    let hint = if is_section {
        format!("it is a section; write [{key}] and its keys below")
    } else {
        nearest(&key, SETTINGS.iter().map(|setting| setting.key.to_owned()))
    };
    ConfigError::Unknown {
        origin,
        what: "key",
        name: key,
        hint,
    }
}

fn unknown_variable(name: &str) -> ConfigError {
    let known = SETTINGS.iter().map(Setting::variable);
    ConfigError::Unknown {
        origin: Origin::Variable("the environment".to_owned()),
        what: "variable",
        name: name.to_owned(),
        hint: nearest(name, known.chain([FILE_VARIABLE.to_owned()])),
    }
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    let nearest = known
        .map(|known| (strsim::jaro_winkler(name, &known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => "`voxline config` lists all settings".to_owned(),
    }
}
