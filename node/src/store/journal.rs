//! The authority on a seed's records: an append-only, checksummed log of changes, in segments with checkpoints.
//!
//! A record is one batch of changes, written and fsynced as a whole before any of them is acknowledged, and the next
//! record is written only after that. So a crash can tear the last record alone, which nobody was told of: it is cut off
//! on the next open. Any other bad record is damage, and is reported with its file and offset, never skipped.
//!
//! | file | holds |
//! |---|---|
//! | `journal/00000001.log`, … | segments |
//! | `journal/checkpoint-<sequence>` | all records as of a position; older segments are removed then |
//!
//! After a failed fsync nothing is written any more: what the kernel still has of the file is unknown then, and a second
//! fsync would report success for lost bytes.
//!
//! Not here: look-ups ([`super::index`]), the meaning of records ([`super::embedded`]), and threads: all calls block.

mod chain;
mod checkpoint;
pub mod extent;
mod frame;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::records::Change;
use super::room;
use crate::files::sync_dir;
use chain::Chain;
use frame::{Frames, HEADER_BYTES, Header, Kind, Next};

/// A segment that has this many bytes is followed by a new one: large enough that files are few, small enough to copy.
const SEGMENT_BYTES: u64 = 64 << 20;

/// A checkpoint is due when the segments after the last one have this many bytes, or as many as the last checkpoint if
/// that is more: opening reads all of it, at about 1 GiB/s, and checkpoints stay a constant part of all writing.
const CHECKPOINT_AFTER_BYTES: u64 = 64 << 20;

/// A place in the journal: the number of its last record, and that record's checksum, which tells journals apart that
/// went different ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// How many records there were.
    pub sequence: u64,
    /// CRC-32C of the last.
    pub crc: u32,
}

/// Why the journal cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("cannot {action} {}: {message}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// What the system said.
        message: String,
    },
    /// A file does not hold what was written.
    #[error(
        "{} is damaged at byte {offset}: {reason}; stop this node, keep a copy of the folder, and restore the data directory from \
         a backup",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A batch of changes cannot be a record.
    #[error("the change cannot be written to the journal: {0}")]
    Unwritable(String),
    /// An earlier fsync failed.
    #[error("the journal takes no more changes, because {0}; check the disk, then restart this node")]
    Poisoned(String),
}

impl JournalError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { action, path: path.to_owned(), kind: error.kind(), message: error.to_string() }
    }

    /// Whether there is no room left on the disk or in the quota.
    pub const fn is_storage_full(&self) -> bool {
        match self {
            Self::Io { kind, .. } => matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Damaged { .. } | Self::Unwritable(_) | Self::Poisoned(_) => false,
        }
    }
}

/// An open journal, at its end.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    id: [u8; 16],
    checkpoint: Option<Checkpoint>,
    segments: Vec<Segment>,
    file: File,
    position: Position,
    checkpoint_at_bytes: u64,
    poisoned: Option<String>,
}

#[derive(Debug)]
struct Checkpoint {
    path: PathBuf,
    position: Position,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    number: u64,
    before: Position,
    bytes: u64,
}

/// What [`Journal::replay`] hands over: changes in order, and the position that they lead to. The parts of a checkpoint
/// lead nowhere until the last one.
pub type Visit<'a> = dyn FnMut(Option<Position>, Vec<Change>) -> Result<(), super::records::IndexError> + 'a;

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The position to start from is not one of this journal.
    #[error("the position is not one of this journal")]
    OtherHistory,
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The visitor failed.
    #[error(transparent)]
    Index(#[from] super::records::IndexError),
}

impl Journal {
    /// Opens the journal in the folder `dir`, or makes a new one; reads all of it, and cuts off a torn last record.
    ///
    /// # Errors
    /// When a file is damaged, missing or cannot be read; nothing was changed then.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        fs::create_dir_all(dir).map_err(JournalError::io("create", dir))?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent).map_err(JournalError::io("sync", parent))?;
        }
        let Files { checkpoint, mut superfluous, segments } = Files::list(dir)?;
        let base = match checkpoint {
            Some(path) => {
                let (bytes, header) = checkpoint::inspect(&path)?;
                Some((Checkpoint { path, position: header.position }, bytes, header.journal))
            }
            None => None,
        };
        let mut chain = base.as_ref().map_or_else(Chain::default, |(checkpoint, _, id)| Chain::after(*id, checkpoint.position));
        let mut live = Vec::new();
        for (place, (number, path)) in segments.iter().enumerate() {
            let Some(mut segment) = chain.open(path, None, place + 1 == segments.len())? else {
                superfluous.push(path.clone());
                continue;
            };
            while segment.step()?.is_some() {}
            segment.cut_off_torn()?;
            live.push(Segment { path: path.clone(), number: *number, before: segment.before(), bytes: segment.bytes() });
        }
        let id = match chain.journal() {
            Some(id) => id,
            None => new_id()?,
        };
        let position = chain.position();
        let number = segments.last().map_or(0, |(number, _)| *number);
        let last = match live.pop() {
            Some(last) => last,
            None => create_segment(dir, number + 1, Header { journal: id, position })?,
        };
        let file = OpenOptions::new().write(true).open(&last.path).map_err(JournalError::io("open", &last.path))?;
        live.push(last);
        for path in &superfluous {
            checkpoint::remove(path);
        }
        let checkpoint_at_bytes = base.as_ref().map_or(0, |(_, bytes, _)| *bytes).max(CHECKPOINT_AFTER_BYTES);
        let checkpoint = base.map(|(checkpoint, ..)| checkpoint);
        Ok(Self { dir: dir.to_owned(), id, checkpoint, segments: live, file, position, checkpoint_at_bytes, poisoned: None })
    }

    /// The journal's identity, which its restored copies share.
    pub const fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The position after the last record.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Writes one record, durably.
    ///
    /// # Errors
    /// When it cannot be written; it is as if it had never been tried. Not so after a failed fsync: every later call fails,
    /// and the next [`Journal::open`] may find the record, or not.
    pub fn append(&mut self, changes: &[Change]) -> Result<Position, JournalError> {
        if let Some(reason) = &self.poisoned {
            return Err(JournalError::Poisoned(reason.clone()));
        }
        room::for_records(&self.dir).map_err(JournalError::io("write to", &self.dir))?;
        let (frame, crc) = frame::encode(self.position.sequence + 1, changes)?;
        if self.last()?.bytes >= SEGMENT_BYTES {
            self.roll()?;
        }
        let Segment { path, bytes, .. } = self.last()?;
        let (path, end) = (path.clone(), *bytes);
        if let Err(error) = self.file.write_all_at(&frame, end) {
            if let Err(error) = self.file.set_len(end) {
                self.poison(format!("a half-written record could not be removed from {}: {error}", path.display()));
            }
            return Err(JournalError::io("write to", &path)(error));
        }
        if let Err(error) = self.file.sync_data() {
            self.poison(format!("fsync of {} failed: {error}", path.display()));
            return Err(JournalError::io("sync", &path)(error));
        }
        self.position = Position { sequence: self.position.sequence + 1, crc };
        if let Some(last) = self.segments.last_mut() {
            last.bytes = end + frame.len() as u64;
        }
        Ok(self.position)
    }

    /// Hands all changes after the position `after` to `visit`, in order; from the very first if it is none.
    ///
    /// # Errors
    /// When `after` is not a position of this journal, when a file is damaged, or when `visit` fails.
    pub fn replay(&self, after: Option<Position>, visit: &mut Visit<'_>) -> Result<(), ReplayError> {
        let mut known = after.is_none();
        let base = self.checkpoint.as_ref().map(|checkpoint| checkpoint.position).unwrap_or_default();
        match (&self.checkpoint, after) {
            (Some(checkpoint), None) => checkpoint::replay(&checkpoint.path, visit)?,
            (_, Some(after)) => known |= after == base,
            (None, None) => {}
        }
        for segment in &self.segments {
            let (mut frames, _) = Frames::open(&segment.path, Kind::Segment)?;
            let mut sequence = segment.before.sequence;
            loop {
                let (crc, changes) = match frames.next(sequence + 1)? {
                    Next::Frame { crc, payload } if known => (crc, serde_json::from_slice::<Vec<Change>>(payload)),
                    Next::Frame { crc, .. } => (crc, Ok(Vec::new())),
                    Next::End => break,
                    Next::Bad(reason) => return Err(frames.damaged(reason).into()),
                };
                sequence += 1;
                let position = Position { sequence, crc };
                if known {
                    let changes = changes.map_err(|error| frames.damaged(&error.to_string()))?;
                    visit(Some(position), changes)?;
                }
                known |= after == Some(position);
            }
        }
        if known { Ok(()) } else { Err(ReplayError::OtherHistory) }
    }

    fn last(&self) -> Result<&Segment, JournalError> {
        self.segments.last().ok_or_else(|| JournalError::Poisoned("it has no segment".into()))
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        let number = self.last()?.number + 1;
        let segment = create_segment(&self.dir, number, Header { journal: self.id, position: self.position })?;
        self.file = OpenOptions::new().write(true).open(&segment.path).map_err(JournalError::io("open", &segment.path))?;
        self.segments.push(segment);
        Ok(())
    }

    fn poison(&mut self, reason: String) {
        tracing::error!(reason, "the journal takes no more changes");
        self.poisoned = Some(reason);
    }
}

/// The journal's files by name.
struct Files {
    checkpoint: Option<PathBuf>,
    superfluous: Vec<PathBuf>,
    segments: Vec<(u64, PathBuf)>,
}

impl Files {
    fn list(dir: &Path) -> Result<Self, JournalError> {
        let (mut checkpoints, mut segments) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(dir).map_err(JournalError::io("list", dir))? {
            let path = entry.map_err(JournalError::io("list", dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(number) = extent::segment_of(name) {
                segments.push((number, path));
            } else if let Some(sequence) = extent::checkpoint_of(name) {
                checkpoints.push((sequence, path));
            } else if name.ends_with(TEMPORARY) {
                fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
            }
        }
        segments.sort();
        checkpoints.sort();
        let checkpoint = checkpoints.pop().map(|(_, path)| path);
        Ok(Self { checkpoint, superfluous: checkpoints.into_iter().map(|(_, path)| path).collect(), segments })
    }
}

/// The end of the names of files that are still being written.
const TEMPORARY: &str = ".part";

/// Makes a file with this content under its name, durably and at once.
fn create_file(path: &Path, write: impl FnOnce(&mut File) -> Result<(), JournalError>) -> Result<(), JournalError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary).map_err(JournalError::io("create", &temporary))?;
    let written = write(&mut file).and_then(|()| file.sync_all().map_err(JournalError::io("sync", &temporary)));
    if let Err(error) = written {
        let removed = fs::remove_file(&temporary);
        tracing::debug!(?removed, file = %temporary.display(), "gave up a half-written file");
        return Err(error);
    }
    fs::rename(&temporary, path).map_err(JournalError::io("rename", &temporary))?;
    let folder = path.parent().unwrap_or(path);
    sync_dir(folder).map_err(JournalError::io("sync", folder))
}

fn create_segment(dir: &Path, number: u64, header: Header) -> Result<Segment, JournalError> {
    let path = dir.join(format!("{number:08}.log"));
    let content = header.to_bytes(Kind::Segment);
    create_file(&path, |file| io::Write::write_all(file, &content).map_err(JournalError::io("write to", &path)))?;
    Ok(Segment { path, number, before: header.position, bytes: HEADER_BYTES as u64 })
}

fn new_id() -> Result<[u8; 16], JournalError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| JournalError::Unwritable(format!("no random number for its identity: {error}")))?;
    Ok(id)
}

#[cfg(test)]
mod tests;
