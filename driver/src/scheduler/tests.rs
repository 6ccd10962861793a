//! The two machines together: what an executor and the guest see of one small job.
#![allow(clippy::unwrap_used)]

use super::{Action, Event, JobSubmission, Scheduler};
use expect_test::{Expect, expect};
use offshoot_proto::abi::{Dependency, JobSpec, NarrowMap, NodeKind, NodeSpec, ResultOrder};
use offshoot_proto::executor::{BlockState, KeptBlock};
use offshoot_proto::id::{
    AppId, AttemptId, ExecutorId, ExecutorNumber, JobId, NodeId, Partition, SnapshotId, WorkerId,
};
use offshoot_proto::outcome::{TaskDone, TaskFailure, TaskOutcome, TaskReport};
use offshoot_proto::scheduling::{PoolName, Scheduling};
use offshoot_proto::stage::StageKind;
use std::time::Duration;

const EXECUTOR: ExecutorId = ExecutorId { app: AppId(1), number: ExecutorNumber(0) };

struct Env {
    scheduler: Scheduler,
    now: Duration,
}

// === impl Env ===

impl Env {
    /// One executor with two slots; a shuffle of two maps and one reducer; job 0 on it.
    fn new() -> (Self, Vec<Action>) {
        let mut scheduler = Scheduler::new(4, &Scheduling::default());
        let mut actions = Vec::new();
        let narrow = Dependency::Narrow { parent: NodeId(0), map: NarrowMap::OneToOne };
        let shuffle = Dependency::Shuffle { writer: NodeId(1) };
        let writes = NodeKind::ShuffleWrite { reducers: 1 };
        for (id, partitions, kind, dependencies) in [
            (0, 2, NodeKind::Records, vec![]),
            (1, 2, writes, vec![narrow]),
            (2, 1, NodeKind::Records, vec![shuffle]),
        ] {
            let spec = NodeSpec {
                id: NodeId(id),
                name: ["lines", "count", "top"][id as usize].to_owned(),
                source: format!("job.rs:{id}"),
                partitions,
                kind,
                dependencies,
            };
            scheduler.register(spec).unwrap();
        }
        let added = Event::ExecutorAdded {
            executor: EXECUTOR,
            address: ([10, 0, 0, 1], 4434).into(),
            worker: WorkerId("w0".to_owned()),
            worker_address: ([10, 0, 0, 1], 4433).into(),
            slots: 2,
        };
        scheduler.handle(Duration::ZERO, added, &mut actions);
        assert_eq!(actions, []);
        let submission = JobSubmission {
            job: JobId(0),
            spec: JobSpec {
                node: NodeId(2),
                partitions: vec![],
                order: ResultOrder::Partition,
                output: None,
                name: "collect".to_owned(),
                source: "job.rs:9".to_owned(),
            },
            snapshot: SnapshotId(1),
            kind: StageKind::Result,
            pool: PoolName::default(),
        };
        let submitted = scheduler.submit(Duration::ZERO, submission, &mut actions);
        assert_eq!(submitted, Ok(()));
        let now = Duration::ZERO;
        (Self { scheduler, now }, actions)
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.scheduler.handle(self.now, event, &mut actions);
        actions
    }

    fn report(&mut self, attempts: &[u64], outcome: TaskOutcome) -> Vec<Action> {
        let reports = attempts.iter().map(|attempt| TaskReport {
            attempt: AttemptId(*attempt),
            run_nanos: 1_000_000,
            outcome: outcome.clone(),
        });
        let reports = reports.collect();
        self.handle(Event::Reports { executor: EXECUTOR, reports })
    }

    fn done(&mut self, attempts: &[u64]) -> Vec<Action> {
        self.report(attempts, TaskOutcome::Done(TaskDone::default()))
    }
}

fn check(actions: &[Action], expected: &Expect) {
    let lines = actions.iter().map(|action| format!("{}\n", line(action)));
    expected.assert_eq(&lines.collect::<String>());
}

fn line(action: &Action) -> String {
    match action {
        Action::SendStage { stage, .. } => {
            let inputs = stage.inputs.iter().map(|input| &input.maps);
            let inputs = inputs.collect::<Vec<_>>();
            format!(
                "describe run {}: node {} in snapshot {}, reads {inputs:?}",
                stage.id, stage.node, stage.snapshot
            )
        }
        Action::DropStage { stage, .. } => format!("forget run {stage}"),
        Action::Run { stage, tasks, .. } => {
            let tasks = tasks.iter().map(|(attempt, p)| (attempt.0, p.0));
            format!("run {stage}: {:?}", tasks.collect::<Vec<_>>())
        }
        Action::JobResult { job, partition, attempt, .. } => {
            format!("job {job}: partition {partition} by attempt {attempt}")
        }
        Action::StageProgress(p) => {
            format!("stage {} `{}`: {:?} {}/{}", p.stage, p.name, p.state, p.done, p.total)
        }
        Action::Recall { attempts, .. } => format!("recall {}", ids(attempts)),
        Action::Kill { attempts, .. } => format!("kill {}", ids(attempts)),
        Action::JobFailed { job, message } => {
            format!("job {job} failed:\n{}", message.replacen(", stage", ",\nstage", 1))
        }
        other => format!("{other:?}"),
    }
}

fn ids(attempts: &[AttemptId]) -> String {
    let ids = attempts.iter().map(|attempt| attempt.to_string());
    ids.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_job_from_submission_to_result() {
    let (mut env, actions) = Env::new();
    check(
        &actions,
        &expect![[r#"
        stage 0 `count`: Started 0/2
        describe run 0: node 1 in snapshot 1, reads []
        run 0: [(0, 0), (1, 1)]
    "#]],
    );
    check(&env.done(&[0]), &expect![[r#""#]]);
    check(
        &env.done(&[1]),
        &expect![[r#"
        forget run 0
        stage 0 `count`: Ended 2/2
        stage 1 `top`: Started 0/1
        describe run 1: node 2 in snapshot 1, reads [[(0, AttemptId(0)), (0, AttemptId(1))]]
        run 1: [(2, 0)]
    "#]],
    );
    check(
        &env.done(&[2]),
        &expect![[r#"
        forget run 1
        job 0: partition 0 by attempt 2
        stage 1 `top`: Ended 1/1
        JobFinished(JobId(0))
    "#]],
    );
    for node in 0..2 {
        assert_eq!(env.handle(Event::NodeDropped(NodeId(node))), []);
    }
    check(
        &env.handle(Event::NodeDropped(NodeId(2))),
        &expect![[r#"
            DropShuffle { node: NodeId(1) }
            FreeSnapshot(SnapshotId(1))
        "#]],
    );
}

#[test]
fn a_job_that_fails_stops_its_tasks_before_anything_of_it_is_freed() {
    let (mut env, _) = Env::new();
    let panicked = || TaskOutcome::Failed(TaskFailure::Panic { message: "boom".to_owned() });
    check(
        &env.report(&[0], panicked()),
        &expect![[r#"
        run 0: [(2, 0)]
    "#]],
    );
    check(
        &env.report(&[2], panicked()),
        &expect![[r#"
            job 0 failed:
            job 0 `collect` (job.rs:9),
            stage 0 `count` (job.rs:1), partition 0: boom (2 attempts, on w0, said the same)
            stage 0 `count`: Ended 0/2
            recall 1
            kill 1
            forget run 0
            FreeSnapshot(SnapshotId(1))
        "#]],
    );
    assert_eq!(env.scheduler.jobs_alive(), 0);
    assert_eq!(env.scheduler.attempts_in_flight(), 1, "until it is reported");
}

#[test]
fn progress_is_told_at_most_ten_times_a_second() {
    let (mut env, _) = Env::new();
    assert_eq!(env.scheduler.next_timeout(), None);
    env.now = Duration::from_millis(250);
    env.done(&[0]);
    let due = Duration::from_millis(350);
    assert_eq!(env.scheduler.next_timeout(), Some(due));
    let mut actions = Vec::new();
    let early = Duration::from_millis(349);
    env.scheduler.handle_timeout(early, &mut actions);
    assert_eq!(actions, []);
    env.scheduler.handle_timeout(due, &mut actions);
    check(
        &actions,
        &expect![[r#"
        stage 0 `count`: Running 1/2
    "#]],
    );
    assert_eq!(env.scheduler.next_timeout(), None);
}

#[test]
fn a_lost_worker_takes_its_executors_along() {
    let (mut env, _) = Env::new();
    env.handle(Event::WorkerLost(WorkerId("w0".to_owned())));
    assert_eq!(env.scheduler.attempts_in_flight(), 0);
    assert_eq!(env.done(&[0, 1]), [], "too late");
    assert_eq!(env.scheduler.stale_reports(), 2);
}

#[test]
fn a_worker_that_leaves_is_done_with_when_its_executors_and_outputs_are_elsewhere() {
    let (mut env, _) = Env::new();
    env.done(&[0, 1]);
    let left = WorkerId("w0".to_owned());
    let leaves = env.handle(Event::WorkerLeaves(left.clone()));
    check(
        &leaves,
        &expect![[r#"
        recall 2
    "#]],
    );
    let other = ExecutorId { number: ExecutorNumber(1), ..EXECUTOR };
    let added = env.handle(Event::ExecutorAdded {
        executor: other,
        address: ([10, 0, 0, 2], 4434).into(),
        worker: WorkerId("w1".to_owned()),
        worker_address: ([10, 0, 0, 2], 4433).into(),
        slots: 2,
    });
    let [Action::Copy { executor, copy }] = &added[..] else { panic!("{added:?}") };
    assert_eq!((*executor, copy.blocks.len()), (other, 2));
    let retired = env.done(&[2]);
    assert_eq!(retired.last(), Some(&Action::Retired(EXECUTOR)), "what it wrote is in files");
    let copied = |(map, attempt): (Partition, AttemptId)| {
        let blocks = vec![KeptBlock { writer: NodeId(1), map, attempt, state: BlockState::OnDisk }];
        Event::Kept { executor: other, blocks }
    };
    assert_eq!(env.handle(copied(copy.blocks[0])), []);
    let drained = [Action::Drained(left.clone())];
    assert_eq!(env.handle(copied(copy.blocks[1])), drained);
    assert_eq!(env.handle(Event::NodeDropped(NodeId(0))), [], "said once");
    assert_eq!(env.handle(Event::WorkerLeaves(left)), drained, "to the next master, too");
}
