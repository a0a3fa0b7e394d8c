//! Small blobs in memory: manifests and image configurations, which are pulled far more often than all else.
//!
//! Only bytes that have their digest get in, so that what is given out is right whatever becomes of the file. Whether a
//! caller may have a blob, or whether it still is one of a repository, is asked of the records before, each time.
//!
//! Not here: larger blobs, of which the kernel keeps the pages; see `serve`.

use std::fs::File;
use std::io::{self, Read as _};

use bytes::Bytes;
use protocol::digest::Digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::BlobStore;

/// The largest blob that is kept, in bytes.
const BLOB_BYTES_MAX: u64 = 256 << 10;

/// Bytes that all kept blobs may take together, with what keeping them costs.
const BYTES_MAX: u64 = 8 << 20;

/// What a kept blob costs besides its bytes, about.
const BLOB_COST_BYTES: u64 = 192;

/// How many blobs are expected; only memory for the table of them is chosen by it.
const BLOBS_EXPECTED: usize = 1024;

/// Small blobs by digest.
#[derive(Debug)]
pub(super) struct SmallBlobs(Cache<Digest, Bytes, Cost>);

#[derive(Clone, Debug)]
struct Cost;

impl Weighter<Digest, Bytes> for Cost {
    fn weight(&self, _: &Digest, bytes: &Bytes) -> u64 {
        BLOB_COST_BYTES + bytes.len() as u64
    }
}

impl Default for SmallBlobs {
    fn default() -> Self {
        Self(Cache::with_weighter(BLOBS_EXPECTED, BYTES_MAX, Cost))
    }
}

impl SmallBlobs {
    /// Forgets a blob.
    pub(super) fn forget(&self, blob: &Digest) {
        self.0.remove(blob);
    }
}

/// A blob, ready to be sent.
#[derive(Debug)]
pub enum Content {
    /// All of its bytes.
    Small(Bytes),
    /// Its file, and its size in bytes.
    Large(File, u64),
}

impl Content {
    /// The blob's size in bytes.
    pub const fn size(&self) -> u64 {
        match self {
            Self::Small(bytes) => bytes.len() as u64,
            Self::Large(_, size) => *size,
        }
    }
}

impl BlobStore {
    /// A blob's content, if it is here; a small one whose file holds something else counts as missing.
    ///
    /// # Errors
    /// When the file system refuses.
    pub async fn content(&self, blob: &Digest) -> io::Result<Option<Content>> {
        if let Some(bytes) = self.shared.small.0.get(blob) {
            return Ok(Some(Content::Small(bytes)));
        }
        let (store, blob) = (self.clone(), *blob);
        super::off_thread(move || {
            let Some((mut file, size)) = store.open_file(&blob)? else { return Ok(None) };
            if size > BLOB_BYTES_MAX {
                return Ok(Some(Content::Large(file, size)));
            }
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            file.read_to_end(&mut bytes)?;
            if blob.same_algorithm(&bytes) != blob {
                tracing::error!(%blob, "the file of a blob holds something else");
                return Ok(None);
            }
            let bytes = Bytes::from(bytes);
            store.shared.small.0.insert(blob, bytes.clone());
            Ok(Some(Content::Small(bytes)))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn small(store: &BlobStore, blob: &Digest) -> Option<Bytes> {
        match store.content(blob).await.unwrap()? {
            Content::Small(bytes) => Some(bytes),
            Content::Large(..) => panic!("{blob} is small"),
        }
    }

    #[tokio::test]
    async fn a_small_blob_is_read_once_and_gone_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let blob = store.put(None, Bytes::from_static(b"hedge")).await.unwrap().blob();
        assert_eq!(small(&store, &blob).await.unwrap(), "hedge");
        std::fs::write(store.path(&blob), b"hodge").unwrap();
        assert_eq!(small(&store, &blob).await.unwrap(), "hedge");
        store.removal().await.unwrap().remove([blob].into()).await.unwrap();
        assert!(small(&store, &blob).await.is_none());
    }

    #[tokio::test]
    async fn a_rotten_small_blob_counts_as_missing_until_it_is_stored_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let blob = store.put(None, Bytes::from_static(b"hedge")).await.unwrap().blob();
        std::fs::write(store.path(&blob), b"hodge").unwrap();
        assert!(small(&store, &blob).await.is_none());
        store.put(None, Bytes::from_static(b"hedge")).await.unwrap();
        assert_eq!(small(&store, &blob).await.unwrap(), "hedge");
    }

    #[tokio::test]
    async fn large_blobs_stay_files_and_small_ones_take_bounded_memory() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let bytes_max = usize::try_from(BLOB_BYTES_MAX).unwrap();
        let large = store.put(None, vec![0; bytes_max + 1].into()).await.unwrap().blob();
        assert!(matches!(store.content(&large).await.unwrap(), Some(Content::Large(_, size)) if size == BLOB_BYTES_MAX + 1));
        for n in 0..40_u8 {
            let blob = store.put(None, vec![n; bytes_max].into()).await.unwrap().blob();
            assert_eq!(small(&store, &blob).await.unwrap().len(), bytes_max);
        }
        assert!(store.shared.small.0.len() > 8 && store.shared.small.0.weight() <= BYTES_MAX);
    }
}
