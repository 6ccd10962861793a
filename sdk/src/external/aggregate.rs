//! One partial result for each key: in a table, in a table for each part of the keys where there
//! are many, or in runs that are merged.

use super::parts::{PARTS, Parts, part_of};
use super::runs::{Merge, Runs};
use crate::batch::{decode_or_fail, skip_or_fail};
use crate::bytes;
use crate::external::Room;
use crate::hash::hash_bytes;
use crate::key_table::{KeyTable, sorted};
use crate::record::Record;
use crate::records::Records;
use core::marker::PhantomData;
use std::rc::Rc;

/// Keys from which a table is asked whether it should be one: about what fits a core's caches. Less
/// in tests, so that their small tables are asked, too.
const KEYS_MIN: usize = if cfg!(test) { 16 } else { 50_000 };

/// Records for each key in a table that may be larger: nearly all are of keys that come often, and
/// those are in the caches, whatever else is in the table.
const HOT: u64 = 8;

/// Partial results in one table.
pub(crate) struct Totals<C> {
    pub(crate) table: KeyTable<Option<C>>,
    /// Records that it has taken.
    taken: u64,
    /// Keys at which it is asked again.
    keys_next: usize,
}

/// Partial results by key, spilling.
pub(crate) struct Aggregator<K, C, M> {
    totals: Totals<C>,
    /// Instead of the table: tables, and what they have not taken yet.
    apart: Option<Apart<C>>,
    combine: Rc<M>,
    runs: Runs,
    room: Room,
    kind: PhantomData<fn() -> K>,
}

struct Apart<C> {
    parts: Parts,
    tables: Vec<KeyTable<Option<C>>>,
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

/// The change that combines what is there with a value.
#[inline]
pub(crate) fn combined_with<C>(combine: &impl Fn(C, C) -> C) -> impl Fn(C, Option<C>) -> C {
    |value, held| match held {
        Some(before) => combine(before, value),
        None => value,
    }
}

// === impl Totals ===

impl<C: Record> Totals<C> {
    pub(crate) fn new() -> Self {
        Self { table: KeyTable::new(), taken: 0, keys_next: KEYS_MIN }
    }

    /// Changes what there is of a key.
    #[inline]
    pub(crate) fn update(&mut self, key: &[u8], change: impl FnOnce(Option<C>) -> C) {
        update(&mut self.table, key, change);
        self.taken += 1;
    }

    /// Whether the records should go to parts.
    #[inline]
    pub(crate) fn is_outgrown(&mut self) -> bool {
        self.table.len() >= self.keys_next && self.judge()
    }

    #[cold]
    fn judge(&mut self) -> bool {
        self.keys_next = self.table.len() * 2;
        self.taken < self.table.len() as u64 * HOT
    }

    /// Hands out everything and starts again.
    pub(crate) fn drain(&mut self, each: impl FnMut(&[u8], Option<C>)) {
        self.table.drain(each);
        (self.taken, self.keys_next) = (0, KEYS_MIN);
    }
}

// === impl Aggregator ===

impl<K: Record, C: Record, M: Fn(C, C) -> C + 'static> Aggregator<K, C, M> {
    pub(crate) fn new(combine: &Rc<M>) -> Self {
        Self {
            totals: Totals::new(),
            apart: None,
            combine: Rc::clone(combine),
            runs: Runs::new(hash_bytes),
            room: Room::of_table(),
            kind: PhantomData,
        }
    }

    /// Changes what there is of a key by a value.
    #[inline]
    pub(crate) fn update<V>(&mut self, key: &[u8], value: V, change: &impl Fn(V, Option<C>) -> C) {
        match &mut self.apart {
            Some(apart) => {
                apart.parts.add(hash_bytes(key), |out| {
                    out.extend_from_slice(key);
                    change(value, None).encode(out);
                });
                self.make_room_apart();
            }
            None => {
                self.totals.update(key, |held| change(value, held));
                self.make_room();
            }
        }
    }

    /// Combines what there is of a key with the result that is next in `input`.
    #[inline]
    pub(crate) fn combine_next(&mut self, key: &[u8], input: &mut &[u8]) {
        match &mut self.apart {
            Some(apart) => {
                let value = skip_or_fail::<C>(input);
                apart.parts.add(hash_bytes(key), |out| {
                    out.extend_from_slice(key);
                    out.extend_from_slice(value);
                });
                self.make_room_apart();
            }
            None => {
                let value = decode_or_fail(input);
                self.totals.update(key, |held| combined_with(&*self.combine)(value, held));
                self.make_room();
            }
        }
    }

    #[inline]
    fn make_room(&mut self) {
        if self.totals.table.heap_bytes() > self.room.bytes() {
            self.spill();
        } else if self.totals.is_outgrown() {
            self.part();
        }
    }

    #[inline]
    fn make_room_apart(&mut self) {
        let room = self.room.bytes() / 2;
        if let Some(apart) = &mut self.apart
            && apart.parts.bytes() > room
        {
            apart.settle::<K>(&*self.combine);
            if apart.tables.iter().map(KeyTable::heap_bytes).sum::<usize>() > room {
                self.spill();
            }
        }
    }

    /// From one table to many.
    #[cold]
    fn part(&mut self) {
        let mut tables: Vec<_> = (0..PARTS).map(|_| KeyTable::new()).collect();
        self.totals.drain(|key, held| {
            let table = &mut tables[part_of(hash_bytes(key))];
            let bytes = held.heap_bytes();
            table.entry(key, hash_bytes(key), || held);
            table.account(0, bytes);
        });
        self.totals = Totals::new();
        self.apart = Some(Apart { parts: Parts::new(), tables });
    }

    /// Writes all results to a run and starts again, with one table.
    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        let mut tables = vec![core::mem::replace(&mut self.totals, Totals::new()).table];
        if let Some(mut apart) = self.apart.take() {
            apart.settle::<K>(&*self.combine);
            tables.append(&mut apart.tables);
        }
        self.runs.write(&mut |run| {
            let mut encoded = Vec::new();
            for (table, index) in sorted(&tables) {
                if let (key, Some(held)) = tables[table].at(index) {
                    encoded.clear();
                    held.encode(&mut encoded);
                    run.entry(0, key, &encoded);
                }
            }
        });
    }

    /// The pairs; partial results of a key are combined in the order in which they were made.
    pub(crate) fn into_records(mut self) -> Records<(K, C)> {
        if !self.runs.is_empty() {
            self.spill();
            return Records::new(Merged {
                merge: self.runs.merge(),
                combine: self.combine,
                ahead: false,
                key: Vec::new(),
                kind: PhantomData,
            });
        }
        let combine = self.combine;
        match self.apart {
            None => Records::new(table_records(self.totals.table)),
            Some(Apart { mut parts, tables }) => {
                let each = move |(part, mut table)| {
                    take_part::<K, C>(&mut parts, part, &mut table, &*combine);
                    table_records(table)
                };
                Records::new(tables.into_iter().enumerate().flat_map(each))
            }
        }
    }
}

// === impl Apart ===

impl<C: Record> Apart<C> {
    /// Brings all pairs to the tables.
    fn settle<K: Record>(&mut self, combine: &impl Fn(C, C) -> C) {
        for (part, table) in self.tables.iter_mut().enumerate() {
            take_part::<K, C>(&mut self.parts, part, table, combine);
        }
    }
}

/// Brings the pairs of a part to its table.
pub(crate) fn take_part<K: Record, C: Record>(
    parts: &mut Parts,
    part: usize,
    table: &mut KeyTable<Option<C>>,
    combine: &impl Fn(C, C) -> C,
) {
    let combine = combined_with(combine);
    parts.take::<K, C>(part, |key, value| update(table, key, |held| combine(value, held)));
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
