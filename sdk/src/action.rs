//! Actions: what makes the cluster compute. They run in `main`, wait, and may fail.

use crate::batch::{Batch, decode_batches};
use crate::dataset::Dataset;
use crate::error::Error;
use crate::job::{Action, JobHandle, ResultWriter};
use crate::lines::Lines;
use crate::node::Origin;
use crate::record::Record;

/// Bytes of a batch of collected records.
const BATCH_BYTES: usize = 16 << 10;

/// How many times as many partitions each round of `take` looks at.
const TAKE_GROWTH: u32 = 4;

/// Writes records as batches.
fn write_records<T: Record>(records: impl Iterator<Item = T>, out: &mut ResultWriter) {
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
    /// How many records there are.
    #[track_caller]
    pub fn count(&self) -> Result<u64, Error> {
        let dataset = self.clone();
        let action = Action::new(Origin::here("count"), self.node(), move |partition, out| {
            let count = dataset.records(partition).fold(0u64, |count, _| count + 1);
            out.write(|bytes| count.encode(bytes));
        });
        let mut total = 0;
        action.in_any_order().run(|_, count: u64| total += count)?;
        Ok(total)
    }

    /// Runs `each` in tasks, for what it does there: its output goes to the executors' logs.
    #[track_caller]
    pub fn for_each(&self, each: impl Fn(T) + 'static) -> Result<(), Error> {
        let dataset = self.clone();
        let action = Action::new(Origin::here("for_each"), self.node(), move |partition, _| {
            dataset.records(partition).for_each(&each);
        });
        action.in_any_order().run(|_, ()| {})
    }
}

impl<T: Record> Dataset<T> {
    /// All records, in the order of the partitions.
    #[track_caller]
    pub fn collect(&self) -> Result<Vec<T>, Error> {
        let dataset = self.clone();
        let action = Action::new(Origin::here("collect"), self.node(), move |partition, out| {
            write_records(dataset.records(partition), out);
        });
        let mut records = Vec::new();
        let job = action.submit()?;
        job.for_each(&mut |_, bytes| {
            decode_batches(bytes, |record| records.push(record)).map_err(Error::from)
        })?;
        Ok(records)
    }

    /// [`collect`](Self::collect) without waiting: one `Vec` for each partition.
    #[track_caller]
    pub fn submit_collect(&self) -> Result<JobHandle<Vec<T>>, Error> {
        self.submit(Iterator::collect)
    }

    /// All records made into one; nothing if there is none. `combine` must be associative.
    #[track_caller]
    pub fn reduce(&self, combine: impl Fn(T, T) -> T + 'static) -> Result<Option<T>, Error> {
        let (dataset, combine) = (self.clone(), std::rc::Rc::new(combine));
        let in_task = std::rc::Rc::clone(&combine);
        let action = Action::new(Origin::here("reduce"), self.node(), move |partition, out| {
            let reduced = dataset.records(partition).reduce(&*in_task);
            out.write(|bytes| reduced.encode(bytes));
        });
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

    /// The first records, at most so many. Computes one partition, then four times as many each
    /// round, until there are enough.
    #[track_caller]
    pub fn take(&self, count: usize) -> Result<Vec<T>, Error> {
        let origin = Origin::here("take");
        self.take_from(origin, count)
    }

    /// The first record.
    #[track_caller]
    pub fn first(&self) -> Result<Option<T>, Error> {
        let origin = Origin::here("first");
        Ok(self.take_from(origin, 1)?.pop())
    }

    fn take_from(&self, origin: Origin, count: usize) -> Result<Vec<T>, Error> {
        let mut taken = Vec::new();
        let (mut start, mut width) = (0, 1);
        while taken.len() < count && start < self.partitions() {
            let end = self.partitions().min(start.saturating_add(width));
            let (dataset, missing) = (self.clone(), count - taken.len());
            let action = Action::new(origin, self.node(), move |partition, out| {
                write_records(dataset.records(partition).take(missing), out);
            });
            let job = action.partitions(start..end).submit()?;
            job.for_each(&mut |_, bytes| {
                decode_batches(bytes, |record| taken.push(record)).map_err(Error::from)
            })?;
            taken.truncate(count);
            (start, width) = (end, width.saturating_mul(TAKE_GROWTH));
        }
        Ok(taken)
    }
}

impl Lines {
    /// How many lines there are.
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
