//! The DAG scheduler: cuts jobs into stages at their shuffles and says which may run when.
//!
//! ```text
//!         register, submit,                      Result, JobFinished, JobFailed,
//!         NodeDropped, JobDropped     ┌─────┐    FreeSnapshot, DropShuffle
//!   guest ──────────────────────────► │ dag │ ──────────────────────────────► driver
//!   tasks ──────────────────────────► │     │ ──────────────────────────────► tasks
//!         PartitionDone, StageDone,   └─────┘    Submit, Suspend, Resume, Cancel
//!         FetchFailed, FailedForGood
//! ```
//!
//! A stage computes one shuffle, for every job that needs it, or the result of one job. Somebody
//! must need it for it to be *active*: then it waits for its inputs to be complete, runs, and is
//! suspended while an input that has lost blocks is computed again. A shuffle that is complete is
//! never run.
//!
//! Rules that hold here (`ARCHITECTURE.md`, the fork and the failure model):
//! - a stage belongs to the snapshot in which it first ran, whoever asks for it later;
//! - what was computed once is computed again only if it was lost and an active stage reads it;
//! - every attempt of a partition of a stage in its snapshot has the same digest, or the jobs that
//!   need it fail.
//!
//! No walk over the graph recurses: lineages are as deep as a job's loops are long. Nothing here
//! depends on time.

use offshoot_proto::abi::JobSpec;
use offshoot_proto::executor::{CopyBlocks, KeptBlock};
use offshoot_proto::id::{
    AttemptId, ExecutorId, JobId, NodeId, Partition, SnapshotId, StageRunId, WorkerId,
};
use offshoot_proto::outcome::{TaskDone, TaskFailure};
use offshoot_proto::scheduling::PoolName;
use offshoot_proto::stage::{StageKind, StageRun};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

mod explain;
mod failure;
mod flow;
mod graph;
mod jobs;
mod kept;
mod moving;
mod near;
mod outputs;
mod places;
mod stage;
#[cfg(test)]
mod tests;

use crate::tasks::{FailedAttempt, Near};
use graph::Graph;
use jobs::{Job, Snapshots};
use kept::Copies;
use moving::Moves;
use outputs::Accepted;
use places::{PlaceIndex, Places, Seat};
use stage::{Phase, Stage, StageKey};

pub(crate) use explain::ActiveStage;
pub use graph::RegisterError;
pub use jobs::SubmitError;

/// A job as the driver submits it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSubmission {
    /// Its id, new.
    pub job: JobId,
    /// What the guest asked for.
    pub spec: JobSpec,
    /// The memory that the job's own stage, and the shuffles that it runs first, are forks of.
    pub snapshot: SnapshotId,
    /// What the tasks of its last stage leave behind: [`StageKind::Result`] or
    /// [`StageKind::Output`].
    pub kind: StageKind,
    /// With which other jobs it shares slots.
    pub pool: PoolName,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The guest has dropped its last handle of a node.
    NodeDropped(NodeId),
    /// Nobody wants the results of this job any more: it is cancelled if it runs, and forgotten.
    JobDropped(JobId),
    /// A held result could not be fetched from its executor.
    ResultLost {
        /// Whose.
        job: JobId,
        /// Which.
        partition: Partition,
        /// The attempt that it was said to be of.
        attempt: AttemptId,
    },
    /// An executor writes its shuffle output on this machine.
    ExecutorAdded {
        /// Who.
        executor: ExecutorId,
        /// Where it serves what it keeps in memory.
        address: SocketAddr,
        /// On which machine.
        worker: WorkerId,
        /// Where that serves shuffle blocks.
        worker_address: SocketAddr,
    },
    /// Blocks of kept datasets have come, moved or gone.
    Kept {
        /// Where.
        executor: ExecutorId,
        /// Which, and what became of them.
        blocks: Vec<KeptBlock>,
    },
    /// An executor is gone, with what it kept in memory. Its files stay with its worker.
    ExecutorLost(ExecutorId),
    /// A machine is gone, with the shuffle output on it.
    WorkerLost(WorkerId),
    /// A machine is to leave: what only it has is to be copied elsewhere.
    WorkerLeaves(WorkerId),
    /// It is to stay after all.
    WorkerStays(WorkerId),
    /// An executor is to go, or to stay after all.
    Retiring(ExecutorId, bool),
    /// Nothing is only on a machine that is to leave ([`Dag::needs`]): what was there is forgotten.
    Emptied(WorkerId),
    /// A partition of a set is computed.
    PartitionDone {
        /// The set, named by the run that it was submitted with.
        stage: StageRunId,
        /// Which partition.
        partition: Partition,
        /// Who computed it.
        executor: ExecutorId,
        /// In which attempt.
        attempt: AttemptId,
        /// What it left behind.
        done: TaskDone,
    },
    /// Every partition of a set has been computed.
    StageDone(StageRunId),
    /// A task could not read a block.
    FetchFailed {
        /// The set.
        stage: StageRunId,
        /// The run under which the attempt was sent.
        run: StageRunId,
        /// The reader's partition.
        partition: Partition,
        /// [`TaskFailure::FetchFailed`]; anything else is ignored.
        failure: TaskFailure,
    },
    /// A task has used up its attempts.
    FailedForGood {
        /// The set.
        stage: StageRunId,
        /// Which partition.
        partition: Partition,
        /// Every counted attempt, the last one last.
        attempts: Vec<FailedAttempt>,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Run these partitions. The run names the set from now on.
    Submit {
        /// The run.
        run: StageRun,
        /// Which partitions, in order.
        partitions: Vec<Partition>,
        /// The job's pool.
        pool: PoolName,
        /// Who is near to what they read.
        near: Near,
    },
    /// Start no more tasks of this set.
    Suspend(StageRunId),
    /// Go on with this set under another run, which says where its inputs are now.
    Resume {
        /// The set.
        stage: StageRunId,
        /// The run.
        run: StageRun,
    },
    /// Nobody needs this set any more.
    Cancel(StageRunId),
    /// A partition of a job is ready.
    Result {
        /// The job.
        job: JobId,
        /// Which partition.
        partition: Partition,
        /// Who computed it.
        executor: ExecutorId,
        /// In which attempt.
        attempt: AttemptId,
        /// What it left behind.
        done: TaskDone,
    },
    /// What the first accepted attempt of a partition said, for `main`.
    Updates(Vec<u8>),
    /// The held result of this attempt is not wanted.
    DropResult {
        /// Who holds it.
        executor: ExecutorId,
        /// Whose result.
        attempt: AttemptId,
    },
    /// Every partition of a job is ready. If some results are held by executors, the job stays
    /// until it is dropped, so that one that is lost can be computed again.
    JobFinished(JobId),
    /// A job cannot be finished. It is forgotten.
    JobFailed {
        /// Which.
        job: JobId,
        /// What, where, and what to do.
        message: String,
    },
    /// No job and no shuffle output needs this snapshot any more.
    FreeSnapshot(SnapshotId),
    /// No job and no node needs the output of this shuffle any more.
    DropShuffle(NodeId),
    /// An executor is to keep copies of blocks.
    Copy {
        /// Who.
        executor: ExecutorId,
        /// Of what.
        copy: CopyBlocks,
    },
    /// A stage has started, gone on or ended.
    Progress(StageProgress),
}

/// How far a stage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageProgress {
    /// The set, named by the run that it was submitted with.
    pub stage: StageRunId,
    /// The job on whose behalf it runs.
    pub job: JobId,
    /// What its node is called.
    pub name: String,
    /// Where the node is in the job's source.
    pub source: String,
    /// Partitions that are computed, this time or before.
    pub done: u32,
    /// Partitions that it has.
    pub total: u32,
    /// Whether it goes on.
    pub state: ProgressState,
}

/// Whether a stage goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// This is the first word of it.
    Started,
    /// It goes on.
    Running,
    /// This is the last word of it: complete, cancelled or failed.
    Ended,
}

/// The DAG scheduler.
#[derive(Debug, Default)]
pub struct Dag {
    graph: Graph,
    places: Places,
    jobs: BTreeMap<JobId, Job>,
    /// Every shuffle that was ever needed and not dropped, and the last stage of every job.
    stages: BTreeMap<StageKey, Stage>,
    /// The sets that run or are suspended.
    sets: BTreeMap<StageRunId, StageKey>,
    snapshots: Snapshots,
    runs: u32,
    copies: Copies,
    moves: Moves,
    /// Sets that have gone on since [`Dag::report_progress`], each once.
    moved: Vec<StageRunId>,
}

// === impl Dag ===

impl Dag {
    /// How many partitions a node has.
    pub fn partitions(&self, node: NodeId) -> Option<u32> {
        self.graph.spec(node).map(|spec| spec.partitions)
    }

    /// Takes in one event.
    pub fn handle(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::NodeDropped(node) => self.on_node_dropped(node, actions),
            Event::JobDropped(job) => self.end_job(job, actions),
            Event::ResultLost { job, partition, attempt } => {
                self.on_result_lost(job, partition, attempt, actions)
            }
            Event::ExecutorAdded { executor, address, worker, worker_address } => {
                self.places.add_executor(executor, address, worker, worker_address);
                self.copy_all(actions);
                self.moves.look_again();
            }
            Event::Kept { executor, blocks } => self.on_kept(executor, &blocks, actions),
            Event::ExecutorLost(executor) => self.on_executor_lost(executor, actions),
            Event::WorkerLost(worker) => self.on_worker_lost(&worker, actions),
            Event::WorkerLeaves(worker) => self.on_worker_leaves(&worker, true),
            Event::WorkerStays(worker) => self.on_worker_leaves(&worker, false),
            Event::Retiring(executor, retiring) => self.places.set_retiring(executor, retiring),
            Event::Emptied(worker) => self.on_emptied(&worker, actions),
            Event::PartitionDone { stage, partition, executor, attempt, done } => {
                self.on_partition_done(stage, partition, executor, attempt, done, actions)
            }
            Event::StageDone(stage) => self.on_stage_done(stage, actions),
            Event::FetchFailed { stage, run, partition, failure } => {
                self.on_fetch_failed(stage, run, partition, failure, actions)
            }
            Event::FailedForGood { stage, partition, attempts } => {
                self.on_failed_for_good(stage, partition, &attempts, actions)
            }
        }
        self.order_moves(actions);
    }

    /// Whether there is progress to report.
    pub fn has_progress(&self) -> bool {
        !self.moved.is_empty()
    }

    /// Reports how far the stages are that have gone on since the last call.
    pub fn report_progress(&mut self, actions: &mut Vec<Action>) {
        for set in std::mem::take(&mut self.moved) {
            let Some(key) = self.sets.get(&set).copied() else {
                continue;
            };
            if let Some(stage) = self.stages.get_mut(&key) {
                stage.moved = false;
            }
            self.progress(key, set, ProgressState::Running, actions);
        }
    }

    /// Jobs that have not ended.
    pub fn jobs_alive(&self) -> usize {
        self.jobs.len()
    }

    fn on_partition_done(
        &mut self,
        set: StageRunId,
        partition: Partition,
        executor: ExecutorId,
        attempt: AttemptId,
        mut done: TaskDone,
        actions: &mut Vec<Action>,
    ) {
        let key = self.sets.get(&set).copied();
        let seat = self.places.of(executor);
        let (Some(key), Some(Seat { files: machine, memory })) = (key, seat) else {
            drop_held(executor, attempt, &done, actions);
            return;
        };
        let Some(stage) = self.stages.get_mut(&key) else {
            return;
        };
        let place = if done.in_memory { memory } else { machine };
        match stage.outputs.accept(partition, attempt, (place, machine), done.digest) {
            Accepted::Unwanted => return drop_held(executor, attempt, &done, actions),
            Accepted::Differs { place: first } => {
                drop_held(executor, attempt, &done, actions);
                return self.on_digests_differ(key, partition, first, machine, actions);
            }
            // What is computed again because it was lost has been counted.
            Accepted::New { first: true } if !done.updates.is_empty() => {
                actions.push(Action::Updates(std::mem::take(&mut done.updates)));
            }
            Accepted::New { .. } => {}
        }
        let complete = stage.outputs.is_complete();
        if !std::mem::replace(&mut stage.moved, true) {
            self.moved.push(set);
        }
        if let StageKey::Shuffle(writer) = key {
            self.look_at(writer, partition);
        }
        if let StageKey::Result(job) = key {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.holds_results |= is_held(&done);
            }
            actions.push(Action::Result { job, partition, executor, attempt, done });
        }
        if complete {
            self.on_complete(key, actions);
        }
    }

    /// A set that ended while its stage is not complete has lost output meanwhile.
    fn on_stage_done(&mut self, set: StageRunId, actions: &mut Vec<Action>) {
        let Some(key) = self.sets.remove(&set) else {
            return;
        };
        self.progress(key, set, ProgressState::Ended, actions);
        let Some(stage) = self.stages.get_mut(&key) else {
            return;
        };
        stage.moved = false;
        let on = match std::mem::replace(&mut stage.phase, Phase::Idle) {
            Phase::Suspended { on, .. } | Phase::Waiting { on } => on,
            Phase::Running { .. } | Phase::Idle => Default::default(),
        };
        let start = on.is_empty();
        stage.phase = Phase::Waiting { on };
        if start {
            self.start(key, actions);
        }
    }

    fn on_result_lost(
        &mut self,
        job: JobId,
        partition: Partition,
        attempt: AttemptId,
        actions: &mut Vec<Action>,
    ) {
        let key = StageKey::Result(job);
        let lost = self.stages.get_mut(&key);
        if lost.is_some_and(|stage| stage.outputs.lose(partition, attempt)) {
            self.activate(key, job, actions);
        }
    }

    fn on_worker_lost(&mut self, worker: &WorkerId, actions: &mut Vec<Action>) {
        let files = self.places.index(worker, None);
        let was_leaving = files.is_some_and(|files| self.places.is_leaving(files));
        let Some(place) = self.places.lose(worker) else {
            return;
        };
        self.lose_place(place, actions);
        if was_leaving {
            self.describe_anew(worker, actions);
        }
        self.forget_gone();
    }

    /// Nothing is said to be with executors that are gone; but runs that were told to read there
    /// are told anew when their machines have left.
    fn forget_gone(&mut self) {
        let running = self.stages.values().filter(|s| matches!(s.phase, Phase::Running { .. }));
        let read: BTreeSet<_> = running.flat_map(|stage| &stage.reads_from).copied().collect();
        self.places.forget_gone(|place| read.contains(&place));
    }

    /// Everything that was served from one place is gone.
    fn lose_place(&mut self, place: PlaceIndex, actions: &mut Vec<Action>) {
        let shuffles = self.stages.iter_mut().filter_map(|(key, stage)| match key {
            StageKey::Shuffle(node) => (stage.outputs.lose_place(place) > 0).then_some(*node),
            StageKey::Result(_) => None,
        });
        for writer in shuffles.collect::<Vec<_>>() {
            self.on_output_lost(writer, actions);
        }
        self.copy_all(actions);
        self.moves.look_again();
    }
}

fn is_held(done: &TaskDone) -> bool {
    matches!(done.result, offshoot_proto::outcome::ResultPlace::Held { .. })
}

fn drop_held(executor: ExecutorId, attempt: AttemptId, done: &TaskDone, actions: &mut Vec<Action>) {
    if is_held(done) {
        actions.push(Action::DropResult { executor, attempt });
    }
}
