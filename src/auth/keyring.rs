//! Which signing keys there are, which of them signs, and how long one that is gone still verifies.
//!
//! **Invariants**
//! - There is always a key that signs, and whatever it signs verifies until it expires.
//! - A new key signs only when every relay has had the time to learn of it, unless it is alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::auth::signing::SigningKey;

/// The keys of one listing, by name, each with the time since when it has been there.
pub(crate) type Listing = BTreeMap<String, (Arc<SigningKey>, SystemTime)>;

/// The keys that verify, one of which signs.
#[derive(Debug)]
pub(crate) struct Keyring {
    entries: Vec<Entry>,
    signing: Arc<SigningKey>,
    /// How long a key must have been there before it signs.
    settle: Duration,
    /// How long a removed key goes on verifying.
    linger: Duration,
}

#[derive(Debug)]
struct Entry {
    key: Arc<SigningKey>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Listed { name: String, since: SystemTime },
    Removed { until: SystemTime },
}

impl Keyring {
    /// Starts with what there is; `None` if that is nothing.
    pub(crate) fn new(
        listing: &Listing,
        settle: Duration,
        linger: Duration,
        now: SystemTime,
    ) -> Option<Self> {
        let mut ring = Self {
            entries: vec![],
            signing: Arc::clone(&listing.values().next()?.0),
            settle,
            linger,
        };
        for (name, (key, since)) in listing {
            ring.list(name, key, *since);
        }
        ring.settle(now);
        Some(ring)
    }

    /// Takes over what there is now; what is new has come now. An empty listing changes nothing.
    pub(crate) fn replace(&mut self, listing: &Listing, now: SystemTime) {
        if listing.is_empty() {
            return;
        }
        for entry in &mut self.entries {
            let still = listing
                .values()
                .any(|(key, _)| key.kid() == entry.key.kid());
            if !still && matches!(entry.place, Place::Listed { .. }) {
                let until = now + self.linger;
                entry.place = Place::Removed { until };
            }
        }
        for (name, (key, _)) in listing {
            self.list(name, key, now);
        }
        self.settle(now);
    }

    /// Lets go of what no living token can be signed with, and chooses the key that signs.
    pub(crate) fn settle(&mut self, now: SystemTime) {
        self.entries
            .retain(|entry| !matches!(entry.place, Place::Removed { until } if until <= now));
        let ready = |since: SystemTime| since + self.settle <= now;
        let rank = |entry: &Entry| match &entry.place {
            Place::Listed { name, since } if ready(*since) => Some((true, None, name.clone())),
            // None has been there for long enough: the first to have come is the best known.
            Place::Listed { name, since } => {
                Some((false, Some(std::cmp::Reverse(*since)), name.clone()))
            }
            Place::Removed { .. } => None,
        };
        let best = self
            .entries
            .iter()
            .filter_map(|entry| Some((rank(entry)?, entry)))
            .max_by(|(one, _), (other, _)| one.cmp(other));
        if let Some((_, entry)) = best {
            self.signing = Arc::clone(&entry.key);
        }
    }

    /// The key that signs.
    pub(crate) fn signing(&self) -> Arc<SigningKey> {
        Arc::clone(&self.signing)
    }

    /// The key of this name, if it verifies.
    pub(crate) fn find(&self, kid: &str) -> Option<Arc<SigningKey>> {
        let mut keys = self.entries.iter().map(|entry| &entry.key);
        keys.find(|key| key.kid() == kid).map(Arc::clone)
    }

    /// The public halves of all keys that verify, as a JWK set (RFC 7517).
    pub(crate) fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.entries.iter().map(|entry| entry.key.jwk()).collect();
        json!({ "keys": keys })
    }

    fn list(&mut self, name: &str, key: &Arc<SigningKey>, since: SystemTime) {
        let known = self
            .entries
            .iter_mut()
            .find(|entry| entry.key.kid() == key.kid());
        let name = name.to_owned();
        match known {
            Some(Entry { place, .. }) => match place {
                Place::Listed { name: listed, .. } => *listed = name,
                Place::Removed { .. } => *place = Place::Listed { name, since },
            },
            None => self.entries.push(Entry {
                key: Arc::clone(key),
                place: Place::Listed { name, since },
            }),
        }
    }
}
