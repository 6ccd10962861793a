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
use crate::external::{self, Room, aggregate};
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

/// Bytes of a table at which it is asked whether it is worth its while: about what a core's cache
/// holds. Less in tests, so that their small tables are asked, too.
const TRIAL_BYTES: usize = if cfg!(test) { 400 } else { 1 << 20 };

/// Records that a table must have taken for each of its keys by then, as a fraction. One that
/// brings fewer together takes longer, by the misses of the cache, than what it saves.
const WORTH_COMBINING: (u64, u64) = (3, 2);

/// Records that pass by the table before it is tried again.
const DIRECT_RECORDS: u32 = if cfg!(test) { 50 } else { 1 << 18 };

/// What a map task writes.
pub(crate) struct ShuffleWriter {
    batches: Vec<Batch>,
    batch_bytes: usize,
}

/// A map task's table of partial results, written out when it is full, and left aside for a while
/// where nearly every record has a key of its own.
pub(crate) struct Combiner<K: 'static, C> {
    table: KeyTable<Option<C>>,
    writer: ShuffleWriter,
    partitioner: Partitioner<K>,
    room: Room,
    /// Records taken since the table was empty, and whether they have been looked at.
    taken: u64,
    tried: bool,
    /// Records that are still to pass by.
    direct: u32,
    encoded: Vec<u8>,
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

/// Every pair of a reduce partition: the key's encoding in place, the value decoded.
pub(crate) fn for_each_keyed<K: Record, V: Record>(
    writer: NodeId,
    reducer: u32,
    mut each: impl FnMut(&[u8], V),
) {
    for_each_batch(open(writer, reducer), |records, input| {
        for _ in 0..records {
            let key = skip_or_fail::<K>(input);
            each(key, decode_or_fail(input));
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

impl<K: Record, C: Record> Combiner<K, C> {
    pub(crate) fn new(writer: ShuffleWriter, partitioner: Partitioner<K>) -> Self {
        let (table, room, encoded) = (KeyTable::new(), Room::of_table(), Vec::new());
        Self { table, writer, partitioner, room, taken: 0, tried: false, direct: 0, encoded }
    }

    /// Changes what there is of a key. `encode_key` makes the key's encoding of the bytes under
    /// which the table holds it.
    #[inline]
    pub(crate) fn update(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<C>) -> C,
        encode_key: impl Fn(&[u8], &mut Vec<u8>),
    ) {
        if self.direct > 0 {
            self.direct -= 1;
            self.encoded.clear();
            encode_key(key, &mut self.encoded);
            let reducer = self.partitioner.partition_of_encoded(&self.encoded);
            return self.writer.write_pair(reducer, &self.encoded, &change(None));
        }
        aggregate::update(&mut self.table, key, change);
        self.taken += 1;
        let bytes = self.table.heap_bytes();
        if bytes > self.room.bytes() {
            self.flush(encode_key);
        } else if bytes > TRIAL_BYTES && !self.tried {
            self.judge(encode_key);
        }
    }

    /// Leaves the table aside if it brings little together.
    #[cold]
    fn judge(&mut self, encode_key: impl Fn(&[u8], &mut Vec<u8>)) {
        self.tried = true;
        let (records, keys) = WORTH_COMBINING;
        if self.taken * keys < self.table.len() as u64 * records {
            // What is there goes first: the values of a key keep their order.
            self.flush(encode_key);
            self.direct = DIRECT_RECORDS;
        }
    }

    /// Writes the partial results and starts again.
    #[cold]
    fn flush(&mut self, encode_key: impl Fn(&[u8], &mut Vec<u8>)) {
        (self.taken, self.tried) = (0, false);
        let mut encoded = Vec::new();
        self.table.drain(|key, held| {
            encoded.clear();
            encode_key(key, &mut encoded);
            if let Some(held) = held {
                let reducer = self.partitioner.partition_of_encoded(&encoded);
                self.writer.write_pair(reducer, &encoded, &held);
            }
        });
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self, encode_key: impl Fn(&[u8], &mut Vec<u8>)) {
        self.flush(encode_key);
        self.writer.finish();
    }
}
