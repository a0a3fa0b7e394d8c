//! Which bytes are where on this device: whole blobs in the store, partial ones in their own files.
//!
//! Not here: which of them are wanted.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use protocol::agent::content::Proof;
use protocol::bits::Bits;
use protocol::digest::Digest;
use protocol::geometry::Geometry;
use protocol::hash_list::HashList;
use protocol::verify::{BlobHasher, UnitVerifier, VerifiedBlob};

use super::geometry_by_digest;
use crate::device::partial::Partial;
use crate::store::blobs::BlobStore;

/// A hash list larger than this is not read: it would be of a blob beyond 16 GiB, which is fetched by its digest alone.
const HASH_LIST_BYTES_MAX: u64 = 8 << 20;

const BLOCK_BYTES: usize = 256 << 10;

/// A blob that this device holds or fetches.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// In the store.
    Whole { geometry: Geometry },
    /// On its way; without a verifier its digest alone proves it.
    Partial { partial: Partial, verifier: Option<Arc<UnitVerifier>> },
}

impl Held {
    /// How the blob is cut.
    pub(super) fn geometry(&self) -> Geometry {
        match self {
            Self::Whole { geometry } => *geometry,
            Self::Partial { partial, .. } => partial.geometry(),
        }
    }
}

/// What was found when a wanted blob's files were opened.
pub(crate) enum Opened {
    /// It is in the store, and was hashed again.
    Whole { proof: VerifiedBlob, geometry: Geometry },
    /// It is not; some of its units may be here.
    Partial { partial: Partial, verifier: Option<Arc<UnitVerifier>>, held: Bits },
    /// Its hash list is stored but describes another blob.
    ListUnusable { list: Digest },
}

/// The blobs of this device.
pub(super) struct Content {
    store: BlobStore,
    partial_dir: PathBuf,
    held: BTreeMap<Digest, Held>,
}

impl Content {
    pub(super) const fn new(store: BlobStore, partial_dir: PathBuf) -> Self {
        Self { store, partial_dir, held: BTreeMap::new() }
    }

    pub(super) const fn store(&self) -> &BlobStore {
        &self.store
    }

    pub(super) fn get(&self, blob: &Digest) -> Option<&Held> {
        self.held.get(blob)
    }

    pub(super) fn insert(&mut self, blob: Digest, held: Held) {
        self.held.insert(blob, held);
    }

    /// Looks for a wanted blob in the store, or opens its partial files.
    pub(super) fn open(&self, blob: Digest, size: u64, proof: Proof) -> impl Future<Output = anyhow::Result<Opened>> + use<> {
        let (store, dir) = (self.store.clone(), self.partial_dir.clone());
        async move {
            tokio::task::spawn_blocking(move || open(&store, &dir, blob, size, &proof)).await.context("opening a blob was interrupted")?
        }
    }

    /// Hashes what is stored of a blob again, and removes a whole one that has rotted; false if something has.
    pub(super) fn recheck(&self, blob: Digest) -> impl Future<Output = anyhow::Result<bool>> + use<> {
        let (store, held) = (self.store.clone(), self.held.get(&blob).cloned());
        async move {
            let check = move || match held {
                Some(Held::Partial { partial, verifier }) => Ok(verifier.map_or(Ok(true), |verifier| partial.is_sound(&verifier))?),
                Some(Held::Whole { .. }) | None => Ok(verify_stored(&store, &blob)?.is_some()),
            };
            tokio::task::spawn_blocking(check).await.context("hashing a blob was interrupted")?
        }
    }

    /// Forgets a blob whose file is gone.
    pub(super) fn forget(&mut self, blob: &Digest) {
        self.held.remove(blob);
    }

    /// Forgets a partial blob and its files.
    pub(super) fn discard(&mut self, blob: &Digest) {
        if let Some(Held::Partial { partial, .. }) = self.held.get(blob) {
            partial.discard();
            self.held.remove(blob);
        }
    }

    /// Throws away what was stored of a partial blob, which from now on only its digest proves.
    pub(super) fn start_over(&mut self, blob: &Digest, geometry: Geometry) -> anyhow::Result<()> {
        self.discard(blob);
        let (partial, _) = Partial::open(&self.partial_dir, *blob, geometry, None)?;
        self.held.insert(*blob, Held::Partial { partial, verifier: None });
        Ok(())
    }

    /// What reads a blob's bytes for a peer.
    pub(super) fn reader(&self, blob: &Digest) -> Option<Reader> {
        match self.held.get(blob)? {
            Held::Whole { geometry } => Some(Reader { source: Bytes::Whole(self.store.path(blob)), geometry: *geometry }),
            Held::Partial { partial, .. } => Some(Reader { geometry: partial.geometry(), source: Bytes::Partial(partial.clone()) }),
        }
    }
}

/// Reads the bytes of one blob.
pub(super) struct Reader {
    pub(super) geometry: Geometry,
    source: Bytes,
}

enum Bytes {
    Whole(PathBuf),
    Partial(Partial),
}

impl Reader {
    /// A function that reads at an offset; it blocks.
    pub(super) fn open(self) -> std::io::Result<impl Fn(u64, &mut [u8]) -> std::io::Result<()> + Send + Sync + 'static> {
        let whole = match &self.source {
            Bytes::Whole(path) => Some(File::open(path)?),
            Bytes::Partial(_) => None,
        };
        Ok(move |offset, buffer: &mut [u8]| match (&whole, &self.source) {
            (Some(file), _) => file.read_exact_at(buffer, offset),
            (None, Bytes::Partial(partial)) => partial.read(offset, buffer),
            (None, Bytes::Whole(_)) => Err(std::io::ErrorKind::NotFound.into()),
        })
    }
}

fn open(store: &BlobStore, dir: &std::path::Path, blob: Digest, size: u64, proof: &Proof) -> anyhow::Result<Opened> {
    let geometry = match proof {
        Proof::Digest => geometry_by_digest(size),
        Proof::HashList(_) => Geometry::listed(size),
    };
    if let Some(proof) = verify_stored(store, &blob)? {
        return Ok(Opened::Whole { proof, geometry });
    }
    let verifier = match proof {
        Proof::Digest => UnitVerifier::single(blob, size),
        Proof::HashList(list) => match read_list(store, list, blob, size) {
            Ok(list) => Some(UnitVerifier::Listed(list)),
            Err(error) => {
                tracing::error!(event = "hash_list_lied", %blob, %list, error = format!("{error:#}"), "the hash list cannot be used");
                return Ok(Opened::ListUnusable { list: *list });
            }
        },
    };
    let (partial, held) = Partial::open(dir, blob, geometry, verifier.as_ref())?;
    Ok(Opened::Partial { partial, verifier: verifier.map(Arc::new), held })
}

/// Hashes a stored blob again, once a run: what was written by an earlier run may have rotted since.
fn verify_stored(store: &BlobStore, blob: &Digest) -> anyhow::Result<Option<VerifiedBlob>> {
    let path = store.path(blob);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mut hasher = BlobHasher::of(blob);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let length = std::io::Read::read(&mut file, &mut block).with_context(|| format!("reading {}", path.display()))?;
        if length == 0 {
            break;
        }
        hasher.update(&block[..length]);
    }
    match hasher.finish(*blob) {
        Ok(proof) => Ok(Some(proof)),
        Err(mismatch) => {
            tracing::error!(event = "storage_fault", %blob, found = %mismatch.found, "a stored blob has rotted; it is fetched again");
            std::fs::remove_file(&path).with_context(|| format!("removing the rotten {}", path.display()))?;
            Ok(None)
        }
    }
}

fn read_list(store: &BlobStore, list: &Digest, blob: Digest, size: u64) -> anyhow::Result<HashList> {
    let path = store.path(list);
    let bytes = std::fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
    anyhow::ensure!(bytes <= HASH_LIST_BYTES_MAX, "the hash list has {bytes} bytes, more than {HASH_LIST_BYTES_MAX}");
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(HashList::parse(&bytes, blob, size)?)
}
