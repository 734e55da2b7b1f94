//! What an authority takes and refuses, through its public surface.

mod forge;
mod grants;
mod hostile;
mod keys;
mod revocations;
mod tenants;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::auth::{Authority, Caller, Grant, KeyDigest, Settings, Tenant, Wish};
use crate::core::port::{Fault, Token};

/// The API key of the tenant `default`.
const KEY: &str = "the-key-of-the-tenant";

fn settings() -> Settings {
    Settings {
        api_keys: vec![KeyDigest::of(KEY)],
        ..Settings::default()
    }
}

fn authority() -> Authority {
    Authority::open(settings(), at(0)).unwrap()
}

fn tenant(authority: &Authority) -> Arc<Tenant> {
    let caller = authority.authenticate(KEY, None, at(0)).unwrap();
    Arc::clone(caller.tenant())
}

/// Makes a client secret at the start of time.
fn mint(authority: &Authority, wish: Wish) -> Token {
    let tenant = tenant(authority);
    authority.mint(&tenant, wish, at(0)).unwrap().token
}

fn grant(authority: &Authority, token: &Token, device: Option<&str>) -> Grant {
    let caller = authority.authenticate(token.expose(), device, at(0));
    let Ok(Caller::Client(grant)) = caller else {
        panic!("{caller:?}");
    };
    grant
}

fn of_user(user: &str) -> Wish {
    Wish {
        user: Some(user.to_owned()),
        ..Wish::default()
    }
}

/// So many seconds after the start.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn code<T>(result: Result<T, Fault>) -> String {
    match result {
        Ok(_) => "taken".to_owned(),
        Err(fault) => fault.code.into_owned(),
    }
}
