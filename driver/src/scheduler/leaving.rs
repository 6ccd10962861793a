//! Workers that are to leave: when their executors go, and when nothing keeps them.

use super::{Action, Scheduler};
use crate::{dag, tasks};
use offshoot_proto::id::{ExecutorId, WorkerId};
use std::collections::BTreeMap;

/// Workers that are to leave.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Whether it was said that nothing keeps them.
    said: BTreeMap<WorkerId, bool>,
    /// What the answers depended on when they were last asked for: they cost as much as there are
    /// outputs.
    looked_at: Option<(u64, usize, Vec<ExecutorId>)>,
}

// === impl Leaving ===

impl Leaving {
    pub(super) fn stays(&mut self, worker: &WorkerId) {
        self.said.remove(worker);
    }
}

// === impl Scheduler ===

impl Scheduler {
    /// Whether something is to be copied from a worker that is to leave.
    pub fn is_moving(&self) -> bool {
        self.dag.is_moving()
    }

    pub(super) fn on_retire(&mut self, executor: ExecutorId) {
        self.tell_dag(dag::Event::Retiring(executor, true));
        self.tell_tasks(tasks::Event::Retire(executor));
    }

    pub(super) fn on_unretire(&mut self, executor: ExecutorId) {
        let worker = self.executors.get(&executor);
        if !worker.is_some_and(|worker| self.leaving.said.contains_key(worker)) {
            self.tell_dag(dag::Event::Retiring(executor, false));
            self.tell_tasks(tasks::Event::Unretire(executor));
        }
    }

    pub(super) fn on_worker_leaves(&mut self, worker: WorkerId) {
        self.leaving.said.insert(worker.clone(), false);
        self.leaving.looked_at = None;
        self.tell_dag(dag::Event::WorkerLeaves(worker.clone()));
        for executor in self.executors_on(&worker) {
            self.retire_if_leaving(executor);
        }
    }

    pub(super) fn on_worker_stays(&mut self, worker: WorkerId) {
        self.leaving.stays(&worker);
        for executor in self.executors_on(&worker) {
            self.tell_tasks(tasks::Event::LetGo(executor));
        }
        self.tell_dag(dag::Event::WorkerStays(worker));
    }

    /// What an executor on such a worker has in memory is copied before it goes.
    pub(super) fn retire_if_leaving(&mut self, executor: ExecutorId) {
        let worker = self.executors.get(&executor);
        if worker.is_some_and(|worker| self.leaving.said.contains_key(worker)) {
            self.tell_tasks(tasks::Event::Hold(executor));
            self.on_retire(executor);
        }
    }

    pub(super) fn executors_on(&self, worker: &WorkerId) -> Vec<ExecutorId> {
        let here = self.executors.iter().filter(|(_, other)| *other == worker);
        here.map(|(executor, _)| *executor).collect()
    }

    /// Lets go of executors and workers that have nothing which others lack; whether of any.
    pub(super) fn settle_leaving(&mut self) -> bool {
        if self.leaving.said.is_empty() {
            return false;
        }
        let idle: Vec<_> = self.tasks.held_back().collect();
        let look = (self.dag.move_changes(), self.executors.len(), idle.clone());
        if self.leaving.looked_at.as_ref() == Some(&look) {
            return false;
        }
        self.leaving.looked_at = Some(look);
        let done: Vec<_> = idle.into_iter().filter(|id| !self.dag.has_only(*id)).collect();
        for executor in &done {
            self.tell_tasks(tasks::Event::LetGo(*executor));
        }
        let mut said = std::mem::take(&mut self.leaving.said);
        let mut any = !done.is_empty();
        for (worker, said) in &mut said {
            let is_kept = !self.executors_on(worker).is_empty() || self.dag.needs(worker);
            if !is_kept && !*said {
                self.tell_dag(dag::Event::Emptied(worker.clone()));
                self.last_words.push(Action::Drained(worker.clone()));
                any = true;
            }
            *said = !is_kept;
        }
        self.leaving.said = said;
        any
    }
}
