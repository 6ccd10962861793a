//! Samples and estimates: over many fixed seeds, the errors are what the documentation says.

use super::{run, sorted};
use proptest::prelude::*;
use std::collections::BTreeSet;

const SEEDS: u64 = 40;

proptest! {
    #[test]
    fn a_sample_is_repeatable_and_has_nothing_new(
        mut numbers in proptest::collection::vec(0u32..99, 0..60),
        parts in 1u32..5, seed: u64, count in 0usize..80,
    ) {
        run(|context| {
            let data = context.parallelize(numbers.clone(), parts);
            let sample = data.sample(0.5, seed);
            let drawn = sample.collect().unwrap();
            assert_eq!(sample.collect().unwrap(), drawn);
            let mut all = numbers.iter();
            assert!(drawn.iter().all(|n| all.any(|other| other == n)), "in the order of the data");
            assert_eq!(data.sample(1.0, seed).collect().unwrap(), numbers);
            assert_eq!(data.sample(0.0, seed).count(), Ok(0));
            assert_eq!(data.sample_with_replacement(0.0, seed).count(), Ok(0));

            let taken = data.take_sample(count, seed).unwrap();
            assert_eq!(taken.len(), count.min(numbers.len()));
            assert_eq!(data.take_sample(count, seed).unwrap(), taken);
            if count >= numbers.len() {
                assert_eq!(sorted(taken), sorted(numbers.clone()));
            }
            let again = data.take_sample_with_replacement(count, seed).unwrap();
            assert_eq!(again.len(), if numbers.is_empty() { 0 } else { count });
            assert!(again.iter().all(|n| numbers.contains(n)));

            let parts = data.random_split(&[1.0, 0.0, 2.5], seed);
            let parts: Vec<_> = parts.iter().map(|part| part.collect().unwrap()).collect();
            assert!(parts[1].is_empty());
            numbers.sort_unstable();
            assert_eq!(sorted(parts.concat()), numbers);
        });
    }
}

#[test]
fn samples_have_the_size_that_they_should() {
    const COUNT: u64 = 4000;
    run(|context| {
        let data = context.range(0..COUNT, 7);
        for seed in 0..SEEDS {
            for fraction in [0.05, 0.5] {
                let size = data.sample(fraction, seed).count().unwrap() as f64;
                let (mean, deviation) =
                    (COUNT as f64 * fraction, (COUNT as f64 * fraction * (1.0 - fraction)).sqrt());
                assert!((size - mean).abs() < 4.5 * deviation, "{size} of {mean}, seed {seed}");
                let size = data.sample_with_replacement(fraction, seed).count().unwrap() as f64;
                assert!((size - mean).abs() < 4.5 * mean.sqrt(), "{size} of {mean}, seed {seed}");
            }
            let by_key = data.map(|n| (n % 2, n));
            let sampled = by_key.sample_by_key(|key| [0.1, 0.6][*key as usize], seed);
            let counts = sampled.count_by_key().unwrap();
            assert!(counts[&0].abs_diff(200) < 61 && counts[&1].abs_diff(1200) < 99, "{counts:?}");
            let split = data.random_split(&[3.0, 1.0], seed)[0].count().unwrap();
            assert!(split.abs_diff(3000) < 124, "{split}, seed {seed}");
        }
    });
}

/// Each of 50 records is in a sample of 10 with probability a fifth, whatever its partition.
#[test]
fn every_record_is_as_likely_in_a_sample_of_a_size() {
    run(|context| {
        // Partitions of very different sizes.
        let data = context.range(0..50, 1).union(&context.range(50..52, 2));
        let (mut without, mut with) = ([0u32; 52], [0u32; 52]);
        for seed in 0..400 {
            let taken = data.take_sample(13, seed).unwrap();
            assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 13);
            taken.iter().for_each(|n| without[*n as usize] += 1);
            let taken = data.take_sample_with_replacement(13, seed).unwrap();
            taken.iter().for_each(|n| with[*n as usize] += 1);
        }
        // 100 on average; the deviation is below 10.
        for counts in [without, with] {
            assert!(counts.iter().all(|count| (55..145).contains(count)), "{counts:?}");
        }
    });
}

#[test]
fn distinct_records_are_estimated_within_the_error() {
    run(|context| {
        for (error, distinct) in [(0.2, 300), (0.05, 3000), (0.05, 20_000), (0.01, 9000)] {
            let mut errors = Vec::new();
            for seed in 0..SEEDS {
                // Every record twice, in other partitions.
                let numbers = context.range(0..2 * distinct, 5);
                let records = numbers.map(move |n| (n % distinct, seed));
                let found = records.count_approx_distinct(error).unwrap() as f64;
                errors.push((found - distinct as f64).abs() / distinct as f64);
            }
            let within = |times: f64| errors.iter().filter(|e| **e <= times * error).count();
            let (once, twice, thrice) = (within(1.0), within(2.0), within(3.5));
            // Of 40: two thirds, 95 % and all, less what chance allows.
            assert!(once >= 22 && twice >= 35 && thrice == 40, "{error}, {distinct}: {errors:?}");
        }
        let few = context.range(0..60, 7).map(|n| n % 6);
        assert_eq!(few.count_approx_distinct(0.05), Ok(6));
        assert_eq!(few.filter(|_| false).count_approx_distinct(0.05), Ok(0));
    });
}
