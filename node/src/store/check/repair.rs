//! Repairing what can be: rotten files are moved aside, hash lists and the index are made again.
//!
//! Not here: bringing lost content back, which only a push or a backup can.

use std::fs;
use std::path::Path;

use anyhow::Context;
use protocol::digest::Digest;
use protocol::hash_list::HashListBuilder;
use protocol::statement::version::HashListName;

use super::{Damage, Finding, Next, Report};
use crate::files;
use crate::store::blobs::BlobStore;
use crate::store::blocks::each_block;
use crate::store::embedded::EmbeddedStore;
use crate::store::folders::{JOURNAL, blob_file};
use crate::store::index::Index;
use crate::store::journal::Journal;
use crate::store::meta::RepositoryStore as _;

/// Where rotten files are moved, in the data directory.
const ROTTEN: &str = "rotten";

/// Repairs what `report` found in the data directory `dir`, whose lock the caller holds, and marks it there. A rotten file
/// that records name counts as repaired only when it is pushed again.
///
/// # Errors
/// When the file system or the journal fails.
pub async fn repair(dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    let has_records = dir.join(JOURNAL).exists() && report.findings.iter().all(|finding| finding.damage != Damage::Journal);
    if has_records && report.findings.iter().any(|finding| finding.damage == Damage::Index) {
        let dir = dir.to_owned();
        tokio::task::spawn_blocking(move || {
            let journal = Journal::open(&dir.join(JOURNAL))?;
            Index::rebuild(&dir, &journal).map(drop).map_err(anyhow::Error::from)
        })
        .await??;
    }
    let store = if has_records { Some((EmbeddedStore::open(dir)?, BlobStore::open(dir)?)) } else { None };
    for finding in &mut report.findings {
        finding.repaired = match (finding.damage, finding.digest, &store) {
            (Damage::Index, ..) => has_records,
            (Damage::Rotten, Some(digest), _) => move_aside(dir, &digest, finding)?,
            (Damage::HashList, Some(digest), Some(store)) => list_again(store, &digest).await?,
            (Damage::Missing, Some(list), Some(store)) => match store.0.listed_blob(&list).await? {
                Some(blob) if store.1.path(&blob).exists() => list_again(store, &blob).await?,
                _ => false,
            },
            _ => false,
        };
        if finding.repaired {
            report.unrepaired -= 1;
        }
    }
    Ok(())
}

fn move_aside(dir: &Path, digest: &Digest, finding: &mut Finding) -> anyhow::Result<bool> {
    let (folder, file) = (dir.join(ROTTEN), blob_file(dir, digest));
    files::create_private_dir(&folder)?;
    let aside = folder.join(format!("{}-{}", digest.algorithm().name(), digest.hex()));
    fs::rename(&file, &aside).with_context(|| format!("cannot move {} to {}", file.display(), aside.display()))?;
    for folder in [Some(folder.as_path()), file.parent()].into_iter().flatten() {
        files::sync_dir(folder).with_context(|| format!("cannot sync {}", folder.display()))?;
    }
    finding.found = format!("{}; it is {} now", finding.found, aside.display());
    let Next::MoveAside(Some(again)) = finding.next else { return Ok(true) };
    finding.next = Next::Bring(again);
    Ok(false)
}

async fn list_again((store, blobs): &(EmbeddedStore, BlobStore), blob: &Digest) -> anyhow::Result<bool> {
    let (path, name) = (blobs.path(blob), *blob);
    let list = tokio::task::spawn_blocking(move || {
        let mut builder = HashListBuilder::new();
        each_block(&mut fs::File::open(path)?, |block| {
            builder.update(block);
            Ok(())
        })?;
        Ok::<_, std::io::Error>(builder.finish(name))
    })
    .await??;
    let Some(list) = list else { return Ok(false) };
    let stored = blobs.put(None, list.to_bytes().into()).await?;
    store.put_hash_list(blob, HashListName { digest: stored.blob(), size: stored.size() }).await?;
    Ok(true)
}
