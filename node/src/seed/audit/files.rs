//! The files of the audit log: `0000000001.jsonl` and on, each ended at a size, the oldest removed.
//!
//! Not here: what a line says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::chain::{Checker, Link};
use crate::files::{create_private_dir, sync_dir};

const FORMAT: u32 = 1;
const EXTENSION: &str = "jsonl";
/// What was done is for the seed's owner alone.
const FILE_MODE: u32 = 0o600;

#[derive(Serialize)]
struct Line<'a, T> {
    v: u32,
    previous: &'a Link,
    #[serde(flatten)]
    content: &'a T,
}

/// How large files get, and how many are kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A file is ended at this size, in bytes.
    pub file_bytes: u64,
    /// Full files that are kept beside the current one.
    pub files_kept: usize,
}

/// The current file, open at its end.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    bounds: Bounds,
    number: u64,
    file: File,
    bytes: u64,
    /// A write failed; what it left behind `bytes` is no line.
    torn: bool,
    last: Link,
    pending: Vec<u8>,
    pending_last: Link,
}

impl Files {
    /// Goes on where the newest file ends. A last line without its end, which a crash left, is taken away; a line that does
    /// not follow the one before is told.
    ///
    /// # Errors
    /// When the folder or its newest file cannot be read or written.
    pub fn open(dir: &Path, bounds: Bounds) -> anyhow::Result<Self> {
        create_private_dir(dir)?;
        let attempt = || {
            let numbers = numbers(dir)?;
            let number = numbers.last().copied().unwrap_or(1);
            let file = append_to(&path(dir, number))?;
            sync_dir(dir)?;
            let last = last_link(dir, &numbers)?;
            let bytes = file.metadata()?.len();
            let pending_last = last.clone();
            io::Result::Ok(Self { dir: dir.to_owned(), bounds, number, file, bytes, torn: false, last, pending: Vec::new(), pending_last })
        };
        attempt().with_context(|| format!("cannot open the audit log in {}", dir.display()))
    }

    /// Adds a line; it is written by [`Self::flush`].
    ///
    /// # Errors
    /// When it has no form in JSON.
    pub fn add(&mut self, content: &impl Serialize) -> serde_json::Result<()> {
        let line = serde_json::to_vec(&Line { v: FORMAT, previous: &self.pending_last, content })?;
        self.pending_last = Link::to(&line);
        self.pending.extend(line);
        self.pending.push(b'\n');
        Ok(())
    }

    /// Hands the lines that were added to the system: all or none. Starts the next file if this one is full.
    ///
    /// # Errors
    /// When they cannot be written; they are lost then.
    pub fn flush(&mut self) -> io::Result<()> {
        let written = self.write();
        if written.is_err() {
            self.pending_last = self.last.clone();
        }
        self.pending.clear();
        written
    }

    fn write(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.bytes)?;
            self.torn = false;
        }
        if self.bytes >= self.bounds.file_bytes {
            self.start_next()?;
        }
        self.torn = true;
        self.file.write_all(&self.pending)?;
        self.torn = false;
        self.bytes += self.pending.len() as u64;
        self.last = self.pending_last.clone();
        Ok(())
    }

    /// Makes everything that was flushed durable.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_next(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.file = append_to(&path(&self.dir, self.number + 1))?;
        self.number += 1;
        self.bytes = 0;
        sync_dir(&self.dir)?;
        if let Err(error) = self.remove_old() {
            tracing::warn!(%error, "old files of the audit log cannot be removed; they stay");
        }
        Ok(())
    }

    fn remove_old(&self) -> io::Result<()> {
        for old in numbers(&self.dir)?.iter().rev().skip(1 + self.bounds.files_kept) {
            fs::remove_file(path(&self.dir, *old))?;
        }
        Ok(())
    }
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.{EXTENSION}"))
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

/// The numbers of the files, in order.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|extension| extension == EXTENSION) {
            numbers.extend(name.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What the next line has to carry: from the newest file that has a line.
fn last_link(dir: &Path, numbers: &[u64]) -> io::Result<Link> {
    for number in numbers.iter().rev() {
        let path = path(dir, *number);
        let mut checker = Checker::after((*number == 1).then(Link::start));
        let torn = check_file(&path, &mut checker)?;
        if let Some(whole) = torn {
            tracing::warn!(file = %path.display(), "the last line of the audit log is not whole, as after a crash; it was taken away");
            OpenOptions::new().write(true).open(&path)?.set_len(whole)?;
        }
        if let Some(broken) = checker.broken() {
            tracing::error!(file = %path.display(), %broken, "the audit log was tampered with or damaged");
        }
        if let Some(last) = checker.last().filter(|last| **last != Link::start()) {
            return Ok(last.clone());
        }
    }
    Ok(Link::start())
}

/// Puts the lines of a file through a checker: where the whole lines end, if something follows them.
///
/// # Errors
/// When it cannot be read.
pub fn check_file(path: &Path, checker: &mut Checker) -> io::Result<Option<u64>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut whole) = (Vec::new(), 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        let Some(content) = line.strip_suffix(b"\n") else { return Ok(Some(whole)) };
        checker.add(content);
        whole += line.len() as u64;
        line.clear();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { file_bytes: 500, files_kept: 2 };

    fn open(dir: &Path) -> Files {
        Files::open(dir, BOUNDS).unwrap()
    }

    fn add(files: &mut Files, n: u64) {
        files.add(&serde_json::json!({ "n": n })).unwrap();
        files.flush().unwrap();
    }

    fn check(dir: &Path, before: Option<Link>) -> (u64, Option<super::super::chain::Broken>) {
        let mut checker = Checker::after(before);
        let mut lines = 0;
        for number in numbers(dir).unwrap() {
            assert_eq!(check_file(&path(dir, number), &mut checker).unwrap(), None);
            lines += fs::read_to_string(path(dir, number)).unwrap().lines().count() as u64;
        }
        (lines, checker.broken().cloned())
    }

    #[test]
    fn the_chain_goes_on_over_files_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        for start in [0, 4] {
            let mut files = open(dir.path());
            (start..start + 4).for_each(|n| add(&mut files, n));
            files.sync().unwrap();
        }
        assert!(numbers(dir.path()).unwrap().len() > 1);
        assert_eq!(check(dir.path(), Some(Link::start())), (8, None));
    }

    #[test]
    fn the_oldest_files_go_and_the_rest_still_follow_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = open(dir.path());
        (0..100).for_each(|n| add(&mut files, n));
        let kept = numbers(dir.path()).unwrap();
        assert_eq!(kept.len(), BOUNDS.files_kept + 1);
        assert!(kept[0] > 1);
        assert_eq!(check(dir.path(), None).1, None);
        for number in &kept[..BOUNDS.files_kept] {
            assert!(fs::metadata(path(dir.path(), *number)).unwrap().len() >= BOUNDS.file_bytes);
        }
    }

    #[test]
    fn a_torn_last_line_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = open(dir.path());
        (0..3).for_each(|n| add(&mut files, n));
        let first = path(dir.path(), 1);
        let whole = fs::metadata(&first).unwrap().len();
        append_to(&first).unwrap().write_all(b"{\"v\":1,\"previous\":\"00").unwrap();
        let mut files = open(dir.path());
        assert_eq!(fs::metadata(&first).unwrap().len(), whole);
        add(&mut files, 3);
        assert_eq!(check(dir.path(), Some(Link::start())), (4, None));
    }

    #[test]
    fn lines_that_cannot_be_written_leave_no_part_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = open(dir.path());
        add(&mut files, 0);
        let working = std::mem::replace(&mut files.file, File::open(path(dir.path(), 1)).unwrap());
        files.add(&serde_json::json!({ "n": 1 })).unwrap();
        assert!(files.flush().is_err(), "the file is open for reading alone");
        files.file = working;
        add(&mut files, 2);
        assert_eq!(check(dir.path(), Some(Link::start())), (2, None));
    }
}
