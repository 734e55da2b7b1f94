//! Shutting people out, and letting them in again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::auth::tests::{KEY, at, authority, code, grant, mint, of_user, settings, tenant};
use crate::auth::{Authority, Holder, Settings, Subject, Wish};
use crate::core::ids::SessionId;

#[test]
fn whoever_is_revoked_can_do_nothing_more_and_nobody_else_is_harmed() {
    let wish = |user: &str, device: &str| Wish {
        device: Some(device.to_owned()),
        ..of_user(user)
    };
    let [one, other] = ["sess_1", "sess_2"].map(SessionId::from);
    let default = || "default".to_owned();
    let all = ["u/d sess_1", "u/d sess_2", "u/e", "v/d", "tenant"];
    for (subject, shut_out) in [
        (Subject::Tenant(default()), all.as_slice()),
        (
            Subject::User {
                tenant: default(),
                user: "u".to_owned(),
            },
            &["u/d sess_1", "u/d sess_2", "u/e"],
        ),
        (
            Subject::Device {
                tenant: default(),
                device: "d".to_owned(),
            },
            &["u/d sess_1", "u/d sess_2", "v/d"],
        ),
        (Subject::Session(one.clone()), &["u/d sess_1"]),
        (
            Subject::User {
                tenant: "else".to_owned(),
                user: "u".to_owned(),
            },
            &[],
        ),
        (
            Subject::Device {
                tenant: "else".to_owned(),
                device: "d".to_owned(),
            },
            &[],
        ),
        (Subject::Tenant("else".to_owned()), &[]),
    ] {
        let authority = authority();
        let tenant = tenant(&authority);
        let u_d = mint(&authority, wish("u", "d"));
        let granted = grant(&authority, &u_d, Some("d"));
        let resume = |session| authority.resume(&granted, session, at(60), at(0)).unwrap();
        let shown = [
            ("u/d sess_1", resume(&one), Some("d")),
            ("u/d sess_2", resume(&other), Some("d")),
            ("u/e", mint(&authority, wish("u", "e")), Some("e")),
            ("v/d", mint(&authority, wish("v", "d")), Some("d")),
            ("tenant", KEY.into(), None),
        ];
        let changed = authority.changed();
        authority
            .revoke(subject.clone(), "why".to_owned(), None, at(0))
            .unwrap();
        assert!(changed.has_changed().unwrap());
        for (who, token, device) in &shown {
            let expected = if shut_out.contains(who) {
                "token_revoked"
            } else {
                "taken"
            };
            let verdict = code(authority.authenticate(token.expose(), *device, at(0)));
            assert_eq!(verdict, expected, "{who}, {subject:?}");
        }
        // Neither may be minted, nor renewed, nor go on.
        let expected = |who| {
            if shut_out.contains(&who) {
                "token_revoked"
            } else {
                "taken"
            }
        };
        assert_eq!(
            code(authority.mint(&tenant, wish("u", "e"), at(0))),
            expected("u/e")
        );
        assert_eq!(
            code(authority.mint(&tenant, wish("v", "d"), at(0))),
            expected("v/d")
        );
        let holder = Holder::of(&granted, Some(&one));
        assert_eq!(
            code(authority.verdict(holder, at(0))),
            expected("u/d sess_1")
        );
        let resumed = authority.resume(&granted, &other, at(60), at(0));
        assert_eq!(code(resumed), expected("u/d sess_2"));
    }
}

#[test]
fn a_revocation_stands_until_it_is_lifted_or_has_expired() {
    let authority = authority();
    let shown = |seconds| code(authority.authenticate(KEY, None, at(seconds)));
    let subject = Subject::Tenant("default".to_owned());
    let revoke = |until: Option<u64>| {
        let until = until.map(at);
        authority
            .revoke(subject.clone(), String::new(), until, at(0))
            .unwrap()
    };
    let forever = revoke(None);
    assert_eq!(shown(1_000_000_000), "token_revoked");
    assert_eq!(authority.lift("rev_other", at(0)).unwrap(), None);
    assert_eq!(
        authority.lift(&forever.id, at(0)).unwrap(),
        Some(forever.clone())
    );
    assert_eq!(authority.lift(&forever.id, at(0)).unwrap(), None);
    assert_eq!(shown(0), "taken");

    let brief = revoke(Some(60));
    assert_eq!(shown(59), "token_revoked");
    assert_eq!(shown(60), "taken");
    let again = revoke(Some(90));
    assert_eq!(again.id, brief.id, "one of a subject");
    assert_eq!(authority.revocations(at(0)), [again]);
    assert_eq!(authority.revocations(at(90)), []);
}

#[test]
fn a_revoked_session_is_forgotten_with_its_last_token() {
    let authority = authority();
    let subject = Subject::Session("sess_1".into());
    let revocation = authority
        .revoke(subject, String::new(), None, at(0))
        .unwrap();
    assert_eq!(revocation.expires, Some(at(7200 + 600 + 5)));
}

#[test]
fn a_restart_does_not_forgive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("revoked.json");
    let before = open(&path).unwrap();
    let user = |user: &str| Subject::User {
        tenant: "default".to_owned(),
        user: user.to_owned(),
    };
    let revoke = |subject, seconds: Option<u64>| {
        before
            .revoke(subject, "why \"\n".to_owned(), seconds.map(at), at(0))
            .unwrap()
    };
    let kept = [
        revoke(user("u"), None),
        revoke(Subject::Session("sess_1".into()), Some(90)),
        revoke(
            Subject::Device {
                tenant: "default".to_owned(),
                device: "d".to_owned(),
            },
            None,
        ),
        revoke(Subject::Tenant("other".to_owned()), None),
    ];
    let lifted = revoke(user("v"), None);
    before.lift(&lifted.id, at(0)).unwrap();
    let mut before: Vec<_> = before.revocations(at(0));

    let after = open(&path).unwrap();
    let mut found = after.revocations(at(0));
    assert_eq!(found.len(), kept.len());
    for list in [&mut before, &mut found] {
        list.sort_by(|one, other| one.id.cmp(&other.id));
    }
    assert_eq!(found, before);
    let wish = Wish {
        device: Some("d".to_owned()),
        ..Wish::default()
    };
    let tenant = tenant(&after);
    assert_eq!(
        code(after.mint(&tenant, of_user("u"), at(0))),
        "token_revoked"
    );
    assert_eq!(code(after.mint(&tenant, wish, at(0))), "token_revoked");
    assert_eq!(code(after.mint(&tenant, of_user("v"), at(0))), "taken");
}

#[test]
fn a_file_that_cannot_be_used_forgives_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("revoked.json");
    for (text, reason) in [
        ("", ":1: not a list of revocations: EOF"),
        ("{}", ":1: not a list of revocations: missing field"),
        (
            "{\"revocations\":[\n{\"id\":\"r\",\"reason\":\"\",\"created_at\":0}]}",
            ":2: ",
        ),
        (
            "{\"revocations\":[{\"id\":\"r\",\"reason\":\"\",\"created_at\":0,\"tenant\":\"a\",\
             \"session\":\"s\"}]}",
            "Name one subject",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let refused = open(&path).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let refused = open(&dir.path().join("nowhere/revoked.json"))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("revoked.json: cannot be written"),
        "{refused}"
    );
}

#[test]
fn what_cannot_be_saved_stands_nevertheless() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inner/revoked.json");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let authority = open(&path).unwrap();
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let subject = Subject::Tenant("default".to_owned());
    let revoked = authority.revoke(subject, String::new(), None, at(0));
    assert_eq!(code(revoked), "revocation_not_saved");
    assert_eq!(
        code(authority.authenticate(KEY, None, at(0))),
        "token_revoked"
    );
    let id = authority.revocations(at(0)).remove(0).id;
    assert_eq!(code(authority.lift(&id, at(0))), "revocation_not_saved");
    assert_eq!(
        code(authority.authenticate(KEY, None, at(0))),
        "token_revoked"
    );
}

#[test]
fn there_are_no_more_than_ten_thousand() {
    let authority = authority();
    let revoke = |number: u64, expires| {
        let subject = Subject::User {
            tenant: "default".to_owned(),
            user: number.to_string(),
        };
        authority.revoke(subject, String::new(), expires, at(number))
    };
    for number in 0..10_000 {
        revoke(number, (number == 0).then(|| at(20_000))).unwrap();
    }
    assert_eq!(code(revoke(10_000, None)), "too_many_revocations");
    assert_eq!(
        code(revoke(5_000, None)),
        "taken",
        "for it is there already"
    );
    assert_eq!(code(revoke(20_000, None)), "taken", "for one has expired");
}

#[test]
fn a_revocation_is_of_one_subject_and_says_so_in_json() {
    let subject = |tenant: Option<&str>, user: Option<&str>, device: Option<&str>, session| {
        let [tenant, user, device, session] =
            [tenant, user, device, session].map(|part: Option<&str>| part.map(str::to_owned));
        Subject::new(tenant, user, device, session)
    };
    let long = "s".repeat(501);
    for wrong in [
        subject(None, None, None, None),
        subject(None, Some("u"), None, None),
        subject(Some("t"), Some("u"), Some("d"), None),
        subject(Some("t"), None, None, Some("s")),
        subject(Some(""), None, None, None),
        subject(Some("t"), Some("a\nb"), None, None),
        subject(None, None, None, Some(&long)),
    ] {
        assert_eq!(code(wrong), "invalid_value");
    }
    let authority = authority();
    let past = authority.revoke(
        Subject::Tenant("t".to_owned()),
        String::new(),
        Some(at(0)),
        at(0),
    );
    assert_eq!(code(past), "invalid_value");
    let user = subject(Some("t"), Some("u"), None, None).unwrap();
    let expires = Some(at(60) + Duration::from_millis(500));
    let revocation = authority
        .revoke(user, "why".to_owned(), expires, at(0))
        .unwrap();
    assert_eq!(
        serde_json::to_value(&revocation).unwrap(),
        json!({
            "id": revocation.id,
            "tenant": "t",
            "user": "u",
            "reason": "why",
            "created_at": 1_800_000_000,
            "expires_at": 1_800_000_060,
        })
    );
}

#[test]
fn a_thread_that_panics_shuts_nobody_out() {
    let authority = Arc::new(authority());
    let poisoned = Arc::clone(&authority);
    let panicked = std::thread::spawn(move || {
        let _keys = poisoned.keys.write().unwrap();
        let _tenants = poisoned.tenants.write().unwrap();
        let _revocations = poisoned.revocations.write().unwrap();
        let _sources = poisoned.sources.lock().unwrap();
        let _saving = poisoned.saving.lock().unwrap();
        panic!("on purpose, with all locks held");
    });
    assert!(panicked.join().is_err());
    authority.reload(at(10));
    let token = mint(&authority, of_user("u"));
    assert_eq!(
        code(authority.authenticate(token.expose(), None, at(0))),
        "taken"
    );
    let subject = Subject::Tenant("default".to_owned());
    authority
        .revoke(subject, String::new(), None, at(0))
        .unwrap();
    assert_eq!(
        code(authority.authenticate(KEY, None, at(0))),
        "token_revoked"
    );
}

fn open(path: &Path) -> Result<Authority, crate::auth::FileError> {
    let settings = Settings {
        revocations: Some(path.to_owned()),
        ..settings()
    };
    Authority::open(settings, at(0))
}
