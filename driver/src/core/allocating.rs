//! Executors come and go: what the machine that decides it must know, and what it decides.

use super::{Core, Waiting};
use crate::allocation::{self, Event};
use crate::executors::connect;
use crate::scheduler;
use offshoot_proto::cluster::{ExecutorInfo, FromClient, ResourceRequest, WorkerRow, WorkerState};
use offshoot_proto::executor::ToExecutor;
use offshoot_proto::id::ExecutorId;
use offshoot_proto::settings::Settings;
use std::collections::BTreeSet;

/// Released executors that are remembered. A master hears of a release within a moment; what it
/// still names later than so many releases is dialled, found gone, and lost.
const RELEASED_KEPT: usize = 4096;

/// What is remembered of allocation beside the machine.
#[derive(Debug, Default)]
pub(super) struct Allocating {
    /// The newest executors that were released, for a master that has not heard of it.
    released: BTreeSet<ExecutorId>,
    /// Tasks that could run, as said last.
    work: u64,
    /// There is no worker, and the guest asks how many cores there are.
    lacks_workers: bool,
    /// Something is to be copied from workers that leave, as said last.
    moving: bool,
    /// Executors wanted and running, as shown last.
    shown: Option<(u32, u32)>,
}

// === impl Core ===

impl Core {
    /// Tells what has changed and does what follows from it.
    pub(super) fn allocate(&mut self) {
        if self.allocation.is_none() {
            return;
        }
        for (executor, idle) in self.scheduler.take_turned() {
            self.tell_allocation(if idle { Event::Idle(executor) } else { Event::Busy(executor) });
        }
        // Who asks how many cores there are, when there are none, needs an executor to know.
        let work = self.scheduler.unfinished() + u64::from(self.allocating.lacks_workers);
        if std::mem::replace(&mut self.allocating.work, work) != work {
            self.tell_allocation(Event::Work(work));
        }
        let moving = self.scheduler.is_moving();
        if std::mem::replace(&mut self.allocating.moving, moving) != moving {
            self.tell_allocation(Event::Moving(moving));
        }
        let now = self.now();
        let due = self.allocation.as_ref().and_then(allocation::Allocation::next_timeout);
        if due.is_some_and(|due| due <= now) {
            self.with_allocation(|allocation, keeps, out| {
                allocation.handle_timeout(now, keeps, out);
            });
        }
        self.show_allocation();
    }

    pub(super) fn tell_allocation(&mut self, event: Event) {
        let now = self.now();
        self.with_allocation(|allocation, keeps, out| allocation.handle(now, event, keeps, out));
    }

    fn with_allocation(
        &mut self,
        tell: impl FnOnce(
            &mut allocation::Allocation,
            allocation::Keeps<'_>,
            &mut Vec<allocation::Action>,
        ),
    ) {
        let Self { allocation: Some(allocation), scheduler, jobs, .. } = self else {
            return;
        };
        let keeps = |executor: ExecutorId| {
            let mut results = jobs.values().map(|job| &job.results);
            results.any(|results| results.is_held_by(executor))
                || scheduler.keeps_only_copy(executor)
        };
        let mut decided = Vec::new();
        tell(allocation, &keeps, &mut decided);
        for action in decided {
            self.run_allocation(action);
        }
    }

    fn run_allocation(&mut self, action: allocation::Action) {
        match action {
            allocation::Action::Target(executors) => {
                self.tell_master(FromClient::Target { executors });
            }
            allocation::Action::Retire(executor) => {
                match self.executors.get(&executor).is_some_and(|link| link.ready) {
                    true => self.handle(scheduler::Event::Retire(executor)),
                    // It has never been given anything.
                    false => self.release(executor),
                }
            }
            allocation::Action::Unretire(executor) => {
                self.handle(scheduler::Event::Unretire(executor));
            }
        }
    }

    pub(super) fn tell_master(&self, order: FromClient) {
        if let Some(cluster) = &self.cluster {
            cluster.master.send(order);
        }
    }

    /// The master has granted an executor, or says again that it has.
    pub(super) fn on_executor_granted(&mut self, info: ExecutorInfo) {
        self.may_wait = true;
        let id = info.id;
        if self.allocating.released.contains(&id) {
            return self.tell_master(FromClient::Release { executors: vec![id] });
        }
        if !self.executors.contains_key(&id) && self.is_granted_in_vain(&info.worker) {
            return self.tell_master(FromClient::Release { executors: vec![id] });
        }
        let Some(cluster) = &self.cluster else { return };
        if self.executors.contains_key(&id) {
            return;
        }
        let cores = info.cores;
        let link = connect(cluster.endpoint.clone(), info, self.executor_sender.clone());
        self.executors.insert(id, link);
        self.tell_allocation(Event::Added { executor: id, cores });
    }

    /// Lets go of an executor that has nothing to do and will not have. Nothing is sent to it after
    /// this.
    pub(super) fn release(&mut self, executor: ExecutorId) {
        let Some(link) = self.executors.remove(&executor) else {
            return;
        };
        // A master that is away, or knows the application by another id, would not stop it.
        link.send(ToExecutor::Stop);
        let worker = link.info.worker.clone();
        if link.ready {
            self.note_lost(link.info.worker);
        }
        tracing::info!(%executor, "released");
        self.tell_master(FromClient::Release { executors: vec![executor] });
        let released = &mut self.allocating.released;
        released.insert(executor);
        if released.len() > RELEASED_KEPT {
            released.pop_first();
        }
        self.tell_allocation(Event::Gone(executor));
        self.say_drained(&worker);
    }

    fn show_allocation(&mut self) {
        let target = self.allocation.as_ref().and_then(allocation::Allocation::target);
        let Some(wanted) = target else { return };
        let running = self.executors.values().filter(|link| link.ready).count();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        if self.allocating.shown.replace((wanted, running)) != Some((wanted, running)) {
            self.observer.executors(self.now(), wanted, running);
        }
    }

    /// What the cluster has, for a guest that asks how many partitions are right.
    pub(super) fn on_workers(&mut self, workers: &[WorkerRow]) {
        let cores = cores_within_reach(workers, &self.request, &self.settings);
        let waits = matches!(self.waiting, Some(Waiting::Parallelism));
        self.allocating.lacks_workers = waits && cores == 0;
        self.on_cores(cores);
    }
}

/// Cores that the application could have if nobody else had any. With dynamic allocation it may
/// have none of them when its first job asks.
fn cores_within_reach(
    workers: &[WorkerRow],
    request: &ResourceRequest,
    settings: &Settings,
) -> u32 {
    let unit = request.executor_cores.unwrap_or(settings.task_cores).max(1);
    let alive = workers.iter().filter(|row| row.state == WorkerState::Alive);
    let cores = alive.map(|row| {
        let executors = row.memory_bytes / request.executor_memory_bytes.max(1);
        let units = u64::from(row.cores / unit);
        match request.executor_cores {
            Some(_) => units.min(executors) * u64::from(unit),
            None if executors > 0 => units * u64::from(unit),
            None => 0,
        }
    });
    let executors = u64::from(settings.allocation.max());
    let most = request.executor_cores.map_or(u64::MAX, |cores| executors * u64::from(cores));
    let most = most.min(u64::from(request.total_cores.unwrap_or(u32::MAX)));
    // At most the total, which is of 32 bits.
    cores.sum::<u64>().min(most) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use offshoot_proto::id::WorkerId;

    #[test]
    fn cores_within_reach_are_those_of_executors_that_fit() {
        let row = |(cores, gib, state): (u32, u64, WorkerState)| WorkerRow {
            id: WorkerId("w".into()),
            address: ([127, 0, 0, 1], 1).into(),
            state,
            cores,
            cores_used: cores,
            memory_bytes: gib << 30,
            memory_used_bytes: 0,
        };
        let alive = WorkerState::Alive;
        let rows = [(8, 2, alive), (5, 16, alive), (3, 0, alive), (64, 64, WorkerState::Lost)];
        let rows = rows.map(row);
        let cores = |executor_cores, total_cores, pairs: &[&str]| {
            let mut settings = Settings::default();
            pairs.iter().for_each(|pair| settings.set(pair).unwrap());
            let request = ResourceRequest {
                executor_cores,
                executor_memory_bytes: 1 << 30,
                total_cores,
                executors_max: None,
                executors_wanted: None,
            };
            cores_within_reach(&rows, &request, &settings)
        };
        assert_eq!(cores(None, None, &[]), 13, "whoever has them now");
        assert_eq!(cores(None, None, &["task-cores=2"]), 12);
        assert_eq!(cores(None, Some(7), &[]), 7);
        assert_eq!(cores(Some(2), None, &[]), 8, "memory for two, and two with a core over");
        assert_eq!(cores(Some(2), None, &["dynamic-allocation.max-executors=3"]), 6);
        assert_eq!(cores(Some(9), None, &[]), 0);
    }
}
