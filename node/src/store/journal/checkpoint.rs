//! Checkpoints: all records as of one position in one file, so that older segments can go and opening stays quick.
//!
//! A checkpoint is segment-like: a header with the position that it stands for, frames numbered from 1, and an empty
//! frame as the end mark. It gets its name only when it is complete and durable.
//!
//! Not here: that the content is right, which the caller must have checked (the index keeps a sum over all records).

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::frame::{self, Frames, Header, Kind, Next};
use super::{CHECKPOINT_AFTER_BYTES, Checkpoint, Journal, JournalError, ReplayError, Visit, create_file};
use crate::store::records::{Change, IndexError};

/// About how many bytes of changes go into one frame: small against the memory of a node, large against a frame's header.
const FRAME_BYTES: usize = 256 << 10;

impl Journal {
    /// Whether a checkpoint is worth its work.
    pub fn checkpoint_due(&self) -> bool {
        self.poisoned.is_none() && self.segment_bytes() >= self.checkpoint_at_bytes
    }

    /// Replaces everything before the current position by `records`, which must be the state as of it.
    ///
    /// # Errors
    /// When `records` or the file system fails; the journal goes on as before, and the next try is a segment later.
    pub fn checkpoint(&mut self, records: impl Iterator<Item = Result<Change, IndexError>>) -> Result<(), ReplayError> {
        self.checkpoint_at_bytes = self.segment_bytes() + CHECKPOINT_AFTER_BYTES;
        self.roll()?;
        let position = self.position;
        let path = self.dir.join(format!("checkpoint-{:020}", position.sequence));
        let header = Header { journal: self.id, position };
        let mut failed = None;
        let written = create_file(&path, |file| match write(file, &path, header, records) {
            Err(ReplayError::Journal(error)) => Err(error),
            Err(error) => {
                failed = Some(error);
                Err(JournalError::Unwritable("the index failed".into()))
            }
            Ok(()) => Ok(()),
        });
        if let Some(error) = failed {
            return Err(error);
        }
        written?;
        let bytes = fs::metadata(&path).map_err(JournalError::io("inspect", &path))?.len();
        let superfluous = self.segments.len() - 1;
        for segment in self.segments.drain(..superfluous) {
            remove(&segment.path);
        }
        if let Some(older) = self.checkpoint.replace(Checkpoint { path, position }) {
            remove(&older.path);
        }
        self.checkpoint_at_bytes = bytes.max(CHECKPOINT_AFTER_BYTES);
        tracing::info!(sequence = position.sequence, bytes, "wrote a checkpoint of the journal");
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// Removes a file that is no longer needed; what stays is removed at the next open or checkpoint.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, file = %path.display(), "cannot remove a superfluous journal file");
    }
}

fn write(
    file: &mut File,
    path: &Path,
    header: Header,
    records: impl Iterator<Item = Result<Change, IndexError>>,
) -> Result<(), ReplayError> {
    let mut file = BufWriter::new(file);
    let failed = || JournalError::io("write to", path);
    file.write_all(&header.to_bytes(Kind::Checkpoint)).map_err(failed())?;
    let (mut sequence, mut batch, mut bytes) = (0, Vec::new(), 0);
    let mut flush = |batch: &mut Vec<Change>| {
        sequence += 1;
        let (frame, _) = frame::encode(sequence, batch)?;
        batch.clear();
        file.write_all(&frame).map_err(failed())
    };
    for record in records {
        let record = record?;
        bytes += record.bytes();
        batch.push(record);
        if bytes >= FRAME_BYTES {
            flush(&mut batch)?;
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        flush(&mut batch)?;
    }
    flush(&mut batch)?;
    file.flush().map_err(failed())?;
    Ok(())
}

/// Reads all of a checkpoint, for its size and header.
pub(super) fn inspect(path: &Path) -> Result<(u64, Header), JournalError> {
    let (mut frames, header) = Frames::open(path, Kind::Checkpoint)?;
    walk(&mut frames, |_, _| Ok::<_, JournalError>(()))?;
    Ok((frames.bytes(), header))
}

/// Hands all of a checkpoint to `visit`.
pub(super) fn replay(path: &Path, visit: &mut Visit<'_>) -> Result<(), ReplayError> {
    let (mut frames, header) = Frames::open(path, Kind::Checkpoint)?;
    walk(&mut frames, |payload, damaged| {
        let changes = serde_json::from_slice(payload).map_err(|error| damaged(&error.to_string()))?;
        visit(None, changes).map_err(ReplayError::from)
    })?;
    Ok(visit(Some(header.position), Vec::new())?)
}

fn walk<E: From<JournalError>>(
    frames: &mut Frames,
    mut visit: impl FnMut(&[u8], &dyn Fn(&str) -> JournalError) -> Result<(), E>,
) -> Result<(), E> {
    const END: &[u8] = b"[]";
    let path = frames.path().to_owned();
    for sequence in 1.. {
        let offset = frames.offset();
        let damaged = |reason: &str| JournalError::Damaged { path: path.clone(), offset, reason: reason.to_owned() };
        match frames.next(sequence)? {
            Next::Frame { payload: END, .. } => break,
            Next::Frame { payload, .. } => visit(payload, &damaged)?,
            Next::End => return Err(damaged("the checkpoint has no end").into()),
            Next::Bad(reason) => return Err(damaged(reason).into()),
        }
    }
    Ok(())
}
