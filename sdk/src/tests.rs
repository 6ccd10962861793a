//! Every operation and action through the ABI, against a host in the same process.
#![allow(clippy::unwrap_used)]

use crate::fake_host;
use crate::prelude::*;
use core::cell::Cell;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::rc::Rc;

mod accumulators;
mod actions;
mod damaged;
mod foreign;
mod formats;
mod keeping;
mod keyed;
mod narrow;
mod sampling;
mod shuffled;
mod spilling;
mod spread;

/// Runs `job` against a new host and looks that nothing is left behind.
fn run<R>(job: impl FnOnce(&Context) -> R) -> R {
    run_within(64 << 20, job)
}

/// [`run`] with tasks that hold no more than so many bytes of records.
fn run_within<R>(spill_bytes: usize, job: impl FnOnce(&Context) -> R) -> R {
    fake_host::with(|host| *host = fake_host::FakeHost::default());
    let context = Context::new();
    context.set_spill_bytes(spill_bytes);
    let result = job(&context);
    fake_host::with(|host| host.assert_clean());
    result
}

/// What `job` answers where everything fits and where nearly nothing does, which must be the same.
fn run_spilling_or_not<R: PartialEq + core::fmt::Debug>(job: impl Fn(&Context) -> R) -> R {
    let fitting = run(&job);
    for spill_bytes in [0, 300] {
        assert_eq!(run_within(spill_bytes, &job), fitting, "spilling at {spill_bytes} bytes");
    }
    fitting
}

fn write_file(path: &str, bytes: &[u8]) {
    fake_host::with(|host| host.files.insert(path.to_owned(), bytes.to_vec()));
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

#[test]
fn narrow_operations() {
    let found = run(|context| {
        let numbers = context.parallelize(0..10u32, 4);
        assert_eq!(numbers.partitions(), 4);
        let even = numbers.filter(|n| n % 2 == 0).map(|n| n * 10);
        let twice = even.flat_map(|n| [n, n + 1]);
        let keyed = twice.key_by(|n| n % 3).map_values(|n| i64::from(n) - 40);
        keyed.union(&keyed).collect().unwrap()
    });
    let once = [0, 1, 20, 21, 40, 41, 60, 61, 80, 81].map(|n: u32| (n % 3, i64::from(n) - 40));
    assert_eq!(found, [once, once].concat());
}

#[test]
fn partitions_as_a_whole() {
    run(|context| {
        let sums = context
            .range(0..100, 7)
            .map_partitions_with_index(|index, numbers| [(index, numbers.sum::<u64>())]);
        let sums = sums.collect().unwrap();
        assert_eq!(sums.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(sums.iter().map(|(_, sum)| sum).sum::<u64>(), 4950);
        let halves = context.range(0..10, 2).map_partitions(|numbers| numbers.take(1));
        assert_eq!(halves.collect().unwrap(), [0, 5]);
    });
}

#[test]
fn actions() {
    run(|context| {
        let numbers = context.range(0..1000, 13);
        assert_eq!(numbers.count(), Ok(1000));
        assert_eq!(numbers.reduce(u64::max), Ok(Some(999)));
        assert_eq!(numbers.filter(|_| false).reduce(u64::max), Ok(None));
        assert_eq!(numbers.first(), Ok(Some(0)));
        assert_eq!(numbers.filter(|_| false).first(), Ok(None));
        let seen = Rc::new(Cell::new(0));
        let in_task = Rc::clone(&seen);
        numbers.for_each(move |n| in_task.set(in_task.get() + n)).unwrap();
        assert_eq!(seen.get(), 499_500, "tasks of this host share the memory of main");
    });
}

#[test]
fn take_computes_no_more_than_it_needs() {
    run(|context| {
        let numbers = context.range(0..100, 50);
        assert_eq!(numbers.take(5), Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(numbers.take(0), Ok(vec![]));
        assert_eq!(numbers.filter(|n| *n >= 98).take(7), Ok(vec![98, 99]));
        let widths = fake_host::with(|host| {
            host.jobs_run.iter().map(|(_, partitions, _)| *partitions).collect::<Vec<_>>()
        });
        assert_eq!(widths, [1, 4, 1, 4, 16, 29]);
    });
}

#[test]
fn large_results_come_in_pieces() {
    run(|context| {
        fake_host::with(|host| host.chunk_bytes = 1000);
        let strings = context.range(0..20, 3).map(|n| (n, "x".repeat(50_000)));
        let found = strings.collect().unwrap();
        assert_eq!(found.len(), 20);
        assert!((0..).zip(found).all(|(n, found)| found == (n, "x".repeat(50_000))));
    });
}

fn words() -> impl Strategy<Value = Vec<(String, u32)>> {
    proptest::collection::vec(("[ab]{0,3}", 0u32..5), 0..60)
}

proptest! {
    #[test]
    fn reduce_by_key_is_a_fold(pairs in words(), parts in 1u32..5, reducers in 1u32..5) {
        let mut expected = BTreeMap::<String, u32>::new();
        pairs.iter().for_each(|(word, n)| *expected.entry(word.clone()).or_default() += n);
        let found = run(|context| {
            let pairs = context.parallelize(pairs, parts);
            pairs.reduce_by_key_with_partitions(reducers, |a, b| a + b).collect().unwrap()
        });
        prop_assert_eq!(sorted(found), expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn group_by_key_keeps_the_order(pairs in words(), parts in 1u32..5, reducers in 1u32..5) {
        let mut expected = BTreeMap::<String, Vec<u32>>::new();
        pairs.iter().for_each(|(word, n)| expected.entry(word.clone()).or_default().push(*n));
        let found = run(|context| {
            let pairs = context.parallelize(pairs, parts);
            pairs.group_by_key_with_partitions(reducers).collect().unwrap()
        });
        prop_assert_eq!(sorted(found), expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn join_is_every_matching_pair(left in words(), right in words(), reducers in 1u32..5) {
        let matches = left.iter().flat_map(|(key, here)| {
            let there = right.iter().filter(move |(other, _)| other == key);
            there.map(move |(_, there)| (key.clone(), (*here, *there)))
        });
        let expected = sorted(matches.collect());
        let found = run(|context| {
            let (left, right) = (context.parallelize(left, 2), context.parallelize(right, 3));
            left.join_with_partitions(&right, reducers).collect().unwrap()
        });
        prop_assert_eq!(sorted(found), expected);
    }

    #[test]
    fn sort_by_key_is_stable(pairs in words(), parts in 1u32..5, reducers in 1u32..5) {
        let mut expected = pairs.clone();
        expected.sort_by(|left, right| left.0.cmp(&right.0));
        let found = run(|context| {
            let pairs = context.parallelize(pairs, parts);
            pairs.sort_by_key_with_partitions(reducers).collect().unwrap()
        });
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn counting_words_of_files(
        texts in proptest::collection::vec("([ab]{0,3}[ \n]){0,20}", 1..4),
        parts in 1u32..6, reducers in 1u32..4, chunk in 1usize..30,
    ) {
        let mut expected = BTreeMap::<Vec<u8>, u64>::new();
        for word in texts.iter().flat_map(|text| text.split_whitespace()) {
            *expected.entry(word.as_bytes().to_vec()).or_default() += 1;
        }
        let (lent, given) = run(|context| {
            for (index, text) in texts.iter().enumerate() {
                write_file(&format!("/in/{index}"), text.as_bytes());
            }
            fake_host::with(|host| host.chunk_bytes = chunk);
            let lines = context.byte_lines_with_partitions("/in/", parts).unwrap();
            let pairs = lines.flat_map_bytes(|line, emit| {
                let words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
                words.for_each(|word| emit(word, 1u64));
            });
            let lent = pairs.reduce_by_key_with_partitions(reducers, |a, b| a + b);
            let given = pairs.records().reduce_by_key_with_partitions(reducers, |a, b| a + b);
            (lent.collect().unwrap(), given.collect().unwrap())
        });
        prop_assert_eq!(&lent, &given, "the same keys in the same partitions and order");
        prop_assert_eq!(sorted(lent), expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn sorted_lines_of_a_file(text in "([ab]{0,12}\n){0,40}[ab]{0,3}", reducers in 1u32..5) {
        let (sorted_lines, count, parts) = run(|context| {
            write_file("/in/text", text.as_bytes());
            let sorted = context.byte_lines("/in/").unwrap();
            let sorted = sorted.sort_with_partitions(reducers);
            sorted.save_as_text_file("/out").unwrap();
            let parts = fake_host::with(|host| host.outputs["/out"].clone());
            (sorted.records().collect().unwrap(), sorted.count().unwrap(), parts)
        });
        let mut expected: Vec<_> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        expected.sort();
        prop_assert_eq!(parts.len(), reducers as usize);
        let saved = parts.concat();
        prop_assert!(saved.is_empty() || saved.ends_with(b"\n"));
        let saved: Vec<_> = saved.split_inclusive(|byte| *byte == b'\n').collect();
        let mut both = saved.iter().zip(&expected);
        prop_assert!(both.all(|(line, expected)| line.starts_with(expected)));
        prop_assert_eq!(saved.len(), expected.len());
        prop_assert_eq!(count as usize, expected.len());
        prop_assert_eq!(sorted_lines, expected);
    }
}

#[test]
fn a_shuffle_runs_once_for_several_jobs() {
    run(|context| {
        let reduced = context.range(0..50, 5).map(|n| (n % 7, n)).reduce_by_key(|a, b| a + b);
        assert_eq!(reduced.partitions(), 3, "what the host says");
        assert_eq!(reduced.count(), Ok(7));
        assert_eq!(reduced.map(|(_, sum)| sum).reduce(|a, b| a + b), Ok(Some(1225)));
        assert_eq!(fake_host::with(|host| host.map_tasks), 5);
    });
}

#[test]
fn two_jobs_at_once_and_their_lineage() {
    run(|context| {
        let numbers = context.range(0..10, 2);
        let sums = context.submit(&numbers, Iterator::sum::<u64>).unwrap();
        let all = numbers.submit_collect().unwrap();
        drop(numbers);
        assert_eq!(sums.wait(), Ok(vec![10, 35]));
        assert_eq!(all.wait().map(|parts| parts.concat()), Ok((0..10).collect()));
    });
}

#[test]
fn jobs_are_in_the_pool_that_was_set_last() {
    run(|context| {
        let numbers = context.range(0..10, 2);
        let first = numbers.submit_collect().unwrap();
        context.set_pool("etl").unwrap();
        assert!(matches!(context.set_pool("e/l"), Err(Error::Invalid(_))));
        let second = numbers.submit_collect().unwrap();
        context.set_pool("default").unwrap();
        assert_eq!(numbers.count().unwrap(), 10);
        assert_eq!(first.wait().unwrap(), second.wait().unwrap());
        fake_host::with(|host| assert_eq!(host.pools, ["", "etl", "default"]));
    });
}

#[test]
fn saving_formats_lines() {
    run(|context| {
        let pairs = context.parallelize([("a".to_owned(), 1u8), ("ß".to_owned(), 2)], 2);
        pairs.save_as_text_file("/plain").unwrap();
        pairs
            .save_as_text_file_with("/own", |(word, n), out| {
                out.extend_from_slice(&[*n; 2]);
                word.bytes().for_each(|byte| out.push(byte));
            })
            .unwrap();
        let parts = |path: &str| fake_host::with(|host| host.outputs[path].clone());
        assert_eq!(parts("/plain"), ["a\t1\n".as_bytes(), "ß\t2\n".as_bytes()]);
        assert_eq!(parts("/own"), ["\u{1}\u{1}a\n".as_bytes(), "\u{2}\u{2}ß\n".as_bytes()]);
    });
}

#[test]
fn text_must_be_utf8_unless_it_is_lossy() {
    run(|context| {
        write_file("/in/bad", b"fine\nnot \xff so\n");
        let text = context.text_file("/in/bad").unwrap();
        assert_eq!(text.lossy().collect().unwrap(), ["fine", "not \u{fffd} so"]);
        let message = text.map(|line| line.len()).collect().unwrap_err().to_string();
        assert!(message.contains("/in/bad, line at byte 5: not UTF-8 after 4 bytes"), "{message}");
        write_file("/in/bad", b"all\nfine");
        let text = context.text_file("/in/bad").unwrap();
        assert_eq!(text.filter(|line| line.len() > 3).collect().unwrap(), ["fine"]);
        let short = context.byte_lines("/in/").unwrap().filter(|line| line.len() < 4);
        assert_eq!(short.count(), Ok(1));
        assert_eq!(short.map(<[u8]>::len).collect().unwrap(), [3]);
    });
}

#[test]
fn failures_say_what_and_where() {
    run(|context| {
        let numbers = context.range(0..4, 2);
        let failing = numbers.map(|n| if n == 3 { panic!("three is out") } else { n });
        let error = failing.collect().unwrap_err();
        assert!(matches!(&error, Error::JobFailed(text) if text.contains("three is out")));
        assert!(error.to_string().contains("sdk/src/tests.rs:"), "{error}");

        let inner = context.range(0..1, 1);
        let nested = numbers.map(move |_| inner.count().unwrap_or(0));
        let error = nested.collect().unwrap_err().to_string();
        assert!(error.contains("actions run in main; this is a task of node"), "{error}");

        let error = context.range(0..1, 0).count().unwrap_err();
        assert!(matches!(&error, Error::Invalid(text) if text.contains("no partitions")));

        let cell = Rc::new(core::cell::RefCell::new(0));
        let (in_task, borrowed) = (Rc::clone(&cell), cell.borrow_mut());
        let error = numbers.map(move |_| *in_task.borrow()).collect().unwrap_err();
        assert!(error.to_string().contains("what main had borrowed"), "{error}");
        drop(borrowed);
    });
}

#[test]
fn nodes_tell_name_and_source_line() {
    run(|context| {
        let pairs = context.range(0..4, 2).map(|n| (n, n));
        let reduced = pairs.reduce_by_key(|a, _| a);
        let line = line!() + 1;
        reduced.count().unwrap();
        let (name, _, source) = fake_host::with(|host| host.jobs_run[0].clone());
        assert_eq!(name, "count");
        assert!(source.ends_with(&format!("sdk/src/tests.rs:{line}")), "{source}");
    });
}

#[test]
fn a_long_lineage_is_dropped_without_recursion() {
    run(|context| {
        let mut pairs = context.range(0..2, 1).map(|n| (n, n));
        for _ in 0..20_000 {
            pairs = pairs.map(|pair| pair).reduce_by_key_with_partitions(1, |a, _| a);
        }
        pairs.node().register().unwrap();
        let mut numbers = context.range(0..2, 1);
        for _ in 0..50_000 {
            numbers = numbers.map(|n| n);
        }
    });
}
