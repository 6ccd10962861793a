//! One rule, one test: the whole list of actions after an event.
#![allow(clippy::unwrap_used)]

use super::{Action, Dag, Event, JobSubmission, Near, ProgressState, SubmitError};
use offshoot_proto::abi::{Dependency, JobSpec, NarrowMap, NodeKind, NodeSpec, ResultOrder};
use offshoot_proto::id::{
    AppId, AttemptId, ExecutorId, ExecutorNumber, JobId, NodeId, Partition, SnapshotId, StageRunId,
    WorkerId,
};
use offshoot_proto::outcome::{ResultPlace, TaskDone, TaskFailure};
use offshoot_proto::scheduling::PoolName;
use offshoot_proto::stage::{ShuffleInput, ShufflePlace, StageKind, StageRun};
use std::collections::BTreeMap;

mod keeping;
mod leaving;
mod lineage;
mod losses;

const SOURCE: NodeId = NodeId(0);
const WRITER: NodeId = NodeId(1);
const READER: NodeId = NodeId(2);

/// A DAG scheduler with executors 0 and 1 on workers `w0` and `w1`, checked after every event.
struct Env {
    dag: Dag,
}

fn executor(number: u32) -> ExecutorId {
    ExecutorId { app: AppId(1), number: ExecutorNumber(number) }
}

fn place(number: u32) -> ShufflePlace {
    ShufflePlace {
        worker: WorkerId(format!("w{number}")),
        executor: None,
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
    Dependency::Narrow { parent: NodeId(parent), map: NarrowMap::OneToOne }
}

fn range(parent: u32, start: u32) -> Dependency {
    Dependency::Narrow { parent: NodeId(parent), map: NarrowMap::Range { start } }
}

fn shuffle(writer: u32) -> Dependency {
    Dependency::Shuffle { writer: NodeId(writer) }
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
        inputs: vec![ShuffleInput { writer: WRITER, places, maps: maps.to_vec(), copies: vec![] }],
    }
}

fn submitted(run: StageRun, ids: impl IntoIterator<Item = u32>) -> Action {
    let partitions = partitions(ids);
    let near = Near { mostly: mostly(&run), ..Near::default() };
    Action::Submit { run, pool: PoolName::default(), partitions, near }
}

/// The machine that has more than half of what a run of one shuffle reads.
fn mostly(run: &StageRun) -> Option<WorkerId> {
    let input = run.inputs.first()?;
    let maps = |index| input.maps.iter().filter(|(place, _)| *place == index).count();
    let most = (0..).zip(&input.places).find(|(index, _)| 2 * maps(*index) > input.maps.len());
    most.map(|(_, place)| place.worker.clone())
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
        let mut env = Self { dag: Dag::default() };
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
            pool: PoolName::default(),
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
            address: place.address,
            worker: place.worker,
            worker_address: place.address,
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
                executor: None,
                reason: "no such block".to_owned(),
            },
        })
    }

    fn lose_worker(&mut self, number: u32) -> Vec<Action> {
        self.handle(Event::WorkerLost(place(number).worker))
    }
}

#[test]
fn a_job_is_cut_at_its_shuffle_and_reads_where_the_maps_are() {
    let mut env = Env::with_shuffle();
    assert_eq!(env.submit(0, READER, []), [submitted(map_run(0, 0, 1), [0, 1])]);
    assert_eq!(env.done(0, 0, 1, 10), []);
    let places = vec![place(1), place(0)];
    assert_eq!(
        env.done(0, 1, 0, 11),
        [submitted(reduce_run(1, 0, [(0, 10), (1, 11)], places), [0, 1])]
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
        [Action::DropShuffle(WRITER), Action::FreeSnapshot(SnapshotId(1))]
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
        [result(0, 7, 3), Action::JobFinished(JobId(0)), Action::FreeSnapshot(SnapshotId(1)),]
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
        [submitted(reduce(1, 0), [0, 1]), submitted(reduce(2, 1), [0, 1])]
    );
    env.finish(0);
    assert_eq!(env.submit(2, READER, []), [submitted(reduce(3, 2), [0, 1])]);
}

#[test]
fn independent_stages_run_at_once() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, write(2), vec![narrow(0)]));
    env.register(node(4, 2, NodeKind::Records, vec![shuffle(3), shuffle(1)]));
    let second = StageRun { node: NodeId(3), ..map_run(1, 0, 1) };
    assert_eq!(
        env.submit(0, NodeId(4), []),
        [submitted(map_run(0, 0, 1), [0, 1]), submitted(second, [0, 1])]
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
        [Action::Cancel(StageRunId(1)), Action::FreeSnapshot(SnapshotId(3)),]
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
