//! `sort_by_key`: a sampling job, ranges of keys as reduce partitions, and a sort in each.

use crate::context;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::job::Action;
use crate::node::{Edge, Node, Origin};
use crate::record::Record;
use crate::records::Records;
use crate::sample::{Reservoir, bounds, range_of, samples_per_partition};
use crate::shuffle::{self, writer_node};
use std::rc::Rc;

impl<K: Record + Ord + Clone, V: Record> Dataset<(K, V)> {
    /// The pairs in order of their keys, over all partitions; equal keys in the order of the
    /// dataset. Runs a job that takes a sample of the keys. A partition must fit a task's memory.
    #[track_caller]
    pub fn sort_by_key(&self) -> Result<Self, Error> {
        self.sort_by_key_with_partitions(context::parallelism())
    }

    /// [`sort_by_key`](Self::sort_by_key) into so many partitions, some of which may be empty.
    #[track_caller]
    pub fn sort_by_key_with_partitions(&self, partitions: u32) -> Result<Self, Error> {
        let origin = Origin::here("sort_by_key");
        let bounds = self.sample_keys(origin, partitions)?;
        let pairs = self.clone();
        let writer = writer_node(origin, partitions, self.node(), move |partition, mut writer| {
            pairs.records(partition).for_each(|pair| {
                let range = range_of(&bounds, |bound| bound.cmp(&pair.0));
                writer.write(range, |out| pair.encode(out));
            });
            writer.finish();
        });
        let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
        let node = Node::records(origin, partitions, edges);
        Ok(Self::new(node, move |reducer| {
            let mut pairs: Vec<(K, V)> = shuffle::read(writer.id(), reducer).collect();
            pairs.sort_by(|left, right| left.0.cmp(&right.0));
            Records::new(pairs.into_iter())
        }))
    }

    fn sample_keys(&self, origin: Origin, partitions: u32) -> Result<Vec<K>, Error> {
        let pairs = self.clone();
        let count = samples_per_partition(self.partitions(), partitions);
        let action = Action::new(origin, self.node(), move |partition, out| {
            let mut reservoir = Reservoir::new(count, partition);
            let records = pairs.records(partition);
            records.for_each(|(key, _)| reservoir.offer(|| key));
            out.write(|bytes| reservoir.into_sample().encode(bytes));
        });
        let mut samples = Vec::new();
        action.run(|_, sample: (Vec<K>, u64)| samples.push(sample))?;
        Ok(bounds(samples, partitions, K::cmp))
    }
}
