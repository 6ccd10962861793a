//! The DAG scheduler and the task scheduler as one machine: what the driver's event loop calls.
//!
//! ```text
//!   guest ───────┐             ┌─────┐  sets   ┌───────┐            ┌─────► executors
//!   executors ───┼── Event ──► │ dag │◄───────►│ tasks │── Action ─►┤
//!   master ──────┘             └─────┘ results └───────┘            └─────► guest, progress bars
//! ```
//!
//! One event goes to the machine that it concerns; what that machine says goes to the other or
//! out, until both are silent; then tasks are given out. Two things depend on time: how often
//! progress is reported, and how long tasks wait for a slot near what they read.

use crate::dag::{self, Dag};
use crate::tasks::{self, FailedAttempt, Tasks};
use leaving::Leaving;
use offshoot_proto::abi::NodeSpec;
use offshoot_proto::executor::{CopyBlocks, KeptBlock};
use offshoot_proto::id::{
    AttemptId, ExecutorId, JobId, NodeId, Partition, SnapshotId, StageRunId, WorkerId,
};
use offshoot_proto::outcome::{TaskDone, TaskReport};
use offshoot_proto::scheduling::Scheduling;
use offshoot_proto::stage::StageRun;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod explain;
mod leaving;
mod route;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use crate::dag::{JobSubmission, RegisterError, StageProgress, SubmitError};

/// Progress of a stage is reported at most this often, but for its beginning and its end: ten
/// times a second looks smooth.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The guest has dropped its last handle of a node.
    NodeDropped(NodeId),
    /// Nobody wants the results of this job any more: it is cancelled if it runs, and forgotten.
    JobDropped(JobId),
    /// A held result could not be fetched: its executor is gone. If the job was finished, it
    /// runs again and will be finished again.
    ResultLost {
        /// Whose.
        job: JobId,
        /// Which.
        partition: Partition,
        /// The attempt that it was said to be of.
        attempt: AttemptId,
    },
    /// An executor is ready for tasks.
    ExecutorAdded {
        /// Who.
        executor: ExecutorId,
        /// Where it serves what it keeps in memory.
        address: SocketAddr,
        /// The machine that serves its shuffle files.
        worker: WorkerId,
        /// Where that listens.
        worker_address: SocketAddr,
        /// How many tasks it runs at once.
        slots: u32,
    },
    /// Blocks of kept datasets have come, moved or gone.
    Kept {
        /// Where.
        executor: ExecutorId,
        /// Which, and what became of them.
        blocks: Vec<KeptBlock>,
    },
    /// An executor is gone, with what it kept in memory. Its shuffle output stays with its worker.
    ExecutorLost(ExecutorId),
    /// An executor is to go: it is given no more tasks. [`Action::Retired`] follows.
    Retire(ExecutorId),
    /// It is to stay after all.
    Unretire(ExecutorId),
    /// A machine is gone, with its executors and the shuffle output on it.
    WorkerLost(WorkerId),
    /// A machine is to leave: its executors retire, and what only it has is copied to others.
    /// [`Action::Drained`] follows.
    WorkerLeaves(WorkerId),
    /// It is to stay after all. Its executors may retire all the same.
    WorkerStays(WorkerId),
    /// Attempts ended.
    Reports {
        /// Where.
        executor: ExecutorId,
        /// Which, and how.
        reports: Vec<TaskReport>,
    },
    /// The answer to [`Action::Recall`].
    Recalled {
        /// Who answers.
        executor: ExecutorId,
        /// Of those asked for, the ones given back.
        attempts: Vec<AttemptId>,
    },
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Describe a run to an executor, before the tasks that name it.
    SendStage {
        /// To whom.
        executor: ExecutorId,
        /// The run; one for all executors.
        stage: Arc<StageRun>,
    },
    /// No more tasks that name this run will follow.
    DropStage {
        /// To whom.
        executor: ExecutorId,
        /// Which run.
        stage: StageRunId,
    },
    /// Run these.
    Run {
        /// To whom.
        executor: ExecutorId,
        /// The run that they name.
        stage: StageRunId,
        /// In the order in which they are to start.
        tasks: Vec<(AttemptId, Partition)>,
    },
    /// Ask for those of these back that have not started. One answer is expected to each.
    Recall {
        /// Whom.
        executor: ExecutorId,
        /// Which.
        attempts: Vec<AttemptId>,
    },
    /// Stop these. Those that have started are reported as killed, or as what they came to.
    Kill {
        /// To whom.
        executor: ExecutorId,
        /// Which.
        attempts: Vec<AttemptId>,
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
    /// A partition of a job is ready.
    JobResult {
        /// The job.
        job: JobId,
        /// Which partition.
        partition: Partition,
        /// Who computed it, and may hold it.
        executor: ExecutorId,
        /// In which attempt.
        attempt: AttemptId,
        /// What it left behind.
        done: TaskDone,
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
    /// The output of this shuffle is not needed any more, anywhere.
    DropShuffle {
        /// The writer.
        node: NodeId,
    },
    /// An executor is to keep copies of blocks. An [`Event::Kept`] is expected for each.
    Copy {
        /// Who.
        executor: ExecutorId,
        /// Of what.
        copy: CopyBlocks,
    },
    /// An executor that was to go runs nothing any more. Nothing is sent to it from now on; what it
    /// kept in memory counts as gone.
    Retired(ExecutorId),
    /// No executor is on a machine that is to leave, and nothing that is nowhere else.
    Drained(WorkerId),
    /// For progress bars.
    StageProgress(StageProgress),
    /// For the log: one partition failed in different ways, which the same bytes cannot.
    MachineSuspected {
        /// The stage, as in [`StageProgress`].
        stage: StageRunId,
        /// Which partition.
        partition: Partition,
        /// Every counted attempt so far.
        attempts: Vec<FailedAttempt>,
    },
}

/// Both schedulers.
#[derive(Debug)]
pub struct Scheduler {
    dag: Dag,
    tasks: Tasks,
    /// The newest run of each set, which its next tasks name.
    runs: BTreeMap<StageRunId, Arc<StageRun>>,
    /// The set of each of them.
    sets: BTreeMap<StageRunId, StageRunId>,
    /// By machine, for when it is lost.
    executors: BTreeMap<ExecutorId, WorkerId>,
    leaving: Leaving,
    progress_due: Option<Duration>,
    /// What frees something: said after what stops those who use it.
    last_words: Vec<Action>,
    from_dag: Vec<dag::Action>,
    from_tasks: Vec<tasks::Action>,
    #[cfg(debug_assertions)]
    steps: u64,
}

// === impl Scheduler ===

impl Scheduler {
    /// Nothing to do and nobody to do it; `failures_max` is `task-max-failures`.
    pub fn new(failures_max: u32, scheduling: &Scheduling) -> Self {
        Self {
            dag: Dag::default(),
            tasks: Tasks::new(failures_max, scheduling),
            runs: BTreeMap::new(),
            sets: BTreeMap::new(),
            executors: BTreeMap::new(),
            leaving: Leaving::default(),
            progress_due: None,
            last_words: Vec::new(),
            from_dag: Vec::new(),
            from_tasks: Vec::new(),
            #[cfg(debug_assertions)]
            steps: 0,
        }
    }

    /// Adds a node to the lineage graph.
    pub fn register(&mut self, spec: NodeSpec) -> Result<(), RegisterError> {
        self.dag.register(spec)
    }

    /// How many partitions a node has.
    pub fn partitions(&self, node: NodeId) -> Option<u32> {
        self.dag.partitions(node)
    }

    /// Starts a job. On an error nothing has changed, and the snapshot is the caller's to free.
    pub fn submit(
        &mut self,
        now: Duration,
        submission: JobSubmission,
        actions: &mut Vec<Action>,
    ) -> Result<(), SubmitError> {
        self.dag.submit(submission, &mut self.from_dag)?;
        self.settle(now, actions);
        Ok(())
    }

    /// Gives up a snapshot for the sake of a new one, when as many are alive as may be: drops the
    /// shuffle output made in it, to be computed whole by whoever needs it again. Returns false,
    /// and changes nothing, if a job needs it now.
    pub fn reclaim(
        &mut self,
        now: Duration,
        snapshot: SnapshotId,
        actions: &mut Vec<Action>,
    ) -> bool {
        let reclaimed = self.dag.reclaim(snapshot, &mut self.from_dag);
        self.settle(now, actions);
        reclaimed
    }

    /// Takes in one event.
    pub fn handle(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::NodeDropped(node) => self.tell_dag(dag::Event::NodeDropped(node)),
            Event::JobDropped(job) => self.tell_dag(dag::Event::JobDropped(job)),
            Event::ResultLost { job, partition, attempt } => {
                self.tell_dag(dag::Event::ResultLost { job, partition, attempt })
            }
            Event::ExecutorAdded { executor, address, worker, worker_address, slots } => {
                self.on_executor_added(executor, address, (worker, worker_address), slots)
            }
            Event::Kept { executor, blocks } => {
                self.tell_dag(dag::Event::Kept { executor, blocks });
            }
            Event::ExecutorLost(executor) => self.on_executor_lost(executor),
            Event::Retire(executor) => self.on_retire(executor),
            Event::Unretire(executor) => self.on_unretire(executor),
            Event::WorkerLost(worker) => self.on_worker_lost(worker),
            Event::WorkerLeaves(worker) => self.on_worker_leaves(worker),
            Event::WorkerStays(worker) => self.on_worker_stays(worker),
            Event::Reports { executor, reports } => {
                self.tell_tasks(tasks::Event::Reports { executor, reports });
            }
            Event::Recalled { executor, attempts } => {
                self.tell_tasks(tasks::Event::Recalled { executor, attempts });
            }
        }
        self.settle(now, actions);
    }

    /// When [`Scheduler::handle_timeout`] wants to be called, if nothing happens before.
    pub fn next_timeout(&self) -> Option<Duration> {
        [self.progress_due, self.tasks.next_timeout()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.progress_due.is_some_and(|due| due <= now) {
            self.progress_due = None;
            self.dag.report_progress(&mut self.from_dag);
        }
        self.settle(now, actions);
    }

    /// Reports and answers about attempts that were unknown, over or somebody else's.
    pub fn stale_reports(&self) -> u64 {
        self.tasks.stale_reports()
    }

    /// Attempts that have been sent and not ended.
    pub fn attempts_in_flight(&self) -> usize {
        self.tasks.attempts_in_flight()
    }

    /// Tasks that could run now or do, whether they have been sent or not.
    pub fn unfinished(&self) -> u64 {
        self.tasks.unfinished()
    }

    /// Executors that have got their first attempt or ended their last one since the last call,
    /// and whether they have nothing to do now.
    pub fn take_turned(&mut self) -> Vec<(ExecutorId, bool)> {
        self.tasks.take_turned()
    }

    /// Whether losing this executor would lose the only copy of a block of a kept dataset.
    pub fn keeps_only_copy(&self, executor: ExecutorId) -> bool {
        self.dag.keeps_only_copy(executor)
    }

    /// Jobs that have not ended.
    pub fn jobs_alive(&self) -> usize {
        self.dag.jobs_alive()
    }

    fn on_executor_added(
        &mut self,
        executor: ExecutorId,
        address: SocketAddr,
        (worker, worker_address): (WorkerId, SocketAddr),
        slots: u32,
    ) {
        self.executors.insert(executor, worker.clone());
        self.tell_dag(dag::Event::ExecutorAdded {
            executor,
            address,
            worker: worker.clone(),
            worker_address,
        });
        self.tell_tasks(tasks::Event::ExecutorAdded { executor, worker, slots });
        self.retire_if_leaving(executor);
    }

    pub(super) fn on_executor_lost(&mut self, executor: ExecutorId) {
        self.executors.remove(&executor);
        self.tell_dag(dag::Event::ExecutorLost(executor));
        self.tell_tasks(tasks::Event::ExecutorLost(executor));
    }

    /// What its executors still report would name output that nobody serves.
    fn on_worker_lost(&mut self, worker: WorkerId) {
        for executor in self.executors_on(&worker) {
            self.on_executor_lost(executor);
        }
        self.leaving.stays(&worker);
        self.tell_dag(dag::Event::WorkerLost(worker));
    }

    fn tell_dag(&mut self, event: dag::Event) {
        self.dag.handle(event, &mut self.from_dag);
    }

    fn tell_tasks(&mut self, event: tasks::Event) {
        self.tasks.handle(event, &mut self.from_tasks);
    }

    /// Carries what the machines say to where it belongs until they are silent.
    fn settle(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut dispatched = false;
        loop {
            if !self.from_dag.is_empty() {
                let mut said = std::mem::take(&mut self.from_dag);
                for action in said.drain(..) {
                    self.route_dag(action, actions);
                }
                keep_room(&mut self.from_dag, said);
            } else if !self.from_tasks.is_empty() {
                let mut said = std::mem::take(&mut self.from_tasks);
                for action in said.drain(..) {
                    self.route_tasks(action, actions);
                }
                keep_room(&mut self.from_tasks, said);
            } else if self.settle_leaving() {
                dispatched = false;
            } else if !std::mem::replace(&mut dispatched, true) {
                self.tasks.dispatch(now, &mut self.from_tasks);
            } else {
                break;
            }
        }
        actions.append(&mut self.last_words);
        if self.progress_due.is_none() && self.dag.has_progress() {
            self.progress_due = Some(now + PROGRESS_INTERVAL);
        }
        #[cfg(debug_assertions)]
        self.check_sometimes();
    }

    fn describe(&mut self, set: StageRunId, run: StageRun) {
        self.forget(set);
        self.sets.insert(run.id, set);
        self.runs.insert(set, Arc::new(run));
    }

    fn forget(&mut self, set: StageRunId) {
        if let Some(run) = self.runs.remove(&set) {
            self.sets.remove(&run.id);
        }
    }

    /// The first steps, then one in 1,024: a check costs as much as there are stages.
    #[cfg(debug_assertions)]
    fn check_sometimes(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(1024) || self.steps < 64 {
            self.dag.check();
        }
    }
}

/// Gives a drained list its place back, unless the place has been used meanwhile.
fn keep_room<T>(list: &mut Vec<T>, drained: Vec<T>) {
    if list.is_empty() {
        *list = drained;
    }
}
