//! Workers: registration, what they say of their executors, and their loss.

use super::limits::{LAUNCH_FAILURES_MAX, WORKERS_LOST_KEPT, validate_worker};
use super::{Action, Cluster, Executor, Life, Link, Note, Peer, SessionId, Worker};
use crate::free::Seat;
use offshoot_proto::cluster::{
    AppState, ExecutorInfo, ExecutorState, FromWorker, HeldExecutor, ToClient, ToWorker, WorkerInfo,
};
use offshoot_proto::id::{AppId, ExecutorId, WorkerId};
use offshoot_proto::waiting::Size;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

// === impl Cluster ===

impl Cluster {
    pub(super) fn on_worker_message(
        &mut self,
        session: SessionId,
        identity: WorkerId,
        message: FromWorker,
        out: &mut Vec<Action>,
    ) {
        if let FromWorker::Register(info) = message {
            return self.on_register_worker(session, identity, info, out);
        }
        let Some(seat) = self.seat_of(session, &identity) else {
            self.rejected += 1;
            return;
        };
        match message {
            FromWorker::Heartbeat => to_worker(session, ToWorker::Heartbeat, out),
            FromWorker::ExecutorReady { executor, address } => {
                if self.is_on(executor, seat) {
                    self.on_ready(executor, address, out);
                    self.place(out);
                }
            }
            FromWorker::ExecutorGone { executor, reason } => {
                if self.is_on(executor, seat) {
                    self.on_gone(executor, &reason, out);
                }
            }
            FromWorker::Renew { signing_request } => {
                out.push(Action::Renew { session, worker: identity, signing_request })
            }
            FromWorker::Register(_) => {}
        }
    }

    /// A worker is heard over its own connection.
    fn seat_of(&mut self, session: SessionId, identity: &WorkerId) -> Option<Seat> {
        let Some(Peer::Worker(seat)) = self.sessions.get(&session) else {
            return None;
        };
        let worker = self.workers.get_mut(*seat).filter(|worker| worker.id == *identity)?;
        worker.hear(self.now, self.leases.worker);
        Some(*seat)
    }

    fn is_on(&mut self, executor: ExecutorId, worker: Seat) -> bool {
        let found = self.executors.get(&executor);
        let owned = found.is_some_and(|executor| executor.worker == worker);
        self.rejected += u64::from(!owned);
        owned
    }

    fn on_register_worker(
        &mut self,
        session: SessionId,
        id: WorkerId,
        info: WorkerInfo,
        out: &mut Vec<Action>,
    ) {
        let valid = validate_worker(&id, &info).map_err(|error| error.to_string());
        if let Err(reason) = valid.and_then(|()| self.check_held(&id, &info.executors)) {
            to_worker(session, ToWorker::Refused { reason }, out);
            return self.close(session, out);
        }
        let (seat, old_forgets) = self.seat_worker(session, &info, out);
        self.lease(self.leases.worker);
        self.recount_free(seat);
        self.recount_total();
        let mut forget = old_forgets;
        let epoch = self.origin.epoch;
        to_worker(session, ToWorker::Registered { epoch }, out);
        for held in info.executors {
            self.adopt(session, seat, held, &mut forget, out);
        }
        for app in forget {
            self.forget(seat, app, out);
        }
        out.push(Action::Note(Note::WorkerRegistered {
            worker: id,
            cores: info.cores,
            memory_bytes: info.memory_bytes,
        }));
        self.go_on_draining(seat, out);
        self.leave_if_empty(seat, out);
        self.place(out);
    }

    /// Gives a worker that registers its seat, the old one if it has one. Returns which
    /// applications it was told to forget.
    fn seat_worker(
        &mut self,
        session: SessionId,
        info: &WorkerInfo,
        out: &mut Vec<Action>,
    ) -> (Seat, BTreeSet<AppId>) {
        let link = Link::Alive { session: Some(session), heard: self.now };
        if let Some(seat) = self.workers.seat(&info.id) {
            self.retire_missing(seat, &info.executors, out);
            let old = self.workers.get(seat).and_then(Worker::session);
            if let Some(old) = old.filter(|old| *old != session) {
                self.close(old, out);
            }
            self.sessions.insert(session, Peer::Worker(seat));
            let forgets = self.workers.change(seat, |worker| {
                (worker.address, worker.link) = (info.address, link);
                (worker.cores, worker.memory_bytes) = (info.cores, info.memory_bytes);
                std::mem::take(&mut worker.forgets)
            });
            return (seat, forgets.unwrap_or_default().into_keys().collect());
        }
        let worker = Worker {
            id: info.id.clone(),
            address: info.address,
            cores: info.cores,
            memory_bytes: info.memory_bytes,
            cores_used: 0,
            memory_used_bytes: 0,
            stopping: Size::default(),
            executors: Vec::new(),
            drain: self.remembered.come_back(&info.id),
            link,
            forgets: Default::default(),
        };
        let (seat, [before, after]) = self.workers.add(worker);
        self.free.join(seat, before, after);
        for app in self.strays.remove(&info.id).unwrap_or_default() {
            if let Some(app) = self.apps.get_mut(&app) {
                app.touched.insert(seat);
            }
        }
        self.sessions.insert(session, Peer::Worker(seat));
        (seat, BTreeSet::new())
    }

    /// Refuses what contradicts the books: no executor runs in two places or changes its size.
    fn check_held(&self, id: &WorkerId, held: &[HeldExecutor]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for executor in held {
            let name = executor.id;
            if !seen.insert(name) {
                return Err(format!("executors: {name} is named twice"));
            }
            let Some(books) = self.executors.get(&name) else {
                continue;
            };
            if self.workers.seat(id) != Some(books.worker) {
                let worker = self.name(books.worker);
                return Err(format!("executors: {name} runs on worker {worker}"));
            }
            if (books.cores, books.memory_bytes) != (executor.cores, executor.memory_bytes) {
                return Err(format!(
                    "executors: {name} has {} cores and {} bytes; it was launched with {} and {}",
                    executor.cores, executor.memory_bytes, books.cores, books.memory_bytes
                ));
            }
        }
        Ok(())
    }

    /// Strikes executors that the worker does not run any more, or never heard of.
    fn retire_missing(&mut self, seat: Seat, held: &[HeldExecutor], out: &mut Vec<Action>) {
        let id = self.name(seat);
        let held: BTreeSet<_> = held.iter().map(|executor| executor.id).collect();
        for executor in self.executors_on(seat) {
            if !held.contains(&executor) {
                let reason = format!("worker {id} came back without it");
                self.strike(executor, &reason, out);
            }
        }
    }

    /// Books one executor that a registering worker still runs.
    fn adopt(
        &mut self,
        session: SessionId,
        worker: Seat,
        held: HeldExecutor,
        forget: &mut BTreeSet<AppId>,
        out: &mut Vec<Action>,
    ) {
        let app = held.id.app;
        match (self.executors.get(&held.id).map(|books| books.life), held.address) {
            (Some(Life::Launching), Some(address)) => {
                return self.on_ready(held.id, address, out);
            }
            (Some(Life::Launching | Life::Running { .. } | Life::Foreign), _) => return,
            (Some(Life::Stopping), _) => {}
            (None, _) => {
                let foreign = app < self.origin.first_app;
                let executor = Executor {
                    worker,
                    cores: held.cores,
                    memory_bytes: held.memory_bytes,
                    life: if foreign { Life::Foreign } else { Life::Stopping },
                };
                self.take(held.id, executor);
                if foreign {
                    return;
                }
            }
        }
        if self.apps.contains_key(&app) {
            to_worker(session, ToWorker::Kill(held.id), out);
        } else {
            forget.insert(app);
        }
    }

    fn on_ready(&mut self, id: ExecutorId, address: SocketAddr, out: &mut Vec<Action>) {
        let Some(executor) = self.executors.get_mut(&id) else {
            return;
        };
        if executor.life != Life::Launching {
            return;
        }
        executor.life = Life::Running { address };
        let info = self.info(id);
        if let (Some(app), Some(info)) = (self.apps.get_mut(&id.app), info) {
            let failed = std::mem::take(&mut app.failures) > 0;
            if let Some(session) = app.session {
                let message = ToClient::ExecutorAdded(info);
                out.push(Action::ToClient { session, message });
            }
            if failed {
                self.refresh(id.app);
            }
            // A driver remembers nothing of executors that it does not know yet.
            let leaves = self.executors.get(&id).is_some_and(|it| self.is_draining(it.worker));
            if leaves || self.give_back.is_asked(id) {
                self.tell_give_back(id.app, out);
            }
        }
    }

    /// What a driver must know to dial an executor that listens.
    pub(super) fn info(&self, id: ExecutorId) -> Option<ExecutorInfo> {
        let executor = self.executors.get(&id)?;
        let Life::Running { address } = executor.life else {
            return None;
        };
        let worker = self.workers.get(executor.worker)?;
        Some(ExecutorInfo {
            id,
            address,
            cores: executor.cores,
            worker: worker.id.clone(),
            worker_address: worker.address,
        })
    }

    /// An executor has ended, or never started, by the word of its worker or of the shell.
    pub(super) fn on_gone(&mut self, id: ExecutorId, reason: &str, out: &mut Vec<Action>) {
        let worker = self.executors.get(&id).map(|executor| executor.worker);
        let life = self.strike(id, reason, out);
        if let Some(worker) = worker.filter(|worker| self.is_draining(*worker)) {
            self.leave_if_empty(worker, out);
        }
        if life == Some(Life::Launching) {
            self.count_failure(id, reason, out);
        }
        self.place(out);
    }

    fn count_failure(&mut self, id: ExecutorId, reason: &str, out: &mut Vec<Action>) {
        let listens = |executor: &Executor| matches!(executor.life, Life::Running { .. });
        let listening = self.executors_of(id.app).any(|(_, other)| listens(other));
        let Some(app) = self.apps.get_mut(&id.app) else {
            return;
        };
        app.failures += 1;
        let (failures, session) = (app.failures, app.session);
        self.refresh(id.app);
        if failures < LAUNCH_FAILURES_MAX || listening {
            return;
        }
        let reason = format!(
            "{LAUNCH_FAILURES_MAX} executors in a row failed to start; the last, {id}: {reason}"
        );
        self.end_app(id.app, AppState::Failed, out);
        if let Some(session) = session {
            self.refuse_client(session, reason, out);
        }
    }

    /// Takes an executor out of the books and tells its driver. Returns what it was.
    fn strike(&mut self, id: ExecutorId, reason: &str, out: &mut Vec<Action>) -> Option<Life> {
        let executor = self.free(id)?;
        if executor.life.is_live() {
            self.give_back.reconsider();
            self.tell_gone(id, reason.to_owned(), out);
        }
        Some(executor.life)
    }

    /// Tells a driver, now or when it is back, that it has an executor no more.
    pub(super) fn tell_gone(&mut self, id: ExecutorId, reason: String, out: &mut Vec<Action>) {
        let Some(app) = self.apps.get_mut(&id.app) else {
            return;
        };
        match app.session {
            Some(session) => out.push(Action::ToClient {
                session,
                message: ToClient::ExecutorGone { executor: id, reason },
            }),
            None => app.unreported.push((id, reason)),
        }
    }

    /// Tells a worker, now or when it is back, that an application has ended.
    pub(super) fn forget(&mut self, seat: Seat, app: AppId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(seat) else {
            return;
        };
        worker.forgets.insert(app, self.now);
        if let Some(session) = worker.session() {
            to_worker(session, ToWorker::Forget(app), out);
        }
    }

    /// Ends a worker's lease: its executors count as gone.
    pub(super) fn lose_worker(&mut self, seat: Seat, out: &mut Vec<Action>) {
        let (id, executors) = (self.name(seat), self.executors_on(seat));
        out.push(Action::Note(Note::WorkerLost { worker: id.clone(), executors: executors.len() }));
        let since = self.now;
        let change = |worker: &mut Worker| {
            let session = worker.session();
            worker.link = Link::Lost { since };
            (session, worker.drain.take().is_some())
        };
        let (session, drained) = self.workers.change(seat, change).unwrap_or_default();
        self.recount_free(seat);
        self.recount_total();
        if let Some(session) = session {
            self.close(session, out);
        }
        let seconds = self.leases.worker.as_secs_f64();
        let reason = format!("worker {id} is lost: nothing heard from it for {seconds} s");
        for executor in executors {
            self.strike(executor, &reason, out);
        }
        if drained {
            self.end_drain_of_lost(seat, out);
        }
        self.drop_oldest_lost();
    }

    fn drop_oldest_lost(&mut self) {
        let lost = self.workers.iter().filter_map(|(seat, worker)| match worker.link {
            Link::Lost { since } => Some((since, &worker.id, seat)),
            Link::Alive { .. } => None,
        });
        let lost: BTreeSet<_> = lost.collect();
        if lost.len() > WORKERS_LOST_KEPT
            && let Some((_, _, seat)) = lost.first().copied()
        {
            let (id, apps) = self.remove_worker(seat);
            if !apps.is_empty() {
                self.strays.insert(id, apps);
            }
        }
    }

    /// Gives up a worker's seat. Returns its id, and who may have files there.
    pub(super) fn remove_worker(&mut self, seat: Seat) -> (WorkerId, BTreeSet<AppId>) {
        let id = self.name(seat);
        self.workers.remove(seat);
        self.free.leave(seat);
        self.give_back.leave(seat);
        let mut apps = BTreeSet::new();
        for (id, app) in &mut self.apps {
            if app.touched.contains(seat) {
                app.touched.remove(seat);
                apps.insert(*id);
            }
        }
        (id, apps)
    }
}

pub(super) fn to_worker(session: SessionId, message: ToWorker, out: &mut Vec<Action>) {
    out.push(Action::ToWorker { session, message });
}

// === impl Worker ===

impl Worker {
    /// Enters an executor.
    pub(super) fn book(&mut self, id: ExecutorId, size: Size) {
        self.cores_used += size.cores;
        self.memory_used_bytes += size.memory_bytes;
        if let Err(at) = self.executors.binary_search(&id) {
            self.executors.insert(at, id);
        }
    }

    /// Strikes an executor.
    pub(super) fn strike(&mut self, id: ExecutorId, size: Size) {
        self.cores_used -= size.cores;
        self.memory_used_bytes -= size.memory_bytes;
        if let Ok(at) = self.executors.binary_search(&id) {
            self.executors.remove(at);
        }
    }

    /// What is free, if it can be given work.
    pub(super) fn usable(&self) -> Option<Size> {
        (self.session().is_some() && self.drain.is_none()).then(|| self.free())
    }

    pub(super) fn is_alive(&self) -> bool {
        matches!(self.link, Link::Alive { .. })
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        match self.link {
            Link::Alive { session, .. } => session,
            Link::Lost { .. } => None,
        }
    }

    /// When it was heard last, unless it is lost already.
    pub(super) fn heard(&self) -> Option<Duration> {
        match self.link {
            Link::Alive { heard, .. } => Some(heard),
            Link::Lost { .. } => None,
        }
    }

    /// Renews the lease. Orders to forget are kept for as long as the connection that they went
    /// out on may prove dead, and repeated when the worker registers again.
    fn hear(&mut self, now: Duration, lease: Duration) {
        self.forgets.retain(|_, sent| *sent + lease > now);
        if let Link::Alive { heard, .. } = &mut self.link {
            *heard = now;
        }
    }

    /// The lease goes on without a connection.
    pub(super) fn disconnect(&mut self) {
        if let Link::Alive { session, .. } = &mut self.link {
            *session = None;
        }
    }
}

// === impl Life ===

impl Life {
    /// Whether a driver may count on it.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Launching | Self::Running { .. })
    }

    pub(super) fn state(self) -> ExecutorState {
        match self {
            Self::Launching => ExecutorState::Launching,
            Self::Running { .. } | Self::Foreign => ExecutorState::Running,
            Self::Stopping => ExecutorState::Stopping,
        }
    }
}
