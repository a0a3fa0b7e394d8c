//! Statements: what was read is within its limits, and can be written and read again.
//!
//! Not here: whether a statement is signed.

use protocol::geometry::BLOB_BYTES_MAX;
use protocol::statement::version::{BLOBS_MAX, VersionStatement};

use super::assert_short;

/// Reads a statement.
pub fn run(data: &[u8]) {
    match VersionStatement::parse(data) {
        Ok(statement) => {
            let content = statement.content();
            assert!(content.len() <= BLOBS_MAX && content.iter().all(|blob| blob.size <= BLOB_BYTES_MAX));
            let written = serde_json::to_vec(&statement).expect("JSON");
            assert_eq!(VersionStatement::parse(&written), Ok(statement));
        }
        Err(refused) => assert_short(&refused, 0),
    }
}
