//! [`Dataset`]: a collection in partitions, known by how it is computed.

use crate::error::Error;
use crate::job::{Action, JobHandle};
use crate::node::{Edge, Node, Origin, Shared};
use crate::record::Record;
use crate::records::Records;
use offshoot_proto::abi::NarrowMap;
use std::rc::Rc;

/// A collection of `T` in partitions. Cheap to clone; nothing is computed before an action.
///
/// Closures given to its operations run in tasks, which are forks of `main` at the moment of the
/// action: they may capture anything. What they change there is seen by that task only.
pub struct Dataset<T: 'static> {
    inner: Shared<Inner<T>>,
}

struct Inner<T> {
    node: Rc<Node>,
    compute: Box<dyn Fn(u32) -> Records<T>>,
}

// === construction ===

impl<T: 'static> Dataset<T> {
    /// From a node and the records of each of its partitions.
    pub(crate) fn new(node: Rc<Node>, compute: impl Fn(u32) -> Records<T> + 'static) -> Self {
        Self { inner: Shared::new(Inner { node, compute: Box::new(compute) }) }
    }

    /// A dataset whose partitions are made of the same partitions of this one.
    fn narrow<U: 'static>(
        &self,
        origin: Origin,
        compute: impl Fn(u32, Records<T>) -> Records<U> + 'static,
    ) -> Dataset<U> {
        let edges = Edge::one_to_one(self.node());
        let node = Node::records(origin, self.partitions(), edges);
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

    /// How many partitions there are: as many tasks compute it.
    pub fn partitions(&self) -> u32 {
        self.node().partitions()
    }
}

impl<T: 'static> Clone for Dataset<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

// === narrow operations ===

impl<T: 'static> Dataset<T> {
    /// Every record, changed.
    #[track_caller]
    pub fn map<U: 'static>(&self, change: impl Fn(T) -> U + 'static) -> Dataset<U> {
        let change = Rc::new(change);
        self.narrow(Origin::here("map"), move |_, records| {
            let change = Rc::clone(&change);
            Records::new(records.map(move |record| change(record)))
        })
    }

    /// The records that fit.
    #[track_caller]
    pub fn filter(&self, fits: impl Fn(&T) -> bool + 'static) -> Self {
        let fits = Rc::new(fits);
        self.narrow(Origin::here("filter"), move |_, records| {
            let fits = Rc::clone(&fits);
            Records::new(records.filter(move |record| fits(record)))
        })
    }

    /// Any number of records for each.
    #[track_caller]
    pub fn flat_map<I>(&self, change: impl Fn(T) -> I + 'static) -> Dataset<I::Item>
    where
        I: IntoIterator + 'static,
    {
        let change = Rc::new(change);
        self.narrow(Origin::here("flat_map"), move |_, records| {
            let change = Rc::clone(&change);
            Records::new(records.flat_map(move |record| change(record)))
        })
    }

    /// Whole partitions, changed.
    #[track_caller]
    pub fn map_partitions<I>(&self, change: impl Fn(Records<T>) -> I + 'static) -> Dataset<I::Item>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
    {
        self.narrow(Origin::here("map_partitions"), move |_, records| {
            Records::new(change(records).into_iter())
        })
    }

    /// Whole partitions, changed, with their number: what to seed a generator with.
    #[track_caller]
    pub fn map_partitions_with_index<I>(
        &self,
        change: impl Fn(u32, Records<T>) -> I + 'static,
    ) -> Dataset<I::Item>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
    {
        let origin = Origin::here("map_partitions_with_index");
        self.narrow(origin, move |partition, records| {
            Records::new(change(partition, records).into_iter())
        })
    }

    /// Pairs of a key and the record.
    #[track_caller]
    pub fn key_by<K: 'static>(&self, key: impl Fn(&T) -> K + 'static) -> Dataset<(K, T)> {
        let key = Rc::new(key);
        self.narrow(Origin::here("key_by"), move |_, records| {
            let key = Rc::clone(&key);
            Records::new(records.map(move |record| (key(&record), record)))
        })
    }

    /// The partitions of this dataset, then those of the other.
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
}

impl<K: 'static, V: 'static> Dataset<(K, V)> {
    /// Every value, changed.
    #[track_caller]
    pub fn map_values<W: 'static>(&self, change: impl Fn(V) -> W + 'static) -> Dataset<(K, W)> {
        let change = Rc::new(change);
        self.narrow(Origin::here("map_values"), move |_, records| {
            let change = Rc::clone(&change);
            Records::new(records.map(move |(key, value)| (key, change(value))))
        })
    }
}

// === jobs ===

impl<T: 'static> Dataset<T> {
    /// Starts a job that makes one result of each partition, and does not wait for it: several
    /// may run at once, each on the memory that `main` had when it was started.
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
