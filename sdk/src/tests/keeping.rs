//! Kept datasets and checkpoints: what is computed again, and what is forgotten.

use super::*;

/// Numbers whose computations are counted: the tasks of this host share the memory of main.
fn counted(context: &Context, parts: u32) -> (Dataset<(u64, u64)>, Rc<Cell<u32>>) {
    let computed = Rc::new(Cell::new(0));
    let in_tasks = Rc::clone(&computed);
    let pairs = context.range(0..60, parts).map_partitions(move |numbers| {
        in_tasks.set(in_tasks.get() + 1);
        numbers.map(|n| (n % 7, n))
    });
    (pairs, computed)
}

#[test]
fn what_is_kept_is_computed_once() {
    run(|context| {
        let (pairs, computed) = counted(context, 4);
        let kept = pairs.cache();
        assert_eq!(
            (pairs.storage_level(), kept.storage_level()),
            (None, Some(StorageLevel::MEMORY_AND_DISK))
        );
        assert_eq!(computed.get(), 0, "nothing before an action");
        assert_eq!(kept.take(1), Ok(vec![(0, 0)]));
        assert_eq!(computed.get(), 4, "all of it, for the first use");
        assert_eq!(kept.filter(|(key, _)| *key == 1).count(), Ok(9));
        assert_eq!(kept.persist(StorageLevel::DISK).count(), Ok(60));
        assert_eq!(kept.reduce_by_key(|a, b| a + b).count(), Ok(7));
        assert_eq!(kept.coalesce(2).count(), Ok(60));
        assert_eq!(kept.union(&kept).count(), Ok(120));
        assert_eq!(computed.get(), 4);
        let jobs = [kept.submit_collect().unwrap(), kept.submit_collect().unwrap()];
        let [first, second] = jobs.map(|job| job.wait().unwrap());
        assert_eq!(first, second);
        let plain = kept.unpersist();
        assert_eq!((plain.storage_level(), plain.count()), (None, Ok(60)));
        assert_eq!(computed.get(), 8);
    });
}

#[test]
fn kept_datasets_with_one_partitioner_are_joined_where_they_are() {
    run(|context| {
        let by = Partitioner::hash(5);
        let (pairs, _) = counted(context, 4);
        let left = pairs.partition_by(&by).cache();
        let right = pairs.map_values(|n| n * 2).partition_by(&by).cache();
        assert!(left.partitioner() == Some(by));
        assert_eq!((left.count(), right.count()), (Ok(60), Ok(60)));
        let before = fake_host::with(|host| host.map_tasks);
        let joined = left.join(&right).filter(|(_, (n, twice))| 2 * n == *twice);
        assert_eq!(joined.count(), Ok(60));
        assert_eq!(fake_host::with(|host| host.map_tasks), before, "no shuffle");
    });
}

#[test]
fn the_files_go_with_the_last_handle() {
    run(|context| {
        let nodes = || fake_host::with(|host| host.nodes.len());
        let (pairs, _) = counted(context, 2);
        let kept = pairs.cache();
        let again = kept.clone();
        let made = kept.map_values(|n| n + 1);
        assert_eq!(made.count(), Ok(60));
        let with_files = nodes();
        drop(kept);
        assert_eq!(nodes(), with_files);
        let plain = again.unpersist();
        assert_eq!(nodes(), with_files, "what was made of it needs them");
        drop(made);
        assert_eq!(nodes(), with_files - 3, "writer, reader and what was made");
        assert_eq!(plain.count(), Ok(60));
    });
}

#[test]
fn checkpoints_cut_lineage_and_keep_partitions() {
    run(|context| {
        let by = Partitioner::hash(3);
        let (pairs, computed) = counted(context, 4);
        let placed = pairs.partition_by(&by);
        let all = placed.collect().unwrap();
        let in_main = placed.local_checkpoint().unwrap();
        drop((placed, pairs));
        let before = computed.get();
        fake_host::with(|host| assert!(host.nodes.is_empty(), "{:?}", host.nodes));
        assert!(in_main.partitioner() == Some(by.clone()));
        assert_eq!(in_main.collect().unwrap(), all);
        let saved = in_main.checkpoint("/saved").unwrap();
        assert!(saved.partitioner() == Some(by));
        assert_eq!(saved.collect().unwrap(), all);
        assert_eq!(computed.get(), before);
    });
}

#[test]
fn a_loop_with_checkpoints_leaves_nothing_of_its_rounds() {
    run(|context| {
        let mut sums = context.range(0..20, 2).map(|n| (n % 5, n));
        let mut most = 0;
        for round in 1..=30 {
            sums = sums.reduce_by_key(|a, b| a + b).map(|(key, sum)| ((key + 1) % 5, sum));
            if round % 5 == 0 {
                sums = sums.local_checkpoint().unwrap();
                fake_host::with(|host| most = most.max(host.nodes.len()));
            }
        }
        assert_eq!(most, 0);
        assert_eq!(sums.values().sum(), Ok(190));
    });
}

proptest! {
    #[test]
    fn kept_is_as_computed(pairs in words(), parts in 1u32..5, reducers in 1u32..4) {
        let (kept, in_main, plain) = run(|context| {
            let plain = context.parallelize(pairs.clone(), parts);
            let kept = plain.cache();
            let in_main = kept.local_checkpoint().unwrap();
            let partitions = |pairs: &Dataset<(String, u32)>| {
                let grouped = pairs.group_by_key_with_partitions(reducers);
                (pairs.glom().collect().unwrap(), grouped.collect().unwrap())
            };
            (partitions(&kept), partitions(&in_main), partitions(&plain))
        });
        prop_assert_eq!(&kept, &plain);
        prop_assert_eq!(&in_main, &plain);
    }
}

/// The same uses of a kept dataset of a plain type, mapped or read.
fn used(maps: bool, numbers: &[i64], parts: u32) -> (usize, Vec<String>) {
    run(|context| {
        fake_host::with(|host| host.maps_blocks = maps);
        let kept =
            context.parallelize(numbers.to_vec(), parts).map(|n| (n, n as f64 / 3.0)).cache();
        let in_slices = kept.map_partitions(|pairs| {
            let is_there = pairs.as_slice().is_some();
            let first = pairs.as_slice().and_then(|pairs| pairs.first().copied());
            let all: Vec<_> = pairs.collect();
            assert!(first.is_none_or(|first| first == all[0]));
            assert!(!is_there || fake_host::with(|host| host.maps_blocks));
            all
        });
        let texts = vec![
            format!("{:?}", kept.collect()),
            format!("{:?}", kept.values().sum()),
            format!("{:?}", kept.count()),
            format!("{:?}", kept.filter(|(n, _)| n % 3 == 0).keys().collect()),
            format!("{:?}", kept.take(3)),
            format!("{:?}", in_slices.collect()),
            format!("{:?}", kept.coalesce(1).glom().collect()),
            format!("{:?}", kept.persist(StorageLevel::DISK).map(|(n, _)| n).collect()),
            format!("{:?}", kept.map(|pair| pair).cache().values().collect()),
            format!(
                "{:?}",
                kept.map_partitions(|mut p| {
                    p.next();
                    p
                })
                .collect()
            ),
        ];
        (fake_host::with(|host| host.blocks_mapped), texts)
    })
}

proptest! {
    #[test]
    fn mapped_is_as_read(numbers: Vec<i64>, parts in 1u32..5) {
        let (mapped, in_place) = used(true, &numbers, parts);
        let (none, read) = used(false, &numbers, parts);
        prop_assert_eq!(in_place, read);
        prop_assert!(none == 0 && (mapped > 0 || numbers.is_empty()));
    }
}

#[test]
fn a_partition_of_many_buffers_is_read_whole() {
    run(|context| {
        let kept = context.range(0..100_000, 1).map(|n| [n, !n, n * n]).cache();
        assert_eq!(kept.count(), Ok(100_000));
        fake_host::with(|host| host.chunk_bytes = 1000);
        assert_eq!(kept.map(|[n, not, _]| n ^ not ^ u64::MAX).sum(), Ok(0));
        let last = kept.map_partitions(|items| items.last()).collect();
        assert_eq!(last, Ok(vec![[99_999, !99_999, 99_999 * 99_999]]));
    });
}
