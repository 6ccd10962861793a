//! Who belongs to the cluster and who may use what: the master's decisions, without any I/O.
//!
//! ```text
//!   Event ──► Cluster::handle ──► Vec<Action>     workers ─ 1:n ─ executors ─ n:1 ─ apps
//!   clock ──► next_timeout, handle_timeout        lease, capacity            lease, request
//! ```
//!
//! Rules:
//! - Applications are served first come, first served; [`crate::placement`] says which worker gives
//!   what.
//! - Cores and memory of an executor are free when its worker says that it is gone, or when the
//!   worker itself is lost, and never before: two executors never share a core.
//! - A connection may break and come back within the lease; only silence makes a peer lost.
//! - Heartbeats are answered, not sent: when one direction of a link is cut, both ends fall silent
//!   and both draw the same conclusion.
//!
//! Not here: sockets, certificates, module bytes (the shell in [`crate::server`] has them), tasks
//! (the master never sees one).

mod action;
mod apps;
mod event;
pub mod limits;
mod placement;
mod rows;
mod waiting;
mod workers;

pub use action::{Action, Note};
pub use event::Event;
pub use rows::ADMIN;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::placement::Policy;
use offshoot_proto::cluster::{AppSpec, AppState};
use offshoot_proto::id::{AppId, Epoch, ExecutorId, ExecutorNumber, ModuleHash, WorkerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// One connection of a peer, numbered by the shell and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Numbers that a life of the master starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// This life; higher than that of every life before.
    pub epoch: Epoch,
    /// The first application of this life; higher than that of every life before.
    pub first_app: AppId,
    /// What a wall clock shows when this machine's clock is at 0: milliseconds since 1970.
    pub unix_millis: u64,
}

/// After how much silence a peer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leases {
    /// A worker, which beats each second.
    pub worker: Duration,
    /// A driver, which beats twice a second.
    pub driver: Duration,
}

/// The state machine.
#[derive(Debug)]
pub struct Cluster {
    origin: Origin,
    leases: Leases,
    policy: Policy,
    /// The time of the step that is being taken.
    now: Duration,
    next_app: AppId,
    workers: BTreeMap<WorkerId, Worker>,
    apps: BTreeMap<AppId, App>,
    /// Every executor that takes cores of a worker, of ended applications too.
    executors: BTreeMap<ExecutorId, Executor>,
    keys: BTreeMap<(String, u128), AppId>,
    ended: VecDeque<EndedApp>,
    sessions: BTreeMap<SessionId, Peer>,
    modules: BTreeSet<ModuleHash>,
    rejected: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Peer {
    Worker(WorkerId),
    Driver(AppId),
}

#[derive(Debug)]
struct Worker {
    address: SocketAddr,
    cores: u32,
    memory_bytes: u64,
    cores_used: u32,
    memory_used_bytes: u64,
    link: Link,
    /// Applications that it was told to forget, and when; see [`Worker::hear`].
    forgets: BTreeMap<AppId, Duration>,
}

#[derive(Debug)]
enum Link {
    /// Its lease runs; without a session it may still come back.
    Alive { session: Option<SessionId>, heard: Duration },
    /// Its lease ran out at this time.
    Lost { since: Duration },
}

#[derive(Debug)]
struct App {
    tenant: String,
    key: u128,
    spec: Box<AppSpec>,
    submitted: Duration,
    session: Option<SessionId>,
    heard: Duration,
    next_executor: ExecutorNumber,
    /// Workers that have, or had, an executor of it and so may hold its files.
    touched: BTreeSet<WorkerId>,
    /// Executors that were gone before they listened, since the last one that did.
    failures: u32,
    /// Executors that its driver wants, those that it has included; any number if it never said.
    wanted: Option<u32>,
    waiting: waiting::Waiting,
    /// What a driver without a connection must hear when it is back.
    unreported: Vec<(ExecutorId, String)>,
}

#[derive(Debug)]
struct EndedApp {
    id: AppId,
    tenant: String,
    key: u128,
    name: String,
    submitted: Duration,
    state: AppState,
}

#[derive(Clone, Debug)]
struct Executor {
    worker: WorkerId,
    cores: u32,
    memory_bytes: u64,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Ordered.
    Launching,
    /// Listening.
    Running { address: SocketAddr },
    /// Told to stop.
    Stopping,
    /// Of an application of an earlier life of the master, whose driver goes on by itself.
    Foreign,
}

// === impl Cluster ===

impl Cluster {
    /// An empty cluster that knows the modules of earlier lives.
    pub fn new(
        origin: Origin,
        leases: Leases,
        policy: Policy,
        modules: impl IntoIterator<Item = ModuleHash>,
    ) -> Self {
        Self {
            origin,
            leases,
            policy,
            now: Duration::ZERO,
            next_app: origin.first_app,
            workers: BTreeMap::new(),
            apps: BTreeMap::new(),
            executors: BTreeMap::new(),
            keys: BTreeMap::new(),
            ended: VecDeque::new(),
            sessions: BTreeMap::new(),
            modules: modules.into_iter().collect(),
            rejected: 0,
        }
    }

    /// Takes one event. `now` never goes back.
    pub fn handle(&mut self, now: Duration, event: Event, out: &mut Vec<Action>) {
        self.now = now;
        match event {
            Event::FromWorker { session, identity, message } => {
                self.on_worker_message(session, identity, message, out)
            }
            Event::FromClient { session, tenant, message } => {
                self.on_client_message(session, tenant, message, out)
            }
            Event::Closed { session } => self.on_closed(session),
            Event::ModuleStored { hash } => {
                self.modules.insert(hash);
                self.place(out);
            }
            Event::LaunchFailed { executor, reason } => self.on_gone(executor, &reason, out),
            Event::CertificateRefused { session, app, reason } => {
                self.on_certificate_refused(session, app, reason, out)
            }
        }
        self.check();
    }

    /// When [`Self::handle_timeout`] must be called at the latest.
    pub fn next_timeout(&self) -> Option<Duration> {
        let workers = self.workers.values().filter_map(Worker::heard);
        let workers = workers.map(|heard| heard + self.leases.worker);
        let apps = self.apps.values().map(|app| app.heard + self.leases.driver);
        workers.chain(apps).chain(self.next_told()).min()
    }

    /// Ends the leases that have run out, and tells who has waited for long enough.
    pub fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.now = now;
        let Leases { worker, driver } = self.leases;
        let lost = |heard: Duration| heard + worker <= now;
        let workers = self.workers.iter().filter(|(_, worker)| worker.heard().is_some_and(lost));
        let workers: Vec<_> = workers.map(|(id, _)| id.clone()).collect();
        let apps = self.apps.iter().filter(|(_, app)| app.heard + driver <= now);
        let apps: Vec<_> = apps.map(|(id, _)| *id).collect();
        for worker in &workers {
            self.lose_worker(worker, out);
        }
        for app in &apps {
            self.lose_driver(*app, out);
        }
        if !(workers.is_empty() && apps.is_empty()) {
            self.place(out);
        }
        self.tell_due(out);
        self.check();
    }

    /// Reports about what their sender does not own: nothing came of them.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    fn on_closed(&mut self, session: SessionId) {
        match self.sessions.remove(&session) {
            Some(Peer::Worker(id)) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.disconnect();
                }
            }
            Some(Peer::Driver(id)) => {
                if let Some(app) = self.apps.get_mut(&id) {
                    app.session = None;
                }
            }
            None => {}
        }
    }

    /// Closes a session of a peer that the machine is done with.
    fn close(&mut self, session: SessionId, out: &mut Vec<Action>) {
        self.sessions.remove(&session);
        out.push(Action::Close { session });
    }

    fn executors_of(&self, app: AppId) -> impl Iterator<Item = (ExecutorId, &Executor)> {
        let id = |number| ExecutorId { app, number: ExecutorNumber(number) };
        let all = self.executors.range(id(0)..=id(u32::MAX));
        all.map(|(id, executor)| (*id, executor))
    }

    fn executors_on(&self, worker: &WorkerId) -> Vec<ExecutorId> {
        let on = self.executors.iter().filter(|(_, executor)| executor.worker == *worker);
        on.map(|(id, _)| *id).collect()
    }

    /// Enters an executor into the books.
    fn take(&mut self, id: ExecutorId, executor: Executor) {
        if let Some(worker) = self.workers.get_mut(&executor.worker) {
            worker.cores_used += executor.cores;
            worker.memory_used_bytes += executor.memory_bytes;
        }
        self.executors.insert(id, executor);
    }

    /// Strikes an executor from the books: its cores and memory are free.
    fn free(&mut self, id: ExecutorId) -> Option<Executor> {
        let executor = self.executors.remove(&id)?;
        if let Some(worker) = self.workers.get_mut(&executor.worker) {
            worker.cores_used -= executor.cores;
            worker.memory_used_bytes -= executor.memory_bytes;
        }
        Some(executor)
    }

    /// In debug builds, after each step: the books agree with each other.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let mut used: BTreeMap<&WorkerId, (u32, u64)> = BTreeMap::new();
        for executor in self.executors.values() {
            let sums = used.entry(&executor.worker).or_default();
            *sums = (sums.0 + executor.cores, sums.1 + executor.memory_bytes);
        }
        for (id, worker) in &self.workers {
            let sums = used.remove(id).unwrap_or_default();
            assert_eq!(sums, (worker.cores_used, worker.memory_used_bytes), "{id}");
            assert!(worker.cores_used <= worker.cores, "cores of {id}");
            assert!(worker.memory_used_bytes <= worker.memory_bytes, "memory of {id}");
        }
        assert!(used.is_empty(), "executors without a worker: {used:?}");
        for (session, peer) in &self.sessions {
            let held = match peer {
                Peer::Worker(id) => self.workers.get(id).and_then(Worker::session),
                Peer::Driver(id) => self.apps.get(id).and_then(|app| app.session),
            };
            assert_eq!(held, Some(*session), "session of {peer:?}");
        }
    }
}

// === impl Leases ===

impl Default for Leases {
    fn default() -> Self {
        Self { worker: limits::WORKER_LEASE, driver: limits::DRIVER_LEASE }
    }
}
