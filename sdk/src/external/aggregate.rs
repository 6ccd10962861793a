//! One partial result for each key, in memory or in runs that are merged.

use super::runs::{Merge, Runs};
use crate::batch::decode_or_fail;
use crate::bytes;
use crate::external::Room;
use crate::hash::hash_bytes;
use crate::key_table::KeyTable;
use crate::record::Record;
use crate::records::Records;
use core::marker::PhantomData;
use std::rc::Rc;

/// Partial results by key, spilling.
pub(crate) struct Aggregator<C> {
    table: KeyTable<Option<C>>,
    runs: Runs,
    room: Room,
}

/// The pairs of merged runs.
struct Merged<K, C, M> {
    merge: Merge,
    combine: Rc<M>,
    /// Whether the current entry belongs to the key that comes next.
    ahead: bool,
    key: Vec<u8>,
    kind: PhantomData<fn() -> (K, C)>,
}

/// What a table holds, key by key.
fn table_records<K: Record, C: 'static>(
    table: KeyTable<Option<C>>,
) -> impl Iterator<Item = (K, C)> + 'static {
    let mut entries = table.into_entries();
    let next = move || entries.next_with(|mut key| decode_or_fail(&mut key));
    core::iter::from_fn(next).filter_map(|(key, held)| held.map(|held| (key, held)))
}

/// Changes what a table holds of a key, and accounts for it; `None` is a key just made.
#[inline]
pub(crate) fn update<C: Record>(
    table: &mut KeyTable<Option<C>>,
    key: &[u8],
    change: impl FnOnce(Option<C>) -> C,
) {
    let held = table.entry(key, hash_bytes(key), || None);
    let before = held.heap_bytes();
    *held = Some(change(held.take()));
    let after = held.heap_bytes();
    if after != before {
        table.account(before, after);
    }
}

// === impl Aggregator ===

impl<C: Record> Aggregator<C> {
    pub(crate) fn new() -> Self {
        Self { table: KeyTable::new(), runs: Runs::new(hash_bytes), room: Room::of_table() }
    }

    /// Changes what there is of a key.
    #[inline]
    pub(crate) fn update(&mut self, key: &[u8], change: impl FnOnce(Option<C>) -> C) {
        update(&mut self.table, key, change);
        if self.table.heap_bytes() > self.room.bytes() {
            self.spill();
        }
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        let table = core::mem::replace(&mut self.table, KeyTable::new());
        self.runs.write(&mut |run| {
            let mut encoded = Vec::new();
            for index in table.sorted() {
                if let (key, Some(held)) = table.at(index) {
                    encoded.clear();
                    held.encode(&mut encoded);
                    run.entry(0, key, &encoded);
                }
            }
        });
    }

    /// The pairs; partial results of a key are combined in the order in which they were made.
    pub(crate) fn into_records<K: Record>(
        mut self,
        combine: &Rc<impl Fn(C, C) -> C + 'static>,
    ) -> Records<(K, C)> {
        if self.runs.is_empty() {
            return Records::new(table_records(self.table));
        }
        self.spill();
        Records::new(Merged {
            merge: self.runs.merge(),
            combine: Rc::clone(combine),
            ahead: false,
            key: Vec::new(),
            kind: PhantomData,
        })
    }
}

// === impl Merged ===

impl<K: Record, C: Record, M: Fn(C, C) -> C> Iterator for Merged<K, C, M> {
    type Item = (K, C);

    fn next(&mut self) -> Option<(K, C)> {
        if !core::mem::take(&mut self.ahead) && !self.merge.advance() {
            return None;
        }
        let entry = self.merge.entry();
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        let mut total: C = decode_or_fail(&mut &entry.payload[..]);
        while self.merge.advance() {
            let entry = self.merge.entry();
            if !bytes::equal(entry.key, &self.key) {
                self.ahead = true;
                break;
            }
            total = (self.combine)(total, decode_or_fail(&mut &entry.payload[..]));
        }
        Some((decode_or_fail(&mut &self.key[..]), total))
    }
}
