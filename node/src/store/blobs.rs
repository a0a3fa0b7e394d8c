//! Blob files: `blobs/<algorithm>/<hex>` as in an OCI image layout, and `uploads/` for what is not verified yet.
//!
//! A file gets a digest's name only after all its bytes were hashed (the proof is a [`VerifiedBlob`]) and only by
//! temporary file → fsync → rename → fsync of the folder, so that a name that exists after a crash has its whole content.
//! Storing a blob again replaces its file, which heals one that rotted, and makes it young, which keeps garbage collection
//! away until a record names it: a file is removed only while no file can get its name (`removal`).
//!
//! Not here: which repository a blob belongs to; see [`super::meta`].

mod ingest;
mod removal;
mod serve;
mod small;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use protocol::digest::{Algorithm, Digest};
use protocol::geometry::BLOB_BYTES_MAX;
use protocol::verify::{BlobHasher, DigestMismatch, VerifiedBlob};
use tokio::sync::OwnedRwLockReadGuard;

use super::folders::{BLOBS, blob_file};
use crate::files::sync_dir;

pub use ingest::Ingest;

pub use removal::{Hold, Listed, Listing, Removal};
pub use small::Content;

/// Folder of what is still arriving, in the data directory and so on the same file system as the blobs.
const UPLOADS: &str = "uploads";

/// How the names of files start that only this process can go on with.
const ARRIVING: &str = "blob-";

/// After this time another file that was left in [`UPLOADS`] is removed: the same as the lease of an upload.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The blobs of one data directory. Clones share it.
#[derive(Clone, Debug)]
pub struct BlobStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    uploads: PathBuf,
    readers: serve::Readers,
    /// Blobs on their way in.
    arriving: AtomicUsize,
    small: small::SmallBlobs,
    /// Read while a file gets a digest's name, written while files are removed.
    naming: Arc<tokio::sync::RwLock<()>>,
    /// Read while somebody depends on all files staying, written while files are removed.
    held: Arc<tokio::sync::RwLock<()>>,
}

/// Why bytes were not stored as a blob.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// They are not the wanted blob.
    #[error(transparent)]
    Mismatch(Box<DigestMismatch>),
    /// There are more of them than a blob may have.
    #[error("the blob has more than {BLOB_BYTES_MAX} bytes, the most that a blob may have; split it")]
    TooLarge,
    /// An earlier write of the same blob failed, or was given up half-way; nothing more can be added to it.
    #[error("an earlier part of the blob could not be written; send it again from the start")]
    Broken,
    /// The blob is whole and has its name.
    #[error("all bytes of the blob arrived, and it takes no more; end the upload without a body")]
    Ended,
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<DigestMismatch> for IngestError {
    fn from(mismatch: DigestMismatch) -> Self {
        Self::Mismatch(Box::new(mismatch))
    }
}

impl IngestError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether there is no room left on the disk or in the quota.
    pub fn is_storage_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Mismatch(_) | Self::TooLarge | Self::Broken | Self::Ended => false,
        }
    }
}

impl BlobStore {
    /// Whether there is a store in the data directory `dir`.
    pub fn exists(dir: &Path) -> bool {
        dir.join(BLOBS).exists()
    }

    /// Opens the blobs of the data directory `dir`, makes the folders that are missing and removes what earlier processes
    /// left half-written: at once what was arriving, because nobody can go on with it, other files after a day. The caller
    /// holds the directory's lock, and nothing arrives there yet.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open(dir: &Path) -> Result<Self, IngestError> {
        let (blobs, uploads) = (dir.join(BLOBS), dir.join(UPLOADS));
        let folders = Algorithm::ALL.map(|algorithm| blobs.join(algorithm.name()));
        for folder in folders.iter().chain([&uploads]) {
            fs::create_dir_all(folder).map_err(IngestError::io("create", folder))?;
        }
        for folder in [dir, &blobs] {
            sync_dir(folder).map_err(IngestError::io("sync", folder))?;
        }
        remove_leftovers(&uploads, &[ARRIVING]).map_err(IngestError::io("clean up", &uploads))?;
        let (readers, small) = (serve::Readers::default(), small::SmallBlobs::default());
        let (arriving, naming, held) = (AtomicUsize::new(0), Arc::default(), Arc::default());
        Ok(Self { shared: Arc::new(Shared { dir: dir.to_owned(), uploads, readers, arriving, small, naming, held }) })
    }

    /// Where a blob's file is, if it exists.
    pub fn path(&self, blob: &Digest) -> PathBuf {
        blob_file(&self.shared.dir, blob)
    }

    /// A path for a file that becomes a blob by [`BlobStore::adopt`]; `name` is one file name, chosen by the caller.
    pub fn upload_path(&self, name: &str) -> PathBuf {
        self.shared.uploads.join(name)
    }

    /// The size of a blob in bytes, if it is here.
    ///
    /// # Errors
    /// When the file system refuses.
    pub async fn size(&self, blob: &Digest) -> io::Result<Option<u64>> {
        let path = self.path(blob);
        off_thread(move || match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// A blob's file, open for reading, and its size in bytes, if it is here.
    ///
    /// # Errors
    /// When the file system refuses.
    pub async fn open_read(&self, blob: &Digest) -> io::Result<Option<(File, u64)>> {
        let (store, blob) = (self.clone(), *blob);
        off_thread(move || store.open_file(&blob)).await
    }

    fn open_file(&self, blob: &Digest) -> io::Result<Option<(File, u64)>> {
        let file = match File::open(self.path(blob)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        Ok(Some((file, size)))
    }

    /// The whole content of a blob of at most `bytes_max` bytes, if it is here.
    ///
    /// # Errors
    /// When it is larger, or when the file system refuses.
    pub async fn read(&self, blob: &Digest, bytes_max: u64) -> io::Result<Option<Bytes>> {
        let Some((mut file, size)) = self.open_read(blob).await? else { return Ok(None) };
        if size > bytes_max {
            let reason = format!("{blob} has {size} bytes, more than the {bytes_max} that may be read at once");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        off_thread(move || {
            let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            io::Read::read_to_end(&mut file, &mut content)?;
            Ok(Some(content.into()))
        })
        .await
    }

    /// Stores a small blob durably; if `wanted` is given, only if `bytes` have that digest, else under their SHA-256.
    ///
    /// # Errors
    /// When the bytes are not `wanted`, or when the file system refuses; nothing is left behind then.
    pub async fn put(&self, wanted: Option<Digest>, bytes: Bytes) -> Result<VerifiedBlob, IngestError> {
        let store = self.clone();
        let (verified, file) = run(move || {
            let mut hasher = wanted.map_or_else(BlobHasher::sha256, |wanted| BlobHasher::of(&wanted));
            hasher.update(&bytes);
            let verified = match wanted {
                Some(wanted) => hasher.finish(wanted)?,
                None => hasher.name(),
            };
            store.must_have_room()?;
            let mut file = store.temporary()?;
            io::Write::write_all(&mut file, &bytes).map_err(IngestError::io("write", file.path()))?;
            file.as_file().sync_all().map_err(IngestError::io("sync", file.path()))?;
            Ok((verified, file))
        })
        .await?;
        self.keep(verified, file).await?;
        Ok(verified)
    }

    /// Starts to take in a blob of unknown size and digest. It should be named by `algorithm` in the end: for another, it is
    /// read once more then.
    pub fn begin(&self, algorithm: Algorithm) -> Ingest {
        Ingest::new(self.clone(), algorithm)
    }

    /// Takes a file that was written and verified elsewhere into place, durably. It must be on the data directory's file
    /// system ([`BlobStore::upload_path`]), and nothing may write to it any more.
    ///
    /// # Errors
    /// When its size is not the proven one, or when the file system refuses; the file is left where it is.
    pub async fn adopt(&self, verified: VerifiedBlob, temporary: PathBuf) -> Result<(), IngestError> {
        let target = self.path(&verified.blob());
        let (file, temporary) = run(move || {
            let file = File::open(&temporary).map_err(IngestError::io("open", &temporary))?;
            let size = file.metadata().map_err(IngestError::io("inspect", &temporary))?.len();
            if size != verified.size() {
                let reason = format!("it has {size} bytes, {} has {}", verified.blob(), verified.size());
                return Err(IngestError::io("adopt", &temporary)(io::Error::new(io::ErrorKind::InvalidData, reason)));
            }
            file.sync_all().map_err(IngestError::io("sync", &temporary))?;
            Ok((file, temporary))
        })
        .await?;
        let naming = self.naming().await;
        run(move || {
            let _naming = naming;
            file.set_modified(SystemTime::now()).map_err(IngestError::io("date", &temporary))?;
            fs::rename(&temporary, &target).map_err(IngestError::io("rename", &temporary))?;
            sync_parent(&target)
        })
        .await
    }

    fn must_have_room(&self) -> Result<(), IngestError> {
        let uploads = &self.shared.uploads;
        super::room::for_blobs(uploads).map_err(IngestError::io("write to", uploads))
    }

    fn temporary(&self) -> Result<tempfile::NamedTempFile, IngestError> {
        let uploads = &self.shared.uploads;
        tempfile::Builder::new().prefix(ARRIVING).tempfile_in(uploads).map_err(IngestError::io("create a file in", uploads))
    }

    /// Gives a verified and synced file its digest's name, durably.
    async fn keep(&self, verified: VerifiedBlob, file: tempfile::NamedTempFile) -> Result<(), IngestError> {
        let (naming, target) = (self.naming().await, self.path(&verified.blob()));
        run(move || {
            let _naming = naming;
            file.as_file().set_modified(SystemTime::now()).map_err(IngestError::io("date", file.path()))?;
            file.persist(&target).map_err(|error| IngestError::io("rename to", &target)(error.error))?;
            sync_parent(&target)
        })
        .await
    }

    /// The right to give names. It is waited for before a thread of the blocking pool is taken, because a removal needs the
    /// pool to come to its end.
    async fn naming(&self) -> OwnedRwLockReadGuard<()> {
        self.shared.naming.clone().read_owned().await
    }
}

fn sync_parent(path: &Path) -> Result<(), IngestError> {
    path.parent().map_or(Ok(()), |folder| sync_dir(folder).map_err(IngestError::io("sync", folder)))
}

/// Removes files that are old, and those whose names start with one of `dead` however young they are.
fn remove_leftovers(uploads: &Path, dead: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(uploads)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_dead = name.to_str().is_some_and(|name| dead.iter().any(|start| name.starts_with(start)));
        let removed = fs::metadata(&path).and_then(|metadata| {
            let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
            let left = metadata.is_file() && (is_dead || age > LEFTOVER_AGE);
            if left { fs::remove_file(&path).map(|()| true) } else { Ok(false) }
        });
        match removed {
            Ok(false) => {}
            Ok(true) => tracing::info!(file = %path.display(), "removed what an earlier process left half-written"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T, IngestError> + Send + 'static) -> Result<T, IngestError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(IngestError::Broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, BlobStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        (dir, store)
    }

    fn uploads(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path().join(UPLOADS)).unwrap().count()
    }

    #[tokio::test]
    async fn keeps_small_blobs_under_either_algorithm() {
        let (dir, store) = store();
        for wanted in [Digest::sha256(b"hedge"), Digest::sha512(b"hedge")] {
            for _ in 0..2 {
                let verified = store.put(Some(wanted), Bytes::from_static(b"hedge")).await.unwrap();
                assert_eq!((verified.blob(), verified.size()), (wanted, 5));
            }
            assert_eq!(store.path(&wanted), dir.path().join("blobs").join(wanted.algorithm().name()).join(wanted.hex()));
            assert_eq!(store.size(&wanted).await.unwrap(), Some(5));
            assert_eq!(store.read(&wanted, 5).await.unwrap().unwrap(), "hedge");
            assert_eq!(store.read(&wanted, 4).await.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
            store.removal().await.unwrap().remove([wanted].into()).await.unwrap();
            assert!(store.open_read(&wanted).await.unwrap().is_none());
        }
        assert_eq!(store.put(None, Bytes::from_static(b"row")).await.unwrap().blob(), Digest::sha256(b"row"));
        assert_eq!(uploads(&dir), 0);
    }

    #[tokio::test]
    async fn refuses_bytes_that_are_not_the_wanted_blob() {
        let (dir, store) = store();
        let wanted = Digest::sha256(b"hedge");
        let refused = store.put(Some(wanted), Bytes::from_static(b"hodge")).await.unwrap_err();
        let IngestError::Mismatch(mismatch) = refused else { panic!("{refused}") };
        assert_eq!(mismatch.found, Digest::sha256(b"hodge"));
        assert_eq!((store.size(&wanted).await.unwrap(), uploads(&dir)), (None, 0));
    }

    #[tokio::test]
    async fn adopts_a_proven_file_of_the_proven_size() {
        let (_dir, store) = store();
        let mut hasher = BlobHasher::sha256();
        hasher.update(b"hedgerow");
        let verified = hasher.name();
        let temporary = store.upload_path("device-1");
        fs::write(&temporary, b"hedge").unwrap();
        assert!(store.adopt(verified, temporary.clone()).await.is_err());
        fs::write(&temporary, b"hedgerow").unwrap();
        store.adopt(verified, temporary.clone()).await.unwrap();
        assert!(!temporary.exists());
        assert_eq!(store.size(&verified.blob()).await.unwrap(), Some(8));
    }

    #[tokio::test]
    async fn storing_again_heals_a_rotten_file() {
        let (_dir, store) = store();
        let blob = store.put(None, Bytes::from_static(b"hedge")).await.unwrap().blob();
        fs::write(store.path(&blob), b"rotte").unwrap();
        store.put(Some(blob), Bytes::from_static(b"hedge")).await.unwrap();
        assert_eq!(fs::read(store.path(&blob)).unwrap(), b"hedge");
    }

    #[test]
    fn old_leftovers_are_removed_on_open_and_young_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        drop(BlobStore::open(dir.path()).unwrap());
        let (old, young) = (dir.path().join("uploads/old"), dir.path().join("uploads/young"));
        fs::write(&young, b"").unwrap();
        let file = File::create(&old).unwrap();
        file.set_modified(SystemTime::now() - LEFTOVER_AGE - Duration::from_secs(60)).unwrap();
        drop(BlobStore::open(dir.path()).unwrap());
        assert!(young.exists() && !old.exists());
    }

    #[tokio::test]
    async fn what_was_arriving_when_a_process_died_is_gone_when_the_next_one_starts() {
        let (dir, store) = store();
        let died = store.temporary().unwrap().keep().unwrap().1;
        store.clean_up().await.unwrap();
        assert!(died.exists(), "it arrives still");
        drop(BlobStore::open(dir.path()).unwrap());
        assert!(!died.exists());
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let failed = |kind: io::ErrorKind| IngestError::io("write", Path::new("x"))(kind.into()).is_storage_full();
        assert!(failed(io::ErrorKind::StorageFull));
        assert!(!failed(io::ErrorKind::PermissionDenied));
        let full = File::options().write(true).open("/dev/full").map(|mut file| io::Write::write_all(&mut file, b"x"));
        if let Ok(Err(error)) = full {
            assert!(IngestError::io("write", Path::new("/dev/full"))(error).is_storage_full());
        }
    }
}
