//! A map for few entries, in order of their keys: a sorted vector. A tree keeps room for eleven entries in each of its nodes,
//! which for the large entries of a machine is most of what the machine takes.
//!
//! Not here: maps that grow with what a peer sends or a blob weighs; putting an entry in costs time in proportion to the map.

use std::borrow::Borrow;
use std::slice;

/// A map for few entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedMap<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// A map without entries.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, in order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// The same, with values that may be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.entries.iter().map(|(key, _)| key)
    }

    /// The values, in order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.entries.iter().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// The values alone, in order of their keys.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.entries.into_iter().map(|(_, value)| value)
    }

    /// Lets go of all entries, and of their room.
    pub fn clear(&mut self) {
        self.entries = Vec::new();
    }

    /// Keeps the entries that are to `stay`.
    pub fn retain(&mut self, mut stay: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain_mut(|(key, value)| stay(key, value));
    }

    /// Takes out the entries that are to `go`.
    pub fn extract(&mut self, mut go: impl FnMut(&K, &mut V) -> bool) -> impl Iterator<Item = (K, V)> {
        self.entries.extract_if(.., move |(key, value)| go(key, value))
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.entries.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|place| &self.entries[place].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|place| &mut self.entries[place].1)
    }

    /// Whether the key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// Puts an entry in; the value that the key had before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(place) => Some(std::mem::replace(&mut self.entries[place].1, value)),
            Err(place) => {
                self.put(place, key, value);
                None
            }
        }
    }

    /// The value of a key, put in if it has none.
    pub fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let place = match self.place(&key) {
            Ok(place) => place,
            Err(place) => {
                self.put(place, key, value());
                place
            }
        };
        &mut self.entries[place].1
    }

    fn put(&mut self, place: usize, key: K, value: V) {
        // A vector that doubles is a third empty on average.
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(1 + self.entries.len() / 4);
        }
        self.entries.insert(place, (key, value));
    }

    /// The least key above `last`, or of all.
    pub fn key_after(&self, last: Option<&K>) -> Option<&K> {
        let place = last.map_or(0, |last| self.entries.partition_point(|(key, _)| key <= last));
        self.entries.get(place).map(|(key, _)| key)
    }

    /// Takes the entry of a key out; its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|place| self.entries.remove(place).1)
    }
}

impl<K: Ord, V> Extend<(K, V)> for SortedMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = std::iter::Map<slice::Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter().map(|(key, value)| (key, value))
    }
}

impl<'a, K, V> IntoIterator for &'a mut SortedMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = std::iter::Map<slice::IterMut<'a, (K, V)>, fn(&'a mut (K, V)) -> (&'a K, &'a mut V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rendezvous::draw;

    #[test]
    fn it_does_as_a_tree_does_whatever_is_put_in_and_taken_out() {
        let (mut map, mut tree) = (SortedMap::new(), BTreeMap::new());
        for step in 0..5000 {
            let (key, what) = (draw(step, 1) % 40, draw(step, 2) % 7);
            match what {
                0 => assert_eq!(map.remove(&key), tree.remove(&key)),
                1 => assert_eq!(*map.get_or_insert_with(key, || step), *tree.entry(key).or_insert(step)),
                2 if step % 50 == 0 => {
                    let taken: Vec<_> = map.extract(|key, _| key % 3 == 0).collect();
                    assert_eq!(taken, tree.extract_if(.., |key, _| key % 3 == 0).collect::<Vec<_>>());
                }
                3 if step % 50 == 0 => {
                    map.retain(|key, _| key % 2 == 0);
                    tree.retain(|key, _| key % 2 == 0);
                }
                _ => assert_eq!(map.insert(key, step), tree.insert(key, step)),
            }
            assert_eq!(map.get(&key), tree.get(&key));
            assert!(map.iter().eq(tree.iter()) && map.len() == tree.len());
            assert_eq!(map.key_after(Some(&key)), tree.range(key + 1..).next().map(|(key, _)| key));
            assert_eq!(map.key_after(None), tree.keys().next());
        }
    }

    #[test]
    fn little_room_stays_empty() {
        let mut map = SortedMap::new();
        for key in 0..49 {
            map.insert(key, ());
        }
        assert!(map.entries.capacity() <= 60, "{}", map.entries.capacity());
        map.clear();
        assert_eq!(map.entries.capacity(), 0);
    }
}
