//! Sums sales by category and month: `sales SALES PRODUCTS OUTPUT`, or `sales --make ROWS DIR` for
//! something to sum.
//!
//! SALES are CSV files (also compressed) or, if their names end so, Parquet files, with columns
//! `product`, `day` and `units`; a pattern such as `'sales/**/*.csv.gz'` names many, and columns
//! may be in folders called `day=2024-02-29`. PRODUCTS is a CSV file that fits memory, with
//! `product`, `category` and `cents`. OUTPUT becomes Parquet files; prints the same, sorted.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use offshoot::{CsvOptions, ParquetOptions, ParquetRead};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

const USAGE: &str = "usage: sales SALES PRODUCTS OUTPUT, or sales --make ROWS DIR (CSV or Parquet \
     files with product, day and units; a CSV file with product, category and cents; a directory \
     to make; how many sales to make, in a directory that is there)";

/// Products that `--make` makes.
const PRODUCTS: u64 = 100;

/// A row of SALES.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sale {
    product: u32,
    /// `2024-02-29`.
    day: String,
    units: u32,
}

/// A row of PRODUCTS.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Product {
    product: u32,
    category: String,
    cents: u64,
}

/// A row of the result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Total {
    category: String,
    month: String,
    units: u64,
    cents: u64,
}

offshoot::record!(Total);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["--make", rows, directory] => match rows.parse() {
            Ok(rows) => make(rows, directory),
            Err(_) => return usage(),
        },
        [sales, products, output] => run(sales, products, output),
        _ => return usage(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sales: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn run(sales: &str, products: &str, output: &str) -> Result<(), Error> {
    let context = Context::new();
    let sales = match sales.ends_with(".parquet") {
        true => context.parquet_file::<Sale>(sales, ParquetRead::new())?,
        false => context.csv_file::<Sale>(sales, CsvOptions::new())?,
    };
    let products = context.csv_file::<Product>(products, CsvOptions::new())?;
    let products = products.map(|row| (row.product, (row.category, row.cents)));
    let totals = sales
        .map(|sale| (sale.product, (month(&sale.day), u64::from(sale.units))))
        // The products go into the memory of `main`, where every task finds them.
        .broadcast_join(&products)?
        .map(|(_, ((month, units), (category, cents)))| ((category, month), (units, units * cents)))
        .reduce_by_key(|left, right| (left.0 + right.0, left.1 + right.1))
        .map(|((category, month), (units, cents))| Total { category, month, units, cents });
    totals.save_as_parquet(output, ParquetOptions::new())?;
    // What the map tasks made is still there: only the last step is computed again.
    let mut totals = totals.collect()?;
    totals.sort();
    for Total { category, month, units, cents } in totals {
        println!("{category}\t{month}\t{units}\t{cents}");
    }
    Ok(())
}

/// `2024-02` of `2024-02-29`.
fn month(day: &str) -> String {
    day.get(..7).unwrap_or(day).to_owned()
}

/// Writes the same sales as CSV and as Parquet, and the products.
fn make(rows: u64, directory: &str) -> Result<(), Error> {
    let context = Context::new();
    let sales = context.range(0..rows, 4).map(sale);
    sales.save_as_csv(&format!("{directory}/csv"), CsvOptions::new())?;
    let schema = "message sale { required int32 product (INTEGER(32, false)); \
         required int32 day (DATE); required int32 units (INTEGER(32, false)); }";
    let options = ParquetOptions::new().schema(schema);
    sales.save_as_parquet(&format!("{directory}/parquet"), options)?;
    let products = context.range(0..PRODUCTS, 1).map(|number| Product {
        product: number as u32,
        category: format!("category {}", number % 7),
        cents: 100 + number,
    });
    products.save_as_csv(&format!("{directory}/products"), CsvOptions::new())
}

/// Every product on every day, sooner or later.
fn sale(number: u64) -> Sale {
    Sale {
        product: (number * 37 % PRODUCTS) as u32,
        day: format!("2024-{:02}-{:02}", number / 28 % 12 + 1, number % 28 + 1),
        units: (number % 9 + 1) as u32,
    }
}
