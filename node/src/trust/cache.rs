//! Verified metadata on disk. What is read back is verified again.
//!
//! Not here: verification; see [`super::client`].

use std::io;
use std::path::{Path, PathBuf};

use super::refused::TrustRefused;
use super::source::TARGETS_BYTES_MAX;
use crate::files::{self, Access};

/// A directory of files that were verified before they were written. What is read back is verified again.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in `dir`, which is created if it is missing.
    pub(super) fn open(dir: &Path) -> Result<Self, TrustRefused> {
        files::create_private_dir(dir).map_err(|error| TrustRefused::Storage { path: dir.to_owned(), source: error.source })?;
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

    /// Whether there is a file `name`.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.dir.join(name).is_file()
    }

    /// The names in the folder `name`, in order; none if there is no such folder.
    pub(super) fn entries(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.join(name)).into_iter().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Sets the file `name` aside, durably: it is found by [`Self::load_set_aside`] alone.
    pub(super) async fn set_aside(&self, name: &str) -> Result<(), TrustRefused> {
        if let Some(bytes) = self.load(name, TARGETS_BYTES_MAX) {
            self.store(&set_aside(name), &bytes).await?;
        }
        self.remove(name).await
    }

    /// The file `name` that was set aside, if it was.
    pub(super) fn load_set_aside(&self, name: &str, bytes_max: usize) -> Option<Vec<u8>> {
        self.load(&set_aside(name), bytes_max)
    }

    /// Forgets the file `name`, durably.
    pub(super) async fn remove(&self, name: &str) -> Result<(), TrustRefused> {
        let path = self.dir.join(name);
        let (target, dir) = (path.clone(), self.dir.clone());
        let remove = move || match std::fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => files::sync_dir(&dir),
        };
        let removed = tokio::task::spawn_blocking(remove).await.map_err(io::Error::other).flatten();
        removed.map_err(|source| TrustRefused::Storage { path, source })
    }

    /// Keeps verified `bytes` under `name`, durably, with the directories above it.
    pub(super) async fn store(&self, name: &str, bytes: &[u8]) -> Result<(), TrustRefused> {
        let path = self.dir.join(name);
        let (target, bytes) = (path.clone(), bytes.to_vec());
        let write = move || {
            files::create_private_dir(target.parent().unwrap_or(&target))?;
            files::replace(&target, &bytes, Access::Private)
        };
        let result = tokio::task::spawn_blocking(write).await.map_err(io::Error::other);
        let result = result.and_then(|written| written.map_err(|error| error.source));
        result.map_err(|source| TrustRefused::Storage { path, source })
    }
}

fn set_aside(name: &str) -> String {
    format!("before/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
