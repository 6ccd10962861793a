//! Operations by key, against maps, with and without spilling; and how many shuffles they take.

use super::{run, run_spilling_or_not, sorted, words};
use crate::fake_host;
use crate::prelude::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type Pairs = Vec<(String, u32)>;

/// All values of each key.
fn groups(pairs: &Pairs) -> BTreeMap<String, Vec<u32>> {
    let mut groups = BTreeMap::<String, Vec<u32>>::new();
    pairs.iter().for_each(|(key, n)| groups.entry(key.clone()).or_default().push(*n));
    groups
}

/// How many tasks of map stages have run.
fn map_tasks() -> usize {
    fake_host::with(|host| host.map_tasks)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn combining(pairs in words(), parts in 1u32..5, reducers in 1u32..5, own: bool) {
        let found = run_spilling_or_not(|context| {
            let mut data = context.parallelize(pairs.clone(), parts);
            if own {
                // What is partitioned already takes the other way, without a shuffle.
                data = data.partition_by(&Partitioner::hash(reducers));
            }
            let sums = data.reduce_by_key_with_partitions(reducers, |a, b| a + b);
            let folds = data.fold_by_key(0, |a, b| a + b);
            let texts = data.aggregate_by_key(
                String::new(),
                |text, n| format!("{text}{n};"),
                |left, right| left + &right,
            );
            let lists = data.combine_by_key_with_partitioner(
                &Partitioner::hash(reducers),
                |n| vec![n],
                |mut list, n| {
                    list.push(n);
                    list
                },
                |left: Vec<u32>, right| [left, right].concat(),
            );
            assert_eq!(sorted(folds.collect().unwrap()), sorted(sums.collect().unwrap()));
            let texts = sorted(texts.collect().unwrap());
            (sorted(sums.collect().unwrap()), texts, sorted(lists.collect().unwrap()))
        });
        let groups: Vec<_> = groups(&pairs).into_iter().collect();
        let sums = groups.iter().map(|(key, list)| (key.clone(), list.iter().sum()));
        let text = |list: &Vec<u32>| list.iter().map(|n| format!("{n};")).collect::<String>();
        let texts = groups.iter().map(|(key, list)| (key.clone(), text(list)));
        prop_assert_eq!(found, (sums.collect(), texts.collect(), groups.clone()));
    }

    #[test]
    fn grouping_and_cogrouping(a in words(), b in words(), c in words(), parts in 1u32..5) {
        let found = run_spilling_or_not(|context| {
            let [a, b, c] = [&a, &b, &c].map(|pairs| context.parallelize(pairs.clone(), parts));
            let b = b.partition_by(&Partitioner::hash(3));
            let grouped = sorted(a.group_by_key().collect().unwrap());
            let two = sorted(a.cogroup(&b).collect().unwrap());
            let three = sorted(a.cogroup3(&b, &c).collect().unwrap());
            (grouped, two, three, sorted(c.cogroup4(&b, &a, &a).collect().unwrap()))
        });
        let [a, b, c] = [&a, &b, &c].map(groups);
        let of = |map: &BTreeMap<String, Vec<u32>>, key| map.get(key).cloned().unwrap_or_default();
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let two = keys.iter().map(|key| ((*key).clone(), (of(&a, *key), of(&b, *key))));
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).chain(c.keys()).collect();
        let three = keys.iter().map(|key| {
            ((*key).clone(), (of(&a, *key), of(&b, *key), of(&c, *key)))
        });
        let four = keys.iter().map(|key| {
            let lists = (of(&c, *key), of(&b, *key), of(&a, *key), of(&a, *key));
            ((*key).clone(), lists)
        });
        let grouped = a.clone().into_iter().collect();
        prop_assert_eq!(found, (grouped, two.collect(), three.collect(), four.collect()));
    }

    #[test]
    fn joins(left in words(), right in words(), parts in 1u32..4) {
        let found = run_spilling_or_not(|context| {
            let here = context.parallelize(left.clone(), parts);
            let there = context.parallelize(right.clone(), 2);
            let inner = sorted(here.join(&there).collect().unwrap());
            let broadcast = here.broadcast_join(&there).unwrap();
            assert_eq!(sorted(broadcast.collect().unwrap()), inner);
            let lefts = sorted(here.left_outer_join(&there).collect().unwrap());
            let rights = sorted(here.right_outer_join(&there).collect().unwrap());
            let all = sorted(here.full_outer_join(&there).collect().unwrap());
            let rest = sorted(here.subtract_by_key(&there).collect().unwrap());
            (inner, lefts, rights, all, rest)
        });
        let (here, there) = (groups(&left), groups(&right));
        let keys: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
        let none = vec![];
        let (mut inner, mut lefts, mut rights, mut all, mut rest) =
            (vec![], vec![], vec![], vec![], vec![]);
        for key in keys {
            let (v, w) = (here.get(key).unwrap_or(&none), there.get(key).unwrap_or(&none));
            let some = |list: &[u32]| list.iter().map(|n| Some(*n)).collect::<Vec<_>>();
            let or_none = |list: &[u32]| if list.is_empty() { vec![None] } else { some(list) };
            for n in v {
                inner.extend(w.iter().map(|m| (key.clone(), (*n, *m))));
                lefts.extend(or_none(w).iter().map(|m| (key.clone(), (*n, *m))));
                rest.extend(w.is_empty().then(|| (key.clone(), *n)));
            }
            for n in or_none(v) {
                rights.extend(w.iter().map(|m| (key.clone(), (n, *m))));
                all.extend(or_none(w).iter().map(|m| (key.clone(), (n, *m))));
            }
        }
        let expected = (sorted(inner), sorted(lefts), sorted(rights), sorted(all), sorted(rest));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn own_partitioners(pairs in words(), parts in 1u32..4) {
        run(|context| {
            let by_length = Partitioner::new(4, |key: &String| key.len() as u32);
            let moved = context.parallelize(pairs.clone(), parts).partition_by(&by_length);
            assert_eq!(moved.partitioner(), Some(by_length.clone()));
            let lengths = moved.map_partitions_with_index(|partition, part| {
                part.map(move |(key, _)| (partition, key.len() as u32)).collect::<Vec<_>>()
            });
            assert!(lengths.collect().unwrap().iter().all(|(partition, n)| partition == n));
            let sums = moved.reduce_by_key(|a, b| a + b);
            assert_eq!(sums.partitioner(), Some(by_length));
            let expected = groups(&pairs).into_iter().map(|(key, list)| (key, list.iter().sum()));
            assert_eq!(sorted(sums.collect().unwrap()), expected.collect::<Vec<_>>());
        });
    }
}

#[test]
fn what_lies_right_is_not_shuffled() {
    run(|context| {
        let rows = context.range(0..100, 4).map(|n| (n % 10, n));
        let sums = rows.join(&rows.map_values(|n| n * 2)).map_values(|(n, _)| n);
        let sums = sums.reduce_by_key(|a, b| a + b).filter(|(_, sum)| *sum > 4600);
        assert_eq!(sums.count(), Ok(8));
        assert_eq!(map_tasks(), 8, "a shuffle for each side of the join, none for the sums");
        let again = sums.map_values(|sum| sum + 1).join(&sums).cogroup(&sums);
        assert_eq!(again.count(), Ok(8));
        assert_eq!(map_tasks(), 8, "all of them have the partitioner of the join");
        let ordered = rows.sort_by_key();
        assert_eq!(ordered.join(&ordered).count(), Ok(1000));
        // A sample of each partition, the bounds of all, and the pairs.
        assert_eq!(map_tasks(), 8 + 4 + 1 + 4);
        assert_eq!(ordered.join(&sums).count(), Ok(80));
    });
}

/// The rule alone is not enough: a key is elsewhere among three partitions than among four.
#[test]
fn other_numbers_of_partitions_are_other_partitioners() {
    run(|context| {
        let pairs = context.range(0..100, 2).map(|n| (n, n));
        let three = pairs.partition_by(&Partitioner::hash(3));
        let four = pairs.partition_by(&Partitioner::hash(4));
        assert!(three.partitioner() != four.partitioner());
        assert_eq!(three.join(&four).count(), Ok(100));
        assert_eq!(three.join_with_partitions(&four, 5).count(), Ok(100));
        assert_eq!(four.reduce_by_key_with_partitions(2, |a, b| a + b).partitions(), 2);
        let own = || Partitioner::new(3, |key: &u64| (key % 3) as u32);
        assert!(own() != own() && three.partition_by(&own()).partitioner() != Some(own()));
        let (left, right) = (pairs.partition_by(&own()), pairs.partition_by(&own()));
        assert_eq!(left.cogroup(&right).filter(|(_, (l, r))| l == r).count(), Ok(100));
    });
}

#[test]
fn changed_keys_are_shuffled_again() {
    run(|context| {
        let sums = context.range(0..60, 3).map(|n| (n % 6, n)).reduce_by_key(|a, b| a + b);
        assert!(sums.partitioner().is_some() && sums.filter(|_| true).partitioner().is_some());
        let halves = sums.map(|(key, sum)| (key / 2, sum));
        assert!(halves.partitioner().is_none());
        assert_eq!(halves.reduce_by_key(|a, b| a + b).count(), Ok(3));
        assert_eq!(sums.union(&sums).reduce_by_key(|a, b| a + b).count(), Ok(6));
    });
}

/// More keys than are looked up one by one: some several times on either side, some on one only.
#[test]
fn joins_of_many_keys() {
    let found = run_spilling_or_not(|context| {
        let here = context.range(0..600, 2).map(|n| (n % 400, n));
        let there = context.range(0..900, 3).map(|n| (n * 7 % 1000, format!("{n}")));
        sorted(here.join(&there).collect().unwrap())
    });
    let there = |key: u64| (0..900u64).filter(move |n| n * 7 % 1000 == key);
    let pairs =
        (0..600u64).flat_map(|n| there(n % 400).map(move |m| (n % 400, (n, m.to_string()))));
    assert_eq!(found, sorted(pairs.collect::<Vec<_>>()));
}
