//! What the author of a job depends on: datasets, actions, and nothing of the cluster.
//!
//! A job is an ordinary program with a `main`, compiled for `wasm32-wasip1` and started with
//! `offshoot submit`. `main` is the driver. When it runs an action, every task starts as a
//! copy-on-write fork of its memory, so that a closure finds whatever `main` had: no broadcast,
//! no serialisation of closures, no registration.
//!
//! ```no_run
//! use offshoot::prelude::*;
//!
//! fn main() -> Result<(), Error> {
//!     let context = Context::new();
//!     let stop_words = vec!["the".to_owned(), "a".to_owned()]; // simply there in every task
//!     let counts = context
//!         .text_file("/data/books/*.txt")?
//!         .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
//!         .filter(move |word| !stop_words.contains(word))
//!         .map(|word| (word, 1u64))
//!         .reduce_by_key(|a, b| a + b);
//!     println!("{} distinct words", counts.count()?);
//!     Ok(())
//! }
//! ```
//!
//! ```text
//!   dataset, pairs, lines, action, output        what a job's author calls
//!        │         │        │        │
//!      node      shuffle, gather   input, job    lineage, map and reduce sides, splits, results
//!        │                        formats         CSV, JSON, Parquet, compressed files
//!        │         │                 │
//!        │      external                         tables and buffers that spill sorted runs
//!        │         │                 │
//!      task      batch, key_table, arena, record, hash    one task; bytes and tables
//!        └─────────┴──── host ── raw                      the imports (`docs/abi.md`)
//! ```
//!
//! Features, none of which is on by default: `compression`, `csv`, `json`, `parquet`
//! (`docs/formats.md`).
//!
//! Records that cross a shuffle or come back to `main` implement [`Record`]; `record!(Type)` does
//! that for any type with serde. Keys are compared by their encoding. A partition may be larger
//! than a task's memory: sorts, groups and joins spill.

#![deny(unsafe_code)]

mod accumulator;
mod action;
mod arena;
mod argument;
mod batch;
mod broadcast;
mod byte_pairs;
mod bytes;
mod context;
mod dataset;
mod error;
mod external;
#[cfg(test)]
mod fake_host;
mod flat;
mod formats;
mod gather;
mod hash;
mod host;
mod input;
mod job;
mod key_table;
mod lines;
mod node;
mod object_file;
mod output;
mod pairs;
mod partitioner;
mod random;
mod ranges;
#[allow(unsafe_code, reason = "the one module of raw imports and exports")]
mod raw;
mod record;
mod records;
mod sample;
mod shuffle;
mod sorted_lines;
mod task;
#[cfg(test)]
mod tests;

pub use accumulator::Accumulator;
pub use action::{Histogram, LocalIterator, Number, PartitionStats, Stats};
pub use broadcast::Broadcast;
pub use byte_pairs::BytePairs;
pub use context::Context;
pub use dataset::{Dataset, StorageLevel};
pub use error::Error;
#[cfg(feature = "csv")]
pub use formats::csv::CsvOptions;
#[cfg(feature = "parquet")]
pub use formats::parquet::{ColumnValue, ParquetOptions, ParquetRead};
pub use formats::{Compression, WholeFile};
pub use hash::{hash_bytes, reducer_of};
pub use job::JobHandle;
pub use lines::{Lines, Text};
pub use output::ToLine;
pub use partitioner::Partitioner;
pub use raw::plain::Plain;
pub use record::{Malformed, Record, Serde, decode_serde, encode_serde};
pub use records::Records;

/// `use offshoot::prelude::*` brings in what nearly every job names.
pub mod prelude {
    pub use crate::{
        Accumulator, Broadcast, BytePairs, Context, Dataset, Error, JobHandle, Lines, Partitioner,
        Record, Records, Serde, StorageLevel,
    };
}
