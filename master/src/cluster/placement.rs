//! Gives away what is free.
//!
//! Whose turn it is says [`crate::share`], which worker gives what says [`crate::placement`]; here
//! are the books that they read and the orders that come of their answers.

use super::limits::LAUNCH_FAILURES_MAX;
use super::{Action, App, Cluster, Executor, Life, Order, Worker};
use crate::free::Seat;
use crate::placement::{Grant, Request, plan_in_order};
use crate::share::{Allotment, Unit, minus, plus};
use offshoot_proto::cluster::{AppSpec, ResourceRequest};
use offshoot_proto::id::{AppId, ExecutorId};
use offshoot_proto::waiting::Size;
use std::collections::VecDeque;

/// Executors that one step enters into the books and orders. The rest follows in the next step,
/// which comes at once: nobody waits for the whole of a large pass.
pub(super) const LAUNCHES_A_STEP: usize = 2048;

/// What has been decided on and not been given yet. It is decided on anew if anything changes in
/// between; if nothing does, all steps together give what one would have given.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// Somebody may still be given something.
    is_open: bool,
    allotted: VecDeque<Allotment>,
    /// Of the application whose turn it is, and how many of them it has.
    grants: Option<(AppId, Vec<Grant<Seat>>, usize)>,
    /// Something came of what was allotted.
    placed: bool,
}

// === impl Pass ===

impl Pass {
    /// What was decided on holds no more.
    pub(super) fn forget(&mut self) {
        self.allotted.clear();
        self.grants = None;
    }

    /// Whether it is to go on.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    fn is_over(&self) -> bool {
        self.allotted.is_empty() && self.grants.is_none()
    }
}

// === impl Cluster ===

impl Cluster {
    /// Gives away what is free, and sees to it that who is owed more gets it.
    pub(super) fn place(&mut self, out: &mut Vec<Action>) {
        self.pass.forget();
        self.go_on(out);
    }

    /// Goes on with a pass, or begins one.
    pub(super) fn go_on(&mut self, out: &mut Vec<Action>) {
        self.pass.is_open = !self.give(self.launches_a_step, out);
        if !self.pass.is_open && self.ask_back(out) {
            self.pass.is_open = !self.give(self.launches_a_step, out);
        }
        if !self.pass.is_open {
            self.tell_unjudged(out);
        }
    }

    /// Gives away what is free, so many executors at most. Returns whether that is all.
    fn give(&mut self, launches_max: usize, out: &mut Vec<Action>) -> bool {
        let mut left = launches_max;
        loop {
            if self.pass.is_over() {
                self.allot();
            }
            while !self.pass.is_over() {
                if left == 0 {
                    return false;
                }
                left -= self.launch_some(left, out);
            }
            // What was allotted may not fit in the end; then it is somebody else's.
            if !std::mem::take(&mut self.pass.placed) {
                return true;
            }
        }
    }

    /// Decides who is given how much.
    fn allot(&mut self) {
        if !self.shares.any_wants() {
            return;
        }
        if self.free.is_stale() {
            self.free.settle(self.workers.iter().map(|(seat, _)| seat));
        }
        let fits = |app, size| self.free.fits(size, |worker| self.may_use(app, worker));
        self.pass.allotted = self.shares.allot(self.free.total(), fits).into();
    }

    /// Launches what the application is given whose turn it is, so many at most. Returns how many.
    fn launch_some(&mut self, most: usize, out: &mut Vec<Action>) -> usize {
        let begun = self.pass.grants.take();
        let Some((id, grants, from)) = begun.or_else(|| self.plan_next()) else {
            return 0;
        };
        let to = grants.len().min(from.saturating_add(most));
        self.launch(id, &grants[from..to], out);
        self.pass.placed |= to > from;
        if to < grants.len() {
            self.pass.grants = Some((id, grants, to));
        }
        // Also with some left: they may be forgotten before the next step.
        self.reckon(id);
        to - from
    }

    /// Decides which workers give what the next application is given.
    fn plan_next(&mut self) -> Option<(AppId, Vec<Grant<Seat>>, usize)> {
        let Allotment { app: id, units } = self.pass.allotted.pop_front()?;
        let mut request = self.left_of(id, self.apps.get(&id)?);
        match request.executor_cores {
            Some(_) => request.executors_left = request.executors_left.min(units),
            None => {
                let cores = units.saturating_mul(request.task_cores);
                request.cores_left = request.cores_left.min(cores);
            }
        }
        let offers =
            self.free.offers(request.unit()).filter(|offer| self.may_use(id, offer.worker));
        Some((id, plan_in_order(&request, self.policy.rule.sharing, offers), 0))
    }

    /// What an application may be given beyond what it holds.
    fn left_of(&self, id: AppId, app: &App) -> Request {
        let room = self.shares.room(&app.tenant);
        let mut request = self.wanted_of(id, app);
        let memory = room.memory_bytes / request.executor_memory_bytes.max(1);
        let memory = u32::try_from(memory).unwrap_or(u32::MAX);
        request.executors_left = request.executors_left.min(memory);
        request.cores_left = request.cores_left.min(room.cores);
        request
    }

    /// What it wants beyond what it holds, whatever the quotas of its tenant.
    pub(super) fn wanted_of(&self, id: AppId, app: &App) -> Request {
        let asked: &ResourceRequest = &app.spec.request;
        let executors = self.shares.executors(id);
        let (leave, leave_cores) = self.on_draining(id, app);
        let total = asked.total_cores.or(self.policy.default_cores).unwrap_or(u32::MAX);
        let most = asked.executors_max.unwrap_or(u32::MAX).saturating_sub(executors - leave);
        // Those that stop still hold what they hold, but are no part of what is wanted.
        let wanted =
            app.wanted.unwrap_or(u32::MAX).saturating_sub(executors - self.shares.stopping(id));
        Request {
            executor_cores: asked.executor_cores,
            task_cores: app.spec.settings.task_cores,
            executor_memory_bytes: asked.executor_memory_bytes,
            cores_left: total.saturating_sub(self.shares.used(id).cores - leave_cores),
            executors_left: most.min(wanted),
        }
    }

    /// Works out again what an application wants, after anything that it depends on.
    pub(super) fn refresh(&mut self, id: AppId) {
        self.pass.forget();
        self.reckon(id);
    }

    fn reckon(&mut self, id: AppId) {
        let wants = self.apps.get(&id).map_or(0, |app| match self.is_served(app) {
            true => self.wanted_of(id, app).units(self.largest.cores),
            false => 0,
        });
        self.shares.set_wants(id, wants);
        let now = self.now;
        if let Some(app) = self.apps.get_mut(&id) {
            app.hungry = (wants > 0).then(|| app.hungry.unwrap_or(now));
            self.unjudged.insert(id);
        }
    }

    pub(super) fn refresh_all(&mut self) {
        let apps: Vec<AppId> = self.apps.keys().copied().collect();
        for app in apps {
            self.refresh(app);
        }
    }

    fn is_served(&self, app: &App) -> bool {
        self.may_launch(app) && app.failures < LAUNCH_FAILURES_MAX
    }

    /// A driver that is away could not use what it is given, and no executor starts without code.
    pub(super) fn may_launch(&self, app: &App) -> bool {
        app.session.is_some() && self.modules.contains(&app.spec.module)
    }

    /// Enters what was granted to an application into the books, and orders it. Grants on one
    /// worker stand beside each other.
    fn launch(&mut self, id: AppId, grants: &[Grant<Seat>], out: &mut Vec<Action>) {
        let Some(app) = self.apps.get_mut(&id) else {
            return;
        };
        let memory_bytes = app.spec.request.executor_memory_bytes;
        let (mut sum, mut changes) = (Size::default(), Vec::with_capacity(grants.len()));
        for on_one in grants.chunk_by(|a, b| a.worker == b.worker) {
            let seat = on_one[0].worker;
            let Some(worker) = self.workers.get_mut(seat) else {
                continue;
            };
            let Some(session) = worker.session() else {
                continue;
            };
            app.touched.insert(seat);
            for Grant { cores, .. } in on_one.iter().copied() {
                let executor = ExecutorId { app: id, number: app.next_executor };
                app.next_executor.0 += 1;
                let books = Executor { worker: seat, cores, memory_bytes, life: Life::Launching };
                worker.book(executor, books.size());
                sum = plus(sum, books.size());
                self.executors.insert(executor, books);
                let order = Order { executor, cores, memory_bytes, app: app.spec.clone() };
                out.push(Action::Launch { session, order });
            }
            changes.push((seat, worker.usable()));
        }
        self.free.set_all(changes);
        self.shares.hold(id, u32::try_from(grants.len()).unwrap_or(u32::MAX), sum);
    }
}

/// What applications are given at a time.
pub(super) fn unit_of(app: &AppSpec) -> Unit {
    let request: &ResourceRequest = &app.request;
    let size = Size {
        cores: request.executor_cores.unwrap_or(app.settings.task_cores),
        memory_bytes: request.executor_memory_bytes,
    };
    Unit { size, elastic: request.executor_cores.is_none() }
}

// === impl Worker ===

impl Worker {
    pub(super) fn size(&self) -> Size {
        Size { cores: self.cores, memory_bytes: self.memory_bytes }
    }

    pub(super) fn free(&self) -> Size {
        let used = Size { cores: self.cores_used, memory_bytes: self.memory_used_bytes };
        minus(self.size(), used)
    }
}
