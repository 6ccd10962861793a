#![allow(clippy::unwrap_used)]
//! One rule, one test: the whole list of actions after an event.

use super::{Action, Dag, Event, JobSubmission, ProgressState, RegisterError, SubmitError};
use offshoot_proto::abi::{Dependency, JobSpec, NarrowMap, NodeKind, NodeSpec, ResultOrder};
use offshoot_proto::id::{
    AppId, AttemptId, ExecutorId, ExecutorNumber, JobId, NodeId, Partition, SnapshotId, StageRunId,
    WorkerId,
};
use offshoot_proto::outcome::{ResultPlace, TaskDone, TaskFailure};
use offshoot_proto::stage::{ShuffleInput, ShufflePlace, StageKind, StageRun};

const SOURCE: NodeId = NodeId(0);
const WRITER: NodeId = NodeId(1);
const READER: NodeId = NodeId(2);

/// A DAG scheduler with executors 0 and 1 on workers `w0` and `w1`, checked after every event.
struct Env {
    dag: Dag,
}

fn executor(number: u32) -> ExecutorId {
    ExecutorId {
        app: AppId(1),
        number: ExecutorNumber(number),
    }
}

fn place(number: u32) -> ShufflePlace {
    ShufflePlace {
        worker: WorkerId(format!("w{number}")),
        address: ([10, 0, 0, number as u8], 4433).into(),
    }
}

fn node(id: u32, partitions: u32, kind: NodeKind, dependencies: Vec<Dependency>) -> NodeSpec {
    NodeSpec {
        id: NodeId(id),
        name: format!("op{id}"),
        source: format!("job.rs:{id}"),
        partitions,
        kind,
        dependencies,
    }
}

fn narrow(parent: u32) -> Dependency {
    Dependency::Narrow {
        parent: NodeId(parent),
        map: NarrowMap::OneToOne,
    }
}

fn range(parent: u32, start: u32) -> Dependency {
    Dependency::Narrow {
        parent: NodeId(parent),
        map: NarrowMap::Range { start },
    }
}

fn shuffle(writer: u32) -> Dependency {
    Dependency::Shuffle {
        writer: NodeId(writer),
    }
}

fn write(reducers: u32) -> NodeKind {
    NodeKind::ShuffleWrite { reducers }
}

fn partitions(ids: impl IntoIterator<Item = u32>) -> Vec<Partition> {
    ids.into_iter().map(Partition).collect()
}

/// A run of `WRITER` for a job in a snapshot.
fn map_run(id: u32, job: u32, snapshot: u32) -> StageRun {
    StageRun {
        id: StageRunId(id),
        job: JobId(job),
        snapshot: SnapshotId(snapshot),
        node: WRITER,
        kind: StageKind::ShuffleWrite { reducers: 2 },
        inputs: vec![],
    }
}

/// A run of `READER` for a job, whose snapshot is the job's number plus 1.
fn reduce_run(id: u32, job: u32, maps: [(u32, u64); 2], places: Vec<ShufflePlace>) -> StageRun {
    let maps = maps.map(|(place, attempt)| (place, AttemptId(attempt)));
    StageRun {
        id: StageRunId(id),
        job: JobId(job),
        snapshot: SnapshotId(job + 1),
        node: READER,
        kind: StageKind::Result,
        inputs: vec![ShuffleInput {
            writer: WRITER,
            places,
            maps: maps.to_vec(),
        }],
    }
}

fn submitted(run: StageRun, ids: impl IntoIterator<Item = u32>) -> Action {
    let partitions = partitions(ids);
    Action::Submit { run, partitions }
}

fn resumed(stage: u32, run: StageRun) -> Action {
    let stage = StageRunId(stage);
    Action::Resume { stage, run }
}

fn suspended(stage: u32) -> Action {
    Action::Suspend(StageRunId(stage))
}

fn result(job: u32, partition: u32, attempt: u64) -> Action {
    Action::Result {
        job: JobId(job),
        partition: Partition(partition),
        executor: executor(0),
        attempt: AttemptId(attempt),
        done: TaskDone::default(),
    }
}

fn failed_message(actions: &[Action]) -> &str {
    let messages = actions.iter().filter_map(|action| match action {
        Action::JobFailed { message, .. } => Some(message.as_str()),
        _ => None,
    });
    let messages = messages.collect::<Vec<_>>();
    assert_eq!(messages.len(), 1, "{actions:?}");
    messages[0]
}

// === impl Env ===

impl Env {
    fn new() -> Self {
        let mut env = Self {
            dag: Dag::default(),
        };
        for number in 0..2 {
            assert_eq!(env.add_executor(number), []);
        }
        env
    }

    /// 2 maps, 2 reducers: `SOURCE`, `WRITER`, `READER`.
    fn with_shuffle() -> Self {
        let mut env = Self::new();
        env.register(node(0, 2, NodeKind::Records, vec![]));
        env.register(node(1, 2, write(2), vec![narrow(0)]));
        env.register(node(2, 2, NodeKind::Records, vec![shuffle(1)]));
        env
    }

    /// The same with job 0 running its reduce side as set 1: map 0 was attempt 10 on `w0`, map 1
    /// was attempt 11 on `w1`.
    fn reducing() -> Self {
        let mut env = Self::with_shuffle();
        env.submit(0, READER, []);
        env.done(0, 0, 0, 10);
        env.done(0, 1, 1, 11);
        env.finish(0);
        env
    }

    fn register(&mut self, spec: NodeSpec) {
        self.dag.register(spec).unwrap();
    }

    /// What an event leads to, without progress.
    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.dag.handle(event, &mut actions);
        self.seen(actions)
    }

    fn seen(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        self.dag.check();
        actions.retain(|action| !matches!(action, Action::Progress(_)));
        actions
    }

    fn submission<const N: usize>(job: u32, node: NodeId, wanted: [u32; N]) -> JobSubmission {
        JobSubmission {
            job: JobId(job),
            spec: JobSpec {
                node,
                partitions: partitions(wanted),
                order: ResultOrder::Partition,
                output: None,
                name: "collect".to_owned(),
                source: "job.rs:99".to_owned(),
            },
            snapshot: SnapshotId(job + 1),
            kind: StageKind::Result,
        }
    }

    fn submit<const N: usize>(&mut self, job: u32, node: NodeId, wanted: [u32; N]) -> Vec<Action> {
        let mut actions = Vec::new();
        let submission = Self::submission(job, node, wanted);
        self.dag.submit(submission, &mut actions).unwrap();
        self.seen(actions)
    }

    fn refused<const N: usize>(&mut self, job: u32, node: u32, wanted: [u32; N]) -> SubmitError {
        let submission = Self::submission(job, NodeId(node), wanted);
        let mut actions = Vec::new();
        let error = self.dag.submit(submission, &mut actions).unwrap_err();
        assert_eq!(actions, []);
        error
    }

    fn add_executor(&mut self, number: u32) -> Vec<Action> {
        let place = place(number);
        self.handle(Event::ExecutorAdded {
            executor: executor(number),
            worker: place.worker,
            address: place.address,
        })
    }

    fn report(
        &mut self,
        stage: u32,
        partition: u32,
        by: u32,
        attempt: u64,
        done: TaskDone,
    ) -> Vec<Action> {
        self.handle(Event::PartitionDone {
            stage: StageRunId(stage),
            partition: Partition(partition),
            executor: executor(by),
            attempt: AttemptId(attempt),
            done,
        })
    }

    fn done(&mut self, stage: u32, partition: u32, by: u32, attempt: u64) -> Vec<Action> {
        self.report(stage, partition, by, attempt, TaskDone::default())
    }

    fn finish(&mut self, stage: u32) -> Vec<Action> {
        self.handle(Event::StageDone(StageRunId(stage)))
    }

    /// An attempt of set `stage`, sent under `run`, cannot read what `map_attempt` left on `on`.
    fn fetch_failed(&mut self, (stage, run): (u32, u32), map: (u32, u64, u32)) -> Vec<Action> {
        self.handle(Event::FetchFailed {
            stage: StageRunId(stage),
            run: StageRunId(run),
            partition: Partition(0),
            failure: TaskFailure::FetchFailed {
                writer: WRITER,
                map: Partition(map.0),
                map_attempt: AttemptId(map.1),
                worker: place(map.2).worker,
                reason: "no such block".to_owned(),
            },
        })
    }

    fn lose_worker(&mut self, number: u32) -> Vec<Action> {
        self.handle(Event::WorkerLost(place(number).worker))
    }
}

#[test]
fn nodes_that_contradict_themselves_or_others_are_refused() {
    let mut env = Env::with_shuffle();
    let records = NodeKind::Records;
    let mut check = |spec: NodeSpec, text: &str| {
        let error = env.dag.register(spec).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    };
    check(node(0, 2, records, vec![]), "registered already");
    check(
        node(9, 0, records, vec![]),
        "0 partitions, must be 1 to 1048576",
    );
    check(
        node(9, (1 << 20) + 1, records, vec![]),
        "1048577 partitions",
    );
    check(node(9, 1, write(0), vec![]), "0 reducers");
    check(node(9, 1, records, vec![narrow(8)]), "node 8, which is not");
    check(node(9, 2, records, vec![narrow(1)]), "node 1 as records");
    check(node(9, 2, records, vec![shuffle(0)]), "node 0 as a shuffle");
    check(node(9, 3, records, vec![narrow(0)]), "out of range");
    check(node(9, 3, records, vec![range(0, 2)]), "out of range");
    check(
        node(9, 3, records, vec![range(0, u32::MAX)]),
        "out of range",
    );
    check(node(9, 3, records, vec![shuffle(1)]), "has 2 reducers");
    check(node(9, 2, records, vec![narrow(0); 4097]), "limit 4096");
    let mut named = node(9, 2, records, vec![]);
    named.name = "x".repeat(257);
    check(named, "a name of 257 bytes, limit 256");
    assert_eq!(
        env.dag.register(node(9, 3, records, vec![narrow(9)])),
        Err(RegisterError::UnknownParent {
            node: NodeId(9),
            parent: NodeId(9),
        }),
        "cycles cannot be said"
    );
    env.register(node(9, 4, records, vec![range(0, 0), range(0, 2)]));
}

#[test]
fn jobs_that_cannot_run_are_refused() {
    let mut env = Env::reducing();
    let refused = env.refused(1, 8, []).to_string();
    assert!(refused.contains("node 8, which is not registered"));
    assert!(env.refused(1, 1, []).to_string().contains("is a shuffle"));
    let refused = env.refused(1, 2, [0, 2]).to_string();
    assert!(refused.contains("partition 2 of node 2, which has 2"));
    let refused = env.refused(1, 2, [1, 1]).to_string();
    assert!(refused.contains("partition 1 more than once"));
    assert!(env.refused(0, 2, []).to_string().contains("already"));
}

#[test]
fn a_job_is_cut_at_its_shuffle_and_reads_where_the_maps_are() {
    let mut env = Env::with_shuffle();
    assert_eq!(
        env.submit(0, READER, []),
        [submitted(map_run(0, 0, 1), [0, 1])]
    );
    assert_eq!(env.done(0, 0, 1, 10), []);
    let places = vec![place(1), place(0)];
    assert_eq!(
        env.done(0, 1, 0, 11),
        [submitted(
            reduce_run(1, 0, [(0, 10), (1, 11)], places),
            [0, 1]
        )]
    );
    assert_eq!(env.finish(0), []);
    assert_eq!(env.done(1, 1, 0, 12), [result(0, 1, 12)]);
    assert_eq!(
        env.done(1, 0, 0, 13),
        [result(0, 0, 13), Action::JobFinished(JobId(0))],
        "its snapshot is kept for the shuffle"
    );
    assert_eq!(env.handle(Event::NodeDropped(SOURCE)), []);
    assert_eq!(env.handle(Event::NodeDropped(WRITER)), []);
    assert_eq!(
        env.handle(Event::NodeDropped(READER)),
        [
            Action::DropShuffle(WRITER),
            Action::FreeSnapshot(SnapshotId(1))
        ]
    );
}

#[test]
fn a_job_runs_only_the_partitions_that_it_asks_for() {
    let mut env = Env::new();
    env.register(node(0, 9, NodeKind::Records, vec![]));
    let actions = env.submit(0, SOURCE, [7, 3]);
    assert!(
        matches!(&actions[..], [Action::Submit { partitions: p, .. }] if *p == partitions([7, 3]))
    );
    assert_eq!(env.done(0, 4, 0, 1), [], "it did not ask for that");
    assert_eq!(env.done(0, 3, 0, 2), [result(0, 3, 2)]);
    assert_eq!(
        env.done(0, 7, 0, 3),
        [
            result(0, 7, 3),
            Action::JobFinished(JobId(0)),
            Action::FreeSnapshot(SnapshotId(1)),
        ]
    );
}

#[test]
fn a_complete_shuffle_is_skipped_and_one_in_progress_joined() {
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    assert_eq!(env.submit(1, READER, []), [], "job 0 computes it");
    env.done(0, 0, 0, 10);
    let reduce = |id, job| reduce_run(id, job, [(0, 10), (0, 11)], vec![place(0)]);
    assert_eq!(
        env.done(0, 1, 0, 11),
        [
            submitted(reduce(1, 0), [0, 1]),
            submitted(reduce(2, 1), [0, 1])
        ]
    );
    env.finish(0);
    assert_eq!(env.submit(2, READER, []), [submitted(reduce(3, 2), [0, 1])]);
}

#[test]
fn independent_stages_run_at_once() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, write(2), vec![narrow(0)]));
    env.register(node(4, 2, NodeKind::Records, vec![shuffle(3), shuffle(1)]));
    let second = StageRun {
        node: NodeId(3),
        ..map_run(1, 0, 1)
    };
    assert_eq!(
        env.submit(0, NodeId(4), []),
        [
            submitted(map_run(0, 0, 1), [0, 1]),
            submitted(second, [0, 1])
        ]
    );
    env.done(1, 0, 0, 10);
    assert_eq!(env.done(1, 1, 0, 11), [], "the other is not there yet");
}

#[test]
fn dropping_a_job_cancels_what_no_other_job_needs() {
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    env.submit(1, READER, []);
    env.submit(2, SOURCE, []);
    assert_eq!(
        env.handle(Event::JobDropped(JobId(2))),
        [
            Action::Cancel(StageRunId(1)),
            Action::FreeSnapshot(SnapshotId(3)),
        ]
    );
    assert_eq!(env.handle(Event::JobDropped(JobId(0))), [], "it began in 1");
    assert_eq!(
        env.handle(Event::JobDropped(JobId(1))),
        [
            Action::Cancel(StageRunId(0)),
            Action::FreeSnapshot(SnapshotId(1)),
            Action::FreeSnapshot(SnapshotId(2)),
        ]
    );
    assert_eq!(
        env.submit(3, READER, []),
        [submitted(map_run(2, 3, 4), [0, 1])],
        "nothing was computed: it belongs to no snapshot yet"
    );
}

#[test]
fn a_lost_worker_costs_nothing_until_its_output_is_needed_then_only_that_in_its_snapshot() {
    let mut env = Env::reducing();
    env.done(1, 0, 0, 12);
    env.done(1, 1, 0, 13);
    assert_eq!(env.lose_worker(0), []);
    assert_eq!(
        env.submit(5, READER, []),
        [submitted(map_run(2, 5, 1), [0])],
        "in snapshot 1, though job 5 has snapshot 6"
    );
    let places = vec![place(1)];
    assert_eq!(
        env.done(2, 0, 1, 20),
        [submitted(
            reduce_run(3, 5, [(0, 20), (0, 11)], places),
            [0, 1]
        )]
    );
}

#[test]
fn a_worker_lost_under_a_reader_suspends_it_and_it_goes_on_with_what_it_has() {
    let mut env = Env::reducing();
    assert_eq!(env.done(1, 0, 0, 12), [result(0, 0, 12)]);
    assert_eq!(
        env.lose_worker(1),
        [suspended(1), submitted(map_run(2, 0, 1), [1])]
    );
    assert_eq!(env.done(2, 1, 1, 20), [], "its executor is lost as well");
    assert_eq!(
        env.done(2, 1, 0, 21),
        [resumed(
            1,
            reduce_run(3, 0, [(0, 10), (0, 21)], vec![place(0)])
        )]
    );
    assert_eq!(
        env.done(1, 1, 0, 14),
        [result(0, 1, 14), Action::JobFinished(JobId(0))]
    );
}

#[test]
fn a_map_that_loses_output_while_it_runs_runs_the_lost_part_again() {
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    assert_eq!(env.lose_worker(0), []);
    assert_eq!(env.done(0, 1, 1, 11), []);
    assert_eq!(env.finish(0), [submitted(map_run(1, 0, 1), [0])]);
}

#[test]
fn a_fetch_failure_reruns_that_map_and_late_ones_rerun_nothing() {
    let mut env = Env::reducing();
    assert_eq!(
        env.fetch_failed((1, 1), (0, 10, 0)),
        [suspended(1), submitted(map_run(2, 0, 1), [0])]
    );
    assert_eq!(env.fetch_failed((1, 1), (0, 10, 0)), [], "the same block");
    let run = reduce_run(3, 0, [(0, 20), (0, 11)], vec![place(1)]);
    assert_eq!(env.done(2, 0, 1, 20), [resumed(1, run)]);
    assert_eq!(env.finish(2), []);
    assert_eq!(
        env.fetch_failed((1, 1), (0, 10, 0)),
        [],
        "attempt 10 was replaced by attempt 20"
    );
}

#[test]
fn the_second_failure_in_a_row_distrusts_everything_on_that_worker() {
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.finish(0);
    assert_eq!(
        env.fetch_failed((1, 1), (0, 10, 0)),
        [suspended(1), submitted(map_run(2, 0, 1), [0])]
    );
    env.done(2, 0, 0, 20);
    env.finish(2);
    assert_eq!(
        env.fetch_failed((1, 3), (1, 11, 0)),
        [suspended(1), submitted(map_run(4, 0, 1), [0, 1])]
    );
}

#[test]
fn four_fetch_failures_in_a_row_fail_the_job_naming_block_and_worker() {
    let mut env = Env::reducing();
    let mut attempt = 10;
    let (mut reduce, mut map) = (1, 2);
    for _ in 0..3 {
        env.fetch_failed((1, reduce), (0, attempt, 0));
        attempt += 10;
        env.done(map, 0, 0, attempt);
        env.finish(map);
        (reduce, map) = (map + 1, map + 2);
    }
    let actions = env.fetch_failed((1, reduce), (0, attempt, 0));
    assert_eq!(
        failed_message(&actions),
        "job 0 `collect` (job.rs:99): stage 1 `op2` (job.rs:2) failed 4 times in a row because \
         shuffle blocks could not be read; last, partition 0 could not read what map partition 0 \
         of shuffle `op1` (job.rs:1) (attempt 40) left on worker w0: no such block. Check that \
         worker's disk and network, or drain it"
    );
    assert_eq!(actions[1..], [Action::Cancel(StageRunId(1))]);
}

#[test]
fn fetch_failures_that_are_not_in_a_row_do_not_fail_the_job() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, write(2), vec![narrow(2)]));
    env.register(node(4, 2, NodeKind::Records, vec![shuffle(3)]));
    env.submit(0, NodeId(4), []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.finish(0);
    let (mut attempt, mut next) = (10, 1);
    for round in 0..6 {
        // The second shuffle is computed after one failure, then lost.
        let stage = next;
        let actions = env.fetch_failed((stage, stage), (0, attempt, 0));
        assert_eq!(actions[0], suspended(stage), "round {round}");
        attempt += 10;
        env.done(next + 1, 0, 0, attempt);
        env.finish(next + 1);
        env.done(stage, 0, 1, attempt + 1);
        let actions = env.done(stage, 1, 1, attempt + 2);
        let started = match &actions[0] {
            Action::Submit { run, .. } | Action::Resume { run, .. } => run,
            other => panic!("{other:?}"),
        };
        assert_eq!(started.node, NodeId(4), "the second shuffle is complete");
        env.finish(stage);
        let actions = env.lose_worker(1);
        env.add_executor(1);
        let [Action::Suspend(_), Action::Submit { run, .. }] = &actions[..] else {
            panic!("{actions:?}");
        };
        next = run.id.0;
    }
}

#[test]
fn different_bytes_from_two_attempts_fail_the_job_naming_both_workers() {
    let mut env = Env::reducing();
    env.lose_worker(1);
    env.add_executor(1);
    let other = TaskDone {
        digest: 7,
        ..TaskDone::default()
    };
    let actions = env.report(2, 1, 0, 20, other);
    let message = failed_message(&actions);
    assert!(
        message.contains("partition 1") && message.contains("w1") && message.contains("w0"),
        "{message}"
    );
}

#[test]
fn a_held_result_that_is_lost_is_computed_again() {
    let held = || TaskDone {
        result: ResultPlace::Held { length: 1 },
        ..TaskDone::default()
    };
    let mut env = Env::new();
    env.register(node(0, 2, NodeKind::Records, vec![]));
    env.submit(0, SOURCE, []);
    env.report(0, 0, 0, 10, held());
    let last = env.report(0, 1, 1, 11, held());
    assert_eq!(last[1..], [Action::JobFinished(JobId(0))], "it stays");
    env.finish(0);
    let lost = |attempt| Event::ResultLost {
        job: JobId(0),
        partition: Partition(1),
        attempt: AttemptId(attempt),
    };
    assert_eq!(env.handle(lost(9)), [], "not the accepted attempt");
    let actions = env.handle(lost(11));
    assert!(
        matches!(&actions[..], [Action::Submit { partitions: p, .. }] if *p == partitions([1]))
    );
    assert_eq!(
        env.done(1, 1, 0, 12),
        [result(0, 1, 12), Action::JobFinished(JobId(0))]
    );
    assert_eq!(
        env.handle(Event::JobDropped(JobId(0))),
        [Action::FreeSnapshot(SnapshotId(1))]
    );
}

#[test]
fn a_snapshot_can_be_reclaimed_unless_it_is_needed_and_its_shuffles_are_then_computed_whole() {
    let mut env = Env::reducing();
    let mut actions = Vec::new();
    assert!(!env.dag.reclaim(SnapshotId(1), &mut actions), "job 0 runs");
    env.done(1, 0, 0, 12);
    env.done(1, 1, 0, 13);
    assert_eq!(actions, []);
    assert!(env.dag.reclaim(SnapshotId(1), &mut actions));
    assert_eq!(
        actions,
        [
            Action::FreeSnapshot(SnapshotId(1)),
            Action::DropShuffle(WRITER)
        ]
    );
    assert_eq!(
        env.submit(1, READER, []),
        [submitted(map_run(2, 1, 2), [0, 1])]
    );
}

#[test]
fn what_was_computed_from_a_reclaimed_snapshot_is_computed_whole_as_well() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, write(2), vec![narrow(2)]));
    env.register(node(4, 2, NodeKind::Records, vec![shuffle(3)]));
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.handle(Event::JobDropped(JobId(0)));
    env.submit(1, NodeId(4), []);
    env.done(2, 0, 0, 12);
    env.done(2, 1, 0, 13);
    env.handle(Event::JobDropped(JobId(1)));
    let mut actions = Vec::new();
    assert!(env.dag.reclaim(SnapshotId(1), &mut actions));
    assert_eq!(
        actions,
        [
            Action::FreeSnapshot(SnapshotId(1)),
            Action::DropShuffle(WRITER),
            Action::FreeSnapshot(SnapshotId(2)),
            Action::DropShuffle(NodeId(3)),
        ],
        "the second shuffle was made in snapshot 2, of output made in snapshot 1"
    );
}

#[test]
fn a_shuffle_that_was_read_keeps_its_snapshot_when_all_its_output_is_lost() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, write(2), vec![narrow(2)]));
    env.register(node(4, 2, NodeKind::Records, vec![shuffle(3)]));
    env.submit(0, NodeId(4), []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.finish(0);
    env.done(1, 0, 1, 12);
    env.lose_worker(0);
    env.handle(Event::JobDropped(JobId(0)));
    assert_eq!(
        env.submit(1, NodeId(4), []),
        [submitted(map_run(3, 1, 1), [0, 1])],
        "map 0 of the second shuffle was computed from what snapshot 1 gives"
    );
}

#[test]
fn progress_has_a_first_and_a_last_word_and_says_the_rest_once() {
    let mut env = Env::with_shuffle();
    let states = |actions: &[Action]| {
        let said = actions.iter().filter_map(|action| match action {
            Action::Progress(p) => Some((p.stage.0, p.state, p.done, p.total)),
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    let mut actions = Vec::new();
    let submission = Env::submission(0, SOURCE, []);
    env.dag.submit(submission, &mut actions).unwrap();
    assert_eq!(states(&actions), [(0, ProgressState::Started, 0, 2)]);
    env.done(0, 0, 0, 10);
    actions.clear();
    env.dag.report_progress(&mut actions);
    assert_eq!(states(&actions), [(0, ProgressState::Running, 1, 2)]);
    actions.clear();
    env.dag.report_progress(&mut actions);
    assert_eq!(actions, []);
    env.dag.handle(Event::JobDropped(JobId(0)), &mut actions);
    assert_eq!(states(&actions), [(0, ProgressState::Ended, 1, 2)]);
}

#[test]
fn a_lineage_of_ten_thousand_shuffles_is_walked_without_recursion() {
    let mut env = Env::new();
    let count = 10_000;
    env.register(node(0, 1, NodeKind::Records, vec![]));
    for id in 0..count {
        let (writer, reader) = (2 * id + 1, 2 * id + 2);
        env.register(node(writer, 1, write(1), vec![narrow(writer - 1)]));
        env.register(node(reader, 1, NodeKind::Records, vec![shuffle(writer)]));
    }
    let last = NodeId(2 * count);
    env.submit(0, last, []);
    let mut actions = Vec::new();
    for stage in 0..count {
        let event = Event::PartitionDone {
            stage: StageRunId(stage),
            partition: Partition(0),
            executor: executor(stage % 2),
            attempt: AttemptId(u64::from(stage)),
            done: TaskDone::default(),
        };
        env.dag.handle(event, &mut actions);
    }
    env.done(count, 0, 0, 1_000_000);
    for id in 0..=2 * count {
        env.dag.handle(Event::NodeDropped(NodeId(id)), &mut actions);
    }
    let dropped = actions
        .iter()
        .filter(|a| matches!(a, Action::DropShuffle(_)));
    assert_eq!(dropped.count(), count as usize);
}
