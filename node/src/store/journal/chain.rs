//! Reading segments one after the other: how they follow each other, and what a torn end is.
//!
//! Not here: which files there are, and what becomes of their records.

use std::path::Path;

use super::frame::{Frames, Kind, Next};
use super::{JournalError, Position};

/// How far a journal was read.
#[derive(Debug, Default)]
pub(super) struct Chain {
    journal: Option<[u8; 16]>,
    position: Position,
    /// Whether a segment was read that goes on at the start, after which each must go on where the one before it ended.
    goes_on: bool,
}

/// A segment that goes on where the chain is.
pub(super) struct Reading<'a> {
    chain: &'a mut Chain,
    frames: Frames,
    before: Position,
    is_last: bool,
    torn: Option<&'static str>,
}

impl Chain {
    /// What follows a checkpoint of this journal at this position.
    pub(super) fn after(journal: [u8; 16], position: Position) -> Self {
        Self { journal: Some(journal), position, goes_on: false }
    }

    /// The journal's identity, when a file said it.
    pub(super) const fn journal(&self) -> Option<[u8; 16]> {
        self.journal
    }

    /// The position after the last record.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// Starts to read the next segment, as far as `end` if that is given; none if a checkpoint stands for it.
    ///
    /// # Errors
    /// When it does not go on here, or cannot be read.
    pub(super) fn open(&mut self, path: &Path, end: Option<u64>, is_last: bool) -> Result<Option<Reading<'_>>, JournalError> {
        let (mut frames, header) = Frames::open(path, Kind::Segment)?;
        if let Some(end) = end {
            frames.end_at(end);
        }
        if self.journal.is_some_and(|journal| journal != header.journal) {
            return Err(frames.damaged("it belongs to another journal"));
        }
        self.journal = Some(header.journal);
        if !self.goes_on && header.position.sequence < self.position.sequence {
            return Ok(None);
        }
        if header.position != self.position {
            let (has, wants) = (header.position.sequence + 1, self.position.sequence + 1);
            return Err(frames.damaged(&format!("it starts with record {has}, but record {wants} comes next; a file is missing")));
        }
        self.goes_on = true;
        Ok(Some(Reading { before: self.position, chain: self, frames, is_last, torn: None }))
    }
}

impl Reading<'_> {
    /// Reads a record: its position, or none at the end. The last record of the last segment may be torn: it was never
    /// acknowledged, and is not there.
    ///
    /// # Errors
    /// When any other record is bad.
    pub(super) fn step(&mut self) -> Result<Option<Position>, JournalError> {
        let sequence = self.chain.position.sequence + 1;
        match self.frames.next(sequence)? {
            Next::Frame { crc, .. } => self.chain.position = Position { sequence, crc },
            Next::End => return Ok(None),
            Next::Bad(reason) => {
                if !self.is_last || self.frames.has_frame_later(sequence)? {
                    return Err(self.frames.damaged(reason));
                }
                self.torn = Some(reason);
                return Ok(None);
            }
        }
        Ok(Some(self.chain.position))
    }

    /// The content of the record that was read.
    pub(super) fn payload(&self) -> &[u8] {
        self.frames.payload()
    }

    /// An error that names this file and the place in it.
    pub(super) fn damaged(&self, reason: &str) -> JournalError {
        self.frames.damaged(reason)
    }

    /// The position before the first record.
    pub(super) const fn before(&self) -> Position {
        self.before
    }

    /// How many bytes of the file were read as records, and the header.
    pub(super) const fn bytes(&self) -> u64 {
        self.frames.offset()
    }

    /// Cuts off a torn last record, durably.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn cut_off_torn(&self) -> Result<(), JournalError> {
        let Some(reason) = self.torn else { return Ok(()) };
        self.frames.cut_off()?;
        tracing::warn!(
            sequence = self.chain.position.sequence + 1,
            offset = self.frames.offset(),
            bytes = self.frames.bytes() - self.frames.offset(),
            reason,
            "cut off the journal's torn last record; it was never acknowledged"
        );
        Ok(())
    }
}
