//! Random histories of workers and drivers that crash, leave, come back and go silent, checked
//! against what the workers really run, while workers are drained and the master is restarted.
#![allow(clippy::unwrap_used)]

mod checks;
mod draining;

use super::limits::{BUSY_AGAIN, DRIVER_LEASE, WORKER_LEASE};
use super::tests::env::*;
use super::{Action, SessionId};
use offshoot_proto::cluster::{
    AppSpec, FromClient, FromWorker, HeldExecutor, ToClient, ToWorker, WorkerInfo,
};
use offshoot_proto::id::{AppId, ExecutorId, WorkerId};
use offshoot_proto::tenant::{TenantPolicy, TenantRules};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const WORKERS: usize = 4;
const DRIVERS: usize = 5;
const TENANTS: [&str; 3] = ["ada", "bob", "eve"];

/// More steps than a pass over all of that can take.
const STEPS_MAX: usize = 1000;

/// A kind of step and two numbers that say who and how.
type Step = (u8, u8, u8);

/// What is true, as against what the master believes.
struct World {
    env: Env,
    next_session: u64,
    workers: Vec<TrueWorker>,
    drivers: Vec<TrueDriver>,
    launched: BTreeSet<ExecutorId>,
    /// Connections to processes that are dead, which the master cannot know yet.
    dead: BTreeSet<SessionId>,
    launches_a_step: usize,
    /// Who is to leave, and when in any case.
    draining: BTreeMap<WorkerId, Duration>,
}

struct TrueWorker {
    info: WorkerInfo,
    session: Option<u64>,
    /// Executors that take its cores, and whether each has been told to stop.
    running: BTreeMap<ExecutorId, (HeldExecutor, bool)>,
    files: BTreeSet<AppId>,
}

#[derive(Default)]
struct TrueDriver {
    key: u128,
    spec: Option<AppSpec>,
    app: Option<AppId>,
    session: Option<u64>,
    executors: BTreeSet<ExecutorId>,
    /// What it was asked to give back last.
    asked: BTreeSet<ExecutorId>,
    /// Its applications of earlier lives of the master.
    past: BTreeSet<AppId>,
    /// Workers that it has heard are to leave, and those that it needs no more.
    leaving: BTreeSet<WorkerId>,
    done: BTreeSet<WorkerId>,
}

// === impl World ===

impl World {
    /// A step of the master launches so many at most.
    fn new(launches_a_step: usize) -> Self {
        let worker = |index: usize| TrueWorker {
            info: worker(&format!("w{index}"), [4, 8, 3, 1][index]),
            session: None,
            running: BTreeMap::new(),
            files: BTreeSet::new(),
        };
        let mut world = Self {
            env: Env::new(),
            next_session: 0,
            workers: (0..WORKERS).map(worker).collect(),
            drivers: (0..DRIVERS).map(|_| TrueDriver::default()).collect(),
            launched: BTreeSet::new(),
            dead: BTreeSet::new(),
            launches_a_step,
            draining: BTreeMap::new(),
        };
        world.configure();
        world
    }

    fn configure(&mut self) {
        self.env.cluster.launches_a_step = self.launches_a_step;
        for tenant in TENANTS {
            self.env.admit(tenant, rules(tenant));
        }
    }

    fn tenant(&self, driver: usize) -> &'static str {
        TENANTS[driver % TENANTS.len()]
    }

    fn step(&mut self, (kind, who, how): Step) {
        let (worker, driver) = (usize::from(who) % WORKERS, usize::from(who) % DRIVERS);
        match kind {
            0 | 1 => self.connect_worker(worker),
            2 => self.disconnect_worker(worker),
            3 => self.crash_worker(worker),
            4..=7 => self.report_ready(worker, how),
            8 | 9 => self.report_gone(worker, how),
            10 | 11 => self.connect_driver(driver, how),
            12 => self.disconnect_driver(driver),
            13 => self.finish_driver(driver, how % 2 == 0),
            14 => self.pass(Duration::from_millis(u64::from(how) * 20)),
            15 => self.set_target(driver, how),
            16..=18 => self.give_back(driver, how),
            19 => self.drain(worker, how),
            20 | 21 => self.say_drained(driver, how),
            22 if how < 64 => self.restart(how),
            _ => self.pass(Duration::from_millis(500)),
        }
        self.check();
    }

    fn session(&mut self) -> u64 {
        self.next_session += 1;
        self.next_session
    }

    fn connect_worker(&mut self, index: usize) {
        let session = self.session();
        let worker = &mut self.workers[index];
        worker.session = Some(session);
        let held = worker.running.values().map(|(held, _)| held.clone());
        worker.info.executors = held.collect();
        let info = worker.info.clone();
        let actions = self.env.register_worker(session, info);
        self.deliver(actions);
    }

    fn disconnect_worker(&mut self, index: usize) {
        if let Some(session) = self.workers[index].session.take() {
            let actions = self.env.closed(session);
            self.deliver(actions);
        }
    }

    /// The process dies with its executors; nobody says so.
    fn crash_worker(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        self.dead.extend(worker.session.take().map(SessionId));
        worker.running.clear();
    }

    fn pick(&self, index: usize, how: u8) -> Option<(u64, ExecutorId)> {
        let worker = &self.workers[index];
        let count = worker.running.len().max(1);
        let id = worker.running.keys().nth(usize::from(how) % count)?;
        Some((worker.session?, *id))
    }

    fn report_ready(&mut self, index: usize, how: u8) {
        let Some((session, id)) = self.pick(index, how) else {
            return;
        };
        let worker = &mut self.workers[index];
        let name = worker.info.id.0.clone();
        worker.running.get_mut(&id).unwrap().0.address = Some(executor_address(id));
        let actions = self.env.ready(session, &name, id);
        self.deliver(actions);
    }

    fn report_gone(&mut self, index: usize, how: u8) {
        let Some((session, id)) = self.pick(index, how) else {
            return;
        };
        let worker = &mut self.workers[index];
        let name = worker.info.id.0.clone();
        worker.running.remove(&id);
        let actions = self.env.gone(session, &name, id);
        self.deliver(actions);
    }

    fn connect_driver(&mut self, index: usize, how: u8) {
        let session = self.session();
        let driver = &mut self.drivers[index];
        let cores = [None, Some(1), Some(2), Some(5)][usize::from(how) % 4];
        let total = [None, Some(6)][usize::from(how / 4) % 2];
        if driver.spec.is_none() {
            driver.key += 1;
            driver.executors.clear();
            driver.past.clear();
        }
        let spec = driver.spec.get_or_insert_with(|| app(cores, total)).clone();
        driver.session = Some(session);
        // The master says again what it wants back.
        driver.asked.clear();
        let key = driver.key * DRIVERS as u128 + index as u128;
        let actions = self.env.client_says(session, self.tenant(index), register(key, spec));
        self.deliver(actions);
    }

    fn set_target(&mut self, index: usize, how: u8) {
        let target = FromClient::Target { executors: u32::from(how % 8) };
        self.driver_says(index, target);
    }

    /// Gives back some of what it is asked for, or an executor that it is not asked for.
    fn give_back(&mut self, index: usize, how: u8) {
        let driver = &mut self.drivers[index];
        let count = usize::from(how % 4);
        let asked = std::mem::take(&mut driver.asked);
        let mut executors: Vec<_> = asked.into_iter().take(count).collect();
        if how >= 224 {
            executors.extend(driver.executors.first());
        }
        for executor in &executors {
            driver.executors.remove(executor);
        }
        self.driver_says(index, FromClient::Release { executors });
    }

    fn driver_says(&mut self, index: usize, message: FromClient) {
        if let Some(session) = self.drivers[index].session {
            let actions = self.env.client_says(session, self.tenant(index), message);
            self.deliver(actions);
        }
    }

    fn disconnect_driver(&mut self, index: usize) {
        if let Some(session) = self.drivers[index].session.take() {
            let actions = self.env.closed(session);
            self.deliver(actions);
        }
    }

    fn finish_driver(&mut self, index: usize, succeeded: bool) {
        self.driver_says(index, FromClient::Finished { succeeded });
    }

    /// Time passes; whoever has a connection beats.
    fn pass(&mut self, mut time: Duration) {
        while !time.is_zero() {
            let step = time.min(Duration::from_millis(500));
            time -= step;
            self.env.now += step;
            for index in 0..WORKERS {
                let worker = &self.workers[index];
                if let Some(session) = worker.session {
                    let name = worker.info.id.0.clone();
                    let actions = self.env.worker_says(session, &name, FromWorker::Heartbeat);
                    self.deliver(actions);
                }
            }
            for index in 0..DRIVERS {
                self.driver_says(index, FromClient::Heartbeat);
            }
            let mut actions = Vec::new();
            self.env.cluster.handle_timeout(self.env.now, &mut actions);
            let mut steps = 0;
            while self.env.cluster.next_timeout().is_some_and(|due| due <= self.env.now) {
                steps += 1;
                assert!(steps < STEPS_MAX, "something is due for ever");
                self.env.cluster.handle_timeout(self.env.now, &mut actions);
            }
            let actions = self.env.save(actions);
            self.deliver(actions);
        }
    }

    fn deliver(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::ToWorker { session, message } => self.on_worker_order(session, message),
                Action::ToClient { session, message } => self.on_client_news(session, message),
                Action::Launch { session, order } => {
                    assert!(self.launched.insert(order.executor), "launched twice");
                    let dead = self.dead.contains(&session);
                    let draining = self.draining.clone();
                    let Some(worker) = self.worker_at(session) else {
                        assert!(dead, "launched over a connection that is closed");
                        continue;
                    };
                    let name = &worker.info.id;
                    assert!(!draining.contains_key(name), "launched on {name}, which is to leave");
                    worker.files.insert(order.executor.app);
                    let held = HeldExecutor {
                        id: order.executor,
                        cores: order.cores,
                        memory_bytes: order.memory_bytes,
                        address: None,
                    };
                    worker.running.insert(order.executor, (held, false));
                }
                Action::Certify { session, app, .. } => {
                    let driver = self.driver_at(session).expect("a driver that is connected");
                    driver.app = Some(app);
                }
                Action::Close { session } => {
                    if let Some(worker) = self.worker_at(session) {
                        worker.session = None;
                    }
                    if let Some(driver) = self.driver_at(session) {
                        driver.session = None;
                        driver.spec = None;
                    }
                }
                Action::Note(note) => self.on_note(note),
                Action::Renew { .. } => {}
                Action::SaveTenants { .. } | Action::SaveDrains { .. } => {}
            }
        }
    }

    fn worker_at(&mut self, session: SessionId) -> Option<&mut TrueWorker> {
        self.workers.iter_mut().find(|worker| worker.session == Some(session.0))
    }

    fn driver_at(&mut self, session: SessionId) -> Option<&mut TrueDriver> {
        self.drivers.iter_mut().find(|driver| driver.session == Some(session.0))
    }

    fn on_worker_order(&mut self, session: SessionId, message: ToWorker) {
        if message == ToWorker::Leave {
            return self.on_leave(session);
        }
        // An order to a worker that has just died goes nowhere.
        let Some(worker) = self.worker_at(session) else {
            return;
        };
        let is_meant = |id: ExecutorId| match &message {
            ToWorker::Kill(killed) => id == *killed,
            ToWorker::Forget(app) => id.app == *app,
            _ => false,
        };
        for (id, (_, stopping)) in &mut worker.running {
            *stopping |= is_meant(*id);
        }
        match message {
            ToWorker::Forget(app) => {
                worker.files.remove(&app);
            }
            ToWorker::Refused { reason } => panic!("refused: {reason}"),
            _ => {}
        }
    }

    fn on_client_news(&mut self, session: SessionId, message: ToClient) {
        let Some(driver) = self.driver_at(session) else {
            return;
        };
        match message {
            ToClient::ExecutorAdded(info) => {
                driver.executors.insert(info.id);
                assert_eq!(Some(info.id.app), driver.app);
            }
            ToClient::ExecutorGone { executor, .. } => {
                driver.executors.remove(&executor);
                driver.asked.remove(&executor);
            }
            ToClient::GiveBack { executors } => {
                assert!(executors.iter().all(|id| Some(id.app) == driver.app));
                driver.asked = executors.into_iter().collect();
            }
            ToClient::Draining { worker, .. } => drop(driver.leaving.insert(worker)),
            _ => {}
        }
    }

    /// Everybody comes back, every application ends, every executor obeys: nothing is left.
    fn wind_down(&mut self) {
        for index in 0..DRIVERS {
            self.finish_driver(index, true);
        }
        for index in 0..WORKERS {
            self.connect_worker(index);
        }
        self.pass(DRIVER_LEASE);
        for index in 0..WORKERS {
            let first = self.env.cluster.origin.first_app;
            let mut running = self.workers[index].running.iter();
            // What is of an earlier life ends with its driver.
            let told = running.all(|(id, (_, stopping))| *stopping || id.app < first);
            assert!(told, "an executor of an ended application was not stopped");
            while !self.workers[index].running.is_empty() {
                self.report_gone(index, 0);
            }
            let mut files = self.workers[index].files.iter();
            assert!(files.all(|app| *app < first), "files are left");
        }
        for row in self.env.cluster.worker_rows() {
            assert_eq!((row.cores_used, row.memory_used_bytes), (0, 0), "{}", row.id);
        }
        for index in 0..WORKERS {
            self.disconnect_worker(index);
        }
        // What was due for somebody who is gone is found to be nothing.
        self.pass(WORKER_LEASE + BUSY_AGAIN);
        assert_eq!(self.env.cluster.next_timeout(), None);
        assert_eq!(self.draining, BTreeMap::new(), "who is to leave has left or is lost");
    }
}

/// Of every kind of rule something.
fn rules(tenant: &str) -> TenantRules {
    let plain = TenantRules::default();
    match tenant {
        "ada" => TenantRules { weight: 2, submitted_max: Some(1), ..plain },
        "bob" => TenantRules {
            policy: TenantPolicy::Fifo,
            cores_max: Some(5),
            memory_bytes_max: Some(4 * GIB),
            running_max: Some(1),
            ..plain
        },
        _ => TenantRules { cores_guaranteed: 3, cores_max: Some(9), ..plain },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn cores_are_never_given_twice_and_all_come_back(
        steps in vec((0..26u8, any::<u8>(), any::<u8>()), 1..150),
        launches_a_step in prop_oneof![Just(1), Just(3), Just(usize::MAX)],
    ) {
        let mut world = World::new(launches_a_step);
        for step in steps {
            world.step(step);
        }
        world.wind_down();
    }
}
