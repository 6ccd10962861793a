//! Actions, against iterators.

use super::{run, sorted, words};
use crate::fake_host;
use crate::prelude::*;
use crate::{Histogram, Stats};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn numbers() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(-50i64..50, 0..60)
}

fn near(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-9 * (1.0 + left.abs().max(right.abs()))
}

proptest! {
    #[test]
    fn folding(numbers in numbers(), parts in 1u32..40, depth in 1u32..5) {
        run(|context| {
            let data = context.parallelize(numbers.clone(), parts);
            let texts = data.map(|n| n.to_string());
            let text: String = numbers.iter().map(i64::to_string).collect();
            assert_eq!(data.fold(0, |a, b| a + b), Ok(numbers.iter().sum()));
            assert_eq!(texts.fold(String::new(), |a, b| a + &b), Ok(text.clone()));
            // Texts tell whether anything changes the order.
            let reduced = texts.tree_reduce(|a, b| a + &b).unwrap();
            assert_eq!(reduced, (!numbers.is_empty()).then(|| text.clone()));
            let add = |text: String, n: i64| text + &n.to_string();
            let join = |a: String, b: String| a + &b;
            assert_eq!(data.aggregate(String::new(), add, join), Ok(text.clone()));
            assert_eq!(data.tree_aggregate(String::new(), add, join, depth), Ok(text));
        });
    }

    #[test]
    fn the_least_and_the_greatest(numbers in numbers(), parts in 1u32..6, count in 0usize..70) {
        run(|context| {
            let data = context.parallelize(numbers.clone(), parts);
            let ordered = sorted(numbers.clone());
            assert_eq!(data.min().unwrap(), ordered.first().copied());
            assert_eq!(data.max().unwrap(), ordered.last().copied());
            let least: Vec<i64> = ordered.iter().copied().take(count).collect();
            assert_eq!(data.take_ordered(count).unwrap(), least);
            let greatest: Vec<i64> = ordered.iter().rev().copied().take(count).collect();
            assert_eq!(data.top(count).unwrap(), greatest);
        });
    }

    #[test]
    fn statistics(numbers in numbers(), parts in 1u32..6, intervals in 1usize..9) {
        run(|context| {
            let data = context.parallelize(numbers.clone(), parts);
            assert_eq!(data.sum(), Ok(numbers.iter().sum()));
            let count = numbers.len() as f64;
            let mean = numbers.iter().sum::<i64>() as f64 / count;
            let squares: f64 = numbers.iter().map(|n| (*n as f64 - mean).powi(2)).sum();
            let stats = data.stats().unwrap();
            assert_eq!(stats.count, numbers.len() as u64);
            let histogram = data.histogram(intervals).unwrap();
            if numbers.is_empty() {
                assert_eq!((stats, data.mean(), histogram), (Stats::default(), Ok(None), None));
                return;
            }
            assert!(near(stats.mean, mean) && near(data.mean().unwrap().unwrap(), mean));
            assert!(near(stats.squares, squares) && near(stats.variance(), squares / count));
            assert!(near(stats.sum(), mean * count));
            let extremes = (numbers.iter().min(), numbers.iter().max());
            let found = (stats.min as i64, stats.max as i64);
            assert_eq!((Some(&found.0), Some(&found.1)), extremes);
            let Histogram { bounds, counts } = histogram.unwrap();
            assert_eq!(counts.iter().sum::<u64>(), numbers.len() as u64);
            for (index, count) in counts.iter().enumerate() {
                let last = index + 1 == counts.len();
                let inside = numbers.iter().filter(|n| {
                    let n = **n as f64;
                    n >= bounds[index] && (n < bounds[index + 1] || last && n == bounds[index + 1])
                });
                assert_eq!(inside.count() as u64, *count, "{bounds:?}");
            }
        });
    }

    #[test]
    fn maps_and_counts(pairs in words(), parts in 1u32..6, key in "[ab]{0,3}") {
        run(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            let mut by_key = BTreeMap::<String, u64>::new();
            let mut by_value = BTreeMap::<(String, u32), u64>::new();
            for pair in &pairs {
                *by_key.entry(pair.0.clone()).or_default() += 1;
                *by_value.entry(pair.clone()).or_default() += 1;
            }
            assert_eq!(data.count_by_key().unwrap(), by_key);
            assert_eq!(data.count_by_value().unwrap(), by_value);
            assert_eq!(data.collect_as_map().unwrap(), pairs.iter().cloned().collect());
            let values = pairs.iter().filter(|pair| pair.0 == key).map(|pair| pair.1);
            let values: Vec<u32> = values.collect();
            assert_eq!(data.lookup(&key).unwrap(), values);
            let partitioned = data.partition_by(&Partitioner::hash(5));
            assert_eq!(partitioned.lookup(&key).unwrap(), values);
            let last = fake_host::with(|host| host.jobs_run.last().cloned()).unwrap();
            assert_eq!((last.0.as_str(), last.1), ("lookup", 1), "one partition is enough");
            let stats = data.partition_stats().unwrap();
            assert_eq!(stats.len(), parts as usize);
            assert_eq!(stats.iter().map(|part| part.records).sum::<u64>(), pairs.len() as u64);
            let bytes = pairs.iter().map(|(key, _)| key.len() as u64 + 2).sum::<u64>();
            assert_eq!(stats.iter().map(|part| part.bytes).sum::<u64>(), bytes);
        });
    }

    #[test]
    fn object_files(pairs in words(), parts in 1u32..6) {
        run(|context| {
            let data = context.parallelize(pairs.clone(), parts);
            data.save_as_object_file("/objects").unwrap();
            fake_host::with(|host| {
                for (index, part) in host.outputs["/objects"].iter().enumerate() {
                    host.files.insert(format!("/objects/part-{index:05}"), part.clone());
                }
            });
            let read = context.object_file::<(String, u32)>("/objects/").unwrap();
            assert_eq!(read.partitions(), parts);
            assert_eq!(read.collect().unwrap(), pairs);
        });
    }

    #[test]
    fn reading_in_main(numbers in numbers(), parts in 1u32..6) {
        run(|context| {
            let data = context.parallelize(numbers.clone(), parts);
            let read: Result<Vec<i64>, Error> = data.to_local_iterator().collect();
            assert_eq!(read.unwrap(), numbers);
            let jobs = fake_host::with(|host| host.jobs_run.clone());
            assert_eq!(jobs.len(), parts as usize);
            assert!(jobs.iter().all(|(_, partitions, _)| *partitions == 1));
            let none = data.filter(|n| *n > 40);
            assert_eq!(none.is_empty(), Ok(!numbers.iter().any(|n| *n > 40)));
        });
    }
}

#[test]
fn few_of_many_partitions() {
    run(|context| {
        let numbers = context.range(0..100_000, 10_000);
        assert_eq!(numbers.take(10).unwrap(), (0..10).collect::<Vec<_>>());
        assert_eq!(numbers.is_empty(), Ok(false));
        let mut first = numbers.to_local_iterator();
        assert_eq!(first.next(), Some(Ok(0)));
        let run: usize = fake_host::with(|host| host.jobs_run.iter().map(|job| job.1).sum());
        assert_eq!(run, 3);
    });
}

#[test]
fn an_iterator_ends_after_an_error() {
    run(|context| {
        let numbers = context.range(0..9, 3).map(|n| if n == 4 { panic!("four") } else { n });
        let mut read = numbers.to_local_iterator();
        assert_eq!(read.by_ref().map_while(Result::ok).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(read.next(), None);
    });
}

#[test]
fn a_histogram_of_given_bounds() {
    run(|context| {
        let data = context.parallelize([f64::NAN, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 3.5], 3);
        let histogram = data.histogram_with_bounds(&[0.0, 1.0, 3.0]).unwrap();
        assert_eq!(histogram.counts, [2, 3]);
        assert_eq!(data.filter(|n| *n == 2.0).histogram(5).unwrap().unwrap().counts, [1]);
    });
}

#[test]
fn a_file_of_something_else_is_refused() {
    run(|context| {
        super::write_file("/objects/part-00000", b"some text");
        let read = context.object_file::<u32>("/objects/").unwrap();
        let error = read.collect().unwrap_err().to_string();
        assert!(error.contains("/objects/part-00000 was not written by"), "{error}");
    });
}

#[test]
fn a_tree_leaves_few_results_to_main() {
    run(|context| {
        let numbers = context.range(0..1000, 100);
        assert_eq!(numbers.tree_reduce(|a, b| a + b), Ok(Some(499_500)));
        let results = fake_host::with(|host| host.jobs_run[0].1);
        assert_eq!(results, 10, "100 partial results, ten by ten");
    });
}

#[test]
fn a_broadcast_value_can_be_taken_back() {
    run(|context| {
        let table = context.broadcast(vec![10u64, 20, 30]);
        let in_tasks = table.clone();
        let numbers = context.range(0..3, 2).map(move |n| in_tasks.value()[n as usize]);
        assert_eq!(numbers.sum(), Ok(60));
        table.unpersist();
        let error = numbers.sum().unwrap_err().to_string();
        assert!(error.contains("the broadcast value was unpersisted"), "{error}");
    });
}

#[test]
fn each_partition_is_handed_over_once_and_whole() {
    run(|context| {
        let seen = context.accumulator_with("seen", Vec::new(), |all, more| all.extend(more));
        let in_tasks = seen.clone();
        let numbers = context.range(0..10, 4).filter(|n| *n < 8);
        let each = move |numbers: Records<u64>| in_tasks.add(vec![numbers.collect::<Vec<_>>()]);
        numbers.for_each_partition(each).unwrap();
        let expected = vec![vec![0, 1, 2], vec![3, 4, 5], vec![6, 7], vec![]];
        assert_eq!(seen.value(), Ok(expected));
        let failing = |numbers: Records<u64>| assert_ne!(numbers.count(), 0, "an empty partition");
        let error = numbers.for_each_partition(failing).unwrap_err().to_string();
        assert!(error.contains("an empty partition"), "{error}");
    });
}
