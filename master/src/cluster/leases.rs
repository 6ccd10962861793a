//! Time: leases that run out, and what else is due.

use super::{Action, Cluster, Leases};
use std::time::Duration;

// === impl Cluster ===

impl Cluster {
    /// When [`Self::handle_timeout`] must be called at the latest.
    pub fn next_timeout(&self) -> Option<Duration> {
        let due = [self.lease_due, self.tell_at, self.give_back.due(self.policy.preemption)];
        let pass = self.pass.is_open().then_some(self.now);
        let drains = [self.next_drained(), self.remembered.due()];
        let others = [self.questions.due(), pass];
        due.into_iter().chain(others).chain(drains).flatten().min()
    }

    /// Ends the leases that have run out, tells who has waited for long enough, and takes what was
    /// not given back.
    pub fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.now = now;
        if self.lease_due.is_some_and(|due| due <= now) {
            self.end_leases(out);
        }
        self.end_recovery(out);
        self.end_drains(out);
        self.take_back_due(out);
        self.tell_due(out);
        self.answer_late(out);
        if self.pass.is_open() {
            self.go_on(out);
        }
        self.save_drains(out);
        self.check();
    }

    /// Somebody's lease begins. That leases are renewed is looked at when one could run out.
    pub(super) fn lease(&mut self, lease: Duration) {
        let due = self.now + lease;
        self.lease_due = Some(self.lease_due.map_or(due, |other| other.min(due)));
    }

    fn end_leases(&mut self, out: &mut Vec<Action>) {
        let (now, Leases { worker, driver }) = (self.now, self.leases);
        let lost = |heard: Duration| heard + worker <= now;
        let workers = self.workers.iter().filter(|(_, worker)| worker.heard().is_some_and(lost));
        let workers: Vec<_> = workers.map(|(seat, _)| seat).collect();
        let apps = self.apps.iter().filter(|(_, app)| app.heard + driver <= now);
        let apps: Vec<_> = apps.map(|(id, _)| *id).collect();
        for worker in &workers {
            self.lose_worker(*worker, out);
        }
        for app in &apps {
            self.lose_driver(*app, out);
        }
        self.lease_due = self.first_lease();
        if !(workers.is_empty() && apps.is_empty()) {
            self.place(out);
        }
    }

    fn first_lease(&self) -> Option<Duration> {
        let workers = self.workers.iter().filter_map(|(_, worker)| worker.heard());
        let workers = workers.map(|heard| heard + self.leases.worker);
        let apps = self.apps.values().map(|app| app.heard + self.leases.driver);
        workers.chain(apps).min()
    }
}
