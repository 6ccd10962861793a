//! The master's state machine on a large cluster: what an event costs, and what a pass over
//! everything costs.
//!
//! 50 tenants of different weights have 980 applications, which want more than there is of
//! 10,000 workers with 10 cores each: 100,000 executors of one core. Prints microseconds: median,
//! 99th percentile and maximum of so many samples. `cargo bench -p offshoot-master --bench
//! allocator -- 1000` measures so many workers, with a tenth of so many applications.

#[path = "allocator/decide.rs"]
mod decide;

use offshoot_master::cluster::{Action, Cluster, Event, Leases, Origin, SessionId, Tenants};
use offshoot_master::placement::Policy;
use offshoot_net::{Authority, ClusterName, Role, Validity};
use offshoot_proto::cluster::{
    AppSpec, FromClient, FromWorker, ResourceRequest, ToClient, ToWorker, WorkerInfo,
};
use offshoot_proto::grants::Grants;
use offshoot_proto::id::{AppId, Epoch, ExecutorId, ExecutorNumber, ModuleHash, WorkerId};
use offshoot_proto::settings::Settings;
use offshoot_proto::tenant::TenantRules;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

const MODULE: ModuleHash = ModuleHash([7; 32]);
const GIB: u64 = 1 << 30;
const CORES: u32 = 10;
const TENANTS: usize = 50;

/// Drivers' sessions follow those of the workers.
const DRIVERS: u64 = 1 << 32;

fn main() {
    let asked = std::env::args().find_map(|argument| argument.parse().ok());
    let workers: usize = asked.unwrap_or(10_000);
    println!("{:<48} {:>8} {:>10} {:>10} {:>10}", "µs", "samples", "median", "p99", "max");
    decide::run(workers);
    let apps = (workers / 10).saturating_sub(20).max(2);
    let (mut firsts, mut others, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let mut bench = Bench::start(workers, apps);
    for _ in 0..10 {
        bench = Bench::start(workers, apps);
        let (steps, whole) = bench.give_everything();
        firsts.push(steps[0]);
        others.extend(&steps[1..]);
        all.push(whole);
    }
    report("pass that gives them: the first step", firsts);
    report("pass that gives them: the steps after it", others);
    report("pass that gives them: all steps", all);
    bench.events();
    bench.rebalance();
    drop(bench);
    give_back_half(workers);
    search_in_vain(workers);
    tell_waiting(workers);
    mint();
}

/// Somebody has everything, and somebody else comes who is owed half of it.
fn give_back_half(workers: usize) {
    let mut bench = Bench::empty(workers, [MODULE]);
    bench.add_workers();
    bench.register(0, tenant(0), spec());
    bench.settle();
    let first = bench.time_register(1, tenant(5), spec());
    report("round that asks for as much as a round may", vec![first]);
    report("rounds after it, which ask for the same", bench.rounds(20));
}

/// Of each worker one core is somebody's who keeps it, and sixteen others want whole workers.
fn search_in_vain(workers: usize) {
    let mut bench = Bench::empty(workers, [MODULE]);
    let guaranteed = workers as u32;
    let rules = TenantRules { cores_guaranteed: guaranteed, ..TenantRules::default() };
    let all = (0..TENANTS).map(|index| (tenant(index), self::rules(index)));
    bench.cluster = cluster(all.chain([("kept".to_owned(), rules)]), [MODULE]);
    bench.add_workers();
    let mut kept = spec();
    kept.request.total_cores = Some(guaranteed);
    bench.register(0, "kept".to_owned(), kept);
    bench.settle();
    bench.register(1, tenant(0), spec());
    bench.settle();
    let mut whole = spec();
    whole.request.executor_cores = Some(CORES);
    for index in 0..16 {
        bench.register(2 + index, tenant(1 + index % 4), whole.clone());
    }
    report("rounds that find nothing for anybody", bench.rounds(40));
}

/// Somebody has everything, and all others are told so at the same time.
fn tell_waiting(workers: usize) {
    let mut bench = Bench::empty(workers, [MODULE]);
    bench.add_workers();
    bench.register(0, tenant(0), spec());
    bench.settle();
    for index in 1..workers / 10 {
        bench.register(index, tenant(index % TENANTS), spec());
    }
    bench.now += Duration::from_secs(2);
    let mut told = Vec::new();
    while bench.cluster.next_timeout().is_some_and(|due| due <= bench.now) {
        let started = Instant::now();
        bench.cluster.handle_timeout(bench.now, &mut Vec::new());
        told.push(started.elapsed());
    }
    report("steps that tell all others what they wait for", told);
    let joins = (0..20).map(|index| {
        let info = worker_info(workers + index);
        let started = Instant::now();
        bench.worker_says(workers + index, FromWorker::Register(info));
        started.elapsed()
    });
    report("worker that comes while all of them wait", joins.collect());
}

/// What comes after the decisions: each executor has a credential of its own.
fn mint() {
    let authority =
        Authority::generate(ClusterName::random(), SystemTime::now()).expect("an authority");
    let day = Duration::from_secs(24 * 60 * 60);
    let credentials = (0..1000).map(|number| {
        let role = Role::Executor(ExecutorId { app: AppId(1), number: ExecutorNumber(number) });
        let started = Instant::now();
        authority.mint(&role, Validity::lasting(day, SystemTime::now())).expect("a credential");
        started.elapsed()
    });
    report("credential of one executor", credentials.collect());
}

/// A cluster, and what its peers know of it.
struct Bench {
    cluster: Cluster,
    now: Duration,
    workers: usize,
    apps: usize,
    /// Executors that run, the oldest first, with their workers.
    executors: VecDeque<(ExecutorId, usize)>,
}

// === impl Bench ===

impl Bench {
    /// All workers and applications, and no module yet.
    fn start(workers: usize, apps: usize) -> Self {
        let mut bench = Self { apps, ..Self::empty(workers, []) };
        bench.add_workers();
        for index in 0..apps {
            bench.register(index, tenant(index % TENANTS), spec());
        }
        bench
    }

    fn empty(workers: usize, modules: impl IntoIterator<Item = ModuleHash>) -> Self {
        let rules = (0..TENANTS).map(|index| (tenant(index), rules(index)));
        let cluster = cluster(rules, modules);
        let now = Duration::from_secs(100);
        Self { cluster, now, workers, apps: 0, executors: VecDeque::new() }
    }

    fn add_workers(&mut self) {
        for worker in 0..self.workers {
            let info = worker_info(worker);
            self.worker_says(worker, FromWorker::Register(info));
        }
    }

    /// Lets a pass come to its end.
    fn settle(&mut self) {
        while self.cluster.next_timeout().is_some_and(|due| due <= self.now) {
            self.cluster.handle_timeout(self.now, &mut Vec::new());
        }
    }

    fn time_register(&mut self, index: usize, tenant: String, app: AppSpec) -> Duration {
        let started = Instant::now();
        self.register(index, tenant, app);
        started.elapsed()
    }

    /// Rounds that come because their time has come.
    fn rounds(&mut self, count: usize) -> Vec<Duration> {
        let rounds = (0..count).map(|_| {
            self.now += Duration::from_millis(100);
            let mut out = Vec::new();
            let message = FromClient::Target { executors: 1_000_000 };
            let session = SessionId(DRIVERS + 1);
            let started = Instant::now();
            let event = Event::FromClient { session, tenant: tenant(0), message };
            self.cluster.handle(self.now, event, &mut out);
            started.elapsed()
        });
        rounds.collect()
    }

    fn register(&mut self, index: usize, tenant: String, app: AppSpec) {
        let message = FromClient::Register {
            idempotency_key: index as u128,
            app: Box::new(app),
            signing_request: Vec::new(),
        };
        self.client_says(index, tenant, message);
    }

    /// The worst pass there is: every core goes to somebody at once, step by step.
    fn give_everything(&mut self) -> (Vec<Duration>, Duration) {
        let (mut out, mut steps) = (Vec::new(), Vec::new());
        let started = Instant::now();
        self.cluster.handle(self.now, Event::ModuleStored { hash: MODULE }, &mut out);
        steps.push(started.elapsed());
        while self.cluster.next_timeout().is_some_and(|due| due <= self.now) {
            let started = Instant::now();
            self.cluster.handle_timeout(self.now, &mut out);
            steps.push(started.elapsed());
        }
        let all = started.elapsed();
        self.learn(&out);
        (steps, all)
    }

    fn events(&mut self) {
        let mut ready = Vec::new();
        for (executor, worker) in self.executors.clone() {
            let message = FromWorker::ExecutorReady { executor, address: address() };
            ready.push(self.time_worker(worker, message));
        }
        report("executor listens", ready);
        let beats = (0..self.workers).map(|worker| self.time_worker(worker, FromWorker::Heartbeat));
        let beats = beats.collect();
        report("heartbeat of a worker", beats);
        let mut gone = Vec::new();
        for _ in 0..self.executors.len() / 10 {
            self.now += Duration::from_micros(100);
            let Some((executor, worker)) = self.executors.pop_front() else { break };
            let reason = String::new();
            let message = FromWorker::ExecutorGone { executor, reason };
            gone.push(self.time_worker(worker, message));
        }
        report("executor is gone, another is launched", gone);
        let mut targets = Vec::new();
        for index in 0..self.apps {
            self.now += Duration::from_micros(100);
            let message = FromClient::Target { executors: 1_000_000 };
            targets.push(self.time_client(index, message));
        }
        report("driver wants more", targets);
    }

    /// Somebody of a new tenant comes, and everybody else is above what is its share then.
    fn rebalance(&mut self) {
        let mut rounds = Vec::new();
        for index in 0..20 {
            self.now += Duration::from_secs(1);
            rounds.push(self.time_register(self.apps + index, "admin".to_owned(), spec()));
        }
        report("round that asks others to give back", rounds);
    }

    fn time_worker(&mut self, worker: usize, message: FromWorker) -> Duration {
        let event = Event::FromWorker {
            session: SessionId(worker as u64),
            identity: worker_id(worker),
            message,
        };
        self.time(event)
    }

    fn time_client(&mut self, index: usize, message: FromClient) -> Duration {
        let session = SessionId(DRIVERS + index as u64);
        self.time(Event::FromClient { session, tenant: tenant(index % TENANTS), message })
    }

    fn time(&mut self, event: Event) -> Duration {
        let mut out = Vec::new();
        let started = Instant::now();
        self.cluster.handle(self.now, event, &mut out);
        let took = started.elapsed();
        self.learn(&out);
        took
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.cluster.handle(self.now, event, &mut out);
        out
    }

    fn worker_says(&mut self, worker: usize, message: FromWorker) {
        let session = SessionId(worker as u64);
        let actions =
            self.handle(Event::FromWorker { session, identity: worker_id(worker), message });
        assert!(!actions.iter().any(|action| matches!(
            action,
            Action::ToWorker { message: ToWorker::Refused { .. }, .. }
        )));
    }

    fn client_says(&mut self, index: usize, tenant: String, message: FromClient) {
        let session = SessionId(DRIVERS + index as u64);
        let actions = self.handle(Event::FromClient { session, tenant, message });
        for action in actions {
            if let Action::ToClient { message: ToClient::Refused { reason }, .. } = action {
                assert!(reason.contains("which is the limit"), "{reason}");
            }
        }
    }

    fn learn(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Launch { session, order } = action {
                self.executors.push_back((order.executor, session.0 as usize));
            }
        }
    }
}

fn cluster(
    rules: impl IntoIterator<Item = (String, TenantRules)>,
    modules: impl IntoIterator<Item = ModuleHash>,
) -> Cluster {
    let origin = Origin { epoch: Epoch(1), first_app: AppId(1), unix_millis: 0 };
    let tenants = Tenants::new(rules, []);
    Cluster::new(origin, Leases::default(), Policy::default(), modules, tenants)
}

fn tenant(index: usize) -> String {
    format!("tenant-{index}")
}

fn rules(index: usize) -> TenantRules {
    TenantRules { weight: 1 + index as u32 % 5, ..TenantRules::default() }
}

fn worker_id(index: usize) -> WorkerId {
    WorkerId(format!("worker-{index}"))
}

fn worker_info(index: usize) -> WorkerInfo {
    WorkerInfo {
        id: worker_id(index),
        address: address(),
        cores: CORES,
        memory_bytes: u64::from(CORES) * GIB,
        executors: Vec::new(),
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7000))
}

fn spec() -> AppSpec {
    AppSpec {
        name: "bench".to_owned(),
        module: MODULE,
        arguments: vec!["bench".to_owned()],
        grants: Grants::default(),
        settings: Settings::default(),
        request: ResourceRequest {
            executor_cores: Some(1),
            executor_memory_bytes: GIB,
            total_cores: None,
            executors_max: None,
            executors_wanted: None,
        },
        store: Default::default(),
    }
}

fn report(what: &str, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let at = |part: usize| {
        let index = samples.len() * part / 100;
        samples[index.min(samples.len() - 1)].as_secs_f64() * 1e6
    };
    let (median, late, most) = (at(50), at(99), at(100));
    println!("{what:<48} {:>8} {median:>10.1} {late:>10.1} {most:>10.1}", samples.len());
}
