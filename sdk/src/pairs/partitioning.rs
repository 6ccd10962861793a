//! Which partition a key is in: by a partitioner, or in ranges for a sort.

use crate::context;
use crate::dataset::Dataset;
use crate::external::sorted::SortBuffer;
use crate::gather::gather;
use crate::node::{Edge, Node, Origin};
use crate::pairs::{Side, node_by_key};
use crate::partitioner::Partitioner;
use crate::ranges::{Cuts, Ranges, cuts};
use crate::record::Record;
use crate::records::Records;
use crate::sample::{Reservoir, samples_per_partition};
use crate::shuffle::{self, writer_node_reading};
use core::any::Any;
use std::rc::Rc;

/// Pairs of a reduce partition in order of their keys.
fn sort_shuffled<K: Record + Ord, V: Record>(writer: &Node, reducer: u32) -> Records<(K, V)> {
    let mut buffer = SortBuffer::new();
    shuffle::for_each_sized(writer.id(), reducer, |pair, bytes| buffer.add(pair, bytes));
    buffer.into_records()
}

impl<K: Record, V: Record> Dataset<(K, V)> {
    /// The pairs where `partitioner` wants them; as they are if they are there. What is read
    /// often by key, such as the links of a graph, is best partitioned once. Spark:
    /// `partitionBy`.
    #[track_caller]
    pub fn partition_by(&self, partitioner: &Partitioner<K>) -> Self {
        let side = self.side(Origin::here("partition_by"), partitioner);
        let Side::Shuffled(_) = side else {
            return self.clone();
        };
        let origin = Origin::here("partition_by");
        let node = node_by_key(origin, partitioner.clone(), side.edge().into_iter().collect());
        Dataset::new(node, move |partition| side.records(partition))
    }
}

impl<K: Record + Ord, V: Record> Dataset<(K, V)> {
    /// The pairs where `partitioner` wants them, in each partition in order of their keys. Equal
    /// keys keep their order. Spark: `repartitionAndSortWithinPartitions`.
    #[track_caller]
    pub fn repartition_and_sort_within_partitions(&self, partitioner: &Partitioner<K>) -> Self {
        let origin = Origin::here("repartition_and_sort_within_partitions");
        let side = self.side(origin, partitioner);
        let node = node_by_key(origin, partitioner.clone(), side.edge().into_iter().collect());
        Dataset::new(node, move |partition| match &side {
            Side::Shuffled(writer) => sort_shuffled(writer, partition),
            side => {
                let (mut buffer, mut encoded) = (SortBuffer::new(), Vec::new());
                side.records(partition).for_each(|pair| {
                    // Its length says how much the pair holds.
                    encoded.clear();
                    pair.encode(&mut encoded);
                    buffer.add(pair, encoded.len());
                });
                buffer.into_records()
            }
        })
    }
}

impl<K: Record + Ord + Clone, V: Record> Dataset<(K, V)> {
    /// The pairs in order of their keys, over all partitions; equal keys in the order of the
    /// dataset. A sample of the keys is taken first, as a stage of the same job. A key is in one
    /// partition, however many pairs it has: [`sort_by`](Self::sort_by) divides them. Spark:
    /// `sortByKey`.
    #[track_caller]
    pub fn sort_by_key(&self) -> Self {
        self.sort_by_key_with_partitions(context::parallelism())
    }

    /// [`sort_by_key`](Self::sort_by_key) into so many partitions, some of which may be empty.
    #[track_caller]
    pub fn sort_by_key_with_partitions(&self, partitions: u32) -> Self {
        // What follows by key relies on it that a key is in one partition.
        let merge = move |samples| {
            let (bounds, ..) = cuts(samples, partitions, K::cmp);
            let widths = vec![1; bounds.len()];
            (bounds, widths, Vec::new())
        };
        let partitioner = Partitioner::<K>::ranges(partitions);
        self.in_ranges(Origin::here("sort_by_key"), partitions, Some(Rc::new(partitioner)), merge)
    }

    /// [`sort_by_key`](Self::sort_by_key), but that a key with very many records may be in several
    /// partitions.
    pub(crate) fn sorted(&self, origin: Origin, partitions: u32) -> Self {
        self.in_ranges(origin, partitions, None, move |samples| cuts(samples, partitions, K::cmp))
    }

    fn in_ranges(
        &self,
        origin: Origin,
        partitions: u32,
        partitioner: Option<Rc<dyn Any>>,
        merge: impl Fn(Vec<(Vec<K>, u64)>) -> Cuts<K> + 'static,
    ) -> Self {
        let (sampled, pairs) = (self.clone(), self.clone());
        let count = samples_per_partition(self.partitions(), partitions);
        let sample = move |partition| {
            let mut reservoir = Reservoir::new(count, partition);
            sampled.records(partition).for_each(|(key, _)| reservoir.offer(|| key));
            reservoir.into_sample()
        };
        let cuts = gather(origin, self.node(), sample, merge);
        let mut edges = Edge::one_to_one(self.node());
        edges.push(cuts.edge());
        let write = move |partition, mut writer: shuffle::ShuffleWriter| {
            let mut ranges = Ranges::<K>::new(cuts.read(), partition);
            pairs.records(partition).for_each(|pair| {
                let range = ranges.range_of(|bound| bound.cmp(&pair.0));
                writer.write(range, |out| pair.encode(out));
            });
            writer.finish();
        };
        let writer = writer_node_reading(origin, partitions, self.partitions(), edges, write);
        let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
        let node = Node::partitioned(origin, partitions, edges, partitioner);
        Self::new(node, move |reducer| sort_shuffled(&writer, reducer))
    }
}
