//! That tasks really spill, and that what they spill comes back whole.

use super::{run_within, sorted};
use crate::fake_host;
use crate::prelude::*;
use std::collections::BTreeSet;

fn runs_spilled() -> usize {
    fake_host::with(|host| host.runs_spilled)
}

#[test]
fn main_hears_how_much_was_spilled() {
    run_within(2000, |context| {
        let spilled = context.spilled_bytes();
        let pairs = context.range(0..3000, 2).map(|n| (n * 7 % 1000, n));
        assert_eq!(pairs.count(), Ok(3000));
        assert_eq!(spilled.value(), Ok(0));
        assert_eq!(pairs.sort_by_key().count(), Ok(3000));
        let of_sort = fake_host::with(|host| host.bytes_spilled);
        assert!(of_sort > 6000, "{of_sort}");
        assert_eq!(spilled.value(), Ok(of_sort));
        assert_eq!(pairs.group_by_key().count(), Ok(1000));
        let of_both = fake_host::with(|host| host.bytes_spilled);
        assert!(of_both > of_sort + 6000, "{of_both}");
        assert_eq!(context.spilled_bytes().value(), Ok(of_both));
    });
}

#[test]
fn partial_results_are_written_when_they_are_too_many() {
    run_within(600, |context| {
        let pairs = context.range(0..3000, 1).map(|n| (n % 500 % 120, 1u64));
        let sums = sorted(pairs.reduce_by_key_with_partitions(2, |a, b| a + b).collect().unwrap());
        assert_eq!(sums.len(), 120);
        assert_eq!(sums.iter().map(|(_, count)| count).sum::<u64>(), 3000);
        assert!(sums.iter().all(|(key, count)| *count == if *key < 20 { 30 } else { 24 }));
        assert!(runs_spilled() > 2, "the reduce side spilled {} runs", runs_spilled());
    });
}

/// More runs than are merged at once: some are merged into one before.
#[test]
fn hundreds_of_runs() {
    run_within(0, |context| {
        let pairs = context.range(0..700, 1).map(|n| (n * 7 % 100, n));
        let mut expected: Vec<_> = (0..700u64).map(|n| (n * 7 % 100, n)).collect();
        expected.sort_by_key(|pair| pair.0);
        assert_eq!(pairs.sort_by_key_with_partitions(1).collect().unwrap(), expected);
        assert!(runs_spilled() >= 700, "{}", runs_spilled());
        let groups = pairs.group_by_key_with_partitions(1).collect().unwrap();
        let in_order = groups.iter().all(|(_, group)| group.len() == 7 && group.is_sorted());
        assert!(groups.len() == 100 && in_order, "{groups:?}");
        let counts = pairs.map_values(|_| 1u64).reduce_by_key_with_partitions(1, |a, b| a + b);
        assert!(counts.collect().unwrap().iter().all(|(_, count)| *count == 7));
    });
}

/// One key with all values: chunks of them pass by, and the other side is held.
#[test]
fn a_hot_key_is_joined_in_chunks() {
    run_within(20_000, |context| {
        let few = context.range(0..300, 2).map(|n| (n % 3, "x".repeat(1000)));
        let many = context.range(0..30_000, 3).map(|n| (1u64, n));
        let joined = few.join_with_partitions(&many, 2);
        assert_eq!(joined.filter(|(_, (_, n))| *n >= 29_990).count(), Ok(100 * 10));
        assert_eq!(joined.count(), Ok(100 * 30_000));
        let left = few.left_outer_join(&many);
        assert_eq!(left.count(), Ok(100 * 30_000 + 200));
        assert_eq!(left.filter(|(_, (_, n))| n.is_none()).count(), Ok(200));
        assert_eq!(few.filter(|(key, _)| *key == 2).full_outer_join(&many).count(), Ok(30_100));
        assert_eq!(many.subtract_by_key(&few).count(), Ok(0));
        assert!(runs_spilled() > 10, "{}", runs_spilled());
    });
}

/// Records without bytes are counted, not measured.
#[test]
fn values_without_bytes_are_grouped() {
    run_within(500, |context| {
        let units = context.range(0..1000, 2).map(|n| (n % 4, ()));
        let groups = sorted(units.group_by_key().collect().unwrap());
        assert_eq!(groups.iter().map(|(_, group)| group.len()).collect::<Vec<_>>(), [250; 4]);
    });
}

#[test]
fn large_values_come_back_whole() {
    run_within(50_000, |context| {
        fake_host::with(|host| host.chunk_bytes = 10_000);
        let blobs = context.range(0..30, 2).map(|n| (n % 2, vec![n as u8; 40_000]));
        let sorted_blobs = blobs.sort_by_key().collect().unwrap();
        assert!(sorted_blobs.iter().all(|(_, blob)| blob == &vec![blob[0]; 40_000]));
        let groups = sorted(blobs.group_by_key().collect().unwrap());
        for (key, group) in groups {
            let firsts: Vec<u64> = group.iter().map(|blob| u64::from(blob[0])).collect();
            assert_eq!(firsts, (0..30).filter(|n| n % 2 == key).collect::<Vec<_>>());
        }
    });
}

/// Tables that bring nothing together are left aside; the values of a key keep their order.
#[test]
fn keys_that_are_rare_pass_by_the_table() {
    // Room for less than a table that is asked, for parts that are taken many times, for all.
    for room in [600, 1000, 1500, 3000, 20_000, 64 << 20] {
        run_within(room, |context| {
            let pairs =
                context.range(0..4000, 2).map(|n| (if n % 7 == 0 { 0 } else { n % 1500 }, n));
            let there = pairs.partition_by(&Partitioner::hash(3));
            for pairs in [pairs, there] {
                let lists = pairs.combine_by_key_with_partitioner(
                    &Partitioner::hash(3),
                    |n| vec![n],
                    |list, n| [list, vec![n]].concat(),
                    |left, right| [left, right].concat(),
                );
                let lists = lists.collect().unwrap();
                assert!(lists.iter().all(|(_, list)| list.is_sorted()), "{room}");
                assert_eq!(lists.iter().map(|(_, list)| list.len()).sum::<usize>(), 4000);
                assert_eq!(lists.iter().find(|(key, _)| *key == 0).unwrap().1.len(), 572 + 2);
                let keys = (0..4000).map(|n| if n % 7 == 0 { 0 } else { n % 1500 });
                assert_eq!(lists.len(), keys.collect::<BTreeSet<u64>>().len(), "{room}");
            }
        });
    }
}

/// What is brought together by parts is written once for each key; where every key comes once, all
/// is written as it is.
#[test]
fn parts_are_combined_before_they_are_written() {
    let written = |keys: u64| {
        run_within(20_000, |context| {
            let pairs = context.range(0..4000, 1).map(move |n| (n % keys, 1u64));
            let sums = pairs.reduce_by_key_with_partitions(1, |a, b| a + b).collect().unwrap();
            assert!(sums.iter().all(|(_, sum)| *sum == 4000 / keys), "{keys}");
            fake_host::with(|host| host.bytes_shuffled)
        })
    };
    // A pair has two or three bytes.
    let (some, all) = (written(100), written(4000));
    assert!((200..800).contains(&some), "{some} bytes of 100 keys");
    assert!((8000..12_000).contains(&all), "{all} bytes of 4000 keys");
}
