//! Joins two datasets, adds up by key and filters: `join ROWS PARTITIONS`.
//!
//! The join shuffles both sides into the same partitions. What comes out is partitioned by key, so
//! that the sums need no third shuffle, and the filter is a part of the same pass.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use std::process::ExitCode;

const USAGE: &str = "usage: join ROWS PARTITIONS (how many orders there are, and into how many \
     partitions they are joined; both at least 1)";

/// Orders of a customer, on average.
const ORDERS_EACH: u64 = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, rows, partitions] = arguments.as_slice() else {
        return usage();
    };
    let (Ok(rows @ 1..), Ok(partitions @ 1..)) = (rows.parse(), partitions.parse()) else {
        return usage();
    };
    match run(rows, partitions) {
        Ok((customers, total)) => {
            println!("{customers} customers\ttotal {total}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("join: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// How many customers pay an even sum, and how much they pay together.
fn run(rows: u64, partitions: u32) -> Result<(u64, u64), Error> {
    let context = Context::new();
    let discounts = context
        .range(0..customers(rows), partitions)
        .filter(|customer| has_discount(*customer))
        .map(|customer| (customer, discount(customer)));
    let orders = context
        .range(0..rows, partitions)
        .map(move |order| (customer_of(order, rows), price(order)));

    // The smaller side first: a task holds it, and the orders pass by.
    let paid = discounts
        .join_with_partitions(&orders, partitions)
        .map_values(|(discount, price)| price - discount)
        .reduce_by_key(|left, right| left + right)
        .filter(|(_, sum)| sum % 2 == 0);
    paid.values().aggregate(
        (0, 0),
        |(customers, total), sum| (customers + 1, total + sum),
        |left, right| (left.0 + right.0, left.1 + right.1),
    )
}

fn customers(rows: u64) -> u64 {
    rows.div_ceil(ORDERS_EACH)
}

/// Spread over all customers, unlike the numbers of the orders.
fn customer_of(order: u64, rows: u64) -> u64 {
    (order * 7919) % customers(rows)
}

fn price(order: u64) -> u64 {
    100 + order % 97
}

fn has_discount(customer: u64) -> bool {
    !customer.is_multiple_of(3)
}

fn discount(customer: u64) -> u64 {
    customer % 50
}

#[cfg(test)]
mod tests {
    use super::{customer_of, customers, discount, has_discount, price};
    use std::collections::BTreeMap;

    /// What the job prints, by a loop.
    fn expected(rows: u64) -> (u64, u64) {
        let mut sums = BTreeMap::<u64, u64>::new();
        for order in 0..rows {
            let customer = customer_of(order, rows);
            if has_discount(customer) {
                *sums.entry(customer).or_default() += price(order) - discount(customer);
            }
        }
        sums.values().filter(|sum| *sum % 2 == 0).fold((0, 0), |(n, all), sum| (n + 1, all + sum))
    }

    #[test]
    fn the_result_that_tests_of_the_cluster_expect() {
        assert!((0..1000).all(|order| customer_of(order, 1000) < customers(1000)));
        assert_eq!(expected(1000), (118, 57696));
        assert_eq!(expected(100_000), (7726, 3816648));
    }
}
