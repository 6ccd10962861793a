//! Why tasks wait, one state after the other.

use super::*;
use offshoot_proto::explain::{PendingTasks, TaskWait};

fn reasons(env: &Env, stage: u32) -> Vec<(u32, TaskWait)> {
    let explained = env.tasks.explain(env.now, StageRunId(stage));
    let waiting: u32 = explained.pending.iter().map(|pending| pending.tasks).sum();
    assert_eq!(waiting, explained.waiting);
    let reason = |PendingTasks { tasks, reason }| (tasks, reason);
    explained.pending.into_iter().map(reason).collect()
}

#[test]
fn what_waits_for_executors_and_slots_says_so() {
    let mut env = Env::with_executors(&[]);
    env.submit(0, 0, 5);
    assert_eq!(reasons(&env, 0), [(5, TaskWait::NoExecutors)]);
    env.add(0, 0, 2);
    assert_eq!(env.tasks.explain(env.now, StageRunId(0)).running, 4);
    assert_eq!(reasons(&env, 0), [(1, TaskWait::SlotsBusy { slots: 2 })]);
    env.handle(Event::Retire(executor(0)));
    assert_eq!(reasons(&env, 0), [(1, TaskWait::Retiring)]);
    assert_eq!(reasons(&env, 7), [], "it is not here");
}

#[test]
fn what_waits_for_a_near_slot_says_for_whose_and_for_how_long() {
    let mut env = Env::with_executors(&[1, 1]);
    let executors = BTreeMap::from([(executor(0), (0..5).collect())]);
    env.handle(Event::StageSubmitted {
        stage: StageRunId(0),
        job: JobId(0),
        pool: PoolName::default(),
        partitions: (0..5).map(Partition).collect(),
        near: Near { executors, ..Near::default() },
    });
    env.now = Duration::from_millis(30);
    let reason = TaskWait::Locality { near: vec![executor(0)], left_millis: 70 };
    assert_eq!(reasons(&env, 0), [(3, reason)]);
}

#[test]
fn what_failed_where_slots_are_free_says_so() {
    let mut env = Env::with_executors(&[1, 1]);
    env.submit(0, 0, 1);
    env.submit(1, 1, 2);
    assert_eq!(env.fail(0, 0, panicked("boom")), [], "the other executor is full");
    let excluded = TaskWait::Excluded { executors: vec![executor(0)] };
    assert_eq!(reasons(&env, 0), [(1, excluded)]);
}
