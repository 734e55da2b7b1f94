//! What can be seen without a call: the configuration, this host, and the provider.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use crate::auth::Authority;
use crate::clock;
use crate::config::{Config, Provider, Tls};
use crate::diagnosis::{Finding, Level, Step};
use crate::provider::OpenError;
use crate::server;

/// A clock that shows less is wrong: 1 January 2026, in seconds since 1970.
const EARLIEST: u64 = 1_767_225_600;

/// A certificate that ends sooner should be renewed by now.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

pub(super) fn auth(config: &Config) -> Vec<Finding> {
    let ok = |says: &str| Finding::new(Step::Auth, Level::Ok, says, "");
    let warn = |says: &str, advice: &str| Finding::new(Step::Auth, Level::Warn, says, advice);
    let fail = |says: String, advice: &str| Finding::new(Step::Auth, Level::Fail, says, advice);
    let mut found = vec![];
    found.push(if clock::unix(clock::wall()) < EARLIEST {
        let says =
            "the clock of this host is years behind: tokens and certificates are judged by it";
        fail(says.to_owned(), "Set the clock (NTP).")
    } else {
        ok("the clock of this host is plausible")
    });
    found.push(match Authority::open(config.auth.clone(), clock::wall()) {
        Ok(_) => ok("the files of tenants, signing keys and revocations can be used"),
        Err(error) => fail(error.to_string(), "Mend or replace the file."),
    });
    found.push(match &config.development_key {
        Some(_) => warn(
            "clients have a key that is made anew at each start",
            "Set VOXLINE_API_KEY, or VOXLINE_TENANTS, to a lasting one.",
        ),
        None => ok("clients have keys of their own"),
    });
    found.push(match &config.auth.keys {
        Some(_) => ok("tokens outlast a restart"),
        None => warn(
            "no token outlasts a restart: its signing key is in memory only",
            "`voxline signing-key DIRECTORY`, and set VOXLINE_TOKENS_KEYS to the directory.",
        ),
    });
    found.push(match &config.auth.admin_key {
        Some(_) => ok("there is an admin key"),
        None => warn(
            "there is no admin key, and so no way to revoke or to look at a session",
            "Set VOXLINE_ADMIN_KEY.",
        ),
    });

    found
}

pub(super) async fn connectivity(config: &Config) -> Vec<Finding> {
    let mut found = vec![
        port(
            "TCP",
            "listen",
            config.listen,
            TcpListener::bind(config.listen),
        ),
        port("UDP", "udp", config.udp, UdpSocket::bind(config.udp)),
        announced(config),
    ];
    if let Some(tls) = &config.tls {
        found.push(port(
            "TLS",
            "tls.listen",
            tls.listen,
            TcpListener::bind(tls.listen),
        ));
        found.push(certificate(tls));
    }
    found.push(provider(config).await);

    found
}

fn port<T>(
    protocol: &str,
    setting: &str,
    address: SocketAddr,
    bound: Result<T, std::io::Error>,
) -> Finding {
    let (level, says, advice) = match bound {
        Ok(_) => (Level::Ok, format!("{address} ({protocol}) is free"), ""),
        Err(error) if error.kind() == ErrorKind::AddrInUse => (
            Level::Warn,
            format!("{address} ({protocol}) is in use"),
            "If that is the relay itself, all is well; ask it with `voxline doctor --url`.",
        ),
        Err(error) => (
            Level::Fail,
            format!("{address} ({protocol}) cannot be bound: {error}"),
            "Choose an address of this host, and a port that this user may bind.",
        ),
    };
    let says = format!("`{setting}`: {says}");

    Finding::new(Step::Connectivity, level, says, advice)
}

/// Tells whether WebRTC clients are told an address that they can reach.
fn announced(config: &Config) -> Finding {
    let (level, says, advice) = match (config.public_addr, config.udp.ip()) {
        (Some(address), _) => (
            Level::Ok,
            format!(
                "WebRTC clients are told {address}, UDP port {}",
                config.udp.port()
            ),
            "",
        ),
        (None, address) if address.is_loopback() => (
            Level::Ok,
            "WebRTC clients on this machine alone can reach the relay".to_owned(),
            "",
        ),
        (None, address) if address.is_unspecified() || is_private(address) => (
            Level::Warn,
            "WebRTC clients are told this host's own addresses, which may be private".to_owned(),
            "Behind address translation, or in a container, set VOXLINE_PUBLIC_ADDR, and open \
             the UDP port in the firewall.",
        ),
        (None, address) => (Level::Ok, format!("WebRTC clients are told {address}"), ""),
    };

    Finding::new(Step::Connectivity, level, says, advice)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

fn certificate(tls: &Tls) -> Finding {
    let Some(files) = &tls.files else {
        let says = "a certificate is made at each start, which no client trusts by itself";
        let advice = "Set VOXLINE_TLS_CERTIFICATE and VOXLINE_TLS_KEY.";
        return Finding::new(Step::Connectivity, Level::Warn, says, advice);
    };
    let (level, says, advice) = match server::certificate_end(files) {
        Err(error) => (Level::Fail, error.to_string(), "Replace the pair of files."),
        Ok(end) => match end.duration_since(clock::wall()) {
            Err(_) => (
                Level::Fail,
                "the TLS certificate has expired".to_owned(),
                "Renew it: the relay reads it again by itself.",
            ),
            Ok(left) => {
                let says = format!("the TLS certificate is good for {} days", days(left));
                let advice = "Renew it: the relay reads it again by itself.";
                if left < SOON {
                    (Level::Warn, says, advice)
                } else {
                    (Level::Ok, says, "")
                }
            }
        },
    };

    Finding::new(Step::Connectivity, level, says, advice)
}

fn days(span: Duration) -> u64 {
    span.as_secs() / (24 * 3600)
}

async fn provider(config: &Config) -> Finding {
    let Provider::OpenAi { base_url, .. } = &config.provider else {
        let says = "the provider is the embedded one, which is always there";
        let advice = "Set OPENAI_API_KEY for one that understands what is said.";
        return Finding::new(Step::Connectivity, Level::Ok, says, advice);
    };
    let base_url = base_url.as_str();
    let wrong = |step, error: &dyn Display, advice: &str| {
        Finding::new(step, Level::Fail, format!("{base_url}: {error}"), advice)
    };
    match server::open_link(config).await {
        Ok(took) => Finding::new(
            Step::Connectivity,
            Level::Ok,
            format!("{base_url} opens a session, in {} ms", took.as_millis()),
            "",
        ),
        Err(error @ OpenError::Credential(_)) => wrong(
            Step::Auth,
            &error,
            "Set OPENAI_API_KEY to a key that is valid there.",
        ),
        Err(error @ OpenError::Refused(_)) => wrong(
            Step::Connectivity,
            &error,
            "May this key use the model of VOXLINE_OPENAI_MODEL?",
        ),
        Err(error @ OpenError::Busy { .. }) => wrong(
            Step::Connectivity,
            &error,
            "Look at the limits of your account there.",
        ),
        Err(error @ (OpenError::Unreachable(_) | OpenError::Resting { .. })) => wrong(
            Step::Connectivity,
            &error,
            "Is VOXLINE_OPENAI_BASE_URL right, and may this host connect there?",
        ),
    }
}

/// The settings that say what is kept for those who come back.
pub(super) fn replay(config: &Config) -> Vec<Finding> {
    let window = config.tuning.resume_window;
    let says = format!(
        "a client that is lost may come back within {} s (`session.resume_window`)",
        window.as_secs()
    );
    let kept = format!(
        "{} events of each session are kept, and {} sessions that ended, for `voxline doctor --url`",
        config.diagnosis.events, config.diagnosis.ended
    );

    let link = format!(
        "a link that is lost is replaced within {} s (`recovery.window`), and told of up to {} \
         items (`recovery.history`)",
        config.recovery.window.as_secs(),
        config.recovery.history
    );

    vec![
        Finding::new(Step::Replay, Level::Ok, says, ""),
        Finding::new(Step::Replay, Level::Ok, link, ""),
        Finding::new(Step::Replay, Level::Ok, kept, ""),
    ]
}
