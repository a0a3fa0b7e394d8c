//! Looking whether everything that records name is there and whole: files against their digests, records against files, hash
//! lists against blobs, journal and index against their checksums. What checking the audit log finds is added to it.
//!
//! It only reads. Beside a running seed it sees the records as of one moment, and its files are held meanwhile.
//!
//! Not here: taking away what nothing needs, see [`super::garbage`]; how it is asked for, see `cli::store`.

mod next;
mod repair;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use protocol::digest::Digest;
use protocol::garbage::FILE_GRACE_SECONDS;
use protocol::hash_list::HashListBuilder;
use protocol::statement::version::HashListName;
use protocol::verify::BlobHasher;
use serde::Serialize;

use super::blobs::{Listed, Listing};
use super::blocks::each_block;
use super::embedded::{STATEMENT_OF, Size};
use super::folders::{JOURNAL, blob_file};
use super::index::{Index, InspectError};
use super::journal::extent::{Extent, Read};
use super::records::{Change, IndexError, Table};

pub use next::{Again, Next};
pub use repair::repair;

/// The most findings that a report names; all are counted.
pub const FINDINGS_MAX: usize = 1000;

/// What kind of damage was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// A file does not have the digest that is its name.
    Rotten,
    /// A record names a blob whose file is not there.
    Missing,
    /// A record says another size than the file has.
    Size,
    /// The hash list of a blob is missing or another one.
    HashList,
    /// The journal cannot be read to its end.
    Journal,
    /// The index does not hold what was put into it, or is of another journal.
    Index,
    /// A line of the audit log does not follow the one before it.
    AuditLog,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub damage: Damage,
    /// The blob, for kinds that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What was found.
    pub found: String,
    /// What to do next.
    pub next: Next,
    /// Whether nothing is left to be done.
    pub repaired: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Blob files that were hashed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that records name; none for a device, which has no records.
    pub named: Option<u64>,
    /// Files that no record names; garbage collection removes them.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Files of the audit log that were checked.
    pub audit_files: u64,
    /// Whether the index was looked at, which a running seed does itself when it starts.
    pub index_checked: bool,
    /// Findings, repaired or not.
    pub damaged: u64,
    /// Findings that are not repaired.
    pub unrepaired: u64,
    /// The findings, up to [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

impl Report {
    /// Adds what checking the audit log found: how many files it has, and the first line that does not follow.
    pub fn add_audit(&mut self, files: u64, broken: Option<(&Path, &dyn std::fmt::Display)>) {
        self.audit_files = files;
        if let Some((path, broken)) = broken {
            self.add(Damage::AuditLog, None, format!("{}: {broken}", path.display()), Next::CompareAudit);
        }
    }

    fn add(&mut self, damage: Damage, digest: Option<Digest>, found: String, next: Next) {
        self.damaged += 1;
        self.unrepaired += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { damage, digest, found, next, repaired: false });
        }
    }
}

/// What records say about blobs.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// By `digest org holder`, as the records have it.
    holders: BTreeMap<String, Size>,
    lists: BTreeMap<Digest, HashListName>,
}

impl Named {
    /// Reads the records up to `extent`.
    pub(super) fn read(dir: &Path, extent: &Extent) -> Result<(Self, Read), super::journal::ReplayError> {
        let mut named = Self::default();
        let read = extent.read(&dir.join(JOURNAL), &mut |_, changes| changes.into_iter().try_for_each(|change| named.take(change)))?;
        Ok((named, read))
    }

    fn take(&mut self, Change(table, key, value): Change) -> Result<(), IndexError> {
        let broken = |error: &dyn std::fmt::Display| IndexError(format!("would hold an unreadable record {key:?}: {error}"));
        match (table, value) {
            (Table::Holder, Some(value)) => {
                let size = serde_json::from_str(value.get()).map_err(|error| broken(&error))?;
                self.holders.insert(key, size);
            }
            (Table::Holder, None) => drop(self.holders.remove(&key)),
            (Table::HashList, value) => {
                let blob: Digest = key.parse().map_err(|error| broken(&error))?;
                match value.map(|value| serde_json::from_str(value.get())).transpose().map_err(|error| broken(&error))? {
                    Some(list) => drop(self.lists.insert(blob, list)),
                    None => drop(self.lists.remove(&blob)),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The named blobs with their sizes, where records know them. Hash lists of blobs that nothing holds are not among them.
    pub(super) fn blobs(&self) -> anyhow::Result<BTreeMap<Digest, Option<u64>>> {
        let mut blobs = BTreeMap::new();
        for (key, size) in &self.holders {
            let digest: Digest = key.split(' ').next().unwrap_or_default().parse().with_context(|| format!("the record {key:?}"))?;
            blobs.insert(
                digest,
                match size {
                    Size::Known(size) => Some(*size),
                    Size::OfFile => None,
                },
            );
        }
        let lists: Vec<_> =
            self.lists.iter().filter(|(blob, _)| blobs.contains_key(blob)).map(|(_, list)| (list.digest, Some(list.size))).collect();
        blobs.extend(lists);
        Ok(blobs)
    }

    /// What has the blob.
    fn holders_of(&self, digest: &Digest) -> impl Iterator<Item = &str> {
        let prefix = format!("{digest} ");
        let of = self.holders.range(prefix.clone()..).map_while(move |(key, _)| key.strip_prefix(&prefix));
        of.filter_map(|key| key.split_once(' ').map(|(_, holder)| holder))
    }

    /// The same for people; a blob that nothing has is named as a hash list.
    fn shown_holders_of(&self, digest: &Digest) -> String {
        const SHOWN_MAX: usize = 3;
        let holders: Vec<&str> = self.holders_of(digest).take(SHOWN_MAX).collect();
        if holders.is_empty() { "hash list".to_owned() } else { holders.join(", ") }
    }

    /// How the blob comes back.
    fn again(&self, digest: &Digest) -> Again {
        let mut again = Again::Made;
        for holder in self.holders_of(digest) {
            if holder.starts_with(STATEMENT_OF) {
                return Again::Restored;
            }
            again = Again::Pushed;
        }
        again
    }
}

/// Looks at the data directory `dir`, whose journal goes to `extent`; a device has none. `alone` says that no process
/// writes there, so that the index can be looked at too. `progress` is told of bytes as they are hashed.
///
/// # Errors
/// When something cannot be read at all; damage is a finding.
pub fn check(dir: &Path, extent: Option<&Extent>, alone: bool, progress: &mut dyn FnMut(u64)) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut named = None;
    if let Some(extent) = extent {
        match Named::read(dir, extent) {
            Ok((found, read)) => {
                named = Some(found);
                if alone {
                    check_index(dir, &read, &mut report);
                }
            }
            Err(error) => report.add(Damage::Journal, None, error.to_string(), Next::RestoreSeed),
        }
    }
    let mut wanted = named.as_ref().map(Named::blobs).transpose()?;
    report.named = wanted.as_ref().map(|wanted| wanted.len() as u64);
    for listed in Listing::open(dir).context("the folder of blobs cannot be read")? {
        let listed = listed.context("the folder of blobs cannot be read")?;
        let record = wanted.as_mut().and_then(|wanted| wanted.remove(&listed.digest));
        check_file(dir, &listed, named.as_ref(), record, &mut report, progress)?;
    }
    if let (Some(wanted), Some(named)) = (wanted, &named) {
        for digest in wanted.keys() {
            let found = format!("{digest} is missing ({})", named.shown_holders_of(digest));
            report.add(Damage::Missing, Some(*digest), found, Next::Bring(named.again(digest)));
        }
    }
    Ok(report)
}

fn check_index(dir: &Path, read: &Read, report: &mut Report) {
    report.index_checked = true;
    match Index::inspect(dir, read) {
        Ok(()) => {}
        Err(error @ InspectError::Index(_)) => report.add(Damage::Index, None, error.to_string(), Next::BuildIndex),
        Err(error @ InspectError::Journal(_)) => report.add(Damage::Journal, None, error.to_string(), Next::RestoreSeed),
    }
}

fn check_file(
    dir: &Path,
    listed: &Listed,
    named: Option<&Named>,
    record: Option<Option<u64>>,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<()> {
    let Listed { digest, .. } = *listed;
    let list = named.and_then(|named| named.lists.get(&digest)).filter(|_| record.is_some());
    let path = blob_file(dir, &digest);
    let hashed = match hash(&path, &digest, list.is_some(), progress) {
        Ok(hashed) => hashed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    report.files += 1;
    report.bytes += hashed.bytes;
    if !hashed.fits {
        let next = Next::MoveAside(named.filter(|_| record.is_some()).map(|named| named.again(&digest)));
        report.add(Damage::Rotten, Some(digest), format!("{} does not hold what its name says", path.display()), next);
        return Ok(());
    }
    match record {
        None if named.is_some() && listed.is_older_than(Duration::from_secs(FILE_GRACE_SECONDS)) => {
            report.orphans += 1;
            report.orphan_bytes += hashed.bytes;
        }
        Some(Some(size)) if size != hashed.bytes => {
            let found = format!("{digest} has {} bytes, its record says {size}", hashed.bytes);
            report.add(Damage::Size, Some(digest), found, Next::Replace);
        }
        _ => {}
    }
    if let (Some(list), Some(computed)) = (list, hashed.list)
        && computed != list.digest
    {
        let found = format!("the hash list recorded for {digest} is not its own");
        report.add(Damage::HashList, Some(digest), found, Next::Bring(Again::Made));
    }
    Ok(())
}

/// What hashing a file found.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) bytes: u64,
    pub(super) fits: bool,
    /// The digest of its hash list, if that was asked for and it has one.
    pub(super) list: Option<Digest>,
}

/// Hashes a file, which should be the blob `digest`.
pub(super) fn hash(path: &PathBuf, digest: &Digest, with_list: bool, progress: &mut dyn FnMut(u64)) -> io::Result<Hashed> {
    let mut file = File::open(path)?;
    let (mut hasher, mut list) = (BlobHasher::of(digest), with_list.then(HashListBuilder::new));
    let mut bytes = 0;
    each_block(&mut file, |block| {
        hasher.update(block);
        if let Some(list) = &mut list {
            list.update(block);
        }
        bytes += block.len() as u64;
        progress(block.len() as u64);
        Ok(())
    })?;
    let list = list.and_then(|list| list.finish(*digest)).map(|list| Digest::sha256(&list.to_bytes()));
    Ok(Hashed { bytes, fits: hasher.finish(*digest).is_ok(), list })
}

#[cfg(test)]
mod tests;
