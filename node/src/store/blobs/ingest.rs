//! Taking in a blob as a stream: bytes are hashed, cut into units and written while they arrive.
//!
//! Disk and hash work runs on the blocking pool in batches, the blob's hash beside the rest; one batch is worked on while
//! the next is collected. What was written goes to the disk early, so that the end of a large blob is not one long wait.
//!
//! Not here: who may send it; see `seed::registry`.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use protocol::digest::{Algorithm, Digest};
use protocol::geometry::BLOB_BYTES_MAX;
use protocol::hash_list::{HashList, HashListBuilder};
use protocol::verify::{BlobHasher, VerifiedBlob};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{BlobStore, IngestError};

/// Bytes collected before they go to the blocking pool: the hop costs some 20 µs, 256 KiB of hashing and writing 300 µs.
const BATCH_BYTES: usize = 256 << 10;

/// Bytes read at once when a finished file is hashed again under another algorithm.
const REHASH_BYTES: usize = 256 << 10;

/// Bytes written after which they are sent to the disk while more arrive: large against the cost of a flush.
const SYNC_BYTES: u64 = 32 << 20;

/// A blob on its way in. Dropped before [`Ingest::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Ingest {
    store: BlobStore,
    batch: Vec<u8>,
    size: u64,
    disk: Disk,
}

#[derive(Debug)]
enum Disk {
    Idle(Box<Written>),
    Busy(JoinHandle<Result<Box<Written>, IngestError>>),
    Broken,
}

#[derive(Debug)]
struct Written {
    hasher: BlobHasher,
    units: Units,
    /// The memory of the batch before, to be used again.
    spare: Vec<u8>,
}

/// The bytes as they lie on the disk, cut into units.
#[derive(Debug)]
struct Units {
    file: Option<tempfile::NamedTempFile>,
    list: HashListBuilder,
    unsynced_bytes: u64,
    sync: Option<JoinHandle<io::Result<()>>>,
}

type Finished = (VerifiedBlob, Option<HashList>, tempfile::NamedTempFile);

impl Ingest {
    pub(super) fn new(store: BlobStore, algorithm: Algorithm) -> Self {
        let units = Units { file: None, list: HashListBuilder::new(), unsynced_bytes: 0, sync: None };
        let written = Written { hasher: BlobHasher::new(algorithm), units, spare: Vec::new() };
        Self { store, batch: Vec::new(), size: 0, disk: Disk::Idle(Box::new(written)) }
    }

    /// How many bytes were taken in so far.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether nothing stands in memory.
    pub const fn is_flushed(&self) -> bool {
        self.batch.capacity() == 0
    }

    /// Takes the next bytes. They may stand in memory, at most 512 KiB, until [`Ingest::flush`] or [`Ingest::finish`].
    ///
    /// # Errors
    /// When the blob grows too large, or when these or earlier bytes could not be written.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), IngestError> {
        let size = self.size + bytes.len() as u64;
        if size > BLOB_BYTES_MAX {
            return Err(IngestError::TooLarge);
        }
        if self.batch.len() + bytes.len() > BATCH_BYTES {
            self.hand_over().await?;
        }
        if self.batch.capacity() == 0 {
            self.batch.reserve_exact(BATCH_BYTES);
        }
        self.batch.extend_from_slice(&bytes);
        self.size = size;
        Ok(())
    }

    /// Writes what stands in memory and gives the memory back, for a blob that pauses. Not a promise of durability.
    ///
    /// # Errors
    /// When these or earlier bytes could not be written.
    pub async fn flush(&mut self) -> Result<(), IngestError> {
        self.hand_over().await?;
        let mut written = self.settle().await?;
        written.spare = Vec::new();
        self.disk = Disk::Idle(written);
        self.batch = Vec::new();
        Ok(())
    }

    /// Stores the blob durably; if `wanted` is given, only if it has that digest, else under the algorithm it began
    /// with. With it comes its hash list, if it has more than one unit.
    ///
    /// # Errors
    /// When the bytes are not `wanted`, or could not be written; nothing is left behind then.
    pub async fn finish(mut self, wanted: Option<Digest>) -> Result<(VerifiedBlob, Option<HashList>), IngestError> {
        self.hand_over().await?;
        let written = self.settle().await?;
        let store = self.store.clone();
        let (verified, list, file) = super::run(move || written.finish(&self.store, wanted)).await?;
        store.keep(verified, file).await?;
        Ok((verified, list))
    }

    async fn hand_over(&mut self) -> Result<(), IngestError> {
        let Written { mut hasher, mut units, spare } = *self.settle().await?;
        let batch = Arc::new(std::mem::replace(&mut self.batch, spare));
        let (store, hashed) = (self.store.clone(), Arc::clone(&batch));
        let hash = spawn_blocking(move || {
            hasher.update(&hashed);
            hasher
        });
        let write = spawn_blocking(move || units.append(&store, &batch).map(|()| (units, batch)));
        self.disk = Disk::Busy(tokio::spawn(async move {
            let hasher = hash.await.map_err(|_| IngestError::Broken)?;
            let (units, batch) = write.await.unwrap_or(Err(IngestError::Broken))?;
            let mut spare = Arc::try_unwrap(batch).unwrap_or_default();
            spare.clear();
            Ok(Box::new(Written { hasher, units, spare }))
        }));
        Ok(())
    }

    /// Waits for the batch under way. The handle stays in place while waiting, so that a caller that gives up half-way
    /// loses nothing; the state is broken from here until the caller puts the next one in.
    async fn settle(&mut self) -> Result<Box<Written>, IngestError> {
        if let Disk::Busy(work) = &mut self.disk {
            let result = work.await.unwrap_or(Err(IngestError::Broken));
            self.disk = Disk::Broken;
            return result;
        }
        match std::mem::replace(&mut self.disk, Disk::Broken) {
            Disk::Idle(written) => Ok(written),
            Disk::Busy(_) | Disk::Broken => Err(IngestError::Broken),
        }
    }
}

impl Units {
    fn append(&mut self, store: &BlobStore, batch: &[u8]) -> Result<(), IngestError> {
        store.must_have_room()?;
        let file = self.file(store)?;
        let path = file.path().to_owned();
        file.write_all(batch).map_err(IngestError::io("write", &path))?;
        self.list.update(batch);
        self.unsynced_bytes += batch.len() as u64;
        if self.unsynced_bytes >= SYNC_BYTES && self.sync.as_ref().is_none_or(JoinHandle::is_finished) {
            self.start_sync().map_err(IngestError::io("sync", &path))?;
        }
        Ok(())
    }

    fn start_sync(&mut self) -> io::Result<()> {
        self.end_sync()?;
        let Some(file) = &self.file else { return Ok(()) };
        let file = file.as_file().try_clone()?;
        self.unsynced_bytes = 0;
        self.sync = Some(spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the sync under way. Its failure is the blob's: the kernel reports it once, so that a later sync of the same
    /// file would succeed.
    fn end_sync(&mut self) -> io::Result<()> {
        match self.sync.take() {
            Some(sync) => Handle::current().block_on(sync).map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    fn file(&mut self, store: &BlobStore) -> Result<&mut tempfile::NamedTempFile, IngestError> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(store.temporary()?)),
        }
    }
}

impl Written {
    /// The whole file, verified and synced, and what goes with it.
    fn finish(mut self: Box<Self>, store: &BlobStore, wanted: Option<Digest>) -> Result<Finished, IngestError> {
        let path = self.units.file(store)?.path().to_owned();
        self.units.end_sync().map_err(IngestError::io("sync", &path))?;
        let Self { hasher, units: Units { file: Some(file), list, .. }, .. } = *self else { return Err(IngestError::Broken) };
        let verified = match wanted {
            None => hasher.name(),
            Some(wanted) if wanted.algorithm() == hasher.algorithm() => hasher.finish(wanted)?,
            Some(wanted) => {
                let mut hasher = BlobHasher::of(&wanted);
                hash_file(&mut hasher, file.path()).map_err(IngestError::io("read", file.path()))?;
                hasher.finish(wanted)?
            }
        };
        file.as_file().sync_all().map_err(IngestError::io("sync", file.path()))?;
        Ok((verified, list.finish(verified.blob()), file))
    }
}

/// Puts the whole content of a file into `hasher`.
fn hash_file(hasher: &mut BlobHasher, path: &std::path::Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = vec![0; REHASH_BYTES];
    loop {
        match io::Read::read(&mut file, &mut block)? {
            0 => return Ok(()),
            count => hasher.update(&block[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::geometry::UNIT_BYTES;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|n| (n % 251) as u8).collect()
    }

    async fn ingest(store: &BlobStore, content: &[u8], step: usize) -> Ingest {
        fill(store.begin(Algorithm::Sha256), content, step).await
    }

    async fn fill(mut ingest: Ingest, content: &[u8], step: usize) -> Ingest {
        for chunk in content.chunks(step) {
            ingest.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        ingest
    }

    #[tokio::test]
    async fn content_and_list_do_not_depend_on_how_the_bytes_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let unit = UNIT_BYTES as usize;
        for size in [0, 1, unit, unit + 1, 4 * BATCH_BYTES + 7] {
            let content = content(size);
            let mut builder = HashListBuilder::new();
            builder.update(&content);
            for (step, wanted) in [(1 << 20, Digest::sha256(&content)), (8191, Digest::sha512(&content))] {
                for began in Algorithm::ALL {
                    let (verified, list) = fill(store.begin(began), &content, step).await.finish(Some(wanted)).await.unwrap();
                    assert_eq!((verified.blob(), verified.size()), (wanted, size as u64));
                    assert_eq!(list, builder.clone().finish(wanted));
                    assert!(std::fs::read(store.path(&wanted)).unwrap() == content);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_blob_is_hashed_as_it_arrives_and_read_again_only_for_another_algorithm() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        for began in Algorithm::ALL {
            for wanted in [Digest::sha256(b"hedge"), Digest::sha512(b"hedge")] {
                let mut ingest = fill(store.begin(began), b"hedge", 5).await;
                ingest.flush().await.unwrap();
                let arrived = std::fs::read_dir(dir.path().join("uploads")).unwrap().next().unwrap().unwrap().path();
                std::fs::write(arrived, b"hodge").unwrap();
                assert_eq!(ingest.finish(Some(wanted)).await.is_ok(), wanted.algorithm() == began);
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let leftovers = || std::fs::read_dir(dir.path().join("uploads")).unwrap().count();
        let mut given_up = ingest(&store, &content(3 * BATCH_BYTES), BATCH_BYTES).await;
        given_up.flush().await.unwrap();
        assert_eq!(leftovers(), 1);
        drop(given_up);
        assert_eq!(leftovers(), 0);
        let refused = ingest(&store, b"hodge", 5).await.finish(Some(Digest::sha256(b"hedge"))).await;
        assert!(matches!(refused, Err(IngestError::Mismatch(_))));
        assert_eq!(leftovers(), 0);
    }

    #[tokio::test]
    async fn a_write_given_up_half_way_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let content = content(3 * BATCH_BYTES);
        let mut ingest = ingest(&store, &content, BATCH_BYTES).await;
        {
            let mut flush = Box::pin(ingest.flush());
            let _ = futures_util::poll!(flush.as_mut());
        }
        ingest.write(Bytes::from_static(b"end")).await.unwrap();
        let whole = [content.as_slice(), b"end"].concat();
        ingest.finish(Some(Digest::sha256(&whole))).await.unwrap();
    }

    #[tokio::test]
    async fn after_a_failed_write_nothing_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        std::fs::remove_dir(dir.path().join("uploads")).unwrap();
        let mut ingest = ingest(&store, b"hedge", 5).await;
        assert!(matches!(ingest.flush().await, Err(IngestError::Io { .. })));
        assert!(matches!(ingest.write(Bytes::from(content(BATCH_BYTES + 1))).await, Err(IngestError::Broken)));
        assert!(matches!(ingest.finish(None).await, Err(IngestError::Broken)));
    }
}
