//! Reading blobs: small ones whole and from memory, others as a stream of blocks.
//!
//! A block whose pages the kernel has in memory is read at once, by the task that sends it: a hop to the blocking pool
//! would cost more than the read. Only what has to come from the disk goes there. A connection that can send files itself
//! gets what is in memory as a part of the file ([`BlobStore::stream_handed_over`]), so that nobody copies it.
//!
//! Not here: which ranges were asked for, and by whom; see `seed::registry` and `device::endpoint`.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use rustix::io::{ReadWriteFlags, preadv2};

use super::BlobStore;

/// Bytes of a block while few streams are open: it stays in the cache of one core between being read and being sent.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// Bytes of a block while very many streams are open.
const BLOCK_BYTES_MIN: usize = 16 << 10;

/// Blocks that one stream has in memory, with a client that takes them slowly: one under way, one that waits.
const BLOCKS_OF_STREAM: usize = 2;

/// Bytes that all blocks of all streams may take together, until blocks cannot get smaller; an eighth of the memory that
/// a whole node may use.
const BLOCKS_BYTES_MAX: usize = 8 << 20;

/// Blocks that are kept to be used again.
const SPARE_BLOCKS_MAX: usize = 16;

/// Whether the kernel has a part of a file in memory is asked at points so far apart, in bytes: it reads ahead, and drops,
/// more than a page at a time.
const PROBE_BYTES: usize = 64 << 10;

/// The open streams of one store, and blocks that none of them uses.
#[derive(Debug, Default)]
pub(super) struct Readers {
    streams: AtomicUsize,
    spare: Mutex<Vec<Box<[u8]>>>,
}

struct Reader {
    store: BlobStore,
    file: Arc<File>,
    left: Range<u64>,
}

/// Memory of a block, which goes back to its store when the block was sent.
struct Block {
    store: BlobStore,
    bytes: Box<[u8]>,
    filled: usize,
}

impl BlobStore {
    /// The bytes `range` of a blob's `file`, in blocks of at most 128 KiB. A file that ends before the range is an error
    /// in the stream, never a short stream.
    pub fn stream(&self, file: File, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(self.reader(file, range), |mut reader| async move { Ok(reader.next().await?.map(|block| (block, reader))) })
    }

    /// As [`stream`](Self::stream), but what the kernel has in memory is left to `hand_over`: it is given the file, where in
    /// it, and how many bytes, at most `bytes_max`, and what it makes of them goes into the stream. If it makes nothing, they are read.
    pub fn stream_handed_over(
        &self,
        file: File,
        range: Range<u64>,
        bytes_max: usize,
        hand_over: impl Fn(&Arc<File>, u64, usize) -> Option<Bytes> + Send + 'static,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold((self.reader(file, range), hand_over), move |(mut reader, hand_over)| async move {
            let resident = reader.resident(bytes_max);
            let handed_over = if resident >= PROBE_BYTES { hand_over(&reader.file, reader.left.start, resident) } else { None };
            let bytes = match handed_over {
                Some(bytes) => {
                    reader.left.start += bytes.len() as u64;
                    Some(bytes)
                }
                None => reader.next().await?,
            };
            Ok(bytes.map(|bytes| (bytes, (reader, hand_over))))
        })
    }

    fn reader(&self, file: File, range: Range<u64>) -> Reader {
        self.shared.readers.streams.fetch_add(1, Ordering::Relaxed);
        Reader { store: self.clone(), file: Arc::new(file), left: range }
    }

    fn block(&self) -> Block {
        let streams = self.shared.readers.streams.load(Ordering::Relaxed).max(1);
        let bytes = (BLOCKS_BYTES_MAX / (streams * BLOCKS_OF_STREAM)).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        let spare = if bytes == BLOCK_BYTES_MAX { self.spare().pop() } else { None };
        Block { store: self.clone(), bytes: spare.unwrap_or_else(|| vec![0; bytes].into()), filled: 0 }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
        self.shared.readers.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// How many of the next bytes, at most `bytes_max`, the kernel has in memory, about; none on a file system that cannot tell.
    fn resident(&self, bytes_max: usize) -> usize {
        let bytes = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX).min(bytes_max);
        let is_resident = |offset: usize| {
            let offset = self.left.start + offset as u64;
            preadv2(&*self.file, &mut [IoSliceMut::new(&mut [0])], offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
        };
        match (0..bytes).step_by(PROBE_BYTES).find(|offset| !is_resident(*offset)) {
            Some(cold) => cold,
            None if bytes > 0 && is_resident(bytes - 1) => bytes,
            None => 0,
        }
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let mut block = self.store.block();
        let wanted = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX).min(block.bytes.len());
        let start = self.left.start;
        let in_memory = preadv2(&*self.file, &mut [IoSliceMut::new(&mut block.bytes[..wanted])], start, ReadWriteFlags::NOWAIT);
        block.filled = in_memory.unwrap_or(0);
        if block.filled == 0 {
            let file = Arc::clone(&self.file);
            block = super::off_thread(move || {
                file.read_exact_at(&mut block.bytes[..wanted], start)?;
                block.filled = wanted;
                Ok(block)
            })
            .await?;
        }
        self.left.start += block.filled as u64;
        Ok(Some(Bytes::from_owner(block)))
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes.len() == BLOCK_BYTES_MAX {
            let mut spare = self.store.spare();
            if spare.len() < SPARE_BLOCKS_MAX {
                spare.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.store.shared.readers.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, TryStreamExt as _};
    use std::path::Path;

    async fn read(store: &BlobStore, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let blocks: Vec<Bytes> = store.stream(File::open(path)?, range).try_collect().await?;
        assert!(blocks.iter().all(|block| block.len() <= BLOCK_BYTES_MAX));
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
        assert_eq!(store.shared.readers.streams.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_handed_over_and_what_is_read_make_the_range() {
        const PART_BYTES_MAX: usize = 300_000;
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let path = store.upload_path("content");
        std::fs::write(&path, vec![1; 2_000_000]).unwrap();
        for range in [0..2_000_000, 1..1_999_999, 5..6, 100_000..100_001 + PROBE_BYTES as u64] {
            for takes in [true, false] {
                let expected = Mutex::new(range.start);
                let hand_over = move |_: &Arc<File>, offset: u64, bytes: usize| {
                    assert!((PROBE_BYTES..=PART_BYTES_MAX).contains(&bytes));
                    let mut expected = expected.lock().unwrap();
                    assert!(*expected <= offset);
                    takes.then(|| {
                        *expected = offset + bytes as u64;
                        vec![0; bytes].into()
                    })
                };
                let stream = store.stream_handed_over(File::open(&path).unwrap(), range.clone(), PART_BYTES_MAX, hand_over);
                let parts: Vec<Bytes> = stream.try_collect().await.unwrap();
                let parts = parts.concat();
                let handed_over = parts.iter().filter(|byte| **byte == 0).count();
                assert_eq!(parts.len() as u64, range.end - range.start);
                assert!(handed_over == 0 || takes && parts.len() > PROBE_BYTES);
            }
        }
        let cut =
            store.stream_handed_over(File::open(&path).unwrap(), 0..2_000_001, PART_BYTES_MAX, |_, _, bytes| Some(vec![0; bytes].into()));
        assert_eq!(cut.try_collect::<Vec<Bytes>>().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(store.shared.readers.streams.load(Ordering::Relaxed), 0);
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
