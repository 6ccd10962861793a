//! [`Context`]: where a driver begins.

use crate::dataset::Dataset;
use crate::error::Error;
use crate::job::JobHandle;
use crate::lines::{Lines, Text};
use crate::node::{Node, Origin};
use crate::record::Record;
use crate::records::Records;
use crate::{external, host, task};
use core::cell::Cell;
use core::ops::Range;
use std::rc::Rc;

thread_local! {
    static PARALLELISM: Cell<u32> = const { Cell::new(1) };
}

/// The beginning of a job: makes datasets. Cheap to clone; all are the same. Spark:
/// `SparkContext`.
#[derive(Clone, Debug)]
pub struct Context(());

/// Reduce partitions where the job names no number.
pub(crate) fn parallelism() -> u32 {
    PARALLELISM.get()
}

// === impl Context ===

impl Context {
    /// Asks the host how many cores there are and makes panics of tasks tell their message.
    ///
    /// # Panics
    /// In a task, and in a program that was not started by Offshoot.
    #[track_caller]
    #[allow(clippy::new_without_default, reason = "it talks to the host and may panic")]
    pub fn new() -> Self {
        task::require_main();
        task::install_panic_hook();
        match host::parallelism() {
            Ok(cores) => PARALLELISM.set(cores),
            Err(error) => panic!("{error}"),
        }
        Self(())
    }

    /// The default number of partitions: the setting `shuffle-partitions`, or the cores that the
    /// application had when this context was made. Spark: `defaultParallelism`.
    pub fn parallelism(&self) -> u32 {
        parallelism()
    }

    /// How many bytes of records a table or buffer of a task may hold before the task spills them
    /// (sorts, groups, joins) or writes out partial results (map sides); a sort may hold twice as
    /// many, one of lines four times as many. Only for records that take much more memory than
    /// their encodings: where nothing is set it is an eighth of the setting `task-memory`, and less
    /// for several tables at once. For the jobs that start from now on.
    pub fn set_spill_bytes(&self, bytes: usize) {
        external::set_table_bytes(bytes);
    }

    /// The pool of the jobs that start from now on, until another is set; they are in `default`
    /// before. Pools share the slots if the application has the setting `scheduler.mode=fair`, by
    /// the settings `scheduler.pool.NAME.*`; one that those do not name has weight 1. A name has 1
    /// to 64 letters, digits, `_`, `-` and `.`. Spark: the local property `spark.scheduler.pool`.
    pub fn set_pool(&self, name: &str) -> Result<(), Error> {
        task::require_main();
        host::set_pool(name)
    }

    /// The items in equal partitions, in order. They stay in the memory of `main`, where tasks
    /// find them; a task clones its own. Spark: `parallelize`.
    #[track_caller]
    pub fn parallelize<T: Clone + 'static>(
        &self,
        items: impl IntoIterator<Item = T>,
        partitions: u32,
    ) -> Dataset<T> {
        let items: Rc<[T]> = items.into_iter().collect();
        let node = Node::records(Origin::here("parallelize"), partitions, Vec::new());
        Dataset::new(node, move |partition| {
            let items = Rc::clone(&items);
            let share = share(0..items.len() as u64, partition, partitions);
            Records::new(share.map(move |index| items[index as usize].clone()))
        })
    }

    /// The numbers of the range in equal partitions, in order. Spark: `range`.
    #[track_caller]
    pub fn range(&self, range: Range<u64>, partitions: u32) -> Dataset<u64> {
        let node = Node::records(Origin::here("range"), partitions, Vec::new());
        Dataset::new(node, move |partition| {
            Records::new(share(range.clone(), partition, partitions))
        })
    }

    /// The lines of a text file, of the files of a directory, or of those that match a pattern.
    ///
    /// A line ends at `\n`; a `\r` before it belongs to the line. Bytes that are not UTF-8 fail
    /// the task with file and offset: see [`Text::lossy`] and [`byte_lines`](Self::byte_lines).
    /// Spark: `textFile`.
    #[track_caller]
    pub fn text_file(&self, path: &str) -> Result<Text, Error> {
        Ok(Text::new(Lines::read(Origin::here("text_file"), path, None)?))
    }

    /// The same lines as bytes, which need no allocation each.
    #[track_caller]
    pub fn byte_lines(&self, path: &str) -> Result<Lines, Error> {
        Lines::read(Origin::here("byte_lines"), path, None)
    }

    /// [`byte_lines`](Self::byte_lines) in so many partitions. The default is one for each 64 MiB,
    /// and at least [`parallelism`](Self::parallelism).
    #[track_caller]
    pub fn byte_lines_with_partitions(&self, path: &str, partitions: u32) -> Result<Lines, Error> {
        Lines::read(Origin::here("byte_lines"), path, Some(partitions))
    }

    /// [`text_file`](Self::text_file) in so many partitions.
    #[track_caller]
    pub fn text_file_with_partitions(&self, path: &str, partitions: u32) -> Result<Text, Error> {
        let lines = Lines::read(Origin::here("text_file"), path, Some(partitions))?;
        Ok(Text::new(lines))
    }

    /// [`Dataset::submit`]: starts a job and does not wait for it.
    #[track_caller]
    pub fn submit<T: 'static, R: Record>(
        &self,
        dataset: &Dataset<T>,
        compute: impl Fn(Records<T>) -> R + 'static,
    ) -> Result<JobHandle<R>, Error> {
        dataset.submit(compute)
    }
}

/// The part of a range that a partition has: parts differ by one at most.
pub(crate) fn share(range: Range<u64>, partition: u32, partitions: u32) -> Range<u64> {
    let length = range.end.saturating_sub(range.start);
    let partitions = u64::from(partitions.max(1));
    let (each, longer) = (length / partitions, length % partitions);
    // The first parts are longer by one.
    let cut = |n: u32| range.start + each * u64::from(n) + longer.min(u64::from(n));
    cut(partition)..cut(partition + 1)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_cover_the_range() {
        for (range, partitions) in [(0..0, 3), (5..6, 4), (3..103, 7), (0..u64::MAX, 5)] {
            let shares: Vec<_> = (0..partitions)
                .map(|partition| share(range.clone(), partition, partitions))
                .collect();
            assert_eq!(shares[0].start, range.start);
            assert_eq!(shares[partitions as usize - 1].end, range.end.max(range.start));
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            let lengths = || shares.iter().map(|share| share.end - share.start);
            assert!(lengths().max() <= lengths().min().map(|least| least + 1));
        }
    }
}
