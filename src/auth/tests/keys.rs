//! Signing keys that come and go.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::auth::tests::{at, authority, code, mint, settings, tenant};
use crate::auth::{Authority, Settings, Wish, write_signing_key};
use crate::core::port::Token;

/// A settled key signs after `auth.reload`; until here no token of it can have been made before.
const LONGEST_LIFE: u64 = 7200 + 600 + 5 + 10;

#[test]
fn a_new_key_verifies_at_once_and_signs_when_all_relays_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = two_keys(dir.path());
    let [old_kid, new_kid] = [kid_of(&old), kid_of(&new)];
    let away = hide(&new);
    let (one, other) = (open(dir.path()), open(dir.path()));
    assert_eq!(signer(&one, 0), old_kid);

    fs::rename(&away, &new).unwrap();
    one.reload(at(100));
    assert_eq!(kids(&one), [old_kid.as_str(), new_kid.as_str()]);
    assert_eq!(
        signer(&one, 100),
        old_kid,
        "another relay may not have looked yet"
    );
    other.reload(at(109));
    one.reload(at(110));
    assert_eq!(signer(&one, 110), new_kid);
    let token = mint_at(&one, 110);
    assert_eq!(
        code(other.authenticate(token.expose(), None, at(110))),
        "taken"
    );
    assert_eq!(signer(&other, 110), old_kid);
}

#[test]
fn a_removed_key_verifies_until_its_last_token_has_died() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = two_keys(dir.path());
    let old_kid = kid_of(&old);
    let away = hide(&new);
    let authority = open(dir.path());
    let wish = Wish {
        ttl: Some(Duration::from_secs(7200)),
        ..Wish::default()
    };
    let minted = authority.mint(&tenant(&authority), wish, at(90)).unwrap();
    fs::rename(&away, &new).unwrap();
    fs::remove_file(&old).unwrap();
    authority.reload(at(100));
    assert_ne!(
        signer(&authority, 100),
        old_kid,
        "the only key signs, however new"
    );
    assert!(
        kids(&authority).contains(&old_kid),
        "verifiers elsewhere need it still"
    );

    authority.reload(at(7290));
    let late = authority.authenticate(minted.token.expose(), None, at(7294));
    assert_eq!(code(late), "taken");
    authority.reload(at(100 + LONGEST_LIFE - 1));
    assert!(kids(&authority).contains(&old_kid));
    authority.reload(at(100 + LONGEST_LIFE));
    assert!(!kids(&authority).contains(&old_kid));
    let gone = authority.authenticate(minted.token.expose(), None, at(200));
    assert_eq!(code(gone), "token_unknown_key");
}

#[test]
fn a_key_that_comes_back_is_like_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let [_old, new] = two_keys(dir.path());
    let new_kid = kid_of(&new);
    let authority = open(dir.path());
    authority.reload(at(100));
    assert_eq!(signer(&authority, 100), new_kid);
    let away = hide(&new);
    authority.reload(at(200));
    assert_ne!(signer(&authority, 200), new_kid);
    fs::rename(&away, &new).unwrap();
    authority.reload(at(300));
    assert_ne!(signer(&authority, 300), new_kid);
    authority.reload(at(310));
    assert_eq!(signer(&authority, 310), new_kid);
    authority.reload(at(1_000_000));
    assert_eq!(kids(&authority).len(), 2);
}

#[test]
fn at_the_start_the_last_key_signs_that_is_old_enough() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = two_keys(dir.path());
    let signer_if_written = |old_at: SystemTime, new_at: SystemTime| {
        for (path, time) in [(&old, old_at), (&new, new_at)] {
            let file = fs::File::options().append(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        }
        signer(&open(dir.path()), 0)
    };
    let [old_kid, new_kid] = [kid_of(&old), kid_of(&new)];
    let before = |seconds| at(0) - Duration::from_secs(seconds);
    assert_eq!(signer_if_written(before(90), before(10)), new_kid);
    assert_eq!(signer_if_written(before(90), before(9)), old_kid);
    assert_eq!(
        signer_if_written(before(9), before(8)),
        old_kid,
        "the first to have come"
    );
    assert_eq!(
        signer_if_written(at(50), at(60)),
        new_kid,
        "both from the future"
    );
}

#[test]
fn a_directory_with_a_bad_file_is_refused_and_what_was_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = two_keys(dir.path());
    let authority = open(dir.path());
    authority.reload(at(100));
    let token = mint_at(&authority, 100);
    let before = kids(&authority);
    for harm in [
        &|| fs::write(dir.path().join("9.pem"), "no key").unwrap() as (),
        &|| fs::write(&new, "-----BEGIN PRIVATE KEY-----").unwrap(),
        &|| fs::remove_dir_all(dir.path()).unwrap(),
    ] as [&dyn Fn(); 3]
    {
        harm();
        authority.reload(at(1_000_000));
        assert_eq!(kids(&authority), before);
        assert_eq!(
            code(authority.authenticate(token.expose(), None, at(100))),
            "taken"
        );
    }
    assert!(!old.exists());
}

#[test]
fn a_relay_does_not_start_with_keys_that_it_cannot_use() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = || {
        let keys = Some(dir.path().to_owned());
        let refused = Authority::open(Settings { keys, ..settings() }, at(0));
        refused.unwrap_err().to_string()
    };
    assert!(refusal().contains("holds no key"));
    fs::write(dir.path().join("1.pem"), "no key").unwrap();
    assert!(refusal().contains("1.pem: it holds no `-----BEGIN PRIVATE KEY-----`"));
}

#[test]
fn a_key_of_the_relays_own_changes_daily_and_no_token_dies_of_it() {
    let authority = authority();
    let mut signers = vec![];
    let mut tokens: Vec<(u64, Token)> = vec![];
    for now in (0..4 * 24 * 3600).step_by(140) {
        authority.reload(at(now));
        tokens.push((now, mint_at(&authority, now)));
        tokens.retain(|(made, _)| now < made + 300);
        for (made, token) in &tokens {
            let shown = authority.authenticate(token.expose(), None, at(now));
            assert_eq!(code(shown), "taken", "made at {made}, shown at {now}");
        }
        signers.push(signer(&authority, now));
        assert!(kids(&authority).len() <= 3);
    }
    signers.dedup();
    assert_eq!(signers.len(), 4);
}

#[test]
fn only_public_halves_are_published() {
    let jwks = authority().jwks();
    let keys = jwks["keys"].as_array().unwrap();
    let mut fields: Vec<_> = keys[0].as_object().unwrap().keys().cloned().collect();
    fields.sort();
    assert_eq!(fields, ["alg", "crv", "kid", "kty", "use", "x"]);
}

fn open(dir: &Path) -> Authority {
    let settings = Settings {
        keys: Some(dir.to_owned()),
        ..settings()
    };
    Authority::open(settings, at(0)).unwrap()
}

/// Two keys, both written long before the start.
fn two_keys(dir: &Path) -> [PathBuf; 2] {
    let before = |seconds: u64| at(0) - Duration::from_secs(seconds);
    [2000, 1000].map(|seconds| {
        let (path, _) = write_signing_key(dir, before(seconds)).unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(before(seconds)).unwrap();
        path
    })
}

fn hide(path: &Path) -> PathBuf {
    let away = path.with_extension("away");
    fs::rename(path, &away).unwrap();
    away
}

/// The key id of the key in this file, as a relay with that key alone publishes it.
fn kid_of(path: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(path, dir.path().join("only.pem")).unwrap();
    kids(&open(dir.path())).remove(0)
}

fn kids(authority: &Authority) -> Vec<String> {
    let jwks = authority.jwks();
    let keys = jwks["keys"].as_array().unwrap();
    let kids = keys.iter().map(|key| key["kid"].as_str().unwrap());
    kids.map(str::to_owned).collect()
}

fn mint_at(authority: &Authority, seconds: u64) -> Token {
    let minted = authority.mint(&tenant(authority), Wish::default(), at(seconds));
    minted.unwrap().token
}

fn signer(authority: &Authority, seconds: u64) -> String {
    let token = mint_at(authority, seconds);
    let header = token.expose().trim_start_matches("ek_").split('.').next();
    let header = URL_SAFE_NO_PAD.decode(header.unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[test]
fn a_relay_that_is_not_told_otherwise_signs_for_itself_alone() {
    let token = mint(&authority(), Wish::default());
    let shown = authority().authenticate(token.expose(), None, at(0));
    assert_eq!(code(shown), "token_unknown_key");
}
