//! Tenants that come and go.

use std::fs;
use std::path::Path;

use crate::auth::tests::{KEY, at, code, of_user, settings};
use crate::auth::{Authority, Holder, KeyDigest, Settings};

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

fn open(path: &Path) -> Authority {
    let settings = Settings {
        tenants: Some(path.to_owned()),
        ..settings()
    };
    Authority::open(settings, at(0)).unwrap()
}
