//! Reads rows of every type of column in one format and writes them in another, for tests:
//! `tables FORMAT INPUT count`, `tables FORMAT INPUT FORMAT OUTPUT`.
//!
//! A format is `csv`, `json`, `parquet` or `lines`, to write also `csv.gz`, `csv.zst`, `csv.lz4`,
//! `parquet.gzip`, `parquet.lz4`, `parquet.none`. `count` prints how many rows there are and the
//! sum of `a_i32`; of `lines`, how many and how many bytes.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use offshoot::{Compression, CsvOptions, ParquetOptions, ParquetRead};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

/// The columns of `sdk/fixtures/make.py`. What is not text there and text here is exact as text.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    a_i8: i8,
    a_i16: i16,
    a_i32: i32,
    a_i64: i64,
    a_u8: u8,
    a_u16: u16,
    a_u32: u32,
    a_u64: u64,
    a_f32: f32,
    a_f64: f64,
    truth: bool,
    text: String,
    day: String,
    at_us: String,
    at_ms: String,
    cents: String,
    big: String,
    maybe: Option<i32>,
    maybe_text: Option<String>,
    color: String,
}

/// A column that every row has.
#[derive(Clone, Debug, Deserialize)]
struct Number {
    a_i32: i32,
}

/// What types of fields do not say.
const SCHEMA: &str = "message row {
    required int32 a_i8 (INTEGER(8, true)); required int32 a_i16 (INTEGER(16, true));
    required int32 a_i32; required int64 a_i64;
    required int32 a_u8 (INTEGER(8, false)); required int32 a_u16 (INTEGER(16, false));
    required int32 a_u32 (INTEGER(32, false)); required int64 a_u64 (INTEGER(64, false));
    required float a_f32; required double a_f64; required boolean truth;
    required binary text (STRING); required int32 day (DATE);
    required int64 at_us (TIMESTAMP(MICROS, true)); required int64 at_ms (TIMESTAMP(MILLIS, false));
    required int32 cents (DECIMAL(9, 2)); required fixed_len_byte_array(16) big (DECIMAL(38, 10));
    optional int32 maybe; optional binary maybe_text (STRING); required binary color (STRING);
}";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["lines", input, "count"] => count_lines(input),
        [format, input, "count"] => count(format, input),
        [from, input, to, output] => convert(from, input, to, output),
        _ => Err(Error::Invalid("usage: tables FORMAT INPUT (count | FORMAT OUTPUT)".to_owned())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tables: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read<T: serde::de::DeserializeOwned + 'static>(
    format: &str,
    input: &str,
) -> Result<Dataset<T>, Error> {
    let context = Context::new();
    match format {
        "csv" => context.csv_file(input, CsvOptions::new()),
        "json" => context.json_lines(input),
        "parquet" => context.parquet_file(input, ParquetRead::new()),
        other => Err(Error::Invalid(format!("no format {other}"))),
    }
}

fn count(format: &str, input: &str) -> Result<(), Error> {
    let numbers = read::<Number>(format, input)?.map(|row| (1u64, i64::from(row.a_i32)));
    let total = numbers.reduce(|left, right| (left.0 + right.0, left.1 + right.1))?;
    let (rows, sum) = total.unwrap_or_default();
    println!("{rows}\t{sum}");
    Ok(())
}

fn count_lines(input: &str) -> Result<(), Error> {
    let lines = Context::new().byte_lines(input)?.map(|line| (1u64, line.len() as u64));
    let total = lines.reduce(|left, right| (left.0 + right.0, left.1 + right.1))?;
    let (lines, bytes) = total.unwrap_or_default();
    println!("{lines}\t{bytes}");
    Ok(())
}

fn convert(from: &str, input: &str, to: &str, output: &str) -> Result<(), Error> {
    let rows = read::<Row>(from, input)?;
    let csv = |compression| rows.save_as_csv(output, CsvOptions::new().compression(compression));
    let options = ParquetOptions::new().schema(SCHEMA).rows_in_group(1000);
    match to {
        "csv" => csv(Compression::None),
        "csv.gz" => csv(Compression::Gzip),
        "csv.zst" => csv(Compression::Zstd),
        "csv.lz4" => csv(Compression::Lz4),
        "json" => rows.save_as_json_lines(output, Compression::None),
        "parquet" => rows.save_as_parquet(output, options),
        "parquet.gzip" => rows.save_as_parquet(output, options.gzip()),
        "parquet.lz4" => rows.save_as_parquet(output, options.lz4()),
        "parquet.none" => rows.save_as_parquet(output, options.uncompressed()),
        other => Err(Error::Invalid(format!("no format {other}"))),
    }
}
