//! Tasks of a set that have never been given out, and which executor is near to what they read.
//!
//! An executor takes those first that it has the input of, then those that another executor of its
//! machine has it of, then those that are near nobody, then those that others are near to, from the
//! end. Whether it may take what others are near to is up to whoever asks.

use offshoot_proto::id::{ExecutorId, WorkerId};
use std::collections::BTreeMap;

/// Who is near to what tasks read; tasks are indices into the list of partitions that comes with
/// this, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Near {
    /// Tasks that read a block in this executor's memory.
    pub executors: BTreeMap<ExecutorId, Vec<u32>>,
    /// Tasks that read a block in a file of this machine.
    pub workers: BTreeMap<WorkerId, Vec<u32>>,
    /// The machine that has more than half of the shuffle output that all tasks read. Counts only
    /// if all of them can run there at once: otherwise reading from elsewhere costs less than the
    /// slots of the others.
    pub mostly: Option<WorkerId>,
}

/// Somebody that tasks are near to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// It has what they read in its memory.
    Executor(ExecutorId),
    /// It has what they read in its files.
    Worker(WorkerId),
}

/// How far from what it reads a task may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Where it is.
    Process,
    /// In an executor of the same machine.
    Node,
    /// Anywhere.
    Any,
}

/// Who asks for a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) executor: ExecutorId,
    pub(super) worker: &'a WorkerId,
    /// How far a task may go from who is near.
    pub(super) level: Level,
}

/// Tasks that have never been given out.
#[derive(Debug)]
pub(super) struct Fresh {
    left: u32,
    total: u32,
    /// Tasks before this one are given out or near somebody.
    next: u32,
    lists: BTreeMap<Owner, List>,
    /// Whether each task is near somebody, and has been given out; empty if none is.
    marks: Vec<Mark>,
}

/// The tasks that somebody is near to.
#[derive(Debug)]
struct List {
    tasks: Vec<u32>,
    /// Those that have not been taken from this list.
    left: std::ops::Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Far,
    Near,
    Given,
}

// === impl Level ===

impl Level {
    /// Whether it allows what another allows.
    fn reaches(self, other: Self) -> bool {
        self >= other
    }
}

// === impl Fresh ===

impl Fresh {
    pub(super) fn new(total: u32, near: Near) -> Self {
        let executors = near.executors.into_iter().map(|(id, list)| (Owner::Executor(id), list));
        let workers = near.workers.into_iter().map(|(id, list)| (Owner::Worker(id), list));
        let lists = executors.chain(workers).filter(|(_, list)| !list.is_empty());
        let mut fresh =
            Self { left: total, total, next: 0, lists: BTreeMap::new(), marks: Vec::new() };
        for (owner, tasks) in lists {
            debug_assert!(tasks.is_sorted(), "looked up by halves");
            fresh.marks.resize(total as usize, Mark::Far);
            for task in &tasks {
                fresh.marks[*task as usize] = Mark::Near;
            }
            let left = 0..tasks.len();
            fresh.lists.insert(owner, List { tasks, left });
        }
        fresh
    }

    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Who is near to tasks that are left, and to how many at most.
    pub(super) fn owners(&self) -> impl Iterator<Item = (&Owner, usize)> {
        let lists = self.lists.iter().map(|(owner, list)| (owner, list.left.len()));
        lists.filter(|(_, left)| *left > 0)
    }

    /// Takes the next task for an executor, and says how near it is to it. `worker_of` knows the
    /// executors that are here; `may_leave` says of somebody with so many tasks left whether they
    /// may go further than they should.
    pub(super) fn take<'a>(
        &mut self,
        asker: Asker<'_>,
        worker_of: impl Fn(ExecutorId) -> Option<&'a WorkerId>,
        may_leave: impl Fn(&Owner, usize) -> bool,
    ) -> Option<(u32, Level)> {
        if self.lists.is_empty() {
            // Most sets: a million tasks are taken like this.
            let task = self.take_next()?;
            self.left -= 1;
            return Some((task, Level::Any));
        }
        let taken = self.take_own(asker).map(|task| (task, Level::Process));
        let taken = taken.or_else(|| {
            let siblings = |owner: &Owner| match owner {
                Owner::Executor(id) => worker_of(*id) == Some(asker.worker),
                Owner::Worker(_) => false,
            };
            let task = self.take_from(|owner, left| {
                siblings(owner) && (asker.level.reaches(Level::Node) || may_leave(owner, left))
            })?;
            Some((task, Level::Node))
        });
        let taken = taken.or_else(|| {
            let task = self.take_next().or_else(|| {
                let any = asker.level.reaches(Level::Any);
                self.take_from(|owner, left| any || may_leave(owner, left))
            });
            task.map(|task| (task, Level::Any))
        });
        self.left -= u32::from(taken.is_some());
        taken
    }

    /// Takes a task that an executor, or its machine, is near to.
    pub(super) fn take_near(&mut self, asker: Asker<'_>) -> Option<u32> {
        let task = self.take_own(asker)?;
        self.left -= 1;
        Some(task)
    }

    /// Whether somebody is near to a task.
    pub(super) fn is_near_anybody(&self, task: u32) -> bool {
        self.marks.get(task as usize).is_some_and(|mark| *mark != Mark::Far)
    }

    /// Whether an executor may run a task that comes back, by how far it is from what it reads.
    pub(super) fn may_take<'a>(
        &self,
        task: u32,
        asker: Asker<'_>,
        worker_of: impl Fn(ExecutorId) -> Option<&'a WorkerId>,
        may_leave: impl Fn(&Owner, usize) -> bool,
    ) -> bool {
        if asker.level == Level::Any || !self.is_near_anybody(task) {
            return true;
        }
        let owners = self.lists.iter().filter(|(_, list)| list.tasks.binary_search(&task).is_ok());
        let mut may_leave_all = true;
        for (owner, _) in owners {
            let near = match owner {
                Owner::Executor(id) if *id == asker.executor => true,
                Owner::Executor(id) => {
                    asker.level == Level::Node && worker_of(*id) == Some(asker.worker)
                }
                Owner::Worker(id) => id == asker.worker,
            };
            if near {
                return true;
            }
            // It would be the next one there.
            may_leave_all &= may_leave(owner, 1);
        }
        // Also if its mark is of a list that is not there.
        may_leave_all
    }

    fn take_own(&mut self, asker: Asker<'_>) -> Option<u32> {
        let owners = [Owner::Executor(asker.executor), Owner::Worker(asker.worker.clone())];
        owners.iter().find_map(|owner| {
            let list = self.lists.get_mut(owner)?;
            let mut left = list.left.clone();
            let task = left.find(|index| give(&mut self.marks, list.tasks[*index]));
            list.left = left;
            task.map(|index| list.tasks[index])
        })
    }

    /// From whoever has most left of those that `allowed` says, the last.
    fn take_from(&mut self, allowed: impl Fn(&Owner, usize) -> bool) -> Option<u32> {
        loop {
            let lists = self.lists.iter_mut();
            let candidates = lists
                .filter(|(owner, list)| !list.left.is_empty() && allowed(owner, list.left.len()));
            let (_, list) = candidates.max_by_key(|(_, list)| list.left.len())?;
            while let Some(index) = list.left.next_back() {
                let task = list.tasks[index];
                if give(&mut self.marks, task) {
                    return Some(task);
                }
            }
        }
    }

    fn take_next(&mut self) -> Option<u32> {
        let is_near = |task: u32| self.marks.get(task as usize).is_some_and(|m| *m != Mark::Far);
        while is_near(self.next) {
            self.next += 1;
        }
        let task = self.next;
        (task < self.total).then(|| {
            self.next += 1;
            task
        })
    }
}

/// Whether a task was left to be given out.
fn give(marks: &mut [Mark], task: u32) -> bool {
    std::mem::replace(&mut marks[task as usize], Mark::Given) == Mark::Near
}
