//! One rule, one test: the whole list of actions after an event.
#![allow(clippy::unwrap_used)]

use super::{Action, Event, FailedAttempt, Near, Tasks};
use offshoot_proto::id::{
    AppId, AttemptId, ExecutorId, ExecutorNumber, JobId, NodeId, Partition, StageRunId, WorkerId,
};
use offshoot_proto::outcome::{ResultPlace, TaskDone, TaskFailure, TaskOutcome, TaskReport};
use offshoot_proto::scheduling::{PoolName, Scheduling};
use std::collections::BTreeMap;
use std::time::Duration;

mod explaining;
mod locality;
mod sharing;

mod retiring;

const MICRO: u64 = 1_000;
const SECOND: u64 = 1_000_000_000;

/// A scheduler whose every event is followed by a dispatch, and a check of its counts.
struct Env {
    tasks: Tasks,
    now: Duration,
    pool: PoolName,
}

fn executor(number: u32) -> ExecutorId {
    ExecutorId { app: AppId(1), number: ExecutorNumber(number) }
}

fn worker(number: u32) -> WorkerId {
    WorkerId(format!("w{number}"))
}

fn attempts(ids: impl IntoIterator<Item = u64>) -> Vec<AttemptId> {
    ids.into_iter().map(AttemptId).collect()
}

fn described(to: u32, run: u32) -> Action {
    Action::SendStage { executor: executor(to), run: StageRunId(run) }
}

fn dropped(to: u32, run: u32) -> Action {
    Action::DropStage { executor: executor(to), run: StageRunId(run) }
}

fn run<const N: usize>(to: u32, run: u32, tasks: [(u64, u32); N]) -> Action {
    let tasks = tasks.map(|(attempt, partition)| (AttemptId(attempt), Partition(partition)));
    Action::Run { executor: executor(to), run: StageRunId(run), tasks: tasks.to_vec() }
}

fn recall(from: u32, ids: impl IntoIterator<Item = u64>) -> Action {
    Action::Recall { executor: executor(from), attempts: attempts(ids) }
}

fn partition_done(stage: u32, partition: u32, by: u32, attempt: u64) -> Action {
    Action::PartitionDone {
        stage: StageRunId(stage),
        partition: Partition(partition),
        executor: executor(by),
        attempt: AttemptId(attempt),
        done: TaskDone::default(),
    }
}

fn failed_attempt(attempt: u64, by: u32, on: u32, text: &str) -> FailedAttempt {
    FailedAttempt {
        attempt: AttemptId(attempt),
        executor: executor(by),
        worker: worker(on),
        text: text.to_owned(),
    }
}

fn panicked(message: &str) -> TaskFailure {
    let message = message.to_owned();
    TaskFailure::Panic { message }
}

fn host(message: &str) -> TaskFailure {
    let message = message.to_owned();
    TaskFailure::Host { message }
}

/// How many tasks a list of actions gives out, and in how many frames.
fn given_out(actions: &[Action]) -> (usize, usize) {
    let tasks = actions.iter().filter_map(|action| match action {
        Action::Run { tasks, .. } => Some(tasks.len()),
        _ => None,
    });
    (tasks.clone().sum(), tasks.count())
}

// === impl Env ===

impl Env {
    /// One executor a worker.
    fn with_executors(slots: &[u32]) -> Self {
        Self::with(slots, &Scheduling::default())
    }

    fn with(slots: &[u32], scheduling: &Scheduling) -> Self {
        let tasks = Tasks::new(4, scheduling);
        let mut env = Self { tasks, now: Duration::ZERO, pool: PoolName::default() };
        for (number, slots) in (0..).zip(slots) {
            assert_eq!(env.add(number, number, *slots), []);
        }
        env
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.tasks.handle(event, &mut actions);
        self.tasks.dispatch(self.now, &mut actions);
        actions
    }

    fn add(&mut self, number: u32, on: u32, slots: u32) -> Vec<Action> {
        self.handle(Event::ExecutorAdded { executor: executor(number), worker: worker(on), slots })
    }

    fn submit(&mut self, stage: u32, job: u32, partitions: u32) -> Vec<Action> {
        self.handle(Event::StageSubmitted {
            stage: StageRunId(stage),
            job: JobId(job),
            pool: self.pool.clone(),
            partitions: (0..partitions).map(Partition).collect(),
            near: Near::default(),
        })
    }

    fn report(&mut self, by: u32, ids: &[u64], nanos: u64, outcome: TaskOutcome) -> Vec<Action> {
        let reports = ids.iter().map(|attempt| TaskReport {
            attempt: AttemptId(*attempt),
            run_nanos: nanos,
            outcome: outcome.clone(),
        });
        let reports = reports.collect();
        self.handle(Event::Reports { executor: executor(by), reports })
    }

    fn done(&mut self, by: u32, ids: &[u64], nanos: u64) -> Vec<Action> {
        self.report(by, ids, nanos, TaskOutcome::Done(TaskDone::default()))
    }

    fn fail(&mut self, by: u32, attempt: u64, failure: TaskFailure) -> Vec<Action> {
        self.report(by, &[attempt], MICRO, TaskOutcome::Failed(failure))
    }

    fn recalled(&mut self, by: u32, ids: &[u64]) -> Vec<Action> {
        self.handle(Event::Recalled {
            executor: executor(by),
            attempts: attempts(ids.iter().copied()),
        })
    }
}

#[test]
fn tasks_are_spread_over_free_slots_and_their_stage_is_described_once() {
    let mut env = Env::with_executors(&[2, 2]);
    assert_eq!(
        env.submit(7, 0, 3),
        [described(0, 7), run(0, 7, [(0, 0), (1, 1)]), described(1, 7), run(1, 7, [(2, 2)]),]
    );
    assert_eq!(env.done(0, &[1], SECOND), [partition_done(7, 1, 0, 1)]);
    assert_eq!(
        env.done(1, &[2], SECOND),
        [partition_done(7, 2, 1, 2)],
        "nobody has anything to give"
    );
    assert_eq!(
        env.done(0, &[0], SECOND),
        [
            partition_done(7, 0, 0, 0),
            dropped(0, 7),
            dropped(1, 7),
            Action::StageDone(StageRunId(7)),
        ]
    );
}

#[test]
fn while_nothing_is_known_a_slot_has_one_task_and_one_in_reserve() {
    let mut env = Env::with_executors(&[1]);
    let actions = env.submit(0, 0, 100);
    assert_eq!(actions, [described(0, 0), run(0, 0, [(0, 0), (1, 1)])]);
}

#[test]
fn five_milliseconds_are_queued_at_a_slot_and_refilled_when_half_is_left() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 1000);
    let first = env.done(0, &[0, 1], 100 * MICRO);
    assert_eq!(given_out(&first), (50, 1), "5 ms of 100 µs");
    let half = (2..27).collect::<Vec<_>>();
    let second = env.done(0, &half, 100 * MICRO);
    assert_eq!(given_out(&second), (0, 0), "half is left");
    let third = env.done(0, &[27], 100 * MICRO);
    assert_eq!(given_out(&third), (26, 1), "less than half is left");
}

#[test]
fn a_slot_holds_at_most_512_tasks() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 10_000);
    let actions = env.done(0, &[0, 1], MICRO);
    assert_eq!(given_out(&actions), (512, 1));
}

#[test]
fn jobs_are_served_in_order_then_stages() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 5, 3);
    assert_eq!(env.submit(2, 4, 1), []);
    assert_eq!(env.submit(1, 4, 1), []);
    assert_eq!(
        env.done(0, &[0, 1], SECOND)[2..],
        [described(0, 1), run(0, 1, [(2, 0)]), described(0, 2), run(0, 2, [(3, 0)]),]
    );
}

#[test]
fn a_guests_failure_is_tried_once_more_on_another_machine() {
    let mut env = Env::with_executors(&[1, 1]);
    env.submit(0, 0, 1);
    assert_eq!(
        env.fail(0, 0, panicked("boom")),
        [described(1, 0), run(1, 0, [(1, 0)])],
        "executor 0 is free and avoided"
    );
    assert_eq!(
        env.fail(1, 1, panicked("boom")),
        [Action::FailedForGood {
            stage: StageRunId(0),
            partition: Partition(0),
            failure: panicked("boom"),
            attempts: vec![failed_attempt(0, 0, 0, "boom"), failed_attempt(1, 1, 1, "boom"),],
        }]
    );
}

#[test]
fn a_guest_that_fails_differently_counts_as_transient_and_names_a_suspect() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 1);
    assert_eq!(env.fail(0, 0, panicked("a")), [run(0, 0, [(1, 0)])]);
    let attempts = vec![failed_attempt(0, 0, 0, "a"), failed_attempt(1, 0, 0, "b")];
    assert_eq!(
        env.fail(0, 1, panicked("b")),
        [
            Action::MachineSuspected { stage: StageRunId(0), partition: Partition(0), attempts },
            run(0, 0, [(2, 0)]),
        ]
    );
    let last = env.fail(0, 2, panicked("a"));
    assert!(matches!(last[..], [Action::FailedForGood { .. }]));
}

#[test]
fn transient_failures_and_crashes_are_counted_apart() {
    let crash = || TaskFailure::SlotCrashed { message: "signal 9".to_owned() };
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 1);
    for attempt in 0..3 {
        assert_eq!(
            env.fail(0, 2 * attempt, host("disk full")),
            [run(0, 0, [(2 * attempt + 1, 0)])]
        );
        assert_eq!(env.fail(0, 2 * attempt + 1, crash()), [run(0, 0, [(2 * attempt + 2, 0)])]);
    }
    let last = env.fail(0, 6, crash());
    assert!(
        matches!(&last[..], [Action::FailedForGood { attempts, .. }] if attempts.len() == 7),
        "{last:?}"
    );
}

#[test]
fn a_lost_executor_costs_its_tasks_nothing() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 2);
    for number in 1..20 {
        let attempt = 2 * u64::from(number);
        assert_eq!(env.handle(Event::ExecutorLost(executor(number - 1))), []);
        assert_eq!(
            env.add(number, 0, 1),
            [described(number, 0), run(number, 0, [(attempt, 0), (attempt + 1, 1)])]
        );
    }
    assert_eq!(env.tasks.attempts_in_flight(), 2);
}

#[test]
fn a_fetch_failure_is_told_and_not_counted() {
    let failure = TaskFailure::FetchFailed {
        writer: NodeId(1),
        map: Partition(2),
        map_attempt: AttemptId(3),
        worker: worker(0),
        executor: None,
        reason: "gone".to_owned(),
    };
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 1);
    for attempt in 0..10 {
        assert_eq!(
            env.fail(0, attempt, failure.clone()),
            [
                Action::FetchFailed {
                    stage: StageRunId(0),
                    run: StageRunId(0),
                    partition: Partition(0),
                    failure: failure.clone(),
                },
                run(0, 0, [(attempt + 1, 0)]),
            ]
        );
    }
}

#[test]
fn a_suspended_set_gives_nothing_out_and_goes_on_under_its_new_run() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 4);
    assert_eq!(env.handle(Event::StageSuspended(StageRunId(0))), [recall(0, [0, 1])]);
    assert_eq!(env.recalled(0, &[1]), []);
    assert_eq!(
        env.handle(Event::StageResumed { stage: StageRunId(0), run: StageRunId(3) }),
        [dropped(0, 0), described(0, 3), run(0, 3, [(2, 1)])],
        "what came back goes first; what runs under the old run stays valid"
    );
    assert_eq!(env.done(0, &[0], SECOND), [partition_done(0, 0, 0, 0), run(0, 3, [(3, 2)])]);
}

#[test]
fn a_cancelled_set_is_recalled_and_killed_and_holds_its_slots_until_it_is_gone() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 4);
    let kill = Action::Kill { executor: executor(0), attempts: attempts([0, 1]) };
    assert_eq!(
        env.handle(Event::StageCancelled(StageRunId(0))),
        [recall(0, [0, 1]), kill, dropped(0, 0)]
    );
    assert_eq!(env.submit(1, 1, 1), [], "two tasks are still there");
    let reserve = [described(0, 1), run(0, 1, [(2, 0)])];
    assert_eq!(env.recalled(0, &[1]), reserve);
    let held = TaskDone { result: ResultPlace::Held { length: 9 }, ..TaskDone::default() };
    assert_eq!(
        env.report(0, &[0], SECOND, TaskOutcome::Done(held)),
        [Action::DropResult { executor: executor(0), attempt: AttemptId(0) }]
    );
    assert_eq!(env.tasks.stale_reports(), 0, "it was expected");
}

#[test]
fn reports_of_strangers_change_nothing_and_are_counted() {
    let mut env = Env::with_executors(&[1, 1]);
    env.submit(0, 0, 1);
    assert_eq!(env.done(1, &[0], SECOND), [], "not its attempt");
    assert_eq!(env.done(0, &[1], SECOND), [], "never sent");
    assert_eq!(env.done(0, &[0], SECOND).len(), 3);
    assert_eq!(env.done(0, &[0], SECOND), [], "a second time");
    assert_eq!(env.recalled(0, &[0]), [], "over");
    assert_eq!(env.tasks.stale_reports(), 4);
}

#[test]
fn an_idle_executor_gets_half_of_what_another_has_queued() {
    let mut env = Env::with_executors(&[2]);
    env.submit(0, 0, 4);
    assert_eq!(env.add(1, 1, 2), [recall(0, [3])]);
    assert_eq!(env.recalled(0, &[3]), [described(1, 0), run(1, 0, [(4, 3)]), recall(0, [2])]);
    assert_eq!(env.recalled(0, &[]), [], "it has started: not asked again");
    assert_eq!(env.done(1, &[4], SECOND), [partition_done(0, 3, 1, 4)]);
}

#[test]
fn short_tasks_are_not_recalled() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 5);
    env.done(0, &[0, 1], 100 * MICRO);
    assert_eq!(env.add(1, 1, 1), []);
}

#[test]
fn one_million_tasks_cost_is_flat() {
    for tasks in [1_000, 1_000_000] {
        let mut env = Env::with_executors(&[2, 2]);
        let (mut frames, mut results) = (0, 0);
        let mut flying = std::collections::VecDeque::from([env.submit(0, 0, tasks)]);
        while let Some(actions) = flying.pop_front() {
            for action in actions {
                match action {
                    Action::Run { executor, tasks, .. } => {
                        frames += 1;
                        let number = executor.number.0;
                        for some in tasks.chunks(64) {
                            let ids = some.iter().map(|(id, _)| id.0).collect::<Vec<_>>();
                            flying.push_back(env.done(number, &ids, 2 * MICRO));
                        }
                    }
                    Action::PartitionDone { .. } => results += 1,
                    _ => {}
                }
            }
        }
        assert_eq!(results, tasks);
        assert!(frames <= 8 + tasks / 256, "{frames} frames for {tasks} tasks");
        assert_eq!(env.tasks.attempts_in_flight(), 0);
    }
}

#[test]
fn memory_follows_the_attempts_in_flight_not_the_oldest_of_them() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 100_000);
    for attempt in 1..50_000 {
        env.done(0, &[attempt], SECOND);
    }
    assert!(env.tasks.attempts.capacity() < 4096);
    let done = env.done(0, &[0], SECOND);
    assert_eq!(done[0], partition_done(0, 0, 0, 0), "the oldest is known");
}

#[test]
fn an_executor_runs_what_it_is_near_to_first_and_what_others_are_near_to_last() {
    let mut env = Env::with_executors(&[1, 1]);
    let executors = BTreeMap::from([(executor(0), vec![4, 5, 6, 7]), (executor(1), vec![2, 3])]);
    let near = Near { executors, ..Near::default() };
    let actions = env.handle(Event::StageSubmitted {
        stage: StageRunId(0),
        job: JobId(0),
        pool: PoolName::default(),
        partitions: (0..8).map(Partition).collect(),
        near,
    });
    assert_eq!(
        actions,
        [
            described(0, 0),
            run(0, 0, [(0, 4), (1, 5)]),
            described(1, 0),
            run(1, 0, [(2, 2), (3, 3)])
        ]
    );
    // Executor 1 has no more of its own: first what nobody is near to, then from the other's end.
    assert_eq!(env.done(1, &[2, 3], 1_000_000_000)[2..], [run(1, 0, [(4, 0), (5, 1)])]);
    assert_eq!(env.done(1, &[4, 5], 1_000_000_000)[2..], [run(1, 0, [(6, 7), (7, 6)])]);
}
