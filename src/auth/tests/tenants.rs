//! Tenants that come and go.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};

use crate::auth::tests::{KEY, at, code, of_user, settings};
use crate::auth::{Authority, Holder, KeyDigest, Settings};
use crate::clock;

#[test]
fn tenants_change_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.toml");
    let write = |text: &str| fs::write(&path, text).unwrap();
    let acme = |key: &str| format!("[tenant.acme]\napi_keys = ['{}']\n", KeyDigest::of(key));
    write(&acme("acme-1"));
    let authority = open(&path);
    let changed = authority.changed();
    let tenant_of = |key: &str| {
        let caller = authority.authenticate(key, None, at(0));
        caller.map(|caller| caller.tenant().id.clone())
    };
    assert_eq!(tenant_of("acme-1").unwrap(), "acme");
    assert_eq!(tenant_of(KEY).unwrap(), "default");

    authority.reload(at(10));
    assert!(!changed.has_changed().unwrap(), "nothing has");

    write(&format!("{}sessions = 7\n", acme("acme-2")));
    authority.reload(at(20));
    assert!(changed.has_changed().unwrap());
    assert_eq!(code(tenant_of("acme-1")), "invalid_api_key");
    assert_eq!(tenant_of("acme-2").unwrap(), "acme");
    assert_eq!(authority.tenant("acme").unwrap().sessions, Some(7));
}

#[test]
fn nobody_is_let_in_or_stays_for_a_tenant_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.toml");
    let text = format!(
        "[tenant.acme]\napi_keys = ['{}']\n",
        KeyDigest::of("acme-1")
    );
    fs::write(&path, text).unwrap();
    let authority = open(&path);
    let caller = authority.authenticate("acme-1", None, at(0)).unwrap();
    let acme = caller.tenant();
    let minted = authority.mint(acme, of_user("u"), at(0)).unwrap();
    let caller = authority
        .authenticate(minted.token.expose(), None, at(0))
        .unwrap();
    let granted = caller.grant().unwrap();
    let session = "sess_1".into();
    let holder = Holder::of(granted, Some(&session));
    assert_eq!(code(authority.verdict(holder, at(0))), "taken");

    fs::write(&path, "").unwrap();
    let mut changed = authority.changed();
    authority.reload(at(10));
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    let token = minted.token.expose();
    for (refused, expected) in [
        (
            code(authority.authenticate("acme-1", None, at(10))),
            "invalid_api_key",
        ),
        (
            code(authority.authenticate(token, None, at(10))),
            "tenant_unknown",
        ),
        (
            code(authority.mint(acme, of_user("u"), at(10))),
            "tenant_unknown",
        ),
        (code(authority.renew(granted, at(10))), "tenant_unknown"),
        (
            code(authority.resume(granted, &session, at(60), at(10))),
            "tenant_unknown",
        ),
        (code(authority.verdict(holder, at(10))), "tenant_unknown"),
    ] {
        assert_eq!(refused, expected);
    }
}

#[test]
fn a_file_with_a_mistake_is_refused_and_what_was_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.toml");
    let text = format!(
        "[tenant.acme]\napi_keys = ['{}']\n",
        KeyDigest::of("acme-1")
    );
    fs::write(&path, &text).unwrap();
    let authority = open(&path);
    let changed = authority.changed();
    let stays = || {
        authority.reload(at(10));
        code(authority.authenticate("acme-1", None, at(10))) == "taken"
    };
    fs::write(&path, "[tenant.acme]\nsesions = 5\n").unwrap();
    assert!(stays());
    fs::remove_file(&path).unwrap();
    assert!(stays());
    assert!(!changed.has_changed().unwrap());
    fs::write(&path, text.replace("acme", "other")).unwrap();
    assert!(stays());
    assert_eq!(code(authority.tenant("acme")), "tenant_unknown");
}

#[test]
fn a_refusal_is_logged_once_with_file_line_and_reason_and_so_is_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.toml");
    fs::write(&path, "[tenant.acme]\n").unwrap();
    let authority = open(&path);
    let lines = |text: Option<&str>| {
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        logged(|| (0..3).for_each(|_| authority.reload(at(10))))
    };
    let name = path.display().to_string();
    let refused = "ERROR Refused; what was there before stays in effect";
    for (text, expected) in [
        (
            Some("[tenant.acme]\nx = 1\n"),
            format!("{refused} error={name}:2: unknown field `x`"),
        ),
        (
            Some("[tenant.acme]\n\ny = 1\n"),
            format!("{refused} error={name}:3: unknown"),
        ),
        (
            None,
            format!("{refused} error={name}: cannot be read: No such file"),
        ),
        (
            Some("[tenant.acme]\n"),
            format!("INFO Taken again, after a refusal path={name}"),
        ),
        (
            Some("[tenant.other]\n"),
            "INFO Tenants changed tenants=2".to_owned(),
        ),
    ] {
        let lines = lines(text);
        assert!(lines.starts_with(&expected), "{expected}: {lines}");
        assert_eq!(lines.matches('\n').count(), 1, "{lines}");
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_again_as_often_as_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.toml");
    fs::write(&path, "[tenant.acme]\n").unwrap();
    let authority = Arc::new(open(&path));
    fs::write(&path, "[tenant.other]\n").unwrap();
    let mut changed = authority.changed();
    let start = clock::now();
    tokio::select! {
        () = Arc::clone(&authority).keep_fresh() => panic!("it ends"),
        marked = changed.changed() => marked.unwrap(),
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("nothing is looked at"),
    }
    assert_eq!(clock::now() - start, Duration::from_secs(10));
    assert_eq!(code(authority.tenant("other")), "taken");
}

#[test]
fn a_relay_does_not_start_with_a_file_that_it_cannot_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.toml");
    let refusal = || {
        let tenants = Some(path.clone());
        let settings = Settings {
            tenants,
            ..settings()
        };
        Authority::open(settings, at(0)).unwrap_err().to_string()
    };
    let name = path.display();
    assert!(refusal().starts_with(&format!("{name}: cannot be read: ")));
    fs::write(&path, "[tenant.acme]\n\nsesions = 5\n").unwrap();
    let expected = format!("{name}:3: unknown field `sesions`, expected one of `api_keys`, ");
    assert!(refusal().starts_with(&expected), "{}", refusal());
}

/// What is logged meanwhile, in lines of level and message.
fn logged(during: impl FnOnce()) -> String {
    let written = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&written);
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || Sink(Arc::clone(&sink)))
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(subscriber, during);
    let bytes = written.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| format!("{}\n", line.trim()))
        .collect()
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> Authority {
    let settings = Settings {
        tenants: Some(path.to_owned()),
        ..settings()
    };
    Authority::open(settings, at(0)).unwrap()
}
