//! Copying one kind of file durably: whole under its name, or not there.
//!
//! Not here: which files, and in which order; see [`super`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use protocol::digest::Digest;
use protocol::verify::BlobHasher;
use tempfile::NamedTempFile;

use super::{Progress, Watch, plain};
use crate::config::seed::FILE_NAME;
use crate::files::{self, Access};
use crate::store::blocks::each_block;
use crate::store::folders::{BLOBS, KEYS};
use crate::store::journal::extent::JournalFile;

/// The beginning of the names of files that are being copied.
const PART: &str = ".part-";

/// Copies the listed files from a folder to another, each as far as the list says.
pub(super) fn listed(from: &Path, to: &Path, list: &[JournalFile]) -> anyhow::Result<()> {
    files::create_private_dir(to)?;
    for JournalFile { name, bytes } in list {
        let source = from.join(plain(name)?);
        let mut copy = part(to)?;
        let copied = File::open(&source).and_then(|file| io::copy(&mut file.take(*bytes), &mut copy));
        let copied = copied.with_context(|| format!("cannot copy {}", source.display()))?;
        anyhow::ensure!(copied == *bytes, "{} has {copied} bytes, not {bytes}", source.display());
        keep(copy, &to.join(name))?;
    }
    Ok(files::sync_dir(to)?)
}

/// Copies the whole lines of each file of a folder, which may be written to meanwhile and lose its oldest files: what was
/// copied.
pub(super) fn lines(from: &Path, to: &Path) -> anyhow::Result<Vec<JournalFile>> {
    files::create_private_dir(to)?;
    let mut copied = Vec::new();
    for source in sorted(from)? {
        let file = match File::open(&source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.with_context(|| format!("cannot open {}", source.display()))?,
        };
        let name = source.file_name().and_then(OsStr::to_str).with_context(|| format!("{} is no file of this seed", source.display()))?;
        let mut copy = part(to)?;
        let bytes = whole_lines(file, &mut copy).with_context(|| format!("cannot copy {}", source.display()))?;
        keep(copy, &to.join(name))?;
        copied.push(JournalFile { name: name.to_owned(), bytes });
    }
    files::sync_dir(to)?;
    Ok(copied)
}

fn whole_lines(from: File, to: &mut NamedTempFile) -> io::Result<u64> {
    let (mut from, mut to, mut line, mut bytes) = (BufReader::new(from), BufWriter::new(to), Vec::new(), 0);
    while from.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        to.write_all(&line)?;
        bytes += line.len() as u64;
        line.clear();
    }
    to.flush()?;
    Ok(bytes)
}

/// The files of a folder by name; none if there is no such folder.
fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot look into {}", folder.display()))?,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Copies keys and settings.
pub(super) fn private(from: &Path, to: &Path) -> anyhow::Result<()> {
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

/// Copies a blob's file; false if it does not hold what its name says. It is durable after [`sync_blobs`].
pub(super) fn blob(from: &Path, to: &Path, digest: &Digest, watch: &mut Watch<'_>) -> anyhow::Result<bool> {
    let folder = to.parent().context("a blob's file stands in a folder")?;
    files::create_private_dir(folder)?;
    let mut source = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let mut copy = part(folder)?;
    let mut hasher = BlobHasher::of(digest);
    let copied = each_block(&mut source, |block| {
        hasher.update(block);
        copy.write_all(block)?;
        watch(Progress::Bytes(block.len() as u64));
        Ok(())
    });
    copied.with_context(|| format!("cannot copy {} to {}", from.display(), folder.display()))?;
    if hasher.finish(*digest).is_err() {
        return Ok(false);
    }
    copy.persist(to).with_context(|| format!("cannot name {}", to.display()))?;
    Ok(true)
}

fn part(folder: &Path) -> anyhow::Result<NamedTempFile> {
    let made = tempfile::Builder::new().prefix(PART).tempfile_in(folder);
    made.with_context(|| format!("cannot make a file in {}", folder.display()))
}

fn keep(copy: NamedTempFile, target: &Path) -> anyhow::Result<()> {
    copy.as_file().sync_all().with_context(|| format!("cannot sync {}", target.display()))?;
    copy.persist(target).with_context(|| format!("cannot name {}", target.display()))?;
    Ok(())
}

/// Makes all blobs and their names durable, at once: of many small ones, syncing each would take most of the time, and nothing
/// relies on them before.
pub(super) fn sync_blobs(dir: &Path) -> anyhow::Result<()> {
    for folder in blob_folders(dir)?.iter().map(PathBuf::as_path).chain([dir]) {
        let synced = File::open(folder).and_then(|file| Ok(rustix::fs::syncfs(file)?));
        synced.with_context(|| format!("cannot sync {}", folder.display()))?;
    }
    Ok(())
}

/// Removes what a process that was killed left half-copied.
pub(super) fn remove_parts(dir: &Path) -> anyhow::Result<()> {
    for folder in blob_folders(dir)? {
        for path in sorted(&folder)? {
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PART.as_bytes())) {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

fn blob_folders(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    sorted(&dir.join(BLOBS))
}

/// The size of a file in bytes, if it is there.
pub(super) fn size(path: &Path) -> anyhow::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        _ => Ok(()),
    }
}
