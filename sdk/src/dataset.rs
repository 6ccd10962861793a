//! [`Dataset`]: a collection in partitions, known by how it is computed.
//!
//! ```text
//!   dataset/narrow      one partition made of one: map, filter, ...
//!   dataset/several     of several datasets or partitions: union, zip, cartesian, coalesce, ...
//!   dataset/indexed     numbers for records: zip_with_index, ...
//!   dataset/kept        computed once: persist, cache; without a past: checkpoint
//!   dataset/sampling    a part of the records at random
//!   dataset/shuffled    records moved between partitions: distinct, repartition, sort_by, ...
//!   pairs/              operations by key
//!   action/             what makes the cluster compute
//! ```

use crate::error::Error;
use crate::job::{Action, JobHandle};
use crate::node::{Edge, Node, Origin, Shared};
use crate::record::Record;
use crate::records::Records;
use std::rc::Rc;

mod indexed;
mod kept;
mod narrow;
mod sampling;
mod several;
mod shuffled;

pub use kept::StorageLevel;

/// A collection of `T` in partitions. Cheap to clone; nothing is computed before an action.
/// Spark: `RDD`.
///
/// Closures given to its operations run in tasks, which are forks of `main` at the moment of the
/// action: they may capture anything. What they change there is seen by that task only.
pub struct Dataset<T: 'static> {
    inner: Shared<Inner<T>>,
}

struct Inner<T: 'static> {
    node: Rc<Node>,
    compute: Box<dyn Fn(u32) -> Records<T>>,
    /// Of a kept one: the same dataset, not kept, and where it is.
    before: Option<(Dataset<T>, StorageLevel)>,
}

impl<T: 'static> Dataset<T> {
    /// From a node and the records of each of its partitions.
    pub(crate) fn new(node: Rc<Node>, compute: impl Fn(u32) -> Records<T> + 'static) -> Self {
        Self::made(node, compute, None)
    }

    /// [`new`](Self::new), and what it was before it was kept.
    fn made(
        node: Rc<Node>,
        compute: impl Fn(u32) -> Records<T> + 'static,
        before: Option<(Self, StorageLevel)>,
    ) -> Self {
        Self { inner: Shared::new(Inner { node, compute: Box::new(compute), before }) }
    }

    /// A dataset whose partitions are made of the same partitions of this one.
    pub(crate) fn narrow<U: 'static>(
        &self,
        origin: Origin,
        compute: impl Fn(u32, Records<T>) -> Records<U> + 'static,
    ) -> Dataset<U> {
        let edges = Edge::one_to_one(self.node());
        self.narrow_of(Node::records(origin, self.partitions(), edges), compute)
    }

    /// [`narrow`](Self::narrow) by an operation that leaves the keys of pairs as they are.
    pub(crate) fn narrow_keeping_keys<U: 'static>(
        &self,
        origin: Origin,
        compute: impl Fn(u32, Records<T>) -> Records<U> + 'static,
    ) -> Dataset<U> {
        let partitioner = self.node().partitioner().cloned();
        let edges = Edge::one_to_one(self.node());
        let node = Node::partitioned(origin, self.partitions(), edges, partitioner);
        self.narrow_of(node, compute)
    }

    fn narrow_of<U: 'static>(
        &self,
        node: Rc<Node>,
        compute: impl Fn(u32, Records<T>) -> Records<U> + 'static,
    ) -> Dataset<U> {
        let parent = self.clone();
        Dataset::new(node, move |partition| compute(partition, parent.records(partition)))
    }

    pub(crate) fn node(&self) -> &Rc<Node> {
        &self.inner.node
    }

    /// The records of a partition, in a task.
    pub(crate) fn records(&self, partition: u32) -> Records<T> {
        (self.inner.compute)(partition)
    }

    /// How many partitions there are: as many tasks compute it. Spark: `getNumPartitions`.
    pub fn partitions(&self) -> u32 {
        self.node().partitions()
    }

    /// Starts a job that makes one result of each partition, and does not wait for it: several
    /// may run at once, each on the memory that `main` had when it was started. Spark: `runJob`,
    /// and the asynchronous actions.
    #[track_caller]
    pub fn submit<R: Record>(
        &self,
        compute: impl Fn(Records<T>) -> R + 'static,
    ) -> Result<JobHandle<R>, Error> {
        let dataset = self.clone();
        let action = Action::new(Origin::here("submit"), self.node(), move |partition, out| {
            out.write(|bytes| compute(dataset.records(partition)).encode(bytes));
        });
        action.submit().map(JobHandle::new)
    }
}

impl<T: 'static> Clone for Dataset<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}
