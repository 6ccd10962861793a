//! What must hold after each step.

use super::{TENANTS, TrueDriver, World, rules};
use crate::cluster::tests::env::GIB;
use offshoot_proto::cluster::{AppState, ExecutorState, WorkerState};
use std::collections::BTreeSet;

// === impl World ===

impl World {
    pub(super) fn check(&self) {
        let rows = self.env.cluster.worker_rows();
        for worker in &self.workers {
            let held = worker.running.values().map(|(held, _)| held);
            let (cores, bytes) = held.fold((0, 0), |(cores, bytes), held| {
                (cores + held.cores, bytes + held.memory_bytes)
            });
            let name = &worker.info.id;
            assert!(cores <= worker.info.cores, "{name} runs {cores} cores");
            assert!(bytes <= worker.info.memory_bytes, "{name} uses {bytes} bytes");
            let row = rows.iter().find(|row| row.id == *name);
            if let Some(row) = row.filter(|row| row.state != WorkerState::Lost && row.cores > 0) {
                assert!(row.cores_used >= cores, "cores of {name} given while they are used");
            }
        }
        self.check_tenants();
        self.check_draining();
        let apps = self.env.cluster.app_rows("admin");
        for driver in self.drivers.iter().filter(|driver| driver.session.is_some()) {
            let row = apps.iter().find(|row| Some(row.id) == driver.app).expect("is listed");
            let with = |states: &'static [ExecutorState]| {
                row.executors.iter().filter(|executor| states.contains(&executor.state))
            };
            let listening = with(&[ExecutorState::Running]).map(|executor| executor.id);
            let listening: BTreeSet<_> = listening.collect();
            assert_eq!(driver.executors, listening, "what the driver of {} knows", row.id);
            // What came back after it was given up is being stopped and does not count.
            let granted = with(&[ExecutorState::Launching, ExecutorState::Running]);
            let request = driver.spec.as_ref().unwrap().request;
            let cap = request.total_cores.unwrap_or(u32::MAX);
            // What is where somebody is to leave does not count, so that it can move.
            let stays = granted.filter(|executor| !self.draining.contains_key(&executor.worker));
            assert!(stays.map(|executor| executor.cores).sum::<u32>() <= cap, "cap of {}", row.id);
        }
    }

    /// No quota is exceeded, and nobody is asked for what it is guaranteed.
    fn check_tenants(&self) {
        let apps = self.env.cluster.app_rows("admin");
        for tenant in TENANTS {
            let rules = rules(tenant);
            let (mut cores, mut bytes, mut running, mut asked, mut live) = (0, 0, 0, 0, 0);
            let (mut running_gib, mut asked_gib) = (0, 0);
            for row in apps.iter().filter(|row| row.tenant == tenant) {
                let stopped = |state| state == ExecutorState::Stopping;
                let given = row.executors.iter().filter(|executor| !stopped(executor.state));
                let given: Vec<_> = given.collect();
                cores += given.iter().map(|executor| executor.cores).sum::<u32>();
                bytes += given.len() as u64 * GIB;
                running += u32::from(!given.is_empty());
                let there = |driver: &&TrueDriver| driver.session.is_some();
                let mut drivers = self.drivers.iter().filter(there);
                let driver = drivers.find(|driver| driver.app == Some(row.id));
                let list = driver.map(|driver| &driver.asked);
                let is_asked = |id| list.is_some_and(|list| list.contains(&id));
                // What is where somebody is to leave is asked for whosever it is.
                let leaves = |worker| self.draining.contains_key(worker);
                let back = given.iter().filter(|executor| is_asked(executor.id));
                let back = back.filter(|executor| !leaves(&executor.worker));
                let back: Vec<u32> = back.map(|executor| executor.cores).collect();
                asked += back.iter().sum::<u32>();
                (running_gib, asked_gib) =
                    (running_gib + given.len() as u32, asked_gib + back.len() as u32);
                let lives = [AppState::Waiting, AppState::Running].contains(&row.state);
                live += u32::from(lives);
            }
            assert!(rules.cores_max.is_none_or(|max| cores <= max), "{tenant}: {cores} cores");
            assert!(rules.memory_bytes_max.is_none_or(|max| bytes <= max), "{tenant}: {bytes}");
            assert!(rules.running_max.is_none_or(|max| running <= max), "{tenant}: {running} run");
            assert!(rules.submitted_max.is_none_or(|max| live <= max), "{tenant}: {live} live");
            // As much memory counts as much: each worker has a GiB a core.
            let left = (cores - asked).max(running_gib - asked_gib);
            // What was asked for is judged anew when a pass is over.
            let is_judged = !self.env.cluster.pass.is_open();
            let is_left = asked == 0 || left >= rules.cores_guaranteed;
            assert!(is_left || !is_judged, "{tenant}: {left} are left");
        }
    }
}
