//! The file of tools: what they are, where they are, and what may be reached.
//!
//! **Invariants**
//! - A file is taken as a whole or refused with the line that is wrong.
//! - Every tool of it may be called: its host is listed, its secrets are there.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use crate::tools::guard::Networks;
use crate::wire::realtime::Function;

/// A file of tools as it could be, for people to read.
pub const EXAMPLE: &str = r#"hosts = ["api.example.com"]

[tool.order_status]
description = "Tells where an order is. Ask for the order's number first."
url = "https://api.example.com/voice/order-status"
timeout = "5s"

[tool.order_status.parameters]
type = "object"
required = ["order"]
properties.order = { type = "string", description = "Seven digits." }

[tool.order_status.headers]
authorization = { env = "ORDERS_TOKEN", prefix = "Bearer " }
"#;

const MAX_TOOLS: usize = 64;
const MAX_HEADERS: usize = 32;
const MAX_DESCRIPTION: usize = 4_096;

/// Why there are no tools. For the person who wrote the file.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}:{line}: {reason}")]
    Mistake {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error("no client for HTTP: {0}")]
    Client(String),
}

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct ToolsFile {
    pub(crate) networks: Networks,
    pub(crate) tools: Vec<Declared>,
}

/// One tool.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) function: Function,
    pub(crate) url: Url,
    /// Secrets among them are marked as such.
    pub(crate) headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) max_response: usize,
    pub(crate) concurrency: usize,
    pub(crate) queue: usize,
}

impl ToolsFile {
    pub(crate) fn read(
        path: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ToolsError> {
        let text = fs::read_to_string(path).map_err(|source| ToolsError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, variable).map_err(|Mistake { span, reason }| ToolsError::Mistake {
            path: path.to_owned(),
            line: text[..span.start.min(text.len())].matches('\n').count() + 1,
            reason,
        })
    }

    fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Mistake> {
        let file: Written = toml::from_str(text).map_err(|error| Mistake {
            span: error.span().unwrap_or_default(),
            reason: error.message().to_owned(),
        })?;
        if file.tool.len() > MAX_TOOLS {
            return Err(Mistake::at(0..0, format!("more than {MAX_TOOLS} tools")));
        }
        let mut networks = Networks::default();
        for network in file.networks {
            let added = networks.add(network.get_ref());
            added.map_err(|reason| Mistake::at(network.span(), reason))?;
        }
        let hosts: Vec<String> = file.hosts.iter().map(|host| host.to_lowercase()).collect();
        let mut tools = Vec::with_capacity(file.tool.len());
        for (name, row) in file.tool {
            tools.push(row.declared(name.0, &hosts, &networks, &variable)?);
        }
        Ok(Self { networks, tools })
    }
}

/// What is wrong, and where.
#[derive(Debug)]
struct Mistake {
    span: Range<usize>,
    reason: String,
}

impl Mistake {
    fn at(span: Range<usize>, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { span, reason }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    networks: Vec<Spanned<String>>,
    #[serde(default)]
    tool: BTreeMap<Name, Row>,
}

/// A function's name, as providers take it.
#[derive(Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        ((1..=64).contains(&name.len()) && name.bytes().all(fits))
            .then_some(Self(name))
            .ok_or("a tool's name has 1 to 64 letters, digits, `_` and `-`")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    description: Spanned<String>,
    url: Spanned<String>,
    #[serde(default)]
    parameters: Option<Spanned<toml::Value>>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<Header>>,
    #[serde(default)]
    timeout: Option<Spanned<String>>,
    #[serde(default)]
    max_response: Option<Spanned<String>>,
    #[serde(default)]
    concurrency: Option<Spanned<usize>>,
    #[serde(default)]
    queue: Option<Spanned<usize>>,
}

/// A header's value, or where it is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Header {
    Plain(String),
    Secret(Secret),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    env: Option<String>,
    file: Option<PathBuf>,
    #[serde(default)]
    prefix: String,
}

impl Row {
    fn declared(
        self,
        name: String,
        hosts: &[String],
        networks: &Networks,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Declared, Mistake> {
        let url = target(&self.url, hosts, networks)?;
        let span = self.description.span();
        let description = self.description.into_inner();
        if description.len() > MAX_DESCRIPTION {
            let reason = format!("a description has at most {MAX_DESCRIPTION} bytes");
            return Err(Mistake::at(span, reason));
        }
        let parameters = match self.parameters {
            Some(written) => schema(written)?,
            None => serde_json::json!({"type": "object", "properties": {}}),
        };
        Ok(Declared {
            function: Function {
                name,
                description,
                parameters,
            },
            url,
            headers: headers(self.headers, variable)?,
            timeout: bounded(self.timeout, Duration::from_secs(10), |text| {
                let (number, unit) = split(text)?;
                let timeout = match unit {
                    "ms" => Duration::from_millis(number),
                    "s" => Duration::from_secs(number),
                    _ => return None,
                };
                (Duration::from_millis(100)..=Duration::from_secs(60))
                    .contains(&timeout)
                    .then_some(timeout)
            })
            .map_err(|span| Mistake::at(span, "must be from 100ms to 60s, such as 500ms or 5s"))?,
            max_response: bounded(self.max_response, 64 << 10, |text| {
                let (number, unit) = split(text)?;
                let size = match unit {
                    "B" => Some(number),
                    "KiB" => number.checked_mul(1 << 10),
                    "MiB" => number.checked_mul(1 << 20),
                    _ => None,
                };
                let size = usize::try_from(size?).ok()?;
                (1..=1 << 20).contains(&size).then_some(size)
            })
            .map_err(|span| Mistake::at(span, "must be from 1B to 1MiB, such as 64KiB"))?,
            concurrency: count(self.concurrency, 8, 1..=1_000)?,
            queue: count(self.queue, 32, 0..=1_000)?,
        })
    }
}

fn target(
    written: &Spanned<String>,
    hosts: &[String],
    networks: &Networks,
) -> Result<Url, Mistake> {
    let wrong = |reason: &str| Mistake::at(written.span(), reason);
    let url = Url::parse(written.get_ref()).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must be an http or https address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("has a user or a password: send them in `headers`"));
    }
    let host = url.host_str().unwrap_or_default();
    if !hosts.iter().any(|listed| listed == host) {
        let reason = format!("the host `{host}` is not among `hosts`");
        return Err(wrong(&reason));
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    if let Ok(address) = address
        && !networks.permits(address)
    {
        let reason = format!("{address} is no public address, and in none of `networks`");
        return Err(wrong(&reason));
    }
    Ok(url)
}

/// A JSON schema of an object, as a table or as text.
fn schema(written: Spanned<toml::Value>) -> Result<Value, Mistake> {
    let span = written.span();
    let written = written.into_inner();
    let schema = match written.as_str() {
        Some(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        None => serde_json::to_value(written).map_err(|error| error.to_string()),
    };
    let schema: Value = schema.map_err(|reason| Mistake::at(span.clone(), reason))?;
    if schema["type"] != "object" {
        let reason = "must be a JSON schema whose `type` is `object`";
        return Err(Mistake::at(span, reason));
    }
    Ok(schema)
}

fn headers(
    written: BTreeMap<String, Spanned<Header>>,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<HeaderMap, Mistake> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let span = value.span();
        let wrong = |reason: String| Mistake::at(span.clone(), reason);
        if headers.len() == MAX_HEADERS {
            return Err(wrong(format!("more than {MAX_HEADERS} headers")));
        }
        let named: HeaderName = name
            .parse()
            .map_err(|_| wrong(format!("`{name}` is no name of a header")))?;
        let (text, secret) = match value.into_inner() {
            Header::Plain(text) => (text, false),
            Header::Secret(secret) => (secret.reveal(variable).map_err(&wrong)?, true),
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| wrong("holds a character that HTTP forbids".to_owned()))?;
        value.set_sensitive(secret);
        headers.insert(named, value);
    }
    Ok(headers)
}

impl Secret {
    fn reveal(self, variable: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let secret = match (self.env, self.file) {
            (Some(name), None) => {
                variable(&name).ok_or_else(|| format!("the variable `{name}` is not set"))?
            }
            (None, Some(path)) => fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?
                .trim_end()
                .to_owned(),
            _ => return Err("name either `env` or `file`".to_owned()),
        };
        Ok(self.prefix + &secret)
    }
}

fn bounded<T>(
    written: Option<Spanned<String>>,
    default: T,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Range<usize>> {
    match written {
        Some(text) => read(text.get_ref()).ok_or_else(|| text.span()),
        None => Ok(default),
    }
}

fn count(
    written: Option<Spanned<usize>>,
    default: usize,
    allowed: std::ops::RangeInclusive<usize>,
) -> Result<usize, Mistake> {
    let Some(written) = written else {
        return Ok(default);
    };
    if allowed.contains(written.get_ref()) {
        return Ok(*written.get_ref());
    }
    let reason = format!("must be from {} to {}", allowed.start(), allowed.end());
    Err(Mistake::at(written.span(), reason))
}

/// `500ms` -> 500 and `ms`
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_file() {
        let file = parse(EXAMPLE).unwrap();
        let [tool] = &file.tools[..] else {
            panic!("{file:?}");
        };
        assert_eq!(tool.function.name, "order_status");
        assert_eq!(tool.function.parameters["required"][0], "order");
        assert_eq!(tool.timeout, Duration::from_secs(5));
        assert_eq!(tool.max_response, 64 << 10);
        let secret = &tool.headers["authorization"];
        assert_eq!(secret.to_str().unwrap(), "Bearer hush");
        assert!(!format!("{file:?}").contains("hush"), "{file:?}");
    }

    #[test]
    fn parameters_may_be_json() {
        let text = with("parameters = '{\"type\": \"object\", \"required\": [\"a\"]}'");
        let file = parse(&text).unwrap();
        assert_eq!(file.tools[0].function.parameters["required"][0], "a");
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (line, reason) in [
            ("timeout = \"2m\"", "must be from 100ms"),
            ("max_response = \"2MiB\"", "must be from 1B"),
            ("concurrency = 0", "must be from 1 to"),
            ("parameters = { type = \"array\" }", "must be a JSON schema"),
            ("headers.a = { env = \"NOBODY\" }", "the variable `NOBODY`"),
            ("headers.a = { prefix = \"x\" }", "either `env` or `file`"),
            ("headers.\"a b\" = \"x\"", "is no name of a header"),
            ("unknown = 1", "unknown field"),
        ] {
            let mistake = parse(&with(line)).unwrap_err();
            assert!(
                mistake.reason.contains(reason),
                "{line}: {}",
                mistake.reason
            );
        }
    }

    #[test]
    fn only_hosts_that_are_listed_and_public_are_called() {
        let of = |hosts: &str, networks: &str, url: &str| {
            let text = format!(
                "hosts = [{hosts}]\nnetworks = [{networks}]\n\
                 [tool.t]\ndescription = \"d\"\nurl = \"{url}\"\n"
            );
            parse(&text).map_err(|mistake| mistake.reason)
        };
        assert!(of("\"a.example\"", "", "https://a.example/x").is_ok());
        assert!(of("\"a.example\"", "", "https://b.example/x").is_err());
        assert!(of("\"a.example\"", "", "https://a.example@b.example/").is_err());
        assert!(of("\"a.example\"", "", "https://u:p@a.example/").is_err());
        assert!(of("\"a.example\"", "", "ftp://a.example/").is_err());
        for private in [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "[::1]",
            "[::ffff:10.0.0.1]",
        ] {
            let (hosts, url) = (format!("\"{private}\""), format!("http://{private}/"));
            assert!(of(&hosts, "", &url).is_err(), "{private}");
        }
        assert!(of("\"127.0.0.1\"", "\"127.0.0.0/8\"", "http://127.0.0.1:1/").is_ok());
        assert!(of("\"127.0.0.1\"", "\"10.0.0.0/8\"", "http://127.0.0.1:1/").is_err());
        // However the address is written.
        assert!(of("\"127.0.0.1\"", "", "http://0x7f.1/").is_err());
    }

    fn parse(text: &str) -> Result<ToolsFile, Mistake> {
        ToolsFile::parse(text, |name| {
            (name == "ORDERS_TOKEN").then(|| "hush".to_owned())
        })
    }

    fn with(line: &str) -> String {
        format!(
            "hosts = [\"a.example\"]\n[tool.t]\ndescription = \"d\"\n\
             url = \"https://a.example/\"\n{line}\n"
        )
    }
}
