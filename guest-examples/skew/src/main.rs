//! A key that has half of all records, and salt against it: `skew ROWS PARTITIONS SALTS`.
//!
//! A join by key sends all records of a key to one task. Salted, each record of the large side gets
//! one of so many numbers beside its key, and each of the small side is there with all of them: the
//! hot key is spread over as many tasks. Prints how much more the fullest partition has than the
//! mean, plain and salted, and the result, which is the same.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use std::process::ExitCode;

const USAGE: &str = "usage: skew ROWS PARTITIONS SALTS (how many records the large side has, into \
     how many partitions they are joined, over how many a key is spread; all at least 1)";

/// How many keys there are.
const KEYS: u64 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, rows, partitions, salts] = arguments.as_slice() else {
        return usage();
    };
    let (Ok(rows @ 1..), Ok(partitions @ 1..), Ok(salts @ 1..)) =
        (rows.parse(), partitions.parse(), salts.parse())
    else {
        return usage();
    };
    match run(rows, partitions, salts) {
        Ok([plain, salted]) => {
            println!("plain\tfullest {:.2} times the mean\tsum {}", plain.0, plain.1);
            println!("salted\tfullest {:.2} times the mean\tsum {}", salted.0, salted.1);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("skew: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// Imbalance and sum of the join, plain and salted.
fn run(rows: u64, partitions: u32, salts: u32) -> Result<[(f64, u64); 2], Error> {
    let context = Context::new();
    let visits = context.range(0..rows, partitions).map(|visit| (page_of(visit), visit % 100));
    let prices = context.range(0..KEYS, partitions).map(|page| (page, page % 7 + 1));

    let by_page = Partitioner::hash(partitions);
    let placed = visits.partition_by(&by_page);
    let paid = prices.join_with_partitioner(&placed, &by_page).values();
    let plain = (imbalance(&placed.partition_stats()?), total(&paid)?);

    // Another salt for each visit of a partition, and every salt for each price.
    let visits = visits
        .zip_with_unique_id()
        .map(move |((page, value), id)| ((page, (id % u64::from(salts)) as u32), value));
    let prices =
        prices.flat_map(move |(page, price)| (0..salts).map(move |salt| ((page, salt), price)));
    let by_page_and_salt = Partitioner::hash(partitions);
    let placed = visits.partition_by(&by_page_and_salt);
    let paid = prices.join_with_partitioner(&placed, &by_page_and_salt).values();
    Ok([plain, (imbalance(&placed.partition_stats()?), total(&paid)?)])
}

fn total(paid: &Dataset<(u64, u64)>) -> Result<u64, Error> {
    paid.map(|(price, value)| price * value).sum()
}

/// Half of all visits are to one page.
fn page_of(visit: u64) -> u64 {
    if visit.is_multiple_of(2) { 7 } else { visit / 2 % KEYS }
}

/// How many times the mean the fullest partition has.
fn imbalance(partitions: &[offshoot::PartitionStats]) -> f64 {
    let records = || partitions.iter().map(|partition| partition.records);
    let mean = records().sum::<u64>() as f64 / partitions.len().max(1) as f64;
    records().max().unwrap_or(0) as f64 / mean
}

#[cfg(test)]
mod tests {
    use super::{imbalance, page_of};
    use offshoot::PartitionStats;

    #[test]
    fn half_of_the_visits_are_to_one_page() {
        assert_eq!((0..2000).filter(|visit| page_of(*visit) == 7).count(), 1001);
    }

    #[test]
    fn the_fullest_partition_against_the_mean() {
        let stats = |(partition, records)| PartitionStats { partition, records, bytes: 0 };
        let partitions: Vec<_> = (0..).zip([10, 0, 50, 20]).map(stats).collect();
        assert_eq!(imbalance(&partitions), 2.5);
    }
}
