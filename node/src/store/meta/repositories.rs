//! Records of repositories: what they hold, under which names, and how they are kept.
//!
//! Not here: the bytes; see [`super::super::blobs`].

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::{OrgName, RepositoryName, Tag};
use protocol::oci::route::Reference;
use protocol::repository::{RepositoryPattern, RepositorySettings};
use protocol::statement::version::HashListName;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::MetaError;

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
    /// When it was last pushed: for a while after that, garbage collection leaves it alone.
    pub pushed: WallTime,
}

/// A blob as part of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobLink {
    /// The blob's size in bytes.
    pub size: u64,
    /// When a push last brought it or relied on it: for a while after that, garbage collection leaves it alone.
    pub used: WallTime,
}

/// What a push names and so relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relied {
    /// The digest.
    pub digest: Digest,
    /// Whether a manifest will do, where there is no such blob.
    pub may_be_manifest: bool,
}

/// A tag of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The manifest that it points at.
    pub digest: Digest,
    /// When it was last pushed.
    pub pushed: WallTime,
}

/// Repositories.
#[async_trait]
pub trait RepositoryStore: Send + Sync {
    /// Up to `limit` repositories of an organisation after the name `last`, in ASCII order.
    async fn repositories(&self, org: &OrgName, last: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, MetaError>;

    /// Makes a durable blob, which was stored within the last hour, part of a repository.
    async fn link_blob(&self, repository: &RepositoryName, blob: &Digest, link: BlobLink) -> Result<(), MetaError>;
    /// Makes a blob that some repository has part of this one too; missing if none has it any more.
    async fn mount_blob(&self, repository: &RepositoryName, blob: &Digest, link: BlobLink) -> Result<(), MetaError>;
    /// Says that a push relies on what is part of a repository, so that garbage collection leaves it alone for a while;
    /// missing if one of them is not part of it, or no longer.
    async fn rely_on(&self, repository: &RepositoryName, relied: Vec<Relied>, now: WallTime) -> Result<(), MetaError>;
    /// A blob of this repository.
    async fn repository_blob(&self, repository: &RepositoryName, blob: &Digest) -> Result<Option<BlobLink>, MetaError>;
    /// Removes a blob from a repository; missing if it was not part of it.
    async fn unlink_blob(&self, repository: &RepositoryName, blob: &Digest) -> Result<(), MetaError>;
    /// The size of a blob or manifest that any repository of the organisation holds, of the hash list of one, or of a
    /// statement of the organisation.
    async fn org_blob(&self, org: &OrgName, blob: &Digest) -> Result<Option<u64>, MetaError>;

    /// Stores a manifest's record and points `tags` at it, relying on what it names: missing if one of these is not part of
    /// the repository, immutable if a tag would move that the settings do not let move. The manifest's bytes were made durable
    /// within the last hour.
    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: ManifestRecord,
        annotations: BTreeMap<String, String>,
        relied: Vec<Relied>,
        tags: &[Tag],
    ) -> Result<(), MetaError>;
    /// The manifest that `reference` names.
    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<Arc<ManifestRecord>>, MetaError>;
    /// Removes a manifest and the tags that point at it; missing if there is none, immutable if one of the tags is.
    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), MetaError>;
    /// Removes a tag, if it still points at `expected` where that is given; missing if there is none, immutable if the
    /// settings say so.
    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag, expected: Option<&Digest>) -> Result<(), MetaError>;
    /// Removes a tag whose time is over, immutable or not, if nobody pushed it since `expected` was read.
    async fn expire_tag(&self, repository: &RepositoryName, tag: &Tag, expected: TagRecord) -> Result<(), MetaError>;
    /// Up to `limit` tags after `last`, in ASCII order; none if the repository does not exist.
    async fn tags(&self, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Option<Vec<Tag>>, MetaError>;
    /// How many tags a repository has; none if it does not exist.
    async fn tag_count(&self, repository: &RepositoryName) -> Result<Option<usize>, MetaError>;
    /// Up to `limit` tags after `last` with what is known of them, in ASCII order; none if the repository does not exist.
    async fn tag_records(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<(Tag, TagRecord)>>, MetaError>;
    /// The annotations of a manifest that refers to another. They may be as large as a manifest, so few are to be held at once.
    async fn annotations(&self, repository: &RepositoryName, digest: &Digest) -> Result<BTreeMap<String, String>, MetaError>;
    /// Up to `limit` of the manifests whose subject is `subject`, after the digest `last`, in digest order.
    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestRecord>, MetaError>;

    /// The settings of an organisation's repositories, by pattern.
    async fn repository_settings(&self, org: &OrgName) -> Result<BTreeMap<RepositoryPattern, RepositorySettings>, MetaError>;
    /// Whether everybody may pull from a repository. One look-up, because strangers can ask for it.
    async fn is_public(&self, repository: &RepositoryName) -> Result<bool, MetaError>;
    /// Sets what `settings` say under a pattern of the organisation, and leaves what they do not speak of; none removes all.
    async fn put_repository_settings(
        &self,
        org: &OrgName,
        pattern: &RepositoryPattern,
        settings: Option<RepositorySettings>,
    ) -> Result<(), MetaError>;

    /// Records the hash list of a blob. The list's bytes are durable already.
    async fn put_hash_list(&self, blob: &Digest, list: HashListName) -> Result<(), MetaError>;
    /// The hash list of a blob, if it needed one and its bytes were seen.
    async fn hash_list(&self, blob: &Digest) -> Result<Option<HashListName>, MetaError>;
}
