//! Files with something wrong: an error with file, place and column, or what can be read of them.

use super::*;
use crate::{Compression, CsvOptions, ParquetOptions, ParquetRead};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    n: u32,
    name: String,
}

crate::record!(Row);

/// What reading a file answers: the rows, or what is said.
fn read(format: &str, path: &str, bytes: &[u8]) -> Result<Vec<Row>, String> {
    run(|context| {
        write_file(path, bytes);
        let rows = match format {
            "csv" => context.csv_file::<Row>(path, CsvOptions::new()),
            "split" => context.csv_file::<Row>(path, CsvOptions::new().one_line_a_row()),
            "json" => context.json_lines::<Row>(path),
            "parquet" => context.parquet_file::<Row>(path, ParquetRead::new()),
            other => panic!("{other}"),
        };
        rows.and_then(|rows| rows.collect()).map_err(|error| error.to_string())
    })
}

fn good() -> Vec<Row> {
    vec![Row { n: 1, name: "a".to_owned() }, Row { n: 2, name: "b\nc".to_owned() }]
}

#[test]
fn what_is_odd_and_right() {
    for (format, bytes) in [
        ("csv", "n,name\n1,a\n2,\"b\nc\"\n"),
        ("csv", "\u{feff}n,name\r\n1,a\r\n2,\"b\nc\"\r\n"),
        ("csv", "name,other,n\na,,1\n\"b\nc\",x,2"),
        ("json", "\u{feff}{\"n\":1,\"name\":\"a\"}\r\n\r\n{\"name\":\"b\\nc\",\"x\":[1],\"n\":2}"),
    ] {
        assert_eq!(read(format, "/in/f", bytes.as_bytes()), Ok(good()), "{bytes:?}");
    }
    for (format, bytes) in [("csv", ""), ("csv", "n,name\n"), ("csv", "n,name"), ("json", "\n")] {
        assert_eq!(read(format, "/in/f", bytes.as_bytes()), Ok(vec![]), "{bytes:?}");
    }
    let quote = "n,name\n1,5\" pipe\n";
    assert_eq!(read("csv", "/in/f", quote.as_bytes()).unwrap()[0].name, "5\" pipe");
}

#[test]
fn what_is_wrong_with_text() {
    for (format, bytes, said) in [
        ("csv", &b"m,name\n1,a\n"[..], "/in/f: there is no column n; there are: m, name"),
        ("csv", b"n,name\n1,a\nx,b\n", "/in/f: line 3, byte 11: column n: invalid digit"),
        ("csv", b"n,name\n1,a\n-2,b\n", "line 3, byte 11: column n: "),
        ("csv", b"n,name\n1,a\n2\n", "line 3, byte 11: 1 fields, and 2 columns"),
        ("csv", b"n,name\n1,a,x\n", "line 2, byte 7: 3 fields, and 2 columns"),
        (
            "csv",
            b"n,name\n1,a\xff\n",
            "line 2, byte 7: column name: invalid utf-8 sequence of 1 bytes",
        ),
        ("csv", b"n,name\n1,\"a", "line 2, byte 7: the file ends within quotes"),
        ("csv", b"n,name\n1,\"a\n2,b\n", "line 2, byte 7: the file ends within quotes"),
        ("csv", b"n,na\xffme\n1,a\n", "is not UTF-8"),
        ("split", b"n,name\n1,a\n2,b\nx,c\n", "column n: invalid digit"),
        (
            "json",
            b"{\"n\":1,\"name\":\"a\"}\n{\"n\":true",
            "/in/f, line at byte 19: n: invalid type",
        ),
        ("json", b"{\"n\":1}", "/in/f, line at byte 0: missing field `name`"),
        ("json", b"{\"n\":1,\"name\":\"a\xff\"}", "name: invalid unicode"),
        ("json", b"{\"n\":1,\"name\":", "name: EOF while parsing"),
        ("json", b"[", "line at byte 0: "),
        ("json", b"{\"n\":1,\"name\":\"a\"} x", "trailing characters"),
    ] {
        let found = read(format, "/in/f", bytes).unwrap_err();
        assert!(found.contains(said), "{said:?} in {found:?}");
        assert!(found.contains("/in/f"), "{found}");
    }
}

/// Every file that is cut off anywhere is an error, and never fewer rows.
#[test]
fn what_is_cut_off_is_said() {
    let written = |compression: Compression| {
        run(|context| {
            let lines: Vec<String> = (0..2000).map(|n| format!("{n} {}", n * n)).collect();
            context
                .parallelize(lines, 1)
                .save_as_compressed_text_file("/out", compression)
                .unwrap();
            fake_host::with(|host| host.outputs["/out"].concat())
        })
    };
    for (suffix, compression) in
        [("gz", Compression::Gzip), ("zst", Compression::Zstd), ("lz4", Compression::Lz4)]
    {
        let (bytes, path) = (written(compression), format!("/in/f.{suffix}"));
        let count = |bytes: &[u8]| {
            run(|context| {
                write_file(&path, bytes);
                context.text_file(&path).unwrap().count().map_err(|error| error.to_string())
            })
        };
        assert_eq!(count(&bytes), Ok(2000), "{suffix}");
        assert_eq!(count(&[&bytes[..], &bytes].concat()), Ok(4000), "{suffix}: twice");
        for cut in (1..bytes.len()).step_by(97).chain(bytes.len() - 12..bytes.len()) {
            let said = count(&bytes[..cut]).unwrap_err();
            assert!(said.contains(&format!("reading {path} at byte ")), "{suffix} {cut}: {said}");
        }
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 0x55;
        assert!(count(&damaged).is_err(), "{suffix}: damaged in the middle");
        assert!(count(b"this is no such file").is_err(), "{suffix}");
        assert_eq!(count(b""), Ok(0), "{suffix}: nothing is nothing");
    }
}

#[test]
fn what_is_wrong_with_parquet() {
    let bytes = run(|context| {
        let rows = (0..3000).map(|n| Row { n, name: format!("name {n}") });
        let options = ParquetOptions::new().rows_in_group(1000);
        context.parallelize(rows, 1).save_as_parquet("/out", options).unwrap();
        fake_host::with(|host| host.outputs["/out"].concat())
    });
    assert_eq!(read("parquet", "/in/f", &bytes).unwrap().len(), 3000);
    for cut in [1, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        let said = read("parquet", "/in/f", &bytes[..cut]).unwrap_err();
        assert!(said.contains("/in/f: "), "{cut}: {said}");
    }
    assert!(read("parquet", "/in/f", b"n,name\n1,a\n").unwrap_err().contains("/in/f: "));
    // What is read is another value or an error, and never a panic: of pages, and of the footer.
    let footer = bytes.len() - 1500;
    for at in (4..footer).step_by(131).chain(footer..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        match read("parquet", "/in/f", &damaged) {
            Ok(rows) => assert_eq!(rows.len(), 3000, "byte {at}: fewer rows, and no error"),
            Err(said) => assert!(said.contains("/in/f: "), "byte {at}: {said}"),
        }
    }
}
