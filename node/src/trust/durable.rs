//! Small files that are either whole and on the disk, or absent: keys and verified metadata.
//!
//! Not here: blobs, which have their own store.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::refused::TrustRefused;

/// Directories are for their owner alone: they hold keys, or what stands in for a key.
pub(super) const DIR_MODE: u32 = 0o700;

/// Creates `path` and what is missing above it, mode 0700, and makes the entries durable.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    if parent != path {
        create_dir(parent)?;
    }
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(parent),
    }
}

/// Replaces the file at `path`, mode 0600: readers see the old content or the new one, also after power loss.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes)?.persist(path).map_err(|error| error.error)?;
    sync_dir(parent_of(path))
}

/// Creates the file at `path`, mode 0600, and the directories above it; fails with `AlreadyExists` if there is one.
pub(super) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create_dir(parent_of(path))?;
    written(path, bytes)?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_dir(parent_of(path))
}

/// Makes renames and creations within `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn written(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(parent_of(path))?;
    file.write_all(bytes)?;
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

/// A directory of files that were verified before they were written. What is read back is verified again.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in `dir`, which is created if it is missing.
    pub(super) fn open(dir: &Path) -> Result<Self, TrustRefused> {
        create_dir(dir).map_err(|source| TrustRefused::Storage { path: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The file `name`; none if it is missing, unreadable or larger than `bytes_max`.
    pub(super) fn load(&self, name: &str, bytes_max: usize) -> Option<Vec<u8>> {
        let path = self.dir.join(name);
        let found = std::fs::metadata(&path).and_then(|metadata| {
            if metadata.len() > bytes_max as u64 {
                return Err(io::Error::other(format!("{} bytes, at most {bytes_max} expected", metadata.len())));
            }
            std::fs::read(&path)
        });
        match found {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "kept metadata cannot be read and is left aside");
                }
                None
            }
        }
    }

    /// Keeps verified `bytes` under `name`, durably, with the directories above it.
    pub(super) async fn store(&self, name: &str, bytes: &[u8]) -> Result<(), TrustRefused> {
        let path = self.dir.join(name);
        let (target, bytes) = (path.clone(), bytes.to_vec());
        let write = move || create_dir(parent_of(&target)).and_then(|()| replace(&target, &bytes));
        let result = tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        result.map_err(|source| TrustRefused::Storage { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_and_directories_are_private_and_never_half_replaced() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        create_dir(&dir).unwrap();
        create_dir(&dir).unwrap();
        let file = dir.join("key");
        create(&file, b"one").unwrap();
        assert_eq!(create(&file, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        replace(&file, b"three").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"three");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn a_file_beyond_its_limit_is_left_aside() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::open(home.path()).unwrap();
        std::fs::write(home.path().join("x.json"), b"12345").unwrap();
        assert_eq!(cache.load("x.json", 4), None);
        assert_eq!(cache.load("x.json", 5).unwrap(), b"12345");
        assert_eq!(cache.load("y.json", 5), None);
    }
}
