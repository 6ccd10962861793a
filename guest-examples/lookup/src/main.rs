//! A table in the driver's memory that tasks look into: `lookup MIB TASKS [--write]`.
//!
//! Nobody sends the table anywhere: tasks are forks of `main`, so it is there, whatever its size.
//! Every task looks up 16 keys spread over the whole table and with `--write` changes these 16
//! entries in its own copy. The job runs twice; prints how many entries were wrong (0), then the
//! seconds of both runs and, last, the seconds per task of the second.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

const USAGE: &str = "usage: lookup MIB TASKS [--write] (the table's size, 1 to 3072 MiB; how many \
     tasks look into it, at least 1; whether they also change what they find)";

/// How many keys a task looks up.
const KEYS: u64 = 16;

/// Entries in a MiB.
const ENTRIES_PER_MIB: u64 = (1 << 20) / 8;

type Table = Rc<[Cell<u64>]>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mib, tasks, write) = match arguments.as_slice() {
        [_, mib, tasks] => (mib, tasks, false),
        [_, mib, tasks, "--write"] => (mib, tasks, true),
        _ => return usage(),
    };
    let (Ok(mib @ 1..=3072), Ok(tasks @ 1..)) = (mib.parse(), tasks.parse()) else {
        return usage();
    };
    match run(mib, tasks, write) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("lookup: a task found an entry that it should not");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("lookup: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// Runs the job twice; how many entries were wrong.
fn run(mib: u64, tasks: u32, write: bool) -> Result<u64, Error> {
    let context = Context::new();
    let table: Table = (0..mib * ENTRIES_PER_MIB).map(|key| Cell::new(entry(key))).collect();
    let looked_up = context.range(0..u64::from(tasks), tasks).map(move |task| {
        let wrong = keys(task, table.len() as u64).filter(|key| !look_up(&table, *key, write));
        wrong.count() as u64
    });
    let mut wrong = 0;
    let mut seconds = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        wrong += looked_up.reduce(|left, right| left + right)?.unwrap_or(0);
        seconds.push(start.elapsed().as_secs_f64());
    }
    println!("{wrong} wrong");
    println!("first run: {:.3} s", seconds[0]);
    println!("second run: {:.3} s", seconds[1]);
    println!("{:.9}", seconds[1] / f64::from(tasks));
    Ok(wrong)
}

/// What the table holds for a key.
fn entry(key: u64) -> u64 {
    let mixed = (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

/// Keys of a task: one in each sixteenth of the table, another place in every task.
fn keys(task: u64, entries: u64) -> impl Iterator<Item = u64> {
    let stretch = entries / KEYS;
    (0..KEYS).map(move |key| key * stretch + entry(task * KEYS + key) % stretch)
}

/// Whether the entry of a key is what `main` put there.
fn look_up(table: &Table, key: u64, write: bool) -> bool {
    let cell = &table[key as usize];
    let found = cell.get();
    if write {
        cell.set(!found);
    }
    found == entry(key)
}

#[cfg(test)]
mod tests {
    use super::{KEYS, keys};

    #[test]
    fn keys_are_spread_over_the_table() {
        for task in 0..100 {
            let found: Vec<u64> = keys(task, 131_072).collect();
            assert_eq!(found.len(), KEYS as usize);
            assert!((0..).zip(found).all(|(sixteenth, key)| key / 8192 == sixteenth));
        }
    }
}
