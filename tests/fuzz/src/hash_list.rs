//! Hash lists: one that is taken covers its blob to the last byte, and is written as it came.
//!
//! Not here: which list is a blob's.

use protocol::digest::Digest;
use protocol::geometry::BLOB_BYTES_MAX;
use protocol::hash_list::{HashList, list_bytes};

/// Reads a list as that of the blob and size that it names itself, so that the rest of it is looked at too.
pub fn run(data: &[u8]) {
    let size = data.get(8..16).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    let sha256 = || data.get(28..60)?.try_into().ok().map(Digest::Sha256);
    let sha512 = || data.get(28..92)?.try_into().ok().map(Digest::Sha512);
    let blob = if data.get(24..28) == Some(&[0, 0, 0, 64]) { sha512() } else { sha256() };
    let blob = blob.unwrap_or(Digest::Sha256([0; 32]));
    let Ok(list) = HashList::parse(data, blob, size) else { return };
    assert!(size <= BLOB_BYTES_MAX);
    assert_eq!((list.blob(), list.geometry().size()), (blob, size));
    assert!(u64::from(list.geometry().units()) * list.geometry().unit_bytes() >= size, "{:?}", list.geometry());
    assert_eq!(list_bytes(&blob, size), data.len() as u64);
    assert_eq!(list.to_bytes(), data);
}
