//! Jobs that read and write files of other programs, and these programs.

use crate::stores::with_store;
use crate::support::{Cluster, guest, run};
use offshoot_tests::s3::S3Server;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that has pyarrow and DuckDB: `.ci/run` makes one.
const PYTHON: &str = "OFFSHOOT_PYTHON";

/// Objects of the largest listing.
const OBJECTS: u64 = 10_000;

/// Rows of the sales example.
const SALES: u64 = 20_000;

/// Runs `formats.py`; nothing where there is no Python for it, which `.ci/run` says.
fn python(arguments: &[&OsStr]) -> Option<String> {
    let Some(python) = env::var_os(PYTHON) else {
        eprintln!("skipped: {PYTHON} names no Python with pyarrow and duckdb");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/formats.py");
    let mut command = Command::new(python);
    command.arg(script).args(arguments);
    let said = run(command);
    Some(said.ok())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/fixtures").join(name)
}

#[test]
fn other_programs_read_exactly_what_a_job_wrote() {
    let cluster = Cluster::start(1, 2);
    let input = fixture("pyarrow-snappy-v1.parquet");
    let work = cluster.directory.path().join("work");
    fs::create_dir(&work).unwrap();
    let convert = |from: &str, input: &Path, to: &str| {
        let output = work.join(to);
        let mut job = vec![OsStr::new("--allow-read").to_owned(), input.into()];
        job.extend(["--allow-write".into(), work.clone().into(), guest("tables").into()]);
        job.extend([from.into(), input.into(), to.into(), output.clone().into()]);
        cluster.submit(&job).ok();
        output
    };
    for to in [
        "parquet",
        "parquet.gzip",
        "parquet.lz4",
        "parquet.none",
        "csv",
        "csv.gz",
        "csv.zst",
        "csv.lz4",
        "json",
    ] {
        let output = convert("parquet", &input, to);
        assert!(output.join("_SUCCESS").exists());
        python(&[input.as_os_str(), to.as_ref(), output.as_os_str()]);
    }
    // From what was written here to the same again.
    for (from, to) in [("csv", "csv.gz"), ("json", "json"), ("parquet", "parquet.gzip")] {
        let (before, work_again) = (work.join(from), work.join("again"));
        fs::create_dir_all(&work_again).unwrap();
        fs::rename(work.join(to), work_again.join(to)).unwrap();
        let before = if before.exists() { before } else { work_again.join(from) };
        let output = convert(from, &before, to);
        python(&[input.as_os_str(), to.as_ref(), output.as_os_str()]);
    }
}

#[test]
fn ten_thousand_objects_are_listed_and_read() {
    let server = S3Server::start().unwrap();
    for object in 0..OBJECTS {
        let folder = server.bucket().join(format!("in/part={}", object % 10));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{object:05}.csv")), format!("a_i32\n{object}\n")).unwrap();
    }
    let cluster = Cluster::start(2, 1);
    let mut command = cluster.command();
    with_store(&mut command, &server).args(["submit", "--allow-read", "s3://bucket/in"]);
    command.arg(guest("tables")).args(["csv", "s3://bucket/in/**/*.csv", "count"]);
    let counted = run(command).ok();
    assert_eq!(counted, format!("{OBJECTS}\t{}\n", OBJECTS * (OBJECTS - 1) / 2));
}

#[test]
fn sales_are_summed_from_csv_and_from_parquet() {
    let cluster = Cluster::start(2, 1);
    let work = cluster.directory.path().join("work");
    fs::create_dir(&work).unwrap();
    let sales = |arguments: &[&str]| {
        let mut job = vec![OsStr::new("--allow-write").to_owned(), work.clone().into()];
        job.push(guest("sales").into());
        job.extend(arguments.iter().map(|argument| OsStr::new(argument).to_owned()));
        cluster.submit(&job).ok()
    };
    let at = |name: &str| work.join(name).to_str().unwrap().to_owned();
    sales(&["--make", &SALES.to_string(), work.to_str().unwrap()]);
    let mut totals = BTreeMap::<(String, String), (u64, u64)>::new();
    for number in 0..SALES {
        let (product, units) = (number * 37 % 100, number % 9 + 1);
        let month = format!("2024-{:02}", number / 28 % 12 + 1);
        let total = totals.entry((format!("category {}", product % 7), month)).or_default();
        *total = (total.0 + units, total.1 + units * (100 + product));
    }
    let line = |((category, month), (units, cents)): (&(String, String), &(u64, u64))| {
        format!("{category}\t{month}\t{units}\t{cents}\n")
    };
    let expected: String = totals.iter().map(line).collect();
    for (input, output) in [("csv/*.csv", "from-csv"), ("parquet/*.parquet", "from-parquet")] {
        let printed = sales(&[&at(input), &at("products"), &at(output)]);
        assert!(printed == expected, "{input}: {printed}");
        let sum = |which: fn(&(u64, u64)) -> u64| totals.values().map(which).sum::<u64>();
        if let Some(said) = python(&["--sum".as_ref(), at(output).as_ref()]) {
            assert_eq!(said, format!("{} {}\n", sum(|total| total.0), sum(|total| total.1)));
        }
    }
}

#[test]
fn what_is_wrong_with_a_file_is_one_clear_line() {
    let cluster = Cluster::start(1, 1);
    let work = cluster.directory.path().join("work");
    fs::create_dir(&work).unwrap();
    let parquet = fs::read(fixture("pyarrow-snappy-v1.parquet")).unwrap();
    let zipped = fs::read(fixture("pyarrow.csv.gz")).unwrap();
    for (name, format, bytes, said) in [
        ("a.csv", "csv", &b"b\n1\n"[..], "a.csv: there is no column a_i32; there are: b"),
        ("b.csv", "csv", b"a_i32\n1\nx\n", "b.csv: line 3, byte 8: column a_i32: invalid digit"),
        ("c.jsonl", "json", b"{\"a_i32\":\"\"}", "line at byte 0: a_i32: invalid type: string"),
        ("d.parquet", "parquet", &parquet[..9000], "d.parquet: "),
        ("e.gz", "lines", &zipped[..500], "e.gz at byte "),
    ] {
        let path = work.join(name);
        fs::write(&path, bytes).unwrap();
        let job = [OsStr::new("--allow-read"), work.as_os_str(), guest("tables").as_os_str()]
            .map(OsStr::to_owned);
        let rest = [format.into(), path.into(), "count".into()];
        cluster.submit(&[job, rest].concat()).failed(1, said);
    }
}
