//! The domain operations on a seed's records. An operation that depends on the state it saw names that state, so that
//! of two writers one is told [`MetaError::Conflict`] and nothing is lost.
//!
//! | module | records of |
//! |---|---|
//! | [`keys`] | organisations and their access keys |
//! | [`repositories`] | blobs, manifests, tags and settings of repositories |
//! | [`trust`] | signed metadata and versions |
//! | [`fleet`] | enrolment tokens, devices, groups, assignments, desired states, rollouts |
//! | [`backup`] | copying the records while they are written |
//! | [`garbage`] | what garbage collection reads and takes away |
//!
//! Not here: blob bytes; see [`super::blobs`].

mod backup;
mod fleet;
mod garbage;
mod keys;
mod repositories;
mod trust;

use std::io;

use async_trait::async_trait;

use protocol::repository::tags::TagImmutable;

use super::journal::JournalError;

pub use backup::{BackupStore, JournalHold};
pub use fleet::{
    AssignmentRecord, DesiredStateRecord, DeviceChange, DeviceRecord, DeviceView, FleetStore, NextDesired, ReportRecord,
    RevocationListRecord, RevokedKeyRecord, TokenRecord, TokenRefused, token_id,
};
pub use garbage::{GarbageStore, Held, REPORT_STEP_SECONDS, ReportedVersion};
pub use keys::{AccessKeyRecord, KeyStore, Scope, ScopeRefused};
pub use repositories::{BlobLink, ManifestRecord, Relied, RepositoryStore, TagRecord};
pub use trust::{EvidenceRecord, Retirement, TrustStore, TufFile, VersionContent, VersionRecord};

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The state is not the one that the caller depends on.
    #[error("{0}")]
    Conflict(String),
    /// There is nothing under that name.
    #[error("{0} does not exist")]
    Missing(String),
    /// A tag stays where it is.
    #[error(transparent)]
    Immutable(#[from] Box<TagImmutable>),
    /// A version was taken out of use.
    #[error("{0}")]
    Retired(String),
    /// A token cannot be used (any more).
    #[error(transparent)]
    Token(#[from] TokenRefused),
    /// The store failed; nothing was acknowledged.
    #[error("the metadata store failed: {0}")]
    Failed(#[source] anyhow::Error),
}

impl MetaError {
    /// Whether there is no room left on the disk or in the quota.
    pub fn is_storage_full(&self) -> bool {
        let full = |kind: io::ErrorKind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let Self::Failed(error) = self else { return false };
        error.chain().any(|cause| {
            cause.downcast_ref::<JournalError>().is_some_and(JournalError::is_storage_full)
                || cause.downcast_ref::<io::Error>().is_some_and(|error| full(error.kind()))
        })
    }
}

/// How large a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSize {
    /// Changes that were ever written.
    pub changes: u64,
    /// Records that there are now.
    pub records: u64,
}

/// A store that says how large it is, from memory.
pub trait MeasuredStore: Send + Sync {
    /// How large it is.
    fn size(&self) -> StoreSize;
}

/// The records of one seed store.
///
/// A write that returned is durable: it survives `kill -9` and power loss.
#[async_trait]
pub trait MetaStore: KeyStore + RepositoryStore + TrustStore + FleetStore + GarbageStore + BackupStore + MeasuredStore {
    /// Brings what look-ups use up to date on the disk, at the end of a process: then the next start has nothing to catch
    /// up with, and notices records that a damaged disk took away.
    async fn settle(&self) -> Result<(), MetaError>;
}
