//! The text of a setting -> a value of its type, and nothing that breaks its rule.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::auth::KeyDigest;
use crate::config::secret::Secret;
use crate::sim::{AgentKind, Fault, Script, SpokenCall};

/// A type that settings have.
pub(crate) trait Value: Sized {
    /// What to write instead, after "must be".
    const RULE: &'static str;

    fn parse(text: &str) -> Option<Self>;
}

impl Value for SocketAddr {
    const RULE: &'static str = "an IP address and a port, such as 127.0.0.1:8080 or [::]:8080";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for IpAddr {
    const RULE: &'static str = "an IP address that others can send to, such as 203.0.113.7";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|ip: &Self| !ip.is_unspecified())
    }
}

/// The base of an API: it starts with a scheme, has a host, and does not end in a slash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BaseUrl(String);

impl BaseUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the host, and its port if one is given.
    pub fn host(&self) -> &str {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();

        rest.split('/').next().unwrap_or_default()
    }
}

impl Default for BaseUrl {
    fn default() -> Self {
        Self("https://api.openai.com/v1".to_owned())
    }
}

impl Value for BaseUrl {
    const RULE: &'static str = "an http, https, ws or wss address without user, query or \
                                fragment, such as https://api.openai.com/v1";

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('/');
        let uri: axum::http::Uri = text.parse().ok()?;
        let known = matches!(uri.scheme_str()?, "http" | "https" | "ws" | "wss");
        let plain = !text.contains(['?', '#', '@']);
        (known && plain && !uri.host()?.is_empty()).then(|| Self(text.to_owned()))
    }
}

impl Value for Duration {
    const RULE: &'static str = "a whole number and a unit (ms, s, m, h), such as 500ms or 15s";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        match unit {
            "ms" => Some(Self::from_millis(number)),
            "s" => Some(Self::from_secs(number)),
            "m" => number.checked_mul(60).map(Self::from_secs),
            "h" => number.checked_mul(3600).map(Self::from_secs),
            _ => None,
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Size(pub usize);

impl Value for Size {
    const RULE: &'static str = "a whole number and a unit (B, KiB, MiB), such as 64KiB";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let unit = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return None,
        };
        usize::try_from(number).ok()?.checked_mul(unit).map(Self)
    }
}

impl Value for usize {
    const RULE: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for u32 {
    const RULE: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for u8 {
    const RULE: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for f64 {
    const RULE: &'static str = "a number such as 0.95";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &Self| number.is_finite())
    }
}

/// A name: text without spaces or control characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Name {
    const RULE: &'static str = "1 to 200 printable ASCII characters without spaces";

    fn parse(text: &str) -> Option<Self> {
        is_token(text, 1).then(|| Self(text.to_owned()))
    }
}

impl Value for PathBuf {
    const RULE: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.into())
    }
}

impl Value for Secret {
    const RULE: &'static str = "8 to 200 printable ASCII characters without spaces";

    fn parse(text: &str) -> Option<Self> {
        is_token(text, 8).then(|| Self::from(text))
    }
}

/// A key that the relay recognizes and has no need to know.
impl Value for KeyDigest {
    const RULE: &'static str = "8 to 200 printable ASCII characters without spaces, and begin with \
                                neither ek_ nor rt_, which are the relay's own tokens";

    fn parse(text: &str) -> Option<Self> {
        let is_key = is_token(text, 8) && !text.starts_with("ek_") && !text.starts_with("rt_");
        is_key.then(|| Self::of(text))
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Choice {
    Auto,
    OpenAi,
    Embedded,
}

impl Value for Choice {
    const RULE: &'static str = "auto, openai or embedded";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "openai" => Some(Self::OpenAi),
            "embedded" => Some(Self::Embedded),
            _ => None,
        }
    }
}

/// Which way a WebRTC call's sound takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MediaMode {
    /// Through the relay.
    Relay,
    /// Straight between the client and the provider.
    Direct,
}

impl MediaMode {
    /// Returns the mode of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "relay" => Some(Self::Relay),
            "direct" => Some(Self::Direct),
            _ => None,
        }
    }
}

impl Value for MediaMode {
    const RULE: &'static str = "relay or direct";

    fn parse(text: &str) -> Option<Self> {
        Self::named(text)
    }
}

/// How a client comes by its next token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewal {
    /// The relay sends it.
    InBand,
    /// The client is told when to fetch one by itself.
    Fetch,
}

impl Value for Renewal {
    const RULE: &'static str = "in-band or fetch";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "in-band" => Some(Self::InBand),
            "fetch" => Some(Self::Fetch),
            _ => None,
        }
    }
}

impl Value for AgentKind {
    const RULE: &'static str = "line-test, tone, sweep or marks";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "line-test" => Some(Self::LineTest),
            "tone" => Some(Self::Scripted(Script::default())),
            "sweep" => Some(Self::Scripted(Script::sweep())),
            "marks" => Some(Self::Scripted(Script {
                marked: true,
                ..Script::default()
            })),
            _ => None,
        }
    }
}

/// A call that answers a spoken turn.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Calls(pub(crate) Option<SpokenCall>);

impl Value for Calls {
    const RULE: &'static str = "none, or the number of a turn, the name of a function and its \
                                arguments, such as 1:weather:{\"city\":\"Oslo\"}";

    fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self(None));
        }
        let (turn, call) = text.split_once(':')?;
        let (name, arguments) = call.split_once(':').unwrap_or((call, "{}"));
        let call = SpokenCall {
            turn: turn.parse().ok().filter(|turn| *turn > 0)?,
            name: is_token(name, 1).then(|| name.to_owned())?,
            arguments: arguments.to_owned(),
        };
        Some(Self(Some(call)))
    }
}

/// What the embedded provider does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mishap(pub(crate) Option<Fault>);

impl Value for Mishap {
    const RULE: &'static str = "none, unauthorized, mute, never-created, fail, refuse:STATUS, \
                                refuse:STATUS:DURATION, stall:DURATION or drop:DURATION";

    fn parse(text: &str) -> Option<Self> {
        let fault = match text.split_once(':') {
            None => match text {
                "none" => return Some(Self(None)),
                "unauthorized" => Fault::Unauthorized,
                "mute" => Fault::Mute,
                "never-created" => Fault::NeverCreated,
                "fail" => Fault::FailResponses,
                _ => return None,
            },
            Some(("refuse", how)) => {
                let (status, after) = match how.split_once(':') {
                    Some((status, after)) => (status, Some(Duration::parse(after)?)),
                    None => (how, None),
                };
                Fault::Refuse {
                    status: status.parse().ok().filter(|s| (400..600).contains(s))?,
                    retry_after: after,
                }
            }
            Some(("stall", after)) => Fault::Stall {
                after: Duration::parse(after)?,
            },
            Some(("drop", after)) => Fault::Drop {
                after: Duration::parse(after)?,
            },
            Some(_) => return None,
        };
        Some(Self(Some(fault)))
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    Pretty,
    Json,
}

impl Value for LogFormat {
    const RULE: &'static str = "pretty or json";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "pretty" => Some(Self::Pretty),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// What is logged, in the words of `tracing_subscriber::EnvFilter`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFilter(String);

impl LogFilter {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for LogFilter {
    const RULE: &'static str = "levels, such as info or info,voxline::client=debug";

    fn parse(text: &str) -> Option<Self> {
        EnvFilter::try_new(text).ok()?;
        Some(Self(text.to_owned()))
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit)?;
    Some((number.parse().ok()?, unit))
}

/// What can stand in a header, a URL or a subprotocol's name as it is.
fn is_token(text: &str, least: usize) -> bool {
    (least..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(Duration::parse("40ms"), Some(Duration::from_millis(40)));
        assert_eq!(Duration::parse("2h"), Some(Duration::from_secs(7200)));
        for wrong in [
            "",
            "15",
            "s",
            "-1s",
            "1.5s",
            "15 s",
            "1d",
            "99999999999999999999s",
        ] {
            assert_eq!(Duration::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(Duration::parse("18446744073709551615h"), None);
    }

    #[test]
    fn a_size_is_in_binary_units() {
        assert_eq!(Size::parse("64KiB"), Some(Size(65_536)));
        for wrong in ["", "64", "64KB", "1GiB", "18446744073709551615MiB"] {
            assert_eq!(Size::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_base_url_has_a_known_scheme_and_nothing_after_its_path() {
        let url = |text| BaseUrl::parse(text).map(|url| url.as_str().to_owned());
        assert_eq!(url("http://h:1/v1/").as_deref(), Some("http://h:1/v1"));
        assert_eq!(url("wss://h").as_deref(), Some("wss://h"));
        for wrong in [
            "",
            "h",
            "/v1",
            "ftp://h",
            "http://",
            "http://u:p@h",
            "http://h?x=1",
        ] {
            assert_eq!(url(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_mishap_is_named_with_what_it_needs() {
        let after = Duration::from_millis(1500);
        for (text, fault) in [
            ("none", None),
            ("mute", Some(Fault::Mute)),
            (
                "refuse:503",
                Some(Fault::Refuse {
                    status: 503,
                    retry_after: None,
                }),
            ),
            (
                "refuse:429:1500ms",
                Some(Fault::Refuse {
                    status: 429,
                    retry_after: Some(after),
                }),
            ),
            ("drop:1500ms", Some(Fault::Drop { after })),
        ] {
            assert_eq!(Mishap::parse(text), Some(Mishap(fault)), "{text:?}");
        }
        for wrong in ["", "refuse", "refuse:200", "drop:", "mute:1s", "other"] {
            assert_eq!(Mishap::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_call_has_a_turn_and_a_name_and_may_have_arguments() {
        let call = |turn, arguments: &str| {
            Some(Calls(Some(SpokenCall {
                turn,
                name: "weather".to_owned(),
                arguments: arguments.to_owned(),
            })))
        };
        assert_eq!(Calls::parse("none"), Some(Calls(None)));
        assert_eq!(Calls::parse("2:weather"), call(2, "{}"));
        assert_eq!(Calls::parse("1:weather:{\"a\":1}"), call(1, "{\"a\":1}"));
        for wrong in ["", "weather", "0:weather", "1:", "1:two words"] {
            assert_eq!(Calls::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_public_address_is_one_that_a_peer_can_send_to() {
        for right in ["203.0.113.7", "2001:db8::7"] {
            assert!(IpAddr::parse(right).is_some(), "{right:?}");
        }
        for wrong in ["", "0.0.0.0", "::", "203.0.113.7:3478", "example.org"] {
            assert!(IpAddr::parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
