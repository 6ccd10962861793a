//! Operations without a shuffle, against iterators.

use super::{run, sorted, words};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::BufRead;

fn numbers() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(0u32..50, 0..40)
}

proptest! {
    #[test]
    fn pairs_and_their_parts(pairs in words(), parts in 1u32..6) {
        run(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            let (keys, values): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
            assert_eq!(data.keys().collect().unwrap(), keys);
            assert_eq!(data.values().collect().unwrap(), values);
            let twins = |(key, n): &(String, u32)| {
                let key = key.clone();
                (0..*n).map(move |n| (key.clone(), n))
            };
            let expected: Vec<_> = pairs.iter().flat_map(twins).collect();
            assert_eq!(data.flat_map_values(|n| 0..n).collect().unwrap(), expected);
            let glommed = data.glom().collect().unwrap();
            assert_eq!(glommed.len(), parts as usize);
            assert_eq!(glommed.concat(), pairs);
        });
    }

    #[test]
    fn coalescing_keeps_the_order(numbers in numbers(), parts in 1u32..9, fewer in 1u32..9) {
        run(|context| {
            let fewer_parts = context.parallelize(numbers.clone(), parts).coalesce(fewer);
            assert_eq!(fewer_parts.partitions(), parts.min(fewer));
            assert_eq!(fewer_parts.collect().unwrap(), numbers);
        });
    }

    #[test]
    fn zipping(numbers in numbers(), parts in 1u32..6) {
        run(|context| {
            let data = context.parallelize(numbers.clone(), parts);
            let zipped = data.zip(&data.map(|n| n * 2)).collect().unwrap();
            assert_eq!(zipped, numbers.iter().map(|n| (*n, n * 2)).collect::<Vec<_>>());
            let chained = data.zip_partitions(&data.filter(|n| n % 2 == 0), |all, even| {
                [all.count() as u32, even.count() as u32]
            });
            let counts = chained.collect().unwrap();
            let even = numbers.iter().filter(|n| **n % 2 == 0).count();
            assert_eq!(counts.iter().step_by(2).sum::<u32>() as usize, numbers.len());
            assert_eq!(counts.iter().skip(1).step_by(2).sum::<u32>() as usize, even);
        });
    }

    #[test]
    fn numbering(numbers in numbers(), parts in 1u32..6) {
        run(|context| {
            let data = context.parallelize(numbers.clone(), parts).filter(|n| n % 3 > 0);
            let kept: Vec<u32> = numbers.iter().copied().filter(|n| n % 3 > 0).collect();
            let indexed = data.zip_with_index().collect().unwrap();
            assert_eq!(indexed, kept.iter().copied().zip(0u64..).collect::<Vec<_>>());
            let unique = data.zip_with_unique_id().collect().unwrap();
            assert_eq!(unique.iter().map(|(n, _)| *n).collect::<Vec<_>>(), kept);
            let ids: BTreeSet<u64> = unique.iter().map(|(_, id)| *id).collect();
            assert_eq!(ids.len(), kept.len());
        });
    }

    #[test]
    fn cartesian_is_every_pair(
        left in numbers(), right in words(), parts in 1u32..4, columns in 1u32..4,
    ) {
        let expected = left.iter().flat_map(|l| right.iter().map(move |r| (*l, r.clone())));
        let expected = sorted(expected.collect());
        run(|context| {
            let rows = context.parallelize(left, parts);
            let product = rows.cartesian(&context.parallelize(right, columns));
            assert_eq!(product.partitions(), parts * columns);
            assert_eq!(sorted(product.collect().unwrap()), expected);
        });
    }

    #[test]
    fn narrow_operations_over_shuffled_parents(numbers in numbers(), parts in 1u32..5) {
        run(|context| {
            let spread = context.parallelize(numbers.clone(), parts).repartition(parts + 2);
            let product = spread.cartesian(&spread.coalesce(2));
            let count = numbers.len() * numbers.len();
            assert_eq!(product.count(), Ok(count as u64));
            assert_eq!(sorted(spread.coalesce(1).collect().unwrap()), sorted(numbers));
        });
    }

    #[test]
    fn a_filter_of_bytes(numbers in numbers(), parts in 1u32..5) {
        run(|context| {
            let data = context.parallelize(numbers.clone(), parts);
            let even = data.map_bytes(|input, output| {
                for line in input.lines() {
                    let line = line?;
                    if line.ends_with(['0', '2', '4', '6', '8']) {
                        output.write_all(line.as_bytes())?;
                        output.write_all(b"\n")?;
                    }
                }
                Ok(())
            });
            let lines = numbers.iter().filter(|n| **n % 2 == 0);
            let lines: Vec<_> = lines.map(|n| n.to_string().into_bytes()).collect();
            assert_eq!(even.collect().unwrap(), lines);
        });
    }
}

#[test]
fn the_last_line_of_a_filter_needs_no_end() {
    run(|context| {
        let data = context.parallelize(["a"], 1);
        let lines = data.map_bytes(|_, output| output.write_all(b"x\n\ny"));
        assert_eq!(lines.collect().unwrap(), [&b"x"[..], b"", b"y"]);
        let failing = data.map_bytes(|_, _| Err(std::io::Error::other("no such thing")));
        let error = failing.count().unwrap_err().to_string();
        assert!(error.contains("map_bytes of partition 0: no such thing"), "{error}");
    });
}

#[test]
fn datasets_that_do_not_match_are_not_zipped() {
    run(|context| {
        let numbers = context.range(0..10, 2);
        let error = numbers.zip(&numbers.filter(|n| *n > 0)).collect().unwrap_err().to_string();
        assert!(error.contains("zip: partition 0 of one dataset has more records"), "{error}");
        let other = context.range(0..10, 3);
        let zip = std::panic::AssertUnwindSafe(|| drop(numbers.zip(&other)));
        let panic = std::panic::catch_unwind(zip).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("zip: 2 partitions and 3"), "{text}");
    });
}
