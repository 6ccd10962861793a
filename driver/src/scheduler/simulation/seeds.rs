//! Many seeds, and what must have happened in them.

use super::{Faults, simulate};
use offshoot_proto::abi::NodeKind;
use std::collections::BTreeMap;

/// Runs many seeds; fails if something that ought to be exercised never happened.
#[test]
fn everything_ends_right_whatever_goes_wrong() {
    let faults = Faults {
        task: 30,
        block: 10,
        executor: 10,
        worker: 4,
        duplicate: 10,
        retires: true,
        drains: true,
    };
    let mut rare = BTreeMap::new();
    let (mut finished, mut failed) = (0, 0);
    for seed in 0..400 {
        let world = simulate(seed, faults, seed % 2 == 0);
        finished += world.finished;
        failed += world.failed;
        for (what, count) in world.cluster.rare {
            *rare.entry(what).or_insert(0) += count;
        }
    }
    for what in [
        "recall answered",
        "recall refused",
        "late message",
        "fetch failure",
        "executor lost",
        "worker lost",
        "retired",
        "drained",
        "copy",
        "evicted",
        "waits for stages",
        "waits for executors",
        "waits for slots",
        "waits for near slots",
    ] {
        assert!(rare.get(what).is_some_and(|count| *count > 100), "{rare:?}");
    }
    assert!(finished > 1000, "{finished} finished, {failed} failed");
    assert!(failed < finished / 10, "{finished} finished, {failed} failed");
}

#[test]
fn without_faults_no_shuffle_partition_is_computed_twice() {
    compute_once(Faults::default());
}

#[test]
fn what_workers_had_that_left_in_peace_is_not_computed_again() {
    let rare = compute_once(Faults { drains: true, ..Faults::default() });
    for what in ["drained", "drained of output", "retired", "copy", "fetch failure"] {
        assert!(rare.get(what).is_some_and(|count| *count > 10), "{rare:?}");
    }
}

fn compute_once(faults: Faults) -> BTreeMap<&'static str, u64> {
    let mut rare = BTreeMap::new();
    for seed in 0..200 {
        let world = simulate(seed, faults, false);
        assert_eq!(world.failed, 0, "seed {seed}");
        for (what, count) in &world.cluster.rare {
            *rare.entry(*what).or_insert(0) += count;
        }
        for ((node, partition), runs) in &world.cluster.tasks_run {
            let spec = &world.nodes[node.0 as usize];
            if spec.kind != NodeKind::Records {
                assert_eq!(*runs, 1, "seed {seed}, shuffle {node}, {partition}");
            }
        }
    }
    rare
}
