//! Generates records, sorts them and looks that they are sorted: `terasort BYTES [PARTITIONS]`.
//!
//! A record has 100 bytes, of which the first 10 are its key. Nothing touches a file: the records
//! are made by the tasks that partition them. A partition that does not fit a task's memory is
//! sorted in runs on disk. Prints how many records there were, a checksum of them, which is the
//! same before and after, and how many bytes went to runs; exit code 1 if they are not in order.
#![forbid(unsafe_code)]

use example::{mix, positive};
use offshoot::prelude::*;
use std::process::ExitCode;

const USAGE: &str = "terasort BYTES [PARTITIONS] (how much to sort, 100 bytes a record; in \
     how many partitions, at least 1, as many as there are cores if none are given)";

const KEY_BYTES: usize = 10;
const VALUE_BYTES: usize = 90;
const RECORD_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

type Key = [u8; KEY_BYTES];
type Row = (Key, [u8; VALUE_BYTES]);

/// What there is in a partition, and whether it is in order.
type Summary = (u64, u64, bool, Option<(Key, Key)>);

fn main() -> ExitCode {
    example::main(USAGE, parse, |(bytes, partitions)| run(bytes, partitions))
}

/// Bytes and partitions.
fn parse(arguments: &[String]) -> Option<(u64, Option<u32>)> {
    match arguments {
        [_, bytes] => Some((bytes.parse().ok()?, None)),
        [_, bytes, partitions] => Some((bytes.parse().ok()?, Some(positive(partitions)?))),
        _ => None,
    }
}

/// Sorts, looks at the result, and says what there was.
fn run(bytes: u64, partitions: Option<u32>) -> Result<(), Box<dyn std::error::Error>> {
    let context = Context::new();
    let partitions = partitions.unwrap_or(context.parallelism());
    let spilled = context.spilled_bytes();
    let rows = context.range(0..bytes / RECORD_BYTES, partitions).map(row);
    let sorted = rows.sort_by_key_with_partitions(partitions);
    let after = sorted.map_partitions(|rows| [summarize(rows)]).collect()?;
    let before = rows.map_partitions(|rows| [summarize(rows)]).collect()?;
    let (records, checksum) = validate(&before, &after)?;
    println!("{records} records in order\tchecksum {checksum:016x}");
    println!("{} bytes spilled", spilled.value()?);
    Ok(())
}

/// Records and checksum, or what is wrong with the result.
fn validate(before: &[Summary], after: &[Summary]) -> Result<(u64, u64), String> {
    let total = |parts: &[Summary]| {
        let add = |(records, sum): (u64, u64), part: &Summary| {
            (records + part.0, sum.wrapping_add(part.1))
        };
        parts.iter().fold((0, 0), add)
    };
    if total(before) != total(after) {
        return Err(format!("before {:x?}, after {:x?}", total(before), total(after)));
    }
    if let Some(part) = after.iter().position(|part| !part.2) {
        return Err(format!("partition {part} is out of order"));
    }
    let ends: Vec<&(Key, Key)> = after.iter().filter_map(|part| part.3.as_ref()).collect();
    match ends.windows(2).position(|pair| pair[0].1 > pair[1].0) {
        Some(place) => Err(format!("full partition {place} ends behind the begin of the next")),
        None => Ok(total(after)),
    }
}

fn summarize(rows: impl Iterator<Item = Row>) -> Summary {
    let (mut records, mut sum, mut in_order) = (0, 0u64, true);
    let mut ends: Option<(Key, Key)> = None;
    rows.for_each(|(key, value)| {
        let hash = offshoot::hash_bytes(&key) ^ offshoot::hash_bytes(&value).rotate_left(1);
        (records, sum) = (records + 1, sum.wrapping_add(hash));
        match &mut ends {
            Some((_, last)) => {
                in_order &= *last <= key;
                *last = key;
            }
            None => ends = Some((key, key)),
        }
    });
    (records, sum, in_order, ends)
}

/// A record with its number in its value.
fn row(number: u64) -> Row {
    let (mut key, mut value) = ([0; KEY_BYTES], [b'.'; VALUE_BYTES]);
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&(number as u16).to_be_bytes());
    value[..8].copy_from_slice(&number.to_be_bytes());
    (key, value)
}

#[cfg(test)]
mod tests {
    use super::{Row, parse, row, summarize, validate};

    #[test]
    fn arguments() {
        let parse = |text: &str| parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("terasort 1000"), Some((1000, None)));
        assert_eq!(parse("terasort 1000 7"), Some((1000, Some(7))));
        for wrong in ["terasort", "terasort x", "terasort 1000 0", "terasort 1 2 3"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_found() {
        let rows: Vec<Row> = (0..100).map(row).collect();
        let before = [summarize(rows.iter().copied())];
        assert!(!before[0].2, "made in no order");
        let mut sorted = rows.clone();
        sorted.sort();
        let part = |rows: &[Row]| summarize(rows.iter().copied());
        let empty = part(&[]);
        let fine = validate(&before, &[part(&sorted[..40]), empty, part(&sorted[40..])]);
        assert!(fine.is_ok_and(|(records, _)| records == 100));
        let swapped = validate(&before, &[part(&sorted[40..]), part(&sorted[..40])]);
        assert!(swapped.is_err_and(|fault| fault.contains("ends behind")));
        assert!(validate(&before, &[part(&rows)]).is_err_and(|fault| fault.contains("order")));
        assert!(validate(&before, &[part(&sorted[1..])]).is_err());
    }
}
