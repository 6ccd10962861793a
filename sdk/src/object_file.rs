//! Object files: records as they are encoded, to be read by a later job.
//!
//! ```text
//!   file := "offshoot records 1\n", then batches (see [`crate::batch`])
//! ```
//!
//! Nothing in a file says what type its records have: whoever reads it must name the same one.

use crate::batch::{Batch, BatchReader, RecordReader};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::host::{self, STREAM_BUFFER_BYTES};
use crate::job::Action;
use crate::node::{Node, Origin};
use crate::record::Record;
use crate::records::Records;
use crate::task;
use core::any::Any;
use offshoot_proto::abi::{InputFile, Source};
use std::io::Read;
use std::rc::Rc;

/// The first bytes of every file.
const MAGIC: &[u8] = b"offshoot records 1\n";

/// Bytes of a batch.
const BATCH_BYTES: usize = 64 << 10;

impl<T: Record> Dataset<T> {
    /// Writes the records of each partition to a file of `path`, for
    /// [`Context::object_file`]. `path` must not exist; it appears whole or not at all. Spark:
    /// `saveAsObjectFile`.
    #[track_caller]
    pub fn save_as_object_file(&self, path: &str) -> Result<(), Error> {
        let origin = Origin::here("save_as_object_file");
        self.save_objects(origin, path)
    }

    pub(crate) fn save_objects(&self, origin: Origin, path: &str) -> Result<(), Error> {
        let dataset = self.clone();
        let action = Action::new(origin, self.node(), move |partition, _| {
            host::write_output(MAGIC);
            let mut batch = Batch::default();
            dataset.records(partition).for_each(|record| {
                batch.add(|out| record.encode(out));
                if batch.len() >= BATCH_BYTES {
                    batch.take(host::write_output);
                }
            });
            batch.take(host::write_output);
        });
        action.output(path).submit()?.for_each(&mut |_, _| Ok(()))
    }

    pub(crate) fn read_objects(
        origin: Origin,
        path: &str,
        partitioner: Option<Rc<dyn Any>>,
    ) -> Result<Self, Error> {
        let files = host::list(path)?;
        let partitions = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let node = Node::partitioned(origin, partitions, Vec::new(), partitioner);
        Ok(Self::new(node, move |partition| {
            Records::new(RecordReader::new(open(&files[partition as usize])))
        }))
    }
}

impl Context {
    /// The records that [`Dataset::save_as_object_file`] wrote, in the same partitions. `T` is
    /// what was written, or tasks fail, or worse: find other values. Spark: `objectFile`.
    #[track_caller]
    pub fn object_file<T: Record>(&self, path: &str) -> Result<Dataset<T>, Error> {
        Dataset::read_objects(Origin::here("object_file"), path, None)
    }
}

fn open(file: &InputFile) -> BatchReader<host::InputStream> {
    let mut stream = host::open_in_task(&Source::File { file: file.clone(), offset: 0 });
    let mut magic = [0; MAGIC.len()];
    if stream.read_exact(&mut magic).is_err() || magic != MAGIC {
        task::fail(format_args!("{} was not written by save_as_object_file", file.path));
    }
    BatchReader::new(stream, STREAM_BUFFER_BYTES)
}
