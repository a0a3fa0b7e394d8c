//! Garbage collection: a run takes out of each repository what nothing needs any more, then removes the files that no record
//! holds. Pushes go on meanwhile; a run that dies half-way has done a part of its work, and the next one does the rest.
//!
//! What is judged by old records is taken only if they have not changed: a push renews what it relies on, and is told to
//! bring again what was taken before.
//!
//! A clock that is not believed takes nothing: such a run says what would go, and why it does not.
//!
//! Not here: what is garbage, see [`protocol::garbage`]; when a run starts, see `seed::garbage`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use protocol::digest::Digest;
use protocol::garbage::clock::believe;
use protocol::garbage::{FILE_GRACE_SECONDS, Garbage, Marking, named};
use protocol::name::{OrgName, RepositoryName};
use protocol::oci::manifest::MANIFEST_BYTES_MOST;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::blobs::{BlobStore, Listed};
use super::meta::{Held, MetaError, MetaStore};
use super::needed::{Needed, needed};

/// Repositories whose names are read at once.
const REPOSITORIES_AT_ONCE: usize = 1000;

/// Manifests and blobs that are taken in one transaction: some 100 KiB of changes, for which pushes wait no longer than for
/// each other.
const SWEPT_AT_ONCE: usize = 500;

/// Files that are removed while no file may get a name: some milliseconds.
const FILES_AT_ONCE: usize = 64;

/// Files whose records are looked at, at once.
const LISTED_AT_ONCE: usize = 1024;

/// How often a repository is marked again, because a push came in between, before it is left to the next run.
const TRIES: u32 = 4;

/// The most digests, and the most reasons, that a report names.
pub const NAMED_MAX: usize = 1000;

/// How a run goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Take nothing; say what would go.
    pub dry_run: bool,
    /// Respect the lease of pushes and the grace of files. Only while no push can be under way may this be false.
    pub lease: bool,
    /// Believe the clock from now on: an operator says that it is right.
    pub accept_clock: bool,
}

/// What a run took, or would take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing was taken.
    pub dry_run: bool,
    /// Why nothing was taken although it should have been: the clock is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_doubted: Option<String>,
    /// Repositories that were looked at.
    pub repositories: u64,
    /// Manifests that went out of their repositories.
    pub manifests: u64,
    /// Blobs that went out of their repositories.
    pub blobs: u64,
    /// Files that were removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The digests of those files, up to [`NAMED_MAX`].
    pub digests: Vec<Digest>,
    /// What was left alone, and why, up to [`NAMED_MAX`].
    pub left: Vec<String>,
}

impl Report {
    fn leave(&mut self, what: &str, reason: &dyn std::fmt::Display) {
        tracing::warn!(what, %reason, "garbage collection leaves something alone");
        if self.left.len() < NAMED_MAX {
            self.left.push(format!("{what}: {reason}"));
        }
    }
}

/// One run.
struct Run<'a> {
    store: &'a dyn MetaStore,
    blobs: &'a BlobStore,
    options: Options,
    now: WallTime,
    report: Report,
    /// In a dry run: how many holders of each digest would go.
    doomed: BTreeMap<Digest, usize>,
}

/// Collects the garbage of a store at `now`. Runs must not overlap.
///
/// # Errors
/// When the store or the file system fails; what was taken before was garbage all the same.
pub async fn collect(store: &dyn MetaStore, blobs: &BlobStore, mut options: Options, now: WallTime) -> anyhow::Result<Report> {
    let mut report = Report::default();
    if !options.dry_run {
        report.clock_doubted = doubt_clock(store, options.accept_clock, now).await?;
        options.dry_run = report.clock_doubted.is_some();
    }
    report.dry_run = options.dry_run;
    let mut run = Run { store, blobs, options, now, report, doomed: BTreeMap::new() };
    for org in store.orgs().await? {
        match needed(store, blobs, &org, now).await {
            Ok(needed) => run.sweep_org(&org, &needed).await?,
            Err(reason) => run.report.leave(org.as_str(), &format!("{reason:#}")),
        }
    }
    run.remove_files().await?;
    let Report { dry_run, repositories, manifests, blobs: links, files, bytes, .. } = run.report;
    tracing::info!(event = "garbage_collected", dry_run, repositories, manifests, blobs = links, files, bytes, "garbage collected");
    Ok(run.report)
}

/// Why the clock is not believed, for which nothing may be removed because of its age; if it is believed, that is kept.
///
/// # Errors
/// When the store fails.
pub async fn doubt_clock(store: &dyn MetaStore, accept: bool, now: WallTime) -> Result<Option<String>, MetaError> {
    let believed = store.clock_believed().await?;
    if let Err(doubt) = believe(believed, now).or_else(|doubt| if accept { Ok(()) } else { Err(doubt) }) {
        tracing::error!(event = "clock_doubted", %doubt, "nothing is removed because of its age");
        return Ok(Some(doubt.to_string()));
    }
    if believed != Some(now) {
        store.believe_clock(now).await?;
    }
    Ok(None)
}

impl Run<'_> {
    async fn sweep_org(&mut self, org: &OrgName, needed: &Needed) -> anyhow::Result<()> {
        let none = BTreeSet::new();
        let mut last: Option<RepositoryName> = None;
        loop {
            let page = self.store.repositories(org, last.as_ref().map(RepositoryName::as_str), REPOSITORIES_AT_ONCE).await?;
            for repository in &page {
                self.report.repositories += 1;
                self.sweep(repository, needed.get(repository).unwrap_or(&none)).await?;
            }
            match page.last() {
                Some(name) if page.len() == REPOSITORIES_AT_ONCE => last = Some(name.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// Marks a repository, and takes what is not marked.
    async fn sweep(&mut self, repository: &RepositoryName, versions: &BTreeSet<Digest>) -> anyhow::Result<()> {
        for _ in 0..TRIES {
            let content = self.store.repository_content(repository).await?;
            let held = content.manifests.len() + content.blobs.len();
            let mut marking = Marking::new(content, versions, self.options.lease, self.now);
            while let Some(manifest) = marking.poll_read() {
                let bytes = self.read(&manifest, MANIFEST_BYTES_MOST as u64).await;
                marking.handle_read(manifest, bytes.ok().and_then(|bytes| named(&bytes)));
            }
            let garbage = match marking.finish() {
                Ok(garbage) => garbage,
                Err(unreadable) => {
                    self.report.leave(repository.as_str(), &unreadable);
                    return Ok(());
                }
            };
            let is_emptied = held == garbage.manifests.len() + garbage.blobs.len();
            match self.take(repository, garbage).await {
                Err(MetaError::Conflict(reason)) => tracing::debug!(reason, "a repository is marked again"),
                Ok(()) if is_emptied && !self.options.dry_run => return Ok(self.store.forget_repository(repository).await?),
                taken => return Ok(taken?),
            }
        }
        self.report.leave(repository.as_str(), &"pushes came in between again and again; the next run tries again");
        Ok(())
    }

    async fn take(&mut self, repository: &RepositoryName, garbage: Garbage) -> Result<(), MetaError> {
        if self.options.dry_run {
            for digest in garbage.manifests.keys().chain(garbage.blobs.keys()) {
                *self.doomed.entry(*digest).or_default() += 1;
            }
            self.count(&garbage);
            return Ok(());
        }
        for part in garbage.parts(SWEPT_AT_ONCE) {
            let taken = self.store.sweep(repository, part).await?;
            self.count(&taken);
        }
        Ok(())
    }

    fn count(&mut self, taken: &Garbage) {
        self.report.manifests += taken.manifests.len() as u64;
        self.report.blobs += taken.blobs.len() as u64;
    }

    /// Removes the files that nothing holds, and half-written ones of earlier processes.
    async fn remove_files(&mut self) -> anyhow::Result<()> {
        let grace = Duration::from_secs(if self.options.lease { FILE_GRACE_SECONDS } else { 0 });
        let count_max = self.doomed.values().max().copied().unwrap_or_default() + 1;
        let mut listing = self.blobs.list().await?;
        loop {
            let (rest, page) = tokio::task::spawn_blocking(move || {
                let page = listing.by_ref().take(LISTED_AT_ONCE).collect::<std::io::Result<Vec<Listed>>>();
                (listing, page)
            })
            .await?;
            listing = rest;
            let page = page.context("the folder of blobs cannot be read")?;
            if page.is_empty() {
                break;
            }
            let old: BTreeMap<Digest, Listed> =
                page.into_iter().filter(|listed| listed.is_older_than(grace)).map(|listed| (listed.digest, listed)).collect();
            let held = self.store.held(old.keys().copied().collect(), count_max).await?;
            let unheld: Vec<Digest> = held.iter().filter(|held| self.is_unheld(held)).map(|held| held.digest).collect();
            if self.options.dry_run {
                self.count_files(unheld.iter().filter_map(|digest| old.get(digest)));
                continue;
            }
            for part in unheld.chunks(FILES_AT_ONCE) {
                if !self.remove(part.to_vec(), grace).await? {
                    self.report.leave("files", &"a backup or a check is under way; the next run removes them");
                    return Ok(());
                }
            }
        }
        if !self.options.dry_run {
            self.blobs.clean_up().await?;
        }
        Ok(())
    }

    fn is_unheld(&self, held: &Held) -> bool {
        let left = |digest: &Digest, holders: usize| holders > self.doomed.get(digest).copied().unwrap_or_default();
        !left(&held.digest, held.holders) && !held.listed.is_some_and(|(blob, holders)| left(&blob, holders))
    }

    /// Removes the files of these blobs if they are old and unheld still; false if files are being held.
    async fn remove(&mut self, digests: Vec<Digest>, grace: Duration) -> anyhow::Result<bool> {
        let Some(removal) = self.blobs.removal().await else { return Ok(false) };
        let old = removal.older_than(digests, grace).await?;
        let gone = self.store.let_go(old.iter().map(|listed| listed.digest).collect()).await?;
        removal.remove(gone.clone()).await?;
        self.count_files(old.iter().filter(|listed| gone.contains(&listed.digest)));
        Ok(true)
    }

    fn count_files<'a>(&mut self, files: impl Iterator<Item = &'a Listed>) {
        for listed in files {
            self.report.files += 1;
            self.report.bytes += listed.bytes;
            if self.report.digests.len() < NAMED_MAX {
                self.report.digests.push(listed.digest);
            }
        }
    }

    /// A document by its digest, which is checked: what a rotten one names must not be believed.
    async fn read(&self, digest: &Digest, bytes_max: u64) -> anyhow::Result<bytes::Bytes> {
        let bytes = self.blobs.read(digest, bytes_max).await?.context("its file is missing")?;
        anyhow::ensure!(digest.same_algorithm(&bytes) == *digest, "its file is broken");
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
