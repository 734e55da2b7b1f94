//! The configuration, from its sources to what the relay does about them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use voxline::config::{Config, ConfigError, Provider, SETTINGS, Sources, reference, show};

#[test]
fn nothing_needs_to_be_set() {
    let config = Config::load(&Sources::default()).unwrap();
    let address: std::net::SocketAddr = "127.0.0.1:8080".parse().unwrap();
    assert_eq!(config.listen, address);
    assert_eq!(config.udp, config.listen);
    assert_eq!(config.model.as_str(), "gpt-realtime-2.1");
    assert!(matches!(config.provider, Provider::Embedded));
    let key = config.development_key.unwrap();
    assert!(config.auth.api_keys[0].admits(key.expose()));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = file("listen = '127.0.0.1:1'\nudp = '127.0.0.1:2'\n[openai]\nmodel = 'filed'\n");
    let config = Config::load(&Sources {
        file: Some(file.path().to_owned()),
        environment: environment(&[
            ("VOXLINE_LISTEN", "127.0.0.1:3"),
            ("VOXLINE_UDP", "127.0.0.1:4"),
        ]),
        flags: vec![("listen", "127.0.0.1:5".to_owned())],
    })
    .unwrap();
    assert_eq!(config.listen.port(), 5);
    assert_eq!(config.udp.port(), 4);
    assert_eq!(config.model.as_str(), "filed");
}

#[test]
fn the_environment_names_the_file() {
    let file = file("[limits]\nsessions = 7\ndrain = '3s'\n");
    let path = file.path().to_str().unwrap();
    let config = with(&[("VOXLINE_CONFIG", path)]).unwrap();
    assert_eq!(config.limits.sessions, 7);
    assert_eq!(config.limits.drain, Duration::from_secs(3));
}

#[test]
fn an_unknown_key_is_refused_with_file_line_path_and_the_nearest_name() {
    let expect = |text: &str, tail: &str| {
        let file = file(text);
        let wanted = format!("{}{tail}", file.path().display());
        assert_eq!(refusal_of(file.path()), wanted);
    };
    expect(
        "listen = '127.0.0.1:0'\n\n[limits]\nsesions = 5\n",
        ":4: unknown key `limits.sesions`: did you mean `limits.sessions`?",
    );
    expect(
        "[limit]\nsessions = 5\n",
        ":2: unknown key `limit.sessions`: did you mean `limits.sessions`?",
    );
    expect(
        "openai = 'sk-1'\n",
        ":1: unknown key `openai`: it is a section; write [openai] and its keys below",
    );
    expect(
        "zzz = 1\n",
        ":1: unknown key `zzz`: `voxline config` lists all settings",
    );
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_name() {
    let error = with(&[("VOXLINE_LISTN", "127.0.0.1:1")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the environment: unknown variable `VOXLINE_LISTN`: did you mean `VOXLINE_LISTEN`?"
    );
    with(&[("PATH", "/bin"), ("VOXLINE_LISTEN", "")]).unwrap();
}

#[test]
fn a_wrong_value_is_refused_with_its_origin_and_what_is_allowed() {
    let error = with(&[("VOXLINE_LIMITS_DRAIN", "10")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "VOXLINE_LIMITS_DRAIN: `limits.drain` must be a whole number and a unit (ms, s, m, h), \
         such as 500ms or 15s, not \"10\""
    );
    let error = with(&[("VOXLINE_LIMITS_DRAIN", "2h")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "VOXLINE_LIMITS_DRAIN: `limits.drain` must be from 0s to 1h"
    );
    let file = file("\nlisten = 8080\n");
    assert!(refusal_of(file.path()).contains(":2: `listen` must be an IP address and a port"));
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let file = file("listen = '127.0.0.1:0'\nudp = \n");
    let refusal = refusal_of(file.path());
    assert!(refusal.contains(":2: not TOML:"), "{refusal}");
    assert!(refusal_of(Path::new("/nowhere/voxline.toml")).starts_with("/nowhere/voxline.toml: "));
}

#[test]
fn a_relay_that_others_can_reach_needs_keys() {
    let error = with(&[("VOXLINE_LISTEN", "0.0.0.0:8080")]).unwrap_err();
    assert!(matches!(error, ConfigError::Open { .. }));
    assert!(error.to_string().contains("VOXLINE_API_KEY"));
    let config = with(&[
        ("VOXLINE_LISTEN", "0.0.0.0:8080"),
        ("VOXLINE_API_KEY", "first-key,second-key"),
    ])
    .unwrap();
    let [first, second] = &config.auth.api_keys[..] else {
        panic!("{:?}", config.auth);
    };
    assert!(first.admits("first-key") && second.admits("second-key"));
    assert!(config.development_key.is_none());
    with(&[("VOXLINE_LISTEN", "[::1]:8080")]).unwrap();
}

#[test]
fn a_relay_with_tenants_needs_no_keys_of_its_own_and_makes_none() {
    for listen in ["0.0.0.0:8080", "127.0.0.1:8080"] {
        let tenants = ("VOXLINE_TENANTS", "/etc/voxline/tenants.toml");
        let config = with(&[("VOXLINE_LISTEN", listen), tenants]).unwrap();
        assert!(config.auth.api_keys.is_empty() && config.development_key.is_none());
        assert_eq!(config.auth.tenants.as_deref(), Some(Path::new(tenants.1)));
    }
}

#[test]
fn tokens_live_as_set_and_a_key_that_looks_like_one_is_refused() {
    let config = with(&[
        ("VOXLINE_TOKENS_TTL", "1m"),
        ("VOXLINE_ADMIN_KEY", "the-admin-key"),
    ])
    .unwrap();
    assert_eq!(config.auth.ttl, Duration::from_secs(60));
    assert_eq!(config.auth.max_ttl, Duration::from_secs(7200));
    assert!(config.auth.admin_key.unwrap().admits("the-admin-key"));
    for key in ["ek_0123456789", "rt_0123456789", "short"] {
        let error = with(&[("VOXLINE_API_KEY", key)]).unwrap_err().to_string();
        assert!(error.contains("neither ek_ nor rt_"), "{error}");
        assert!(!error.contains(key), "{error}");
    }
}

#[test]
fn tls_that_others_can_reach_needs_keys_and_a_certificate() {
    let file = |name| (name, "some.pem");
    let (certificate, key) = (file("VOXLINE_TLS_CERTIFICATE"), file("VOXLINE_TLS_KEY"));
    let secret = ("VOXLINE_API_KEY", "relay-key");
    let open = ("VOXLINE_TLS_LISTEN", "0.0.0.0:8443");
    let error = with(&[open, secret]).unwrap_err();
    assert!(matches!(error, ConfigError::Uncertified { .. }), "{error}");
    assert!(error.to_string().contains("tls.certificate"), "{error}");
    let error = with(&[open, certificate, key]).unwrap_err();
    assert!(matches!(error, ConfigError::Open { .. }), "{error}");
    assert!(error.to_string().starts_with("`tls.listen`"), "{error}");
    with(&[open, certificate, key, secret]).unwrap();
    with(&[("VOXLINE_TLS_LISTEN", "[::1]:8443")]).unwrap();
}

#[test]
fn half_a_certificate_is_refused() {
    let listen = ("VOXLINE_TLS_LISTEN", "127.0.0.1:8443");
    let certificate = ("VOXLINE_TLS_CERTIFICATE", "some.pem");
    let key = ("VOXLINE_TLS_KEY", "some.pem");
    for (half, missing) in [
        ([listen, certificate], "`tls.key`"),
        ([listen, key], "`tls.certificate`"),
        ([certificate, key], "`tls.listen`"),
    ] {
        let error = with(&half).unwrap_err();
        assert!(matches!(error, ConfigError::Incomplete { .. }), "{error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[test]
fn the_provider_follows_from_what_is_known_about_it() {
    let provider = |variables: &[(&str, &str)]| with(variables).map(|config| config.provider);
    let key = ("OPENAI_API_KEY", "sk-secret-secret");
    let url = ("VOXLINE_OPENAI_BASE_URL", "http://127.0.0.1:9/v1/");
    let Ok(Provider::OpenAi { base_url, api_key }) = provider(&[key]) else {
        panic!("a key is enough");
    };
    assert_eq!(base_url.as_str(), "https://api.openai.com/v1");
    assert_eq!(api_key.unwrap().expose(), "sk-secret-secret");
    let Ok(Provider::OpenAi { base_url, api_key }) = provider(&[url]) else {
        panic!("a server is enough");
    };
    assert_eq!(base_url.as_str(), "http://127.0.0.1:9/v1");
    assert!(api_key.is_none());
    let embedded = ("VOXLINE_PROVIDER", "embedded");
    assert!(matches!(provider(&[key, embedded]), Ok(Provider::Embedded)));
    let openai = ("VOXLINE_PROVIDER", "openai");
    assert!(matches!(provider(&[openai]), Err(ConfigError::Keyless)));
}

#[test]
fn no_secret_is_shown() {
    let sources = Sources {
        environment: environment(&[
            ("VOXLINE_API_KEY", "relay-sesame,other-sesame"),
            ("VOXLINE_ADMIN_KEY", "admin-sesame"),
            ("OPENAI_API_KEY", "sk-sesame-sesame"),
        ]),
        ..Sources::default()
    };
    let config = Config::load(&sources).unwrap();
    for shown in [format!("{config:?}"), show(&sources).unwrap()] {
        assert!(!shown.contains("sesame"), "{shown}");
        assert!(shown.contains("(hidden)"), "{shown}");
    }
    let error = with(&[("VOXLINE_API_KEY", "sesame")]).unwrap_err();
    assert!(!error.to_string().contains("sesame"), "{error}");
}

#[test]
fn what_is_shown_names_origins_and_is_a_file_that_says_the_same() {
    let sources = Sources {
        environment: environment(&[("VOXLINE_LIMITS_SESSIONS", "9")]),
        flags: vec![("listen", "127.0.0.1:5".to_owned())],
        ..Sources::default()
    };
    let shown = show(&sources).unwrap();
    let line = |start: &str| {
        let mut lines = shown.lines();
        let line = lines.find(|line| line.starts_with(start)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("listen"), "listen = \"127.0.0.1:5\" # --listen");
    assert_eq!(line("sessions"), "sessions = 9 # VOXLINE_LIMITS_SESSIONS");
    assert_eq!(line("drain"), "drain = \"10s\" # default");
    let file = file(&shown);
    let config = Config::load(&Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(config.limits.sessions, 9);
    assert_eq!(config.listen.port(), 5);
}

#[test]
fn names_are_unique_everywhere() {
    let mut names: Vec<String> = SETTINGS.iter().map(|setting| setting.variable()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), SETTINGS.len());
}

#[test]
fn the_reference_page_is_up_to_date() {
    let page = include_str!("../docs/CONFIGURATION.md");
    assert!(
        page == reference(),
        "docs/CONFIGURATION.md is stale: cargo run -- config > docs/CONFIGURATION.md"
    );
}

fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&Sources {
        environment: environment(variables),
        ..Sources::default()
    })
}

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn refusal_of(path: &Path) -> String {
    Config::load(&Sources {
        file: Some(path.to_owned()),
        ..Sources::default()
    })
    .unwrap_err()
    .to_string()
}
