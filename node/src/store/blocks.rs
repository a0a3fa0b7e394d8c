//! Reading a file of any size a block at a time, for those who hash or copy it.
//!
//! Not here: sending one to a client; see [`super::blobs`].

use std::io::{self, Read};

/// Bytes read at once: large against what a call costs, small against the caches of a core.
const BLOCK_BYTES: usize = 256 << 10;

/// Hands over what `source` has from here on, in order.
///
/// # Errors
/// When it cannot be read, or when `take` fails.
pub(super) fn each_block(source: &mut impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match source.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&block[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
