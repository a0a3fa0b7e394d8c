//! Small files that must not be lost or seen: keys, certificates, settings and saved state. Each is whole and on the disk,
//! or absent.
//!
//! Not here: blobs; see [`crate::store::blobs`].

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Folders of keys, and of what stands in for a key, are for their owner alone.
pub const PRIVATE_DIR_MODE: u32 = 0o700;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone (0600).
    Private,
    /// Everybody (0644).
    Public,
}

/// A file or folder that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    action: &'static str,
    /// On which file or folder.
    path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Writes a file that must not exist yet, durably.
///
/// # Errors
/// When it exists, or cannot be written.
pub fn write_new(path: &Path, content: &[u8], access: Access) -> Result<(), FileError> {
    let attempt = || {
        written(path, content, access)?.persist_noclobber(path)?;
        sync_dir(parent_of(path))
    };
    attempt().map_err(|source| FileError { action: "write the new file", path: path.to_owned(), source })
}

/// Writes or replaces a file durably: after a crash there is the old content or the new, never a part.
///
/// # Errors
/// When it cannot be written; the old content is then still there.
pub fn replace(path: &Path, content: &[u8], access: Access) -> Result<(), FileError> {
    let attempt = || {
        written(path, content, access)?.persist(path)?;
        sync_dir(parent_of(path))
    };
    attempt().map_err(|source| FileError { action: "write", path: path.to_owned(), source })
}

/// Makes a folder, and those missing above it, that only its owner may enter, durably.
///
/// # Errors
/// When it cannot be made.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    create_dir(path).map_err(|source| FileError { action: "make the folder", path: path.to_owned(), source })
}

/// Makes renames and creations within `dir` durable.
///
/// # Errors
/// When the system cannot.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read, with its name.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|source| FileError { action: "read", path: path.to_owned(), source })
}

/// Reads a file that should be small.
///
/// # Errors
/// When it cannot be read, or has more than `bytes_max` bytes; with its name.
pub fn read_small(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let read = || {
        let mut content = Vec::new();
        File::open(path)?.take(bytes_max + 1).read_to_end(&mut content)?;
        if content.len() as u64 > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes")));
        }
        Ok(content)
    };
    read().map_err(|source| FileError { action: "read", path: path.to_owned(), source })
}

fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    if parent != path {
        create_dir(parent)?;
    }
    match DirBuilder::new().mode(PRIVATE_DIR_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(parent),
    }
}

fn written(path: &Path, content: &[u8], access: Access) -> io::Result<NamedTempFile> {
    let mode = if access == Access::Private { 0o600 } else { 0o644 };
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(parent_of(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_private_and_new_ones_do_not_overwrite() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        create_private_dir(&dir).unwrap();
        create_private_dir(&dir).unwrap();
        let path = dir.join("key");
        write_new(&path, b"one", Access::Private).unwrap();
        assert_eq!(write_new(&path, b"two", Access::Private).unwrap_err().source.kind(), io::ErrorKind::AlreadyExists);
        replace(&path, b"three", Access::Private).unwrap();
        assert_eq!(read_text(&path).unwrap(), "three");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&path)), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    }
}
