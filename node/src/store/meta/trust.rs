//! Records of what organisations signed: trust metadata and versions.
//!
//! Not here: signatures and their rules; see `node::trust`.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName, Platform, RepositoryName};
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::{BlobLink, ManifestRecord, MetaError};

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
    /// That it was taken out of use, if it was: it cannot be rolled out any more, and its content may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retirement>,
}

/// That a version was taken out of use. Its statement stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retirement {
    /// When, in seconds since 1970.
    pub at: WallTime,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl VersionRecord {
    /// Why it is of no use any more, in words for who asks for it; none if it is not retired.
    pub fn why_retired(&self, org: &OrgName) -> Option<String> {
        let retired = self.retired.as_ref()?;
        let reason =
            retired.reason.as_deref().map_or_else(|| "no reason was given".to_owned(), |reason| format!("the reason given: {reason}"));
        Some(format!("version {} of {org}/{} was retired, {reason}; use another version", self.version, self.app))
    }
}

/// What a version relies on and brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionContent {
    /// What its statements name, by repository.
    pub named: BTreeMap<RepositoryName, BTreeSet<Digest>>,
    /// What is stored beside its images.
    pub evidence: Vec<EvidenceRecord>,
}

/// An artifact beside an image, with what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRecord {
    /// The image's repository.
    pub repository: RepositoryName,
    /// The artifact.
    pub manifest: ManifestRecord,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The blobs that it names.
    pub blobs: Vec<(Digest, BlobLink)>,
}

/// Trust metadata and versions.
#[async_trait]
pub trait TrustStore: Send + Sync {
    /// A file of an organisation's TUF repository.
    async fn tuf_file(&self, org: &OrgName, name: &str) -> Result<Option<TufFile>, MetaError>;
    /// Replaces or adds TUF files, if `timestamp.json` is still exactly `expected`; a conflict otherwise.
    async fn put_tuf_files(&self, org: &OrgName, expected: &TufFile, files: Vec<TufFile>) -> Result<(), MetaError>;
    /// Publishes a version with the TUF files that name it, relying on what it names and with what it brings: a conflict if the number is not the next
    /// one of the app, or if `timestamp.json` is no longer `expected`; missing if a repository no longer has the content.
    async fn publish_version(
        &self,
        org: &OrgName,
        version: VersionRecord,
        content: VersionContent,
        expected: &TufFile,
        files: Vec<TufFile>,
    ) -> Result<(), MetaError>;
    /// The versions of an app, oldest first.
    async fn versions(&self, org: &OrgName, app: &AppName) -> Result<Vec<VersionRecord>, MetaError>;
    /// The versions of all apps of an organisation.
    async fn org_versions(&self, org: &OrgName) -> Result<Vec<VersionRecord>, MetaError>;
    /// A version of an app.
    async fn version(&self, org: &OrgName, app: &AppName, number: u64) -> Result<Option<VersionRecord>, MetaError>;
    /// The versions of an app that some group shall have.
    async fn deployed_versions(&self, org: &OrgName, app: &AppName) -> Result<BTreeSet<u64>, MetaError>;
    /// Retires a version, if it is not retired already: a conflict while a desired state names it, missing if there is none.
    async fn retire_version(&self, org: &OrgName, app: &AppName, number: u64, retirement: Retirement) -> Result<(), MetaError>;
}
