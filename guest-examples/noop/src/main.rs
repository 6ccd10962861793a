//! Tasks that do nothing but look whether their memory is a fresh fork:
//! `noop TASKS [ROUNDS] [--grow] [--each] [--rest]`.
//!
//! Every task increments a static and a cell on the heap and returns what it found in them. With
//! `--grow` it also grows its memory by a page and adds what its first byte was. All of that must
//! be 0, and the sum is printed; then tasks per second, a line for each round. With `--each` a
//! line is printed as soon as a round has ended instead: a guest's clock has steps of a
//! millisecond, and whoever reads the lines may have a better one. With `--rest` the driver does
//! nothing for a while before each round, and prints a line when that begins: an executor without
//! a task may be released meanwhile.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "usage: noop TASKS [ROUNDS] [--grow] [--each] [--rest] (tasks of a round, at \
     least 1; rounds, one after the other; whether every task also grows its memory by a page and \
     looks at it; whether to print a line when a round ends, and to do nothing before each)";

/// How long the driver does nothing.
const REST: Duration = Duration::from_millis(500);

/// What every task must find to be 0.
static COUNTER: AtomicU64 = AtomicU64::new(0);

struct Options {
    tasks: u32,
    rounds: u32,
    grow: bool,
    each: bool,
    rest: bool,
}

fn main() -> ExitCode {
    let Some(options) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("noop: a task found what another one had left behind");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("noop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Option<Options> {
    let (flags, numbers): (Vec<_>, Vec<_>) = arguments.partition(|text| text.starts_with('-'));
    let (mut grow, mut each, mut rest) = (false, false, false);
    for flag in flags {
        match flag.as_str() {
            "--grow" => grow = true,
            "--each" => each = true,
            "--rest" => rest = true,
            _ => return None,
        }
    }
    let numbers: Option<Vec<u32>> = numbers.iter().map(|text| text.parse().ok()).collect();
    let (tasks, rounds) = match numbers?.as_slice() {
        [tasks] => (*tasks, 1),
        [tasks, rounds] => (*tasks, *rounds),
        _ => return None,
    };
    let options = Options { tasks, rounds, grow, each, rest };
    (tasks > 0 && rounds > 0).then_some(options)
}

/// Runs all rounds; the sum of what the tasks found.
fn run(options: &Options) -> Result<u64, Error> {
    let Options { tasks, rounds, grow, each, rest } = *options;
    let context = Context::new();
    let heap = Rc::new(Cell::new(0u64));
    let found = context.range(0..u64::from(tasks), tasks).map_partitions(move |_| {
        let in_static = COUNTER.fetch_add(1, Ordering::Relaxed);
        let on_heap = heap.replace(heap.get() + 1);
        let grown = if grow { u64::from(probe::grow_by_a_page()) } else { 0 };
        [in_static + on_heap + grown]
    });
    let mut sum = 0;
    let mut speeds = Vec::new();
    for round in 1..=rounds {
        if rest {
            std::thread::sleep(REST);
            println!("round {round} begins");
        }
        let start = Instant::now();
        let job = context.submit(&found, Iterator::sum::<u64>)?;
        job.wait_each(|_, found| sum += found)?;
        if each {
            println!("round {round} has ended");
            continue;
        }
        speeds.push(f64::from(tasks) / start.elapsed().as_secs_f64().max(0.001));
    }
    println!("{sum}");
    for (round, speed) in (1..).zip(speeds) {
        println!("round {round}: {speed:.0} tasks/s");
    }
    Ok(sum)
}
