//! One process a data directory: the lock, and the note that says who holds it.
//!
//! The lock is the operating system's and ends with the process, however it ends; the note in the file is for people.
//!
//! Not here: locks between threads of one process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Name of the lock's file in the data directory.
pub const LOCK_FILE: &str = "lock";

/// The longest note that is read back, in bytes: a note is three short lines, anything longer is not ours.
const NOTE_BYTES_MAX: u64 = 1024;

/// The right to use a data directory, held until dropped.
#[derive(Debug)]
pub struct DataLock {
    file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process uses it.
    #[error("{} is in use by {holder}; stop that process, or choose another data directory with --data", dir.display())]
    Held {
        /// The data directory.
        dir: PathBuf,
        /// Who holds the lock, as its note says.
        holder: Holder,
    },
    /// The lock's file cannot be made, locked or written.
    #[error("cannot {action} {}: {source}; check that the directory exists and that this user may write to it", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The lock's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Who holds a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its process id; none if the note cannot be read.
    pub pid: Option<u32>,
    /// What the process is (`seed`, `device`, …); empty if the note cannot be read.
    pub role: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} ({})", self.role),
            None => f.write_str("another process"),
        }
    }
}

impl DataLock {
    /// Takes the lock of `dir` at once or not at all; `role` says in the note what this process is.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it; otherwise what the file system refused.
    pub fn acquire(dir: &Path, role: &str) -> Result<Self, LockError> {
        let path = dir.join(LOCK_FILE);
        let failed = |action| {
            let path = path.clone();
            move |source| LockError::Io { action, path, source }
        };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { dir: dir.to_owned(), holder: read_note(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let note = format!("pid {}\nrole {role}\nstarted {started}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(note.as_bytes())).map_err(failed("write"))?;
        Ok(Self { file })
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "the note in the lock file was left behind");
        }
    }
}

fn read_note(file: &mut File) -> Holder {
    let mut note = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(NOTE_BYTES_MAX).read_to_string(&mut note));
    if read.is_err() {
        return Holder::default();
    }
    let field = |name: &str| note.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Holder { pid: field("pid ").and_then(|pid| pid.parse().ok()), role: field("role ").unwrap_or_default().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataLock::acquire(dir.path(), "seed").unwrap();
        let refused = DataLock::acquire(dir.path(), "device").unwrap_err();
        let LockError::Held { ref holder, .. } = refused else { panic!("{refused}") };
        assert_eq!(*holder, Holder { pid: Some(std::process::id()), role: "seed".into() });
        assert!(refused.to_string().contains(&format!("process {} (seed)", std::process::id())));
        drop(held);
        DataLock::acquire(dir.path(), "device").unwrap();
    }

    #[test]
    fn a_directory_that_does_not_exist_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let refused = DataLock::acquire(&dir.path().join("none"), "seed").unwrap_err();
        assert!(matches!(refused, LockError::Io { action: "open", .. }));
    }
}
