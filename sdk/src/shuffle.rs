//! The two sides of a shuffle.
//!
//! ```text
//!   map task:  records ──► [combine table] ──► a batch per reducer ──► shuffle_write
//!   reduce task:  stream of batches, in order of map partition ──► by key, sorted, or as they are
//! ```
//!
//! A key's reducer is a function of its encoding alone (see [`crate::hash`]).

use crate::batch::{
    Batch, BatchReader, RecordReader, decode_or_fail, for_each_batch, skip_or_fail,
};
use crate::hash::{hash_bytes, reducer_of};
use crate::host::{self, InputStream, STREAM_BUFFER_BYTES};
use crate::key_table::KeyTable;
use crate::node::{Node, Origin};
use crate::record::Record;
use offshoot_proto::abi::{NodeKind, Source};
use offshoot_proto::id::NodeId;
use std::rc::Rc;

/// Bytes of unwritten batches that a map task holds, over all reducers.
const BATCHES_BYTES: usize = 8 << 20;

/// Bytes at which one reducer's batch is written, where the reducers are few.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// Bytes at which it is written, however many reducers there are.
const BATCH_BYTES_MIN: usize = 1 << 10;

/// Bytes of partial results at which a map task writes them out and starts again: an eighth of
/// the memory that a task has by default, because the table doubles as it grows. A constant, so
/// that a task writes the same bytes wherever it runs.
const COMBINE_BYTES_MAX: usize = 64 << 20;

/// What a map task writes.
pub(crate) struct ShuffleWriter {
    batches: Vec<Batch>,
    batch_bytes: usize,
}

/// A map task's table of partial results.
pub(crate) struct Combiner<V> {
    table: KeyTable<Option<V>>,
    writer: ShuffleWriter,
    bytes_max: usize,
}

/// A node whose tasks write a shuffle.
pub(crate) fn writer_node(
    origin: Origin,
    reducers: u32,
    parent: &Rc<Node>,
    write: impl Fn(u32, ShuffleWriter) + 'static,
) -> Rc<Node> {
    let kind = NodeKind::ShuffleWrite { reducers };
    let run = move |partition| write(partition, ShuffleWriter::new(reducers));
    Node::with_tasks(origin, kind, parent, Rc::new(run))
}

fn open(writer: NodeId, reducer: u32) -> BatchReader<InputStream> {
    let stream = host::open_in_task(&Source::Shuffle { writer, reducer });
    BatchReader::new(stream, STREAM_BUFFER_BYTES)
}

/// Every record of a reduce partition.
pub(crate) fn read<T: Record>(writer: NodeId, reducer: u32) -> impl Iterator<Item = T> {
    RecordReader::new(open(writer, reducer))
}

/// Every byte string of a reduce partition, in place.
pub(crate) fn for_each_bytes(writer: NodeId, reducer: u32, mut each: impl FnMut(&[u8])) {
    for_each_batch(open(writer, reducer), |records, input| {
        for _ in 0..records {
            let length = decode_or_fail::<usize>(input);
            match input.split_at_checked(length) {
                Some((bytes, rest)) => {
                    each(bytes);
                    *input = rest;
                }
                None => crate::task::fail(format_args!("shuffle data: {length} bytes are missing")),
            }
        }
    });
}

/// Brings a reduce partition together by key.
pub(crate) fn read_by_key<K: Record, V: Record, A>(
    writer: NodeId,
    reducer: u32,
    new: impl Fn() -> A,
    add: impl Fn(&mut A, V),
) -> KeyTable<A> {
    let mut table = KeyTable::new();
    for_each_batch(open(writer, reducer), |records, input| {
        for _ in 0..records {
            let key = skip_or_fail::<K>(input);
            let value = decode_or_fail::<V>(input);
            add(table.entry(key, hash_bytes(key), &new), value);
        }
    });
    table
}

/// `combine` on a value that a table holds; `None` is a key just made.
#[inline]
pub(crate) fn combine_into<V>(held: &mut Option<V>, value: V, combine: &impl Fn(V, V) -> V) {
    *held = Some(match held.take() {
        Some(before) => combine(before, value),
        None => value,
    });
}

// === impl ShuffleWriter ===

impl ShuffleWriter {
    fn new(reducers: u32) -> Self {
        let share = BATCHES_BYTES / (reducers as usize).max(1);
        Self {
            batches: (0..reducers).map(|_| Batch::default()).collect(),
            batch_bytes: share.clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX),
        }
    }

    /// Adds a record for a reducer.
    #[inline]
    pub(crate) fn write(&mut self, reducer: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        let batch = &mut self.batches[reducer as usize];
        batch.add(encode);
        if batch.len() >= self.batch_bytes {
            batch.take(|bytes| host::write_shuffle(reducer, bytes));
        }
    }

    /// Adds a record for the reducer of its key, given by its encoding.
    #[inline]
    pub(crate) fn write_keyed(&mut self, key: &[u8], value: &impl Record) {
        let reducers = self.batches.len() as u32;
        self.write(reducer_of(hash_bytes(key), reducers), |out| {
            out.extend_from_slice(key);
            value.encode(out);
        });
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) {
        for (reducer, batch) in (0..).zip(&mut self.batches) {
            batch.take(|bytes| host::write_shuffle(reducer, bytes));
        }
    }
}

// === impl Combiner ===

impl<V: Record> Combiner<V> {
    pub(crate) fn new(writer: ShuffleWriter) -> Self {
        Self { table: KeyTable::new(), writer, bytes_max: COMBINE_BYTES_MAX }
    }

    /// Adds a value to what its key has. `encode_key` makes the key's encoding of the bytes under
    /// which the table holds it.
    #[inline]
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        value: V,
        combine: &impl Fn(V, V) -> V,
        encode_key: impl Fn(&[u8], &mut Vec<u8>),
    ) {
        let held = self.table.entry(key, hash_bytes(key), || None);
        let before = held.heap_bytes();
        combine_into(held, value, combine);
        let after = held.heap_bytes();
        if after != before {
            self.table.account(before, after);
        }
        if self.table.heap_bytes() > self.bytes_max {
            self.flush(encode_key);
        }
    }

    /// Writes the partial results and starts again.
    #[cold]
    fn flush(&mut self, encode_key: impl Fn(&[u8], &mut Vec<u8>)) {
        let mut encoded = Vec::new();
        self.table.drain(|key, value| {
            encoded.clear();
            encode_key(key, &mut encoded);
            if let Some(value) = value {
                self.writer.write_keyed(&encoded, &value);
            }
        });
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self, encode_key: impl Fn(&[u8], &mut Vec<u8>)) {
        self.flush(encode_key);
        self.writer.finish();
    }
}

#[cfg(test)]
impl<V> Combiner<V> {
    /// A smaller bound, for tests.
    pub(crate) fn with_bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }
}
