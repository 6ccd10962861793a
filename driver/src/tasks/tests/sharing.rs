//! Pools on executors: what is sent, and what is asked back.

use super::*;
use offshoot_proto::scheduling::{PoolSettings, SharingMode};
use std::collections::VecDeque;

fn fair(pools: &[(&str, u32)]) -> Scheduling {
    let mut scheduling = Scheduling { mode: SharingMode::Fair, ..Scheduling::default() };
    for (name, weight) in pools {
        let settings = PoolSettings { weight: *weight, ..PoolSettings::default() };
        scheduling.pools.insert(PoolName::new(name).unwrap(), settings);
    }
    scheduling
}

impl Env {
    fn submit_to(&mut self, pool: &str, stage: u32, partitions: u32) -> Vec<Action> {
        self.pool = PoolName::new(pool).unwrap();
        self.submit(stage, stage, partitions)
    }
}

/// How many tasks of each stage are given out.
fn by_stage(actions: &[Action]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for action in actions {
        if let Action::Run { run, tasks, .. } = action {
            *counts.entry(run.0).or_default() += tasks.len();
        }
    }
    counts
}

#[test]
fn what_is_queued_makes_way_for_another_pool_which_gets_the_next_slot() {
    let mut env = Env::with(&[2], &fair(&[]));
    assert_eq!(
        env.submit_to("a", 0, 10),
        [described(0, 0), run(0, 0, [(0, 0), (1, 1), (2, 2), (3, 3)])]
    );
    assert_eq!(env.submit_to("b", 1, 10), [recall(0, [3, 2])]);
    assert_eq!(env.recalled(0, &[2, 3]), [], "two run");
    assert_eq!(
        env.done(0, &[0], SECOND)[1..],
        [described(0, 1), run(0, 1, [(4, 0)])],
        "nothing is queued behind long tasks"
    );
    assert_eq!(env.done(0, &[1], SECOND)[1..], [run(0, 0, [(5, 2)])], "a slot each");
}

#[test]
fn long_tasks_of_pools_get_slots_by_weight() {
    let mut env = Env::with(&[6], &fair(&[("b", 2)]));
    env.submit_to("a", 0, 1);
    env.submit_to("a", 1, 100);
    let actions = env.submit_to("b", 2, 100);
    assert!(matches!(actions[..], [Action::Recall { .. }]));
    env.recalled(0, &[6, 7, 8, 9, 10, 11]);
    let mut stages: BTreeMap<u64, u32> = (0..6).map(|id| (id, u32::from(id > 0))).collect();
    for _ in 0..60 {
        let (oldest, _) = stages.pop_first().unwrap();
        for action in env.done(0, &[oldest], SECOND) {
            if let Action::Run { run, tasks, .. } = action {
                stages.extend(tasks.iter().map(|(attempt, _)| (attempt.0, run.0)));
            }
        }
        assert_eq!(stages.len(), 6, "every slot runs one");
    }
    let of_b = stages.values().filter(|stage| **stage == 2).count();
    assert_eq!(of_b, 4, "{stages:?}");
}

#[test]
fn short_tasks_take_as_many_slots_as_long_ones_and_not_as_many_tasks() {
    let mut env = Env::with(&[2], &fair(&[]));
    let mut short = VecDeque::new();
    let mut long = 0;
    let mut note = |actions: Vec<Action>, short: &mut VecDeque<u64>| {
        for action in actions {
            match action {
                Action::Run { run: StageRunId(0), tasks, .. } => {
                    short.extend(tasks.iter().map(|(attempt, _)| attempt.0));
                }
                Action::Run { tasks, .. } => long += tasks.len(),
                _ => {}
            }
        }
    };
    note(env.submit_to("short", 0, 10_000), &mut short);
    for number in 0..2000 {
        if number == 300 {
            note(env.submit_to("long", 1, 100), &mut short);
        }
        let ended = short.pop_front().expect("a slot idles");
        note(env.done(0, &[ended], 100 * MICRO), &mut short);
        let most = if number < 400 { 100 } else { 50 };
        assert!(short.len() <= most, "{number}: {} are sent ahead", short.len());
    }
    assert_eq!(long, 1, "one slot runs a long one, the other five milliseconds of short ones");
}

#[test]
fn a_least_share_is_not_exceeded_by_a_slots_worth_of_short_tasks() {
    let mut scheduling = fair(&[]);
    let settings = PoolSettings { min_share: 3, ..PoolSettings::default() };
    scheduling.pools.insert(PoolName::new("b").unwrap(), settings);
    let mut env = Env::with(&[4], &scheduling);
    env.submit_to("a", 0, 10_000);
    env.done(0, &[0], 400 * MICRO);
    env.submit_to("b", 1, 10_000);
    let mut sent: BTreeMap<u64, u32> = (1..9).map(|id| (id, 0)).collect();
    let (mut of_b, mut of_a) = (0, 0);
    for number in 0..2400 {
        let (ended, of) = sent.pop_first().unwrap();
        let counts = if of == 1 { &mut of_b } else { &mut of_a };
        *counts += u32::from(number >= 400);
        for action in env.done(0, &[ended], 400 * MICRO) {
            if let Action::Run { run, tasks, .. } = action {
                sent.extend(tasks.iter().map(|(attempt, _)| (attempt.0, run.0)));
            }
        }
    }
    assert!((1460..=1540).contains(&of_b), "three of four are 1500: {of_b} and {of_a}");
}

#[test]
fn who_comes_first_has_everything_in_fifo_mode() {
    let mut env = Env::with_executors(&[1]);
    env.submit_to("a", 0, 4);
    assert_eq!(env.submit_to("b", 1, 4), []);
    assert_eq!(by_stage(&env.done(0, &[0, 1], SECOND)), BTreeMap::from([(0, 2)]));
}

#[test]
fn a_pool_alone_is_served_as_if_there_were_none() {
    let mut env = Env::with(&[1], &fair(&[]));
    env.submit_to("a", 0, 10_000);
    assert_eq!(given_out(&env.done(0, &[0, 1], 100 * MICRO)), (50, 1));
    assert_eq!(env.submit_to("a", 1, 10), [], "jobs of a fifo pool, in order");
}
