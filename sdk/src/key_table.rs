//! A hash table from byte strings to values: map-side combine, and every reducer by key.
//!
//! ```text
//!   slots   [ low half of the hash | entry + 1 ]   open addressing, linear probing
//!   entries [ key or its span, value ]             in order of first appearance
//!   arena   bytes of longer keys
//! ```
//!
//! Looking up a key that is there allocates nothing. The order of entries depends on the data
//! only, so that every attempt of a task writes the same bytes.

pub(crate) mod ahead;
mod key;

use crate::arena::{Arena, Span};
use crate::bytes;
use key::Key;

/// Slots of the first table.
const SLOTS_MIN: usize = 16;

/// Bytes of a slot and its share of the growth that is coming.
const SLOT_BYTES: usize = 2 * size_of::<u64>();

/// Values by key.
pub(crate) struct KeyTable<V> {
    slots: Vec<u64>,
    entries: Vec<Entry<V>>,
    arena: Arena,
    heap_bytes: usize,
}

struct Entry<V> {
    key: Key,
    value: V,
}

/// Keys with their values, in order of first appearance.
pub(crate) struct IntoEntries<V> {
    arena: Arena,
    entries: std::vec::IntoIter<Entry<V>>,
}

// === impl KeyTable ===

impl<V> KeyTable<V> {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![0; SLOTS_MIN],
            entries: Vec::new(),
            arena: Arena::default(),
            heap_bytes: 0,
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that the table holds, as far as it was told of those behind the values.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// Tells of bytes behind the values: what they held before and what they hold now.
    #[inline]
    pub(crate) fn account(&mut self, before: usize, after: usize) {
        self.heap_bytes = (self.heap_bytes + after).saturating_sub(before);
    }

    /// The value of a key, made by `new` if there is none.
    #[inline]
    pub(crate) fn entry(&mut self, key: &[u8], hash: u64, new: impl FnOnce() -> V) -> &mut V {
        let index = match self.find(key, hash) {
            Ok(index) => index,
            Err(slot) => self.insert(slot, key, hash, new()),
        };
        &mut self.entries[index].value
    }

    /// The value of a key.
    pub(crate) fn lookup(&self, key: &[u8], hash: u64) -> Option<&V> {
        let index = self.find(key, hash).ok()?;
        Some(&self.entries[index].value)
    }

    /// An entry by its number; they are numbered in order of first appearance.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> (&[u8], &V) {
        let entry = &self.entries[index as usize];
        (entry.key.bytes(&self.arena), &entry.value)
    }

    /// The numbers of all entries in order of (rank of the key, key).
    pub(crate) fn sorted(&self, rank: fn(&[u8]) -> u64) -> Vec<u32> {
        let key = |index: u32| self.at(index).0;
        let mut order: Vec<(u64, u32)> =
            (0..self.len() as u32).map(|index| (rank(key(index)), index)).collect();
        order.sort_unstable_by(|left, right| {
            let by_rank = left.0.cmp(&right.0);
            by_rank.then_with(|| bytes::compare(key(left.1), key(right.1)))
        });
        order.into_iter().map(|(_, index)| index).collect()
    }

    /// Hands out every entry in order of first appearance and leaves the table empty.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&[u8], V)) {
        for entry in self.entries.drain(..) {
            each(entry.key.bytes(&self.arena), entry.value);
        }
        self.arena.clear();
        self.slots.fill(0);
        self.heap_bytes = 0;
    }

    /// The entries, lazily.
    pub(crate) fn into_entries(self) -> IntoEntries<V> {
        IntoEntries { arena: self.arena, entries: self.entries.into_iter() }
    }

    /// The entry of a key, or the slot where it belongs.
    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Result<usize, usize> {
        match Key::inline(key) {
            Some(short) => self.probe(hash, |held| held == short),
            None => self.probe(hash, |held| {
                held.span().is_some_and(|span| bytes::equal(self.arena.at(span), key))
            }),
        }
    }

    /// The first entry of this hash whose key is the one looked for, or the slot where it belongs.
    #[inline]
    fn probe(&self, hash: u64, is_it: impl Fn(Key) -> bool) -> Result<usize, usize> {
        let tag = hash as u32;
        let mask = self.slots.len() - 1;
        let mut place = tag as usize & mask;
        loop {
            let slot = self.slots[place];
            if slot == 0 {
                return Err(place);
            }
            if (slot >> 32) as u32 == tag {
                let index = slot as u32 as usize - 1;
                if is_it(self.entries[index].key) {
                    return Ok(index);
                }
            }
            place = (place + 1) & mask;
        }
    }

    #[cold]
    fn insert(&mut self, slot: usize, key: &[u8], hash: u64, value: V) -> usize {
        let index = self.entries.len();
        let key = Key::add(key, &mut self.arena);
        let key_bytes = key.span().map_or(0, Span::len);
        self.entries.push(Entry { key, value });
        self.slots[slot] = hash << 32 | (index as u64 + 1);
        self.heap_bytes += key_bytes + size_of::<Entry<V>>() + SLOT_BYTES;
        // Two thirds full at most: probes stay short.
        if self.entries.len() * 3 > self.slots.len() * 2 {
            self.grow();
        }
        index
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0; mask + 1];
        for slot in self.slots.drain(..).filter(|slot| *slot != 0) {
            let mut place = (slot >> 32) as usize & mask;
            while slots[place] != 0 {
                place = (place + 1) & mask;
            }
            slots[place] = slot;
        }
        self.slots = slots;
    }
}

// === impl IntoEntries ===

impl<V> IntoEntries<V> {
    /// The next entry, its key read by `read`.
    pub(crate) fn next_with<K>(&mut self, read: impl FnOnce(&[u8]) -> K) -> Option<(K, V)> {
        let entry = self.entries.next()?;
        Some((read(entry.key.bytes(&self.arena)), entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::KeyTable;
    use crate::hash::hash_bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn count<'a>(
        table: &mut KeyTable<u64>,
        keys: impl IntoIterator<Item = &'a Vec<u8>>,
        mask: u64,
    ) {
        for key in keys {
            *table.entry(key, hash_bytes(key) & mask, || 0) += 1;
        }
    }

    /// Few distinct ones, of lengths that an entry holds and of others.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec;
        prop_oneof![bytes(0u8..4, 0..5), bytes(0u8..2, 6..10)]
    }

    proptest! {
        /// Masked hashes collide in the tag, in the slot, or always.
        #[test]
        fn counts_like_a_map(
            keys in proptest::collection::vec(key(), 0..300),
            mask in prop_oneof![Just(u64::MAX), Just(0xf), Just(0xffff_ffff_ffff_0000), Just(0)],
        ) {
            let mut table = KeyTable::new();
            let mut expected = BTreeMap::<Vec<u8>, u64>::new();
            let mut order = Vec::new();
            for key in &keys {
                if !expected.contains_key(key) {
                    order.push(key.clone());
                }
                *expected.entry(key.clone()).or_default() += 1;
            }
            for _ in 0..2 {
                count(&mut table, &keys, mask);
                prop_assert_eq!(table.len(), expected.len());
                let found = keys.iter().all(|key| {
                    table.lookup(key, hash_bytes(key) & mask) == expected.get(key)
                });
                prop_assert!(found);
                prop_assert_eq!(table.lookup(b"absent", hash_bytes(b"absent") & mask), None);
                let mut drained = Vec::new();
                table.drain(|key, count| drained.push((key.to_vec(), count)));
                let in_order = order.iter().map(|key| (key.clone(), expected[key]));
                prop_assert_eq!(drained, in_order.collect::<Vec<_>>());
                prop_assert_eq!(table.heap_bytes(), 0);
            }
        }
    }

    #[test]
    fn bytes_are_accounted() {
        let mut table = KeyTable::<Vec<u8>>::new();
        table.entry(b"key", hash_bytes(b"key"), Vec::new);
        let short = table.heap_bytes();
        assert!(short >= 8 + size_of::<Vec<u8>>());
        table.entry(b"a long key", hash_bytes(b"a long key"), Vec::new);
        let before = table.heap_bytes();
        assert_eq!(before, 2 * short + 10);
        table.account(0, 1000);
        table.account(400, 100);
        assert_eq!(table.heap_bytes(), before + 700);
    }
}
