//! Blocks of memory for bytes between network and disk, used again and again: memory asked for anew for each block is mapped
//! and zeroed by the kernel each time, and lies about in the allocator afterwards.
//!
//! Not here: how many blocks are under way; fetches hold two each at most, requests of peers two.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of a block, four units: large enough that system calls and changes of thread cost little, small enough that the
/// requests that are in flight at a time fit into a few MiB.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// Blocks that are kept while nobody needs them.
const SPARE_MAX: usize = 24;

/// Where blocks come from and go back to.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Box<[u8]>>>>);

/// A block, which goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    home: Buffers,
}

impl Buffers {
    /// A block of [`BLOCK_BYTES`] with anything in it.
    pub(super) fn take(&self) -> Block {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Block { bytes: spare.unwrap_or_else(|| vec![0; BLOCK_BYTES].into()), home: self.clone() }
    }
}

impl Block {
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first `length` bytes, to be shared; the block goes back with the last of them.
    pub(super) fn freeze(self, length: usize) -> Bytes {
        struct Filled(Block, usize);
        impl AsRef<[u8]> for Filled {
            fn as_ref(&self) -> &[u8] {
                &self.0.bytes[..self.1]
            }
        }
        Bytes::from_owner(Filled(self, length))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut spare = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_when_the_last_of_its_bytes_is_gone() {
        let buffers = Buffers::default();
        let mut block = buffers.take();
        block.bytes_mut()[..2].copy_from_slice(b"ab");
        let place = block.bytes().as_ptr();
        let bytes = block.freeze(2);
        let (one, other) = (bytes.slice(..1), bytes.slice(1..));
        drop((bytes, one));
        assert_ne!(buffers.take().bytes().as_ptr(), place, "some of its bytes are still in use");
        assert_eq!(&other[..], b"b");
        drop(other);
        assert_eq!(buffers.take().bytes().as_ptr(), place);
    }
}
