//! Datasets that are computed once and kept, and datasets without a past.
//!
//! ```text
//!   persist            lineage ──► writer ══ memory or files ══► kept: p reads what p wrote
//!   checkpoint         lineage ──► object file ──► a dataset that reads it, and knows no lineage
//!   local_checkpoint   lineage ──► memory of main ──► a dataset of it, and knows no lineage
//! ```
//!
//! What is kept is a shuffle that moves nothing: the host computes it once for all jobs that need
//! it, has it with executors and workers, and computes again what was lost.

use crate::action::write_records;
use crate::batch::{BatchReader, RecordReader};
use crate::dataset::Dataset;
use crate::error::Error;
use crate::flat;
use crate::host::STREAM_BUFFER_BYTES;
use crate::job::Action;
use crate::node::{Edge, Node, Origin};
use crate::record::Record;
use crate::records::Records;
use crate::shuffle::{self, ShuffleWriter};
use offshoot_proto::abi::{self, NodeKind};
use std::io::{self, Read};
use std::rc::Rc;

/// Where a dataset is kept, and how many times. Spark: `StorageLevel`.
///
/// A partition that does not fit into memory goes to a file, at every level: to compute it again
/// for each reader, as Spark's `MEMORY_ONLY` does, is never faster. The levels differ in what
/// happens when other datasets need the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageLevel {
    place: abi::StorageLevel,
    replicas: u32,
}

/// The encoded records of one partition in the memory of `main`, from some place on.
struct InMain {
    partitions: Rc<[Vec<u8>]>,
    partition: usize,
    at: usize,
}

impl<T: Record> Dataset<T> {
    /// [`persist`](Self::persist) at [`StorageLevel::MEMORY_AND_DISK`]. Spark: `cache`, whose level
    /// for datasets is that, and for RDDs `MEMORY_ONLY`.
    #[track_caller]
    pub fn cache(&self) -> Self {
        self.kept(Origin::here("cache"), StorageLevel::MEMORY_AND_DISK)
    }

    /// The same records, which the first job that needs any of them computes and keeps for all
    /// others: use the dataset that comes back. Its first use computes all partitions, so that of
    /// `take`, too. It keeps its partitioner: joins with what has the same one move nothing. Tasks
    /// that read a partition run where it is, unless that executor has more to do than others.
    ///
    /// Of a plain type ([`Record::plain`]: numbers, and arrays and tuples of them without padding),
    /// a partition in memory is the values as they are, which a task there reads in place, without
    /// a copy: see [`Records::as_slice`].
    ///
    /// What is lost with an executor's memory or a worker's files is read from its second copy, if
    /// there is one, or computed again, that and nothing else. It is kept as long as this dataset
    /// or one that was made of it. Spark: `persist`.
    ///
    /// ```no_run
    /// # use offshoot::prelude::*;
    /// # let context = Context::new();
    /// let lengths = context.text_file("/data/books")?.map(|line| line.len() as u64);
    /// let lengths = lengths.persist(StorageLevel::MEMORY.replicated());
    /// println!("{:?} {:?}", lengths.max()?, lengths.mean()?); // the files are read once
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    pub fn persist(&self, level: StorageLevel) -> Self {
        self.kept(Origin::here("persist"), level)
    }

    fn kept(&self, origin: Origin, level: StorageLevel) -> Self {
        if self.inner.before.is_some() {
            return self.clone();
        }
        let parent = self.clone();
        let StorageLevel { place, replicas } = level;
        let kind = NodeKind::Kept { level: place, replicas };
        // In files, where records are packed, it pays to write them short.
        let plain = T::plain().filter(|_| place.uses_memory());
        let write = move |partition| {
            if let Some(plain) = plain {
                return flat::write(plain, parent.records(partition));
            }
            let mut writer = ShuffleWriter::new(1);
            let records = parent.records(partition);
            records.for_each(|record| writer.write(0, |out| record.encode(out)));
            writer.finish();
        };
        let lineage = Edge::one_to_one(self.node());
        let writer = Node::with_tasks(origin, kind, self.partitions(), lineage, Rc::new(write));
        let edges = vec![Edge::Blocks(Rc::clone(&writer))];
        let partitioner = self.node().partitioner().cloned();
        let node = Node::partitioned(origin, self.partitions(), edges, partitioner);
        let read = move |map| match plain {
            Some(plain) => flat::read(plain, writer.id(), map),
            None => Records::new(shuffle::read_block(writer.id(), map)),
        };
        Self::made(node, read, Some((self.clone(), level)))
    }

    /// Where it is kept, if [`persist`](Self::persist) made it. Spark: `getStorageLevel`.
    pub fn storage_level(&self) -> Option<StorageLevel> {
        self.inner.before.as_ref().map(|(_, level)| *level)
    }

    /// Gives up what is kept: the dataset from which [`persist`](Self::persist) made this one,
    /// whose jobs compute it each time. Memory and files are free at once, unless another handle of
    /// this dataset or one that was made of it is alive: then with that. Nothing else than dropping
    /// the handle happens to a dataset that is not kept. Spark: `unpersist`.
    pub fn unpersist(self) -> Self {
        self.inner.before.as_ref().map(|(before, _)| before.clone()).unwrap_or(self)
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

// === impl StorageLevel ===

impl StorageLevel {
    /// In the memory of the executors that computed it, as far as it fits. What has to make room
    /// for another dataset or for tasks is dropped, and computed again when it is needed. Spark:
    /// `MEMORY_ONLY_SER`.
    pub const MEMORY: Self = Self::at(abi::StorageLevel::Memory);

    /// In memory. What has to make room is written to a file of the worker. Spark:
    /// `MEMORY_AND_DISK_SER`.
    pub const MEMORY_AND_DISK: Self = Self::at(abi::StorageLevel::MemoryAndDisk);

    /// In files of the workers that computed it, compressed. Executors that end take nothing along.
    /// Spark: `DISK_ONLY`.
    pub const DISK: Self = Self::at(abi::StorageLevel::Disk);

    const fn at(place: abi::StorageLevel) -> Self {
        Self { place, replicas: 1 }
    }

    /// With a second copy, on another machine if there is one; of what is in memory, else with
    /// another executor. It is made when all partitions have been computed, and nobody waits for
    /// it. Spark: the levels that end in `_2`.
    #[must_use]
    pub const fn replicated(self) -> Self {
        Self { replicas: 2, ..self }
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
