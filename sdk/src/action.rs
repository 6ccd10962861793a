//! Actions: what makes the cluster compute. They run in `main`, wait, and may fail.
//!
//! ```text
//!   action/folding      all records made into one: reduce, fold, aggregate, and in trees
//!   action/ordering     the least and the greatest: min, max, top, take_ordered
//!   action/statistics   sums, means, histograms; how large partitions are
//!   action/keyed        counts and maps by key, lookup
//!   action/estimates    samples of a size, numbers of distinct records
//!   action/local        one partition after the other in `main`
//! ```

use crate::batch::{Batch, decode_batches};
use crate::dataset::Dataset;
use crate::error::Error;
use crate::job::{Action, JobHandle, ResultWriter};
use crate::lines::Lines;
use crate::node::Origin;
use crate::record::Record;
use crate::records::Records;
use core::ops::Range;

mod estimates;
mod folding;
mod keyed;
mod local;
mod ordering;
mod statistics;

pub use local::LocalIterator;
pub use statistics::{Histogram, Number, PartitionStats, Stats};

/// Bytes of a batch of collected records.
const BATCH_BYTES: usize = 16 << 10;

/// How many times as many partitions each round of `take` looks at.
const TAKE_GROWTH: u32 = 4;

/// Writes records as batches.
pub(crate) fn write_records<T: Record>(records: impl Iterator<Item = T>, out: &mut ResultWriter) {
    let mut batch = Batch::default();
    let write = |out: &mut ResultWriter, batch: &mut Batch| {
        batch.take(|bytes| out.write(|result| result.extend_from_slice(bytes)));
    };
    records.for_each(|record| {
        batch.add(|bytes| record.encode(bytes));
        if batch.len() >= BATCH_BYTES {
            write(out, &mut batch);
        }
    });
    write(out, &mut batch);
}

impl<T: 'static> Dataset<T> {
    /// An action with one result of each partition.
    #[track_caller]
    fn each_partition<R: Record>(
        &self,
        origin: Origin,
        compute: impl Fn(u32, Records<T>) -> R + 'static,
    ) -> Action {
        let dataset = self.clone();
        Action::new(origin, self.node(), move |partition, out| {
            out.write(|bytes| compute(partition, dataset.records(partition)).encode(bytes));
        })
    }

    /// How many records there are. Spark: `count`.
    #[track_caller]
    pub fn count(&self) -> Result<u64, Error> {
        let origin = Origin::here("count");
        let action =
            self.each_partition(origin, |_, records| records.fold(0u64, |count, _| count + 1));
        let mut total = 0;
        action.in_any_order().run(|_, count: u64| total += count)?;
        Ok(total)
    }

    /// Whether there is no record. Computes one partition, then four times as many each round,
    /// until there is one. Spark: `isEmpty`.
    #[track_caller]
    pub fn is_empty(&self) -> Result<bool, Error> {
        let (origin, mut empty) = (Origin::here("is_empty"), true);
        self.in_rounds(|range| {
            let first =
                self.each_partition(origin, |_, mut records| u8::from(records.next().is_none()));
            first.partitions(range).in_any_order().run(|_, none: u8| empty &= none == 1)?;
            Ok(!empty)
        })?;
        Ok(empty)
    }

    /// Runs `each` in tasks, for what it does there: its output goes to the executors' logs.
    /// Spark: `foreach`.
    #[track_caller]
    pub fn for_each(&self, each: impl Fn(T) + 'static) -> Result<(), Error> {
        let origin = Origin::here("for_each");
        let action = self.each_partition(origin, move |_, records| records.for_each(&each));
        action.in_any_order().run(|_, ()| {})
    }

    /// Runs `each` in tasks on whole partitions. Spark: `foreachPartition`.
    #[track_caller]
    pub fn for_each_partition(&self, each: impl Fn(Records<T>) + 'static) -> Result<(), Error> {
        let origin = Origin::here("for_each_partition");
        let action = self.each_partition(origin, move |_, records| each(records));
        action.in_any_order().run(|_, ()| {})
    }

    /// Looks at one partition, then four times as many each round, until `look` says that it is
    /// enough.
    fn in_rounds(
        &self,
        mut look: impl FnMut(Range<u32>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let (mut start, mut width) = (0, 1);
        while start < self.partitions() {
            let end = self.partitions().min(start.saturating_add(width));
            if look(start..end)? {
                break;
            }
            (start, width) = (end, width.saturating_mul(TAKE_GROWTH));
        }
        Ok(())
    }
}

impl<T: Record> Dataset<T> {
    /// All records, in the order of the partitions. Spark: `collect`.
    #[track_caller]
    pub fn collect(&self) -> Result<Vec<T>, Error> {
        let origin = Origin::here("collect");
        self.collect_from(origin, 0..self.partitions())
    }

    /// The records of some partitions.
    #[track_caller]
    fn collect_from(&self, origin: Origin, partitions: Range<u32>) -> Result<Vec<T>, Error> {
        let dataset = self.clone();
        let action = Action::new(origin, self.node(), move |partition, out| {
            write_records(dataset.records(partition), out);
        });
        let mut records = Vec::new();
        let job = action.partitions(partitions).submit()?;
        job.for_each(&mut |_, bytes| {
            decode_batches(bytes, |record| records.push(record)).map_err(Error::from)
        })?;
        Ok(records)
    }

    /// [`collect`](Self::collect) without waiting: one `Vec` for each partition. Spark:
    /// `collectAsync`.
    #[track_caller]
    pub fn submit_collect(&self) -> Result<JobHandle<Vec<T>>, Error> {
        self.submit(Iterator::collect)
    }

    /// The first records, at most so many. Computes one partition, then four times as many each
    /// round, until there are enough. Spark: `take`.
    #[track_caller]
    pub fn take(&self, count: usize) -> Result<Vec<T>, Error> {
        let origin = Origin::here("take");
        self.take_from(origin, count)
    }

    /// The first record. Spark: `first`.
    #[track_caller]
    pub fn first(&self) -> Result<Option<T>, Error> {
        let origin = Origin::here("first");
        Ok(self.take_from(origin, 1)?.pop())
    }

    fn take_from(&self, origin: Origin, count: usize) -> Result<Vec<T>, Error> {
        let mut taken = Vec::new();
        if count == 0 {
            return Ok(taken);
        }
        self.in_rounds(|range| {
            let (dataset, missing) = (self.clone(), count - taken.len());
            let action = Action::new(origin, self.node(), move |partition, out| {
                write_records(dataset.records(partition).take(missing), out);
            });
            let job = action.partitions(range).submit()?;
            job.for_each(&mut |_, bytes| {
                decode_batches(bytes, |record| taken.push(record)).map_err(Error::from)
            })?;
            taken.truncate(count);
            Ok(taken.len() == count)
        })?;
        Ok(taken)
    }
}

impl Lines {
    /// How many lines there are. Spark: `count`.
    #[track_caller]
    pub fn count(&self) -> Result<u64, Error> {
        let lines = self.clone();
        let action = Action::new(Origin::here("count"), self.node(), move |partition, out| {
            let mut count = 0u64;
            lines.open(partition).drain(&mut |_| count += 1);
            out.write(|bytes| count.encode(bytes));
        });
        let mut total = 0;
        action.in_any_order().run(|_, count: u64| total += count)?;
        Ok(total)
    }
}
