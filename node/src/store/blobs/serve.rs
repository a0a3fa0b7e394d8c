//! Reading a range of a blob as a stream of blocks, read ahead on the blocking pool.
//!
//! Not here: which ranges were asked for, and by whom; see `seed::registry` and `device::endpoint`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use super::BlobStore;

/// Bytes of a block while few streams are open: larger ones are not faster, smaller ones pay more for each hop.
const BLOCK_BYTES_MAX: u64 = 256 << 10;

/// Bytes of a block while very many streams are open.
const BLOCK_BYTES_MIN: u64 = 16 << 10;

/// Blocks of one stream that are read or wait to be sent at the same time.
const BLOCKS_AHEAD: usize = 2;

/// Bytes that all blocks of all streams may take together, until blocks cannot get smaller; an eighth of the memory that
/// a whole node may use.
const READ_AHEAD_BYTES_MAX: u64 = 8 << 20;

/// How many streams of one store are open.
#[derive(Debug, Default)]
pub(super) struct Readers(AtomicUsize);

struct Reader {
    store: BlobStore,
    file: File,
}

impl BlobStore {
    /// The bytes `range` of a blob's `file`, in blocks of at most 256 KiB. A file that ends before the range is an error
    /// in the stream, never a short stream.
    pub fn stream(&self, file: File, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        self.shared.readers.0.fetch_add(1, Ordering::Relaxed);
        let reader = Arc::new(Reader { store: self.clone(), file });
        let blocks = stream::unfold((reader, range), |(reader, mut left)| async move {
            if left.is_empty() {
                return None;
            }
            let block = left.start..left.end.min(left.start + reader.block_bytes());
            left.start = block.end;
            Some(((Arc::clone(&reader), block), (reader, left)))
        });
        blocks.map(|(reader, block)| super::off_thread(move || reader.read(&block))).buffered(BLOCKS_AHEAD)
    }
}

impl Reader {
    fn block_bytes(&self) -> u64 {
        let streams = self.store.shared.readers.0.load(Ordering::Relaxed).max(1) as u64;
        (READ_AHEAD_BYTES_MAX / (streams * BLOCKS_AHEAD as u64)).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
    }

    fn read(&self, block: &Range<u64>) -> io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(block.end - block.start).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, block.start)?;
        Ok(bytes.into())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.store.shared.readers.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use std::path::Path;

    async fn read(store: &BlobStore, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let blocks: Vec<Bytes> = store.stream(File::open(path)?, range).try_collect().await?;
        assert!(blocks.iter().all(|block| block.len() as u64 <= BLOCK_BYTES_MAX));
        Ok(blocks.concat())
    }

    #[tokio::test]
    async fn streams_exactly_the_range() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let content: Vec<u8> = (0..700_001u32).map(|n| (n % 251) as u8).collect();
        let path = store.upload_path("content");
        std::fs::write(&path, &content).unwrap();
        for range in [0..0, 0..1, 0..700_001, 262_143..262_145, 700_000..700_001] {
            let expected = &content[range.start as usize..range.end as usize];
            assert!(read(&store, &path, range).await.unwrap() == expected);
        }
        let cut = read(&store, &path, 0..700_002).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(store.shared.readers.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn blocks_shrink_while_many_streams_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let path = store.upload_path("content");
        std::fs::write(&path, vec![0; 600 << 10]).unwrap();
        let open = || store.stream(File::open(&path).unwrap(), 0..600 << 10);
        let many: Vec<_> = (0..127).map(|_| open()).collect();
        let mut stream = Box::pin(open());
        assert_eq!(stream.next().await.unwrap().unwrap().len(), 32 << 10);
        drop(many);
        assert_eq!(read(&store, &path, 0..600 << 10).await.unwrap().len(), 600 << 10);
    }
}
