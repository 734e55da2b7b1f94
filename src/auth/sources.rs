//! What an authority reads from outside, again and again.
//!
//! **Invariant:** what cannot be used is refused in the log, once, and what was there before stays.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::auth::files::{self, FileError};
use crate::auth::keydir;
use crate::auth::keyring::Listing;
use crate::auth::settings::Settings;
use crate::auth::signing::{NewKey, SigningKey};
use crate::auth::tenants::Tenants;

/// How long a key signs that is made here.
const OWN_KEY: Duration = Duration::from_secs(24 * 3600);
/// How many of those are there at a time: the one that signs, and the one before or after it.
const OWN_KEYS: usize = 2;
/// The largest file of tenants.
const MAX_TENANTS: u64 = 8 << 20;

/// What was read last.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The keys made here, where no directory of keys is set; the newest last.
    own: Vec<(Arc<SigningKey>, SystemTime)>,
    keys_refused: Option<FileError>,
    tenants_refused: Option<FileError>,
    /// The file of tenants as it was, taken or refused; `None` if it could not be read.
    tenants_text: Option<String>,
}

impl Sources {
    /// Reads everything for the first time.
    pub(crate) fn open(
        settings: &Settings,
        now: SystemTime,
    ) -> Result<(Self, Listing, Tenants), FileError> {
        let mut sources = Self {
            own: vec![],
            keys_refused: None,
            tenants_refused: None,
            tenants_text: None,
        };
        let listing = sources.list_keys(settings, now)?;
        let tenants = match &settings.tenants {
            Some(path) => {
                let text = files::read(path, MAX_TENANTS)?;
                let tenants = parse_tenants(path, &text, settings)?;
                sources.tenants_text = Some(text);
                tenants
            }
            None => Tenants::with_default(&settings.api_keys),
        };
        Ok((sources, listing, tenants))
    }

    /// The signing keys there are now; `None` if they cannot be used.
    pub(crate) fn keys(&mut self, settings: &Settings, now: SystemTime) -> Option<Listing> {
        let listing = self.list_keys(settings, now);
        judge(listing, &mut self.keys_refused)
    }

    /// The tenants there are now; `None` if there is nothing new, or nothing that can be used.
    pub(crate) fn tenants(&mut self, settings: &Settings) -> Option<Tenants> {
        let path = settings.tenants.as_ref()?;
        let text = files::read(path, MAX_TENANTS);
        let is_known = text.is_ok() && text.as_ref().ok() == self.tenants_text.as_ref();
        if is_known {
            return None;
        }
        let tenants = text.as_ref().map_err(FileError::clone);
        let tenants = tenants.and_then(|text| parse_tenants(path, text, settings));
        self.tenants_text = text.ok();
        judge(tenants, &mut self.tenants_refused)
    }

    fn list_keys(&mut self, settings: &Settings, now: SystemTime) -> Result<Listing, FileError> {
        if let Some(dir) = &settings.keys {
            return keydir::read(dir, now);
        }
        let due = |(_, made): &(_, SystemTime)| *made + OWN_KEY <= now;
        if self.own.last().is_none_or(due) {
            let key = Arc::new(NewKey::generate().into_key());
            self.own.push((key, now));
            let spare = self.own.len().saturating_sub(OWN_KEYS);
            self.own.drain(..spare);
        }
        let named = |(number, (key, made)): (usize, &(Arc<SigningKey>, SystemTime))| {
            (number.to_string(), (Arc::clone(key), *made))
        };
        Ok(self.own.iter().enumerate().map(named).collect())
    }
}

fn parse_tenants(path: &Path, text: &str, settings: &Settings) -> Result<Tenants, FileError> {
    Tenants::parse(text, &settings.api_keys).map_err(|mistake| FileError {
        line: mistake.line,
        ..FileError::new(path, mistake.reason)
    })
}

/// Logs a refusal when it changes, and when it is over.
fn judge<T>(read: Result<T, FileError>, refused: &mut Option<FileError>) -> Option<T> {
    match read {
        Ok(value) => {
            if let Some(before) = refused.take() {
                tracing::info!(path = %before.path.display(), "Taken again, after a refusal");
            }
            Some(value)
        }
        Err(error) => {
            if refused.as_ref() != Some(&error) {
                tracing::error!(%error, "Refused; what was there before stays in effect");
                *refused = Some(error);
            }
            None
        }
    }
}
