//! The names of what stands in a data directory, for all who look for it there.
//!
//! Not here: what only its owner opens, as the index.

use std::path::{Path, PathBuf};

use protocol::digest::Digest;

/// The verified blobs, as in an OCI image layout.
pub const BLOBS: &str = "blobs";

/// The journal; a device has none.
pub const JOURNAL: &str = "journal";

/// The audit log of a seed.
pub const AUDIT: &str = "audit";

/// The keys of a seed.
pub const KEYS: &str = "keys";

/// Where the file of a blob is in the data directory `dir`, if it exists.
pub fn blob_file(dir: &Path, blob: &Digest) -> PathBuf {
    dir.join(BLOBS).join(blob.algorithm().name()).join(blob.hex())
}
