//! The domain operations on a seed's records. An operation that depends on the state it saw names that state, so that
//! of two writers one is told [`MetaError::Conflict`] and nothing is lost.
//!
//! Not here: blob bytes; see [`super::blobs`].

use std::collections::BTreeMap;
use std::io;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::{AppName, DeviceId, OrgName, Platform, RepositoryName, Tag};
use protocol::rollout::DeviceReport;
use protocol::statement::desired::Counter;
use protocol::statement::version::HashListName;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::journal::JournalError;

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The state is not the one that the caller depends on.
    #[error("{0}")]
    Conflict(String),
    /// There is nothing under that name.
    #[error("{0} does not exist")]
    Missing(String),
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

/// Why an enrolment token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// No such token was ever made here.
    #[error("the token is not known to this seed; make a new one with `hedgerow fleet token`")]
    Unknown,
    /// It was used already.
    #[error("the token was used before; each enrols one device, make a new one with `hedgerow fleet token`")]
    Used,
    /// Its time is over.
    #[error("the token has expired; make a new one with `hedgerow fleet token`")]
    Expired,
}

/// What an access key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read repositories.
    Pull,
    /// Write repositories.
    Push,
    /// Delete from repositories.
    Delete,
    /// Publish versions.
    Publish,
    /// Manage devices, rollouts and keys of the organisation.
    Admin,
    /// Create organisations on this seed.
    Seed,
}

/// An access key; its secret is kept as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRecord {
    /// Public part of the key, by which it is found.
    pub id: String,
    /// The organisation it belongs to.
    pub org: OrgName,
    /// SHA-256 of the secret part (the secret is 256 random bits, so a plain hash is enough).
    pub secret_sha256: Digest,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// A manifest of a repository. Its bytes are the blob of the same digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// The digest of its exact bytes.
    pub digest: Digest,
    /// The media type it was pushed with.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// The manifest it refers to, if any.
    pub subject: Option<Digest>,
    /// Its artifact type (distribution-spec, "Listing Referrers"), if any.
    pub artifact_type: Option<String>,
    /// Its annotations, if it has a subject: only listed referrers show them.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By a tag, which may move.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

/// A file of an organisation's TUF repository, by name (`3.root.json`, `timestamp.json`, …).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TufFile {
    /// Name within the repository.
    pub name: String,
    /// Exact content.
    pub content: String,
}

/// A published version of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The app.
    pub app: AppName,
    /// N, counted from 1.
    pub version: u64,
    /// SHA-256 of the statement for each platform; the statement's bytes are the blob of that digest.
    pub statements: BTreeMap<Platform, Digest>,
    /// When it was published, in seconds since 1970.
    pub published: WallTime,
}

/// A one-time enrolment token; its secret is kept as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret.
    pub secret_sha256: Digest,
    /// The organisation that devices enrol into.
    pub org: OrgName,
    /// From this moment on it is refused.
    pub expires: WallTime,
    /// Whether a device used it.
    pub used: bool,
    /// The device that used it, which may do so again: its first answer may have been lost. None in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<TokenUse>,
}

/// Who used a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of its public key.
    pub key_sha256: Digest,
}

/// An enrolled device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// The organisation.
    pub org: OrgName,
    /// The device.
    pub id: DeviceId,
    /// What it can run.
    pub platform: Platform,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`).
    pub key_sha256: Digest,
    /// When it enrolled, in seconds since 1970.
    pub enrolled: WallTime,
}

/// What a group shall have, as signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredStateRecord {
    /// The group.
    pub group: String,
    /// Order among the group's desired states.
    pub counter: Counter,
    /// When it stops being acted on, in seconds since 1970.
    pub expires: WallTime,
    /// The signed envelope.
    pub envelope: String,
}

/// A rollout of a version to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Identity, unique on the seed.
    pub id: String,
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: u64,
    /// The group.
    pub group: String,
    /// When it started, in seconds since 1970.
    pub started: WallTime,
}

/// The records of one seed store.
///
/// A write that returned is durable: it survives `kill -9` and power loss.
#[async_trait]
pub trait MetaStore: Send + Sync {
    /// Creates an organisation with its first access key and TUF files; a conflict if the name is taken.
    async fn create_org(&self, org: &OrgName, key: AccessKeyRecord, files: Vec<TufFile>) -> Result<(), MetaError>;
    /// The organisations, in order.
    async fn orgs(&self) -> Result<Vec<OrgName>, MetaError>;
    /// The access key with this public part.
    async fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, MetaError>;

    /// Makes a durable blob part of a repository.
    async fn link_blob(&self, repository: &RepositoryName, blob: &Digest, size: u64) -> Result<(), MetaError>;
    /// The size of a blob of this repository.
    async fn repository_blob(&self, repository: &RepositoryName, blob: &Digest) -> Result<Option<u64>, MetaError>;
    /// Removes a blob from a repository; missing if it was not part of it.
    async fn unlink_blob(&self, repository: &RepositoryName, blob: &Digest) -> Result<(), MetaError>;
    /// The size of a blob or manifest that any repository of the organisation holds, of the hash list of one, or of a
    /// statement of the organisation.
    async fn org_blob(&self, org: &OrgName, blob: &Digest) -> Result<Option<u64>, MetaError>;

    /// Stores a manifest's record and points `tags` at it. The manifest's bytes are durable already.
    async fn put_manifest(&self, repository: &RepositoryName, manifest: ManifestRecord, tags: &[Tag]) -> Result<(), MetaError>;
    /// The manifest that `reference` names.
    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<ManifestRecord>, MetaError>;
    /// Removes a manifest and the tags that point at it; missing if there is none.
    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), MetaError>;
    /// Removes a tag, if it still points at `expected` where that is given; missing if there is none.
    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag, expected: Option<&Digest>) -> Result<(), MetaError>;
    /// Up to `limit` tags after `last`, in ASCII order; none if the repository does not exist.
    async fn tags(&self, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Option<Vec<Tag>>, MetaError>;
    /// The manifests whose subject is `subject`, in digest order.
    async fn referrers(&self, repository: &RepositoryName, subject: &Digest) -> Result<Vec<ManifestRecord>, MetaError>;

    /// Records the hash list of a blob. The list's bytes are durable already.
    async fn put_hash_list(&self, blob: &Digest, list: HashListName) -> Result<(), MetaError>;
    /// The hash list of a blob, if it needed one and its bytes were seen.
    async fn hash_list(&self, blob: &Digest) -> Result<Option<HashListName>, MetaError>;

    /// A file of an organisation's TUF repository.
    async fn tuf_file(&self, org: &OrgName, name: &str) -> Result<Option<TufFile>, MetaError>;
    /// Replaces or adds TUF files, if `timestamp.json` is still exactly `expected`; a conflict otherwise.
    async fn put_tuf_files(&self, org: &OrgName, expected: &TufFile, files: Vec<TufFile>) -> Result<(), MetaError>;
    /// Publishes a version with the TUF files that name it: a conflict if the number is not the next one of the app, or if
    /// `timestamp.json` is no longer `expected`.
    async fn publish_version(
        &self,
        org: &OrgName,
        version: VersionRecord,
        expected: &TufFile,
        files: Vec<TufFile>,
    ) -> Result<(), MetaError>;
    /// The versions of an app, oldest first.
    async fn versions(&self, org: &OrgName, app: &AppName) -> Result<Vec<VersionRecord>, MetaError>;

    /// Adds an enrolment token.
    async fn add_token(&self, token: TokenRecord) -> Result<(), MetaError>;
    /// The token with this secret, if some device can still use it at `now`, be it the one that did before; otherwise why
    /// not. [`Self::enroll`] decides for which device.
    async fn check_token(&self, secret_sha256: &Digest, now: WallTime) -> Result<TokenRecord, MetaError>;
    /// Uses up a token and adds the device, both or neither: a conflict if the device exists with another key. The device
    /// that used the token may do so again, with the same key, until the token expires.
    async fn enroll(&self, secret_sha256: &Digest, device: DeviceRecord, now: WallTime) -> Result<(), MetaError>;
    /// A device.
    async fn device(&self, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceRecord>, MetaError>;
    /// The devices of an organisation, in order of their names.
    async fn devices(&self, org: &OrgName) -> Result<Vec<DeviceRecord>, MetaError>;
    /// Keeps a device's newest report; a conflict if its counter is not newer than the one kept.
    async fn put_report(&self, org: &OrgName, id: &DeviceId, report: DeviceReport) -> Result<(), MetaError>;
    /// The newest report of every device of an organisation that sent one.
    async fn reports(&self, org: &OrgName) -> Result<BTreeMap<DeviceId, DeviceReport>, MetaError>;

    /// What a group shall have, as signed.
    async fn desired_state(&self, org: &OrgName, group: &str) -> Result<Option<DesiredStateRecord>, MetaError>;
    /// Replaces what a group shall have, and starts `rollout` if one is given: a conflict if the kept counter is not
    /// `expected`.
    async fn put_desired_state(
        &self,
        org: &OrgName,
        expected: Option<Counter>,
        state: DesiredStateRecord,
        rollout: Option<RolloutRecord>,
    ) -> Result<(), MetaError>;
    /// The newest rollout of an app.
    async fn rollout(&self, org: &OrgName, app: &AppName) -> Result<Option<RolloutRecord>, MetaError>;
}
