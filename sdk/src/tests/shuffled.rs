//! Operations that move records, against iterators, with and without spilling.

use super::{run, run_spilling_or_not, sorted, words};
use crate::prelude::*;
use core::cmp::Reverse;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn numbers() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(0u32..30, 0..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn sets(left in numbers(), right in numbers(), parts in 1u32..5, reducers in 1u32..5) {
        let (here, there): (BTreeSet<u32>, BTreeSet<u32>) =
            (left.iter().copied().collect(), right.iter().copied().collect());
        let (distinct, both, rest) = run_spilling_or_not(|context| {
            let data = context.parallelize(left.clone(), parts);
            let other = context.parallelize(right.clone(), 2);
            let distinct = data.distinct_with_partitions(reducers);
            let both = data.intersection_with_partitions(&other, reducers);
            let rest = data.subtract_with_partitions(&other, reducers);
            [distinct, both, rest].map(|set| sorted(set.collect().unwrap())).into()
        });
        prop_assert_eq!(distinct, here.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(both, here.intersection(&there).copied().collect::<Vec<_>>());
        let kept = left.into_iter().filter(|n| !there.contains(n)).collect();
        prop_assert_eq!(rest, sorted(kept));
    }

    #[test]
    fn repartitioning_is_even(numbers in numbers(), parts in 1u32..5, reducers in 1u32..9) {
        run(|context| {
            let spread = context.parallelize(numbers.clone(), parts).repartition(reducers);
            assert_eq!(spread.partitions(), reducers);
            let sizes = spread.map_partitions(|part| [part.count() as u32]).collect().unwrap();
            assert_eq!(sorted(spread.collect().unwrap()), sorted(numbers.clone()));
            // Each map task is off by one at most.
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= parts, "{sizes:?}");
        });
    }

    #[test]
    fn sorting_by_anything(pairs in words(), parts in 1u32..5, reducers in 1u32..5) {
        let found = run_spilling_or_not(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            let up = data.sort_by_with_partitions(reducers, |pair| pair.1);
            let down = data.sort_by_with_partitions(reducers, |pair| Reverse(pair.0.clone()));
            (up.collect().unwrap(), down.collect().unwrap())
        });
        let (mut up, mut down) = (pairs.clone(), pairs);
        up.sort_by_key(|pair| pair.1);
        down.sort_by(|left, right| right.0.cmp(&left.0));
        prop_assert_eq!(found, (up, down));
    }

    #[test]
    fn sorting_by_key(pairs in words(), parts in 1u32..5, reducers in 1u32..5) {
        let found = run_spilling_or_not(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            data.sort_by_key_with_partitions(reducers).collect().unwrap()
        });
        let mut expected = pairs;
        expected.sort_by(|left, right| left.0.cmp(&right.0));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn sorting_within_partitions(pairs in words(), parts in 1u32..5, reducers in 1u32..5) {
        let by_length = Partitioner::new(reducers, move |key: &String| key.len() as u32 % reducers);
        let found = run_spilling_or_not(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            let moved = data.repartition_and_sort_within_partitions(&by_length);
            let again = moved.repartition_and_sort_within_partitions(&by_length);
            let glommed = moved.glom().collect().unwrap();
            assert_eq!(again.glom().collect().unwrap(), glommed);
            glommed
        });
        for (partition, found) in (0..).zip(found) {
            let there = pairs.iter().filter(|pair| pair.0.len() as u32 % reducers == partition);
            let mut expected: Vec<_> = there.cloned().collect();
            expected.sort_by(|left, right| left.0.cmp(&right.0));
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn grouping_by_anything(pairs in words(), parts in 1u32..5, reducers in 1u32..5) {
        let mut expected = BTreeMap::<u32, Vec<(String, u32)>>::new();
        pairs.iter().for_each(|pair| expected.entry(pair.1).or_default().push(pair.clone()));
        let found = run_spilling_or_not(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            let groups = data.group_by_with_partitions(reducers, |pair| pair.1);
            sorted(groups.collect().unwrap())
        });
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn sorting_lines(text in "([ab]{0,12}\n){0,40}[ab]{0,3}", reducers in 1u32..5) {
        let found = run_spilling_or_not(|context| {
            super::write_file("/in/text", text.as_bytes());
            let lines = context.byte_lines_with_partitions("/in/", 3).unwrap();
            let sorted = lines.sort_with_partitions(reducers);
            (sorted.count().unwrap(), sorted.records().collect().unwrap())
        });
        let mut expected: Vec<_> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        expected.sort();
        prop_assert_eq!(found, (expected.len() as u64, expected));
    }
}

#[test]
fn a_partitioner_out_of_range_fails_the_task() {
    run(|context| {
        let pairs = context.range(0..5, 1).map(|n| (n, n));
        let moved = pairs.partition_by(&Partitioner::new(3, |key| *key as u32));
        let error = moved.collect().unwrap_err().to_string();
        assert!(error.contains("answered partition 3; there are 3, from 0"), "{error}");
    });
}
