//! Many keys looked up at once, in a table that is larger than the caches of a core.
//!
//! A lookup waits for memory twice, for the slot and for the entry. Lookups that follow one another
//! in a loop that does little else wait at the same time, because a core has many reads under way.

use super::KeyTable;
use crate::hash::hash_bytes;
use core::hint::black_box;

/// Keys that are looked up together: about as many reads as a core has under way.
pub(crate) const TOGETHER: usize = 32;

/// Slots from which a table is large: with its entries about a megabyte. Less in tests, so that
/// their small tables are large.
const LARGE_SLOTS: usize = if cfg!(test) { 32 } else { 32 << 10 };

/// The entry of a key that is not there.
const NOWHERE: usize = usize::MAX;

// === impl KeyTable ===

impl<V> KeyTable<V> {
    /// Whether lookups wait for memory.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.slots.len() >= LARGE_SLOTS
    }

    /// The values of [`TOGETHER`] keys at most, in their order.
    pub(crate) fn lookup_all<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]> + Clone,
        mut each: impl FnMut(usize, Option<&V>),
    ) {
        let mask = self.slots.len() - 1;
        let (mut found, mut count, mut touched) = ([NOWHERE; TOGETHER], 0, 0);
        for key in keys.clone() {
            touched ^= self.slots[hash_bytes(key) as u32 as usize & mask];
        }
        // Read, whatever is in it.
        black_box(touched);
        for (key, found) in keys.zip(&mut found) {
            *found = self.find(key, hash_bytes(key)).unwrap_or(NOWHERE);
            count += 1;
        }
        for (index, found) in found[..count].iter().enumerate() {
            each(index, self.entries.get(*found).map(|entry| &entry.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyTable, TOGETHER};
    use crate::hash::hash_bytes;

    #[test]
    fn all_are_found_like_one() {
        let mut table = KeyTable::new();
        assert!(!table.is_large());
        let key = |n: u32| format!("{n}").repeat(n as usize % 5 + 1).into_bytes();
        for n in (0..3000).step_by(3) {
            table.entry(&key(n), hash_bytes(&key(n)), || n);
        }
        assert!(table.is_large());
        for (first, count) in (0..2900).step_by(29).zip((0..=TOGETHER).cycle()) {
            let keys: Vec<_> = (first..).take(count).map(key).collect();
            let mut found = Vec::new();
            table.lookup_all(keys.iter().map(Vec::as_slice), |index, value| {
                found.push((index, value.copied()));
            });
            let values = (first..).map(|n| n.is_multiple_of(3).then_some(n));
            assert_eq!(found, values.take(count).enumerate().collect::<Vec<_>>());
        }
    }
}
