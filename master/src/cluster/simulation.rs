//! Random histories of workers and drivers that crash, leave, come back and go silent, checked
//! against what the workers really run.
#![allow(clippy::unwrap_used)]

use super::limits::{BUSY_AGAIN, DRIVER_LEASE, WORKER_LEASE};
use super::tests::env::*;
use super::{Action, SessionId};
use offshoot_proto::cluster::{
    AppSpec, AppState, ExecutorState, FromClient, FromWorker, HeldExecutor, ToClient, ToWorker,
    WorkerInfo, WorkerState,
};
use offshoot_proto::id::{AppId, ExecutorId};
use offshoot_proto::tenant::{TenantPolicy, TenantRules};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const WORKERS: usize = 4;
const DRIVERS: usize = 5;
const TENANTS: [&str; 3] = ["ada", "bob", "eve"];

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
        let mut env = Env::new();
        env.cluster.launches_a_step = launches_a_step;
        for tenant in TENANTS {
            env.admit(tenant, rules(tenant));
        }
        Self {
            env,
            next_session: 0,
            workers: (0..WORKERS).map(worker).collect(),
            drivers: (0..DRIVERS).map(|_| TrueDriver::default()).collect(),
            launched: BTreeSet::new(),
            dead: BTreeSet::new(),
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
            while self.env.cluster.next_timeout().is_some_and(|due| due <= self.env.now) {
                self.env.cluster.handle_timeout(self.env.now, &mut actions);
            }
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
                    let Some(worker) = self.worker_at(session) else {
                        assert!(dead, "launched over a connection that is closed");
                        continue;
                    };
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
                Action::Renew { .. } | Action::Note(_) => {}
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
            _ => {}
        }
    }

    fn check(&self) {
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
            if let Some(row) = row.filter(|row| row.state == WorkerState::Alive) {
                assert!(row.cores_used >= cores, "cores of {name} given while they are used");
            }
        }
        self.check_tenants();
        let apps = self.env.cluster.app_rows("admin");
        for driver in self.drivers.iter().filter(|driver| driver.session.is_some()) {
            let row = apps.iter().find(|row| Some(row.id) == driver.app).expect("is listed");
            let with = |states: &[ExecutorState]| {
                let executors = row.executors.iter();
                let executors = executors.filter(|executor| states.contains(&executor.state));
                executors.map(|executor| (executor.id, executor.cores)).collect::<BTreeMap<_, _>>()
            };
            let listening: BTreeSet<_> = with(&[ExecutorState::Running]).into_keys().collect();
            assert_eq!(driver.executors, listening, "what the driver of {} knows", row.id);
            // What came back after it was given up is being stopped and does not count.
            let granted = with(&[ExecutorState::Launching, ExecutorState::Running]);
            let request = driver.spec.as_ref().unwrap().request;
            let cap = request.total_cores.unwrap_or(u32::MAX);
            assert!(granted.values().sum::<u32>() <= cap, "cap of {}", row.id);
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
                let back = given.iter().filter(|executor| is_asked(executor.id));
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
            let running = &self.workers[index].running;
            let told = running.values().all(|(_, stopping)| *stopping);
            assert!(told, "an executor of an ended application was not stopped");
            while !self.workers[index].running.is_empty() {
                self.report_gone(index, 0);
            }
            assert_eq!(self.workers[index].files, BTreeSet::new(), "files are left");
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
        steps in vec((0..22u8, any::<u8>(), any::<u8>()), 1..150),
        launches_a_step in prop_oneof![Just(1), Just(3), Just(usize::MAX)],
    ) {
        let mut world = World::new(launches_a_step);
        for step in steps {
            world.step(step);
        }
        world.wind_down();
    }
}
