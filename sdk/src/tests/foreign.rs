//! Files that pyarrow and DuckDB wrote (`sdk/fixtures/make.py`) are read exactly.

use super::*;
use crate::{ColumnValue, CsvOptions, ParquetRead};
use serde::Deserialize;

const ROWS: i64 = 100;

/// Every column of the table that `make.py` makes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    bytes: Vec<u8>,
    day: String,
    at_us: i64,
    at_ms: i128,
    cents: String,
    big: String,
    maybe: Option<i32>,
    maybe_text: Option<String>,
    color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
    Green,
    Blue,
}

/// What CSV and JSON have of it.
#[derive(Debug, PartialEq, Deserialize)]
struct Some7 {
    a_i64: i64,
    a_f64: f64,
    truth: bool,
    text: String,
    day: String,
    maybe: Option<i32>,
    maybe_text: Option<String>,
}

fn row(i: i64) -> Row {
    let from_middle = i - 50;
    let micros = from_middle * 1_000_000_000_001;
    Row {
        a_i8: from_middle as i8,
        a_i16: (from_middle * 300) as i16,
        a_i32: (from_middle * 40_000_000) as i32,
        a_i64: from_middle * 100_000_000_000_000_000,
        a_u8: (i * 2) as u8,
        a_u16: (i * 600) as u16,
        a_u32: (i * 40_000_000) as u32,
        a_u64: i as u64 * 180_000_000_000_000_000,
        a_f32: i as f32 * 0.5 - 7.0,
        a_f64: i as f64 / 3.0,
        truth: i % 3 == 0,
        text: format!("téxt, \"{i}\"\n"),
        bytes: vec![i as u8, 255 - i as u8, 0],
        day: day(from_middle),
        at_us: micros,
        at_ms: i128::from(micros.div_euclid(1000)) * 1_000_000,
        cents: decimal(i128::from(from_middle) * 101, 2),
        big: decimal(i128::from(from_middle) * 100_000_000_000_000_000_000 + 1, 10),
        maybe: (i % 4 != 0).then_some(i as i32),
        maybe_text: (i % 5 != 0).then(|| format!("o{i}")),
        color: [Color::Red, Color::Green, Color::Blue][i as usize % 3],
    }
}

/// So many hundreds of days after the 29th of February 2024, counted day by day.
fn day(hundreds: i64) -> String {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = |year, month| match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    // From the first day of 1970: it is day 19,782.
    let (mut left, mut year, mut month) = (19_782 + hundreds * 100, 1970, 1);
    while left >= length(year, month) {
        left -= length(year, month);
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

fn decimal(unscaled: i128, digits: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let text = format!("{:0>width$}", unscaled.abs(), width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    format!("{sign}{whole}.{fraction}")
}

fn some(i: i64) -> Some7 {
    let Row { a_i64, a_f64, truth, text, day, maybe, maybe_text, .. } = row(i);
    Some7 { a_i64, a_f64, truth, text, day, maybe, maybe_text }
}

/// A file of `sdk/fixtures`, as `/in/NAME` of the host.
fn fixture(name: &str) -> String {
    let path = format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let inside = format!("/in/{name}");
    write_file(&inside, &std::fs::read(path).unwrap());
    inside
}

#[test]
fn parquet_of_all_codecs_and_pages() {
    for name in [
        "pyarrow-snappy-v1",
        "pyarrow-zstd-v2",
        "pyarrow-zstd-v1",
        "pyarrow-gzip-v2",
        "pyarrow-lz4",
        "pyarrow-plain-delta",
        "duckdb-snappy",
        "duckdb-zstd",
        "duckdb-gzip",
        "duckdb-lz4_raw",
        "duckdb-v2",
    ] {
        run(|context| {
            let path = fixture(&format!("{name}.parquet"));
            let rows = context.parquet_file::<Row>(&path, ParquetRead::new()).unwrap();
            let rows = rows.map(|row| format!("{row:?}")).collect().unwrap();
            assert_eq!(rows.len(), ROWS as usize, "{name}");
            for (i, found) in (0..).zip(rows) {
                assert_eq!(found, format!("{:?}", row(i)), "{name}, row {i}");
            }
        });
    }
}

#[test]
fn parquet_of_rare_kinds() {
    run(|context| {
        #[derive(Deserialize)]
        struct At {
            at: i128,
        }
        for name in ["pyarrow-int96.parquet", "pyarrow-nanos.parquet"] {
            let stamps = context.parquet_file::<At>(&fixture(name), ParquetRead::new()).unwrap();
            let expected: Vec<i128> =
                (0..ROWS).map(|i| i128::from(i - 50) * 1_000_000_000_000_000 + 1).collect();
            assert_eq!(stamps.map(|row| row.at).collect().unwrap(), expected, "{name}");
        }
        #[derive(Deserialize)]
        struct Odd {
            n: i32,
            half: f32,
            time: String,
            fixed: Vec<u8>,
            large: String,
        }
        let shown = |Odd { n, half, time, fixed, large }: Odd| {
            format!("{n} {half} {time} {:?} {large:?}", String::from_utf8(fixed).unwrap())
        };
        let path = fixture("pyarrow-odd.parquet");
        let odd = context.parquet_file::<Odd>(&path, ParquetRead::new()).unwrap();
        assert_eq!(
            odd.map(shown).collect().unwrap(),
            [r#"1 1.5 00:00:00.000001 "abcd" "x""#, r#"2 -0.25 23:59:59.999999 "efgh" "y""#,]
        );
        let path = fixture("pyarrow-empty.parquet");
        let none = context.parquet_file::<Row>(&path, ParquetRead::new()).unwrap();
        assert_eq!(none.count(), Ok(0));
    });
}

#[test]
fn parquet_by_ranges_is_the_same_and_reads_less() {
    let all: [(&str, ColumnValue, ColumnValue); 7] = [
        ("a_i32", (-400_000_000).into(), 0.into()),
        ("a_u64", 0.into(), 3_600_000_000_000_000_000u64.into()),
        ("a_f64", 30.0.into(), 1e9.into()),
        ("text", "téxt, \"5".into(), "téxt, \"6".into()),
        ("day", "2024-02-29".into(), "2030-01-01".into()),
        ("cents", "-3.03".into(), "3.03".into()),
        ("maybe", 10.into(), 20.into()),
    ];
    #[derive(Deserialize)]
    struct Number {
        a_i8: i8,
    }
    for (column, start, end) in all {
        for name in ["pyarrow-snappy-v1.parquet", "duckdb-zstd.parquet"] {
            run(|context| {
                let path = fixture(name);
                let read = ParquetRead::new().only(column, start.clone()..end.clone());
                let found = context.parquet_file::<Number>(&path, read).unwrap();
                let found = found.map(|row| row.a_i8).collect().unwrap();
                let wanted = |i: &i64| {
                    let row = row(*i);
                    match column {
                        "a_i32" => (-400_000_000..0).contains(&row.a_i32),
                        "a_u64" => row.a_u64 < 3_600_000_000_000_000_000,
                        "a_f64" => row.a_f64 >= 30.0,
                        "text" => ("téxt, \"5".."téxt, \"6").contains(&&*row.text),
                        "day" => ("2024-02-29".."2030-01-01").contains(&&*row.day),
                        "cents" => (-303..303).contains(&((*i - 50) * 101)),
                        _ => row.maybe.is_some_and(|n| (10..20).contains(&n)),
                    }
                };
                let expected: Vec<i8> = (0..ROWS).filter(wanted).map(|i| (i - 50) as i8).collect();
                assert!(!expected.is_empty() && expected.len() < 90, "{column}");
                assert_eq!(found, expected, "{name}: {column}");
            });
        }
    }
    // A row group that is out of range may be damaged: nobody looks.
    run(|context| {
        let path = fixture("pyarrow-snappy-v1.parquet");
        fake_host::with(|host| host.files.get_mut(&path).unwrap()[100..2000].fill(0xee));
        let read = |from: i32| {
            let read = ParquetRead::new().only("a_i32", from..);
            context.parquet_file::<Row>(&path, read).unwrap().count()
        };
        assert_eq!(read(10 * 40_000_000), Ok(40));
        assert!(read(-50 * 40_000_000).unwrap_err().to_string().contains(", column a_i8: "));
    });
}

#[test]
fn csv_and_json_of_others() {
    let expected: Vec<String> = (0..ROWS).map(|i| format!("{:?}", some(i))).collect();
    for name in [
        "duckdb.csv",
        "duckdb.csv.gz",
        "duckdb.csv.zst",
        "pyarrow.csv",
        "pyarrow.csv.gz",
        "pyarrow.csv.lz4",
        "pyarrow.csv.zst",
    ] {
        run(|context| {
            let delimiter = if name.starts_with("pyarrow") { b';' } else { b',' };
            let options = CsvOptions::new().delimiter(delimiter);
            let rows = context.csv_file::<Some7>(&fixture(name), options).unwrap();
            let rows = rows.map(|row| format!("{row:?}")).collect().unwrap();
            assert_eq!(rows, expected, "{name}");
        });
    }
    run(|context| {
        let rows = context.json_lines::<Some7>(&fixture("duckdb.jsonl")).unwrap();
        assert_eq!(rows.map(|row| format!("{row:?}")).collect().unwrap(), expected);
    });
}

#[test]
fn what_is_not_read_is_said() {
    type Reading = fn(&Context, &str, ParquetRead) -> Error;
    let said = |name: &str, read: ParquetRead, of: Reading| {
        run(|context| of(context, &fixture(name), read).to_string())
    };
    fn reading<T: serde::de::DeserializeOwned + 'static>(
        context: &Context,
        path: &str,
        read: ParquetRead,
    ) -> Error {
        context.parquet_file::<T>(path, read).unwrap().count().unwrap_err()
    }
    macro_rules! one_column {
        ($($name:ident: $type:ty),*) => {{
            #[derive(Deserialize)]
            #[allow(dead_code, reason = "never made")]
            struct One { $($name: $type),* }
            reading::<One> as Reading
        }};
    }
    let odd = "pyarrow-odd.parquet";
    let all = "pyarrow-snappy-v1.parquet";
    let none = ParquetRead::new;
    for (text, name, read, of) in [
        ("column list: it is a list", odd, none(), one_column!(list: Vec<i32>)),
        ("column struct: it is a field", odd, none(), one_column!(r#struct: i32)),
        ("row 1, column not_utf8: not UTF-8 after 2", odd, none(), one_column!(not_utf8: String)),
        ("there is no column nn; there are: n, list", odd, none(), one_column!(nn: i32)),
        ("row 0, column text: invalid type: string", all, none(), one_column!(text: i32)),
        ("row 0, column a_i8: invalid value: integer `-50`", all, none(), one_column!(a_i8: u8)),
        ("row 0, column maybe: it has no value", all, none(), one_column!(maybe: i32)),
        ("column cents: -50.50 is a decimal", all, none(), one_column!(cents: f64)),
        ("there is no column x", all, none().only("x", 1..), one_column!(n: Option<i32>)),
        ("compile time: brotli", "pyarrow-brotli.parquet", none(), one_column!(text: String)),
        ("column text: ", all, none().only("text", 1..), one_column!(text: String)),
    ] {
        let said = said(name, read.clone().allow_missing_columns(), of);
        let strict = run(|context| of(context, &fixture(name), read).to_string());
        let found = if text.starts_with("there is no column nn") { &strict } else { &said };
        assert!(found.contains(text) && found.contains(name), "{text:?} in {found:?}");
    }
}
