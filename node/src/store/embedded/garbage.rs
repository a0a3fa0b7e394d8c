//! Operations of garbage collection.
//!
//! Records are read in pages, each as of its own moment. That is enough, because whatever is relied on meanwhile has another
//! time then than the one that it was judged by, and a sweep compares the times.
//!
//! Not here: what is garbage; see [`protocol::garbage`].

use std::collections::BTreeSet;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::garbage::{Content, Garbage, Manifest};
use protocol::name::{OrgName, RepositoryName};
use protocol::statement::version::HashListName;
use protocol::time::WallTime;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::repositories::{holders, remove_manifest, tags_of, unlink_blob};
use super::{EmbeddedStore, name, values};
use crate::store::meta::{
    BlobLink, DesiredStateRecord, GarbageStore, Held, ManifestRecord, MetaError, ReportedVersion, TagRecord, VersionRecord,
};
use crate::store::records::{IndexError, Range, Records, Table, key, under};
use crate::store::writer::Transaction;

/// Records read at once: each takes some 500 bytes, and a manifest's annotations are a record of their own.
const PAGE: usize = 1000;

/// The one key of [`Table::Clock`].
const CLOCK_BELIEVED: &str = "believed";

#[async_trait]
impl GarbageStore for EmbeddedStore {
    async fn repository_content(&self, repository: &RepositoryName) -> Result<Content, MetaError> {
        let mut content = Content::default();
        self.each(Table::Tag, repository, |_, tag: TagRecord| {
            content.tagged.insert(tag.digest);
            Ok(())
        })
        .await?;
        self.each(Table::Manifest, repository, |_, ManifestRecord { digest, pushed, subject, .. }| {
            content.manifests.insert(digest, Manifest { pushed, subject });
            Ok(())
        })
        .await?;
        self.each(Table::RepositoryBlob, repository, |digest, link: BlobLink| {
            content.blobs.insert(name(digest)?, link.used);
            Ok(())
        })
        .await?;
        Ok(content)
    }

    async fn reported_versions(&self, org: &OrgName) -> Result<Vec<ReportedVersion>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| {
            let versions: Vec<(String, VersionRecord)> = index.scan(Table::Version, Range::all(&prefix))?;
            let reported = |rest: &str| index.get(Table::ReportedVersion, &format!("{prefix}{rest}"));
            versions.into_iter().map(|(rest, version)| Ok(ReportedVersion { version, reported: reported(&rest)? })).collect()
        })
        .await
    }

    async fn desired_states(&self, org: &OrgName) -> Result<Vec<DesiredStateRecord>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| values(index.scan(Table::DesiredState, Range::all(&prefix))?)).await
    }

    async fn clock_believed(&self) -> Result<Option<WallTime>, MetaError> {
        self.read(|index| index.get(Table::Clock, CLOCK_BELIEVED)).await
    }

    async fn believe_clock(&self, now: WallTime) -> Result<(), MetaError> {
        self.write(move |t| t.put(Table::Clock, CLOCK_BELIEVED.to_owned(), &now)).await
    }

    async fn sweep(&self, repository: &RepositoryName, garbage: Garbage) -> Result<Garbage, MetaError> {
        let repository = repository.clone();
        self.write_and_tell(move |t| sweep(t, &repository, garbage)).await
    }

    async fn forget_repository(&self, repository: &RepositoryName) -> Result<(), MetaError> {
        let repository = repository.clone();
        self.write(move |t| {
            let within = under(&[&repository]);
            for table in [Table::Manifest, Table::RepositoryBlob, Table::Tag] {
                if !t.raw_scan(table, Range { limit: 1, ..Range::all(&within) })?.is_empty() {
                    return Ok(());
                }
            }
            t.delete(Table::Repository, repository.to_string())
        })
        .await
    }

    async fn held(&self, digests: Vec<Digest>, count_max: usize) -> Result<Vec<Held>, MetaError> {
        self.read(move |index| {
            let held = |digest: &Digest| {
                let listed: Option<Digest> = index.get(Table::ListedBlob, &digest.to_string())?;
                let listed = listed.map(|blob| Ok::<_, IndexError>((blob, holders(index, &blob, count_max)?))).transpose()?;
                Ok(Held { digest: *digest, holders: holders(index, digest, count_max)?, listed })
            };
            digests.iter().map(held).collect()
        })
        .await
    }

    async fn let_go(&self, digests: Vec<Digest>) -> Result<BTreeSet<Digest>, MetaError> {
        self.write_and_tell(move |t| let_go(t, digests)).await
    }
}

impl EmbeddedStore {
    /// The blob whose hash list this is.
    pub(in crate::store) async fn listed_blob(&self, list: &Digest) -> Result<Option<Digest>, MetaError> {
        let key = list.to_string();
        self.read(move |index| index.get(Table::ListedBlob, &key)).await
    }

    async fn each<T: DeserializeOwned + Send + 'static>(
        &self,
        table: Table,
        repository: &RepositoryName,
        mut visit: impl FnMut(&str, T) -> Result<(), IndexError> + Send,
    ) -> Result<(), MetaError> {
        let prefix = under(&[repository]);
        let mut last: Option<String> = None;
        loop {
            let (prefix, after) = (prefix.clone(), last.take());
            let page: Vec<(String, T)> =
                self.read(move |index| index.scan(table, Range { prefix: &prefix, after: after.as_deref(), limit: PAGE })).await?;
            let more = page.len() == PAGE;
            for (rest, value) in page {
                visit(&rest, value)?;
                last = Some(rest);
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Carries out a write and tells what it found.
    pub(super) async fn write_and_tell<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Transaction<'_>) -> Result<T, MetaError> + Send + 'static,
    ) -> Result<T, MetaError> {
        let (tell, told) = oneshot::channel();
        self.write(move |t| {
            let result = operation(t)?;
            drop(tell.send(result));
            Ok(())
        })
        .await?;
        told.await.map_err(|error| MetaError::Failed(error.into()))
    }
}

fn sweep(t: &mut Transaction<'_>, repository: &RepositoryName, garbage: Garbage) -> Result<Garbage, MetaError> {
    let changed = |digest: &Digest| MetaError::Conflict(format!("manifest {digest} of {repository} was pushed or tagged meanwhile"));
    let mut taken = Garbage::default();
    for (digest, judged) in &garbage.manifests {
        if let Some(subject) = judged.subject.filter(|subject| !garbage.manifests.contains_key(subject))
            && t.contains(Table::Manifest, &key(&[repository, &subject]))?
        {
            return Err(changed(&subject));
        }
        let manifest: Option<ManifestRecord> = t.get(Table::Manifest, &key(&[repository, digest]))?;
        let Some(manifest) = manifest else { continue };
        if manifest.pushed != judged.pushed || !tags_of(t, repository, digest, 1)?.is_empty() {
            return Err(changed(digest));
        }
        remove_manifest(t, repository, &manifest)?;
        taken.manifests.insert(*digest, *judged);
    }
    for (digest, used) in garbage.blobs {
        let link: Option<BlobLink> = t.get(Table::RepositoryBlob, &key(&[repository, &digest]))?;
        if link.is_some_and(|link| link.used == used) {
            unlink_blob(t, repository, &digest)?;
            taken.blobs.insert(digest, used);
        }
    }
    Ok(taken)
}

fn let_go(t: &mut Transaction<'_>, digests: Vec<Digest>) -> Result<BTreeSet<Digest>, MetaError> {
    let mut gone = BTreeSet::new();
    for digest in digests {
        let listed: Option<Digest> = t.get(Table::ListedBlob, &digest.to_string())?;
        let needed = |t: &Transaction<'_>, digest: &Digest| Ok::<_, IndexError>(holders(t, digest, 1)? > 0);
        if needed(t, &digest)? || listed.map_or(Ok(false), |blob| needed(t, &blob))? {
            continue;
        }
        for blob in listed.into_iter().chain([digest]) {
            let list: Option<HashListName> = t.get(Table::HashList, &blob.to_string())?;
            if let Some(list) = list {
                t.delete(Table::ListedBlob, list.digest.to_string())?;
                t.delete(Table::HashList, blob.to_string())?;
            }
        }
        gone.insert(digest);
    }
    Ok(gone)
}
