//! Files that people write and the relay reads, and the reverse.
//!
//! **Invariant:** what is written is there whole or not at all, and for its owner only.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that cannot be used, where, and why. For the person who wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileError {
    pub path: PathBuf,
    pub line: Option<usize>,
    pub reason: String,
}

impl FileError {
    pub(crate) fn new(path: &Path, reason: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            line: None,
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.reason)
    }
}

impl std::error::Error for FileError {}

/// Reads a file of at most so many bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<String, FileError> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(most + 1).read_to_string(&mut text)?;
        io::Result::Ok(text)
    };
    let text = read().map_err(|error| FileError::new(path, format!("cannot be read: {error}")))?;
    if text.len() as u64 > most {
        return Err(FileError::new(path, format!("has more than {most} bytes")));
    }
    Ok(text)
}

/// Puts a file in place, or leaves what is there.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}.new"));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&hidden)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&hidden, path)?;
        // The name, too, must survive a crash.
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().map_err(|error| FileError::new(path, format!("cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.json");
        write(&path, "long enough").unwrap();
        write(&path, "short").unwrap();
        assert_eq!(read(&path, 5).unwrap(), "short");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_too_large_or_missing_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.json");
        let refusal = |most| read(&path, most).unwrap_err().to_string();
        assert!(refusal(5).contains("list.json: cannot be read: No such file"));
        write(&path, "123456").unwrap();
        assert!(refusal(5).ends_with("list.json: has more than 5 bytes"));
        let nowhere = dir.path().join("nowhere/list.json");
        assert!(
            write(&nowhere, "")
                .unwrap_err()
                .to_string()
                .contains("cannot be written")
        );
    }
}
