//! One partial result for each key: in a table, by parts of the keys where there are many, or in
//! runs that are merged.

use super::parts::{PARTS, Parts, rank_of};
use super::runs::{Merge, RunWriter, Runs};
use crate::batch::{decode_or_fail, skip_or_fail};
use crate::bytes;
use crate::external::Room;
use crate::hash::hash_bytes;
use crate::key_table::KeyTable;
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
    /// Instead of the table.
    parts: Option<Parts>,
    combine: Rc<M>,
    runs: Runs,
    room: Room,
    kind: PhantomData<fn() -> K>,
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
            parts: None,
            combine: Rc::clone(combine),
            runs: Runs::new(rank_of),
            room: Room::of_table(),
            kind: PhantomData,
        }
    }

    /// Changes what there is of a key by a value.
    #[inline]
    pub(crate) fn update<V>(&mut self, key: &[u8], value: V, change: &impl Fn(V, Option<C>) -> C) {
        match &mut self.parts {
            Some(parts) => {
                parts.add(key, |out| change(value, None).encode(out));
                self.make_room_of_parts();
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
        match &mut self.parts {
            Some(parts) => {
                let value = skip_or_fail::<C>(input);
                parts.add(key, |out| out.extend_from_slice(value));
                self.make_room_of_parts();
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
    fn make_room_of_parts(&mut self) {
        if self.parts.as_ref().is_some_and(|parts| parts.bytes() > self.room.bytes()) {
            self.combine_parts();
        }
    }

    /// From one table to parts.
    #[cold]
    fn part(&mut self) {
        let mut parts = Parts::new(self.room.bytes());
        self.totals.drain(|key, held| {
            held.into_iter().for_each(|held| parts.add(key, |out| held.encode(out)));
        });
        (self.totals, self.parts) = (Totals::new(), Some(parts));
    }

    /// Brings together what is in the parts, or spills it, if that is half of it and more.
    #[cold]
    fn combine_parts(&mut self) {
        let mut combined = Parts::new(self.room.bytes());
        for part in 0..PARTS {
            self.take_part(part).drain(|key, held| {
                held.into_iter().for_each(|held| combined.add(key, |out| held.encode(out)));
            });
        }
        let few = combined.bytes() < self.room.bytes() / 2;
        self.parts = Some(combined);
        if !few {
            self.spill();
        }
    }

    /// The results of a part, which has no pairs any more.
    fn take_part(&mut self, part: usize) -> KeyTable<Option<C>> {
        let mut table = KeyTable::new();
        if let Some(parts) = &mut self.parts {
            parts.take::<K, C>(part, &*self.combine, &mut table);
        }
        table
    }

    /// Writes all results to a run and starts again, with one table.
    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        let table = core::mem::replace(&mut self.totals, Totals::new()).table;
        let tables = if self.parts.is_some() { PARTS } else { 0 };
        let mut runs = core::mem::replace(&mut self.runs, Runs::new(rank_of));
        runs.write(&mut |run| {
            // A part's keys all rank before those of the next.
            write_results(run, &table);
            (0..tables).for_each(|part| write_results(run, &self.take_part(part)));
        });
        (self.runs, self.parts) = (runs, None);
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
        if self.parts.is_none() {
            return Records::new(table_records(self.totals.table));
        }
        let each = move |part| table_records(self.take_part(part));
        Records::new((0..PARTS).flat_map(each))
    }
}

/// Writes what a table holds, in the order of a run.
fn write_results<C: Record>(run: &mut RunWriter, table: &KeyTable<Option<C>>) {
    let mut encoded = Vec::new();
    for index in table.sorted(rank_of) {
        if let (key, Some(held)) = table.at(index) {
            encoded.clear();
            held.encode(&mut encoded);
            run.entry(0, key, &encoded);
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Aggregator, Parts};
    use crate::prelude::*;
    use crate::record::Record;
    use std::rc::Rc;

    fn held<K, M>(totals: &Aggregator<K, u64, M>) -> usize {
        let parts = totals.parts.as_ref().map_or(0, Parts::bytes);
        totals.totals.table.heap_bytes() + parts
    }

    /// In a task: most bytes held, how often they were apart, and what came of it.
    fn aggregate() -> (usize, u64, Vec<(u64, u64)>) {
        let mut totals = Aggregator::new(&Rc::new(|left: u64, right| left + right));
        let (mut most, mut times_apart, mut key) = (0, 0, Vec::new());
        for n in 0..20_000u64 {
            key.clear();
            // Most have a key of their own.
            (n - n % 5 % 2).encode(&mut key);
            let was_apart = totals.parts.is_some();
            totals.update(&key, n, &|value, held: Option<u64>| held.unwrap_or_default() + value);
            times_apart += u64::from(!was_apart && totals.parts.is_some());
            most = most.max(held(&totals));
        }
        (most, times_apart, totals.into_records().collect())
    }

    #[test]
    fn what_is_held_stays_within_its_room() {
        const ROOM: usize = 40_000;
        let context = Context::new();
        context.set_spill_bytes(ROOM);
        let found = context.range(0..1, 1).map(|_| aggregate()).map(|(most, times, records)| {
            assert!(most < ROOM + ROOM / 10, "{most}");
            assert!(times > 1, "{times}");
            records
        });
        let records = found.collect().unwrap().remove(0);
        assert_eq!(records.len(), 12_000);
        assert_eq!(records.iter().map(|(_, sum)| sum).sum::<u64>(), (0..20_000u64).sum::<u64>());
    }
}
