//! Records that were read lately, in memory, so that most look-ups need neither sled nor a thread that may block.
//!
//! What it gives out is always the state of the index: before a change begins, its keys are removed and nothing is kept
//! until it has ended ([`RecordCache::change`]). A reader names the moment before it read ([`RecordCache::moment`]); what
//! it read is kept only if no change began since.
//!
//! Not here: ranges of records, which are always read from the index.

use std::any::Any;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Bytes of keys and values that are kept, with what keeping them costs: room for some ten thousand records.
const BYTES_MAX: u64 = 4 << 20;

/// What a kept record costs besides key and value, in bytes, about.
const RECORD_COST_BYTES: u64 = 128;

/// What a value takes for each byte that is stored of it, about, once it has been decoded too.
const DECODED_FACTOR: u64 = 3;

/// A record's value, or that there is none.
pub(super) type Kept = Option<Arc<Value>>;

/// A record's value: as it is stored and, once somebody asked for that, decoded.
#[derive(Debug)]
pub(super) struct Value {
    raw: Bytes,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

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
        RECORD_COST_BYTES + key.len() as u64 + value.as_ref().map_or(0, |value| DECODED_FACTOR * value.raw.len() as u64)
    }
}

impl Value {
    pub(super) const fn new(raw: Bytes) -> Self {
        Self { raw, decoded: OnceLock::new() }
    }

    /// As it is stored.
    pub(super) fn raw(&self) -> Bytes {
        self.raw.clone()
    }

    /// Decoded by `decode`, unless it was before.
    pub(super) fn decoded<T: Any + Send + Sync, E>(&self, decode: impl FnOnce(&[u8]) -> Result<T, E>) -> Result<Arc<T>, E> {
        if let Some(decoded) = self.decoded.get().and_then(|decoded| Arc::clone(decoded).downcast().ok()) {
            return Ok(decoded);
        }
        let decoded = Arc::new(decode(&self.raw)?);
        let _ = self.decoded.set(decoded.clone());
        Ok(decoded)
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
        Some(Arc::new(Value::new(Bytes::from_static(text.as_bytes()))))
    }

    fn large(bytes: usize) -> Kept {
        Some(Arc::new(Value::new(vec![0; bytes].into())))
    }

    /// The raw value, if there is one, of what is known.
    fn known(cache: &RecordCache, key: &str) -> Option<Option<Bytes>> {
        cache.get(key.as_bytes()).map(|kept| kept.map(|value| value.raw()))
    }

    #[test]
    fn a_value_is_decoded_once_for_each_that_was_read() {
        let kept = value("12").unwrap();
        let decode = |raw: &[u8]| std::str::from_utf8(raw).unwrap().parse::<u32>();
        let first = kept.decoded(decode).unwrap();
        let again = kept.decoded::<u32, ()>(|_| panic!("decoded before")).unwrap();
        assert!(*first == 12 && Arc::ptr_eq(&first, &again));
        let other = kept.decoded(|raw: &[u8]| String::from_utf8(raw.to_vec())).unwrap();
        assert_eq!(*other, "12", "another type is decoded by itself");
    }

    #[test]
    fn keeps_values_and_that_there_is_none() {
        let cache = RecordCache::new();
        assert!(cache.get(b"tag a").is_none());
        cache.keep(b"tag a".to_vec(), value("1"), cache.moment());
        cache.keep(b"tag b".to_vec(), None, cache.moment());
        assert_eq!((known(&cache, "tag a"), known(&cache, "tag b")), (Some(Some("1".into())), Some(None)));
        cache.change([&b"tag a"[..]].into_iter(), || assert!(cache.get(b"tag a").is_none()));
        assert_eq!((known(&cache, "tag a"), known(&cache, "tag b")), (None, Some(None)));
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
        assert_eq!(known(&cache, "tag a"), Some(Some("new".into())));
    }

    #[test]
    fn takes_no_more_than_its_bytes() {
        let cache = RecordCache::with_capacity(64 << 10);
        for n in 0..10_000 {
            cache.keep(format!("tag {n}").into_bytes(), large(200), cache.moment());
        }
        assert!(cache.kept.weight() <= 64 << 10);
        assert!(!cache.kept.is_empty());
        cache.keep(b"tag large".to_vec(), large(65 << 10), cache.moment());
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
            let found = Some(Arc::new(Value::new(Bytes::copy_from_slice(&index.load(Ordering::SeqCst).to_be_bytes()))));
            cache.keep(b"counter".to_vec(), found.clone(), moment);
            found
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let oldest = ended.load(Ordering::SeqCst);
                        let found = u64::from_be_bytes(read().unwrap().raw().as_ref().try_into().unwrap());
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
