//! Sums numbers that are kept in memory, again and again: `numbers RECORDS PARTITIONS ROUNDS`.
//!
//! Numbers are a plain type: tasks where a partition is kept read it in place. Prints what a record
//! costs the whole job, in nanoseconds: of the best round that adds them up (`sum`), that changes
//! them before (`map`), and that takes each partition as a slice (`slice`).
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: numbers RECORDS PARTITIONS ROUNDS";

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).map_while(|text| text.parse().ok()).collect();
    let [records, partitions @ 1..=100_000, rounds] = numbers[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(records, partitions as u32, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("numbers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(records: u64, partitions: u32, rounds: u64) -> Result<(), Error> {
    let numbers = Context::new().range(0..records, partitions).map(|n| n as f64).cache();
    let start = Instant::now();
    println!("{} numbers, {:.3} s", numbers.count()?, start.elapsed().as_secs_f64());
    let halves = numbers.map(|n| n / 2.0);
    let slices = numbers.map_partitions(|numbers| {
        let sum: f64 = match numbers.as_slice() {
            Some(numbers) => numbers.iter().sum(),
            None => numbers.sum(),
        };
        [sum]
    });
    best("sum", records, rounds, || numbers.sum())?;
    best("map", records, rounds, || halves.sum())?;
    best("slice", records, rounds, || slices.sum())
}

/// The time of the best round, for each record.
fn best(
    name: &str,
    records: u64,
    rounds: u64,
    sum: impl Fn() -> Result<f64, Error>,
) -> Result<(), Error> {
    let (mut least, mut total) = (f64::INFINITY, 0.0);
    for _ in 0..rounds {
        let start = Instant::now();
        total = sum()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    println!("{name}: {total:e}, ns a record: {:.2}", least * 1e9 / records as f64);
    Ok(())
}
