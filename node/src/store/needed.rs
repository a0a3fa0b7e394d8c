//! What the versions of an organisation need of its repositories, as their statements say: for garbage collection and for
//! retention alike.
//!
//! Not here: which versions need something; see [`protocol::garbage::is_needed`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use anyhow::Context;
use bytes::Bytes;
use protocol::digest::Digest;
use protocol::garbage::is_needed;
use protocol::name::{AppName, OrgName, RepositoryName};
use protocol::statement::desired::{DesiredApp, DesiredState};
use protocol::statement::version::{STATEMENT_BYTES_MAX, VersionStatement};
use protocol::time::WallTime;

use super::blobs::{BlobStore, Content};
use super::meta::{DesiredStateRecord, MetaStore};

/// Manifests and blobs by repository.
pub type Needed = BTreeMap<RepositoryName, BTreeSet<Digest>>;

/// What the versions of an organisation need at `now`.
///
/// # Errors
/// When the store fails, or a statement is missing or broken: then it is not known, and nothing may be taken.
pub async fn needed(store: &dyn MetaStore, blobs: &BlobStore, org: &OrgName, now: WallTime) -> anyhow::Result<Needed> {
    let desired = store.desired_states(org).await?.iter().map(desired_versions).collect::<anyhow::Result<Vec<_>>>()?;
    let pinned = store.pinned_versions(org).await?;
    let desired: BTreeSet<(AppName, u64)> = desired.into_iter().flatten().chain(pinned).collect();
    let mut needed = Needed::new();
    for known in store.reported_versions(org).await? {
        let version = known.version;
        let is_desired = desired.contains(&(version.app.clone(), version.version));
        if !is_needed(version.retired.is_some(), is_desired, known.reported, now) {
            continue;
        }
        for digest in version.statements.values() {
            let statement = statement(blobs, digest).await.with_context(|| {
                format!(
                    "the statement {digest} of version {} of {org}/{} is missing or broken, so what it names is not known; restore it \
                     from a backup",
                    version.version, version.app
                )
            })?;
            for image in VersionStatement::parse(&statement)?.images {
                needed.entry(image.repository.clone()).or_default().extend(image.digests());
            }
        }
    }
    Ok(needed)
}

/// A statement's bytes, which have its digest: what a rotten one names must not be believed.
async fn statement(blobs: &BlobStore, digest: &Digest) -> anyhow::Result<Bytes> {
    match blobs.content(digest).await?.context("its file is missing or broken")? {
        Content::Small(bytes) => Ok(bytes),
        Content::Large(file, _) => {
            let bytes = tokio::task::spawn_blocking(move || read(file)).await?.context("its file cannot be read")?;
            anyhow::ensure!(digest.same_algorithm(&bytes) == *digest, "its file is broken");
            Ok(bytes)
        }
    }
}

fn read(file: File) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, STATEMENT_BYTES_MAX as u64), &mut bytes)?;
    Ok(bytes.into())
}

/// The versions that a desired state names.
fn desired_versions(record: &DesiredStateRecord) -> anyhow::Result<Vec<(AppName, u64)>> {
    let state: DesiredState = record.state().with_context(|| format!("the desired state of group {}", record.group))?;
    let versions = |(app, desired): (AppName, DesiredApp)| {
        let before = desired.before.map(|before| before.version);
        [Some(desired.version), before].into_iter().flatten().map(move |version| (app.clone(), version))
    };
    Ok(state.apps.into_iter().flat_map(versions).collect())
}
