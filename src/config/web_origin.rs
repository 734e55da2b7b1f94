//! Web sites, by their origin (RFC 6454), and which of them may use the relay.

use std::net::IpAddr;

use axum::http::uri::Authority;

use crate::config::value::Value;

/// Whose pages may use the relay, besides its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origins {
    /// Those of this machine, on any port.
    Loopback,
    Listed(Vec<WebOrigin>),
}

impl Origins {
    /// Tells whether a page of this origin may use the relay; `text` is an `Origin` header.
    pub fn allow(&self, text: &str) -> bool {
        let Some(origin) = SiteOrigin::parse(text) else {
            // `null`, as sandboxed pages and files have it, is nobody in particular.
            return self.allow_all();
        };
        match self {
            Self::Loopback => origin.is_loopback(),
            Self::Listed(listed) => listed.iter().any(|listed| match listed {
                WebOrigin::Any => true,
                WebOrigin::Site(site) => *site == origin,
            }),
        }
    }

    /// Tells whether every page there is may use the relay.
    pub fn allow_all(&self) -> bool {
        match self {
            Self::Loopback => false,
            Self::Listed(listed) => listed.contains(&WebOrigin::Any),
        }
    }
}

/// An item of the list of allowed origins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WebOrigin {
    Any,
    Site(SiteOrigin),
}

impl Value for WebOrigin {
    const RULE: &'static str = "`*`, or scheme, host and port of a web site and nothing else, \
                                such as https://app.example or http://localhost:5173";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            _ => SiteOrigin::parse(text).map(Self::Site),
        }
    }
}

/// Where a page comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SiteOrigin {
    is_secure: bool,
    /// In lower case.
    host: String,
    port: u16,
}

impl SiteOrigin {
    /// Reads an `Origin` header.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Self::new(is_secure, authority)
    }

    /// Tells whether a `Host` header names it, by its own scheme.
    pub fn is_of(&self, host: &str) -> bool {
        Self::new(self.is_secure, host).as_ref() == Some(self)
    }

    pub fn is_loopback(&self) -> bool {
        let ip = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost" || ip.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    fn new(is_secure: bool, authority: &str) -> Option<Self> {
        // `Authority` takes a user before the host, and more, which neither header has.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let is_plain = !authority.is_empty() && authority.bytes().all(is_plain);
        let authority: Authority = authority.parse().ok().filter(|_| is_plain)?;
        let default = if is_secure { 443 } else { 80 };
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str() == authority.host() => default,
            None => return None,
        };
        Some(Self {
            is_secure,
            host: authority.host().to_ascii_lowercase(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(texts: &[&str]) -> Origins {
        let listed = texts.iter().map(|text| WebOrigin::parse(text).unwrap());
        Origins::Listed(listed.collect())
    }

    #[test]
    fn a_listed_site_is_meant_with_its_scheme_and_port() {
        let origins = listed(&["https://app.example", "http://other.example:8080"]);
        for allowed in [
            "https://app.example",
            "https://app.example:443",
            "HTTPS://App.Example",
            "http://other.example:8080",
        ] {
            assert!(origins.allow(allowed), "{allowed}");
        }
        for refused in [
            "http://app.example",
            "https://app.example:8443",
            "https://sub.app.example",
            "https://app.example.evil.example",
            "https://evil.example/app.example",
            "https://app.example@evil.example",
            "https://app.example, https://evil.example",
            "http://other.example",
            "null",
            "",
        ] {
            assert!(!origins.allow(refused), "{refused}");
        }
    }

    #[test]
    fn loopback_is_this_machine_on_any_port() {
        for allowed in [
            "http://localhost",
            "https://localhost:5173",
            "http://127.0.0.1:3000",
            "http://127.1.2.3",
            "http://[::1]:9",
        ] {
            assert!(Origins::Loopback.allow(allowed), "{allowed}");
        }
        for refused in [
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://192.168.0.1",
            "http://0.0.0.0",
            "file://localhost",
            "http://localhost:99999",
            "http://localhost:",
            "localhost",
            "null",
        ] {
            assert!(!Origins::Loopback.allow(refused), "{refused}");
        }
    }

    #[test]
    fn a_star_is_everybody() {
        let origins = listed(&["*"]);
        assert!(origins.allow("https://any.example"));
        assert!(origins.allow("null"));
        assert!(!listed(&[]).allow("https://any.example"));
    }

    #[test]
    fn a_list_holds_origins_and_nothing_else() {
        for wrong in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://*.app.example",
            "ws://app.example",
            "null",
        ] {
            assert_eq!(WebOrigin::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_page_of_the_relay_s_own_is_known_by_the_host_it_asks() {
        let origin = |text| SiteOrigin::parse(text).unwrap();
        assert!(origin("http://relay.example:8080").is_of("relay.example:8080"));
        assert!(origin("https://relay.example").is_of("Relay.example"));
        assert!(origin("https://relay.example").is_of("relay.example:443"));
        assert!(!origin("https://relay.example").is_of("relay.example:8080"));
        assert!(!origin("http://relay.example").is_of("relay.example:443"));
        assert!(!origin("http://evil.example").is_of("relay.example"));
    }
}
