//! Workers that the master has leave: what the driver is told, does and answers.

use super::Core;
use crate::allocation;
use crate::scheduler::Event;
use offshoot_proto::cluster::FromClient;
use offshoot_proto::id::{AttemptId, ExecutorId, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Workers that are to leave.
#[derive(Debug, Default)]
pub(super) struct Draining {
    workers: BTreeMap<WorkerId, Drain>,
    /// Results that come from retired executors before those are released. All results of a job
    /// have room in the driver.
    rescued: BTreeMap<AttemptId, ExecutorId>,
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    /// When it leaves in any case.
    until: Duration,
    /// Whether nothing keeps it but executors that are not released yet.
    done: bool,
    /// Whether the master knows that nothing keeps it.
    said: bool,
    /// Whether the master of now has said so: one that was restarted may not know of it.
    confirmed: bool,
}

/// What an executor that was granted on a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    /// Tasks.
    Works,
    /// Nothing: the order to start it was older than the one to leave.
    TooLate,
    /// Tasks: the worker has left and come back, or stays.
    CameBack,
}

// === impl Draining ===

impl Draining {
    fn begin(&mut self, worker: WorkerId, until: Duration) {
        self.workers.insert(worker, Drain { until, done: false, said: false, confirmed: true });
    }

    fn done(&mut self, worker: &WorkerId) {
        if let Some(drain) = self.workers.get_mut(worker) {
            drain.done = true;
        }
    }

    /// No executor is there; whether the master is to be told now.
    fn says(&mut self, worker: &WorkerId) -> bool {
        let drain = self.workers.get_mut(worker).filter(|drain| drain.done && !drain.said);
        drain.map(|drain| drain.said = true).is_some()
    }

    /// There is a new connection to the master, which says again who is to leave.
    pub(super) fn master_is_back(&mut self) {
        self.workers.values_mut().for_each(|drain| drain.confirmed = false);
    }

    /// The master does not grant anything where it knows that nothing is left to do.
    fn granted(&mut self, worker: &WorkerId) -> Grant {
        match self.workers.get(worker) {
            None => Grant::Works,
            Some(Drain { said: false, confirmed: true, .. }) => Grant::TooLate,
            Some(_) => {
                self.workers.remove(worker);
                Grant::CameBack
            }
        }
    }

    /// Whether something comes from a retired executor.
    fn is_rescued_from(&self, executor: ExecutorId) -> bool {
        self.rescued.values().any(|other| *other == executor)
    }

    /// When the next worker leaves in any case.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.workers.values().map(|drain| drain.until).min()
    }

    /// Those that have left by now.
    fn left(&mut self, now: Duration) -> Vec<WorkerId> {
        let left = self.workers.extract_if(.., |_, drain| drain.until <= now);
        left.map(|(worker, _)| worker).collect()
    }
}

// === impl Core ===

impl Core {
    /// The master has a worker leave, or says again that it does.
    pub(super) fn on_draining(&mut self, worker: WorkerId, left: Duration) {
        tracing::info!(%worker, ?left, "is to leave");
        self.draining.begin(worker.clone(), self.now() + left);
        let leaving = self.executors_of(&worker);
        self.handle(Event::WorkerLeaves(worker));
        self.tell_allocation(allocation::Event::Draining(leaving));
    }

    /// Nothing is there that is nowhere else, and no executor that the scheduler knows.
    pub(super) fn on_drained(&mut self, worker: WorkerId) {
        self.draining.done(&worker);
        self.say_drained(&worker);
    }

    /// Tells the master, when the last executor there is released, too.
    pub(super) fn say_drained(&mut self, worker: &WorkerId) {
        if self.executors_of(worker).is_empty() && self.draining.says(worker) {
            tracing::info!(%worker, "nothing of the application keeps it");
            self.tell_master(FromClient::Drained { worker: worker.clone() });
        }
    }

    /// An executor runs nothing any more: it is released, when what is on its way from it has come;
    /// where a worker leaves, after all its results were fetched.
    pub(super) fn on_retired(&mut self, executor: ExecutorId) {
        let link = self.executors.get(&executor);
        let drains = link.is_some_and(|link| self.draining.workers.contains_key(&link.info.worker));
        let mut held = Vec::new();
        for (job, entry) in &mut self.jobs {
            let coming = entry.results.coming_from(executor).map(|attempt| (attempt, executor));
            self.draining.rescued.extend(coming);
            if !drains {
                continue;
            }
            held.extend(entry.results.take_held(executor).into_iter().map(|one| (*job, one)));
        }
        if held.is_empty() && !self.draining.is_rescued_from(executor) {
            return self.release(executor);
        }
        for (job, (partition, attempt, length)) in held {
            self.draining.rescued.insert(attempt, executor);
            self.fetch(job, partition, executor, attempt, length);
        }
    }

    /// A result has come, or is lost; whoever had it may go when it was the last one.
    pub(super) fn end_rescue(&mut self, attempt: AttemptId) {
        if let Some(executor) = self.draining.rescued.remove(&attempt)
            && !self.draining.is_rescued_from(executor)
        {
            self.release(executor);
        }
    }

    /// Whether an executor that was granted on a worker is to be given back at once.
    pub(super) fn is_granted_in_vain(&mut self, worker: &WorkerId) -> bool {
        let grant = self.draining.granted(worker);
        if grant == Grant::CameBack {
            self.handle(Event::WorkerStays(worker.clone()));
        }
        grant == Grant::TooLate
    }

    /// Workers whose time is over are gone: who waits for a word of that reads in vain first.
    pub(super) fn end_drains(&mut self) {
        let now = self.now();
        for worker in self.draining.left(now) {
            for executor in self.executors_of(&worker) {
                self.release(executor);
            }
            self.handle(Event::WorkerLost(worker));
        }
    }

    fn executors_of(&self, worker: &WorkerId) -> Vec<ExecutorId> {
        let here = self.executors.iter().filter(|(_, link)| link.info.worker == *worker);
        here.map(|(executor, _)| *executor).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Draining, Grant};
    use offshoot_proto::id::WorkerId;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_granted_where_a_worker_leaves_comes_too_late_until_it_has_left() {
        let (one, two) = (WorkerId("one".into()), WorkerId("two".into()));
        let mut draining = Draining::default();
        draining.begin(one.clone(), SECOND);
        assert_eq!(draining.granted(&two), Grant::Works);
        assert_eq!(draining.granted(&one), Grant::TooLate);
        assert!(!draining.says(&one), "something keeps it");
        draining.done(&one);
        assert!(draining.says(&one) && !draining.says(&one), "once");
        assert_eq!(draining.granted(&one), Grant::CameBack);
        assert_eq!(draining.granted(&one), Grant::Works);
        draining.begin(one.clone(), SECOND);
        draining.master_is_back();
        assert_eq!(draining.granted(&one), Grant::CameBack, "the new master knows of nothing");
    }

    #[test]
    fn who_has_not_left_in_time_is_gone() {
        let (one, two) = (WorkerId("one".into()), WorkerId("two".into()));
        let mut draining = Draining::default();
        draining.begin(one.clone(), 2 * SECOND);
        draining.begin(two.clone(), SECOND);
        assert_eq!(draining.next_timeout(), Some(SECOND));
        assert_eq!(draining.left(SECOND), [two]);
        assert_eq!(draining.next_timeout(), Some(2 * SECOND));
        draining.begin(one, 3 * SECOND);
        assert_eq!(draining.left(2 * SECOND), [], "it was given more time");
    }
}
