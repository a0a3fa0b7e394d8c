//! What garbage collection asks of the records.
//!
//! Not here: what is garbage; see [`protocol::garbage`].

use std::collections::BTreeSet;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::garbage::{Content, Garbage};
use protocol::name::{OrgName, RepositoryName};
use protocol::time::WallTime;

use super::{DesiredStateRecord, MetaError, VersionRecord};

/// A version, and when a device last reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedVersion {
    /// The version.
    pub version: VersionRecord,
    /// When a device last reported it, to within [`REPORT_STEP_SECONDS`].
    pub reported: Option<WallTime>,
}

/// A report renews the time that its versions were last reported only after so long, in seconds: a device reports often.
pub const REPORT_STEP_SECONDS: u64 = 24 * 60 * 60;

/// By how many records a digest is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The digest.
    pub digest: Digest,
    /// How many repositories have it as a blob or manifest, and versions as a statement.
    pub holders: usize,
    /// The blob whose hash list it is, and how many holders that has.
    pub listed: Option<(Digest, usize)>,
}

/// What garbage collection reads and takes away.
#[async_trait]
pub trait GarbageStore: Send + Sync {
    /// Everything that a repository holds.
    async fn repository_content(&self, repository: &RepositoryName) -> Result<Content, MetaError>;
    /// The versions of an organisation.
    async fn reported_versions(&self, org: &OrgName) -> Result<Vec<ReportedVersion>, MetaError>;
    /// What the groups of an organisation shall have.
    async fn desired_states(&self, org: &OrgName) -> Result<Vec<DesiredStateRecord>, MetaError>;

    /// The calendar time at which removing by age was last allowed.
    async fn clock_believed(&self) -> Result<Option<WallTime>, MetaError>;
    /// Keeps it.
    async fn believe_clock(&self, now: WallTime) -> Result<(), MetaError>;

    /// Takes garbage out of a repository: a conflict, and nothing is taken, if a manifest was pushed or tagged since it was
    /// judged, or the one that it refers to is there and is not taken with it. A blob that was used since then stays. What was taken comes back.
    async fn sweep(&self, repository: &RepositoryName, garbage: Garbage) -> Result<Garbage, MetaError>;
    /// Ends a repository, if it has nothing any more; the next push makes it anew.
    async fn forget_repository(&self, repository: &RepositoryName) -> Result<(), MetaError>;

    /// By how many records each of these digests is held, each counted up to `count_max`.
    async fn held(&self, digests: Vec<Digest>, count_max: usize) -> Result<Vec<Held>, MetaError>;
    /// Those of these digests that nothing holds, neither itself nor the blob whose hash list it is; what was known of their
    /// own hash lists is forgotten.
    async fn let_go(&self, digests: Vec<Digest>) -> Result<BTreeSet<Digest>, MetaError>;
}
