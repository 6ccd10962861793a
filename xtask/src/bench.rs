//! `cargo xtask bench`: figures of a cluster of real processes on this machine.
//!
//! Two workers with one core each, everything built in release, both cores shared by all
//! processes. Absolute times differ from machine to machine and from day to day; ratios of one run
//! are what to compare. Medians of several samples, taken one after the other.

use crate::artifacts::{Guests, build_offshoot, build_program};
use crate::cluster::LocalCluster;
use crate::toolchain::{cargo, describe};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use table::{Figure, Goal, render, to_json};

mod forks;
mod jobs;
mod memory;
mod peers;
mod ranking;
mod table;
mod tasks;

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print an array of objects instead of a table
    #[arg(long)]
    json: bool,
    /// Smaller jobs and fewer samples, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Also run word count, sort and PageRank with Spark, if it is installed
    #[arg(long)]
    peers: bool,
}

/// How much is run for a figure.
struct Scale {
    samples: usize,
    empty_tasks: u32,
    rounds: u32,
    lookup_tasks: u32,
    text_bytes: u64,
    kept_numbers: u64,
    pages: u64,
}

/// What the measurements use.
struct Bench {
    cluster: LocalCluster,
    guests: Guests,
    native: PathBuf,
    scale: Scale,
}

/// Measures one or more figures.
type Measurement = fn(&mut Bench) -> Result<Vec<Figure>>;

/// All that is measured, in the order of the table.
const MEASUREMENTS: [(&str, Measurement); 11] = [
    ("submit", jobs::submit),
    ("empty tasks", tasks::empty_tasks),
    ("forks", tasks::forks),
    ("round trip", tasks::round_trip),
    ("an executor comes back", tasks::comes_back),
    ("lookup", jobs::lookup),
    ("word count", jobs::word_count),
    ("sort", jobs::sort),
    ("kept numbers", jobs::kept_numbers),
    ("pagerank", ranking::pagerank),
    ("idle memory", jobs::idle_memory),
];

/// What is measured of Spark.
const PEERS: [(&str, Measurement); 2] =
    [("Spark", peers::spark), ("pagerank with Spark", ranking::spark)];

/// Measures everything; fails after the table if something could not be measured.
pub(crate) fn run(options: &Options) -> Result<()> {
    eprintln!("Building the cluster's program, the example jobs and the native program");
    let offshoot = build_offshoot()?;
    let native = build_program("xtask", "native")?;
    let guests = Guests::build()?;
    let cluster = LocalCluster::start(&offshoot, 2, 1)?;
    let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
    let mut bench = Bench { cluster, guests, native, scale };

    let mut figures = Vec::new();
    let peers = if options.peers { &PEERS[..] } else { &[] };
    for (name, measure) in MEASUREMENTS.iter().chain(peers) {
        eprintln!("Measuring: {name}");
        match measure(&mut bench) {
            Ok(measured) => figures.extend(measured),
            Err(error) => figures.push(Figure::missing(name, format!("{error:#}"))),
        }
    }
    drop(bench);
    eprintln!("Measuring: fork");
    match fork() {
        Ok(measured) => figures.extend(measured),
        Err(error) => figures.push(Figure::missing("fork", format!("{error:#}"))),
    }
    if options.json {
        println!("{:#}", to_json(&figures));
    } else {
        print!("{}", render(&figures));
    }
    ensure!(figures.iter().all(|figure| figure.samples.is_ok()), "not everything was measured");
    Ok(())
}

/// The sandbox's own benchmark, in one slot without a cluster: a table of which each row is the
/// driver's size in MiB, what the task does, and least, median and greatest microseconds.
fn fork() -> Result<Vec<Figure>> {
    let mut command = cargo();
    command.args(["bench", "--quiet", "--locked", "--package", "offshoot-sandbox"]);
    let output = command.args(["--bench", "fork"]).output();
    let output = output.context("starting cargo")?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", describe(&command), message.trim());
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<_> = text.lines().filter_map(fork_figure).collect();
    ensure!(!figures.is_empty(), "{} printed no row of numbers", describe(&command));
    Ok(figures)
}

fn fork_figure(row: &str) -> Option<Figure> {
    let cells: Vec<&str> = row.split_whitespace().collect();
    let [mebibytes, guest, micros @ ..] = cells.as_slice() else {
        return None;
    };
    let mebibytes: u32 = mebibytes.parse().ok()?;
    let micros: Result<Vec<f64>, _> = micros.iter().map(|cell| cell.parse()).collect();
    let goal = match *guest {
        "empty" => Goal::AtMost(5.0),
        _ => Goal::Open,
    };
    let name = format!("fork + call, {guest}, {mebibytes} MiB driver");
    Some(Figure::new(&name, "µs", goal, micros.ok()?))
}

// === impl Scale ===

impl Scale {
    const FULL: Self = Self {
        samples: 5,
        empty_tasks: 1_000_000,
        rounds: 2000,
        lookup_tasks: 20_000,
        text_bytes: 512 << 20,
        kept_numbers: 100_000_000,
        pages: 500_000,
    };

    const QUICK: Self = Self {
        samples: 3,
        empty_tasks: 100_000,
        rounds: 200,
        lookup_tasks: 2000,
        text_bytes: 64 << 20,
        kept_numbers: 10_000_000,
        pages: 50_000,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_fork_benchmark_are_read() {
        let row = "    1024    empty       2.10       2.50       9.00";
        let figure = fork_figure(row).expect("a row");
        assert_eq!(figure.name, "fork + call, empty, 1024 MiB driver");
        assert_eq!(figure.samples, Ok(vec![2.1, 2.5, 9.0]));
        assert!(fork_figure("     MiB    guest     min µs  median µs     max µs").is_none());
    }
}
