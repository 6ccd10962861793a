//! Accumulators against plain sums.

use super::*;

#[test]
fn accumulators_of_map_and_result_stages() {
    run(|context| {
        let seen = context.accumulator("seen", 0u64);
        let longest = context.accumulator_with("longest", 0u64, |most, n| *most = n.max(*most));
        let (in_map, in_result) = (seen.clone(), longest.clone());
        let pairs = context.range(0..100, 4).map(move |n| {
            in_map.add(1);
            (n % 7, n)
        });
        let sums = pairs.reduce_by_key(|a, b| a + b).map(move |(_, sum)| {
            in_result.add(sum);
            sum
        });
        assert_eq!(sums.count(), Ok(7));
        assert_eq!((seen.value(), longest.value()), (Ok(100), Ok(750)));
        assert_eq!(sums.count(), Ok(7));
        assert_eq!(seen.value(), Ok(100), "the map stage has not run again");
        seen.add(5);
        assert_eq!(seen.value(), Ok(105));
        assert_eq!(format!("{seen:?} {}", longest.name()), "Accumulator(seen) longest");
    });
}

#[test]
fn an_accumulator_may_go_before_its_updates_come() {
    run(|context| {
        let (gone, here) = (context.accumulator("gone", 0u64), context.accumulator("here", 0u64));
        let (first, second) = (gone.clone(), here.clone());
        let numbers = context.range(0..9, 3).map(move |n| {
            first.add(n);
            second.add(n);
        });
        let job = numbers.submit(Iterator::count).unwrap();
        drop((numbers, gone));
        assert_eq!(job.wait().map(|counts| counts.iter().sum::<usize>()), Ok(9));
        assert_eq!(here.value(), Ok(36));
    });
}

#[test]
fn main_only_reads() {
    run(|context| {
        let count = context.accumulator("count", 0u64);
        let read = context.range(0..1, 1).map(move |_| count.value().unwrap_or(0));
        let error = read.collect().unwrap_err().to_string();
        assert!(error.contains("actions run in main"), "{error}");
    });
}

proptest! {
    /// Any stage, any partitioning: as the plain sum, the plain maximum, the plain set.
    #[test]
    fn what_is_added_is_what_there_is(
        numbers in proptest::collection::vec(0u64..50, 0..60),
        parts in 1u32..6, reducers in 1u32..4, jobs in 1usize..3,
    ) {
        let (sum, least, odd) = run(|context| {
            let sum = context.accumulator("sum", 7u64);
            let least = context.accumulator_with("least", u64::MAX, |a, b| *a = b.min(*a));
            let odd = context.accumulator_with("odd", Vec::new(), |all, more| all.extend(more));
            let (in_map, in_result, in_both) = (sum.clone(), least.clone(), odd.clone());
            let pairs = context.parallelize(numbers.clone(), parts).map(move |n| {
                in_map.add(n);
                if n % 2 == 1 {
                    in_both.add(vec![n]);
                }
                (n, ())
            });
            let keys = pairs.reduce_by_key_with_partitions(reducers, |_, ()| ());
            let keys = keys.map(move |(n, ())| {
                in_result.add(n);
            });
            (0..jobs).for_each(|_| drop(keys.count()));
            (sum.value().unwrap(), least.value().unwrap(), sorted(odd.value().unwrap()))
        });
        prop_assert_eq!(sum, 7 + numbers.iter().sum::<u64>());
        prop_assert_eq!(least, numbers.iter().copied().min().unwrap_or(u64::MAX));
        let expected = numbers.into_iter().filter(|n| n % 2 == 1).collect();
        prop_assert_eq!(odd, sorted(expected));
    }
}
