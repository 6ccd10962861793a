//! The task scheduler: puts the tasks of submitted stages on executors and judges how they end.
//!
//! ```text
//!         StageSubmitted, Suspended,                PartitionDone, StageDone,
//!         Resumed, Cancelled          ┌───────┐     FetchFailed, FailedForGood
//!   dag ────────────────────────────► │ tasks │ ─────────────────────────────► dag
//!   executors ──────────────────────► │       │ ─────────────────────────────► executors
//!         Reports, Recalled           └───────┘     SendStage, Run, Recall, Kill
//! ```
//!
//! A *set* is the tasks of one stage that are to be run. It is named by the id of the run that it
//! was submitted with and keeps that name when it is resumed under a newer run, which differs in
//! nothing but where its inputs are. Attempts that were sent under an older run stay valid.
//!
//! [`Tasks::handle`] takes in what happened, [`Tasks::dispatch`] then gives out work: whoever
//! calls lets the DAG scheduler react in between, so that nothing is sent only to be recalled.
//! Time is an argument, and only one thing depends on it: how long a slot idles for the sake of
//! tasks that are nearer to another one (`tasks/locality.rs`). How long tasks take is told by the
//! reports, and whoever watches the executors says when one is lost. Speculation is deliberately
//! not here.
//!
//! An executor that is to go is given nothing more and is let go of when it runs nothing
//! ([`Event::Retire`]). When that is to be is decided elsewhere.
//!
//! Every attempt that is sent ends exactly once: by a report, in the answer to a recall, or with
//! its executor. Until then it occupies its executor, also when nobody needs it any more.

use offshoot_proto::id::{AttemptId, ExecutorId, JobId, Partition, StageRunId, WorkerId};
use offshoot_proto::outcome::{TaskDone, TaskFailure, TaskReport};
use offshoot_proto::scheduling::{PoolName, Scheduling};
use std::collections::BTreeMap;

mod attempts;
mod dispatch;
mod executors;
mod explain;
mod failures;
mod fresh;
mod locality;
mod outcomes;
mod pools;
mod retiring;
mod rob;
mod set;
pub(crate) mod telling;
#[cfg(test)]
mod tests;

use attempts::{Attempt, Attempts, Standing};
use executors::Executors;
use locality::Locality;
use pools::{Pools, slot_nanos};
use set::TaskSet;

pub use failures::FailedAttempt;
pub use fresh::Near;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An executor is ready for tasks.
    ExecutorAdded {
        /// Who.
        executor: ExecutorId,
        /// Its machine.
        worker: WorkerId,
        /// How many tasks it runs at once.
        slots: u32,
    },
    /// An executor is gone, with everything that was sent to it.
    ExecutorLost(ExecutorId),
    /// An executor is to go: it is given no more tasks, and those that have not started are asked
    /// back. [`Action::Retired`] follows when it has ended the others.
    Retire(ExecutorId),
    /// It is to stay after all.
    Unretire(ExecutorId),
    /// It has what others are to copy first: until [`Event::LetGo`] it is not retired.
    Hold(ExecutorId),
    /// It has nothing that others lack.
    LetGo(ExecutorId),
    /// Run these partitions.
    StageSubmitted {
        /// The run, which names the set from now on.
        stage: StageRunId,
        /// Whose place in the queue it takes: jobs in order, then stages in order.
        job: JobId,
        /// The job's pool.
        pool: PoolName,
        /// Which partitions, in the order in which they are to start.
        partitions: Vec<Partition>,
        /// Who is near to what they read.
        near: Near,
    },
    /// Start no more tasks of this set; those that run may end.
    StageSuspended(StageRunId),
    /// Go on with this set under another run.
    StageResumed {
        /// The set.
        stage: StageRunId,
        /// The run that its next tasks name.
        run: StageRunId,
    },
    /// Nobody needs this set any more.
    StageCancelled(StageRunId),
    /// Attempts ended.
    Reports {
        /// Where.
        executor: ExecutorId,
        /// Which, and how.
        reports: Vec<TaskReport>,
    },
    /// The answer to [`Action::Recall`]: these had not started and never will.
    Recalled {
        /// Who answers.
        executor: ExecutorId,
        /// Of those asked for, the ones given back.
        attempts: Vec<AttemptId>,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Describe a run to an executor, before the tasks that name it.
    SendStage {
        /// To whom.
        executor: ExecutorId,
        /// Which run.
        run: StageRunId,
    },
    /// No more tasks that name this run will follow.
    DropStage {
        /// To whom.
        executor: ExecutorId,
        /// Which run.
        run: StageRunId,
    },
    /// Run these.
    Run {
        /// To whom.
        executor: ExecutorId,
        /// The run that they name.
        run: StageRunId,
        /// In the order in which they are to start.
        tasks: Vec<(AttemptId, Partition)>,
    },
    /// Ask for those of these back that have not started.
    Recall {
        /// Whom.
        executor: ExecutorId,
        /// Which.
        attempts: Vec<AttemptId>,
    },
    /// Stop these.
    Kill {
        /// To whom.
        executor: ExecutorId,
        /// Which.
        attempts: Vec<AttemptId>,
    },
    /// An executor that was to go has ended all that it was sent. It is as if it were lost: nothing
    /// is sent to it any more.
    Retired(ExecutorId),
    /// The held result of this attempt is not wanted.
    DropResult {
        /// Who holds it.
        executor: ExecutorId,
        /// Whose result.
        attempt: AttemptId,
    },
    /// A partition is computed, for the first time in this set.
    PartitionDone {
        /// The set.
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
    /// Every partition of the set is computed. The set is gone.
    StageDone(StageRunId),
    /// A task could not read a block. It waits to be run again; nothing is counted against it.
    FetchFailed {
        /// The set.
        stage: StageRunId,
        /// The run under which the attempt was sent.
        run: StageRunId,
        /// The reader's partition.
        partition: Partition,
        /// Writer, map, attempt, worker and reason.
        failure: TaskFailure,
    },
    /// A task has used up its attempts. It is not run again.
    FailedForGood {
        /// The set.
        stage: StageRunId,
        /// Which partition.
        partition: Partition,
        /// Its last failure.
        failure: TaskFailure,
        /// Every counted attempt, in order.
        attempts: Vec<FailedAttempt>,
    },
    /// One partition failed in different ways, which the same bytes cannot: one of the machines
    /// is suspect. For the log.
    MachineSuspected {
        /// The set.
        stage: StageRunId,
        /// Which partition.
        partition: Partition,
        /// Every counted attempt so far.
        attempts: Vec<FailedAttempt>,
    },
}

/// The task scheduler.
#[derive(Debug)]
pub struct Tasks {
    /// `task-max-failures`.
    failures_max: u32,
    executors: Executors,
    attempts: Attempts,
    /// Sets that are not complete, by name.
    sets: BTreeMap<StageRunId, TaskSet>,
    /// Which of them have tasks to give out and are not suspended, and who is first.
    pools: Pools,
    /// Tasks to give out, over all of those.
    pending: u64,
    locality: Locality,
    stirred: Stirred,
    stale_reports: u64,
    #[cfg(debug_assertions)]
    steps: u64,
}

/// For whom the next dispatch may have work.
#[derive(Debug, Default)]
enum Stirred {
    #[default]
    Nobody,
    /// Only for one that ended tasks: the others have what they can hold.
    One(ExecutorId),
    Everybody,
}

// === impl Tasks ===

impl Tasks {
    /// A scheduler with no executors; `failures_max` is `task-max-failures`.
    pub fn new(failures_max: u32, scheduling: &Scheduling) -> Self {
        Self {
            failures_max: failures_max.max(1),
            executors: Executors::default(),
            attempts: Attempts::default(),
            sets: BTreeMap::new(),
            pools: Pools::new(scheduling.clone()),
            pending: 0,
            locality: Locality::new(scheduling.locality_wait),
            stirred: Stirred::Nobody,
            stale_reports: 0,
            #[cfg(debug_assertions)]
            steps: 0,
        }
    }

    /// Reports and answers about attempts that were unknown, over or somebody else's.
    pub fn stale_reports(&self) -> u64 {
        self.stale_reports
    }

    /// Attempts that have been sent and not ended.
    pub fn attempts_in_flight(&self) -> usize {
        self.attempts.len()
    }

    /// Tasks that wait for a slot: those that can be given out and those that have been.
    pub fn unfinished(&self) -> u64 {
        self.pending + self.attempts.len() as u64
    }

    /// Executors that have got their first attempt or ended their last one since the last call,
    /// and whether they have nothing to do now.
    pub fn take_turned(&mut self) -> Vec<(ExecutorId, bool)> {
        self.executors.take_turned()
    }

    /// Takes in one event. [`Tasks::dispatch`] must follow before the next wait.
    pub fn handle(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::ExecutorAdded { executor, worker, slots } => {
                self.executors.add(executor, worker, slots);
                self.stirred = Stirred::Everybody;
            }
            Event::ExecutorLost(executor) => self.on_executor_lost(executor),
            Event::Retire(executor) => self.on_retire(executor, actions),
            Event::Unretire(executor) => self.on_unretire(executor),
            Event::Hold(executor) => self.set_held(executor, true, actions),
            Event::LetGo(executor) => self.set_held(executor, false, actions),
            Event::StageSubmitted { stage, job, pool, partitions, near } => {
                self.on_submitted(stage, (job, pool), (partitions, near), actions)
            }
            Event::StageSuspended(stage) => self.on_suspended(stage, actions),
            Event::StageResumed { stage, run } => self.on_resumed(stage, run, actions),
            Event::StageCancelled(stage) => self.on_cancelled(stage, actions),
            Event::Reports { executor, reports } => {
                for report in reports {
                    self.on_report(executor, report, actions);
                }
                self.stir(executor);
                self.end_retired(executor, actions);
            }
            Event::Recalled { executor, attempts } => {
                self.on_recalled(executor, attempts);
                self.end_retired(executor, actions);
            }
        }
        #[cfg(debug_assertions)]
        self.check_sometimes();
    }

    fn stir(&mut self, executor: ExecutorId) {
        self.stirred = match self.stirred {
            Stirred::Nobody => Stirred::One(executor),
            Stirred::One(other) if other == executor => Stirred::One(executor),
            Stirred::One(_) | Stirred::Everybody => Stirred::Everybody,
        };
    }

    fn on_submitted(
        &mut self,
        stage: StageRunId,
        (job, pool): (JobId, PoolName),
        (partitions, near): (Vec<Partition>, Near),
        actions: &mut Vec<Action>,
    ) {
        debug_assert!(!self.sets.contains_key(&stage), "run ids are never reused");
        if partitions.is_empty() {
            actions.push(Action::StageDone(stage));
            return;
        }
        let near = self.settled(near, partitions.len() as u32);
        let set = TaskSet::new(job, stage, partitions, near);
        self.pending += set.pending();
        self.pools.enter(job, &pool);
        self.pools.insert(job, stage);
        self.sets.insert(stage, set);
        if self.pools.are_contended() {
            self.make_way(actions);
        }
        self.stirred = Stirred::Everybody;
    }

    fn on_suspended(&mut self, stage: StageRunId, actions: &mut Vec<Action>) {
        let Some(set) = self.sets.get_mut(&stage).filter(|set| !set.suspended) else {
            return;
        };
        set.suspended = true;
        self.pending -= set.pending();
        self.pools.remove(set.job, stage);
        let attempts = set.in_flight().collect::<Vec<_>>();
        self.recall(&attempts, actions);
    }

    fn on_resumed(&mut self, stage: StageRunId, run: StageRunId, actions: &mut Vec<Action>) {
        let Some(set) = self.sets.get_mut(&stage) else {
            return;
        };
        let older = std::mem::replace(&mut set.run, run);
        if std::mem::take(&mut set.suspended) {
            self.pending += set.pending();
            if set.pending() > 0 {
                self.pools.insert(set.job, stage);
            }
        }
        self.forget_run(older, actions);
        self.stirred = Stirred::Everybody;
    }

    fn on_cancelled(&mut self, stage: StageRunId, actions: &mut Vec<Action>) {
        let Some(set) = self.sets.get(&stage) else {
            return;
        };
        let attempts = set.in_flight().collect::<Vec<_>>();
        // Which of them have started is not known here. What is given back is not killed.
        self.recall(&attempts, actions);
        for (executor, attempts) in self.by_executor(&attempts) {
            actions.push(Action::Kill { executor, attempts });
        }
        self.end_set(stage, actions);
    }

    fn on_executor_lost(&mut self, executor: ExecutorId) {
        let Some(lost) = self.executors.remove(executor) else {
            return;
        };
        // Backwards, because each goes to the front of its queue.
        for id in lost.sent.into_iter().rev() {
            if let Some(attempt) = self.attempts.remove(id) {
                self.requeue(&attempt);
            }
        }
        self.stirred = Stirred::Everybody;
    }

    /// Puts the task of an attempt that ended without a result at the front of its queue.
    fn requeue(&mut self, attempt: &Attempt) {
        let Some(set) = self.sets.get_mut(&attempt.stage) else {
            return;
        };
        unload(&mut self.pools, set, attempt);
        set.put_back(attempt.task);
        if !set.suspended {
            self.pending += 1;
            self.pools.insert(set.job, attempt.stage);
        }
    }

    /// Removes a set. Its attempts stay until they end.
    fn end_set(&mut self, stage: StageRunId, actions: &mut Vec<Action>) {
        let Some(set) = self.sets.remove(&stage) else {
            return;
        };
        if !set.suspended {
            self.pending -= set.pending();
        }
        self.pools.remove(set.job, stage);
        self.pools.leave(set.job, set.load_nanos);
        self.locality.forget(stage);
        self.forget_run(set.run, actions);
    }

    fn forget_run(&mut self, run: StageRunId, actions: &mut Vec<Action>) {
        for executor in self.executors.forget_run(run) {
            actions.push(Action::DropStage { executor, run });
        }
    }

    /// Asks for those of `attempts` back that have not been asked for.
    fn recall(&mut self, attempts: &[AttemptId], actions: &mut Vec<Action>) {
        let mut unasked = attempts.to_vec();
        unasked.retain(|id| {
            let attempt = self.attempts.find(*id);
            attempt.is_some_and(|attempt| attempt.standing == Standing::Sent)
        });
        for (executor, attempts) in self.by_executor(&unasked) {
            for id in &attempts {
                if let Some(attempt) = self.attempts.find_mut(*id) {
                    attempt.standing = Standing::Asked;
                }
            }
            self.executors.ask(executor, attempts.clone());
            actions.push(Action::Recall { executor, attempts });
        }
    }

    fn by_executor(&self, attempts: &[AttemptId]) -> BTreeMap<ExecutorId, Vec<AttemptId>> {
        let mut lists = BTreeMap::<_, Vec<_>>::new();
        for id in attempts {
            if let Some(attempt) = self.attempts.find(*id) {
                lists.entry(attempt.executor).or_default().push(*id);
            }
        }
        lists
    }
}

/// An attempt of a set keeps no slot busy any more.
fn unload(pools: &mut Pools, set: &mut TaskSet, attempt: &Attempt) {
    if pools.counts() {
        let nanos = slot_nanos(attempt.estimate_nanos);
        set.load_nanos -= nanos;
        pools.unload(set.job, nanos);
    }
}
