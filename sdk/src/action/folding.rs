//! All records made into one.

use crate::context::share;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::node::{Edge, Node, Origin};
use crate::record::Record;
use crate::records::Records;
use crate::shuffle::{self, writer_node};
use std::rc::Rc;

/// Levels of a tree where the job names no number.
const TREE_DEPTH: u32 = 2;

impl<T: Record> Dataset<T> {
    /// All records made into one; nothing if there is none. `combine` must be associative.
    /// Spark: `reduce`.
    #[track_caller]
    pub fn reduce(&self, combine: impl Fn(T, T) -> T + 'static) -> Result<Option<T>, Error> {
        self.reduce_from(Origin::here("reduce"), combine)
    }

    #[track_caller]
    pub(super) fn reduce_from(
        &self,
        origin: Origin,
        combine: impl Fn(T, T) -> T + 'static,
    ) -> Result<Option<T>, Error> {
        let combine = Rc::new(combine);
        let in_task = Rc::clone(&combine);
        let action = self.each_partition(origin, move |_, records| records.reduce(&*in_task));
        let mut total = None;
        action.run(|_, part: Option<T>| {
            if let Some(part) = part {
                total = Some(match total.take() {
                    Some(before) => combine(before, part),
                    None => part,
                });
            }
        })?;
        Ok(total)
    }

    /// All records made into one, from `zero`, which must be neutral: every partition starts
    /// from it, and so does `main`. Spark: `fold`.
    #[track_caller]
    pub fn fold(&self, zero: T, combine: impl Fn(T, T) -> T + 'static) -> Result<T, Error>
    where
        T: Clone,
    {
        let (in_task, first) = (Rc::new(combine), zero.clone());
        let in_main = Rc::clone(&in_task);
        let action = self.each_partition(Origin::here("fold"), move |_, records| {
            records.fold(first.clone(), &*in_task)
        });
        let mut total = Some(zero);
        action.run(|_, part| total = total.take().map(|before| in_main(before, part)))?;
        Ok(total.expect("every result puts it back"))
    }

    /// [`reduce`](Self::reduce) whose partial results are combined by tasks, in two levels, before
    /// they come to `main`: for large results of many partitions. Spark: `treeReduce`.
    #[track_caller]
    pub fn tree_reduce(&self, combine: impl Fn(T, T) -> T + 'static) -> Result<Option<T>, Error> {
        let origin = Origin::here("tree_reduce");
        let combine = Rc::new(combine);
        let in_task = Rc::clone(&combine);
        let partial = self.narrow(origin, move |_, records| {
            let in_task = Rc::clone(&in_task);
            Records::new(core::iter::once_with(move || records.reduce(&*in_task)).flatten())
        });
        let in_main = Rc::clone(&combine);
        let tree = partial.tree(origin, TREE_DEPTH, move |left, right| combine(left, right));
        tree.reduce_from(origin, move |left, right| in_main(left, right))
    }

    /// The records of neighbouring partitions made into one each, in as many rounds as it takes
    /// to leave few partitions.
    fn tree(&self, origin: Origin, depth: u32, combine: impl Fn(T, T) -> T + 'static) -> Self {
        let combine = Rc::new(combine);
        let all = f64::from(self.partitions());
        let scale = (all.powf(1.0 / f64::from(depth.max(1))).ceil() as u32).max(2);
        let mut level = self.clone();
        // As long as a round saves more than the tasks that it costs.
        while level.partitions() > scale + level.partitions().div_ceil(scale) {
            let partitions = level.partitions().div_ceil(scale);
            level = level.merged_into(origin, partitions, &combine);
        }
        level
    }

    fn merged_into(
        &self,
        origin: Origin,
        partitions: u32,
        combine: &Rc<impl Fn(T, T) -> T + 'static>,
    ) -> Self {
        let (parent, all) = (self.clone(), u64::from(self.partitions()));
        let writer = writer_node(origin, partitions, self.node(), move |partition, mut writer| {
            let owns =
                |reducer: &u32| share(0..all, *reducer, partitions).contains(&u64::from(partition));
            let reducer = (0..partitions).find(owns).unwrap_or_default();
            let records = parent.records(partition);
            records.for_each(|record| writer.write(reducer, |out| record.encode(out)));
            writer.finish();
        });
        let combine = Rc::clone(combine);
        let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
        Dataset::new(Node::records(origin, partitions, edges), move |reducer| {
            let reduced = shuffle::read(writer.id(), reducer).reduce(&*combine);
            Records::new(reduced.into_iter())
        })
    }
}

impl<T: 'static> Dataset<T> {
    /// One result of all records, which may be of another type: each partition adds its records
    /// to `zero`, and `merge` brings the results together, in the order of the partitions.
    /// `zero` must be neutral. Spark: `aggregate`.
    #[track_caller]
    pub fn aggregate<R: Record + Clone>(
        &self,
        zero: R,
        add: impl Fn(R, T) -> R + 'static,
        merge: impl Fn(R, R) -> R,
    ) -> Result<R, Error> {
        let first = zero.clone();
        let action = self.each_partition(Origin::here("aggregate"), move |_, records| {
            records.fold(first.clone(), &add)
        });
        let mut total = Some(zero);
        action.run(|_, part| total = total.take().map(|before| merge(before, part)))?;
        Ok(total.expect("every result puts it back"))
    }

    /// [`aggregate`](Self::aggregate) whose results are merged by tasks, in `depth` levels, before
    /// they come to `main`: for large results of many partitions. Spark: `treeAggregate`.
    #[track_caller]
    pub fn tree_aggregate<R: Record + Clone>(
        &self,
        zero: R,
        add: impl Fn(R, T) -> R + 'static,
        merge: impl Fn(R, R) -> R + 'static,
        depth: u32,
    ) -> Result<R, Error> {
        let origin = Origin::here("tree_aggregate");
        let (first, add, merge) = (zero.clone(), Rc::new(add), Rc::new(merge));
        let partial = self.narrow(origin, move |_, records| {
            let (first, add) = (first.clone(), Rc::clone(&add));
            Records::new(core::iter::once_with(move || records.fold(first, &*add)))
        });
        let in_task = Rc::clone(&merge);
        let tree = partial.tree(origin, depth, move |left, right| in_task(left, right));
        let total = tree.reduce_from(origin, move |left, right| merge(left, right))?;
        Ok(total.unwrap_or(zero))
    }
}
