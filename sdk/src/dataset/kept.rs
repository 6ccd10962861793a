//! Datasets that are computed once and kept, and datasets without a past.
//!
//! ```text
//!   persist            lineage ──► writer ══ files of the workers ══► kept: partition p reads what p wrote
//!   checkpoint         lineage ──► object file ──► a dataset that reads it, and knows no lineage
//!   local_checkpoint   lineage ──► memory of main ──► a dataset of it, and knows no lineage
//! ```
//!
//! What is kept is a shuffle that moves nothing: the host computes it once for all jobs that need
//! it, has its files on the workers, and computes again what was lost with a worker.

use crate::action::write_records;
use crate::batch::{BatchReader, RecordReader};
use crate::dataset::Dataset;
use crate::error::Error;
use crate::host::STREAM_BUFFER_BYTES;
use crate::job::Action;
use crate::node::{Edge, Node, Origin};
use crate::record::Record;
use crate::records::Records;
use crate::shuffle::{self, writer_node};
use std::io::{self, Read};
use std::rc::Rc;

/// Where a dataset is kept. Spark: `StorageLevel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageLevel {
    /// In files of the workers that computed it, encoded as records are in a shuffle. The pages of
    /// these files stay in a machine's memory while there is room. Spark: `DISK_ONLY`.
    #[default]
    Disk,
}

/// The encoded records of one partition in the memory of `main`, from some place on.
struct InMain {
    partitions: Rc<[Vec<u8>]>,
    partition: usize,
    at: usize,
}

impl<T: Record> Dataset<T> {
    /// [`persist`](Self::persist) at the level that there is. Spark: `cache`.
    #[track_caller]
    pub fn cache(&self) -> Self {
        self.kept(Origin::here("cache"), StorageLevel::Disk)
    }

    /// The same records, which the first job that needs any of them computes and keeps for all
    /// others: use the dataset that comes back. Its first use computes all partitions, so that of
    /// `take`, too. It keeps its partitioner: joins with what has the same one move nothing.
    ///
    /// An executor that is lost takes nothing along; of a lost worker its partitions are computed
    /// again. The files are there as long as this dataset or one that was made of it. Spark:
    /// `persist`.
    ///
    /// ```no_run
    /// # use offshoot::prelude::*;
    /// # let context = Context::new();
    /// let lengths = context.text_file("/data/books")?.map(|line| line.len() as u64).cache();
    /// println!("{:?} {:?}", lengths.max()?, lengths.mean()?); // the files are read once
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    pub fn persist(&self, level: StorageLevel) -> Self {
        self.kept(Origin::here("persist"), level)
    }

    fn kept(&self, origin: Origin, level: StorageLevel) -> Self {
        let StorageLevel::Disk = level;
        if self.inner.before.is_some() {
            return self.clone();
        }
        let parent = self.clone();
        let writer = writer_node(origin, 1, self.node(), move |partition, mut writer| {
            let records = parent.records(partition);
            records.for_each(|record| writer.write(0, |out| record.encode(out)));
            writer.finish();
        });
        let edges = vec![Edge::Blocks(Rc::clone(&writer))];
        let partitioner = self.node().partitioner().cloned();
        let node = Node::partitioned(origin, self.partitions(), edges, partitioner);
        let read = move |map| Records::new(shuffle::read_block(writer.id(), map));
        Self::made(node, read, Some(self.clone()))
    }

    /// Where it is kept, if [`persist`](Self::persist) made it. Spark: `getStorageLevel`.
    pub fn storage_level(&self) -> Option<StorageLevel> {
        self.inner.before.as_ref().map(|_| StorageLevel::Disk)
    }

    /// Gives up what is kept: the dataset from which [`persist`](Self::persist) made this one,
    /// whose jobs compute it each time. The files go at once, unless another handle of this
    /// dataset or one that was made of it is alive: then with that. Nothing else than dropping
    /// the handle happens to a dataset that is not kept. Spark: `unpersist`.
    pub fn unpersist(self) -> Self {
        self.inner.before.clone().unwrap_or(self)
    }

    /// Writes the dataset to a directory that does not exist, as
    /// [`save_as_object_file`](Self::save_as_object_file) does, and goes on from there: the
    /// dataset that comes back reads the files and has no other lineage, so that what it was made
    /// of can go. Runs a job. The path must be granted for reading and for writing, and be the
    /// same place on every machine. Spark: `checkpoint`, which waits for the next action.
    #[track_caller]
    pub fn checkpoint(&self, path: &str) -> Result<Self, Error> {
        let origin = Origin::here("checkpoint");
        self.save_objects(origin, path)?;
        let partitioner = self.node().partitioner().cloned();
        Self::read_objects(origin, path, partitioner)
    }

    /// Brings the dataset, encoded, into the memory of `main` and goes on from there: no lineage,
    /// and no file. For loops, whose lineage and shuffle files would grow with every round, over
    /// something small enough: `max-result-size` and `driver-memory` bound it. Runs a job. It is
    /// there as long as the dataset that comes back. Spark: `localCheckpoint`, which leaves the
    /// data with executors and loses it with them.
    #[track_caller]
    pub fn local_checkpoint(&self) -> Result<Self, Error> {
        let (origin, dataset) = (Origin::here("local_checkpoint"), self.clone());
        let action = Action::new(origin, self.node(), move |partition, out| {
            write_records(dataset.records(partition), out);
        });
        let mut partitions = vec![Vec::new(); self.partitions() as usize];
        action.in_any_order().submit()?.for_each(&mut |partition, bytes| {
            partitions[partition as usize] = bytes.to_vec();
            Ok(())
        })?;
        let partitions: Rc<[Vec<u8>]> = partitions.into();
        let partitioner = self.node().partitioner().cloned();
        let node = Node::partitioned(origin, self.partitions(), Vec::new(), partitioner);
        Ok(Self::new(node, move |partition| {
            let partitions = Rc::clone(&partitions);
            let input = InMain { partitions, partition: partition as usize, at: 0 };
            Records::new(RecordReader::new(BatchReader::new(input, STREAM_BUFFER_BYTES)))
        }))
    }
}

// === impl InMain ===

impl Read for InMain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = (&self.partitions[self.partition][self.at..]).read(buffer)?;
        self.at += length;
        Ok(length)
    }
}
