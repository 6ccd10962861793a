//! The tasks of one stage that are to be run: which wait, which are out, how long they take.

use super::failures::History;
use super::fresh::{Asker, Fresh, Level, Near, Owner};
use offshoot_proto::id::{AttemptId, ExecutorId, JobId, Partition, StageRunId, WorkerId};
use std::collections::{BTreeMap, VecDeque};

/// Put-back tasks that are looked at for one that may go to a given executor. More would make a
/// dispatch cost as much as there are failed tasks.
const AGAIN_LOOKED_AT_MAX: usize = 64;

/// Weight of the newest run time in the moving average: one eighth.
const ESTIMATE_SHIFT: u32 = 3;

/// Estimates stay in this range, so that a wrong clock cannot make one task the whole load.
const ESTIMATE_NANOS: (u64, u64) = (1_000, 3_600_000_000_000);

/// The tasks of a stage.
#[derive(Debug)]
pub(super) struct TaskSet {
    pub(super) job: JobId,
    /// The run that its next tasks name.
    pub(super) run: StageRunId,
    pub(super) suspended: bool,
    partitions: Vec<Partition>,
    states: Vec<State>,
    fresh: Fresh,
    /// Tasks that came back without a result, to be given out first.
    again: VecDeque<u32>,
    unfinished: u32,
    /// Moving average of the run time of its tasks, once one has ended.
    estimate_nanos: Option<u64>,
    histories: BTreeMap<u32, History>,
    /// Slot time that its attempts keep busy, if anybody counts it.
    pub(super) load_nanos: u64,
}

/// Where one task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Out(AttemptId),
    Done,
    GivenUp,
}

// === impl TaskSet ===

impl TaskSet {
    pub(super) fn new(job: JobId, run: StageRunId, partitions: Vec<Partition>, near: Near) -> Self {
        Self {
            job,
            run,
            suspended: false,
            states: vec![State::Waiting; partitions.len()],
            fresh: Fresh::new(partitions.len() as u32, near),
            again: VecDeque::new(),
            unfinished: partitions.len() as u32,
            estimate_nanos: None,
            histories: BTreeMap::new(),
            load_nanos: 0,
            partitions,
        }
    }

    /// How many tasks wait to be given out.
    pub(super) fn pending(&self) -> u64 {
        u64::from(self.fresh.left()) + self.again.len() as u64
    }

    pub(super) fn is_complete(&self) -> bool {
        self.unfinished == 0
    }

    pub(super) fn partition(&self, task: u32) -> Partition {
        self.partitions[task as usize]
    }

    pub(super) fn estimate_nanos(&self) -> Option<u64> {
        self.estimate_nanos
    }

    pub(super) fn history(&mut self, task: u32) -> &mut History {
        self.histories.entry(task).or_default()
    }

    /// The attempts that are out, in order of task.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = AttemptId> {
        self.states.iter().filter_map(|state| match state {
            State::Out(attempt) => Some(*attempt),
            State::Waiting | State::Done | State::GivenUp => None,
        })
    }

    /// Takes the next task that may go where `allows` says, judging by what it has been through,
    /// and says how near it is to what it reads. The others are as in [`Fresh::take`]; what has
    /// failed does not wait for a near slot.
    pub(super) fn take<'a>(
        &mut self,
        asker: Asker<'_>,
        allows: impl Fn(&History) -> bool,
        worker_of: impl Fn(ExecutorId) -> Option<&'a WorkerId>,
        may_leave: impl Fn(&Owner, usize) -> bool,
    ) -> Option<(u32, Level)> {
        if !self.again.is_empty() {
            let may_go = |task: &u32| match self.histories.get(task) {
                Some(history) => allows(history),
                None => self.fresh.may_take(*task, asker, &worker_of, &may_leave),
            };
            let mut looked_at = self.again.iter().take(AGAIN_LOOKED_AT_MAX);
            if let Some(index) = looked_at.position(may_go) {
                return self.again.remove(index).map(|task| (task, Level::Any));
            }
        }
        self.fresh.take(asker, worker_of, may_leave)
    }

    /// Takes a task that has not been given out and that an executor is near to.
    pub(super) fn take_near(&mut self, asker: Asker<'_>) -> Option<(u32, Level)> {
        self.fresh.take_near(asker).map(|task| (task, Level::Process))
    }

    /// Whether an executor that got no task did not because others are nearer to some.
    pub(super) fn waits_for_near(&self, asker: Asker<'_>) -> bool {
        let again =
            |task: &u32| self.fresh.is_near_anybody(*task) && !self.histories.contains_key(task);
        asker.level != Level::Any
            && (self.fresh.owners().next().is_some() || self.again.iter().any(again))
    }

    pub(super) fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// Tasks that came back, each with what it has been through if it failed.
    pub(super) fn again(&self) -> impl Iterator<Item = (u32, Option<&History>)> {
        self.again.iter().map(|task| (*task, self.histories.get(task)))
    }

    /// A task that was taken is out.
    pub(super) fn send(&mut self, task: u32, attempt: AttemptId) {
        debug_assert_eq!(self.states[task as usize], State::Waiting);
        self.states[task as usize] = State::Out(attempt);
    }

    /// A task came back without a result.
    pub(super) fn put_back(&mut self, task: u32) {
        debug_assert!(matches!(self.states[task as usize], State::Out(_)));
        self.states[task as usize] = State::Waiting;
        self.again.push_front(task);
    }

    /// A task is computed.
    pub(super) fn finish(&mut self, task: u32) -> Partition {
        debug_assert!(matches!(self.states[task as usize], State::Out(_)));
        self.states[task as usize] = State::Done;
        self.unfinished -= 1;
        self.partition(task)
    }

    /// A task will not be run again. The set never becomes complete.
    pub(super) fn give_up(&mut self, task: u32) {
        self.states[task as usize] = State::GivenUp;
    }

    /// Learns from a run time.
    pub(super) fn observe(&mut self, run_nanos: u64) {
        let run = run_nanos.clamp(ESTIMATE_NANOS.0, ESTIMATE_NANOS.1);
        self.estimate_nanos = Some(match self.estimate_nanos {
            None => run,
            Some(old) => old - (old >> ESTIMATE_SHIFT) + (run >> ESTIMATE_SHIFT),
        });
    }
}
