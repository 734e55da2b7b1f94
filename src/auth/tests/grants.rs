//! What is granted: minting, renewing, resuming, presenting.

use std::time::Duration;

use serde_json::json;

use crate::auth::tests::{KEY, at, authority, code, grant, mint, of_user, settings, tenant};
use crate::auth::{Authority, Caller, KeyDigest, Settings, Tenant, Wish};
use crate::core::ids::SessionId;

#[test]
fn a_client_secret_grants_what_was_wished_for() {
    let authority = authority();
    let session = json!({"type": "realtime", "model": "m", "instructions": "Be brief."});
    let wish = Wish {
        user: Some("ü_1".to_owned()),
        device: Some("phone".to_owned()),
        models: Some(vec!["m".to_owned()]),
        session: Some(session.clone()),
        ttl: Some(Duration::from_secs(60)),
    };
    let minted = authority.mint(&tenant(&authority), wish, at(0)).unwrap();
    assert_eq!(minted.expires, at(60));
    assert!(minted.token.expose().starts_with("ek_"));

    let granted = grant(&authority, &minted.token, Some("phone"));
    assert_eq!(granted.tenant.id, "default");
    assert_eq!(granted.user.as_deref(), Some("ü_1"));
    assert_eq!(granted.session.as_deref(), Some(&session));
    assert_eq!(granted.token, minted.id);
    assert_eq!(granted.expires, at(60));
    assert!(granted.check_model("m").is_ok());
    assert_eq!(code(granted.check_model("n")), "model_not_allowed");
}

#[test]
fn a_renewal_grants_the_same_for_as_long_again() {
    let authority = authority();
    let wish = Wish {
        device: Some("phone".to_owned()),
        session: Some(json!({"instructions": "Be brief."})),
        ttl: Some(Duration::from_secs(60)),
        ..of_user("u")
    };
    let first = mint(&authority, wish);
    let granted = grant(&authority, &first, Some("phone"));
    // The relay renews for a session that runs, also when its token has died meanwhile.
    authority.reload(at(500));
    let renewed = authority.renew(&granted, at(500)).unwrap();
    assert_eq!(renewed.expires, at(560));
    assert_ne!(renewed.id, granted.token);

    let caller = authority.authenticate(renewed.token.expose(), Some("phone"), at(550));
    let again = caller.unwrap().grant().unwrap().clone();
    assert_eq!(again.user, granted.user);
    assert_eq!(again.session, granted.session);
    assert_eq!(again.ttl, granted.ttl);
}

#[test]
fn a_resume_token_names_its_session_and_no_other_door() {
    let authority = authority();
    let wish = Wish {
        ttl: Some(Duration::from_secs(60)),
        ..of_user("u")
    };
    let granted = grant(&authority, &mint(&authority, wish), None);
    let session = SessionId::from("sess_1");
    let token = authority.resume(&granted, &session, at(90), at(0)).unwrap();
    assert!(token.expose().starts_with("rt_"));

    let caller = authority
        .authenticate(token.expose(), None, at(89))
        .unwrap();
    let Caller::Returning(returning, of) = caller else {
        panic!("{caller:?}");
    };
    assert_eq!(of, session);
    assert_eq!(returning.user.as_deref(), Some("u"));
    assert_eq!(returning.ttl, granted.ttl, "renewals go on as before");
    let late = authority.authenticate(token.expose(), None, at(95));
    assert_eq!(code(late), "token_expired");
}

#[test]
fn a_resume_token_lives_little_longer_than_the_longest_client_secret() {
    let authority = authority();
    let granted = grant(&authority, &mint(&authority, of_user("u")), None);
    let session = SessionId::from("sess_1");
    let token = authority.resume(&granted, &session, at(1_000_000), at(0));
    let token = token.unwrap();
    let at_time = |time| authority.authenticate(token.expose(), None, at(time));
    assert_eq!(code(at_time(7200 + 600)), "taken");
    assert_eq!(code(at_time(7200 + 605)), "token_expired");
}

#[test]
fn clocks_may_differ_a_little_and_no_more() {
    let authority = authority();
    let wish = Wish {
        ttl: Some(Duration::from_secs(10)),
        ..Wish::default()
    };
    let tenant = tenant(&authority);
    let token = authority.mint(&tenant, wish, at(100)).unwrap().token;
    for (time, verdict) in [
        (94, "token_not_yet_valid"),
        (95, "taken"),
        (100, "taken"),
        (114, "taken"),
        (115, "token_expired"),
    ] {
        let shown = authority.authenticate(token.expose(), None, at(time));
        assert_eq!(code(shown), verdict, "at {time}");
    }
}

#[test]
fn a_life_is_bounded_by_openai_and_by_the_operator() {
    let capped = Settings {
        max_ttl: Duration::from_secs(200),
        ..settings()
    };
    let capped = Authority::open(capped, at(0)).unwrap();
    let usual = authority();
    let ttl = |authority: &Authority, ttl: Option<u64>| {
        let wish = Wish {
            ttl: ttl.map(Duration::from_secs),
            ..Wish::default()
        };
        authority.mint(&tenant(authority), wish, at(0))
    };
    assert_eq!(ttl(&usual, None).unwrap().expires, at(300));
    assert_eq!(ttl(&capped, None).unwrap().expires, at(200));
    assert_eq!(ttl(&usual, Some(10)).unwrap().expires, at(10));
    assert_eq!(ttl(&usual, Some(7200)).unwrap().expires, at(7200));
    for (authority, seconds) in [
        (&usual, 9),
        (&usual, 7201),
        (&capped, 201),
        (&usual, u64::MAX),
    ] {
        let fault = ttl(authority, Some(seconds)).unwrap_err();
        assert_eq!(fault.code, "invalid_value");
        assert_eq!(fault.param.as_deref(), Some("expires_after.seconds"));
    }
    let message = ttl(&capped, Some(201)).unwrap_err().message;
    assert!(
        message.contains("to 200 seconds here (`tokens.max_ttl`)"),
        "{message}"
    );
}

#[test]
fn what_a_token_cannot_carry_is_refused_by_its_field() {
    let authority = authority();
    let text = |length| Some("x".repeat(length));
    let models = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let wishes = [
        (
            "voxline.user",
            Wish {
                user: text(0),
                ..Wish::default()
            },
        ),
        (
            "voxline.user",
            Wish {
                user: text(129),
                ..Wish::default()
            },
        ),
        ("voxline.user", of_user("a\nb")),
        (
            "voxline.device",
            Wish {
                device: text(0),
                ..Wish::default()
            },
        ),
        (
            "voxline.device",
            Wish {
                device: Some("a b".to_owned()),
                ..Wish::default()
            },
        ),
        (
            "voxline.device",
            Wish {
                device: Some("a,b".to_owned()),
                ..Wish::default()
            },
        ),
        (
            "voxline.models",
            Wish {
                models: models(&[]),
                ..Wish::default()
            },
        ),
        (
            "voxline.models",
            Wish {
                models: models(&[""]),
                ..Wish::default()
            },
        ),
        (
            "voxline.models",
            Wish {
                models: models(&["m"; 17]),
                ..Wish::default()
            },
        ),
        (
            "session",
            Wish {
                session: Some(json!("x".repeat(300_000))),
                ..Wish::default()
            },
        ),
        // Each of these is fine, and all of them together are too much for a header.
        (
            "voxline",
            Wish {
                models: models(&["m".repeat(200).as_str(); 16]),
                ..Wish::default()
            },
        ),
    ];
    for (param, wish) in wishes {
        let fault = authority
            .mint(&tenant(&authority), wish, at(0))
            .unwrap_err();
        assert_eq!(fault.code, "invalid_value", "{param}");
        assert_eq!(fault.param.as_deref(), Some(param), "{}", fault.message);
    }
}

#[test]
fn whoever_gets_a_client_secret_can_get_a_resume_token() {
    let authority = authority();
    let session = SessionId::from(format!("sess_{}", "0".repeat(32)));
    let mut longest = 0;
    for length in 1..=200 {
        let wish = Wish {
            device: Some("d".repeat(128)),
            models: Some(vec!["m".repeat(length); 16]),
            session: Some(json!({})),
            ..of_user(&"u".repeat(128))
        };
        let Ok(minted) = authority.mint(&tenant(&authority), wish, at(0)) else {
            break;
        };
        longest = minted.token.expose().len();
        let granted = grant(&authority, &minted.token, Some(&"d".repeat(128)));
        let token = authority.resume(&granted, &session, at(60), at(0)).unwrap();
        assert!(
            authority
                .authenticate(token.expose(), Some(&"d".repeat(128)), at(0))
                .is_ok()
        );
    }
    assert!(longest > 3500, "{longest}");
}

#[test]
fn no_model_is_granted_that_the_tenant_or_the_token_does_not_have() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.toml");
    let text = format!(
        "[tenant.a]\napi_keys = ['{}']\nmodels = ['m', 'n']\n",
        KeyDigest::of(KEY)
    );
    std::fs::write(&path, text).unwrap();
    let settings = Settings {
        tenants: Some(path),
        ..Settings::default()
    };
    let authority = Authority::open(settings, at(0)).unwrap();
    let tenant = tenant(&authority);
    let mint = |models: Option<&str>, session: Option<&str>| {
        let wish = Wish {
            models: models.map(|model| vec![model.to_owned()]),
            session: session.map(|model| json!({ "model": model })),
            ..Wish::default()
        };
        authority.mint(&tenant, wish, at(0))
    };
    assert_eq!(code(mint(Some("m"), Some("m"))), "taken");
    for (models, session, param) in [
        (Some("o"), None, "voxline.models"),
        (None, Some("o"), "session.model"),
        (Some("m"), Some("n"), "session.model"),
    ] {
        let fault = mint(models, session).unwrap_err();
        assert_eq!(fault.code, "model_not_allowed");
        assert_eq!(fault.param.as_deref(), Some(param));
    }
    let caller = authority.authenticate(KEY, None, at(0)).unwrap();
    assert_eq!(code(caller.check_model("n")), "taken");
    assert_eq!(code(caller.check_model("o")), "model_not_allowed");
}

#[test]
fn a_client_presents_only_a_token_of_its_own_user_and_device() {
    let authority = authority();
    let wish = |user: &str, device: &str| Wish {
        device: Some(device.to_owned()),
        ..of_user(user)
    };
    let running = grant(&authority, &mint(&authority, wish("u", "d")), Some("d"));
    let session = SessionId::from("sess_1");
    let resume = authority.resume(&running, &session, at(90), at(0)).unwrap();
    for (shown, verdict) in [
        (mint(&authority, wish("u", "d")), "taken"),
        (mint(&authority, wish("v", "d")), "insufficient_permissions"),
        (mint(&authority, wish("u", "e")), "token_wrong_device"),
        (mint(&authority, of_user("u")), "token_wrong_device"),
        (resume, "token_malformed"),
        (KEY.into(), "token_malformed"),
    ] {
        let presented = authority.present(&running, shown.expose(), at(0));
        assert_eq!(code(presented), verdict);
    }
}

#[test]
fn the_admin_api_is_closed_without_a_key_and_opens_with_it_alone() {
    let opened = Settings {
        admin_key: Some(KeyDigest::of("the-admin-key")),
        ..settings()
    };
    let opened = Authority::open(opened, at(0)).unwrap();
    assert_eq!(code(opened.authenticate_admin("the-admin-key")), "taken");
    assert_eq!(code(opened.authenticate_admin(KEY)), "invalid_api_key");
    assert_eq!(
        code(opened.authenticate("the-admin-key", None, at(0))),
        "invalid_api_key"
    );
    let closed = authority();
    for key in ["", "the-admin-key", KEY] {
        assert_eq!(code(closed.authenticate_admin(key)), "invalid_api_key");
    }
}

#[test]
fn no_debug_shows_a_credential_or_a_clients_settings() {
    let authority = authority();
    let wish = Wish {
        device: Some("the-device".to_owned()),
        session: Some(json!({"instructions": "the-instructions"})),
        ..of_user("u")
    };
    let minted = authority.mint(&tenant(&authority), wish, at(0)).unwrap();
    let granted = grant(&authority, &minted.token, Some("the-device"));
    let caller = Caller::Client(granted.clone());
    let shown = format!(
        "{authority:?} {minted:?} {granted:?} {caller:?} {:?}",
        settings()
    );
    assert!(shown.contains("default"), "{shown}");
    let token = minted.token.expose().trim_start_matches("ek_");
    for secret in [&token[..12], "the-device", "the-instructions", KEY] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let _: &Tenant = &granted.tenant;
}
