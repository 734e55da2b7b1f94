//! The file of tenants: who they are, their keys and their limits.
//!
//! **Invariants**
//! - A file is taken as a whole or refused with the line that is wrong.
//! - A key belongs to one tenant.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use crate::auth::grant::Tenant;
use crate::auth::key::KeyDigest;

/// A file of tenants as it could be, for people to read.
pub const EXAMPLE: &str = r#"[tenant.acme]
api_keys = [
    "sha256:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
]
sessions = 50
user_sessions = 2
secrets_per_minute = 600
models = ["gpt-realtime-2.1", "gpt-realtime-2.1-mini"]
"#;

/// The tenant whose keys are those of the `api_key` setting.
const DEFAULT: &str = "default";

/// The most API keys there may be, for each of which a key that is shown is compared once.
const MAX_KEYS: usize = 10_000;
const MAX_MODELS: usize = 100;

/// All tenants there are, and whose key is whose.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Tenants {
    tenants: BTreeMap<String, Arc<Tenant>>,
    keys: Vec<(KeyDigest, Arc<Tenant>)>,
}

/// What is wrong with a file of tenants, and where.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Mistake {
    pub(crate) line: Option<usize>,
    pub(crate) reason: String,
}

impl Tenants {
    /// Where there is no file: at most the tenant `default`, which has these keys.
    pub(crate) fn with_default(keys: &[KeyDigest]) -> Self {
        let mut all = Self::default();
        all.add_default(keys);
        all
    }

    /// Reads a file's text; the tenant `default` has the keys given here as well.
    pub(crate) fn parse(text: &str, default_keys: &[KeyDigest]) -> Result<Self, Mistake> {
        let mistake = |span: Option<Range<usize>>, reason: String| Mistake {
            line: span.map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1),
            reason,
        };
        let file: File = toml::from_str(text)
            .map_err(|error| mistake(error.span(), error.message().to_owned()))?;
        let mut all = Self::default();
        let mut known = HashSet::new();
        for (id, row) in file.tenant {
            let tenant = Arc::new(Tenant {
                id: id.0.clone(),
                sessions: row.sessions,
                user_sessions: row.user_sessions,
                secrets_per_minute: row.secrets_per_minute,
                models: row.models.map(|models| models.0),
            });
            for key in row.api_keys {
                let span = Some(key.span());
                let key: KeyDigest = key
                    .get_ref()
                    .parse()
                    .map_err(|error| mistake(span.clone(), format!("an API key {error}")))?;
                if !known.insert(key.clone()) {
                    return Err(mistake(span, "this key is in the file already".to_owned()));
                }
                if all.keys.len() == MAX_KEYS {
                    return Err(mistake(span, format!("more than {MAX_KEYS} keys")));
                }
                all.keys.push((key, Arc::clone(&tenant)));
            }
            all.tenants.insert(id.0, tenant);
        }
        all.add_default(default_keys);
        Ok(all)
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<Tenant>> {
        self.tenants.get(id).map(Arc::clone)
    }

    /// Tells whose key this is, in a time that does not tell.
    pub(crate) fn of_key(&self, key: &str) -> Option<Arc<Tenant>> {
        let shown = KeyDigest::of(key);
        let mut found = None;
        for (known, tenant) in &self.keys {
            if known.compare(&shown).into() {
                found = Some(tenant);
            }
        }
        found.map(Arc::clone)
    }

    pub(crate) fn len(&self) -> usize {
        self.tenants.len()
    }

    fn add_default(&mut self, keys: &[KeyDigest]) {
        if keys.is_empty() {
            return;
        }
        let tenant = self.tenants.entry(DEFAULT.to_owned()).or_insert_with(|| {
            Arc::new(Tenant {
                id: DEFAULT.to_owned(),
                ..Tenant::default()
            })
        });
        let keys = keys.iter().map(|key| (key.clone(), Arc::clone(tenant)));
        self.keys.extend(keys);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tenant: BTreeMap<Id, Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(default)]
    api_keys: Vec<Spanned<String>>,
    sessions: Option<u32>,
    user_sessions: Option<u32>,
    secrets_per_minute: Option<u32>,
    models: Option<Models>,
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = String::deserialize(deserializer)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if (1..=64).contains(&id.len()) && id.chars().all(fits) {
            return Ok(Self(id));
        }
        Err(de::Error::custom(format!(
            "a tenant's name must be 1 to 64 ASCII letters, digits, `-`, `_` or `.`, not {id:?}"
        )))
    }
}

struct Models(Vec<String>);

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let models = Vec::<String>::deserialize(deserializer)?;
        let fits = |model: &String| {
            (1..=200).contains(&model.len()) && model.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if (1..=MAX_MODELS).contains(&models.len()) && models.iter().all(fits) {
            return Ok(Self(models));
        }
        Err(de::Error::custom(format!(
            "`models` must be 1 to {MAX_MODELS} names of models; leave it out for all"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        let Mistake { line, reason } = Tenants::parse(text, &[]).unwrap_err();
        format!("{}: {reason}", line.unwrap_or_default())
    }

    #[test]
    fn the_example_is_a_file_of_tenants() {
        let tenants = Tenants::parse(EXAMPLE, &[]).unwrap();
        let acme = tenants.of_key("password").unwrap();
        assert_eq!(acme.id, "acme");
        assert_eq!(acme.sessions, Some(50));
        assert_eq!(acme.user_sessions, Some(2));
        assert_eq!(acme.secrets_per_minute, Some(600));
        assert_eq!(acme.models.as_ref().unwrap().len(), 2);
        assert!(tenants.of_key("passwork").is_none());
        assert!(tenants.find("acme").is_some() && tenants.find("default").is_none());
    }

    #[test]
    fn the_keys_of_the_setting_are_those_of_the_tenant_default() {
        let keys = [KeyDigest::of("the-key")];
        let tenants = Tenants::parse("", &keys).unwrap();
        assert_eq!(tenants.of_key("the-key").unwrap().id, "default");

        let limited = format!(
            "[tenant.default]\nsessions = 3\napi_keys = [\"{}\"]",
            KeyDigest::of("another")
        );
        let tenants = Tenants::parse(&limited, &keys).unwrap();
        for key in ["the-key", "another"] {
            assert_eq!(tenants.of_key(key).unwrap().sessions, Some(3));
        }
    }

    #[test]
    fn a_mistake_is_refused_with_its_line() {
        let key = KeyDigest::of("k");
        for (text, refusal) in [
            (
                "[tenant.a]\nsesions = 5\n",
                "2: unknown field `sesions`, expected one of",
            ),
            (
                "\n[tenants.a]\n",
                "2: unknown field `tenants`, expected `tenant`",
            ),
            (
                "[tenant.a]\nsessions = -1\n",
                "2: invalid value: integer `-1`, expected u32",
            ),
            (
                "[tenant.a]\n\nmodels = []\n",
                "3: `models` must be 1 to 100",
            ),
            (
                "[tenant.a]\nmodels = ['x y']\n",
                "2: `models` must be 1 to 100",
            ),
            ("[tenant.'a b']\n", "1: a tenant's name must be 1 to 64"),
            (
                "[tenant.a]\napi_keys = [\n'vx_1']\n",
                "3: an API key must be `sha256:`",
            ),
            ("[tenant.a]\n[tenant.a]\n", "2: duplicate key"),
            ("[tenant.a\n", "1: "),
            (
                &format!("[tenant.a]\napi_keys=['{key}']\n[tenant.b]\napi_keys=['{key}']\n"),
                "4: this key is in the file already",
            ),
        ] {
            let mistake = mistake(text);
            assert!(mistake.starts_with(refusal), "{text:?}: {mistake}");
            assert!(!mistake.contains("vx_1"), "{mistake}");
        }
    }
}
