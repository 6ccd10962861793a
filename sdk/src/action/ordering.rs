//! The least and the greatest records.

use crate::dataset::Dataset;
use crate::error::Error;
use crate::node::Origin;
use crate::record::Record;
use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// The least items of those offered, at most so many.
pub(super) struct Least<T> {
    count: usize,
    heap: BinaryHeap<T>,
}

// === impl Least ===

impl<T: Ord> Least<T> {
    pub(super) fn new(count: usize) -> Self {
        Self { count, heap: BinaryHeap::new() }
    }

    pub(super) fn offer(&mut self, item: T) {
        if self.heap.len() < self.count {
            self.heap.push(item);
        } else if let Some(mut greatest) = self.heap.peek_mut()
            && item < *greatest
        {
            *greatest = item;
        }
    }

    /// In ascending order.
    pub(super) fn into_sorted(self) -> Vec<T> {
        self.heap.into_sorted_vec()
    }
}

impl<T: Record + Ord> Dataset<T> {
    /// The least record. Spark: `min`.
    #[track_caller]
    pub fn min(&self) -> Result<Option<T>, Error> {
        self.reduce_from(Origin::here("min"), T::min)
    }

    /// The greatest record. Spark: `max`.
    #[track_caller]
    pub fn max(&self) -> Result<Option<T>, Error> {
        self.reduce_from(Origin::here("max"), T::max)
    }

    /// The least records in ascending order, at most so many. Every partition sends no more than
    /// that. Spark: `takeOrdered`.
    #[track_caller]
    pub fn take_ordered(&self, count: usize) -> Result<Vec<T>, Error> {
        self.least(Origin::here("take_ordered"), count, |record| record)
    }

    /// The greatest records in descending order, at most so many. Spark: `top`.
    #[track_caller]
    pub fn top(&self, count: usize) -> Result<Vec<T>, Error> {
        let greatest = self.least(Origin::here("top"), count, Reverse)?;
        Ok(greatest.into_iter().map(|Reverse(record)| record).collect())
    }
}

impl<T: 'static> Dataset<T> {
    /// The least of what `change` makes of the records.
    #[track_caller]
    fn least<R: Record + Ord>(
        &self,
        origin: Origin,
        count: usize,
        change: impl Fn(T) -> R + 'static,
    ) -> Result<Vec<R>, Error> {
        let action = self.each_partition(origin, move |_, records| {
            let mut least = Least::new(count);
            records.for_each(|record| least.offer(change(record)));
            least.into_sorted()
        });
        let mut least = Least::new(count);
        action.run(|_, part: Vec<R>| part.into_iter().for_each(|item| least.offer(item)))?;
        Ok(least.into_sorted())
    }
}
