//! Operations on repositories: blobs, manifests, tags, referrers, settings.
//!
//! Not here: whether a manifest's blobs must exist; see `seed::registry`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::garbage::renewal_due;
use protocol::name::{OrgName, RepositoryName, Tag};
use protocol::oci::route::Reference;
use protocol::repository::tags::{Attempt, check_attempt};
use protocol::repository::{RepositoryPattern, RepositorySettings, in_force};
use protocol::statement::version::HashListName;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::keys::must_exist;
use super::{EmbeddedStore, name, names};
use crate::store::meta::{BlobLink, ManifestRecord, MetaError, Relied, RepositoryStore, TagRecord};
use crate::store::records::{IndexError, Range, Records, Table, key, under};
use crate::store::writer::Transaction;

#[async_trait]
impl RepositoryStore for EmbeddedStore {
    async fn repositories(&self, org: &OrgName, last: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, MetaError> {
        let (org, last) = (org.clone(), last.map(ToOwned::to_owned));
        self.read(move |index| repositories(index, &org, last.as_deref(), limit)).await
    }

    async fn link_blob(&self, repository: &RepositoryName, blob: &Digest, link: BlobLink) -> Result<(), MetaError> {
        let (repository, blob) = (repository.clone(), *blob);
        self.write(move |t| link_blob(t, &repository, &blob, link)).await
    }

    async fn mount_blob(&self, repository: &RepositoryName, blob: &Digest, link: BlobLink) -> Result<(), MetaError> {
        let (repository, blob) = (repository.clone(), *blob);
        self.write(move |t| {
            if holders(t, &blob, 1)? == 0 {
                return Err(MetaError::Missing(blob.to_string()));
            }
            link_blob(t, &repository, &blob, link)
        })
        .await
    }

    async fn rely_on(&self, repository: &RepositoryName, relied: Vec<Relied>, now: WallTime) -> Result<(), MetaError> {
        let repository = repository.clone();
        self.write(move |t| rely_on(t, &repository, relied, now)).await
    }

    async fn repository_blob(&self, repository: &RepositoryName, blob: &Digest) -> Result<Option<BlobLink>, MetaError> {
        let key = key(&[repository, blob]);
        self.read(move |index| index.get(Table::RepositoryBlob, &key)).await
    }

    async fn unlink_blob(&self, repository: &RepositoryName, blob: &Digest) -> Result<(), MetaError> {
        let (repository, blob) = (repository.clone(), *blob);
        self.write(move |t| unlink_blob(t, &repository, &blob)).await
    }

    async fn org_blob(&self, org: &OrgName, blob: &Digest) -> Result<Option<u64>, MetaError> {
        let (org, wanted) = (org.clone(), *blob);
        match self.read(move |index| holding(index, &org, &wanted)).await? {
            None => Ok(None),
            Some(Size::Known(size)) => Ok(Some(size)),
            Some(Size::OfFile) => self.blobs.size(blob).await.map_err(|error| MetaError::Failed(error.into())),
        }
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: ManifestRecord,
        annotations: BTreeMap<String, String>,
        relied: Vec<Relied>,
        tags: &[Tag],
    ) -> Result<(), MetaError> {
        let (repository, tags) = (repository.clone(), tags.to_vec());
        self.write(move |t| {
            rely_on(t, &repository, relied, manifest.pushed)?;
            put_manifest(t, &repository, &manifest, &annotations, &tags)
        })
        .await
    }

    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<Arc<ManifestRecord>>, MetaError> {
        let (repository, reference) = (repository.clone(), reference.clone());
        self.read(move |index| manifest(index, &repository, &reference)).await
    }

    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), MetaError> {
        loop {
            let (repository, digest) = (repository.clone(), *digest);
            if self.write_and_tell(move |t| delete_manifest(t, &repository, &digest)).await? == Deleted::Whole {
                return Ok(());
            }
        }
    }

    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag, expected: Option<&Digest>) -> Result<(), MetaError> {
        let (repository, tag, expected) = (repository.clone(), tag.clone(), expected.copied());
        self.write(move |t| delete_tag(t, &repository, &tag, expected)).await
    }

    async fn expire_tag(&self, repository: &RepositoryName, tag: &Tag, expected: TagRecord) -> Result<(), MetaError> {
        let (repository, tag) = (repository.clone(), tag.clone());
        self.write(move |t| expire_tag(t, &repository, &tag, expected)).await
    }

    async fn tags(&self, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Option<Vec<Tag>>, MetaError> {
        let (repository, last) = (repository.clone(), last.map(ToOwned::to_owned));
        self.read(move |index| tags(index, &repository, last.as_deref(), limit)).await
    }

    async fn tag_count(&self, repository: &RepositoryName) -> Result<Option<usize>, MetaError> {
        let repository = repository.clone();
        self.read(move |index| tag_count(index, &repository)).await
    }

    async fn tag_records(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<(Tag, TagRecord)>>, MetaError> {
        let (repository, last) = (repository.clone(), last.map(ToOwned::to_owned));
        self.read(move |index| tag_records(index, &repository, last.as_deref(), limit)).await
    }

    async fn annotations(&self, repository: &RepositoryName, digest: &Digest) -> Result<BTreeMap<String, String>, MetaError> {
        let key = key(&[repository, digest]);
        Ok(self.read(move |index| index.get(Table::Annotations, &key)).await?.unwrap_or_default())
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestRecord>, MetaError> {
        let (repository, subject, last) = (repository.clone(), *subject, last.map(ToString::to_string));
        self.read(move |index| referrers(index, &repository, &subject, last.as_deref(), limit)).await
    }

    async fn repository_settings(&self, org: &OrgName) -> Result<BTreeMap<RepositoryPattern, RepositorySettings>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| {
            let found: Vec<(String, RepositorySettings)> = index.scan(Table::RepositorySettings, Range::all(&prefix))?;
            found.into_iter().map(|(pattern, settings)| Ok((name(&pattern)?, settings))).collect()
        })
        .await
    }

    async fn is_public(&self, repository: &RepositoryName) -> Result<bool, MetaError> {
        let (repository, pattern) = (repository.clone(), RepositoryPattern::One(repository.clone()));
        let stored = key(&[&repository.org(), &pattern]);
        let settings: Option<RepositorySettings> = self.read(move |index| index.get(Table::RepositorySettings, &stored)).await?;
        let said = settings.map(|settings| (pattern, settings)).into_iter().collect();
        Ok(in_force(&said, &repository).public == Some(true))
    }

    async fn put_repository_settings(
        &self,
        org: &OrgName,
        pattern: &RepositoryPattern,
        settings: Option<RepositorySettings>,
    ) -> Result<(), MetaError> {
        let (org, pattern) = (org.clone(), pattern.clone());
        self.write(move |t| put_settings(t, &org, &pattern, settings.as_ref())).await
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
}

/// How a repository or an organisation comes to have a digest: the last part of a key of [`Table::Holder`].
enum Holder<'a> {
    Blob(&'a RepositoryName),
    Manifest(&'a RepositoryName),
}

impl std::fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blob(repository) => write!(f, "blob of {repository}"),
            Self::Manifest(repository) => write!(f, "manifest of {repository}"),
        }
    }
}

/// How large something is that an organisation holds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::store) enum Size {
    /// So many bytes.
    Known(u64),
    /// As many as its file has: a statement, whose record has digests alone.
    OfFile,
}

fn hold(t: &mut Transaction<'_>, holder: &Holder<'_>, digest: &Digest, size: u64) -> Result<(), MetaError> {
    let (Holder::Blob(repository) | Holder::Manifest(repository)) = holder;
    let existing = repository.to_string();
    if !t.contains(Table::Repository, &existing)? {
        t.put(Table::Repository, existing, &true)?;
    }
    t.put(Table::Holder, key(&[digest, &repository.org(), holder]), &Size::Known(size))
}

fn let_go(t: &mut Transaction<'_>, holder: &Holder<'_>, digest: &Digest) -> Result<(), MetaError> {
    let (Holder::Blob(repository) | Holder::Manifest(repository)) = holder;
    t.delete(Table::Holder, key(&[digest, &repository.org(), holder]))
}

/// By how many records a digest is held; it is counted up to `limit`.
pub(super) fn holders(records: &impl Records, digest: &Digest, limit: usize) -> Result<usize, IndexError> {
    Ok(records.raw_scan(Table::Holder, Range { limit, ..Range::all(&under(&[digest])) })?.len())
}

/// Checks that the repository has what is relied on, and renews its lease where that is due.
pub(super) fn rely_on(
    t: &mut Transaction<'_>,
    repository: &RepositoryName,
    relied: impl IntoIterator<Item = Relied>,
    now: WallTime,
) -> Result<(), MetaError> {
    for Relied { digest, may_be_manifest } in relied {
        let stored = key(&[repository, &digest]);
        let blob: Option<BlobLink> = t.get(Table::RepositoryBlob, &stored)?;
        if let Some(link) = blob.filter(|link| renewal_due(link.used, now)) {
            t.put(Table::RepositoryBlob, stored.clone(), &BlobLink { used: now, ..link })?;
        }
        let manifest: Option<ManifestRecord> = if may_be_manifest { t.get(Table::Manifest, &stored)? } else { None };
        if blob.is_none() && manifest.is_none() {
            return Err(MetaError::Missing(format!("{digest} in {repository}")));
        }
        if let Some(manifest) = manifest.filter(|manifest| renewal_due(manifest.pushed, now)) {
            t.put(Table::Manifest, stored, &ManifestRecord { pushed: now, ..manifest })?;
        }
    }
    Ok(())
}

pub(super) fn link_blob(t: &mut Transaction<'_>, repository: &RepositoryName, blob: &Digest, link: BlobLink) -> Result<(), MetaError> {
    let linked = key(&[repository, blob]);
    let kept: Option<BlobLink> = t.get(Table::RepositoryBlob, &linked)?;
    if kept.is_none_or(|kept| kept.size != link.size) {
        hold(t, &Holder::Blob(repository), blob, link.size)?;
    }
    t.put(Table::RepositoryBlob, linked, &link)
}

pub(super) fn unlink_blob(t: &mut Transaction<'_>, repository: &RepositoryName, blob: &Digest) -> Result<(), MetaError> {
    let linked = key(&[repository, blob]);
    if !t.contains(Table::RepositoryBlob, &linked)? {
        return Err(MetaError::Missing(format!("{blob} in {repository}")));
    }
    let_go(t, &Holder::Blob(repository), blob)?;
    t.delete(Table::RepositoryBlob, linked)
}

fn holding(records: &impl Records, org: &OrgName, wanted: &Digest) -> Result<Option<Size>, IndexError> {
    if let Some(size) = held(records, org, wanted)? {
        return Ok(Some(size));
    }
    let Some(listed): Option<Digest> = records.get(Table::ListedBlob, &wanted.to_string())? else { return Ok(None) };
    let reachable = held(records, org, &listed)?.is_some();
    Ok(reachable.then_some(Size::OfFile))
}

fn held(records: &impl Records, org: &OrgName, wanted: &Digest) -> Result<Option<Size>, IndexError> {
    let prefix = under(&[wanted, org]);
    let found: Vec<(String, Size)> = records.scan(Table::Holder, Range { limit: 1, ..Range::all(&prefix) })?;
    Ok(found.first().map(|(_, size)| *size))
}

fn put_settings(
    t: &mut Transaction<'_>,
    org: &OrgName,
    pattern: &RepositoryPattern,
    settings: Option<&RepositorySettings>,
) -> Result<(), MetaError> {
    must_exist(t, org)?;
    if pattern.org() != *org {
        return Err(MetaError::Conflict(format!("the pattern {pattern} is not of organisation {org}")));
    }
    let stored = key(&[org, pattern]);
    let Some(settings) = settings else { return t.delete(Table::RepositorySettings, stored) };
    let kept: RepositorySettings = t.get(Table::RepositorySettings, &stored)?.unwrap_or_default();
    t.put(Table::RepositorySettings, stored, &settings.clone().or(&kept))
}

/// The settings of the patterns that match a repository.
fn settings_of(records: &impl Records, repository: &RepositoryName) -> Result<BTreeMap<RepositoryPattern, RepositorySettings>, IndexError> {
    let mut found = BTreeMap::new();
    for pattern in RepositoryPattern::matching(repository) {
        if let Some(settings) = records.get(Table::RepositorySettings, &key(&[&repository.org(), &pattern]))? {
            found.insert(pattern, settings);
        }
    }
    Ok(found)
}

fn repositories(records: &impl Records, org: &OrgName, last: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, IndexError> {
    let prefix = format!("{org}/");
    let after = match last.map(|last| last.strip_prefix(&prefix).ok_or(last)) {
        Some(Err(other)) if other > prefix.as_str() => return Ok(Vec::new()),
        Some(Ok(rest)) => Some(rest),
        Some(Err(_)) | None => None,
    };
    let found = records.raw_scan(Table::Repository, Range { prefix: &prefix, after, limit })?;
    found.iter().map(|(rest, _)| name(&format!("{prefix}{rest}"))).collect()
}

pub(super) fn put_manifest(
    t: &mut Transaction<'_>,
    repository: &RepositoryName,
    manifest: &ManifestRecord,
    annotations: &BTreeMap<String, String>,
    tags: &[Tag],
) -> Result<(), MetaError> {
    for tag in tags {
        let kept: Option<TagRecord> = t.get(Table::Tag, &key(&[repository, tag]))?;
        if let Some(kept) = kept.filter(|kept| kept.digest != manifest.digest) {
            check_attempt(&settings_of(t, repository)?, repository, tag, &kept.digest, Attempt::MoveTo(manifest.digest))?;
            t.delete(Table::TagOf, key(&[repository, &kept.digest, tag]))?;
        }
    }
    let stored = key(&[repository, &manifest.digest]);
    if !t.contains(Table::Manifest, &stored)? {
        hold(t, &Holder::Manifest(repository), &manifest.digest, manifest.size)?;
        if let Some(subject) = &manifest.subject {
            t.put(Table::Referrer, key(&[repository, subject, &manifest.digest]), &true)?;
        }
    }
    if manifest.subject.is_some() && !annotations.is_empty() && !t.contains(Table::Annotations, &stored)? {
        t.put(Table::Annotations, stored.clone(), annotations)?;
    }
    t.put(Table::Manifest, stored, manifest)?;
    for tag in tags {
        t.put(Table::Tag, key(&[repository, tag]), &TagRecord { digest: manifest.digest, pushed: manifest.pushed })?;
        t.put(Table::TagOf, key(&[repository, &manifest.digest, tag]), &true)?;
    }
    Ok(())
}

fn manifest(records: &impl Records, repository: &RepositoryName, reference: &Reference) -> Result<Option<Arc<ManifestRecord>>, IndexError> {
    let digest = match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(tag) => {
            let tag: Option<Arc<TagRecord>> = records.get_shared(Table::Tag, &key(&[repository, tag]))?;
            tag.map(|tag| tag.digest)
        }
    };
    digest.map_or(Ok(None), |digest| records.get_shared(Table::Manifest, &key(&[repository, &digest])))
}

/// How far one step of a deletion came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deleted {
    Whole,
    /// Tags are left; the manifest goes with the last of them.
    InPart,
}

/// Tags that one change of the records removes: each is two of its lines, and a change has at most 15 MiB.
const TAGS_AT_ONCE: usize = 10_000;

fn delete_manifest(t: &mut Transaction<'_>, repository: &RepositoryName, digest: &Digest) -> Result<Deleted, MetaError> {
    let stored = key(&[repository, digest]);
    let Some(manifest): Option<ManifestRecord> = t.get(Table::Manifest, &stored)? else {
        return Err(MetaError::Missing(format!("manifest {digest} in {repository}")));
    };
    let settings = settings_of(t, repository)?;
    let tags = tags_of(t, repository, digest, usize::MAX)?;
    for tag in &tags {
        check_attempt(&settings, repository, tag, digest, Attempt::Delete)?;
    }
    for tag in tags.iter().take(TAGS_AT_ONCE) {
        remove_tag(t, repository, tag, digest)?;
    }
    if tags.len() > TAGS_AT_ONCE {
        return Ok(Deleted::InPart);
    }
    remove_manifest(t, repository, &manifest)?;
    Ok(Deleted::Whole)
}

/// Up to `limit` of the tags that point at a manifest.
pub(super) fn tags_of(records: &impl Records, repository: &RepositoryName, digest: &Digest, limit: usize) -> Result<Vec<Tag>, IndexError> {
    names(&records.raw_scan(Table::TagOf, Range { limit, ..Range::all(&under(&[repository, digest])) })?)
}

fn remove_tag(t: &mut Transaction<'_>, repository: &RepositoryName, tag: &Tag, target: &Digest) -> Result<(), MetaError> {
    t.delete(Table::TagOf, key(&[repository, target, tag]))?;
    t.delete(Table::Tag, key(&[repository, tag]))
}

/// Removes a manifest that no tag points at.
pub(super) fn remove_manifest(t: &mut Transaction<'_>, repository: &RepositoryName, manifest: &ManifestRecord) -> Result<(), MetaError> {
    let ManifestRecord { digest, subject, .. } = manifest;
    if let Some(subject) = subject {
        t.delete(Table::Referrer, key(&[repository, subject, digest]))?;
        t.delete(Table::Annotations, key(&[repository, digest]))?;
    }
    let_go(t, &Holder::Manifest(repository), digest)?;
    t.delete(Table::Manifest, key(&[repository, digest]))
}

fn delete_tag(t: &mut Transaction<'_>, repository: &RepositoryName, tag: &Tag, expected: Option<Digest>) -> Result<(), MetaError> {
    let stored = key(&[repository, tag]);
    let Some(TagRecord { digest: target, .. }) = t.get(Table::Tag, &stored)? else {
        return Err(MetaError::Missing(format!("tag {tag} in {repository}")));
    };
    if expected.is_some_and(|expected| expected != target) {
        return Err(MetaError::Conflict(format!("tag {tag} in {repository} points at {target} by now; look again before deleting it")));
    }
    check_attempt(&settings_of(t, repository)?, repository, tag, &target, Attempt::Delete)?;
    remove_tag(t, repository, tag, &target)
}

fn expire_tag(t: &mut Transaction<'_>, repository: &RepositoryName, tag: &Tag, expected: TagRecord) -> Result<(), MetaError> {
    let stored = key(&[repository, tag]);
    let Some(kept): Option<TagRecord> = t.get(Table::Tag, &stored)? else {
        return Err(MetaError::Missing(format!("tag {tag} in {repository}")));
    };
    if kept != expected {
        return Err(MetaError::Conflict(format!("tag {tag} in {repository} was pushed meanwhile; look again whether it expires")));
    }
    remove_tag(t, repository, tag, &kept.digest)
}

fn tags(records: &impl Records, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Option<Vec<Tag>>, IndexError> {
    if !records.contains(Table::Repository, repository.as_str())? {
        return Ok(None);
    }
    let range = Range { prefix: &under(&[repository]), after: last, limit };
    names(&records.raw_scan(Table::Tag, range)?).map(Some)
}

fn tag_count(records: &impl Records, repository: &RepositoryName) -> Result<Option<usize>, IndexError> {
    if !records.contains(Table::Repository, repository.as_str())? {
        return Ok(None);
    }
    let range = Range { prefix: &under(&[repository]), after: None, limit: usize::MAX };
    Ok(Some(records.raw_scan(Table::Tag, range)?.len()))
}

fn tag_records(
    records: &impl Records,
    repository: &RepositoryName,
    last: Option<&str>,
    limit: usize,
) -> Result<Option<Vec<(Tag, TagRecord)>>, IndexError> {
    if !records.contains(Table::Repository, repository.as_str())? {
        return Ok(None);
    }
    let found: Vec<(String, TagRecord)> = records.scan(Table::Tag, Range { prefix: &under(&[repository]), after: last, limit })?;
    found.into_iter().map(|(tag, record)| Ok((name(&tag)?, record))).collect::<Result<_, _>>().map(Some)
}

fn referrers(
    records: &impl Records,
    repository: &RepositoryName,
    subject: &Digest,
    last: Option<&str>,
    limit: usize,
) -> Result<Vec<ManifestRecord>, IndexError> {
    let range = Range { prefix: &under(&[repository, subject]), after: last, limit };
    let digests: Vec<Digest> = names(&records.raw_scan(Table::Referrer, range)?)?;
    let manifests = digests.iter().map(|digest| records.get(Table::Manifest, &key(&[repository, digest])));
    manifests.filter_map(Result::transpose).collect()
}
