//! One value for each key, made of its values two at a time.
//!
//! Map tasks combine what they have in a bounded table, which writes its partial results when it
//! is full and starts again; reduce tasks combine those, spilling. Values of a key are combined in
//! the order of the dataset, so `combine` must be associative, but need not be commutative.

use crate::dataset::Dataset;
use crate::external::aggregate::Aggregator;
use crate::node::{Edge, Node, Origin};
use crate::pairs::node_by_key;
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::shuffle::{self, Combiner, writer_node};
use std::rc::Rc;

/// A key that a table holds by its encoding.
fn copy_key(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key);
}

/// The reduce side: brings partial results together.
pub(crate) fn reduced<K: Record, C: Record>(
    origin: Origin,
    partitioner: Partitioner<K>,
    writer: Rc<Node>,
    combine: Rc<impl Fn(C, C) -> C + 'static>,
) -> Dataset<(K, C)> {
    let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
    Dataset::new(node_by_key(origin, partitioner, edges), move |reducer| {
        let mut totals = Aggregator::new(&combine);
        shuffle::for_each_keyed::<K>(writer.id(), reducer, |key, input| {
            totals.combine_next(key, input);
        });
        totals.into_records()
    })
}

impl<K: Record, V: Record> Dataset<(K, V)> {
    /// One value for each key. `combine` must be associative. Spark: `reduceByKey`.
    #[track_caller]
    pub fn reduce_by_key(&self, combine: impl Fn(V, V) -> V + 'static) -> Self {
        let (origin, partitioner) =
            (Origin::here("reduce_by_key"), self.own_or_default_partitioner());
        self.reduced_by(origin, partitioner, combine)
    }

    /// [`reduce_by_key`](Self::reduce_by_key) into so many partitions.
    #[track_caller]
    pub fn reduce_by_key_with_partitions(
        &self,
        partitions: u32,
        combine: impl Fn(V, V) -> V + 'static,
    ) -> Self {
        self.reduced_by(Origin::here("reduce_by_key"), Partitioner::hash(partitions), combine)
    }

    fn reduced_by(
        &self,
        origin: Origin,
        partitioner: Partitioner<K>,
        combine: impl Fn(V, V) -> V + 'static,
    ) -> Self {
        let combine = Rc::new(combine);
        let add = Rc::clone(&combine);
        self.combined(origin, partitioner, |v| v, move |a, b| add(a, b), move |a, b| combine(a, b))
    }
}

impl<K: Record, V: 'static> Dataset<(K, V)> {
    /// One result for each key, which may be of another type than the values: `create` makes one
    /// of a value, `add` adds a further value, `merge` brings two results together; which values
    /// are added and which are merged is not said. Spark: `combineByKey`.
    #[track_caller]
    pub fn combine_by_key<C: Record>(
        &self,
        create: impl Fn(V) -> C + 'static,
        add: impl Fn(C, V) -> C + 'static,
        merge: impl Fn(C, C) -> C + 'static,
    ) -> Dataset<(K, C)> {
        let origin = Origin::here("combine_by_key");
        self.combined(origin, self.own_or_default_partitioner(), create, add, merge)
    }

    /// [`combine_by_key`](Self::combine_by_key), partitioned as given.
    #[track_caller]
    pub fn combine_by_key_with_partitioner<C: Record>(
        &self,
        partitioner: &Partitioner<K>,
        create: impl Fn(V) -> C + 'static,
        add: impl Fn(C, V) -> C + 'static,
        merge: impl Fn(C, C) -> C + 'static,
    ) -> Dataset<(K, C)> {
        let origin = Origin::here("combine_by_key");
        self.combined(origin, partitioner.clone(), create, add, merge)
    }

    /// One result for each key: `add` starts from `zero`, any number of times for a key, and
    /// `merge` brings the results together; so `zero` must be neutral for it. Spark:
    /// `aggregateByKey`, which starts once for each key and partition.
    #[track_caller]
    pub fn aggregate_by_key<C: Record + Clone>(
        &self,
        zero: C,
        add: impl Fn(C, V) -> C + 'static,
        merge: impl Fn(C, C) -> C + 'static,
    ) -> Dataset<(K, C)> {
        let origin = Origin::here("aggregate_by_key");
        let add = Rc::new(add);
        let first = Rc::clone(&add);
        let create = move |value| first(zero.clone(), value);
        let add = move |held, value| add(held, value);
        self.combined(origin, self.own_or_default_partitioner(), create, add, merge)
    }

    /// One value for each key, from `zero`, which must be neutral: it is started from any number of
    /// times. Spark: `foldByKey`.
    #[track_caller]
    pub fn fold_by_key(&self, zero: V, combine: impl Fn(V, V) -> V + 'static) -> Self
    where
        V: Record + Clone,
    {
        let origin = Origin::here("fold_by_key");
        let combine = Rc::new(combine);
        let (first, add) = (Rc::clone(&combine), Rc::clone(&combine));
        let create = move |value| first(zero.clone(), value);
        let add = move |held, value| add(held, value);
        let merge = move |left, right| combine(left, right);
        self.combined(origin, self.own_or_default_partitioner(), create, add, merge)
    }

    /// What all of the above are.
    pub(crate) fn combined<C: Record>(
        &self,
        origin: Origin,
        partitioner: Partitioner<K>,
        create: impl Fn(V) -> C + 'static,
        add: impl Fn(C, V) -> C + 'static,
        merge: impl Fn(C, C) -> C + 'static,
    ) -> Dataset<(K, C)> {
        let (pairs, merge) = (self.clone(), Rc::new(merge));
        let change = move |value, held| match held {
            Some(before) => add(before, value),
            None => create(value),
        };
        if self.has_partitioner(&partitioner) {
            let edges = Edge::one_to_one(self.node());
            return Dataset::new(node_by_key(origin, partitioner, edges), move |partition| {
                let (mut totals, mut encoded) = (Aggregator::new(&merge), Vec::new());
                pairs.records(partition).for_each(|(key, value)| {
                    encoded.clear();
                    key.encode(&mut encoded);
                    totals.update(&encoded, value, &change);
                });
                totals.into_records()
            });
        }
        let (by_key, reducers) = (partitioner.clone(), partitioner.partitions());
        let combine = Rc::clone(&merge);
        let writer = writer_node(origin, reducers, self.node(), move |partition, writer| {
            let mut partial = Combiner::new(writer, by_key.clone(), &combine);
            let mut encoded = Vec::new();
            pairs.records(partition).for_each(|(key, value)| {
                encoded.clear();
                key.encode(&mut encoded);
                partial.update(&encoded, value, &change, copy_key);
            });
            partial.finish(copy_key);
        });
        reduced(origin, partitioner, writer, merge)
    }
}
