//! Copying the records while they are written.
//!
//! Not here: copying itself; see [`super::super::backup`].

use std::sync::Arc;

use async_trait::async_trait;

use super::MetaError;
use crate::store::journal::extent::Extent;

/// The journal's files as of one moment. While it lives, none of them is removed.
#[derive(Clone, Debug)]
pub struct JournalHold {
    /// The files.
    pub extent: Extent,
    pub(in crate::store) _held: Arc<()>,
}

/// Records that are kept in a journal.
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// Keeps the journal's files as they are now.
    async fn hold_journal(&self) -> Result<JournalHold, MetaError>;
}
