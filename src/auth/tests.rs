//! What an authority takes and refuses, through its public surface.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::auth::{Authority, Caller, KeyDigest, Settings, Tenant, Wish};
use crate::core::ids::SessionId;

const KEY: &str = "the-key-of-the-tenant";

#[test]
fn a_client_secret_grants_what_was_wished_for() {
    let authority = authority();
    let session = json!({"type": "realtime", "instructions": "Be brief."});
    let wish = Wish {
        user: Some("u_1".to_owned()),
        device: Some("phone".to_owned()),
        models: Some(vec!["m".to_owned()]),
        session: Some(session.clone()),
        ttl: Some(Duration::from_secs(60)),
    };
    let minted = authority.mint(&tenant(&authority), wish, t0()).unwrap();
    assert_eq!(minted.expires, t0() + Duration::from_secs(60));

    let shown = authority.authenticate(minted.token.expose(), Some("phone"), t0());
    let Ok(Caller::Client(grant)) = shown else {
        panic!("{shown:?}");
    };
    assert_eq!(grant.tenant.id, "default");
    assert_eq!(grant.user.as_deref(), Some("u_1"));
    assert_eq!(grant.session.as_deref(), Some(&session));
    assert_eq!(grant.token, minted.id);
    assert!(grant.check_model("m").is_ok() && grant.check_model("n").is_err());

    let renewed = authority
        .renew(&grant, t0() + Duration::from_secs(50))
        .unwrap();
    assert_eq!(renewed.expires, t0() + Duration::from_secs(110));
    assert_ne!(renewed.id, minted.id);
    let later = t0() + Duration::from_secs(100);
    let caller = authority.authenticate(renewed.token.expose(), Some("phone"), later);
    assert_eq!(
        caller.unwrap().grant().unwrap().session.as_deref(),
        Some(&session)
    );
}

#[test]
fn a_resume_token_names_its_session() {
    let authority = authority();
    let minted = authority
        .mint(&tenant(&authority), Wish::default(), t0())
        .unwrap();
    let caller = authority
        .authenticate(minted.token.expose(), None, t0())
        .unwrap();
    let session = SessionId::from("sess_1");
    let until = t0() + Duration::from_secs(330);
    let token = authority
        .resume(caller.grant().unwrap(), &session, until, t0())
        .unwrap();
    let shown = authority.authenticate(token.expose(), None, t0());
    assert!(matches!(shown, Ok(Caller::Returning(_, of)) if of == session));
}

fn authority() -> Authority {
    let settings = Settings {
        api_keys: vec![KeyDigest::of(KEY)],
        ..Settings::default()
    };
    Authority::open(settings, t0()).unwrap()
}

fn tenant(authority: &Authority) -> Arc<Tenant> {
    let caller = authority.authenticate(KEY, None, t0()).unwrap();
    Arc::clone(caller.tenant())
}

fn t0() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}
