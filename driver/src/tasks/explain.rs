//! Why tasks wait, from the scheduler's own state.

use super::Tasks;
use super::fresh::Owner;
use super::set::TaskSet;
use offshoot_proto::explain::{LISTED_MAX, PendingTasks, TaskWait};
use offshoot_proto::id::{ExecutorId, StageRunId};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the tasks of a set do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standings {
    /// Attempts that have been sent.
    pub(crate) running: u32,
    /// Tasks that wait.
    pub(crate) waiting: u32,
    /// Why; nothing of a set that is suspended, about which the DAG scheduler knows more.
    pub(crate) pending: Vec<PendingTasks>,
}

// === impl Tasks ===

impl Tasks {
    /// What the tasks of a set do; nothing of a set that is not here.
    pub(crate) fn explain(&self, now: Duration, stage: StageRunId) -> Standings {
        let Some(set) = self.sets.get(&stage) else {
            return Standings::default();
        };
        let (running, waiting) = (set.in_flight().count() as u32, set.pending() as u32);
        if set.suspended || waiting == 0 {
            return Standings { running, waiting, pending: Vec::new() };
        }
        let idle = self.executors.iter().filter(|(_, executor)| executor.free() > 0);
        let idle: Vec<ExecutorId> = idle.map(|(id, _)| id).collect();
        let excluded = match idle.is_empty() {
            true => 0,
            false => self.excluded(set, &idle),
        };
        let mut pending = Vec::new();
        if excluded > 0 {
            let executors = idle.iter().copied().take(LISTED_MAX).collect();
            pending
                .push(PendingTasks { tasks: excluded, reason: TaskWait::Excluded { executors } });
        }
        if waiting > excluded {
            let reason = self.reason(now, stage, set);
            pending.push(PendingTasks { tasks: waiting - excluded, reason });
        }
        Standings { running, waiting, pending }
    }

    /// How many tasks may go to none of these executors, because they failed there.
    fn excluded(&self, set: &TaskSet, idle: &[ExecutorId]) -> u32 {
        let failed = set.again().filter_map(|(_, history)| history);
        let nowhere =
            failed.filter(|history| idle.iter().all(|id| !self.executors.allows(history, *id)));
        nowhere.count() as u32
    }

    /// Why the first of those wait that have not failed.
    fn reason(&self, now: Duration, stage: StageRunId, set: &TaskSet) -> TaskWait {
        if self.executors.slots() == 0 {
            return match self.executors.iter().next() {
                Some(_) => TaskWait::Retiring,
                None => TaskWait::NoExecutors,
            };
        }
        let Some(left) = self.locality.left(stage, now) else {
            return TaskWait::SlotsBusy { slots: self.executors.slots() as u32 };
        };
        let near = set.fresh().owners().flat_map(|(owner, _)| self.who(owner));
        let near: BTreeSet<ExecutorId> = near.collect();
        let near = near.into_iter().take(LISTED_MAX).collect();
        TaskWait::Locality { near, left_millis: left.as_millis() as u64 }
    }

    /// The executors that an owner of blocks stands for.
    fn who<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = ExecutorId> + 'a {
        let is_meant = move |id: ExecutorId| match owner {
            Owner::Executor(owner) => *owner == id,
            Owner::Worker(worker) => self.executors.worker_of(id) == Some(worker),
        };
        self.executors.iter().map(|(id, _)| id).filter(move |id| is_meant(*id))
    }
}
