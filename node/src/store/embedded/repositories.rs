//! Operations on repositories: blobs, manifests, tags, referrers.
//!
//! Not here: whether a manifest's blobs must exist; see `seed::registry`.

use protocol::digest::Digest;
use protocol::name::{OrgName, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use super::names;
use crate::store::meta::{ManifestRecord, MetaError, Reference};
use crate::store::records::{IndexError, Range, Records, Table, key, under};
use crate::store::writer::Transaction;

/// How a repository or an organisation comes to have a digest: the last part of a key of [`Table::Holding`].
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
pub(super) enum Size {
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
    t.put(Table::Holding, key(&[&repository.org(), digest, holder]), &Size::Known(size))
}

fn let_go(t: &mut Transaction<'_>, holder: &Holder<'_>, digest: &Digest) -> Result<(), MetaError> {
    let (Holder::Blob(repository) | Holder::Manifest(repository)) = holder;
    t.delete(Table::Holding, key(&[&repository.org(), digest, holder]))
}

pub(super) fn link_blob(t: &mut Transaction<'_>, repository: &RepositoryName, blob: &Digest, size: u64) -> Result<(), MetaError> {
    let linked = key(&[repository, blob]);
    if t.get(Table::RepositoryBlob, &linked)? == Some(size) {
        return Ok(());
    }
    hold(t, &Holder::Blob(repository), blob, size)?;
    t.put(Table::RepositoryBlob, linked, &size)
}

pub(super) fn unlink_blob(t: &mut Transaction<'_>, repository: &RepositoryName, blob: &Digest) -> Result<(), MetaError> {
    let linked = key(&[repository, blob]);
    if !t.contains(Table::RepositoryBlob, &linked)? {
        return Err(MetaError::Missing(format!("{blob} in {repository}")));
    }
    let_go(t, &Holder::Blob(repository), blob)?;
    t.delete(Table::RepositoryBlob, linked)
}

pub(super) fn holding(records: &impl Records, org: &OrgName, wanted: &Digest) -> Result<Option<Size>, IndexError> {
    if let Some(size) = held(records, org, wanted)? {
        return Ok(Some(size));
    }
    let Some(listed): Option<Digest> = records.get(Table::ListedBlob, &wanted.to_string())? else { return Ok(None) };
    let reachable = held(records, org, &listed)?.is_some();
    Ok(reachable.then_some(Size::OfFile))
}

fn held(records: &impl Records, org: &OrgName, wanted: &Digest) -> Result<Option<Size>, IndexError> {
    let prefix = under(&[org, wanted]);
    let found: Vec<(String, Size)> = records.scan(Table::Holding, Range { limit: 1, ..Range::all(&prefix) })?;
    Ok(found.first().map(|(_, size)| *size))
}

pub(super) fn put_manifest(
    t: &mut Transaction<'_>,
    repository: &RepositoryName,
    manifest: &ManifestRecord,
    tags: &[Tag],
) -> Result<(), MetaError> {
    let stored = key(&[repository, &manifest.digest]);
    if t.get(Table::Manifest, &stored)?.as_ref() != Some(manifest) {
        hold(t, &Holder::Manifest(repository), &manifest.digest, manifest.size)?;
        t.put(Table::Manifest, stored, manifest)?;
        if let Some(subject) = &manifest.subject {
            t.put(Table::Referrer, key(&[repository, subject, &manifest.digest]), &true)?;
        }
    }
    for tag in tags {
        t.put(Table::Tag, key(&[repository, tag]), &manifest.digest)?;
    }
    Ok(())
}

pub(super) fn manifest(
    records: &impl Records,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Option<ManifestRecord>, IndexError> {
    let digest = match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(tag) => records.get(Table::Tag, &key(&[repository, tag]))?,
    };
    digest.map_or(Ok(None), |digest| records.get(Table::Manifest, &key(&[repository, &digest])))
}

pub(super) fn delete_manifest(t: &mut Transaction<'_>, repository: &RepositoryName, digest: &Digest) -> Result<(), MetaError> {
    let stored = key(&[repository, digest]);
    let Some(manifest): Option<ManifestRecord> = t.get(Table::Manifest, &stored)? else {
        return Err(MetaError::Missing(format!("manifest {digest} in {repository}")));
    };
    let tags: Vec<(String, Digest)> = t.scan(Table::Tag, Range::all(&under(&[repository])))?;
    for (tag, _) in tags.iter().filter(|(_, target)| target == digest) {
        t.delete(Table::Tag, key(&[repository, tag]))?;
    }
    if let Some(subject) = &manifest.subject {
        t.delete(Table::Referrer, key(&[repository, subject, digest]))?;
    }
    let_go(t, &Holder::Manifest(repository), digest)?;
    t.delete(Table::Manifest, stored)
}

pub(super) fn delete_tag(
    t: &mut Transaction<'_>,
    repository: &RepositoryName,
    tag: &Tag,
    expected: Option<Digest>,
) -> Result<(), MetaError> {
    let stored = key(&[repository, tag]);
    let Some(target): Option<Digest> = t.get(Table::Tag, &stored)? else {
        return Err(MetaError::Missing(format!("tag {tag} in {repository}")));
    };
    if expected.is_some_and(|expected| expected != target) {
        return Err(MetaError::Conflict(format!("tag {tag} in {repository} points at {target} by now; look again before deleting it")));
    }
    t.delete(Table::Tag, stored)
}

pub(super) fn tags(
    records: &impl Records,
    repository: &RepositoryName,
    last: Option<&str>,
    limit: usize,
) -> Result<Option<Vec<Tag>>, IndexError> {
    if !records.contains(Table::Repository, repository.as_str())? {
        return Ok(None);
    }
    let range = Range { prefix: &under(&[repository]), after: last, limit };
    names(&records.raw_scan(Table::Tag, range)?).map(Some)
}

pub(super) fn referrers(records: &impl Records, repository: &RepositoryName, subject: &Digest) -> Result<Vec<ManifestRecord>, IndexError> {
    let digests: Vec<Digest> = names(&records.raw_scan(Table::Referrer, Range::all(&under(&[repository, subject])))?)?;
    let manifests = digests.iter().map(|digest| records.get(Table::Manifest, &key(&[repository, digest])));
    manifests.filter_map(Result::transpose).collect()
}
