//! Copying a seed's data directory while the seed runs, and bringing it back.
//!
//! | in the folder | holds |
//! |---|---|
//! | `backup.json` | which snapshot is the backup; replaced at once, when everything that it names is durable |
//! | `snapshot-<number>` | journal, audit log, keys and settings as of one moment |
//! | `blobs` | the blobs, by digest as in a data directory; snapshots share them |
//! | `lock` | that one process at a time writes here |
//!
//! A backup into the same folder makes a new snapshot and copies the blobs that are new. The one before stays whole until the
//! new one is named: only then its snapshot goes, and the blobs that the new one does not name. So whatever interrupts it,
//! the folder holds the old backup or the new one, and the next run clears away what was left.
//!
//! Blobs that are there already are read and hashed again, because a copy that rotted would be found only when it is needed.
//!
//! Not here: holding the journal and the files meanwhile, see [`crate::control`]; copying one file, see `copy`.

mod copy;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use protocol::digest::Digest;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::blobs::Listing;
use super::check::{Named, hash};
use super::folders::{AUDIT, JOURNAL, blob_file};
use super::index::Index;
use super::journal::Journal;
use super::journal::extent::{Extent, JournalFile};
use super::lock::{DataLock, LOCK_FILE, LockError};
use crate::files::{self, Access};

/// The file that makes a folder a backup.
const MARKER: &str = "backup.json";

/// Stands in a folder that is to become a backup, until it is one.
const UNFINISHED: &str = "backup.unfinished";

/// The beginning of the names of snapshots.
const SNAPSHOT: &str = "snapshot-";

/// The only `format` this code reads and writes.
const FORMAT: u32 = 2;

/// `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The format of the folder, [`FORMAT`].
    pub format: u32,
    /// When it began; what was acknowledged before is in it.
    pub began: WallTime,
    /// The folder of everything but blobs.
    pub snapshot: String,
    /// The journal's identity.
    pub journal: String,
    /// The number of its last record.
    pub records: u64,
    /// The journal's files.
    pub extent: Extent,
    /// The files of the audit log.
    pub audit: Vec<JournalFile>,
    /// Blobs that records name and that are there.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What copying did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// The backup.
    pub backup: Backup,
    /// Blobs that were copied; the others were there.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Blobs that records name and that are missing or broken where they were copied from.
    pub lost: Vec<Digest>,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step begins.
    At(Step),
    /// So many more bytes of blobs were copied or checked.
    Bytes(u64),
}

/// The steps of a backup, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copying journal, audit log, keys and settings.
    Snapshot,
    /// Copying blobs.
    Blobs,
    /// Naming the snapshot: from here on the new backup counts.
    Naming,
    /// Removing earlier snapshots.
    Earlier,
    /// Removing blobs that only those named.
    Unnamed,
}

/// Is told how far a copy is.
pub type Watch<'a> = dyn FnMut(Progress) + 'a;

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The seed's data directory.
    pub data: &'a Path,
    /// How far its journal goes.
    pub extent: &'a Extent,
    /// When it was asked how far.
    pub began: WallTime,
    /// Whether a blob of the right size that is in the folder already is taken as it is, if no run was interrupted since.
    pub trust_sizes: bool,
}

/// Copies a seed to the folder `to`. `intact` says before the new backup counts whether the seed's files stayed meanwhile.
///
/// # Errors
/// When `to` is something else than a backup of this seed or is in use, when a file cannot be copied, or when files did not
/// stay. The backup that `to` held before can be restored then.
pub fn backup(source: Source<'_>, to: &Path, watch: &mut Watch<'_>, intact: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Copied> {
    let Source { data, extent, began, .. } = source;
    files::create_private_dir(to)?;
    if to.canonicalize()?.starts_with(data.canonicalize()?) {
        bail!(
            "{} is in the seed's own data directory, where a backup is lost with it; choose another folder, best on another disk",
            to.display()
        );
    }
    earlier(to)?;
    let _lock = lock(to)?;
    let earlier = earlier(to)?;
    let (named, read) = Named::read(data, extent).context("the journal cannot be read; look with `hedgerow store check`")?;
    let journal = hex::encode(read.journal.context("the seed has no journal")?);
    if earlier.as_ref().is_some_and(|earlier| earlier.journal != journal) {
        bail!("{} holds the backup of another seed; choose another folder", to.display());
    }
    if earlier.is_none() {
        files::replace(&to.join(UNFINISHED), b"", Access::Private)?;
    }
    watch(Progress::At(Step::Snapshot));
    let before = snapshots(to)?;
    let whole = |folder: &Path| earlier.as_ref().is_some_and(|earlier| folder == to.join(&earlier.snapshot));
    // What a run that was interrupted copied may not have reached the disk.
    let trust_sizes = source.trust_sizes && before.iter().all(|(_, folder)| whole(folder));
    let source = Source { trust_sizes, ..source };
    let snapshot = format!("{SNAPSHOT}{:06}", before.last().map_or(1, |(number, _)| number + 1));
    let folder = to.join(&snapshot);
    files::create_private_dir(&folder)?;
    copy::listed(&data.join(JOURNAL), &folder.join(JOURNAL), &extent.files)?;
    let audit = copy::lines(&data.join(AUDIT), &folder.join(AUDIT))?;
    copy::private(data, &folder)?;
    watch(Progress::At(Step::Blobs));
    let wanted = named.blobs()?;
    let mut copied = Copied {
        backup: Backup {
            format: FORMAT,
            began,
            snapshot: snapshot.clone(),
            journal,
            records: read.position.sequence,
            extent: extent.clone(),
            audit,
            blobs: 0,
            bytes: 0,
        },
        copied: 0,
        copied_bytes: 0,
        lost: Vec::new(),
    };
    for digest in wanted.keys() {
        copied.take(*digest, bring(&source, to, digest, watch)?);
    }
    copy::sync_blobs(to)?;
    intact()?;
    watch(Progress::At(Step::Naming));
    files::replace(&to.join(MARKER), &serde_json::to_vec_pretty(&copied.backup)?, Access::Private)?;
    clear(to, &snapshot, &wanted, watch).context("the backup is complete, but what an earlier one left cannot be removed")?;
    Ok(copied)
}

/// What became of a blob.
#[derive(Clone, Copy, Debug)]
enum Brought {
    /// It was there: its bytes.
    There(u64),
    /// It was copied: its bytes.
    Copied(u64),
    /// It is nowhere, or broken.
    Lost,
}

impl Copied {
    fn take(&mut self, digest: Digest, brought: Brought) {
        match brought {
            Brought::Lost => return self.lost.push(digest),
            Brought::Copied(bytes) => {
                self.copied += 1;
                self.copied_bytes += bytes;
            }
            Brought::There(_) => {}
        }
        let (Brought::There(bytes) | Brought::Copied(bytes)) = brought else { return };
        self.backup.blobs += 1;
        self.backup.bytes += bytes;
    }
}

/// Sees to it that the folder `to` has a whole blob. A copy that is whole is never replaced: it may be the last one.
fn bring(source: &Source<'_>, to: &Path, digest: &Digest, watch: &mut Watch<'_>) -> anyhow::Result<Brought> {
    let (from, target) = (blob_file(source.data, digest), blob_file(to, digest));
    let here = copy::size(&from)?;
    if let Some(there) = copy::size(&target)? {
        if source.trust_sizes && here == Some(there) {
            watch(Progress::Bytes(there));
            return Ok(Brought::There(there));
        }
        let hashed = hash(&target, digest, false, &mut |bytes| watch(Progress::Bytes(bytes)));
        if hashed.with_context(|| format!("cannot read {}", target.display()))?.fits {
            return Ok(Brought::There(there));
        }
    }
    match here {
        Some(bytes) if copy::blob(&from, &target, digest, watch)? => Ok(Brought::Copied(bytes)),
        _ => Ok(Brought::Lost),
    }
}

/// Removes what the backup that counts does not name.
fn clear(to: &Path, snapshot: &str, wanted: &BTreeMap<Digest, Option<u64>>, watch: &mut Watch<'_>) -> anyhow::Result<()> {
    watch(Progress::At(Step::Earlier));
    copy::remove(&to.join(UNFINISHED))?;
    for (_, folder) in snapshots(to)? {
        if folder != to.join(snapshot) {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    watch(Progress::At(Step::Unnamed));
    for listed in Listing::open(to)? {
        let digest = listed?.digest;
        if !wanted.contains_key(&digest) {
            copy::remove(&blob_file(to, &digest))?;
        }
    }
    copy::remove_parts(to)
}

/// Makes the data directory `data` from the backup in the folder `from`.
///
/// # Errors
/// When the backup is not complete or is being written, when `data` is not empty, or when a file cannot be copied.
pub fn restore(from: &Path, data: &Path, watch: &mut Watch<'_>) -> anyhow::Result<Copied> {
    complete(from)?;
    let _lock = match lock(from) {
        // What cannot be written to, as a medium that is read-only, is not written to by another process either.
        Err(error) if matches!(error.downcast_ref(), Some(LockError::Io { .. })) => None,
        lock => Some(lock?),
    };
    let backup = complete(from)?;
    let snapshot = from.join(plain(&backup.snapshot)?);
    files::create_private_dir(data)?;
    let _target = lock(data)?;
    for entry in fs::read_dir(data).with_context(|| format!("cannot look into {}", data.display()))? {
        if entry?.file_name() != LOCK_FILE {
            bail!("{} is not empty; restore into a folder that is new", data.display());
        }
    }
    copy::listed(&snapshot.join(JOURNAL), &data.join(JOURNAL), &backup.extent.files)?;
    let (named, read) = Named::read(data, &backup.extent).context("the backup's journal is broken; use another backup")?;
    if read.position.sequence != backup.records {
        bail!("the backup's journal has {} records, {MARKER} says {}; use another backup", read.position.sequence, backup.records);
    }
    let (mut copied, mut copied_bytes, mut lost) = (0, 0, Vec::new());
    for digest in named.blobs()?.keys() {
        let source = blob_file(from, digest);
        match copy::size(&source)? {
            Some(bytes) if copy::blob(&source, &blob_file(data, digest), digest, watch)? => {
                copied += 1;
                copied_bytes += bytes;
            }
            _ => lost.push(*digest),
        }
    }
    copy::sync_blobs(data)?;
    let journal = Journal::open(&data.join(JOURNAL))?;
    drop(Index::rebuild(data, &journal)?);
    copy::listed(&snapshot.join(AUDIT), &data.join(AUDIT), &backup.audit)?;
    copy::private(&snapshot, data)?;
    Ok(Copied { backup, copied, copied_bytes, lost })
}

/// The backup in the folder `from`.
///
/// # Errors
/// When there is none, or none that was finished.
pub fn complete(from: &Path) -> anyhow::Result<Backup> {
    match earlier(from)? {
        Some(backup) => Ok(backup),
        None if from.join(UNFINISHED).exists() => {
            bail!("the backup in {} was never finished; run `hedgerow seed backup` into it again, or use another one", from.display())
        }
        None => bail!("there is no backup in {}: {MARKER} is missing", from.display()),
    }
}

/// The backup that a folder holds, if it holds one; a folder with anything else is refused.
fn earlier(folder: &Path) -> anyhow::Result<Option<Backup>> {
    let marker = folder.join(MARKER);
    if marker.exists() {
        let text = files::read_text(&marker)?;
        let found: serde_json::Value = serde_json::from_str(&text).with_context(|| format!("{} is broken", marker.display()))?;
        if found["format"] != FORMAT {
            bail!("{} has format {}, this program reads {FORMAT}; use the program that wrote it", marker.display(), found["format"]);
        }
        return Ok(Some(serde_json::from_value(found).with_context(|| format!("{} is broken", marker.display()))?));
    }
    let looked = || format!("cannot look into {}", folder.display());
    let mut names = fs::read_dir(folder).with_context(looked)?.map(|entry| entry.map(|entry| entry.file_name()));
    let foreign = names.try_fold(false, |foreign, name| io::Result::Ok(foreign || name? != LOCK_FILE)).with_context(looked)?;
    if foreign && !folder.join(UNFINISHED).exists() {
        bail!("{} holds something else than a backup; choose another folder", folder.display());
    }
    Ok(None)
}

fn lock(folder: &Path) -> anyhow::Result<DataLock> {
    match DataLock::acquire(folder, "seed backup") {
        Err(LockError::Held { holder, .. }) => bail!("{} is in use by {holder}; wait until it has ended", folder.display()),
        lock => Ok(lock?),
    }
}

/// The snapshots in a folder, finished or not, with their numbers, in order.
fn snapshots(folder: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot look into {}", folder.display()))? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix(SNAPSHOT)?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}

/// A name of one file or folder; what a marker says must not lead elsewhere.
fn plain(name: &str) -> anyhow::Result<&str> {
    anyhow::ensure!(Path::new(name).file_name().is_some_and(|file| file == name), "{name:?} is no name of a backup's file");
    Ok(name)
}

#[cfg(test)]
mod tests;
