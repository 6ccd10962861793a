//! `cargo xtask bench`: figures of a cluster of real processes on this machine.
//!
//! Two workers with one core each, everything built in release, both cores shared by all
//! processes. Absolute times differ from machine to machine and from day to day; ratios of one run
//! are what to compare. Medians of several samples, taken one after the other.

use crate::artifacts::{Guests, build_offshoot, build_program};
use crate::cluster::LocalCluster;
use crate::toolchain::{cargo, describe, repository};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use table::{Figure, Goal, render, to_json};

mod jobs;
mod memory;
mod table;

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print an array of objects instead of a table
    #[arg(long)]
    json: bool,
    /// Smaller jobs and fewer samples, to see that everything works
    #[arg(long)]
    quick: bool,
}

/// How much is run for a figure.
struct Scale {
    samples: usize,
    empty_tasks: u32,
    rounds: u32,
    lookup_tasks: u32,
    text_bytes: u64,
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
const MEASUREMENTS: [(&str, Measurement); 7] = [
    ("submit", jobs::submit),
    ("empty tasks", jobs::empty_tasks),
    ("round trip", jobs::round_trip),
    ("lookup", jobs::lookup),
    ("word count", jobs::word_count),
    ("sort", jobs::sort),
    ("idle memory", jobs::idle_memory),
];

/// Measures everything; fails after the table if something could not be measured.
pub(crate) fn run(options: &Options) -> Result<()> {
    eprintln!("Building the cluster's program, the example jobs and the native program");
    let offshoot = build_offshoot()?;
    let native = build_program("xtask", "native")?;
    let guests = Guests::build()?;
    let cluster = LocalCluster::start(&offshoot, 2, 1)?;
    let scale = if options.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    let mut bench = Bench {
        cluster,
        guests,
        native,
        scale,
    };

    let mut figures = Vec::new();
    for (name, measure) in MEASUREMENTS {
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
    ensure!(
        figures.iter().all(|figure| figure.samples.is_ok()),
        "not everything was measured"
    );
    Ok(())
}

/// The sandbox's own benchmark, in one slot without a cluster: it prints a line
/// `NAME<TAB>MICROSECONDS` for each case.
fn fork() -> Result<Vec<Figure>> {
    if !repository().join("sandbox/benches/fork.rs").is_file() {
        bail!("there is no sandbox/benches/fork.rs");
    }
    let mut command = cargo();
    command.args([
        "bench",
        "--quiet",
        "--locked",
        "--package",
        "offshoot-sandbox",
    ]);
    let output = command
        .args(["--bench", "fork"])
        .output()
        .context("starting cargo")?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}",
        describe(&command),
        message.trim()
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<_> = text.lines().filter_map(fork_figure).collect();
    ensure!(
        !figures.is_empty(),
        "sandbox/benches/fork.rs printed no NAME<TAB>MICROSECONDS"
    );
    Ok(figures)
}

fn fork_figure(line: &str) -> Option<Figure> {
    let (name, micros) = line.split_once('\t')?;
    let goal = if name == "fork + call" {
        Goal::AtMost(5.0)
    } else {
        Goal::Open
    };
    Some(Figure::new(
        name,
        "µs",
        goal,
        vec![micros.trim().parse().ok()?],
    ))
}

// === impl Scale ===

impl Scale {
    const FULL: Self = Self {
        samples: 5,
        empty_tasks: 1_000_000,
        rounds: 2000,
        lookup_tasks: 20_000,
        text_bytes: 512 << 20,
    };

    const QUICK: Self = Self {
        samples: 3,
        empty_tasks: 100_000,
        rounds: 200,
        lookup_tasks: 2000,
        text_bytes: 64 << 20,
    };
}
