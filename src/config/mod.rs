//! Parses the configuration once; afterwards it is valid by type.
//!
//! **Invariants**
//! - Flags win over the environment, the environment over the file, the file over the defaults.
//! - A relay that others can reach has keys.

mod budget;
mod layers;
mod reference;
mod secret;
mod setting;
mod settings;
mod traces;
mod value;
mod web_origin;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::config::layers::{FILE_VARIABLE, Origin, Sources};
pub use crate::config::reference::{reference, show};
pub use crate::config::secret::Secret;
pub use crate::config::setting::{Fallback, Setting};
pub use crate::config::settings::SETTINGS;
pub use crate::config::value::{BaseUrl, LogFilter, LogFormat, MediaMode, Name, Renewal, Size};
pub use crate::config::web_origin::{Origins, SiteOrigin, WebOrigin};

use crate::auth::{self, KeyDigest};
use crate::config::layers::{Entries, Entry};
use crate::config::value::{Calls, Choice, Mishap, Value};
use crate::core::latency::budget::Budget;
use crate::otlp;
use crate::sim;

/// Everything a relay needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub udp: SocketAddr,
    pub public_addr: Option<IpAddr>,
    pub tls: Option<Tls>,
    /// The key that the relay's own page uses; it is among those of `auth`.
    pub development_key: Option<Secret>,
    pub auth: auth::Settings,
    pub origins: Origins,
    pub provider: Provider,
    pub model: Name,
    pub media: MediaMode,
    pub connect_timeout: Duration,
    /// The file of the relay's own tools.
    pub tools: Option<PathBuf>,
    pub limits: Limits,
    pub tuning: Tuning,
    pub diagnosis: Diagnosis,
    pub recovery: Recovery,
    pub budget: Budget,
    pub sim: sim::Settings,
    /// Absent if no collector is told of anything.
    pub otlp: Option<otlp::Settings>,
    pub log: Log,
}

/// Where TLS is spoken, and what is shown there.
#[derive(Clone, Debug)]
pub struct Tls {
    pub listen: SocketAddr,
    /// Without them a certificate is made at the start.
    pub files: Option<CertificateFiles>,
    /// How often the files are read again.
    pub reload: Duration,
}

/// Where a certificate and its key are, as PEM.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Who answers.
#[derive(Clone, Debug)]
pub enum Provider {
    /// The one inside the relay.
    Embedded,
    /// OpenAI, or a server that speaks as it does.
    OpenAi {
        base_url: BaseUrl,
        api_key: Option<Secret>,
    },
}

/// How much of each thing there may be.
#[derive(Clone, Debug)]
pub struct Limits {
    pub sessions: u32,
    pub tenant_sessions: u32,
    pub user_sessions: u32,
    pub handshakes: u32,
    pub secrets_per_minute: u32,
    pub session_length: Duration,
    pub connections: usize,
    pub request_time: Duration,
    pub body: Size,
    pub sdp: Size,
    pub event: Size,
    pub write_time: Duration,
    pub ping_interval: Duration,
    pub drain: Duration,
}

/// How conversations behave.
#[derive(Clone, Debug)]
pub struct Tuning {
    pub thinking_timeout: Duration,
    pub cancel_timeout: Duration,
    pub barge_in_wait: Duration,
    pub idle_timeout: Duration,
    pub playout_lead: Duration,
    pub websocket_lead: Duration,
    pub resume_window: Duration,
    pub renewal: Renewal,
}

/// How much is kept to find out what is wrong with a session.
#[derive(Clone, Copy, Debug)]
pub struct Diagnosis {
    pub events: usize,
    pub ended: usize,
    pub ended_for: Duration,
}

/// How conversations outlive their links to the provider.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// Zero if they do not.
    pub window: Duration,
    pub history: u32,
    pub sound: Duration,
    pub link_length: Duration,
    pub rollover_lead: Duration,
    pub failures: u32,
    pub rest: Duration,
}

impl Provider {
    /// What it is called where it is one of several: in metrics, on the dashboard.
    pub fn name(&self) -> &str {
        match self {
            Self::Embedded => "embedded",
            Self::OpenAi { base_url, .. } => base_url.host(),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    pub filter: LogFilter,
    pub format: LogFormat,
}

/// Why there is no configuration. All of these are for the person who wrote it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: the configuration file cannot be read: {source}")]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}:{line}: not TOML: {message}")]
    Malformed {
        path: PathBuf,
        line: usize,
        message: String,
    },
    #[error("{origin}: unknown {what} `{name}`: {hint}")]
    Unknown {
        origin: Origin,
        what: &'static str,
        name: String,
        hint: String,
    },
    #[error("{origin}: `{key}` {message}")]
    Invalid {
        origin: Origin,
        key: &'static str,
        message: String,
    },
    #[error(
        "`{key}` is {listen}, which others can reach, and there is no key for clients: set \
         VOXLINE_API_KEY (several keys: separate them by commas) or VOXLINE_TENANTS, or listen on \
         127.0.0.1"
    )]
    Open {
        key: &'static str,
        listen: SocketAddr,
    },
    #[error(
        "`tls.listen` is {listen}, which others can reach, and there is no certificate: set \
         `tls.certificate` and `tls.key` (`voxline certificate` makes a pair for development), or \
         listen on 127.0.0.1"
    )]
    Uncertified { listen: SocketAddr },
    #[error("`{given}` is set, and `{missing}` is not: they are only of use together")]
    Incomplete {
        given: &'static str,
        missing: &'static str,
    },
    #[error(
        "`provider` is openai, and there is no key for it: set OPENAI_API_KEY, or \
         VOXLINE_OPENAI_BASE_URL to a server that needs none"
    )]
    Keyless,
}

impl Config {
    /// Returns whether only this machine can reach the relay, by any of its ports for HTTP.
    pub fn is_loopback_only(&self) -> bool {
        exposed(self.listen, self.tls.as_ref()).is_none()
    }

    /// Reads all sources.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Self::read(&layers::collect(sources)?)
    }

    fn read(entries: &Entries) -> Result<Self, ConfigError> {
        let entries = Reader(entries);
        let listen = entries.value("listen")?;
        let tls = tls(&entries)?;
        let exposed = exposed(listen, tls.as_ref());
        let development_key = development_key(&entries, exposed)?;
        let sessions = entries.bounded("limits.sessions")?;
        Ok(Self {
            listen,
            udp: entries.optional("udp")?.unwrap_or(listen),
            public_addr: entries.optional("public_addr")?,
            auth: auth(&entries, development_key.as_ref())?,
            development_key,
            origins: origins(&entries, exposed)?,
            tls,
            provider: provider(&entries)?,
            model: entries.value("openai.model")?,
            media: entries.value("media.mode")?,
            connect_timeout: entries.bounded("openai.connect_timeout")?,
            tools: entries.optional("tools")?,
            limits: Limits {
                sessions,
                tenant_sessions: entries
                    .bounded_optional("limits.tenant_sessions")?
                    .unwrap_or(sessions),
                user_sessions: entries.bounded("limits.user_sessions")?,
                handshakes: entries.bounded("limits.handshakes")?,
                secrets_per_minute: entries.bounded("limits.secrets_per_minute")?,
                session_length: entries.bounded("limits.session_length")?,
                connections: entries.bounded("limits.connections")?,
                request_time: entries.bounded("limits.request_time")?,
                body: entries.bounded("limits.body")?,
                sdp: entries.bounded("limits.sdp")?,
                event: entries.bounded("limits.event")?,
                write_time: entries.bounded("limits.write_time")?,
                ping_interval: entries.bounded("limits.ping_interval")?,
                drain: entries.bounded("limits.drain")?,
            },
            tuning: Tuning {
                thinking_timeout: entries.bounded("session.thinking_timeout")?,
                cancel_timeout: entries.bounded("session.cancel_timeout")?,
                barge_in_wait: entries.bounded("session.barge_in_wait")?,
                idle_timeout: entries.bounded("session.idle_timeout")?,
                playout_lead: entries.bounded("session.playout_lead")?,
                websocket_lead: entries.bounded("session.websocket_lead")?,
                resume_window: entries.bounded("session.resume_window")?,
                renewal: entries.value("session.renewal")?,
            },
            diagnosis: Diagnosis {
                events: entries.bounded("diagnosis.events")?,
                ended: entries.bounded("diagnosis.ended")?,
                ended_for: entries.bounded("diagnosis.ended_for")?,
            },
            recovery: Recovery {
                window: entries.bounded("recovery.window")?,
                history: entries.bounded("recovery.history")?,
                sound: entries.bounded("recovery.sound")?,
                link_length: entries.bounded("recovery.link_length")?,
                rollover_lead: entries.bounded("recovery.rollover_lead")?,
                failures: entries.bounded("recovery.failures")?,
                rest: entries.bounded("recovery.rest")?,
            },
            budget: budget::read(&entries)?,
            sim: sim::Settings {
                agent: agent(&entries)?,
                first_audio: entries.bounded("sim.first_audio")?,
                delta: entries.bounded("sim.delta")?,
                delta_interval: entries.bounded("sim.delta_interval")?,
                spoken_call: entries.value::<Calls>("sim.call")?.0,
                max_session: entries.bounded("sim.session_length")?,
                fault: entries.value::<Mishap>("sim.fault")?.0,
                ..sim::Settings::default()
            },
            otlp: traces::settings(&entries)?,
            log: Log {
                filter: entries.value("log.filter")?,
                format: entries.value("log.format")?,
            },
        })
    }
}

fn agent(entries: &Reader<'_>) -> Result<sim::AgentKind, ConfigError> {
    let length = entries.bounded("sim.tone_length")?;
    Ok(match entries.value("sim.agent")? {
        sim::AgentKind::LineTest => sim::AgentKind::LineTest,
        sim::AgentKind::Scripted(script) => {
            sim::AgentKind::Scripted(sim::Script { length, ..script })
        }
    })
}

/// Finds an address that others than this machine can reach, with the setting that names it.
fn exposed(listen: SocketAddr, tls: Option<&Tls>) -> Option<(&'static str, SocketAddr)> {
    [
        ("listen", Some(listen)),
        ("tls.listen", tls.map(|tls| tls.listen)),
    ]
    .into_iter()
    .filter_map(|(key, address)| Some((key, address?)))
    .find(|(_, address)| !is_loopback(*address))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Makes a key for this run where only this machine can reach the relay, and nobody has set one.
fn development_key(
    entries: &Reader<'_>,
    exposed: Option<(&'static str, SocketAddr)>,
) -> Result<Option<Secret>, ConfigError> {
    let keys: Vec<KeyDigest> = entries.list("api_key")?;
    let tenants: Option<PathBuf> = entries.optional("tenants")?;
    match exposed {
        _ if !keys.is_empty() || tenants.is_some() => Ok(None),
        Some((key, listen)) => Err(ConfigError::Open { key, listen }),
        None => Ok(Some(Secret::develop())),
    }
}

fn tls(entries: &Reader<'_>) -> Result<Option<Tls>, ConfigError> {
    let listen: Option<SocketAddr> = entries.optional("tls.listen")?;
    let certificate: Option<PathBuf> = entries.optional("tls.certificate")?;
    let key: Option<PathBuf> = entries.optional("tls.key")?;
    let reload = entries.bounded("tls.reload")?;
    let incomplete = |given, missing| Err(ConfigError::Incomplete { given, missing });
    let files = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(CertificateFiles { certificate, key }),
        (Some(_), None) => return incomplete("tls.certificate", "tls.key"),
        (None, Some(_)) => return incomplete("tls.key", "tls.certificate"),
        (None, None) => None,
    };
    match (listen, &files) {
        (None, Some(_)) => incomplete("tls.certificate", "tls.listen"),
        (None, None) => Ok(None),
        (Some(listen), None) if !is_loopback(listen) => Err(ConfigError::Uncertified { listen }),
        (Some(listen), _) => Ok(Some(Tls {
            listen,
            files,
            reload,
        })),
    }
}

fn auth(
    entries: &Reader<'_>,
    development_key: Option<&Secret>,
) -> Result<auth::Settings, ConfigError> {
    let mut api_keys: Vec<KeyDigest> = entries.list("api_key")?;
    api_keys.extend(development_key.map(|key| KeyDigest::of(key.expose())));
    Ok(auth::Settings {
        api_keys,
        tenants: entries.optional("tenants")?,
        admin_key: entries.optional("admin_key")?,
        ttl: entries.bounded("tokens.ttl")?,
        max_ttl: entries.bounded("tokens.max_ttl")?,
        skew: entries.bounded("tokens.skew")?,
        issuer: entries.value::<Name>("tokens.issuer")?.as_str().to_owned(),
        keys: entries.optional("tokens.keys")?,
        reload: entries.bounded("auth.reload")?,
        revocations: entries.optional("auth.revocations")?,
    })
}

fn origins(
    entries: &Reader<'_>,
    exposed: Option<(&'static str, SocketAddr)>,
) -> Result<Origins, ConfigError> {
    let origins: Vec<WebOrigin> = entries.list("origins")?;
    if origins.is_empty() && exposed.is_none() {
        Ok(Origins::Loopback)
    } else {
        Ok(Origins::Listed(origins))
    }
}

fn provider(entries: &Reader<'_>) -> Result<Provider, ConfigError> {
    let api_key: Option<Secret> = entries.optional("openai.api_key")?;
    let base_url: Option<BaseUrl> = entries.optional("openai.base_url")?;
    match (entries.value("provider")?, &api_key, &base_url) {
        (Choice::Embedded, _, _) | (Choice::Auto, None, None) => Ok(Provider::Embedded),
        (Choice::OpenAi, None, None) => Err(ConfigError::Keyless),
        (Choice::OpenAi | Choice::Auto, _, _) => Ok(Provider::OpenAi {
            base_url: base_url.unwrap_or_default(),
            api_key,
        }),
    }
}

/// Why there is always a value where none was given.
const DEFAULTED: &str = "a setting read as a value has a default; every test reads them all";

/// Turns what was said into values, or says what is wrong with it.
struct Reader<'a>(&'a Entries);

impl Reader<'_> {
    fn value<T: Value>(&self, key: &'static str) -> Result<T, ConfigError> {
        Ok(self.optional(key)?.expect(DEFAULTED))
    }

    /// A value within the range that the table gives.
    fn bounded<T: Value + PartialOrd>(&self, key: &'static str) -> Result<T, ConfigError> {
        Ok(self.bounded_optional(key)?.expect(DEFAULTED))
    }

    fn bounded_optional<T: Value + PartialOrd>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        let value: Option<T> = self.optional(key)?;
        let (Some(given), Some((least, greatest))) = (&value, setting(key).range) else {
            return Ok(value);
        };
        let is_above = T::parse(least).is_none_or(|least| *given >= least);
        let is_below = T::parse(greatest).is_none_or(|greatest| *given <= greatest);
        if is_above && is_below {
            return Ok(value);
        }
        Err(self.refusal(key, format!("must be from {least} to {greatest}")))
    }

    fn optional<T: Value>(&self, key: &'static str) -> Result<Option<T>, ConfigError> {
        Ok(self.list(key)?.into_iter().next())
    }

    fn list<T: Value>(&self, key: &'static str) -> Result<Vec<T>, ConfigError> {
        let setting = setting(key);
        let texts = match (self.0.get(key), setting.default) {
            (Some(Entry { texts, .. }), _) => texts.iter().map(String::as_str).collect(),
            (None, Fallback::Value(text)) => vec![text],
            (None, Fallback::Unset(_)) => vec![],
        };
        texts
            .into_iter()
            .map(|text| {
                T::parse(text).ok_or_else(|| {
                    let given = if setting.secret {
                        String::new()
                    } else {
                        format!(", not {text:?}")
                    };
                    self.refusal(key, format!("must be {}{given}", T::RULE))
                })
            })
            .collect()
    }

    fn refusal(&self, key: &'static str, message: String) -> ConfigError {
        let origin = self.0.get(key).map(|entry| entry.origin.clone());
        ConfigError::Invalid {
            origin: origin.unwrap_or(Origin::Default),
            key,
            message,
        }
    }
}

fn setting(key: &'static str) -> &'static Setting {
    settings::find(key).expect("every key that is read is in the table; every test reads them all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_table_is_read() {
        // A value that no type takes is refused by whoever reads it.
        for setting in SETTINGS {
            let entry = Entry {
                texts: vec!["\u{7f} ".to_owned()],
                origin: Origin::Default,
            };
            let refused = Config::read(&Entries::from([(setting.key, entry)]));
            assert!(
                matches!(refused, Err(ConfigError::Invalid { key, .. }) if key == setting.key),
                "{}: {refused:?}",
                setting.key
            );
        }
    }

    #[test]
    fn the_budget_is_the_same_wherever_it_comes_from() {
        let read = Config::read(&Entries::new()).unwrap();
        assert_eq!(read.budget, Budget::default());
    }

    #[test]
    fn every_range_is_enforced_at_both_ends() {
        for setting in SETTINGS {
            let Some((least, greatest)) = setting.range else {
                continue;
            };
            let read = |text: String| {
                let texts = vec![text];
                let origin = Origin::Default;
                Config::read(&Entries::from([(setting.key, Entry { texts, origin })]))
            };
            read(least.to_owned()).unwrap();
            read(greatest.to_owned()).unwrap();
            read(format!("1{greatest}")).unwrap_err();
        }
    }
}
