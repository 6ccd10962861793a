//! Numbers for records.

use crate::dataset::Dataset;
use crate::gather::gather;
use crate::node::{Edge, Node, Origin};
use crate::records::Records;

impl<T: 'static> Dataset<T> {
    /// Every record with its place in the whole dataset, from 0. With more than one partition,
    /// the job counts the records of each first, as a stage of its own. Spark: `zipWithIndex`.
    #[track_caller]
    pub fn zip_with_index(&self) -> Dataset<(T, u64)> {
        let origin = Origin::here("zip_with_index");
        if self.partitions() == 1 {
            return self.narrow(origin, |_, records| Records::new(records.zip(0..)));
        }
        let counted = self.clone();
        let count = move |partition| counted.records(partition).fold(0u64, |count, _| count + 1);
        let starts = gather(origin, self.node(), count, |counts: Vec<u64>| {
            let start = |start: &mut u64, count| Some(core::mem::replace(start, *start + count));
            counts.into_iter().scan(0, start).collect::<Vec<u64>>()
        });
        let mut edges = Edge::one_to_one(self.node());
        edges.push(starts.edge());
        let parent = self.clone();
        Dataset::new(Node::records(origin, self.partitions(), edges), move |partition| {
            let start = starts.read()[partition as usize];
            Records::new(parent.records(partition).zip(start..))
        })
    }

    /// Every record with a number that no other one has: `partition + place * partitions`, with
    /// its place in its partition. Counts nothing before. Spark: `zipWithUniqueId`.
    #[track_caller]
    pub fn zip_with_unique_id(&self) -> Dataset<(T, u64)> {
        let step = self.partitions() as usize;
        self.narrow(Origin::here("zip_with_unique_id"), move |partition, records| {
            Records::new(records.zip((u64::from(partition)..).step_by(step)))
        })
    }
}
