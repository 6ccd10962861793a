//! The two sides of a shuffle.
//!
//! ```text
//!   map task:  records ──► [combine table] ──► a batch per reducer ──► shuffle_write
//!   reduce task:  stream of batches, in order of map partition ──► by key, sorted, or as they are
//! ```
//!
//! A key's reducer is a function of the key alone (see [`crate::partitioner`]).

use crate::batch::{
    Batch, BatchReader, RecordReader, decode_or_fail, for_each_batch, skip_or_fail,
};
use crate::external::aggregate::Totals;
use crate::external::parts::{PARTS, Parts};
use crate::external::{self, Room};
use crate::host::{self, InputStream, STREAM_BUFFER_BYTES};
use crate::key_table::KeyTable;
use crate::node::{Edge, Node, Origin};
use crate::partitioner::Partitioner;
use crate::record::Record;
use offshoot_proto::abi::{MapRange, NodeKind, Source};
use offshoot_proto::id::NodeId;
use std::rc::Rc;

/// Most bytes of unwritten batches that a map task holds, over all reducers.
const BATCHES_BYTES: usize = 8 << 20;

/// Bytes at which one reducer's batch is written, where the reducers are few.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// Bytes at which it is written, however many reducers there are.
const BATCH_BYTES_MIN: usize = 1 << 10;

/// Records that must have been brought together for each of their keys, as a fraction. Where it is
/// fewer, to write them as they come takes less time.
const WORTH_COMBINING: (u64, u64) = (3, 2);

/// How many times as many records are written as they come before it is tried again.
const DIRECT_TIMES: u64 = 4;

/// What a map task writes.
pub(crate) struct ShuffleWriter {
    batches: Vec<Batch>,
    batch_bytes: usize,
}

/// A map task's partial results: in a table, written when it is full; by parts, where the table is
/// too large for the caches; or not brought together at all for a while, where nearly every record
/// has a key of its own.
pub(crate) struct Combiner<K: 'static, C, M> {
    mode: Mode,
    totals: Totals<C>,
    parts: Parts,
    combine: Rc<M>,
    writer: ShuffleWriter,
    partitioner: Partitioner<K>,
    room: Room,
    encoded: Vec<u8>,
}

enum Mode {
    Table,
    Parts,
    /// So many records are still to pass by.
    Direct(u64),
}

/// A node whose tasks write a shuffle of the partitions of `parent`.
pub(crate) fn writer_node(
    origin: Origin,
    reducers: u32,
    parent: &Rc<Node>,
    write: impl Fn(u32, ShuffleWriter) + 'static,
) -> Rc<Node> {
    writer_node_reading(origin, reducers, parent.partitions(), Edge::one_to_one(parent), write)
}

/// [`writer_node`] over several parents.
pub(crate) fn writer_node_reading(
    origin: Origin,
    reducers: u32,
    partitions: u32,
    edges: Vec<Edge>,
    write: impl Fn(u32, ShuffleWriter) + 'static,
) -> Rc<Node> {
    let kind = NodeKind::ShuffleWrite { reducers };
    let run = move |partition| write(partition, ShuffleWriter::new(reducers));
    Node::with_tasks(origin, kind, partitions, edges, Rc::new(run))
}

fn open(writer: NodeId, reducer: u32) -> BatchReader<InputStream> {
    let stream = host::open_in_task(&Source::Shuffle { writer, reducer });
    BatchReader::new(stream, STREAM_BUFFER_BYTES)
}

/// Every record of a reduce partition.
pub(crate) fn read<T: Record>(writer: NodeId, reducer: u32) -> impl Iterator<Item = T> {
    RecordReader::new(open(writer, reducer))
}

/// Every record that a map partition wrote for the only reducer.
pub(crate) fn read_block<T: Record>(writer: NodeId, map: u32) -> impl Iterator<Item = T> {
    read_blocks(writer, 0, MapRange { first: map, count: 1 })
}

/// Every record that some map partitions wrote for a reducer.
pub(crate) fn read_blocks<T: Record>(
    writer: NodeId,
    reducer: u32,
    maps: MapRange,
) -> impl Iterator<Item = T> {
    RecordReader::new(open_blocks(writer, reducer, maps))
}

fn open_blocks(writer: NodeId, reducer: u32, maps: MapRange) -> BatchReader<InputStream> {
    let stream = host::open_in_task(&Source::Blocks { writer, reducer, maps });
    BatchReader::new(stream, STREAM_BUFFER_BYTES)
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

/// Every pair of a reduce partition: the key's encoding in place, and the input at the value, which
/// `each` moves past it.
pub(crate) fn for_each_keyed<K: Record>(
    writer: NodeId,
    reducer: u32,
    mut each: impl FnMut(&[u8], &mut &[u8]),
) {
    for_each_batch(open(writer, reducer), |records, input| {
        for _ in 0..records {
            let key = skip_or_fail::<K>(input);
            each(key, input);
        }
    });
}

/// Every pair of a reduce partition: the encodings of key and value, in place.
pub(crate) fn for_each_encoded<K: Record, V: Record>(
    writer: NodeId,
    reducer: u32,
    each: &mut dyn FnMut(&[u8], &[u8]),
) {
    for_each_encoded_of::<K, V>(open(writer, reducer), each);
}

/// [`for_each_encoded`] of what some map partitions wrote.
pub(crate) fn for_each_encoded_block<K: Record, V: Record>(
    writer: NodeId,
    reducer: u32,
    maps: MapRange,
    each: &mut dyn FnMut(&[u8], &[u8]),
) {
    for_each_encoded_of::<K, V>(open_blocks(writer, reducer, maps), each);
}

fn for_each_encoded_of<K: Record, V: Record>(
    batches: BatchReader<InputStream>,
    each: &mut dyn FnMut(&[u8], &[u8]),
) {
    for_each_batch(batches, |records, input| {
        for _ in 0..records {
            let key = skip_or_fail::<K>(input);
            each(key, skip_or_fail::<V>(input));
        }
    });
}

/// Every record of a reduce partition, with the length of its encoding.
pub(crate) fn for_each_sized<T: Record>(
    writer: NodeId,
    reducer: u32,
    mut each: impl FnMut(T, usize),
) {
    for_each_batch(open(writer, reducer), |records, input| {
        for _ in 0..records {
            let before = input.len();
            let record = decode_or_fail(input);
            each(record, before - input.len());
        }
    });
}

// === impl ShuffleWriter ===

impl ShuffleWriter {
    pub(crate) fn new(reducers: u32) -> Self {
        let share = external::batches_bytes(BATCHES_BYTES) / (reducers as usize).max(1);
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

    /// Adds a pair, its key given by its encoding.
    #[inline]
    pub(crate) fn write_pair(&mut self, reducer: u32, key: &[u8], value: &impl Record) {
        self.write(reducer, |out| {
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

impl<K: Record, C: Record, M: Fn(C, C) -> C> Combiner<K, C, M> {
    pub(crate) fn new(writer: ShuffleWriter, partitioner: Partitioner<K>, combine: &Rc<M>) -> Self {
        let room = Room::of_table();
        Self {
            mode: Mode::Table,
            totals: Totals::new(),
            parts: Parts::new(room.bytes()),
            combine: Rc::clone(combine),
            writer,
            partitioner,
            room,
            encoded: Vec::new(),
        }
    }

    /// Changes what there is of a key by a value. `encode_key` makes the key's encoding of the
    /// bytes under which the table holds it.
    #[inline]
    pub(crate) fn update<V>(
        &mut self,
        key: &[u8],
        value: V,
        change: &impl Fn(V, Option<C>) -> C,
        encode_key: impl Fn(&[u8], &mut Vec<u8>),
    ) {
        if let Mode::Table = self.mode {
            self.totals.update(key, |held| change(value, held));
            if self.totals.table.heap_bytes() > self.room.bytes() {
                self.write_table(encode_key);
            } else if self.totals.is_outgrown() {
                // What is there goes first: the values of a key keep their order.
                self.write_table(encode_key);
                (self.mode, self.totals) = (Mode::Parts, Totals::new());
            }
            return;
        }
        self.encoded.clear();
        encode_key(key, &mut self.encoded);
        self.pass(&change(value, None));
    }

    /// Takes a record, whose key is encoded, without a table.
    fn pass(&mut self, value: &C) {
        let key = &self.encoded;
        match &mut self.mode {
            Mode::Direct(left) => {
                self.writer.write_pair(self.partitioner.partition_of_encoded(key), key, value);
                *left -= 1;
                if *left == 0 {
                    self.mode = Mode::Table;
                }
            }
            Mode::Table | Mode::Parts => {
                self.parts.add(key, |out| value.encode(out));
                if self.parts.bytes() > self.room.bytes() {
                    self.write_parts();
                }
            }
        }
    }

    /// Writes the results of the table and starts again.
    #[cold]
    fn write_table(&mut self, encode_key: impl Fn(&[u8], &mut Vec<u8>)) {
        let Self { totals, partitioner, writer, encoded, .. } = self;
        totals.drain(|key, held| {
            encoded.clear();
            encode_key(key, encoded);
            if let Some(held) = held {
                writer.write_pair(partitioner.partition_of_encoded(encoded), encoded, &held);
            }
        });
    }

    /// Writes the results of all parts and starts again.
    #[cold]
    fn write_parts(&mut self) {
        let Self { parts, combine, partitioner, writer, .. } = self;
        let (taken, mut written, mut table) = (parts.pairs(), 0, KeyTable::new());
        for part in 0..PARTS {
            parts.take::<K, C>(part, &**combine, &mut table);
            written += table.len() as u64;
            table.drain(|key, held| {
                if let Some(held) = held {
                    writer.write_pair(partitioner.partition_of_encoded(key), key, &held);
                }
            });
        }
        let (records, keys) = WORTH_COMBINING;
        let worth = taken * keys >= written * records;
        self.mode = if worth { Mode::Table } else { Mode::Direct(taken * DIRECT_TIMES) };
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self, encode_key: impl Fn(&[u8], &mut Vec<u8>)) {
        self.write_table(encode_key);
        self.write_parts();
        self.writer.finish();
    }
}
