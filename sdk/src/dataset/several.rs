//! Operations over several datasets, or several partitions of one, without a shuffle.

use crate::context::share;
use crate::dataset::Dataset;
use crate::node::{Edge, Node, Origin};
use crate::records::Records;
use crate::task;
use offshoot_proto::abi::NarrowMap;
use std::rc::Rc;

impl<T: 'static> Dataset<T> {
    /// The partitions of this dataset, then those of the other. Spark: `union`, `++`.
    #[track_caller]
    pub fn union(&self, other: &Self) -> Self {
        let (first, second) = (self.clone(), other.clone());
        let start = first.partitions();
        let parts = [(self, 0), (other, start)];
        let edges = parts
            .map(|(part, start)| Edge::Narrow(Rc::clone(part.node()), NarrowMap::Range { start }));
        let partitions = start.saturating_add(second.partitions());
        let node = Node::records(Origin::here("union"), partitions, edges.into());
        Dataset::new(node, move |partition| match partition.checked_sub(start) {
            Some(partition) => second.records(partition),
            None => first.records(partition),
        })
    }

    /// A partition made of the same partition of both. They must have as many partitions. Spark:
    /// `zipPartitions`.
    ///
    /// # Panics
    /// If the numbers of partitions differ.
    #[track_caller]
    pub fn zip_partitions<U: 'static, I>(
        &self,
        other: &Dataset<U>,
        change: impl Fn(Records<T>, Records<U>) -> I + 'static,
    ) -> Dataset<I::Item>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
    {
        self.zipped(Origin::here("zip_partitions"), other, move |_, left, right| {
            Records::new(change(left, right).into_iter())
        })
    }

    /// Pairs of the first record of both, the second of both, and so on. They must have as many
    /// partitions, and as many records in each; what has not fails the task. Spark: `zip`.
    ///
    /// # Panics
    /// If the numbers of partitions differ.
    #[track_caller]
    pub fn zip<U: 'static>(&self, other: &Dataset<U>) -> Dataset<(T, U)> {
        self.zipped(Origin::here("zip"), other, |partition, mut left, mut right| {
            let both = core::iter::from_fn(move || match (left.next(), right.next()) {
                (Some(left), Some(right)) => Some((left, right)),
                (None, None) => None,
                _ => task::fail(format_args!(
                    "zip: partition {partition} of one dataset has more records than that of the \
                     other; use zip_partitions for partitions that differ"
                )),
            });
            Records::new(both.fuse())
        })
    }

    #[track_caller]
    fn zipped<U: 'static, W: 'static>(
        &self,
        origin: Origin,
        other: &Dataset<U>,
        compute: impl Fn(u32, Records<T>, Records<U>) -> Records<W> + 'static,
    ) -> Dataset<W> {
        let (here, there) = (self.partitions(), other.partitions());
        assert!(here == there, "{}: {here} partitions and {there}; repartition one", origin.name);
        let edges = [self.node(), other.node()]
            .map(|node| Edge::Narrow(Rc::clone(node), NarrowMap::OneToOne));
        let node = Node::records(origin, here, edges.into());
        let (left, right) = (self.clone(), other.clone());
        Dataset::new(node, move |partition| {
            compute(partition, left.records(partition), right.records(partition))
        })
    }

    /// Every pair of a record here and a record there, in as many partitions as pairs of their
    /// partitions. A partition of the other dataset is held in a task's memory. Spark:
    /// `cartesian`.
    #[track_caller]
    pub fn cartesian<U: Clone + 'static>(&self, other: &Dataset<U>) -> Dataset<(T, U)>
    where
        T: Clone,
    {
        let columns = other.partitions();
        let partitions = self.partitions().saturating_mul(columns);
        let edges = vec![Edge::any(self.node()), Edge::any(other.node())];
        let node = Node::records(Origin::here("cartesian"), partitions, edges);
        let (left, right) = (self.clone(), other.clone());
        Dataset::new(node, move |partition| {
            let held: Rc<[U]> = right.records(partition % columns).collect();
            let rows = left.records(partition / columns);
            Records::new(rows.flat_map(move |row| {
                let held = Rc::clone(&held);
                (0..held.len()).map(move |column| (row.clone(), held[column].clone()))
            }))
        })
    }

    /// The same records in fewer partitions, each made of neighbouring ones; as it is if there
    /// are no more than that. Nothing is moved: see [`repartition`](Self::repartition). Spark:
    /// `coalesce`.
    #[track_caller]
    pub fn coalesce(&self, partitions: u32) -> Self {
        let all = self.partitions();
        if partitions >= all {
            return self.clone();
        }
        let edges = vec![Edge::any(self.node())];
        let node = Node::records(Origin::here("coalesce"), partitions, edges);
        let parent = self.clone();
        Dataset::new(node, move |partition| {
            let parent = parent.clone();
            let parts = share(0..u64::from(all), partition, partitions);
            Records::new(parts.flat_map(move |part| parent.records(part as u32)))
        })
    }
}
