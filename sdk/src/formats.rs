//! Files in the formats that other programs read and write.
//!
//! ```text
//!   formats/files     a file's bytes from an offset on, and its name for errors
//!   formats/codec     gzip, zstd and lz4, by suffix              feature `compression`
//!   formats/hive      `key=value` folders as columns
//!   formats/whole     whole files, fixed records
//!   formats/fields    which fields a type of records names       features `csv`, `json`, `parquet`
//!   formats/word      a text as whatever serde asks for
//!   formats/csv       rows of CSV                                feature `csv`
//!   formats/json      JSON lines                                 feature `json`
//!   formats/parquet   columns                                    feature `parquet`
//!   formats/sink      a part of the output, compressed or not
//! ```
//!
//! The host hands out raw bytes. Everything here runs in tasks, in the sandbox.

pub(crate) mod codec;
#[cfg(feature = "csv")]
pub(crate) mod csv;
#[cfg(any(feature = "csv", feature = "parquet"))]
mod fields;
pub(crate) mod files;
#[cfg(any(feature = "csv", feature = "json", feature = "parquet"))]
mod hive;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
#[cfg(any(feature = "compression", feature = "csv", feature = "json", feature = "parquet"))]
mod sink;
mod whole;
#[cfg(any(feature = "json", feature = "parquet"))]
mod word;

pub use codec::Compression;
pub use whole::WholeFile;
