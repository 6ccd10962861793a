//! The books agree with each other: looked at after each step in debug builds.

use super::{Cluster, Life, Peer, Worker};
use crate::free::Seat;
use crate::share::plus;
use offshoot_proto::id::{AppId, ExecutorId};
use offshoot_proto::waiting::Size;
use std::collections::BTreeMap;

// === impl Cluster ===

impl Cluster {
    /// In debug builds, after each step: the books agree with each other.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let mut used: BTreeMap<Seat, (u32, u64, Vec<ExecutorId>)> = BTreeMap::new();
        for (id, executor) in &self.executors {
            let sums = used.entry(executor.worker).or_default();
            sums.0 += executor.cores;
            sums.1 += executor.memory_bytes;
            sums.2.push(*id);
        }
        for (seat, worker) in self.workers.iter() {
            let (id, (cores, bytes, list)) = (&worker.id, used.remove(&seat).unwrap_or_default());
            assert_eq!((cores, bytes), (worker.cores_used, worker.memory_used_bytes), "{id}");
            assert_eq!(list, worker.executors, "executors of {id}");
            assert_eq!(self.free.of(seat), worker.usable(), "what {id} has free");
            assert!(worker.cores_used <= worker.cores, "cores of {id}");
            assert!(worker.memory_used_bytes <= worker.memory_bytes, "memory of {id}");
        }
        assert!(used.is_empty(), "executors without a worker: {used:?}");
        self.check_sums();
        self.check_shares();
        for (session, peer) in &self.sessions {
            let held = match peer {
                Peer::Worker(seat) => self.workers.get(*seat).and_then(Worker::session),
                Peer::Driver(id) => self.apps.get(id).and_then(|app| app.session),
            };
            assert_eq!(held, Some(*session), "session of {peer:?}");
        }
    }

    /// What is kept of all workers together is what they give.
    fn check_sums(&self) {
        let alive = |worker: &&Worker| worker.is_alive() && worker.drain.is_none();
        let workers = self.workers.iter().map(|(_, worker)| worker).filter(alive);
        let sizes: Vec<_> = workers.map(Worker::size).collect();
        let total = sizes.iter().fold(Size::default(), |sum, size| plus(sum, *size));
        assert_eq!((self.workers.total(), self.shares.total()), (total, total));
        assert!(self.workers.sizes().all(|size| sizes.contains(&size)), "sizes");
        let drains = self.workers.iter().filter(|(_, worker)| worker.drain.is_some());
        let drains: Vec<_> = drains.map(|(seat, _)| seat).collect();
        assert_eq!(drains, self.workers.draining().collect::<Vec<_>>(), "who is to leave");
    }

    /// What is counted for applications and tenants is what their executors have, and no quota is
    /// exceeded by what was given under it.
    fn check_shares(&self) {
        let mut apps: BTreeMap<AppId, (u32, Size, u32)> = BTreeMap::new();
        for (id, executor) in &self.executors {
            if self.apps.contains_key(&id.app) {
                let (count, sum, stopping) = apps.entry(id.app).or_default();
                *count += 1;
                *sum = plus(*sum, executor.size());
                *stopping += u32::from(executor.life == Life::Stopping);
            }
        }
        let mut tenants: BTreeMap<&str, Size> = BTreeMap::new();
        for (id, app) in &self.apps {
            let (count, sum, stopping) = apps.remove(id).unwrap_or_default();
            assert_eq!((count, sum), (self.shares.executors(*id), self.shares.used(*id)), "{id}");
            assert_eq!(stopping, self.shares.stopping(*id), "executors of {id} that stop");
            let used = tenants.entry(&app.tenant).or_default();
            *used = plus(*used, sum);
        }
        for (name, _, used, ..) in self.shares.tenants() {
            assert_eq!(used, tenants.remove(name).unwrap_or_default(), "tenant {name}");
        }
    }
}
