//! Records that were read lately, in memory, so that most look-ups need neither sled nor a thread that may block.
//!
//! What it gives out is always the state of the index: before a change begins, its keys are removed and nothing is kept
//! until it has ended ([`RecordCache::change`]). A reader names the moment before it read ([`RecordCache::moment`]); what
//! it read is kept only if no change began since.
//!
//! Not here: ranges of records, which are always read from the index.

use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Bytes of keys and values that are kept, with what keeping them costs: room for some ten thousand records.
const BYTES_MAX: u64 = 4 << 20;

/// What a kept record costs besides key and value, in bytes, about.
const RECORD_COST_BYTES: u64 = 128;

/// A record's value, or that there is none.
type Kept = Option<Bytes>;

/// The bounded memory of one index.
#[derive(Debug)]
pub(super) struct RecordCache {
    kept: Cache<Vec<u8>, Kept, Cost>,
    /// How often a change began or ended; odd while one is under way.
    changes: RwLock<u64>,
}

/// A moment between changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

#[derive(Clone, Debug)]
struct Cost;

impl Weighter<Vec<u8>, Kept> for Cost {
    fn weight(&self, key: &Vec<u8>, value: &Kept) -> u64 {
        RECORD_COST_BYTES + key.len() as u64 + value.as_ref().map_or(0, |value| value.len() as u64)
    }
}

impl RecordCache {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self::with_capacity(BYTES_MAX)
    }

    fn with_capacity(bytes_max: u64) -> Self {
        let items = usize::try_from(bytes_max / (4 * RECORD_COST_BYTES)).unwrap_or(usize::MAX);
        Self { kept: Cache::with_weighter(items, bytes_max, Cost), changes: RwLock::new(0) }
    }

    /// What is known of a record; none if nothing is.
    pub(super) fn get(&self, key: &[u8]) -> Option<Kept> {
        self.kept.get(key)
    }

    /// The moment before a record is read from the index.
    pub(super) fn moment(&self) -> Moment {
        Moment(*self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what was read after `read`, unless it may be old by now.
    pub(super) fn keep(&self, key: Vec<u8>, value: Kept, read: Moment) {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        if *changes == read.0 && changes.is_multiple_of(2) {
            self.kept.insert(key, value);
        }
    }

    /// Carries out a change of the index that touches `keys`.
    pub(super) fn change<'k, T>(&self, keys: impl Iterator<Item = &'k [u8]>, change: impl FnOnce() -> T) -> T {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        for key in keys {
            self.kept.remove(key);
        }
        drop(changes);
        let done = change();
        *self.changes.write().unwrap_or_else(PoisonError::into_inner) += 1;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn value(text: &'static str) -> Kept {
        Some(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn keeps_values_and_that_there_is_none() {
        let cache = RecordCache::new();
        assert!(cache.get(b"tag a").is_none());
        cache.keep(b"tag a".to_vec(), value("1"), cache.moment());
        cache.keep(b"tag b".to_vec(), None, cache.moment());
        assert_eq!((cache.get(b"tag a"), cache.get(b"tag b")), (Some(value("1")), Some(None)));
        cache.change([&b"tag a"[..]].into_iter(), || assert!(cache.get(b"tag a").is_none()));
        assert_eq!((cache.get(b"tag a"), cache.get(b"tag b")), (None, Some(None)));
    }

    #[test]
    fn what_was_read_before_or_during_a_change_is_not_kept() {
        let cache = RecordCache::new();
        let before = cache.moment();
        let during = cache.change(std::iter::empty(), || {
            cache.keep(b"tag a".to_vec(), value("old"), before);
            cache.keep(b"tag a".to_vec(), value("either"), cache.moment());
            cache.moment()
        });
        for moment in [before, during] {
            cache.keep(b"tag a".to_vec(), value("old"), moment);
        }
        assert!(cache.get(b"tag a").is_none());
        cache.keep(b"tag a".to_vec(), value("new"), cache.moment());
        assert_eq!(cache.get(b"tag a"), Some(value("new")));
    }

    #[test]
    fn takes_no_more_than_its_bytes() {
        let cache = RecordCache::with_capacity(64 << 10);
        for n in 0..10_000 {
            cache.keep(format!("tag {n}").into_bytes(), Some(vec![0; 200].into()), cache.moment());
        }
        assert!(cache.kept.weight() <= 64 << 10);
        assert!(!cache.kept.is_empty());
        cache.keep(b"tag large".to_vec(), Some(vec![0; 65 << 10].into()), cache.moment());
        assert!(cache.kept.weight() <= 64 << 10);
    }

    #[test]
    fn readers_that_race_with_changes_never_see_what_is_older_than_the_last_one_that_ended() {
        const CHANGES: u64 = 20_000;
        let (cache, index, ended) = (RecordCache::new(), AtomicU64::new(0), AtomicU64::new(0));
        let read = || {
            if let Some(kept) = cache.get(b"counter") {
                return kept;
            }
            let moment = cache.moment();
            let found = Some(Bytes::copy_from_slice(&index.load(Ordering::SeqCst).to_be_bytes()));
            cache.keep(b"counter".to_vec(), found.clone(), moment);
            found
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let oldest = ended.load(Ordering::SeqCst);
                        let found = u64::from_be_bytes(read().unwrap().as_ref().try_into().unwrap());
                        assert!(found >= oldest, "read {found} after {oldest}");
                        if oldest == CHANGES {
                            break;
                        }
                    }
                });
            }
            for n in 1..=CHANGES {
                cache.change([&b"counter"[..]].into_iter(), || index.store(n, Ordering::SeqCst));
                ended.store(n, Ordering::SeqCst);
            }
        });
    }
}
