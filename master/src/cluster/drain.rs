//! Workers that are to leave.
//!
//! ```text
//!   Drain ─► nothing new is launched there
//!         ─► its executors are asked back, drivers hear Draining ──► Release, Drained
//!   no executor is left and every driver is done, or the deadline ──► Leave
//! ```
//!
//! A master that is restarted has forgotten it: the operator says it again.

use super::rows::ADMIN;
use super::workers::to_worker;
use super::{Action, Cluster, Life, Note, SessionId};
use offshoot_proto::cluster::{ToClient, ToWorker};
use offshoot_proto::id::{AppId, ExecutorId, WorkerId};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest that a worker may take to leave.
const WITHIN_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A worker that is to leave.
#[derive(Debug)]
pub(super) struct Drain {
    /// When it leaves in any case.
    deadline: Duration,
    /// Applications that need nothing of it any more.
    done: BTreeSet<AppId>,
    /// The deadline is over: what runs is stopped.
    is_over: bool,
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
        let deadline = self.now + within;
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let done = worker.drain.take().map(|drain| drain.done).unwrap_or_default();
        worker.drain = Some(Drain { deadline, done, is_over: false });
        self.draining.insert(id.clone());
        out.push(Action::Note(Note::WorkerDrains { worker: id.clone(), within }));
        out.push(Action::ToClient { session, message: ToClient::Done });
        self.recount_free(&id);
        self.recount_total();
        let apps = self.apps.iter().filter(|(_, app)| app.touched.contains(&id));
        for app in apps.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.tell_draining(app, out);
        }
        self.leave_if_empty(&id, out);
        self.place(out);
    }

    fn check_drain(&self, tenant: &str, id: &WorkerId, within: Duration) -> Result<(), String> {
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
        match self.workers.get(id) {
            Some(worker) if worker.is_alive() => Ok(()),
            Some(_) => Err(format!("worker {id} is lost")),
            None => {
                let id = id.0.escape_debug();
                Err(format!("there is no worker {id}; see `offshoot workers`"))
            }
        }
    }

    /// Tells a driver which of its workers are to leave, and that their executors are asked back.
    pub(super) fn tell_draining(&self, id: AppId, out: &mut Vec<Action>) {
        let Some((app, session)) = self.apps.get(&id).and_then(|app| Some((app, app.session?)))
        else {
            return;
        };
        let drains = |name: &WorkerId| self.workers.get(name)?.drain.as_ref();
        let draining: Vec<_> =
            app.touched.iter().filter_map(|name| Some((name, drains(name)?))).collect();
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
        let worker = self.workers.get_mut(id);
        let Some(drain) = worker.and_then(|worker| worker.drain.as_mut()) else {
            // It has left meanwhile.
            return;
        };
        drain.done.insert(app);
        self.leave_if_empty(id, out);
    }

    /// Lets a worker go that has nothing any more that somebody needs.
    pub(super) fn leave_if_empty(&mut self, id: &WorkerId, out: &mut Vec<Action>) {
        let Some((drain, session)) =
            self.workers.get(id).and_then(|it| Some((it.drain.as_ref()?, it.session()?)))
        else {
            return;
        };
        let mut needed = self.apps.iter().filter(|(_, app)| app.touched.contains(id));
        let is_needed = !drain.is_over && needed.any(|(app, _)| !drain.done.contains(app));
        if is_needed || !self.executors_on(id).is_empty() {
            return;
        }
        to_worker(session, ToWorker::Leave, out);
        self.close(session, out);
        self.workers.remove(id);
        self.draining.remove(id);
        self.recount_free(id);
        self.recount_total();
        for app in self.apps.values_mut() {
            app.touched.remove(id);
        }
        out.push(Action::Note(Note::WorkerLeft { worker: id.clone() }));
    }

    /// The same for all that are to leave.
    pub(super) fn leave_where_empty(&mut self, out: &mut Vec<Action>) {
        for id in self.draining() {
            self.leave_if_empty(&id, out);
        }
    }

    pub(super) fn next_drained(&self) -> Option<Duration> {
        let drains = self.draining.iter().filter_map(|id| self.workers.get(id)?.drain.as_ref());
        drains.filter(|drain| !drain.is_over).map(|drain| drain.deadline).min()
    }

    /// Stops what still runs on workers whose time is over.
    pub(super) fn end_drains(&mut self, out: &mut Vec<Action>) {
        for id in self.draining() {
            let Some(drain) = self.workers.get_mut(&id).and_then(|it| it.drain.as_mut()) else {
                continue;
            };
            if drain.is_over || drain.deadline > self.now {
                continue;
            }
            drain.is_over = true;
            for executor in self.executors_on(&id) {
                self.end_on_drained(executor, &id, out);
            }
            self.leave_if_empty(&id, out);
        }
    }

    fn end_on_drained(&mut self, executor: ExecutorId, id: &WorkerId, out: &mut Vec<Action>) {
        let life = self.executors.get(&executor).map(|executor| executor.life);
        self.stop(executor, out);
        if life.is_some_and(Life::is_live) {
            let reason = format!("worker {id} leaves, and the time for that is over");
            self.tell_gone(executor, reason, out);
        }
    }

    /// Whether a worker is to leave.
    pub(super) fn is_draining(&self, id: &WorkerId) -> bool {
        !self.draining.is_empty()
            && self.workers.get(id).is_some_and(|worker| worker.drain.is_some())
    }

    fn draining(&self) -> Vec<WorkerId> {
        self.draining.iter().cloned().collect()
    }
}
