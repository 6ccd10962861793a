//! The tasks of one stage that are to be run: which wait, which are out, how long they take.

use super::failures::History;
use offshoot_proto::id::{AttemptId, ExecutorId, JobId, Partition, StageRunId};
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
}

/// Where one task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Out(AttemptId),
    Done,
    GivenUp,
}

/// Tasks that have never been given out: in order, but that an executor takes those first that read
/// what it has, and those that read what another has last, from the end.
#[derive(Debug)]
struct Fresh {
    left: u32,
    total: u32,
    /// Tasks before this one are given out or near somebody.
    next: u32,
    near: BTreeMap<ExecutorId, VecDeque<u32>>,
    /// Of tasks that are near somebody, whether they have been given out.
    given: BTreeMap<u32, bool>,
}

// === impl Fresh ===

impl Fresh {
    fn new(total: u32, near: BTreeMap<ExecutorId, Vec<u32>>) -> Self {
        let given = near.values().flatten().map(|task| (*task, false)).collect();
        let near = near.into_iter().map(|(executor, tasks)| (executor, tasks.into()));
        Self { left: total, total, next: 0, near: near.collect(), given }
    }

    fn take(&mut self, executor: ExecutorId) -> Option<u32> {
        let task = self.take_near(executor, VecDeque::pop_front);
        let task = task.or_else(|| self.take_next()).or_else(|| self.take_far())?;
        self.left -= 1;
        Some(task)
    }

    fn take_near(
        &mut self,
        executor: ExecutorId,
        mut pop: impl FnMut(&mut VecDeque<u32>) -> Option<u32>,
    ) -> Option<u32> {
        let tasks = self.near.get_mut(&executor)?;
        while let Some(task) = pop(tasks) {
            let given = self.given.entry(task).or_default();
            if !std::mem::replace(given, true) {
                return Some(task);
            }
        }
        self.near.remove(&executor);
        None
    }

    fn take_next(&mut self) -> Option<u32> {
        while self.given.contains_key(&self.next) {
            self.next += 1;
        }
        let task = self.next;
        (task < self.total).then(|| {
            self.next += 1;
            task
        })
    }

    /// From whoever has most left.
    fn take_far(&mut self) -> Option<u32> {
        while let Some(executor) = self.near.iter().max_by_key(|(_, tasks)| tasks.len()) {
            let executor = *executor.0;
            if let Some(task) = self.take_near(executor, VecDeque::pop_back) {
                return Some(task);
            }
        }
        None
    }
}

// === impl TaskSet ===

impl TaskSet {
    pub(super) fn new(
        job: JobId,
        run: StageRunId,
        partitions: Vec<Partition>,
        near: BTreeMap<ExecutorId, Vec<u32>>,
    ) -> Self {
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
            partitions,
        }
    }

    /// How many tasks wait to be given out.
    pub(super) fn pending(&self) -> u64 {
        u64::from(self.fresh.left) + self.again.len() as u64
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

    /// Takes the next task that may go where `allows` says, judging by what it has been through.
    pub(super) fn take(
        &mut self,
        executor: ExecutorId,
        allows: impl Fn(&History) -> bool,
    ) -> Option<u32> {
        if !self.again.is_empty() {
            let may_go = |task: &u32| self.histories.get(task).is_none_or(&allows);
            let mut looked_at = self.again.iter().take(AGAIN_LOOKED_AT_MAX);
            if let Some(index) = looked_at.position(may_go) {
                return self.again.remove(index);
            }
        }
        self.fresh.take(executor)
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
