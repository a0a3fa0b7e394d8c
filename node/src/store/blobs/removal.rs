//! Listing blob files, and removing those that nothing needs.
//!
//! While a [`Removal`] is open, no file gets a digest's name. So what it sees as old is no blob of a push under way, whose
//! record comes after its file: such a file is young from its naming on.
//!
//! Not here: what is needed; see [`super::super::garbage`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, ReadDir};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use protocol::digest::{Algorithm, Digest};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::{BlobStore, IngestError, off_thread, remove_leftovers, run, sync_parent};
use crate::store::folders::BLOBS;

/// A blob's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The blob, by the file's name.
    pub digest: Digest,
    /// The file's size in bytes.
    pub bytes: u64,
    /// When it got its name.
    pub modified: SystemTime,
}

impl Listed {
    /// Whether the file has had its name for at least `grace`.
    pub fn is_older_than(&self, grace: Duration) -> bool {
        SystemTime::now().duration_since(self.modified).unwrap_or_default() >= grace
    }
}

/// The blob files of a data directory, in no order. Files that come and go meanwhile may be in it or not.
#[derive(Debug)]
pub struct Listing {
    folders: Vec<(Algorithm, ReadDir)>,
}

impl Listing {
    /// Starts to list the blobs of the data directory `dir`.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut folders = Vec::new();
        for algorithm in Algorithm::ALL {
            match fs::read_dir(dir.join(BLOBS).join(algorithm.name())) {
                Ok(folder) => folders.push((algorithm, folder)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { folders })
    }
}

impl Iterator for Listing {
    type Item = io::Result<Listed>;

    fn next(&mut self) -> Option<io::Result<Listed>> {
        while let Some((algorithm, folder)) = self.folders.last_mut() {
            let Some(entry) = folder.next() else {
                self.folders.pop();
                continue;
            };
            let listed = entry.and_then(|entry| {
                let name = entry.file_name();
                let digest = name.to_str().and_then(|hex| format!("{}:{hex}", algorithm.name()).parse().ok());
                let metadata = entry.metadata()?;
                digest.map_or(Ok(None), |digest| {
                    Ok(Some(Listed { digest, bytes: metadata.len(), modified: metadata.modified()? }).filter(|_| metadata.is_file()))
                })
            });
            match listed {
                Ok(Some(listed)) => return Some(Ok(listed)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

/// While it lives, no blob's file is removed.
#[derive(Debug)]
pub struct Hold {
    _held: OwnedRwLockReadGuard<()>,
}

/// The right to remove files. While it lives, none gets a digest's name. It goes with the work that removes them, which ends
/// even if nobody waits for it any more.
#[derive(Debug)]
pub struct Removal {
    store: BlobStore,
    _held: OwnedRwLockWriteGuard<()>,
    _naming: OwnedRwLockWriteGuard<()>,
}

impl BlobStore {
    /// The blobs' files.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub async fn list(&self) -> io::Result<Listing> {
        let dir = self.shared.dir.clone();
        off_thread(move || Listing::open(&dir)).await
    }

    /// Keeps all files from being removed; waits for a removal under way.
    pub async fn hold(&self) -> Hold {
        Hold { _held: self.shared.held.clone().read_owned().await }
    }

    /// The right to remove files; none while somebody [holds](BlobStore::hold) them.
    pub async fn removal(&self) -> Option<Removal> {
        let held = self.shared.held.clone().try_write_owned().ok()?;
        let naming = self.shared.naming.clone().write_owned().await;
        Some(Removal { store: self.clone(), _held: held, _naming: naming })
    }

    /// Removes what was left half-written a day ago.
    ///
    /// # Errors
    /// When the file system refuses.
    pub async fn clean_up(&self) -> io::Result<()> {
        let uploads = self.shared.uploads.clone();
        off_thread(move || remove_leftovers(&uploads, &[])).await
    }
}

impl Removal {
    /// Those of these blobs whose files have had their names for at least `grace`.
    ///
    /// # Errors
    /// When the file system refuses.
    pub async fn older_than(&self, digests: Vec<Digest>, grace: Duration) -> io::Result<Vec<Listed>> {
        let store = self.store.clone();
        off_thread(move || {
            let mut older = Vec::new();
            for digest in digests {
                match fs::metadata(store.path(&digest)) {
                    Ok(metadata) => older.push(Listed { digest, bytes: metadata.len(), modified: metadata.modified()? }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            older.retain(|listed| listed.is_older_than(grace));
            Ok(older)
        })
        .await
    }

    /// Removes the files of these blobs.
    ///
    /// # Errors
    /// When the file system refuses.
    pub async fn remove(self, digests: BTreeSet<Digest>) -> Result<(), IngestError> {
        run(move || {
            let Self { store, _held, _naming } = self;
            let mut folders = BTreeMap::new();
            for digest in &digests {
                let path = store.path(digest);
                fs::remove_file(&path).map_err(IngestError::io("remove", &path))?;
                store.shared.small.forget(digest);
                folders.insert(digest.algorithm().name(), path);
            }
            folders.values().try_for_each(|path| sync_parent(path))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_removal_that_nobody_waits_for_any_more_takes_no_file_that_was_stored_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        for _ in 0..50 {
            let blob = store.put(None, Bytes::from_static(b"hedge")).await.unwrap().blob();
            let removal = store.removal().await.unwrap();
            {
                let mut removing = Box::pin(removal.remove([blob].into()));
                drop(futures_util::poll!(removing.as_mut()));
            }
            store.put(Some(blob), Bytes::from_static(b"hedge")).await.unwrap();
            drop(store.hold().await);
            assert!(store.path(&blob).exists());
        }
    }

    #[tokio::test]
    async fn nothing_is_removed_while_it_is_held_and_young_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let blob = store.put(None, Bytes::from_static(b"hedge")).await.unwrap().blob();
        let hold = store.hold().await;
        assert!(store.removal().await.is_none());
        drop(hold);
        let removal = store.removal().await.unwrap();
        let older = |grace| removal.older_than(vec![blob, Digest::sha256(b"missing")], Duration::from_secs(grace));
        assert_eq!(older(60).await.unwrap(), []);
        assert_eq!(older(0).await.unwrap().len(), 1);
        assert_eq!(Listing::open(dir.path()).unwrap().map(|listed| listed.unwrap().digest).collect::<Vec<_>>(), [blob]);
    }

    #[test]
    fn a_removal_ends_although_many_wait_to_give_names() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = BlobStore::open(dir.path()).unwrap();
            let old = store.put(None, Bytes::from_static(b"old")).await.unwrap().blob();
            let removal = store.removal().await.unwrap();
            let mut pushes: Vec<_> = (0..4_u8).map(|n| Box::pin(store.put(None, vec![n].into()))).collect();
            for push in &mut pushes {
                let waits = tokio::time::timeout(Duration::from_millis(50), push.as_mut()).await;
                assert!(waits.is_err(), "nothing gets a name while files are removed");
            }
            let removed = tokio::time::timeout(Duration::from_secs(30), removal.remove([old].into())).await;
            removed.expect("the removal needs no thread that a push has").unwrap();
            for push in pushes {
                push.await.unwrap();
            }
            assert_eq!(store.size(&old).await.unwrap(), None);
        });
    }
}
