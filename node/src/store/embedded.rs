//! The records of one data directory: [`MetaStore`] on journal and index.
//!
//! Writes go through the one thread of `writer`; reads go to the index, on the blocking pool. A read that finds the
//! index broken has it built again and is repeated once.
//!
//! Not here: the rules of who may write what; see `seed`.

mod fleet;
mod repositories;

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::{AppName, DeviceId, OrgName, RepositoryName, Tag};
use protocol::rollout::DeviceReport;
use protocol::statement::desired::Counter;
use protocol::statement::version::HashListName;
use protocol::time::WallTime;

use super::blobs::{BlobStore, IngestError};
use super::index::Index;
use super::meta::{
    AccessKeyRecord, DesiredStateRecord, DeviceRecord, ManifestRecord, MetaError, MetaStore, Reference, RolloutRecord, TokenRecord,
    TufFile, VersionRecord,
};
use super::records::{Found, IndexError, Range, Records, Table, key, under};
use super::writer::{SharedIndex, Transaction, Writer};

/// The records of one data directory.
#[derive(Debug)]
pub struct EmbeddedStore {
    writer: Writer,
    index: SharedIndex,
    blobs: BlobStore,
}

impl EmbeddedStore {
    /// Opens the records in the data directory `dir`, or starts with none. The caller holds the directory's lock. Blocks
    /// while the journal is read, and while the index is built again if it must be.
    ///
    /// # Errors
    /// When the journal is damaged or another file cannot be used.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let blobs = BlobStore::open(dir)?;
        let (writer, index) = Writer::start(dir)?;
        Ok(Self { writer, index, blobs })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&Index) -> Result<T, IndexError> + Clone + Send + 'static,
    ) -> Result<T, MetaError> {
        let index = self.index.current();
        match read_from(index.clone(), read.clone()).await? {
            Ok(value) => return Ok(value),
            Err(error) => tracing::error!(%error, "the index failed"),
        }
        self.writer.rebuild(index).await?;
        Ok(read_from(self.index.current(), read).await??)
    }

    async fn write(&self, operation: impl FnOnce(&mut Transaction<'_>) -> Result<(), MetaError> + Send + 'static) -> Result<(), MetaError> {
        self.writer.write(Box::new(operation)).await
    }
}

async fn read_from<T: Send + 'static>(
    index: std::sync::Arc<Index>,
    read: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
) -> Result<Result<T, IndexError>, MetaError> {
    tokio::task::spawn_blocking(move || read(&index)).await.map_err(|error| MetaError::Failed(error.into()))
}

impl From<IndexError> for MetaError {
    fn from(error: IndexError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<IngestError> for MetaError {
    fn from(error: IngestError) -> Self {
        Self::Failed(error.into())
    }
}

#[async_trait]
impl MetaStore for EmbeddedStore {
    async fn create_org(&self, org: &OrgName, key: AccessKeyRecord, files: Vec<TufFile>) -> Result<(), MetaError> {
        let org = org.clone();
        self.write(move |t| fleet::create_org(t, &org, &key, &files)).await
    }

    async fn orgs(&self) -> Result<Vec<OrgName>, MetaError> {
        self.read(|index| names(&index.raw_scan(Table::Org, Range::all(""))?)).await
    }

    async fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, MetaError> {
        let id = id.to_owned();
        self.read(move |index| index.get(Table::AccessKey, &id)).await
    }

    async fn link_blob(&self, repository: &RepositoryName, blob: &Digest, size: u64) -> Result<(), MetaError> {
        let (repository, blob) = (repository.clone(), *blob);
        self.write(move |t| repositories::link_blob(t, &repository, &blob, size)).await
    }

    async fn repository_blob(&self, repository: &RepositoryName, blob: &Digest) -> Result<Option<u64>, MetaError> {
        let key = key(&[repository, blob]);
        self.read(move |index| index.get(Table::RepositoryBlob, &key)).await
    }

    async fn unlink_blob(&self, repository: &RepositoryName, blob: &Digest) -> Result<(), MetaError> {
        let (repository, blob) = (repository.clone(), *blob);
        self.write(move |t| repositories::unlink_blob(t, &repository, &blob)).await
    }

    async fn org_blob(&self, org: &OrgName, blob: &Digest) -> Result<Option<u64>, MetaError> {
        let (org, wanted) = (org.clone(), *blob);
        match self.read(move |index| repositories::holding(index, &org, &wanted)).await? {
            None => Ok(None),
            Some(repositories::Size::Known(size)) => Ok(Some(size)),
            Some(repositories::Size::OfFile) => self.blobs.size(blob).await.map_err(|error| MetaError::Failed(error.into())),
        }
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: ManifestRecord, tags: &[Tag]) -> Result<(), MetaError> {
        let (repository, tags) = (repository.clone(), tags.to_vec());
        self.write(move |t| repositories::put_manifest(t, &repository, &manifest, &tags)).await
    }

    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<ManifestRecord>, MetaError> {
        let (repository, reference) = (repository.clone(), reference.clone());
        self.read(move |index| repositories::manifest(index, &repository, &reference)).await
    }

    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), MetaError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.write(move |t| repositories::delete_manifest(t, &repository, &digest)).await
    }

    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag, expected: Option<&Digest>) -> Result<(), MetaError> {
        let (repository, tag, expected) = (repository.clone(), tag.clone(), expected.copied());
        self.write(move |t| repositories::delete_tag(t, &repository, &tag, expected)).await
    }

    async fn tags(&self, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Option<Vec<Tag>>, MetaError> {
        let (repository, last) = (repository.clone(), last.map(ToOwned::to_owned));
        self.read(move |index| repositories::tags(index, &repository, last.as_deref(), limit)).await
    }

    async fn referrers(&self, repository: &RepositoryName, subject: &Digest) -> Result<Vec<ManifestRecord>, MetaError> {
        let (repository, subject) = (repository.clone(), *subject);
        self.read(move |index| repositories::referrers(index, &repository, &subject)).await
    }

    async fn put_hash_list(&self, blob: &Digest, list: HashListName) -> Result<(), MetaError> {
        let blob = *blob;
        self.write(move |t| {
            t.put(Table::ListedBlob, list.digest.to_string(), &blob)?;
            t.put(Table::HashList, blob.to_string(), &list)
        })
        .await
    }

    async fn hash_list(&self, blob: &Digest) -> Result<Option<HashListName>, MetaError> {
        let key = blob.to_string();
        self.read(move |index| index.get(Table::HashList, &key)).await
    }

    async fn tuf_file(&self, org: &OrgName, name: &str) -> Result<Option<TufFile>, MetaError> {
        let key = key(&[org, &name]);
        self.read(move |index| index.get(Table::TufFile, &key)).await
    }

    async fn put_tuf_files(&self, org: &OrgName, expected: &TufFile, files: Vec<TufFile>) -> Result<(), MetaError> {
        let (org, expected) = (org.clone(), expected.clone());
        self.write(move |t| fleet::put_tuf_files(t, &org, &expected, &files)).await
    }

    async fn publish_version(
        &self,
        org: &OrgName,
        version: VersionRecord,
        expected: &TufFile,
        files: Vec<TufFile>,
    ) -> Result<(), MetaError> {
        let (org, expected) = (org.clone(), expected.clone());
        self.write(move |t| fleet::publish_version(t, &org, &version, &expected, &files)).await
    }

    async fn versions(&self, org: &OrgName, app: &AppName) -> Result<Vec<VersionRecord>, MetaError> {
        let prefix = under(&[org, app]);
        self.read(move |index| values(index.scan(Table::Version, Range::all(&prefix))?)).await
    }

    async fn add_token(&self, token: TokenRecord) -> Result<(), MetaError> {
        self.write(move |t| fleet::add_token(t, &token)).await
    }

    async fn check_token(&self, secret_sha256: &Digest, now: WallTime) -> Result<TokenRecord, MetaError> {
        let key = secret_sha256.to_string();
        let token: Option<TokenRecord> = self.read(move |index| index.get(Table::Token, &key)).await?;
        Ok(fleet::usable(token, now)?)
    }

    async fn enroll(&self, secret_sha256: &Digest, device: DeviceRecord, now: WallTime) -> Result<(), MetaError> {
        let secret_sha256 = *secret_sha256;
        self.write(move |t| fleet::enroll(t, &secret_sha256, &device, now)).await
    }

    async fn device(&self, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceRecord>, MetaError> {
        let key = key(&[org, id]);
        self.read(move |index| index.get(Table::Device, &key)).await
    }

    async fn devices(&self, org: &OrgName) -> Result<Vec<DeviceRecord>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| values(index.scan(Table::Device, Range::all(&prefix))?)).await
    }

    async fn put_report(&self, org: &OrgName, id: &DeviceId, report: DeviceReport) -> Result<(), MetaError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(move |t| fleet::put_report(t, &org, &id, &report)).await
    }

    async fn reports(&self, org: &OrgName) -> Result<BTreeMap<DeviceId, DeviceReport>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| {
            let reports: Vec<(String, DeviceReport)> = index.scan(Table::Report, Range::all(&prefix))?;
            reports.into_iter().map(|(id, report)| Ok((name(&id)?, report))).collect()
        })
        .await
    }

    async fn desired_state(&self, org: &OrgName, group: &str) -> Result<Option<DesiredStateRecord>, MetaError> {
        let key = key(&[org, &group]);
        self.read(move |index| index.get(Table::DesiredState, &key)).await
    }

    async fn put_desired_state(
        &self,
        org: &OrgName,
        expected: Option<Counter>,
        state: DesiredStateRecord,
        rollout: Option<RolloutRecord>,
    ) -> Result<(), MetaError> {
        let org = org.clone();
        self.write(move |t| fleet::put_desired_state(t, &org, expected, &state, rollout.as_ref())).await
    }

    async fn rollout(&self, org: &OrgName, app: &AppName) -> Result<Option<RolloutRecord>, MetaError> {
        let prefix = under(&[org, app]);
        self.read(move |index| fleet::newest_rollout(index, &prefix)).await
    }
}

/// The number as a part of a key, so that keys are in the order of their numbers.
struct Number(u64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}", self.0)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands at the end of reads, which may fail before it")]
fn values<T>(found: Vec<(String, T)>) -> Result<Vec<T>, IndexError> {
    Ok(found.into_iter().map(|(_, value)| value).collect())
}

fn names<T: std::str::FromStr<Err: std::fmt::Display>>(found: &[Found]) -> Result<Vec<T>, IndexError> {
    found.iter().map(|(text, _)| name(text)).collect()
}

fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, IndexError> {
    text.parse().map_err(|error: T::Err| IndexError(format!("holds an unreadable name: {error}")))
}

#[cfg(test)]
mod tests;
