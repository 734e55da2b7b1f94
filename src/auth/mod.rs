//! Mints and verifies what opens the relay's doors: tenants' API keys, client secrets (`ek_...`)
//! and resume tokens (`rt_...`).
//!
//! **Invariants**
//! - A token is signed with Ed25519 and nothing else; its own header chooses only among our keys.
//! - Nothing here shows a key, a token, or a client's session settings by its `Debug`.

mod attached;
mod authority;
mod crypto;
mod files;
mod grant;
mod key;
mod keydir;
mod keyring;
mod revocation;
mod settings;
mod signing;
mod sources;
mod tenants;
mod token;
mod upkeep;

pub use crate::auth::authority::Authority;
pub use crate::auth::files::FileError;
pub use crate::auth::grant::{Caller, Grant, Minted, Tenant, Wish};
pub use crate::auth::key::{KeyDigest, NotADigest, new_api_key};
pub use crate::auth::keydir::write_signing_key;
pub use crate::auth::revocation::{Holder, Revocation, Subject};
pub use crate::auth::settings::Settings;
pub use crate::auth::tenants::EXAMPLE as TENANTS_EXAMPLE;

#[cfg(test)]
mod tests;
