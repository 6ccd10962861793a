//! Operations by key on a `Dataset<(K, V)>`. Keys are the same if their encodings are.

use crate::batch::decode_or_fail;
use crate::context;
use crate::dataset::Dataset;
use crate::hash::hash_bytes;
use crate::key_table::KeyTable;
use crate::node::{Edge, Node, Origin};
use crate::record::Record;
use crate::records::Records;
use crate::shuffle::{self, Combiner, combine_into, writer_node};
use std::rc::Rc;

/// Reduce partitions where the job names no number.
pub(crate) fn default_reducers() -> u32 {
    context::parallelism()
}

/// A key that the table holds by its encoding.
fn copy_key(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key);
}

/// What a table holds, key by key.
fn table_records<K: Record, A: 'static>(table: KeyTable<A>) -> impl Iterator<Item = (K, A)> {
    let mut entries = table.into_entries();
    core::iter::from_fn(move || entries.next_with(|mut key| decode_or_fail(&mut key)))
}

/// The reduce side of `reduce_by_key`.
pub(crate) fn reduced<K: Record, V: Record>(
    origin: Origin,
    partitions: u32,
    writer: Rc<Node>,
    combine: Rc<impl Fn(V, V) -> V + 'static>,
) -> Dataset<(K, V)> {
    let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
    Dataset::new(Node::records(origin, partitions, edges), move |reducer| {
        let add = |held: &mut Option<V>, value| combine_into(held, value, &*combine);
        let table = shuffle::read_by_key::<K, V, _>(writer.id(), reducer, || None, add);
        let pairs = table_records(table);
        Records::new(pairs.filter_map(|(key, value)| value.map(|value| (key, value))))
    })
}

impl<K: Record, V: Record> Dataset<(K, V)> {
    /// A shuffle of the pairs by key, without combining.
    fn write_by_key(&self, origin: Origin, partitions: u32) -> Rc<Node> {
        let pairs = self.clone();
        writer_node(origin, partitions, self.node(), move |partition, mut writer| {
            let mut encoded = Vec::new();
            pairs.records(partition).for_each(|(key, value)| {
                encoded.clear();
                key.encode(&mut encoded);
                writer.write_keyed(&encoded, &value);
            });
            writer.finish();
        })
    }

    /// One value for each key. `combine` must not depend on the order of values.
    #[track_caller]
    pub fn reduce_by_key(&self, combine: impl Fn(V, V) -> V + 'static) -> Self {
        self.reduce_by_key_with_partitions(default_reducers(), combine)
    }

    /// [`reduce_by_key`](Self::reduce_by_key) into so many partitions.
    #[track_caller]
    pub fn reduce_by_key_with_partitions(
        &self,
        partitions: u32,
        combine: impl Fn(V, V) -> V + 'static,
    ) -> Self {
        let origin = Origin::here("reduce_by_key");
        let combine = Rc::new(combine);
        let (pairs, map_side) = (self.clone(), Rc::clone(&combine));
        let writer = writer_node(origin, partitions, self.node(), move |partition, writer| {
            let mut combiner = Combiner::new(writer);
            let mut encoded = Vec::new();
            pairs.records(partition).for_each(|(key, value)| {
                encoded.clear();
                key.encode(&mut encoded);
                combiner.add(&encoded, value, &*map_side, copy_key);
            });
            combiner.finish(copy_key);
        });
        reduced(origin, partitions, writer, combine)
    }

    /// All values of each key, in the order of the dataset. They must fit a task's memory.
    #[track_caller]
    pub fn group_by_key(&self) -> Dataset<(K, Vec<V>)> {
        self.group_by_key_with_partitions(default_reducers())
    }

    /// [`group_by_key`](Self::group_by_key) into so many partitions.
    #[track_caller]
    pub fn group_by_key_with_partitions(&self, partitions: u32) -> Dataset<(K, Vec<V>)> {
        let origin = Origin::here("group_by_key");
        let writer = self.write_by_key(origin, partitions);
        let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
        Dataset::new(Node::records(origin, partitions, edges), move |reducer| {
            let table = shuffle::read_by_key::<K, V, _>(writer.id(), reducer, Vec::new, Vec::push);
            Records::new(table_records(table))
        })
    }

    /// Every pair of a value here and a value there with the same key. The values of this side
    /// are held in memory, those of the other pass by: put the larger one there.
    #[track_caller]
    pub fn join<W: Record + Clone>(&self, other: &Dataset<(K, W)>) -> Dataset<(K, (V, W))>
    where
        K: Clone,
        V: Clone,
    {
        self.join_with_partitions(other, default_reducers())
    }

    /// [`join`](Self::join) into so many partitions.
    #[track_caller]
    pub fn join_with_partitions<W: Record + Clone>(
        &self,
        other: &Dataset<(K, W)>,
        partitions: u32,
    ) -> Dataset<(K, (V, W))>
    where
        K: Clone,
        V: Clone,
    {
        let origin = Origin::here("join");
        let held = self.write_by_key(origin, partitions);
        let passing = other.write_by_key(origin, partitions);
        let edges = [&held, &passing].map(|writer| Edge::Shuffle(Rc::clone(writer)));
        Dataset::new(Node::records(origin, partitions, edges.into()), move |reducer| {
            let table = shuffle::read_by_key::<K, V, _>(held.id(), reducer, Vec::new, Vec::push);
            let passing = shuffle::read::<(K, W)>(passing.id(), reducer);
            let mut encoded = Vec::new();
            Records::new(passing.flat_map(move |(key, there)| {
                encoded.clear();
                key.encode(&mut encoded);
                let matches = table.lookup(&encoded, hash_bytes(&encoded)).cloned();
                let matches = matches.unwrap_or_default().into_iter();
                matches.map(move |here| (key.clone(), (here, there.clone())))
            }))
        })
    }
}
