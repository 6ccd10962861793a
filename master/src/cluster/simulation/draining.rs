//! Workers that are to leave, and masters that are restarted meanwhile.

use super::{TrueDriver, World};
use crate::cluster::limits::RECOVERY;
use crate::cluster::{Note, SessionId};
use offshoot_proto::cluster::FromClient;
use offshoot_proto::id::{AppId, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;

// === impl World ===

impl World {
    /// An operator drains a worker, within 51 s at most.
    pub(super) fn drain(&mut self, index: usize, how: u8) {
        let worker = self.workers[index].info.id.clone();
        let order = FromClient::Drain { worker, within_millis: u64::from(how) * 200 };
        let session = self.session();
        let actions = self.env.client_says(session, "admin", order);
        self.deliver(actions);
    }

    /// A driver that has no executor on a worker that leaves needs nothing there any more. Some
    /// say so late, and some never.
    pub(super) fn say_drained(&mut self, index: usize, how: u8) {
        let driver = &self.drivers[index];
        let nth = usize::from(how) % driver.leaving.len().max(1);
        let Some(worker) = driver.leaving.iter().nth(nth).cloned() else {
            return;
        };
        let mut there = self.workers.iter().filter(|it| it.info.id == worker);
        let runs = there.any(|it| it.running.keys().any(|id| driver.is_of(id.app)));
        if driver.session.is_some() && !runs {
            let driver = &mut self.drivers[index];
            driver.leaving.remove(&worker);
            driver.done.insert(worker.clone());
            self.driver_says(index, FromClient::Drained { worker });
        }
    }

    /// The master is killed, and started again on what it has written down.
    pub(super) fn restart(&mut self, how: u8) {
        let away = Duration::from_millis(u64::from(how) * 250);
        let now = self.env.now + away;
        for deadline in self.draining.values_mut() {
            *deadline = deadline.saturating_sub(now).max(RECOVERY);
        }
        self.env.restart(away);
        self.configure();
        for worker in &mut self.workers {
            worker.session = None;
        }
        for driver in &mut self.drivers {
            driver.session = None;
            driver.past.extend(driver.app.take());
            driver.executors.clear();
            driver.asked.clear();
            driver.leaving.clear();
            driver.done.clear();
        }
    }

    pub(super) fn on_note(&mut self, note: Note) {
        match note {
            Note::WorkerDrains { worker, within } => {
                self.draining.insert(worker, self.env.now + within);
            }
            Note::WorkerLeft { worker } => {
                // Also one that is dead already, and sweeps when it is started again.
                let left = self.workers.iter_mut().filter(|it| it.info.id == worker);
                left.for_each(|it| it.files.clear());
                self.leaves_no_more(&worker);
            }
            Note::WorkerLost { worker, .. } | Note::WorkerMissing { worker } => {
                self.leaves_no_more(&worker)
            }
            _ => {}
        }
    }

    fn leaves_no_more(&mut self, worker: &WorkerId) {
        self.draining.remove(worker);
        for driver in &mut self.drivers {
            driver.leaving.remove(worker);
            driver.done.remove(worker);
        }
    }

    /// A worker is let go: nothing that anybody needs is there, unless its time is over.
    pub(super) fn on_leave(&mut self, session: SessionId) {
        let now = self.env.now;
        let Some(index) = self.workers.iter().position(|it| it.session == Some(session.0)) else {
            return;
        };
        let worker = &self.workers[index];
        let name = &worker.info.id;
        let running: Vec<_> = worker.running.keys().collect();
        assert!(running.is_empty(), "{name} is let go while it runs {running:?}");
        let deadline = self.draining.get(name).expect("it was to leave");
        // One that was silent for too long is none any more; of a life before, it may come back.
        let lives = |app| self.env.cluster.apps.contains_key(&app);
        let may_come = |it: &TrueDriver| it.spec.is_some() && now < RECOVERY;
        let counts = |it: &&TrueDriver| it.app.map_or(may_come(it), lives);
        for driver in self.drivers.iter().filter(counts) {
            let needs = worker.files.iter().any(|app| driver.is_of(*app));
            let is_free = !needs || driver.done.contains(name) || *deadline <= now;
            assert!(is_free, "{name} is let go with files of {:?}", driver.app);
        }
        self.workers[index].session = None;
    }

    /// Who is to leave is written down, and leaves when its time is over.
    pub(super) fn check_draining(&self) {
        let written: Vec<_> = self.env.drains.keys().collect();
        assert_eq!(written, self.draining.keys().collect::<Vec<_>>(), "what is written down");
        if self.env.cluster.next_timeout().is_some_and(|due| due <= self.env.now) {
            return;
        }
        let names: BTreeMap<_, _> = self.workers.iter().map(|it| (&it.info.id, it)).collect();
        for (name, deadline) in &self.draining {
            let worker = names[name];
            if *deadline > self.env.now || worker.session.is_none() {
                continue;
            }
            assert!(!worker.running.is_empty(), "{name} has not left in time");
            let told = worker.running.values().all(|(_, stopping)| *stopping);
            assert!(told, "{name} runs what nobody has told to stop");
        }
    }
}

// === impl TrueDriver ===

impl TrueDriver {
    /// Whether an application is its own, of this or an earlier life of the master.
    fn is_of(&self, app: AppId) -> bool {
        self.app == Some(app) || self.past.contains(&app)
    }
}
