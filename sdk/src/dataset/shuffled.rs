//! Operations that move records of any kind between partitions.

use crate::context;
use crate::dataset::Dataset;
use crate::node::{Edge, Node, Origin};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::records::Records;
use crate::shuffle::{self, writer_node};
use std::rc::Rc;

impl<T: Record> Dataset<T> {
    /// Each record once, however often it is there. Records are the same if their encodings are.
    /// Spark: `distinct`.
    #[track_caller]
    pub fn distinct(&self) -> Self {
        self.distinct_with_partitions(context::parallelism())
    }

    /// [`distinct`](Self::distinct) into so many partitions.
    #[track_caller]
    pub fn distinct_with_partitions(&self, partitions: u32) -> Self {
        let origin = Origin::here("distinct");
        let marked = self.marked(origin, ());
        let once = marked.combined(
            origin,
            Partitioner::hash(partitions),
            |()| (),
            |(), ()| (),
            |(), ()| (),
        );
        once.keys_from(origin)
    }

    /// The records that are in both datasets, each once. Spark: `intersection`.
    #[track_caller]
    pub fn intersection(&self, other: &Self) -> Self {
        self.intersection_with_partitions(other, context::parallelism())
    }

    /// [`intersection`](Self::intersection) into so many partitions.
    #[track_caller]
    pub fn intersection_with_partitions(&self, other: &Self, partitions: u32) -> Self {
        const HERE: u8 = 1;
        const THERE: u8 = 2;
        let origin = Origin::here("intersection");
        // One shuffle of each side's distinct records: where each was seen.
        let seen = self.marked(origin, HERE).union(&other.marked(origin, THERE));
        let partitioner = Partitioner::hash(partitions);
        let seen = seen.combined(origin, partitioner, |m| m, |a, b| a | b, |a, b| a | b);
        seen.filter(|(_, marks)| *marks == HERE | THERE).keys_from(origin)
    }

    /// The records that are not in the other dataset, as often as they are in this one. Spark:
    /// `subtract`.
    #[track_caller]
    pub fn subtract(&self, other: &Self) -> Self
    where
        T: Clone,
    {
        self.subtract_with_partitions(other, context::parallelism())
    }

    /// [`subtract`](Self::subtract) into so many partitions.
    #[track_caller]
    pub fn subtract_with_partitions(&self, other: &Self, partitions: u32) -> Self
    where
        T: Clone,
    {
        let origin = Origin::here("subtract");
        let (here, there) = (self.marked(origin, ()), other.marked(origin, ()));
        here.subtracted(origin, &there, Partitioner::hash(partitions)).keys_from(origin)
    }

    /// The record as key of a mark.
    fn marked<M: Record + Clone>(&self, origin: Origin, mark: M) -> Dataset<(T, M)> {
        self.narrow(origin, move |_, records| {
            let mark = mark.clone();
            Records::new(records.map(move |record| (record, mark.clone())))
        })
    }

    /// The same records in so many partitions, equally many in each. Spark: `repartition`.
    #[track_caller]
    pub fn repartition(&self, partitions: u32) -> Self {
        let origin = Origin::here("repartition");
        let parent = self.clone();
        let writer = writer_node(origin, partitions, self.node(), move |partition, mut writer| {
            // In turn, each task beginning elsewhere, or the first partitions would get more.
            let mut next = partition % partitions;
            parent.records(partition).for_each(|record| {
                writer.write(next, |out| record.encode(out));
                next = if next + 1 == partitions { 0 } else { next + 1 };
            });
            writer.finish();
        });
        let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
        let node = Node::records(origin, partitions, edges);
        Dataset::new(node, move |reducer| Records::new(shuffle::read(writer.id(), reducer)))
    }

    /// The records in order of a key made of each, over all partitions; for the other direction,
    /// of a `core::cmp::Reverse`. Records with equal keys keep their order; where very many are
    /// equal, they are in several partitions. Spark: `sortBy`.
    #[track_caller]
    pub fn sort_by<K: Record + Ord + Clone>(&self, key: impl Fn(&T) -> K + 'static) -> Self {
        self.sort_by_with_partitions(context::parallelism(), key)
    }

    /// [`sort_by`](Self::sort_by) into so many partitions, some of which may be empty.
    #[track_caller]
    pub fn sort_by_with_partitions<K: Record + Ord + Clone>(
        &self,
        partitions: u32,
        key: impl Fn(&T) -> K + 'static,
    ) -> Self {
        let origin = Origin::here("sort_by");
        self.key_by_from(origin, key).sorted(origin, partitions).values_from(origin)
    }

    /// The records by a key made of each. Spark: `groupBy`.
    #[track_caller]
    pub fn group_by<K: Record>(&self, key: impl Fn(&T) -> K + 'static) -> Dataset<(K, Vec<T>)> {
        self.group_by_with_partitions(context::parallelism(), key)
    }

    /// [`group_by`](Self::group_by) into so many partitions.
    #[track_caller]
    pub fn group_by_with_partitions<K: Record>(
        &self,
        partitions: u32,
        key: impl Fn(&T) -> K + 'static,
    ) -> Dataset<(K, Vec<T>)> {
        let origin = Origin::here("group_by");
        self.key_by_from(origin, key).grouped(origin, Partitioner::hash(partitions))
    }
}
