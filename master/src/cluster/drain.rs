//! Workers that are to leave.
//!
//! ```text
//!   Drain ─► nothing new is launched there
//!         ─► its executors are asked back, drivers hear Draining ──► Release, Drained
//!   no executor is left and every driver is done, or the deadline ──► Leave
//! ```
//!
//! The order is written down before anything comes of it, so that a master that is restarted goes
//! on with it ([`super::remembered`]). It is forgotten when the worker has left or is lost. In each
//! life of the master but the first every application is asked: it may be one of an earlier life
//! under another name, and have files there.

use super::rows::ADMIN;
use super::workers::to_worker;
use super::{Action, App, Cluster, DrainOrder, Life, Note, SessionId};
use crate::free::Seat;
use offshoot_proto::cluster::{ToClient, ToWorker};
use offshoot_proto::id::{AppId, ExecutorId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest that a worker may take to leave.
pub(super) const WITHIN_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A worker that is to leave.
#[derive(Debug)]
pub(super) struct Drain {
    /// When it leaves in any case.
    deadline: Duration,
    /// Applications that need nothing of it any more.
    done: BTreeSet<AppId>,
    /// The deadline is over: what runs is stopped.
    is_over: bool,
    /// The master was restarted once: nobody knows whose files are there, and all are asked.
    asks_all: bool,
}

// === impl Drain ===

impl Drain {
    /// One of an earlier life.
    pub(super) fn inherited(deadline: Duration) -> Self {
        Self { deadline, done: BTreeSet::new(), is_over: false, asks_all: true }
    }
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn on_drain(
        &mut self,
        session: SessionId,
        tenant: &str,
        (id, within): (WorkerId, Duration),
        out: &mut Vec<Action>,
    ) {
        if let Err(reason) = self.check_drain(tenant, &id, within) {
            return self.refuse_client(session, reason, out);
        }
        let mut drains = self.drains();
        drains.insert(id.clone(), within);
        let order = Some(DrainOrder { session, worker: id, within });
        out.push(Action::SaveDrains { drains, order });
    }

    /// Nothing comes of an order before this.
    pub(super) fn on_drain_saved(&mut self, order: DrainOrder, out: &mut Vec<Action>) {
        let DrainOrder { session, worker: id, within } = order;
        let seat = match self.check_drain(ADMIN, &id, within) {
            Ok(Some(seat)) => seat,
            Ok(None) => {
                self.remembered.set_deadline(id, self.now + within);
                return out.push(Action::ToClient { session, message: ToClient::Done });
            }
            Err(reason) => {
                self.drains_changed = true;
                return self.refuse_client(session, reason, out);
            }
        };
        let (deadline, asks_all) = (self.now + within, self.origin.epoch.0 > 1);
        self.remembered.begin_drain(asks_all, self.now);
        self.workers.change(seat, |worker| {
            let drain = worker.drain.get_or_insert_with(|| Drain {
                deadline,
                done: BTreeSet::new(),
                is_over: false,
                asks_all,
            });
            (drain.deadline, drain.is_over) = (deadline, false);
        });
        out.push(Action::Note(Note::WorkerDrains { worker: id, within }));
        out.push(Action::ToClient { session, message: ToClient::Done });
        self.recount_free(seat);
        self.recount_total();
        if asks_all {
            self.ask_all(seat);
        }
        for app in self.apps_with_files(seat) {
            self.refresh(app);
            self.tell_draining(app, out);
        }
        self.leave_if_empty(seat, out);
        self.place(out);
    }

    fn apps_with_files(&self, seat: Seat) -> Vec<AppId> {
        let apps = self.apps.iter().filter(|(_, app)| app.touched.contains(seat));
        apps.map(|(id, _)| *id).collect()
    }

    /// A worker registers that was to leave before the master was restarted: any application of
    /// the life before may have files there.
    pub(super) fn go_on_draining(&mut self, seat: Seat, out: &mut Vec<Action>) {
        let worker = self.workers.get(seat);
        let Some((worker, drain)) = worker.and_then(|it| Some((it, it.drain.as_ref()?))) else {
            return;
        };
        if !drain.asks_all {
            return;
        }
        let (id, within) = (worker.id.clone(), drain.deadline.saturating_sub(self.now));
        out.push(Action::Note(Note::WorkerDrains { worker: id, within }));
        self.ask_all(seat);
        for app in self.apps_with_files(seat) {
            self.say_draining(app, [seat], out);
        }
    }

    /// Any application may be one of an earlier life, under another name then, with files there.
    fn ask_all(&mut self, seat: Seat) {
        for app in self.apps.values_mut() {
            app.touched.insert(seat);
        }
    }

    /// Tells an application that is new to this life of the master of workers that are to leave.
    pub(super) fn hear_of_drains(&mut self, id: AppId, out: &mut Vec<Action>) {
        let asks_all = |seat: &Seat| {
            let drain = self.workers.get(*seat).and_then(|worker| worker.drain.as_ref());
            drain.is_some_and(|drain| drain.asks_all)
        };
        let seats: Vec<_> = self.workers.draining().filter(asks_all).collect();
        if let Some(app) = self.apps.get_mut(&id).filter(|_| !seats.is_empty()) {
            seats.into_iter().for_each(|seat| app.touched.insert(seat));
            self.tell_draining(id, out);
        }
    }

    /// Who is to leave, and in how long each leaves in any case.
    pub(crate) fn drains(&self) -> BTreeMap<WorkerId, Duration> {
        let workers = self.workers.draining().filter_map(|seat| self.workers.get(seat));
        let drains = workers.filter_map(|it| Some((it.id.clone(), it.drain.as_ref()?.deadline)));
        let all = drains.chain(self.remembered.awaited());
        all.map(|(id, deadline)| (id, deadline.saturating_sub(self.now))).collect()
    }

    /// At the end of a step: has it written down if somebody is to leave no more.
    pub(super) fn save_drains(&mut self, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.drains_changed) {
            out.push(Action::SaveDrains { drains: self.drains(), order: None });
        }
    }

    /// Where the worker stands; none if it has not come back since the master was restarted.
    fn check_drain(
        &self,
        tenant: &str,
        id: &WorkerId,
        within: Duration,
    ) -> Result<Option<Seat>, String> {
        if tenant != ADMIN {
            let tenant = tenant.escape_debug();
            return Err(format!(
                "tenant {tenant} may not drain workers; use the credential of {ADMIN}"
            ));
        }
        if within > WITHIN_MAX {
            let (within, max) = (within.as_secs(), WITHIN_MAX.as_secs());
            return Err(format!("a worker may take at most {max} s to leave, not {within} s"));
        }
        let seat = self.workers.seat(id);
        match seat.and_then(|seat| Some((seat, self.workers.get(seat)?))) {
            Some((seat, worker)) if worker.is_alive() => Ok(Some(seat)),
            Some(_) => Err(format!("worker {id} is lost")),
            None if self.remembered.awaits(id) => Ok(None),
            None if self.remembered.misses(id) => Err(format!("worker {id} is lost")),
            None => {
                let id = id.0.escape_debug();
                Err(format!("there is no worker {id}; see `offshoot workers`"))
            }
        }
    }

    /// Tells a driver which of its workers are to leave, and that their executors are asked back.
    pub(super) fn tell_draining(&self, id: AppId, out: &mut Vec<Action>) {
        let Some(app) = self.apps.get(&id) else {
            return;
        };
        let draining = self.workers.draining().filter(|seat| app.touched.contains(*seat));
        self.say_draining(id, draining, out);
    }

    fn say_draining(
        &self,
        id: AppId,
        seats: impl IntoIterator<Item = Seat>,
        out: &mut Vec<Action>,
    ) {
        let Some(session) = self.apps.get(&id).and_then(|app| app.session) else {
            return;
        };
        let draining = seats.into_iter().filter_map(|seat| self.workers.get(seat));
        let draining = draining.filter_map(|worker| Some((&worker.id, worker.drain.as_ref()?)));
        let draining: Vec<_> = draining.collect();
        for (worker, drain) in &draining {
            let left = drain.deadline.saturating_sub(self.now).as_millis();
            let left_millis = u64::try_from(left).unwrap_or(u64::MAX);
            let message = ToClient::Draining { worker: (*worker).clone(), left_millis };
            out.push(Action::ToClient { session, message });
        }
        if !draining.is_empty() {
            self.tell_give_back(id, out);
        }
    }

    /// A driver needs nothing of a worker any more.
    pub(super) fn on_drained(&mut self, app: AppId, id: &WorkerId, out: &mut Vec<Action>) {
        let seat = self.workers.seat(id);
        let worker = seat.and_then(|seat| Some((seat, self.workers.get_mut(seat)?)));
        let Some((seat, drain)) = worker.and_then(|(seat, it)| Some((seat, it.drain.as_mut()?)))
        else {
            // It has left meanwhile.
            return;
        };
        drain.done.insert(app);
        self.leave_if_empty(seat, out);
    }

    /// Lets a worker go that has nothing any more that somebody needs.
    pub(super) fn leave_if_empty(&mut self, seat: Seat, out: &mut Vec<Action>) {
        let Some((worker, drain, session)) =
            self.workers.get(seat).and_then(|it| Some((it, it.drain.as_ref()?, it.session()?)))
        else {
            return;
        };
        let mut needed = self.apps.iter().filter(|(_, app)| app.touched.contains(seat));
        let is_early = drain.asks_all && self.remembered.is_recovering();
        let is_needed =
            !drain.is_over && (is_early || needed.any(|(app, _)| !drain.done.contains(app)));
        if is_needed || !worker.executors.is_empty() {
            return;
        }
        to_worker(session, ToWorker::Leave, out);
        self.close(session, out);
        let (worker, _) = self.remove_worker(seat);
        self.drains_changed = true;
        self.recount_total();
        out.push(Action::Note(Note::WorkerLeft { worker }));
    }

    /// The same for all that are to leave.
    pub(super) fn leave_where_empty(&mut self, out: &mut Vec<Action>) {
        for seat in self.draining() {
            self.leave_if_empty(seat, out);
        }
    }

    pub(super) fn next_drained(&self) -> Option<Duration> {
        let draining = self.workers.draining();
        let drains = draining.filter_map(|seat| self.workers.get(seat)?.drain.as_ref());
        drains.filter(|drain| !drain.is_over).map(|drain| drain.deadline).min()
    }

    /// Stops what still runs on workers whose time is over.
    pub(super) fn end_drains(&mut self, out: &mut Vec<Action>) {
        let mut any = false;
        for seat in self.draining() {
            let worker = self.workers.get_mut(seat);
            let Some(drain) = worker.and_then(|it| it.drain.as_mut()) else {
                continue;
            };
            if drain.is_over || drain.deadline > self.now {
                continue;
            }
            (drain.is_over, any) = (true, true);
            for executor in self.executors_on(seat) {
                self.end_on_drained(executor, seat, out);
            }
            self.leave_if_empty(seat, out);
        }
        if any {
            // Who lost something there may keep what it was asked for elsewhere.
            self.give_back.reconsider();
            self.place(out);
        }
    }

    /// A worker that was to leave is lost. Who counts on the time that it had hears that it is
    /// over: what is granted there, should it come back, is not too late.
    pub(super) fn end_drain_of_lost(&mut self, seat: Seat, out: &mut Vec<Action>) {
        self.drains_changed = true;
        let worker = self.name(seat);
        for app in self.apps_with_files(seat) {
            if let Some(session) = self.apps.get(&app).and_then(|app| app.session) {
                let message = ToClient::Draining { worker: worker.clone(), left_millis: 0 };
                out.push(Action::ToClient { session, message });
            }
            self.refresh(app);
        }
    }

    fn end_on_drained(&mut self, executor: ExecutorId, seat: Seat, out: &mut Vec<Action>) {
        let life = self.executors.get(&executor).map(|executor| executor.life);
        self.stop(executor, out);
        if life.is_some_and(Life::is_live) {
            let id = self.name(seat);
            let reason = format!("worker {id} leaves, and the time for that is over");
            self.tell_gone(executor, reason, out);
        }
    }

    /// How many executors of an application are on workers that are to leave, and their cores. They
    /// count for none of its own limits: what they have moves to others only if it gets others.
    pub(super) fn on_draining(&self, id: AppId, app: &App) -> (u32, u32) {
        let seats = self.workers.draining().filter(|seat| app.touched.contains(*seat));
        let workers = seats.filter_map(|seat| self.workers.get(seat));
        let leave = workers.flat_map(|worker| {
            let from = worker.executors.partition_point(|executor| executor.app < id);
            worker.executors[from..].iter().take_while(move |executor| executor.app == id)
        });
        let leave = leave.filter_map(|executor| self.executors.get(executor));
        leave.fold((0, 0), |(count, cores), it| (count + 1, cores + it.cores))
    }

    /// Whether a worker is to leave.
    pub(super) fn is_draining(&self, seat: Seat) -> bool {
        self.workers.is_any_draining()
            && self.workers.get(seat).is_some_and(|worker| worker.drain.is_some())
    }

    fn draining(&self) -> Vec<Seat> {
        self.workers.draining().collect()
    }
}
