//! Mints and verifies what opens the relay's doors: tenants' API keys, client secrets (`ek_...`)
//! and resume tokens (`rt_...`).
//!
//! **Invariants**
//! - A token is signed with Ed25519 and nothing else; its own header chooses only among our keys.
//! - Nothing here shows a key, a token, or a client's session settings by its `Debug`.

mod attached;
mod authority;
mod crypto;
mod grant;
mod key;
mod keydir;
mod keyring;
mod settings;
mod signing;
mod token;

pub use crate::auth::authority::Authority;
pub use crate::auth::grant::{Caller, Grant, Minted, Subject, Tenant, Wish};
pub use crate::auth::key::{KeyDigest, NotADigest, new_api_key};
pub use crate::auth::keydir::{FileError, write_signing_key};
pub use crate::auth::settings::Settings;

#[cfg(test)]
mod tests;
