//! Operations that make a partition of one partition: chains of them are one pass in one task.

use crate::dataset::Dataset;
use crate::node::Origin;
use crate::output::ToLine;
use crate::records::Records;
use crate::task;
use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;

impl<T: 'static> Dataset<T> {
    /// Every record, changed. Spark: `map`.
    #[track_caller]
    pub fn map<U: 'static>(&self, change: impl Fn(T) -> U + 'static) -> Dataset<U> {
        let change = Rc::new(change);
        self.narrow(Origin::here("map"), move |_, records| {
            let change = Rc::clone(&change);
            Records::new(records.map(move |record| change(record)))
        })
    }

    /// The records that fit. Spark: `filter`.
    #[track_caller]
    pub fn filter(&self, fits: impl Fn(&T) -> bool + 'static) -> Self {
        let fits = Rc::new(fits);
        self.narrow_keeping_keys(Origin::here("filter"), move |_, records| {
            let fits = Rc::clone(&fits);
            Records::new(records.filter(move |record| fits(record)))
        })
    }

    /// Any number of records for each. Spark: `flatMap`.
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

    /// Whole partitions, changed. One that is kept in memory may be there as a slice:
    /// [`Records::as_slice`]. Spark: `mapPartitions`.
    #[track_caller]
    pub fn map_partitions<I>(&self, change: impl Fn(Records<T>) -> I + 'static) -> Dataset<I::Item>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
    {
        self.narrow(Origin::here("map_partitions"), move |_, records| {
            Records::new(change(records).into_iter())
        })
    }

    /// [`map_partitions`](Self::map_partitions) by a function that leaves every pair's key as it
    /// is, so that a dataset partitioned by key stays so. Spark: `mapPartitions` with
    /// `preservesPartitioning`.
    #[track_caller]
    pub fn map_partitions_keeping_keys<I>(
        &self,
        change: impl Fn(Records<T>) -> I + 'static,
    ) -> Dataset<I::Item>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
    {
        self.narrow_keeping_keys(Origin::here("map_partitions"), move |_, records| {
            Records::new(change(records).into_iter())
        })
    }

    /// Whole partitions, changed, with their number: what to seed a generator with. Spark:
    /// `mapPartitionsWithIndex`.
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

    /// Pairs of a key and the record. Spark: `keyBy`.
    #[track_caller]
    pub fn key_by<K: 'static>(&self, key: impl Fn(&T) -> K + 'static) -> Dataset<(K, T)> {
        let origin = Origin::here("key_by");
        self.key_by_from(origin, key)
    }

    pub(crate) fn key_by_from<K: 'static>(
        &self,
        origin: Origin,
        key: impl Fn(&T) -> K + 'static,
    ) -> Dataset<(K, T)> {
        let key = Rc::new(key);
        self.narrow(origin, move |_, records| {
            let key = Rc::clone(&key);
            Records::new(records.map(move |record| (key(&record), record)))
        })
    }

    /// Each partition as one record, which must fit a task's memory. Spark: `glom`.
    #[track_caller]
    pub fn glom(&self) -> Dataset<Vec<T>> {
        self.narrow(Origin::here("glom"), |_, records| {
            Records::new(core::iter::once_with(|| records.collect()))
        })
    }
}

impl<T: ToLine + 'static> Dataset<T> {
    /// Each partition through a filter of bytes: `change` reads the records as lines, each ended
    /// by `\n`, and the lines that it writes are the new records. For code that reads and writes
    /// streams; a task cannot start programs. Its input is made as it is read, its output is held
    /// in memory. An error fails the task. Spark: `pipe`.
    #[track_caller]
    pub fn map_bytes(
        &self,
        change: impl Fn(&mut dyn BufRead, &mut dyn Write) -> io::Result<()> + 'static,
    ) -> Dataset<Vec<u8>> {
        self.narrow(Origin::here("map_bytes"), move |partition, records| {
            let mut input = io::BufReader::new(AsLines { records, line: Vec::new(), at: 0 });
            let mut output = Vec::new();
            if let Err(error) = change(&mut input, &mut output) {
                task::fail(format_args!("map_bytes of partition {partition}: {error}"));
            }
            Records::new(OwnedLines { bytes: output, at: 0 })
        })
    }
}

/// Records read as lines.
struct AsLines<T> {
    records: Records<T>,
    line: Vec<u8>,
    at: usize,
}

/// The lines of bytes that are all there.
struct OwnedLines {
    bytes: Vec<u8>,
    at: usize,
}

// === impl AsLines, OwnedLines ===

impl<T: ToLine> Read for AsLines<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.line.len() {
            self.at = 0;
            self.line.clear();
            let Some(record) = self.records.next() else {
                return Ok(0);
            };
            record.to_line(&mut self.line);
            self.line.push(b'\n');
        }
        let count = buffer.len().min(self.line.len() - self.at);
        buffer[..count].copy_from_slice(&self.line[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl Iterator for OwnedLines {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let line = match crate::bytes::find_newline(rest) {
            Some(end) => &rest[..end],
            None => rest,
        };
        self.at = (self.at + line.len() + 1).min(self.bytes.len());
        Some(line.to_vec())
    }
}
