//! Skew: joins and sorts whose hot keys are divided among several partitions.

use super::{run, run_spilling_or_not, sorted, words};
use crate::prelude::*;
use crate::random::Random;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_spread_join_is_a_join(
        left in words(), right in words(), parts in 1u32..5, reducers in 1u32..5, hot in 0u32..60,
    ) {
        let mut right = right;
        right.extend((0..hot).map(|n| ("a".to_owned(), n)));
        let found = run_spilling_or_not(|context| {
            let here = context.parallelize(left.clone(), parts);
            let there = context.parallelize(right.clone(), parts + 3);
            let spread = here.join_spread_with_partitions(&there, reducers);
            assert_eq!(spread.partitions(), 2 * reducers);
            assert!(spread.partitioner().is_none());
            let placed = there.partition_by(&Partitioner::hash(reducers));
            let again = sorted(here.join_spread(&placed).collect().unwrap());
            let spread = sorted(spread.collect().unwrap());
            assert_eq!(again, spread);
            spread
        });
        let matches = left.iter().flat_map(|(key, here)| {
            let there = right.iter().filter(move |(other, _)| other == key);
            there.map(move |(_, there)| (key.clone(), (*here, *there)))
        });
        prop_assert_eq!(found, sorted(matches.collect()));
    }

    #[test]
    fn sorts_with_a_hot_key(
        pairs in words(),
        parts in 1u32..5,
        reducers in 1u32..8,
        hot in 0u32..200,
        place in 0usize..60,
    ) {
        let mut pairs = pairs;
        let place = place.min(pairs.len());
        pairs.splice(place..place, (0..hot).map(|n| ("b".to_owned(), n)));
        let lines: String = pairs.iter().map(|(key, _)| format!("{key}\n")).collect();
        let found = run_spilling_or_not(|context| {
            super::write_file("/in/keys", lines.as_bytes());
            let text = context.byte_lines_with_partitions("/in/keys", parts).unwrap();
            let text = text.sort_with_partitions(reducers).records().collect().unwrap();
            let data = context.parallelize(pairs.clone(), parts);
            let by_key = data.sort_by_key_with_partitions(reducers).collect().unwrap();
            let by = data.sort_by_with_partitions(reducers, |(key, _)| key.clone());
            assert_eq!(by.partitions(), reducers);
            assert_eq!(by.collect().unwrap(), by_key);
            (by_key, text)
        });
        let mut expected = pairs;
        expected.sort_by(|left, right| left.0.cmp(&right.0));
        prop_assert!(found.1.iter().eq(expected.iter().map(|(key, _)| key.as_bytes())));
        prop_assert_eq!(found.0, expected);
    }

    #[test]
    fn sampling_by_key_draws_for_each_pair(pairs in words(), parts in 1u32..5, seed: u64) {
        let fraction = |key: &String| key.len() as f64 / 3.0;
        run(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            let sampled = data.sample_by_key(fraction, seed).glom().collect().unwrap();
            for (number, part) in (0..).zip(data.glom().collect().unwrap()) {
                let mut random = Random::new(seed, number);
                let drawn = part.into_iter().filter(|(key, _)| random.unit() < fraction(key));
                assert_eq!(sampled[number as usize], drawn.collect::<Vec<_>>());
            }
        });
    }

    #[test]
    fn every_partition_is_handed_over(pairs in words(), parts in 1u32..5) {
        static HANDED: Mutex<BTreeMap<String, Vec<u32>>> = Mutex::new(BTreeMap::new());
        HANDED.lock().unwrap().clear();
        run(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            data.for_each_partition(|pairs| {
                let mut handed = HANDED.lock().unwrap();
                pairs.for_each(|(key, n)| handed.entry(key).or_default().push(n));
            })
            .unwrap();
        });
        let mut expected = BTreeMap::<String, Vec<u32>>::new();
        pairs.into_iter().for_each(|(key, n)| expected.entry(key).or_default().push(n));
        prop_assert_eq!(&*HANDED.lock().unwrap(), &expected);
    }
}

/// How many records the fullest partition has.
fn fullest<T: Record>(dataset: &Dataset<T>) -> u64 {
    dataset.partition_stats().unwrap().iter().map(|stats| stats.records).max().unwrap()
}

#[test]
fn hot_partitions_are_divided() {
    run(|context| {
        // Nine of ten visits are to one page.
        let visits = context.range(0..10_000, 20).map(|n| (if n % 10 > 0 { 7 } else { n }, n));
        let pages = context.range(0..10_000, 3).map(|page| (page, ()));
        let plain = pages.join_with_partitions(&visits, 10);
        let spread = pages.join_spread_with_partitions(&visits, 10);
        assert_eq!((plain.count(), spread.count()), (Ok(10_000), Ok(10_000)));
        assert!(fullest(&plain) >= 9000, "{}", fullest(&plain));
        assert!(fullest(&spread) < 2000, "{}", fullest(&spread));

        let kept_together = visits.sort_by_key_with_partitions(10);
        let divided = visits.sort_by_with_partitions(10, |(page, _)| *page);
        assert_eq!(kept_together.collect(), divided.collect());
        assert!(fullest(&kept_together) >= 9000, "{}", fullest(&kept_together));
        assert!(fullest(&divided) < 2000, "{}", fullest(&divided));
        // What follows by key still finds each key in one partition.
        let counts = kept_together.map_values(|_| 1u64).reduce_by_key(|a, b| a + b);
        assert_eq!(counts.filter(|(page, _)| *page == 7).values().collect(), Ok(vec![9000]));
    });
}

#[test]
fn partitions_are_hot_by_bytes() {
    run(|context| {
        // Each page is visited as often; the visits of one take a thousand times as much.
        let visits = context.range(0..1000, 20).map(|n| {
            let page = n % 50;
            (page, vec![1u8; if page == 7 { 10_000 } else { 10 }])
        });
        let pages = context.range(0..50, 3).map(|page| (page, ()));
        let largest = |joined: Dataset<(u64, ((), Vec<u8>))>| {
            let stats = joined.partition_stats().unwrap();
            stats.iter().map(|stats| stats.bytes).max().unwrap()
        };
        assert!(largest(pages.join_with_partitions(&visits, 10)) >= 200_000);
        let spread = largest(pages.join_spread_with_partitions(&visits, 10));
        assert!(spread < 60_000, "{spread}");
    });
}
