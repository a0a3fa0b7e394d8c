//! The bytes of journal files: a header, then frames.
//!
//! | bytes | header (all integers big-endian) |
//! |--:|---|
//! | 4 | `HGJL` (segment) or `HGCP` (checkpoint) |
//! | 4 | format version, 2 |
//! | 16 | identity of the journal, random |
//! | 8 + 4 | position: sequence number and CRC of the record before the first (segment), or of the last one that the state includes (checkpoint) |
//! | 4 | CRC-32C of the above |
//!
//! | bytes | frame |
//! |--:|---|
//! | 4 | bytes of the payload |
//! | 4 | CRC-32C of sequence number and payload |
//! | 8 | sequence number, counted up from the header's by one; from 1 in a checkpoint |
//! | … | payload: a JSON list of changes |
//!
//! JSON has no zero bytes and the length of a payload starts with one, so no payload can hold what looks like a frame.
//!
//! Not here: which files there are; see [`super`].

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{JournalError, Position};
use crate::store::records::Change;

/// The most bytes of a payload; under 2^24, so that the length starts with a zero byte. A batch of operations ends at
/// 1 MiB, one operation may have 15 MiB.
pub(super) const PAYLOAD_BYTES_MAX: usize = (16 << 20) - 1;

/// Raised whenever records change so that an older program would misread them.
const FORMAT: u32 = 2;
pub(super) const HEADER_BYTES: usize = 40;
pub(super) const FRAME_HEADER_BYTES: usize = 16;

/// What a journal file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Segment,
    Checkpoint,
}

impl Kind {
    const fn magic(self) -> &'static [u8; 4] {
        match self {
            Self::Segment => b"HGJL",
            Self::Checkpoint => b"HGCP",
        }
    }
}

/// The first bytes of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) journal: [u8; 16],
    pub(super) position: Position,
}

impl Header {
    pub(super) fn to_bytes(self, kind: Kind) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(kind.magic());
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&self.journal);
        bytes.extend_from_slice(&self.position.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.position.crc.to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEADER_BYTES], kind: Kind) -> Result<Self, String> {
        let (content, crc) = bytes.split_at(HEADER_BYTES - 4);
        if &bytes[..4] != kind.magic() {
            return Err("it does not start as a journal file".into());
        }
        let format = be32(&bytes[4..8]);
        if format != FORMAT {
            return Err(format!("it has format {format}, this program reads {FORMAT}; use the program that wrote it"));
        }
        if crc32c::crc32c(content) != be32(crc) {
            return Err("the checksum of its header is wrong".into());
        }
        let mut journal = [0; 16];
        journal.copy_from_slice(&bytes[8..24]);
        let position = Position { sequence: be64(&bytes[24..32]), crc: be32(&bytes[32..36]) };
        Ok(Self { journal, position })
    }
}

/// A frame of these changes, ready to be written, and its CRC.
pub(super) fn encode(sequence: u64, changes: &[Change]) -> Result<(Vec<u8>, u32), JournalError> {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    serde_json::to_writer(&mut frame, changes).map_err(|error| JournalError::Unwritable(error.to_string()))?;
    let bytes = frame.len() - FRAME_HEADER_BYTES;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= PAYLOAD_BYTES_MAX);
    let Some(length) = length else {
        return Err(JournalError::Unwritable(format!("it has {bytes} bytes, more than {PAYLOAD_BYTES_MAX}")));
    };
    frame[8..16].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&frame[8..]);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[4..8].copy_from_slice(&crc.to_be_bytes());
    Ok((frame, crc))
}

/// A journal file, read from the front.
pub(super) struct Frames {
    path: PathBuf,
    file: BufReader<File>,
    offset: u64,
    bytes: u64,
    payload: Vec<u8>,
}

/// What comes next in a journal file.
pub(super) enum Next<'a> {
    /// A good frame.
    Frame { crc: u32, payload: &'a [u8] },
    /// The file ends here, between frames.
    End,
    /// What stands here is no good frame.
    Bad(&'static str),
}

impl Frames {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path, kind: Kind) -> Result<(Self, Header), JournalError> {
        let file = File::open(path).map_err(JournalError::io("open", path))?;
        let bytes = file.metadata().map_err(JournalError::io("inspect", path))?.len();
        let mut frames = Self { path: path.to_owned(), file: BufReader::new(file), offset: 0, bytes, payload: Vec::new() };
        let mut header = [0; HEADER_BYTES];
        if bytes < HEADER_BYTES as u64 {
            return Err(frames.damaged("it is shorter than a header"));
        }
        frames.read(&mut header)?;
        let header = Header::parse(&header, kind).map_err(|reason| frames.damaged(&reason))?;
        Ok((frames, header))
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Cuts the file off where the bad frame starts, durably.
    pub(super) fn cut_off(&self) -> Result<(), JournalError> {
        let cut = || {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            file.set_len(self.offset)?;
            file.sync_all()
        };
        cut().map_err(JournalError::io("cut the torn end off", &self.path))
    }

    /// Reads no further than to this byte.
    pub(super) fn end_at(&mut self, bytes: u64) {
        self.bytes = self.bytes.min(bytes);
    }

    /// The payload of the last good frame.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Where the next frame starts.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the whole file.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An error that names this file and the place in it.
    pub(super) fn damaged(&self, reason: &str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), offset: self.offset, reason: reason.to_owned() }
    }

    /// Reads the next frame, which must have this sequence number. After a bad one, the offset still is its start.
    pub(super) fn next(&mut self, sequence: u64) -> Result<Next<'_>, JournalError> {
        let left = self.bytes - self.offset;
        if left == 0 {
            return Ok(Next::End);
        }
        if left < FRAME_HEADER_BYTES as u64 {
            return Ok(Next::Bad("the record's header is cut off"));
        }
        let start = self.offset;
        let mut header = [0; FRAME_HEADER_BYTES];
        self.read(&mut header)?;
        let length = be32(&header[..4]) as usize;
        let crc = be32(&header[4..8]);
        let bad = if length == 0 || length > PAYLOAD_BYTES_MAX {
            Some("the record's length is impossible")
        } else if length as u64 > left - FRAME_HEADER_BYTES as u64 {
            Some("the record is cut off")
        } else {
            let mut payload = std::mem::take(&mut self.payload);
            payload.resize(length, 0);
            let read = self.read(&mut payload);
            self.payload = payload;
            read?;
            let found = crc32c::crc32c_append(crc32c::crc32c(&header[8..]), &self.payload);
            (found != crc || be64(&header[8..]) != sequence).then_some("the record's checksum or number is wrong")
        };
        if let Some(reason) = bad {
            self.offset = start;
            return Ok(Next::Bad(reason));
        }
        Ok(Next::Frame { crc, payload: &self.payload })
    }

    /// Whether a good frame with a number from `sequence` on stands anywhere after the bad one at the offset.
    pub(super) fn has_frame_later(&self, sequence: u64) -> Result<bool, JournalError> {
        let mut rest = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            io::Seek::seek(&mut file, io::SeekFrom::Start(self.offset + 1))?;
            file.read_to_end(&mut rest)
        });
        read.map_err(JournalError::io("read", &self.path))?;
        let is_frame = |start: usize| {
            let header = rest.get(start..start + FRAME_HEADER_BYTES)?;
            let length = be32(&header[..4]) as usize;
            let later = length > 0 && length <= PAYLOAD_BYTES_MAX && be64(&header[8..]) >= sequence;
            let checked = rest.get(start + 8..start + FRAME_HEADER_BYTES + length).filter(|_| later)?;
            (crc32c::crc32c(checked) == be32(&header[4..8])).then_some(())
        };
        Ok((0..rest.len()).any(|start| rest[start] == 0 && is_frame(start).is_some()))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), JournalError> {
        self.file.read_exact(into).map_err(JournalError::io("read", &self.path))?;
        self.offset += into.len() as u64;
        Ok(())
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn be64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}
