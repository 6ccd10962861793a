//! The order between pools: Spark's own example, and a naive restatement of its rule.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const SLOT: u64 = QUEUED_NANOS_PER_SLOT;

fn name(text: &str) -> PoolName {
    PoolName::new(text).unwrap()
}

fn fair(pools: &[(&str, SharingMode, u32, u32)]) -> Pools {
    let mut scheduling = Scheduling { mode: SharingMode::Fair, ..Scheduling::default() };
    for (pool, mode, weight, min_share) in pools {
        let settings = PoolSettings { mode: *mode, weight: *weight, min_share: *min_share };
        scheduling.pools.insert(name(pool), settings);
    }
    Pools::new(scheduling)
}

/// Serves `count` slots, each to a set with this many tasks; returns who got them.
fn serve(pools: &mut Pools, tasks: &mut BTreeMap<u32, u32>, count: usize) -> Vec<u32> {
    let mut served = Vec::new();
    for _ in 0..count {
        let Some((job, stage)) = pools.neediest(&BTreeSet::new()) else {
            break;
        };
        pools.load(job, SLOT);
        let left = tasks.get_mut(&stage.0).unwrap();
        *left -= 1;
        if *left == 0 {
            pools.remove(job, stage);
        }
        served.push(stage.0);
    }
    served
}

fn enter(pools: &mut Pools, pool: &str, job: u32) {
    pools.enter(JobId(job), &name(pool));
    pools.insert(JobId(job), StageRunId(job));
}

#[test]
fn least_shares_are_served_before_weights_as_in_sparks_own_example() {
    let mut pools = fair(&[("1", SharingMode::Fifo, 1, 2), ("2", SharingMode::Fifo, 1, 3)]);
    for job in 0..5 {
        enter(&mut pools, if job < 3 { "1" } else { "2" }, job);
    }
    let mut tasks = BTreeMap::from([(0, 1), (1, 1), (2, 2), (3, 2), (4, 2)]);
    assert_eq!(serve(&mut pools, &mut tasks, 8), [0, 3, 3, 1, 4, 2, 2, 4]);
}

#[test]
fn a_pool_of_twice_the_weight_gets_twice_the_slots() {
    let mut pools = fair(&[("a", SharingMode::Fifo, 2, 0)]);
    enter(&mut pools, "a", 0);
    enter(&mut pools, "b", 1);
    let mut tasks = BTreeMap::from([(0, 100), (1, 100)]);
    let served = serve(&mut pools, &mut tasks, 9);
    assert_eq!(served, [0, 1, 0, 0, 1, 0, 0, 1, 0]);
}

#[test]
fn jobs_of_a_fair_pool_get_as_much_each_and_those_of_a_fifo_pool_one_after_the_other() {
    for (mode, order) in
        [(SharingMode::Fair, [0, 1, 2, 0, 1, 2]), (SharingMode::Fifo, [0, 0, 1, 1, 2, 2])]
    {
        let mut pools = fair(&[("default", mode, 1, 0)]);
        for job in 0..3 {
            enter(&mut pools, "default", job);
        }
        assert_eq!(pools.are_contended(), mode == SharingMode::Fair);
        let mut tasks = (0..3).map(|stage| (stage, 2)).collect();
        assert_eq!(serve(&mut pools, &mut tasks, 6), order, "{mode:?}");
    }
}

#[test]
fn in_fifo_mode_there_are_no_pools_and_nothing_is_counted() {
    let mut pools = Pools::new(Scheduling::default());
    enter(&mut pools, "b", 0);
    enter(&mut pools, "a", 1);
    pools.load(JobId(0), SLOT);
    assert!(!pools.are_contended() && !pools.counts());
    assert_eq!(pools.next(None), Some((JobId(0), StageRunId(0))));
    assert_eq!(pools.next(pools.next(None)), Some((JobId(1), StageRunId(1))));
    assert!(pools.jobs.is_empty() && pools.pools.is_empty());
}

#[test]
fn a_pool_is_gone_with_its_last_job() {
    let mut pools = fair(&[]);
    enter(&mut pools, "a", 0);
    enter(&mut pools, "a", 1);
    pools.load(JobId(0), 3 * SLOT);
    pools.remove(JobId(0), StageRunId(0));
    pools.leave(JobId(0), 3 * SLOT);
    assert_eq!((pools.pools[&name("a")].jobs, pools.pools[&name("a")].load_nanos), (1, 0));
    pools.leave(JobId(1), 0);
    assert!(pools.jobs.is_empty() && pools.pools.is_empty());
}

/// Spark's rule as its documentation tells it, with quotients: the names of pools in the order in
/// which they are served.
fn restated(claims: &[(u32, u32, u32)]) -> Vec<usize> {
    let (mut needy, mut rich) = (Vec::new(), Vec::new());
    for (index, (running, min_share, weight)) in claims.iter().enumerate() {
        if running < min_share {
            needy.push((f64::from(*running) / f64::from(*min_share), index));
        } else {
            rich.push((f64::from(*running) / f64::from(*weight), index));
        }
    }
    needy.sort_by(|a, b| a.partial_cmp(b).unwrap());
    rich.sort_by(|a, b| a.partial_cmp(b).unwrap());
    needy.into_iter().chain(rich).map(|(_, index)| index).collect()
}

proptest! {
    #[test]
    fn pools_are_in_the_order_of_sparks_rule(
        claims in proptest::collection::vec((0_u32..20, 0_u32..8, 1_u32..8), 1..9)
    ) {
        let described = (0..).zip(&claims).map(|(index, (_, min_share, weight))| {
            (format!("p{index}"), *weight, *min_share)
        });
        let described: Vec<_> = described.collect();
        let pools: Vec<_> = described
            .iter()
            .map(|(name, weight, min)| (name.as_str(), SharingMode::Fifo, *weight, *min))
            .collect();
        let mut pools = fair(&pools);
        for (job, (running, ..)) in (0..).zip(&claims) {
            enter(&mut pools, &format!("p{job}"), job);
            pools.load(JobId(job), u64::from(*running) * SLOT);
        }
        let mut without = BTreeSet::new();
        let mut order = Vec::new();
        while let Some((job, stage)) = pools.neediest(&without) {
            without.insert(stage);
            order.push(job.0 as usize);
        }
        prop_assert_eq!(order, restated(&claims));
    }

    /// Slots that come free one by one: whoever has enough tasks ends up with its share.
    #[test]
    fn shares_are_in_proportion_to_weights(
        weights in proptest::collection::vec(1_u32..6, 2..6), rounds in 1_u32..20
    ) {
        let names: Vec<_> = (0..weights.len()).map(|index| format!("p{index}")).collect();
        let pools: Vec<_> = names
            .iter()
            .zip(&weights)
            .map(|(name, weight)| (name.as_str(), SharingMode::Fifo, *weight, 0))
            .collect();
        let mut pools = fair(&pools);
        let mut tasks = BTreeMap::new();
        for (job, name) in (0..).zip(&names) {
            enter(&mut pools, name, job);
            tasks.insert(job, u32::MAX);
        }
        let slots = rounds * weights.iter().sum::<u32>();
        serve(&mut pools, &mut tasks, slots as usize);
        let got: Vec<_> = (0..weights.len() as u32).map(|job| u32::MAX - tasks[&job]).collect();
        let shares: Vec<_> = weights.iter().map(|weight| weight * rounds).collect();
        prop_assert_eq!(got, shares);
    }
}
