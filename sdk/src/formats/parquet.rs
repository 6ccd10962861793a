//! Parquet: rows as a struct with serde, a column for each field.
//!
//! ```text
//!   file := row groups, footer          the footer is read first, from the end of the file
//!   row group := column chunks          only those of columns that the type or a range names
//!
//!   rows ── column ── chunk, zstd       from bytes to values
//!    │        └─ kind, cell, times      what a value means, and how serde sees it
//!    └─ range                           rows and row groups that are not wanted
//!   shape ── write                      columns of a type; from records to values to bytes
//! ```
//!
//! A task reads the row groups whose middle is in its bytes of the file, so that however files are
//! cut every row group is read once. Lists, maps and structs in columns are an error.

mod cell;
mod chunk;
mod column;
mod kind;
mod range;
mod rows;
mod shape;
mod times;
mod write;
mod zstd;

pub use range::ColumnValue;

use crate::context::{self, Context};
use crate::dataset::Dataset;
use crate::error::Error;
use crate::formats::files;
use crate::input;
use crate::job::Action;
use crate::node::{Node, Origin};
use crate::records::Records;
use core::ops::RangeBounds;
use range::ColumnRange;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::rc::Rc;

/// Which rows of Parquet files are read.
#[derive(Clone, Debug, Default)]
pub struct ParquetRead {
    ranges: Vec<ColumnRange>,
    missing_allowed: bool,
}

/// How Parquet files are written. The default is Snappy and a row group for each 2^17 rows.
#[derive(Clone, Debug)]
pub struct ParquetOptions {
    schema: Option<String>,
    codec: parquet::basic::Compression,
    rows: usize,
}

impl Context {
    /// The rows of Parquet files, as a struct with serde whose fields are called as the columns.
    /// Columns that it does not name are not read. `key=value` folders are columns, too. Needs the
    /// feature `parquet`.
    ///
    /// Whole numbers, floating-point numbers, truth values, text (`String`, unit variants of an
    /// enum), binary (`Vec<u8>`), and `Option` of all of them. Dates, times, timestamps and
    /// decimals are text (`2024-02-29`, `2024-02-29T12:34:56.789Z`, `-12.30`) or numbers: days and
    /// microseconds since 1970, nanoseconds in an `i128`. A column that a file does not have, or
    /// that is a list, map or struct, a value that does not fit and a damaged file fail the task
    /// with file, row and column. Spark: `read.parquet`.
    #[track_caller]
    pub fn parquet_file<T: DeserializeOwned + 'static>(
        &self,
        path: &str,
        read: ParquetRead,
    ) -> Result<Dataset<T>, Error> {
        let origin = Origin::here("parquet_file");
        let (listed, _) = files::list(path)?;
        let total = listed.iter().map(|file| file.length).sum();
        let partitions = input::default_partitions(total, context::parallelism());
        let pieces = Rc::new(input::split(listed, partitions));
        let read = Rc::new(read);
        let node = Node::records(origin, partitions, Vec::new());
        Ok(Dataset::new(node, move |partition| {
            let pieces = pieces[partition as usize].clone();
            Records::new(rows::Rows::new(pieces, Rc::clone(&read)))
        }))
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Dataset<T> {
    /// Writes the rows of each partition to `path/part-00000.parquet` and so on, a column for each
    /// field of the struct. `path` must not exist; it appears whole or not at all. Needs the
    /// feature `parquet`. Spark: `write.parquet`.
    ///
    /// `T` must be serde's both ways: its `Deserialize` tells the columns of a partition without
    /// rows.
    #[track_caller]
    pub fn save_as_parquet(&self, path: &str, options: ParquetOptions) -> Result<(), Error> {
        let columns = match &options.schema {
            Some(text) => shape::parse(text),
            None => shape::of::<T>(),
        };
        let columns = columns.map_err(|what| Error::Invalid(format!("save_as_parquet: {what}")))?;
        let (dataset, origin) = (self.clone(), Origin::here("save_as_parquet"));
        let action = Action::new(origin, self.node(), move |partition, _| {
            let mut part = write::Part::new(&columns, &options);
            dataset.records(partition).for_each(|row| part.add(&row));
            part.finish();
        });
        action.save(path, ".parquet")
    }
}

// === impl ParquetRead ===

impl ParquetRead {
    /// All rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only rows whose value of a column is in a range: `.only("year", 2020..)`,
    /// `.only("day", "2024-01-01".."2024-02-01")`. Row groups that cannot have any, by the least
    /// and greatest values that their file tells, are not read; nor are files in `key=value`
    /// folders outside of it. Rows without a value are in no range.
    pub fn only<V: Clone + Into<ColumnValue>>(
        mut self,
        column: &str,
        range: impl RangeBounds<V>,
    ) -> Self {
        self.ranges.push(ColumnRange::new(column, range));
        self
    }

    /// A field whose column a file does not have is `None`, or serde's default, instead of an
    /// error.
    pub fn allow_missing_columns(self) -> Self {
        Self { missing_allowed: true, ..self }
    }
}

// === impl ParquetOptions ===

impl Default for ParquetOptions {
    fn default() -> Self {
        Self { schema: None, codec: parquet::basic::Compression::SNAPPY, rows: 1 << 17 }
    }
}

impl ParquetOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// The columns, in Parquet's own words, where the types of the fields do not say enough:
    /// `message sale { required int32 day (DATE); optional int64 at (TIMESTAMP(MICROS, true)); }`.
    pub fn schema(self, message: &str) -> Self {
        Self { schema: Some(message.to_owned()), ..self }
    }

    /// Pages are written as they are.
    pub fn uncompressed(self) -> Self {
        Self { codec: parquet::basic::Compression::UNCOMPRESSED, ..self }
    }

    /// Pages are compressed with gzip: smaller and slower than Snappy.
    pub fn gzip(self) -> Self {
        Self { codec: parquet::basic::Compression::GZIP(Default::default()), ..self }
    }

    /// Pages are compressed with LZ4.
    pub fn lz4(self) -> Self {
        Self { codec: parquet::basic::Compression::LZ4_RAW, ..self }
    }

    /// Rows of a row group: a task holds one in memory.
    pub fn rows_in_group(self, rows: usize) -> Self {
        Self { rows: rows.max(1), ..self }
    }
}
