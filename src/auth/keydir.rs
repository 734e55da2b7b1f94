//! A directory of signing keys: reads it, and writes new keys into it.
//!
//! **Invariants**
//! - A directory is taken as a whole or not at all.
//! - A key that is written is nobody else's to read, and is there whole or not at all.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::auth::files::{self, FileError};
use crate::auth::keyring::Listing;
use crate::auth::signing::{NewKey, SigningKey};
use crate::clock::unix;

/// The most keys in a directory, and the most bytes in one of its files.
const MAX_KEYS: usize = 100;
const MAX_FILE: u64 = 16 << 10;

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
    let text = files::read(path, MAX_FILE)?;
    let key = SigningKey::from_pem(text.as_bytes()).map_err(|error| FileError::new(path, error))?;
    let written = fs::metadata(path).and_then(|data| data.modified());
    Ok((
        Arc::new(key),
        written.map_or(now, |written| written.min(now)),
    ))
}

/// Writes a new signing key into the directory, which is made if there is none. Returns the path
/// of its file and its key id.
pub fn write_signing_key(dir: &Path, now: SystemTime) -> Result<(PathBuf, String), FileError> {
    let key = NewKey::generate();
    // The later of two names sorts last, and the end of one is nobody else's.
    let path = dir.join(format!("{:010}-{}.pem", unix(now), &key.kid()[..8]));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| FileError::new(dir, format!("cannot be made: {error}")))?;
    files::write(&path, &key.pem())?;
    Ok((path, key.kid().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_keys_are_those_of_the_files_that_end_in_pem() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let inner = dir.path().join("keys");
        let (first, kid) = write_signing_key(&inner, now).unwrap();
        let (second, _) = write_signing_key(&inner, now + Duration::from_secs(1)).unwrap();
        for other in ["README", ".hidden.pem", "old.pem.bak"] {
            fs::write(inner.join(other), "nothing").unwrap();
        }
        let listing = read(&inner, now).unwrap();
        let names: Vec<_> = listing.keys().map(|name| inner.join(name)).collect();
        assert_eq!(names, [first, second]);
        assert_eq!(listing.values().next().unwrap().0.kid(), kid);
    }

    #[test]
    fn a_directory_that_cannot_be_used_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH;
        let refusal = |dir: &Path| read(dir, now).unwrap_err().to_string();
        assert!(refusal(&dir.path().join("nowhere")).contains("nowhere: cannot be read"));
        assert!(refusal(dir.path()).ends_with("write one with `voxline signing-key`"));
        write_signing_key(dir.path(), now).unwrap();
        fs::write(dir.path().join("bad.pem"), "no key").unwrap();
        assert!(refusal(dir.path()).contains("bad.pem: it holds no `-----BEGIN"));
        fs::write(dir.path().join("bad.pem"), "x".repeat(20_000)).unwrap();
        assert!(refusal(dir.path()).contains("bad.pem: has more than 16384 bytes"));
    }
}
