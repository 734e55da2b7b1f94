//! Keeps the session settings that tenants' servers attach to client secrets.
//!
//! They are not in the token, where the browser that holds it could read the instructions and
//! tools: the token names them by a keyed digest, so that equal ones are kept once.
//!
//! **Invariants**
//! - Settings are found as long as a token that names them is valid.
//! - No tenant keeps more than its share of the room.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use ring::hmac;
use serde_json::Value;

use crate::core::port::Fault;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The largest settings, in bytes of JSON.
    pub(crate) each: usize,
    /// Of one tenant, in number and in bytes.
    pub(crate) tenant: (usize, usize),
    /// Of all tenants.
    pub(crate) all: (usize, usize),
}

impl Default for Room {
    fn default() -> Self {
        Self {
            each: 256 << 10,
            tenant: (10_000, 32 << 20),
            all: (20_000, 64 << 20),
        }
    }
}

/// All settings that living tokens name.
pub(crate) struct Attached {
    room: Room,
    /// Known to this process alone: nobody can tell settings by their name.
    naming: hmac::Key,
    kept: HashMap<String, Kept>,
}

struct Kept {
    tenant: String,
    value: Arc<Value>,
    bytes: usize,
    until: SystemTime,
}

impl Attached {
    pub(crate) fn new(room: Room) -> Self {
        let mut secret = [0; 32];
        rand::rng().fill_bytes(&mut secret);
        Self {
            room,
            naming: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            kept: HashMap::new(),
        }
    }

    /// Keeps the settings at least until then, and returns their name.
    pub(crate) fn keep(
        &mut self,
        tenant: &str,
        value: &Arc<Value>,
        until: SystemTime,
        now: SystemTime,
    ) -> Result<String, Fault> {
        let text = value.to_string();
        let name = self.name(tenant, &text);
        if let Some(kept) = self.kept.get_mut(&name) {
            kept.until = kept.until.max(until);
            return Ok(name);
        }
        self.forget(now);
        self.check_room(tenant, text.len())?;
        let kept = Kept {
            tenant: tenant.to_owned(),
            value: Arc::clone(value),
            bytes: text.len(),
            until,
        };
        self.kept.insert(name.clone(), kept);
        Ok(name)
    }

    pub(crate) fn find(&self, tenant: &str, name: &str) -> Option<Arc<Value>> {
        let kept = self.kept.get(name).filter(|kept| kept.tenant == tenant)?;
        Some(Arc::clone(&kept.value))
    }

    /// Forgets what no living token names.
    pub(crate) fn forget(&mut self, now: SystemTime) {
        self.kept.retain(|_, kept| kept.until > now);
    }

    fn name(&self, tenant: &str, text: &str) -> String {
        let mut naming = hmac::Context::with_key(&self.naming);
        naming.update(tenant.as_bytes());
        naming.update(&[0]);
        naming.update(text.as_bytes());
        URL_SAFE_NO_PAD.encode(&naming.sign().as_ref()[..16])
    }

    fn check_room(&self, tenant: &str, bytes: usize) -> Result<(), Fault> {
        let Room {
            each,
            tenant: share,
            all,
        } = self.room;
        if bytes > each {
            return Err(Fault::invalid(
                "invalid_value",
                format!("The session's settings have {bytes} bytes of JSON; {each} is the most."),
            )
            .at("session"));
        }
        let used = |of_tenant: bool| {
            self.kept
                .values()
                .filter(|kept| !of_tenant || kept.tenant == tenant)
                .fold((0, 0), |(count, sum), kept| (count + 1, sum + kept.bytes))
        };
        let is_full = |(count, sum): (usize, usize), most: (usize, usize)| {
            count >= most.0 || sum + bytes > most.1
        };
        if is_full(used(true), share) || is_full(used(false), all) {
            return Err(Fault::invalid(
                "rate_limit_exceeded",
                "Too many different session settings are attached to client secrets that are \
                 still valid: wait until some have expired, ask for shorter lives, or attach the \
                 same settings to many.",
            )
            .at("session"));
        }
        Ok(())
    }
}
