//! A directory of signing keys: reads it, and writes new keys into it.
//!
//! **Invariants**
//! - A directory is taken as a whole or not at all.
//! - A key that is written is nobody else's to read, and is there whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::auth::keyring::Listing;
use crate::auth::signing::{NewKey, SigningKey};
use crate::auth::token::unix;

/// The most keys in a directory, and the most bytes in one of its files.
const MAX_KEYS: usize = 100;
const MAX_FILE: u64 = 16 << 10;

/// A file that cannot be used. For the person who wrote it.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct FileError {
    pub path: PathBuf,
    pub reason: String,
}

impl FileError {
    pub(crate) fn new(path: &Path, reason: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Reads all keys of a directory: each `*.pem` in it that is not hidden.
pub(crate) fn read(dir: &Path, now: SystemTime) -> Result<Listing, FileError> {
    let refuse = |error: io::Error| FileError::new(dir, format!("cannot be read: {error}"));
    let mut listing = Listing::new();
    for entry in fs::read_dir(dir).map_err(refuse)? {
        let path = entry.map_err(refuse)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy());
        let Some(name) = name.filter(|name| name.ends_with(".pem") && !name.starts_with('.'))
        else {
            continue;
        };
        if listing.len() == MAX_KEYS {
            let reason = format!("holds more than {MAX_KEYS} keys: remove the oldest");
            return Err(FileError::new(dir, reason));
        }
        let key = read_key(&path, now)?;
        listing.insert(name.into_owned(), key);
    }
    if listing.is_empty() {
        let reason = "holds no key (*.pem): write one with `voxline signing-key`";
        return Err(FileError::new(dir, reason));
    }
    Ok(listing)
}

fn read_key(path: &Path, now: SystemTime) -> Result<(Arc<SigningKey>, SystemTime), FileError> {
    let refuse = |error: io::Error| FileError::new(path, format!("cannot be read: {error}"));
    let file = File::open(path).map_err(refuse)?;
    let written = file.metadata().and_then(|data| data.modified());
    let mut text = vec![];
    file.take(MAX_FILE).read_to_end(&mut text).map_err(refuse)?;
    let key = SigningKey::from_pem(&text).map_err(|error| FileError::new(path, error))?;
    Ok((
        Arc::new(key),
        written.map_or(now, |written| written.min(now)),
    ))
}

/// Writes a new signing key into the directory, which is made if there is none. Returns the path
/// of its file and its key id.
pub fn write_signing_key(dir: &Path, now: SystemTime) -> Result<(PathBuf, String), FileError> {
    let key = NewKey::generate();
    // Of two names the later one sorts last.
    let path = dir.join(format!("{:010}-{}.pem", unix(now), &key.kid()[..8]));
    let hidden = dir.join(format!(".{}.new", key.kid()));
    let write = || {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&hidden)?;
        file.write_all(key.pem().as_bytes())?;
        file.sync_all()?;
        fs::rename(&hidden, &path)
    };
    write().map_err(|error| FileError::new(&path, format!("cannot be written: {error}")))?;
    Ok((path, key.kid().to_owned()))
}
