//! The journal's content in sled, for look-ups. Never the authority: whatever is wrong with it, it is built again.
//!
//! It keeps a mark: the journal and position that it stands for, and a sum over all its records, so that a record that
//! sled lost is noticed before a checkpoint could make the loss lasting. sled panics on some damage; every call into it is
//! guarded.
//!
//! Not here: writing the journal ([`super::journal`]), and when to do what (`writer`). All calls block.

mod cache;

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::journal::extent::Read;
use super::journal::{Journal, Position, ReplayError};
use super::records::{Change, Found, IndexError, Range, Records, Shared, Table, decode};
use super::room;
use cache::{Kept, RecordCache, Value};

/// Bytes of sled's page cache. sled takes a multiple of it, and a whole node shall stay below 64 MiB.
const CACHE_BYTES: u64 = 4 << 20;

/// How often a page is touched again after a record was read from it. sled has 256 parts, each of which looks whether it has
/// too much in memory when pages were touched 64 times: reading 64 pages of each once would keep them all, some 50 MiB.
const TOUCHES: usize = 3;

/// Of how many records read in a row one's page is touched again: a page has from 8 to 16.
const RECORDS_PER_TOUCH: u64 = 4;

/// How long to wait for a process that is ending to let go of sled's own lock. The data directory's lock is held already.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// Changes that are put into sled before it is flushed: unflushed ones take memory, and are replayed after a crash. sled's own
/// thread that flushes every half second is not wanted: it also moves pages together, and once half of a large file is free
/// it moves the same pages around for ever, a MiB of writes a second on a seed that nobody uses.
const CHANGES_PER_FLUSH: usize = 1000;

/// The format of keys, values and mark. Another one is built again.
const FORMAT: u32 = 2;

/// The key of the mark; no table's name starts with it.
const MARK: &[u8] = b"!mark";

/// What an index stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    format: u32,
    journal: [u8; 16],
    position: Option<Position>,
    entries: u64,
    sum: u128,
}

/// An open index.
#[derive(Debug)]
pub struct Index {
    db: sled::Db,
    mark: Mutex<Mark>,
    /// Changes since the last flush.
    unflushed: AtomicUsize,
    cache: RecordCache,
}

/// An index as one read sees it: all of it, or without blocking what of it is in memory.
#[derive(Debug)]
pub struct View<'a> {
    index: &'a Index,
    may_block: bool,
    missed: Cell<bool>,
}

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal ends before records that the index has: what was acknowledged is gone.
    #[error(
        "the journal in {} ends at record {found}, but the index beside it has {records}: acknowledged records were lost; restore the \
         data directory from a backup, or remove {} to go on with what is left",
        dir.join("journal").display(),
        dir.join(FOLDER).display()
    )]
    JournalLost {
        /// The data directory.
        dir: PathBuf,
        /// How many records the journal has.
        found: u64,
        /// How many records the index stands for.
        records: u64,
    },
    /// The journal cannot be read, or sled fails even in an empty folder.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A folder cannot be made, moved or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong in a data directory whose index was inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The index, which the journal can make again.
    #[error("the index {}", .0.0)]
    Index(#[from] IndexError),
    /// The journal, which nothing can.
    #[error(transparent)]
    Journal(#[from] OpenError),
}

/// The index's folder in the data directory.
const FOLDER: &str = "index";

/// Where a broken index is put until the new one is complete.
const BROKEN_FOLDER: &str = "index.broken";

impl Index {
    /// Opens the index in the data directory `dir` and brings it to the end of `journal`; builds it again if it is missing,
    /// broken, incomplete or of another history.
    ///
    /// # Errors
    /// When the journal fails, or when the index fails even after it was built again.
    pub fn open(dir: &Path, journal: &Journal) -> Result<Self, OpenError> {
        let folder = dir.join(FOLDER);
        if !folder.exists() {
            return Self::rebuild(dir, journal);
        }
        let opened = Self::open_folder(&folder, journal.id()).and_then(|index| {
            index.verify()?;
            Ok(index)
        });
        let reason = match opened {
            Ok(index) => {
                let mark = index.mark();
                let records = mark.position.unwrap_or_default().sequence;
                let found = journal.position().sequence;
                if records > found {
                    return Err(OpenError::JournalLost { dir: dir.to_owned(), found, records });
                }
                match index.catch_up(journal, &mark) {
                    Ok(()) => return Ok(index),
                    Err(ReplayError::Journal(error)) => return Err(ReplayError::Journal(error).into()),
                    Err(error @ (ReplayError::OtherHistory | ReplayError::Index(_))) => error.to_string(),
                }
            }
            Err(error) => error.0,
        };
        tracing::warn!(reason, "the index cannot be used and is built again from the journal");
        Self::rebuild(dir, journal)
    }

    /// Whether there is an index in the data directory `dir`.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FOLDER).exists()
    }

    /// Looks whether the index in the data directory `dir`, which nobody uses, is whole and of the journal that was read.
    ///
    /// # Errors
    /// With what is wrong: with the journal, if that ends before the index does, else with the index.
    pub fn inspect(dir: &Path, read: &Read) -> Result<(), InspectError> {
        let folder = dir.join(FOLDER);
        if !folder.exists() {
            return Err(IndexError("is missing".into()).into());
        }
        let index = Self::open_folder(&folder, read.journal.unwrap_or_default())?;
        index.verify()?;
        let mark = index.mark();
        let position = mark.position.unwrap_or_default();
        let (records, found) = (position.sequence, read.position.sequence);
        if records > found {
            return Err(OpenError::JournalLost { dir: dir.to_owned(), found, records }.into());
        }
        if mark.format != FORMAT || read.journal.is_some_and(|journal| journal != mark.journal) {
            return Err(IndexError("is of another journal or format".into()).into());
        }
        if records == found && position.crc != read.position.crc {
            return Err(IndexError("ends with another record than the journal".into()).into());
        }
        Ok(())
    }

    /// Builds the index from the whole journal, in place of whatever is there.
    ///
    /// # Errors
    /// When the journal fails, or sled does in an empty folder.
    pub fn rebuild(dir: &Path, journal: &Journal) -> Result<Self, OpenError> {
        let (folder, broken) = (dir.join(FOLDER), dir.join(BROKEN_FOLDER));
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { action, path, source }
        };
        room::for_index(dir).map_err(failed("build", &folder))?;
        let exists = |error: &io::Error| error.kind() != io::ErrorKind::NotFound;
        fs::remove_dir_all(&broken).or_else(|error| if exists(&error) { Err(error) } else { Ok(()) }).map_err(failed("remove", &broken))?;
        fs::rename(&folder, &broken).or_else(|error| if exists(&error) { Err(error) } else { Ok(()) }).map_err(failed("move", &folder))?;
        let index = Self::open_folder(&folder, journal.id()).map_err(ReplayError::from)?;
        index.replay(journal, None)?;
        if let Err(error) = fs::remove_dir_all(&broken).or_else(|error| if exists(&error) { Err(error) } else { Ok(()) }) {
            tracing::warn!(%error, folder = %broken.display(), "cannot remove the broken index");
        }
        tracing::info!(records = journal.position().sequence, entries = index.mark().entries, "built the index from the journal");
        Ok(index)
    }

    fn open_folder(folder: &Path, journal: [u8; 16]) -> Result<Self, IndexError> {
        let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).mode(sled::Mode::LowSpace).flush_every_ms(None);
        let give_up = Instant::now() + LOCK_WAIT;
        let db = loop {
            match guarded(|| config.open()) {
                Ok(db) => break db,
                Err(error) if error.0.contains("lock") && Instant::now() < give_up => std::thread::sleep(LOCK_RETRY),
                Err(error) => return Err(error),
            }
        };
        let mark = match guarded(|| db.get(MARK))? {
            Some(mark) => serde_json::from_slice(&mark).map_err(|error| IndexError(format!("has an unreadable mark: {error}")))?,
            None if guarded(|| Ok(db.is_empty()))? => Mark { format: FORMAT, journal, position: None, entries: 0, sum: 0 },
            None => return Err(IndexError("has records, but no mark".into())),
        };
        Ok(Self { db, mark: Mutex::new(mark), unflushed: AtomicUsize::new(0), cache: RecordCache::new() })
    }

    fn catch_up(&self, journal: &Journal, mark: &Mark) -> Result<(), ReplayError> {
        let unfinished = mark.position.is_none() && mark.entries > 0;
        if mark.format != FORMAT || mark.journal != journal.id() || unfinished {
            return Err(ReplayError::OtherHistory);
        }
        self.replay(journal, mark.position)
    }

    fn replay(&self, journal: &Journal, after: Option<Position>) -> Result<(), ReplayError> {
        journal.replay(after, &mut |position, changes| self.apply(position, &changes))?;
        Ok(self.flush()?)
    }

    /// How many journal records it stands for, and how many entries it has.
    pub fn size(&self) -> (u64, u64) {
        let mark = self.mark();
        (mark.position.unwrap_or_default().sequence, mark.entries)
    }

    /// Puts the changes of one journal record into the index, all or none, and marks the position that they lead to.
    ///
    /// # Errors
    /// When sled fails. The index is then not to be used any more.
    pub fn apply(&self, position: Option<Position>, changes: &[Change]) -> Result<(), IndexError> {
        let mut mark = self.mark();
        mark.position = position;
        let mut batch = sled::Batch::default();
        let mut newest: HashMap<Vec<u8>, Option<&[u8]>> = HashMap::new();
        for Change(table, key, value) in changes {
            let key = stored_key(*table, key);
            let value = value.as_ref().map(|value| value.get().as_bytes());
            let stored = match newest.get(&key) {
                Some(_) => None,
                None => self.get(&key)?,
            };
            if let Some(older) = newest.get(&key).copied().unwrap_or(stored.as_deref()) {
                mark.entries = mark.entries.wrapping_sub(1);
                mark.sum = mark.sum.wrapping_sub(weight(&key, older));
            }
            match value {
                Some(value) => {
                    mark.entries += 1;
                    mark.sum = mark.sum.wrapping_add(weight(&key, value));
                    batch.insert(key.as_slice(), value);
                }
                None => batch.remove(key.as_slice()),
            }
            newest.insert(key, value);
        }
        let text = serde_json::to_vec(&mark).map_err(|error| IndexError(format!("has an unwritable mark: {error}")))?;
        batch.insert(MARK, text);
        self.cache.change(newest.keys().map(Vec::as_slice), || guarded(|| self.db.apply_batch(batch)))?;
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = mark;
        let unflushed = self.unflushed.fetch_add(changes.len(), Ordering::Relaxed) + changes.len();
        if unflushed >= CHANGES_PER_FLUSH { self.flush() } else { Ok(()) }
    }

    /// Checks that all records are there and unchanged.
    ///
    /// # Errors
    /// When they are not, or when sled fails.
    pub fn verify(&self) -> Result<(), IndexError> {
        let (mut entries, mut sum) = (0_u64, 0_u128);
        for pair in self.pairs(Bound::Unbounded) {
            let (key, value) = pair?;
            if key != MARK {
                entries += 1;
                sum = sum.wrapping_add(weight(&key, &value));
            }
        }
        let mark = self.mark();
        if (entries, sum) == (mark.entries, mark.sum) {
            Ok(())
        } else {
            Err(IndexError(format!("has {entries} records that are not the {} that were put in", mark.entries)))
        }
    }

    /// All records, as changes that make them.
    pub fn records(&self) -> impl Iterator<Item = Result<Change, IndexError>> {
        self.pairs(Bound::Unbounded).filter_map(|pair| match pair {
            Ok((key, _)) if key == MARK => None,
            pair => Some(pair.and_then(|(key, value)| to_change(&key, &value))),
        })
    }

    /// Hands what was applied to the operating system.
    ///
    /// # Errors
    /// When sled fails.
    pub fn flush(&self) -> Result<(), IndexError> {
        self.unflushed.store(0, Ordering::Relaxed);
        guarded(|| self.db.flush()).map(drop)
    }

    fn mark(&self) -> Mark {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is stored from `start` on, in the order of keys, with the mark.
    fn pairs(&self, start: Bound<Vec<u8>>) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), IndexError>> {
        let mut pairs = self.db.range((start, Bound::Unbounded));
        let mut count = 0_u64;
        std::iter::from_fn(move || {
            let next = || {
                let pair = pairs.next().transpose()?;
                count += 1;
                if let Some((key, _)) = pair.as_ref().filter(|_| count.is_multiple_of(RECORDS_PER_TOUCH)) {
                    self.db.get(key)?;
                }
                Ok(pair)
            };
            guarded(next).transpose()
        })
    }

    fn kept(&self, table: Table, key: &str) -> Result<Kept, IndexError> {
        let key = stored_key(table, key);
        if let Some(kept) = self.cache.get(&key) {
            return Ok(kept);
        }
        let moment = self.cache.moment();
        let found = self.get(&key)?.as_deref().map(|raw| Arc::new(Value::new(Bytes::copy_from_slice(raw))));
        self.cache.keep(key, found.clone(), moment);
        Ok(found)
    }

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, IndexError> {
        guarded(|| {
            let found = self.db.get(key)?;
            for _ in 0..TOUCHES {
                self.db.get(key)?;
            }
            Ok(found)
        })
    }
}

impl Index {
    /// Reads with `read`, without blocking; none if it asked for something that is not in memory.
    pub fn read_memory<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, IndexError>) -> Option<Result<T, IndexError>> {
        let view = View { index: self, may_block: false, missed: Cell::new(false) };
        let result = read(&view);
        (!view.missed.get()).then_some(result)
    }

    /// Reads with `read`; blocks.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, IndexError>) -> Result<T, IndexError> {
        read(&View { index: self, may_block: true, missed: Cell::new(false) })
    }
}

impl View<'_> {
    fn miss<T>(&self) -> Result<T, IndexError> {
        self.missed.set(true);
        Err(IndexError("has to be read".into()))
    }

    fn kept(&self, table: Table, key: &str) -> Result<Kept, IndexError> {
        if self.may_block {
            return self.index.kept(table, key);
        }
        self.index.cache.get(&stored_key(table, key)).map_or_else(|| self.miss(), Ok)
    }
}

impl Records for View<'_> {
    fn raw(&self, table: Table, key: &str) -> Result<Option<Bytes>, IndexError> {
        Ok(self.kept(table, key)?.map(|value| value.raw()))
    }

    fn get_shared<T: Shared>(&self, table: Table, key: &str) -> Result<Option<Arc<T>>, IndexError> {
        self.kept(table, key)?.map(|value| value.decoded(|raw| decode(table, raw))).transpose()
    }

    fn raw_scan(&self, table: Table, range: Range<'_>) -> Result<Vec<Found>, IndexError> {
        if self.may_block { self.index.raw_scan(table, range) } else { self.miss() }
    }
}

impl Records for Index {
    fn raw(&self, table: Table, key: &str) -> Result<Option<Bytes>, IndexError> {
        Ok(self.kept(table, key)?.map(|value| value.raw()))
    }

    fn raw_scan(&self, table: Table, range: Range<'_>) -> Result<Vec<Found>, IndexError> {
        let prefix = stored_key(table, range.prefix);
        let start = match range.after {
            Some(after) => Bound::Excluded([prefix.as_slice(), after.as_bytes()].concat()),
            None => Bound::Included(prefix.clone()),
        };
        let mut found = Vec::new();
        for pair in self.pairs(start) {
            let (key, value) = pair?;
            let Some(rest) = key.strip_prefix(prefix.as_slice()) else { break };
            let rest = std::str::from_utf8(rest).map_err(|error| IndexError(format!("has an unreadable key: {error}")))?;
            if found.len() >= range.limit {
                break;
            }
            found.push((rest.to_owned(), value.to_vec()));
        }
        Ok(found)
    }
}

fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(IndexError(format!("failed: {error}"))),
        Err(_) => Err(IndexError("panicked".into())),
    }
}

fn stored_key(table: Table, key: &str) -> Vec<u8> {
    [table.name().as_bytes(), b" ", key.as_bytes()].concat()
}

fn to_change(key: &[u8], value: &[u8]) -> Result<Change, IndexError> {
    let unreadable = |error: &dyn std::fmt::Display| IndexError(format!("holds an unreadable record: {error}"));
    let key = std::str::from_utf8(key).map_err(|error| unreadable(&error))?;
    let (table, rest) = key.split_once(' ').ok_or_else(|| unreadable(&"no table"))?;
    let table: Table = serde_json::from_value(table.into()).map_err(|error| unreadable(&error))?;
    let value: Box<RawValue> = serde_json::from_slice(value).map_err(|error| unreadable(&error))?;
    Ok(Change(table, rest.to_owned(), Some(value)))
}

/// What a record adds to the sum over all of them.
fn weight(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Sha256::new();
    hasher.update((key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests;
