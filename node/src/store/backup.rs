//! Copying a seed's data directory while the seed runs, and bringing it back.
//!
//! A backup is a folder with the journal as of one moment, every blob that its records name, the seed's keys and settings,
//! and at last `backup.json`, without which it is none. A copy into the same folder again copies what is new.
//!
//! Not here: holding the journal and the files meanwhile, see [`crate::control`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context, bail};
use protocol::digest::Digest;
use protocol::time::WallTime;
use protocol::verify::BlobHasher;
use serde::{Deserialize, Serialize};

use super::blobs::{Listing, file_path, hash_file};
use super::check::{JOURNAL, Named};
use super::index::Index;
use super::journal::Journal;
use super::journal::extent::{Extent, JournalFile};
use crate::config::seed::FILE_NAME;
use crate::files::{self, Access};

/// The file that makes a folder a backup.
const MARKER: &str = "backup.json";

/// Stands in the folder while it is none.
const UNFINISHED: &str = "backup.unfinished";

/// The folder of the seed's keys.
const KEYS: &str = "keys";

/// The only `format` this code reads and writes.
const FORMAT: u32 = 1;

/// Bytes copied at once.
const BLOCK_BYTES: usize = 256 << 10;

/// `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The format of the folder, [`FORMAT`].
    pub format: u32,
    /// When it began; what was acknowledged before is in it.
    pub began: WallTime,
    /// The journal's identity.
    pub journal: String,
    /// The number of its last record.
    pub records: u64,
    /// The journal's files.
    pub extent: Extent,
    /// Blobs in the folder.
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
pub type Progress<'a> = dyn FnMut(u64) + 'a;

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The seed's data directory.
    pub data: &'a Path,
    /// How far its journal goes.
    pub extent: &'a Extent,
    /// When it was asked how far.
    pub began: WallTime,
}

/// Copies a seed to the folder `to`. `intact` says at the end whether the seed's files stayed meanwhile.
///
/// # Errors
/// When `to` is something else than a backup of this seed, when a file cannot be copied, or when files did not stay.
pub fn backup(
    source: Source<'_>,
    to: &Path,
    progress: &mut Progress<'_>,
    intact: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Copied> {
    let Source { data, extent, began } = source;
    files::create_private_dir(to)?;
    let earlier = earlier(to)?;
    let (named, read) = Named::read(data, extent).context("the journal cannot be read; look with `hedgerow store check`")?;
    let journal = hex::encode(read.journal.context("the seed has no journal")?);
    if earlier.is_some_and(|earlier| earlier.journal != journal) {
        bail!("{} holds the backup of another seed; choose another folder", to.display());
    }
    files::replace(&to.join(UNFINISHED), b"", Access::Private)?;
    remove(&to.join(MARKER))?;
    copy_journal(data, to, extent)?;
    let (mut blobs, mut bytes, mut copied, mut copied_bytes) = (0, 0, 0, 0);
    let wanted = named.blobs()?;
    let mut lost = Vec::new();
    for digest in wanted.keys() {
        let (from, target) = (file_path(data, digest), file_path(to, digest));
        let (size, there) = (size(&from)?, size(&target)?);
        let held = if size.is_some() && size == there {
            progress(there.unwrap_or_default());
            there
        } else if size.is_some() && copy_blob(&from, &target, digest, progress)? {
            copied += 1;
            copied_bytes += size.unwrap_or_default();
            size
        } else {
            there.filter(|_| is_whole(&target, digest))
        };
        if let Some(size) = held {
            blobs += 1;
            bytes += size;
        } else {
            lost.push(*digest);
            remove(&target)?;
        }
    }
    remove_others(to, &wanted)?;
    sync_blobs(to)?;
    copy_private(data, to)?;
    intact()?;
    let backup = Backup { format: FORMAT, began, journal, records: read.position.sequence, extent: extent.clone(), blobs, bytes };
    files::replace(&to.join(MARKER), &serde_json::to_vec_pretty(&backup)?, Access::Private)?;
    remove(&to.join(UNFINISHED))?;
    Ok(Copied { backup, copied, copied_bytes, lost })
}

/// Makes the data directory `data` from the backup in the folder `from`.
///
/// # Errors
/// When the backup is not complete, when `data` is not empty, or when a file cannot be copied.
pub fn restore(from: &Path, data: &Path, progress: &mut Progress<'_>) -> anyhow::Result<Copied> {
    let backup = complete(from)?;
    if data.exists() && fs::read_dir(data).with_context(|| format!("cannot look into {}", data.display()))?.next().is_some() {
        bail!("{} is not empty; restore into a folder that is new", data.display());
    }
    files::create_private_dir(data)?;
    copy_journal(from, data, &backup.extent)?;
    let (named, read) = Named::read(data, &backup.extent).context("the backup's journal is broken; use another backup")?;
    if read.position.sequence != backup.records {
        bail!("the backup's journal has {} records, {MARKER} says {}; use another backup", read.position.sequence, backup.records);
    }
    let (mut copied, mut copied_bytes, mut lost) = (0, 0, Vec::new());
    for digest in named.blobs()?.keys() {
        let source = file_path(from, digest);
        if source.exists() && copy_blob(&source, &file_path(data, digest), digest, progress)? {
            copied += 1;
            copied_bytes += fs::metadata(&source).with_context(|| format!("cannot look at {}", source.display()))?.len();
        } else {
            lost.push(*digest);
        }
    }
    sync_blobs(data)?;
    let journal = Journal::open(&data.join(JOURNAL))?;
    drop(Index::rebuild(data, &journal)?);
    copy_private(from, data)?;
    Ok(Copied { backup, copied, copied_bytes, lost })
}

/// The whole of a backup's bytes, for a progress bar.
///
/// # Errors
/// When the backup is not complete.
pub fn complete(from: &Path) -> anyhow::Result<Backup> {
    if from.join(UNFINISHED).exists() {
        bail!("the backup in {} was never finished; run `hedgerow seed backup` into it again, or use another one", from.display());
    }
    match earlier(from)? {
        Some(backup) => Ok(backup),
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
    let empty = fs::read_dir(folder).with_context(|| format!("cannot look into {}", folder.display()))?.next().is_none();
    if !empty && !folder.join(UNFINISHED).exists() {
        bail!("{} holds something else than a backup; choose another folder", folder.display());
    }
    Ok(None)
}

fn copy_journal(from: &Path, to: &Path, extent: &Extent) -> anyhow::Result<()> {
    let (from, to) = (from.join(JOURNAL), to.join(JOURNAL));
    files::create_private_dir(&to)?;
    for JournalFile { name, bytes } in &extent.files {
        if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
            bail!("{name:?} is no name of a journal's file");
        }
        let (source, target) = (from.join(name), to.join(name));
        let mut copy = tempfile::NamedTempFile::new_in(&to).with_context(|| format!("cannot make a file in {}", to.display()))?;
        let copied = File::open(&source).and_then(|file| io::copy(&mut file.take(*bytes), &mut copy));
        let copied = copied.with_context(|| format!("cannot copy {}", source.display()))?;
        anyhow::ensure!(copied == *bytes, "{} has {copied} bytes, not {bytes}", source.display());
        keep(copy, &target)?;
    }
    for entry in fs::read_dir(&to).with_context(|| format!("cannot look into {}", to.display()))? {
        let entry = entry?;
        if !extent.files.iter().any(|file| entry.file_name() == file.name.as_str()) {
            remove(&entry.path())?;
        }
    }
    Ok(files::sync_dir(&to)?)
}

/// The size of a file in bytes, if it is there.
fn size(path: &Path) -> anyhow::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Whether a copy of an earlier backup holds what its name says: it may be the last one.
fn is_whole(copy: &Path, digest: &Digest) -> bool {
    let mut hasher = BlobHasher::of(digest);
    hash_file(&mut hasher, copy).is_ok() && hasher.finish(*digest).is_ok()
}

/// Copies a blob's file; false if it does not hold what its name says.
fn copy_blob(from: &Path, to: &Path, digest: &Digest, progress: &mut Progress<'_>) -> anyhow::Result<bool> {
    let folder = to.parent().context("a blob's file stands in a folder")?;
    files::create_private_dir(folder)?;
    let mut source = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let mut copy = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot make a file in {}", folder.display()))?;
    let (mut hasher, mut block) = (BlobHasher::of(digest), vec![0; BLOCK_BYTES]);
    loop {
        let count = source.read(&mut block).with_context(|| format!("cannot read {}", from.display()))?;
        if count == 0 {
            break;
        }
        hasher.update(&block[..count]);
        copy.write_all(&block[..count]).with_context(|| format!("cannot write to {}", folder.display()))?;
        progress(count as u64);
    }
    if hasher.finish(*digest).is_err() {
        return Ok(false);
    }
    keep(copy, to)?;
    Ok(true)
}

fn keep(copy: tempfile::NamedTempFile, target: &Path) -> anyhow::Result<()> {
    copy.as_file().sync_all().with_context(|| format!("cannot sync {}", target.display()))?;
    copy.persist(target).with_context(|| format!("cannot name {}", target.display()))?;
    Ok(())
}

/// Removes blobs that the records of this backup do not name.
fn remove_others(to: &Path, wanted: &BTreeMap<Digest, Option<u64>>) -> anyhow::Result<()> {
    for listed in Listing::open(to)? {
        let digest = listed?.digest;
        if !wanted.contains_key(&digest) {
            remove(&file_path(to, &digest))?;
        }
    }
    Ok(())
}

fn sync_blobs(dir: &Path) -> anyhow::Result<()> {
    let blobs = dir.join("blobs");
    if !blobs.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(&blobs)? {
        files::sync_dir(&entry?.path())?;
    }
    Ok(files::sync_dir(&blobs)?)
}

/// Copies keys and settings.
fn copy_private(from: &Path, to: &Path) -> anyhow::Result<()> {
    let (from_keys, to_keys) = (from.join(KEYS), to.join(KEYS));
    files::create_private_dir(&to_keys)?;
    for entry in fs::read_dir(&from_keys).with_context(|| format!("cannot look into {}", from_keys.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let content = fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            files::replace(&to_keys.join(entry.file_name()), &content, Access::Private)?;
        }
    }
    let settings = from.join(FILE_NAME);
    let content = fs::read(&settings).with_context(|| format!("cannot read {}", settings.display()))?;
    Ok(files::replace(&to.join(FILE_NAME), &content, Access::Private)?)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
