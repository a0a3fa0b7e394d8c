//! How far the journal's files go at one moment: for reading and copying them while the node writes on.
//!
//! Files only grow and are removed by checkpoints, so what stands up to the extent stays as it is while checkpoints wait.
//!
//! Not here: writing; see [`super`].

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::{Journal, JournalError, Position, ReplayError, Visit, checkpoint};

/// The journal's files at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// The files, in the order in which they are read.
    pub files: Vec<JournalFile>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalFile {
    /// Its name in the folder.
    pub name: String,
    /// How many of its bytes belong to the extent.
    pub bytes: u64,
}

/// What reading an extent found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The position after the last record.
    pub position: Position,
    /// The journal's identity.
    pub journal: Option<[u8; 16]>,
}

impl Journal {
    /// How far the files go now.
    ///
    /// # Errors
    /// When the checkpoint cannot be inspected.
    pub fn extent(&self) -> Result<Extent, JournalError> {
        let mut files = Vec::new();
        if let Some(checkpoint) = &self.checkpoint {
            let bytes = fs::metadata(&checkpoint.path).map_err(JournalError::io("inspect", &checkpoint.path))?.len();
            files.push(JournalFile { name: name_of(&checkpoint.path), bytes });
        }
        files.extend(self.segments.iter().map(|segment| JournalFile { name: name_of(&segment.path), bytes: segment.bytes }));
        Ok(Extent { files })
    }
}

impl Extent {
    /// How far the files in the folder `dir` go, which nobody writes to.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn of_folder(dir: &Path) -> Result<Self, JournalError> {
        let (mut checkpoints, mut segments) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(dir).map_err(JournalError::io("list", dir))? {
            let entry = entry.map_err(JournalError::io("list", dir))?;
            let bytes = entry.metadata().map_err(JournalError::io("inspect", &entry.path()))?.len();
            let file = JournalFile { name: name_of(&entry.path()), bytes };
            if checkpoint_of(&file.name).is_some() {
                checkpoints.push(file);
            } else if segment_of(&file.name).is_some() {
                segments.push(file);
            }
        }
        checkpoints.sort_by_key(|file| checkpoint_of(&file.name));
        segments.sort_by_key(|file| segment_of(&file.name));
        let files = checkpoints.pop().into_iter().chain(segments).collect();
        Ok(Self { files })
    }

    /// Hands all changes of the files in the folder `dir` to `visit`, in order. Changes nothing; a last record that is torn was
    /// never acknowledged and is passed over.
    ///
    /// # Errors
    /// When a file is damaged, or when `visit` fails.
    pub fn read(&self, dir: &Path, visit: &mut Visit<'_>) -> Result<Read, ReplayError> {
        let mut chain = Chain::default();
        for (place, file) in self.files.iter().enumerate() {
            let path = dir.join(&file.name);
            if checkpoint_of(&file.name).is_some() {
                let (_, header) = checkpoint::inspect(&path)?;
                chain = Chain::after(header.journal, header.position);
                checkpoint::replay(&path, visit)?;
                continue;
            }
            let Some(mut segment) = chain.open(&path, Some(file.bytes), place + 1 == self.files.len())? else { continue };
            while let Some(position) = segment.step()? {
                let changes = serde_json::from_slice(segment.payload()).map_err(|error| segment.damaged(&error.to_string()))?;
                visit(Some(position), changes)?;
            }
        }
        Ok(Read { position: chain.position(), journal: chain.journal() })
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn segment_of(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok()
}

pub(super) fn checkpoint_of(name: &str) -> Option<u64> {
    name.strip_prefix("checkpoint-")?.parse().ok()
}
