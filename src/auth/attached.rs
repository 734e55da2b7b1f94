//! Keeps the session settings that tenants' servers attach to client secrets.
//!
//! They are not in the token, where the browser that holds it could read the instructions and
//! tools: the token names them by a keyed digest, so that equal ones are kept once.
//!
//! **Invariants**
//! - Settings are found as long as a token that names them is valid.
//! - No tenant keeps more than its share of the room.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
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
    /// Those of one tenant.
    pub(crate) tenant: Used,
    /// Those of all tenants.
    pub(crate) all: Used,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            each: 256 << 10,
            tenant: Used {
                count: 10_000,
                bytes: 32 << 20,
            },
            all: Used {
                count: 20_000,
                bytes: 64 << 20,
            },
        }
    }
}

/// All settings that living tokens name.
pub(crate) struct Attached {
    /// Known to this process alone: nobody can tell settings by their name.
    naming: hmac::Key,
    kept: RwLock<Kept>,
}

impl Attached {
    pub(crate) fn new(room: Room) -> Self {
        let mut secret = [0; 32];
        rand::rng().fill_bytes(&mut secret);
        Self {
            naming: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            kept: RwLock::new(Kept::new(room)),
        }
    }

    /// Keeps the settings at least until then, and returns their name.
    pub(crate) fn keep(
        &self,
        tenant: &str,
        value: &Arc<Value>,
        until: SystemTime,
        now: SystemTime,
    ) -> Result<String, Fault> {
        let text = value.to_string();
        let name = self.name(tenant, &text);
        let entry = Entry {
            tenant: tenant.to_owned(),
            value: Arc::clone(value),
            bytes: text.len(),
            until,
        };
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.insert(&name, entry, now)?;
        Ok(name)
    }

    pub(crate) fn find(&self, tenant: &str, name: &str) -> Option<Arc<Value>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.entries.get(name)?;
        (entry.tenant == tenant).then(|| Arc::clone(&entry.value))
    }

    /// Forgets what no living token names.
    pub(crate) fn forget(&self, now: SystemTime) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.forget(now);
    }

    fn name(&self, tenant: &str, text: &str) -> String {
        let mut naming = hmac::Context::with_key(&self.naming);
        naming.update(tenant.as_bytes());
        naming.update(&[0]);
        naming.update(text.as_bytes());
        URL_SAFE_NO_PAD.encode(&naming.sign().as_ref()[..16])
    }
}

struct Kept {
    room: Room,
    entries: HashMap<String, Entry>,
    /// What each tenant uses, and what all do.
    shares: HashMap<String, Used>,
    all: Used,
}

struct Entry {
    tenant: String,
    value: Arc<Value>,
    bytes: usize,
    until: SystemTime,
}

/// A number of settings and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl Used {
    fn has_room(self, bytes: usize, most: Self) -> bool {
        self.count < most.count && self.bytes + bytes <= most.bytes
    }

    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }
}

impl Kept {
    fn new(room: Room) -> Self {
        Self {
            room,
            entries: HashMap::new(),
            shares: HashMap::new(),
            all: Used::default(),
        }
    }

    fn insert(&mut self, name: &str, entry: Entry, now: SystemTime) -> Result<(), Fault> {
        if let Some(known) = self.entries.get_mut(name) {
            known.until = known.until.max(entry.until);
            return Ok(());
        }
        if entry.bytes > self.room.each {
            return Err(Fault::invalid(
                "invalid_value",
                format!(
                    "The session's settings have {} bytes of JSON; {} is the most.",
                    entry.bytes, self.room.each
                ),
            )
            .at("session"));
        }
        if !self.has_room(&entry) {
            self.forget(now);
        }
        if !self.has_room(&entry) {
            return Err(Fault::invalid(
                "rate_limit_exceeded",
                "Too many different session settings are attached to client secrets that are \
                 still valid: wait until some have expired, ask for shorter lives, or attach the \
                 same settings to many.",
            )
            .at("session"));
        }
        self.count(&entry.tenant, entry.bytes);
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    fn has_room(&self, entry: &Entry) -> bool {
        let share = self.shares.get(&entry.tenant).copied().unwrap_or_default();
        share.has_room(entry.bytes, self.room.tenant)
            && self.all.has_room(entry.bytes, self.room.all)
    }

    fn forget(&mut self, now: SystemTime) {
        let entries = std::mem::take(&mut self.entries);
        self.shares.clear();
        self.all = Used::default();
        for (name, entry) in entries {
            if now < entry.until {
                self.count(&entry.tenant, entry.bytes);
                self.entries.insert(name, entry);
            }
        }
    }

    fn count(&mut self, tenant: &str, bytes: usize) {
        self.all.add(bytes);
        let share = self.shares.entry(tenant.to_owned());
        share.or_default().add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn small() -> Attached {
        Attached::new(Room {
            each: 40,
            tenant: Used {
                count: 2,
                bytes: 60,
            },
            all: Used {
                count: 3,
                bytes: 100,
            },
        })
    }

    fn settings(text: &str) -> Arc<Value> {
        Arc::new(json!({ "instructions": text }))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn code(kept: Result<String, Fault>) -> String {
        kept.unwrap_err().code.into_owned()
    }

    #[test]
    fn equal_settings_are_kept_once_until_the_last_token_has_died() {
        let attached = small();
        let name = attached.keep("a", &settings("x"), at(10), at(0)).unwrap();
        let again = attached.keep("a", &settings("x"), at(20), at(5)).unwrap();
        assert_eq!(name, again);
        let others = attached.keep("b", &settings("x"), at(20), at(5)).unwrap();
        assert_ne!(name, others);
        attached.forget(at(19));
        assert_eq!(attached.find("a", &name), Some(settings("x")));
        assert_eq!(attached.find("b", &name), None);
        attached.forget(at(20));
        assert_eq!(attached.find("a", &name), None);
    }

    #[test]
    fn nobody_takes_more_than_their_share() {
        let attached = small();
        let keep = |tenant, text: &str| attached.keep(tenant, &settings(text), at(10), at(0));
        assert_eq!(code(keep("a", &"x".repeat(40))), "invalid_value");
        keep("a", "1").unwrap();
        keep("a", "2").unwrap();
        keep("a", "2").unwrap();
        assert_eq!(code(keep("a", "3")), "rate_limit_exceeded");
        keep("b", "1").unwrap();
        assert_eq!(code(keep("b", "2")), "rate_limit_exceeded");
        // What has died makes room.
        let late = attached.keep("b", &settings("2"), at(20), at(10));
        assert!(attached.find("b", &late.unwrap()).is_some());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let attached = small();
        let keep = |text: &str| attached.keep("a", &settings(text), at(10), at(0));
        keep(&"x".repeat(20)).unwrap();
        assert_eq!(code(keep(&"y".repeat(20))), "rate_limit_exceeded");
        keep("y").unwrap();
    }
}
