//! Where spans go: the collector's address and its credential, as OpenTelemetry writes them.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::value::{Name, Value};
use crate::config::{ConfigError, Reader};
use crate::otlp;

/// Where a collector takes spans, below its address.
const PATH: &str = "/v1/traces";

/// Reads it; `None` if there is no collector.
pub(super) fn settings(entries: &Reader<'_>) -> Result<Option<otlp::Settings>, ConfigError> {
    let collector: Option<Collector> = entries.optional("otlp.endpoint")?;
    let headers: Vec<Header> = entries.list("otlp.headers")?;
    let service: Name = entries.value("otlp.service")?;
    let Ratio(sampling) = entries.bounded("otlp.sampling")?;
    let queue = entries.bounded("otlp.queue")?;
    let timeout = entries.bounded("otlp.timeout")?;
    let Some(Collector(address)) = collector else {
        return Ok(None);
    };

    Ok(Some(otlp::Settings {
        url: format!("{address}{PATH}"),
        headers: headers
            .into_iter()
            .map(|Header(name, value)| (name, value))
            .collect::<HeaderMap>(),
        service: service.as_str().to_owned(),
        sampling,
        queue,
        timeout,
    }))
}

/// The address of a collector, without the path of spans.
struct Collector(String);

impl Value for Collector {
    const RULE: &'static str = "an http or https address without user, query or fragment, such as \
                                http://127.0.0.1:4318";

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('/');
        let uri: axum::http::Uri = text.parse().ok()?;
        let known = matches!(uri.scheme_str()?, "http" | "https");
        let plain = !text.contains(['?', '#', '@']);
        (known && plain && !uri.host()?.is_empty()).then(|| Self(text.to_owned()))
    }
}

/// A header that is sent with every request.
struct Header(HeaderName, HeaderValue);

impl Value for Header {
    const RULE: &'static str = "NAME=VALUE, such as api-key=0123, with what a header cannot hold, and \
                                commas, percent-encoded";

    fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once('=')?;
        let name = name.trim().parse().ok()?;
        let mut value = HeaderValue::from_bytes(&decoded(value.trim())?).ok()?;
        value.set_sensitive(true);

        Some(Self(name, value))
    }
}

/// Takes percent-encoding away.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = (part.get(..2)?, part.get(2..)?);
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(rest.as_bytes());
    }

    Some(bytes)
}

/// A share of all.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Ratio(f64);

impl Value for Ratio {
    const RULE: &'static str = "a number, such as 0.1";

    fn parse(text: &str) -> Option<Self> {
        text.parse()
            .ok()
            .filter(|ratio: &f64| ratio.is_finite())
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_where_http_is_spoken() {
        let address = |text| Collector::parse(text).map(|Collector(address)| address);
        assert_eq!(
            address("http://collector:4318/").as_deref(),
            Some("http://collector:4318")
        );
        assert_eq!(
            address("https://otlp.example/base").as_deref(),
            Some("https://otlp.example/base")
        );
        for wrong in [
            "",
            "collector:4318",
            "grpc://h",
            "http://u:p@h",
            "http://h?x",
        ] {
            assert_eq!(address(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_header_is_decoded_and_does_not_show() {
        let Header(name, value) = Header::parse("Authorization=Bearer%20ab%2Cc=").unwrap();
        assert_eq!(name, "authorization");
        assert_eq!(value, "Bearer ab,c=");
        assert!(!format!("{value:?}").contains("ab"));
        for wrong in [
            "", "api-key", "=x", "a b=x", "a=%", "a=%0", "a=%0g", "a=%0a", "a=%+1",
        ] {
            assert!(Header::parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
