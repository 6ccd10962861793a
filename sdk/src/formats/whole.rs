//! Files that are no lines: each as a whole, or in records of a fixed length.

use crate::context::{self, Context};
use crate::dataset::Dataset;
use crate::error::Error;
use crate::formats::files;
use crate::host::STREAM_BUFFER_BYTES;
use crate::input;
use crate::node::{Node, Origin};
use crate::records::Records;
use offshoot_proto::abi::InputFile;
use std::io::{BufReader, Read};
use std::rc::Rc;

/// A file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeFile {
    /// Its path or URL.
    pub path: String,
    /// Its bytes, decoded if its suffix says that it is compressed (feature `compression`).
    pub bytes: Vec<u8>,
}

/// Records of a partition, file after file.
struct Fixed {
    files: std::vec::IntoIter<InputFile>,
    open: Option<(InputFile, BufReader<files::Opened>)>,
    record_bytes: usize,
    /// Of the open file: where the next record begins.
    offset: u64,
}

impl Context {
    /// The files of a path, each in the memory of its task. There are at most as many partitions
    /// as for [`text_file`](Self::text_file). Spark: `wholeTextFiles`, `binaryFiles`.
    #[track_caller]
    pub fn whole_files(&self, path: &str) -> Result<Dataset<WholeFile>, Error> {
        self.by_file(Origin::here("whole_files"), path, |group| {
            Records::new(group.into_iter().map(|file| {
                let mut bytes = Vec::new();
                if let Err(error) = files::open(&file).read_to_end(&mut bytes) {
                    files::fail(&file, format_args!("after {} bytes: {error}", bytes.len()));
                }
                WholeFile { path: files::name(&file).to_owned(), bytes }
            }))
        })
    }

    /// Records of `record_bytes` bytes each, of the files of a path. A file whose length is no
    /// multiple of that fails its task. Spark: `binaryRecords`.
    #[track_caller]
    pub fn binary_records(
        &self,
        path: &str,
        record_bytes: usize,
    ) -> Result<Dataset<Vec<u8>>, Error> {
        if record_bytes == 0 {
            return Err(Error::Invalid("binary_records: records have at least a byte".to_owned()));
        }
        self.by_file(Origin::here("binary_records"), path, move |group| {
            let files = group.into_iter();
            Records::new(Fixed { files, open: None, record_bytes, offset: 0 })
        })
    }

    /// A dataset of which each partition reads some files as they are.
    pub(crate) fn by_file<T: 'static>(
        &self,
        origin: Origin,
        path: &str,
        read: impl Fn(Vec<InputFile>) -> Records<T> + 'static,
    ) -> Result<Dataset<T>, Error> {
        let (listed, _) = files::list(path)?;
        let total = listed.iter().map(|file| file.length).sum();
        let partitions = input::default_partitions(total, context::parallelism());
        let groups = Rc::new(files::group(listed, partitions));
        let node = Node::records(origin, groups.len() as u32, Vec::new());
        Ok(Dataset::new(node, move |partition| read(groups[partition as usize].clone())))
    }
}

impl Fixed {
    /// The next record of the open file.
    fn read(&mut self) -> Option<Vec<u8>> {
        let (file, input) = self.open.as_mut()?;
        let mut record = vec![0; self.record_bytes];
        let mut count = 0;
        while count < record.len() {
            match input.read(&mut record[count..]) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) => {
                    files::fail(file, format_args!("record at byte {}: {error}", self.offset))
                }
            }
        }
        if count == 0 {
            return None;
        }
        if count < record.len() {
            files::fail(
                file,
                format_args!(
                    "the last record, at byte {}, has {count} bytes instead of {}",
                    self.offset, self.record_bytes
                ),
            );
        }
        self.offset += count as u64;
        Some(record)
    }
}

impl Iterator for Fixed {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(record) = self.read() {
                return Some(record);
            }
            let file = self.files.next()?;
            let input = BufReader::with_capacity(STREAM_BUFFER_BYTES, files::open(&file));
            self.open = Some((file, input));
            self.offset = 0;
        }
    }
}
