//! Pairs in order of their keys, equal keys in the order in which they were added.

use super::levels::Levels;
use super::runs::{BATCH_BYTES, next_run, open_run};
use super::spilled;
use super::tournament::Tournament;
use crate::batch::{Batch, RecordReader};
use crate::external::{self, Room};
use crate::host::InputStream;
use crate::record::Record;
use crate::records::Records;

/// Pairs to be sorted, spilling.
pub(crate) struct SortBuffer<K, V> {
    pairs: Vec<(K, V)>,
    /// Bytes of the pairs and of what their vector may grow to.
    bytes: usize,
    room: Room,
    runs: Levels,
}

/// The pairs of sorted runs, and of the buffer behind them.
struct MergedPairs<K, V> {
    readers: Vec<RecordReader<(K, V), InputStream>>,
    heads: Vec<Option<(K, V)>>,
    order: Tournament,
}

// === impl SortBuffer ===

impl<K: Record + Ord, V: Record> SortBuffer<K, V> {
    pub(crate) fn new() -> Self {
        let runs = Levels::new(external::merge_bytes());
        Self { pairs: Vec::new(), bytes: 0, room: Room::of_sort(), runs }
    }

    /// Adds a pair. Where it does not know what it holds, `encoded_bytes`, the length of its
    /// encoding, stands for that.
    #[inline]
    pub(crate) fn add(&mut self, pair: (K, V), encoded_bytes: usize) {
        // The vector doubles, and a stable sort takes half of it once more.
        self.bytes += pair.heap_bytes().max(encoded_bytes) + 3 * size_of::<(K, V)>();
        self.pairs.push(pair);
        if self.bytes > self.room.bytes() {
            self.spill();
        }
    }

    /// The pairs in order.
    pub(crate) fn into_records(mut self) -> Records<(K, V)> {
        if self.runs.is_empty() {
            self.pairs.sort_by(|left, right| left.0.cmp(&right.0));
            return Records::new(self.pairs.into_iter());
        }
        self.spill();
        Records::new(MergedPairs::open(&self.runs.numbers()))
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        if self.pairs.is_empty() {
            return;
        }
        self.pairs.sort_by(|left, right| left.0.cmp(&right.0));
        let run = write_run(self.pairs.drain(..));
        let merge = |tail: &[u32]| Some(write_run(MergedPairs::<K, V>::open(tail)));
        self.runs.add(run, merge);
        self.bytes = 0;
    }
}

/// Writes a run of pairs that come in order; its number.
fn write_run<K: Record, V: Record>(pairs: impl Iterator<Item = (K, V)>) -> u32 {
    let run = next_run();
    let mut batch = Batch::default();
    for pair in pairs {
        batch.add(|out| pair.encode(out));
        if batch.len() >= BATCH_BYTES {
            batch.take(|bytes| spilled::write(run, bytes));
        }
    }
    batch.take(|bytes| spilled::write(run, bytes));
    run
}

// === impl MergedPairs ===

impl<K: Record + Ord, V: Record> MergedPairs<K, V> {
    fn open(runs: &[u32]) -> Self {
        let open = |run: &u32| RecordReader::new(open_run(*run));
        let mut readers: Vec<RecordReader<(K, V), _>> = runs.iter().map(open).collect();
        let heads: Vec<_> = readers.iter_mut().map(Iterator::next).collect();
        let full = (0..).zip(&heads).filter_map(|(run, head)| head.is_some().then_some(run));
        let order = Tournament::new(full, |a, b| before(&heads, a, b));
        Self { readers, heads, order }
    }
}

/// Whether the head of run `a` comes before that of `b`.
fn before<K: Ord, V>(heads: &[Option<(K, V)>], a: u32, b: u32) -> bool {
    let key = |run: u32| heads[run as usize].as_ref().map(|head| &head.0);
    (key(a), a) < (key(b), b)
}

impl<K: Record + Ord, V: Record> Iterator for MergedPairs<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        let run = self.order.least()? as usize;
        let next = self.readers[run].next();
        let more = next.is_some();
        let pair = core::mem::replace(&mut self.heads[run], next);
        let less = |a, b| before(&self.heads, a, b);
        match more {
            true => self.order.moved(less),
            false => self.order.ended(less),
        }
        pair
    }
}
