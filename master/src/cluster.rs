//! Who belongs to the cluster and who may use what: the master's decisions, without any I/O.
//!
//! ```text
//!   Event ──► Cluster::handle ──► Vec<Action>     workers ─ 1:n ─ executors ─ n:1 ─ apps
//!   clock ──► next_timeout, handle_timeout        lease, capacity            lease, request
//! ```
//!
//! Rules:
//! - [`crate::share`] says whose turn it is, [`crate::placement`] which worker gives what. Who has
//!   more than its share is asked to give some back when another is owed.
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
mod check;
mod drain;
mod event;
mod explain;
mod give_back;
mod leases;
pub mod limits;
mod placement;
mod remembered;
mod roster;
mod rows;
mod tenants;
mod waiting;
mod workers;

pub use action::{Action, DrainOrder, Note, Order};
pub use event::Event;
pub use rows::ADMIN;
pub use tenants::Tenants;

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod tests;

use crate::free::{Free, Seat};
use crate::placement::Policy;
use crate::share::{Shares, minus, plus};
use offshoot_proto::cluster::{AppSpec, AppState};
use offshoot_proto::id::{AppId, Epoch, ExecutorId, ExecutorNumber, ModuleHash, WorkerId};
use offshoot_proto::waiting::Size;
use roster::{Roster, SeatSet};
use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
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
    workers: Roster,
    apps: BTreeMap<AppId, App>,
    /// Every executor that takes cores of a worker, of ended applications too.
    executors: BTreeMap<ExecutorId, Executor>,
    keys: BTreeMap<(String, u128), AppId>,
    ended: VecDeque<EndedApp>,
    sessions: BTreeMap<SessionId, Peer>,
    modules: BTreeSet<ModuleHash>,
    tenants: Tenants,
    /// Who has and wants what.
    shares: Shares,
    /// Applications that have files on workers that were lost so long ago that they are forgotten.
    strays: BTreeMap<WorkerId, BTreeSet<AppId>>,
    /// What connected workers have free.
    free: Free,
    /// The size of the largest worker, each of cores and memory for itself.
    largest: Size,
    /// What is given away at the moment.
    pass: placement::Pass,
    /// How much of it a step gives.
    launches_a_step: usize,
    /// What is asked back.
    give_back: give_back::GiveBack,
    /// Before this no lease can have run out.
    lease_due: Option<Duration>,
    questions: explain::Questions,
    /// Who was to leave before the master was restarted.
    remembered: remembered::Remembered,
    /// Somebody is to leave no more, which is to be written down.
    drains_changed: bool,
    /// Applications of which it may be new that they wait, or that they do not.
    unjudged: BTreeSet<AppId>,
    /// Before this nobody who waits is to be told.
    tell_at: Option<Duration>,
    rejected: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Peer {
    Worker(Seat),
    Driver(AppId),
}

#[derive(Debug)]
struct Worker {
    id: WorkerId,
    address: SocketAddr,
    cores: u32,
    memory_bytes: u64,
    cores_used: u32,
    memory_used_bytes: u64,
    /// What executors hold that have been told to stop.
    stopping: Size,
    /// What takes its cores, by id.
    executors: Vec<ExecutorId>,
    /// It is to leave.
    drain: Option<drain::Drain>,
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
    spec: Arc<AppSpec>,
    submitted: Duration,
    session: Option<SessionId>,
    heard: Duration,
    next_executor: ExecutorNumber,
    /// Workers that have, or had, an executor of it and so may hold its files. After a
    /// restart of the master those that are to leave are among them, for all applications.
    touched: SeatSet,
    /// Executors that were gone before they listened, since the last one that did.
    failures: u32,
    /// Executors that it wants, launching ones included; as many as it may have if unset.
    wanted: Option<u32>,
    /// Since when it has wanted more than it has.
    hungry: Option<Duration>,
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
    worker: Seat,
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
        tenants: Tenants,
    ) -> Self {
        let mut shares = Shares::default();
        for (name, rules) in tenants.rules() {
            shares.set_rules(name, rules.clone());
        }
        Self {
            origin,
            leases,
            policy,
            now: Duration::ZERO,
            next_app: origin.first_app,
            workers: Roster::default(),
            apps: BTreeMap::new(),
            executors: BTreeMap::new(),
            keys: BTreeMap::new(),
            ended: VecDeque::new(),
            sessions: BTreeMap::new(),
            modules: modules.into_iter().collect(),
            tenants,
            shares,
            strays: BTreeMap::new(),
            free: Free::new(policy.rule.selection),
            largest: Size::default(),
            pass: Default::default(),
            launches_a_step: placement::LAUNCHES_A_STEP,
            give_back: Default::default(),
            lease_due: None,
            questions: Default::default(),
            remembered: Default::default(),
            drains_changed: false,
            unjudged: BTreeSet::new(),
            tell_at: None,
            rejected: 0,
        }
    }

    /// Takes one event. `now` never goes back. What it brings about may be too much for one step:
    /// then [`Self::next_timeout`] is over already, and the rest comes of [`Self::handle_timeout`].
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
                self.refresh_all();
                self.place(out);
            }
            Event::TenantsUnsaved { tenants } => self.set_tenants(tenants),
            Event::DrainSaved(order) => self.on_drain_saved(order, out),
            Event::LaunchFailed { executor, reason } => self.on_gone(executor, &reason, out),
            Event::CertificateRefused { session, app, reason } => {
                self.on_certificate_refused(session, app, reason, out)
            }
        }
        self.save_drains(out);
        self.check();
    }

    /// Reports about what their sender does not own: nothing came of them.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Whether an executor that was decided on is still to be launched; none if it is gone.
    pub fn is_to_launch(&self, executor: ExecutorId) -> Option<bool> {
        let life = self.executors.get(&executor)?.life;
        Some(life == Life::Launching)
    }

    fn on_closed(&mut self, session: SessionId) {
        self.questions.forget(session);
        match self.sessions.remove(&session) {
            Some(Peer::Worker(seat)) => {
                if let Some(worker) = self.workers.get_mut(seat) {
                    worker.disconnect();
                }
                self.recount_free(seat);
            }
            Some(Peer::Driver(id)) => {
                if let Some(app) = self.apps.get_mut(&id) {
                    app.session = None;
                }
                self.refresh(id);
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
        self.executor_range(app).map(|(id, executor)| (*id, executor))
    }

    fn executor_range(&self, app: AppId) -> btree_map::Range<'_, ExecutorId, Executor> {
        self.executors.range(ids_of(app))
    }

    fn executors_on(&self, worker: Seat) -> Vec<ExecutorId> {
        self.workers.get(worker).map_or(Vec::new(), |worker| worker.executors.clone())
    }

    /// What a worker is called.
    fn name(&self, worker: Seat) -> WorkerId {
        self.workers.get(worker).map_or(WorkerId(String::new()), |worker| worker.id.clone())
    }

    /// Enters an executor into the books.
    fn take(&mut self, id: ExecutorId, executor: Executor) {
        self.shares.hold(id.app, 1, executor.size());
        if let Some(worker) = self.workers.get_mut(executor.worker) {
            worker.book(id, executor.size());
        }
        self.recount_free(executor.worker);
        if executor.life == Life::Stopping {
            self.count_stopping(id, &executor);
        }
        self.executors.insert(id, executor);
        self.refresh(id.app);
    }

    /// Strikes an executor from the books: its cores and memory are free.
    fn free(&mut self, id: ExecutorId) -> Option<Executor> {
        let executor = self.executors.remove(&id)?;
        let size = executor.size();
        if let Some(worker) = self.workers.get_mut(executor.worker) {
            worker.strike(id, size);
            if executor.life == Life::Stopping {
                worker.stopping = minus(worker.stopping, size);
            }
        }
        self.recount_free(executor.worker);
        if executor.life != Life::Launching
            && let Some(app) = self.apps.get_mut(&id.app)
        {
            // It has had one that came up: what failed before is no reason to give it none.
            app.failures = 0;
        }
        self.give_back.forget(id);
        self.shares.let_go(id.app, size, executor.life == Life::Stopping);
        self.refresh(id.app);
        Some(executor)
    }

    /// An executor stops from now on.
    fn count_stopping(&mut self, id: ExecutorId, executor: &Executor) {
        let size = executor.size();
        if let Some(worker) = self.workers.get_mut(executor.worker) {
            worker.stopping = plus(worker.stopping, size);
        }
        self.shares.stop(id.app, size);
    }

    /// What a worker has free is another amount.
    fn recount_free(&mut self, seat: Seat) {
        self.pass.forget();
        let free = self.workers.get(seat).and_then(Worker::usable);
        self.free.set(seat, free);
    }

    /// The cluster has another worker, or one less.
    fn recount_total(&mut self) {
        self.pass.forget();
        self.shares.set_total(self.workers.total());
        let largest = self.workers.largest();
        if self.largest != largest {
            self.largest = largest;
            return self.refresh_all();
        }
        // Those that have something are told nothing.
        let waiting = self.apps.keys().filter(|id| !self.shares.runs(**id));
        self.unjudged.extend(waiting);
    }
}

/// The ids that executors of an application may have.
fn ids_of(app: AppId) -> RangeInclusive<ExecutorId> {
    let id = |number| ExecutorId { app, number: ExecutorNumber(number) };
    id(0)..=id(u32::MAX)
}

// === impl Executor ===

impl Executor {
    fn size(&self) -> Size {
        Size { cores: self.cores, memory_bytes: self.memory_bytes }
    }
}

// === impl Leases ===

impl Default for Leases {
    fn default() -> Self {
        Self { worker: limits::WORKER_LEASE, driver: limits::DRIVER_LEASE }
    }
}
