//! Workers that the master has leave: what the driver is told, does and answers.

use super::Core;
use crate::allocation;
use crate::scheduler::Event;
use offshoot_proto::cluster::FromClient;
use offshoot_proto::id::{ExecutorId, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Workers that are to leave.
#[derive(Debug, Default)]
pub(super) struct Draining(BTreeMap<WorkerId, Drain>);

#[derive(Clone, Copy, Debug)]
struct Drain {
    /// When it leaves in any case.
    until: Duration,
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
        self.0.insert(worker, Drain { until, said: false, confirmed: true });
    }

    fn said(&mut self, worker: &WorkerId) {
        if let Some(drain) = self.0.get_mut(worker) {
            drain.said = true;
        }
    }

    /// There is a new connection to the master, which says again who is to leave.
    pub(super) fn master_is_back(&mut self) {
        self.0.values_mut().for_each(|drain| drain.confirmed = false);
    }

    /// The master does not grant anything where it knows that nothing is left to do.
    fn granted(&mut self, worker: &WorkerId) -> Grant {
        match self.0.get(worker) {
            None => Grant::Works,
            Some(Drain { said: false, confirmed: true, .. }) => Grant::TooLate,
            Some(_) => {
                self.0.remove(worker);
                Grant::CameBack
            }
        }
    }

    /// When the next worker leaves in any case.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.0.values().map(|drain| drain.until).min()
    }

    /// Those that have left by now.
    fn left(&mut self, now: Duration) -> Vec<WorkerId> {
        let left = self.0.extract_if(.., |_, drain| drain.until <= now);
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

    /// No executor is there any more, and nothing that is nowhere else.
    pub(super) fn on_drained(&mut self, worker: WorkerId) {
        tracing::info!(%worker, "nothing of the application keeps it");
        self.draining.said(&worker);
        self.tell_master(FromClient::Drained { worker });
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
        draining.said(&one);
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
