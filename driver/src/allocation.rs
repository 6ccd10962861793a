//! How many executors the application wants, and which of its own it gives back: a pure machine.
//!
//! ```text
//!   scheduler: Work, Busy, Idle ─┐                ┌─► Target          to the master
//!   master: Added, Gone, GiveBack┼─► Allocation ──┼─► Retire, Unretire to the scheduler
//!   time ────────────────────────┘                └─►   (which says when one can be released)
//! ```
//!
//! The policy is Spark's dynamic allocation. A task that has no slot is *backlog*. The first
//! executor is wanted as soon as there is any; while it lasts, 2, 4, 8 more and so on, up to what
//! has a slot for every task. What is wanted falls to what is needed, once that has been less for
//! a moment: jobs that follow each other do not make it flutter. An executor that had no task for
//! long enough is released, unless as many are wanted, or it has what would have to be computed
//! again.
//!
//! What the master wants back goes whatever is wanted, and nothing more is wanted by that: an
//! executor that is to go still counts as a place for tasks. If another one of its size has nothing
//! to do, that one goes instead. Not so on a worker that is to leave: what is there goes, and
//! others are wanted in its place.
//!
//! Not here: what an executor still runs ([`crate::tasks`]), and how many there can be: the
//! master gives what there is.

use offshoot_proto::cluster::ResourceRequest;
use offshoot_proto::id::{AppId, ExecutorId};
use offshoot_proto::settings::{AllocationSettings, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How often at most an idle executor is looked at that has something to lose: looking costs as
/// much as there are blocks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The master has granted an executor.
    Added {
        /// Which.
        executor: ExecutorId,
        /// Its cores.
        cores: u32,
    },
    /// An executor is released or lost.
    Gone(ExecutorId),
    /// An executor has been sent a task.
    Busy(ExecutorId),
    /// An executor has ended all tasks that it was sent.
    Idle(ExecutorId),
    /// So many tasks wait for a slot or have one.
    Work(u64),
    /// The master wants these back; the list replaces the one before.
    GiveBack(Vec<ExecutorId>),
    /// These are on a worker that is to leave. The list does not replace one before.
    Draining(Vec<ExecutorId>),
    /// Whether something is to be copied from such a worker, for which somebody must be there.
    Moving(bool),
    /// There is a connection to the master again, which may know the application by another id.
    Master(AppId),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tell the master that so many executors are wanted.
    Target(u32),
    /// Give this one no more tasks; release it when it runs none.
    Retire(ExecutorId),
    /// Give it tasks again.
    Unretire(ExecutorId),
}

/// Whether an executor has what would have to be computed again if it went.
pub(crate) type Keeps<'a> = &'a dyn Fn(ExecutorId) -> bool;

/// The machine.
#[derive(Debug)]
pub(crate) struct Allocation {
    settings: AllocationSettings,
    max: u32,
    task_cores: u32,
    /// Tasks that an executor runs at once: as asked for, or of the largest one so far.
    per_executor: u32,
    is_sized: bool,
    app: AppId,
    held: BTreeMap<ExecutorId, Held>,
    /// Of all that are held, but on workers that leave.
    slots: u64,
    /// Of those, how many are to go.
    leaving: u32,
    /// Those on workers that leave. Tasks have no place there, so others are wanted for them.
    draining: BTreeSet<ExecutorId>,
    moving: bool,
    /// Idle executors that stay, by when they are to be looked at.
    idle: BTreeSet<(Duration, ExecutorId)>,
    work: u64,
    target: u32,
    /// What the master knows.
    told: Option<u32>,
    backlog: Option<Backlog>,
    /// When the target falls, if it is above what is needed.
    falls: Option<Duration>,
    /// Until when executors are wanted for work that is still to come.
    expects: Option<Duration>,
}

/// An executor of the application.
#[derive(Debug)]
struct Held {
    cores: u32,
    /// Since when it has nothing to do, and when that is looked at.
    idle: Option<Idle>,
    leaving: Option<Leaving>,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    since: Duration,
    due: Duration,
}

/// Why an executor is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It has nothing to do.
    Idle,
    /// The master wants it back, and may think better of it.
    GivenBack,
    /// Its worker leaves.
    Draining,
}

/// Tasks have no slot.
#[derive(Clone, Copy, Debug)]
struct Backlog {
    /// How many more executors are wanted next time.
    batch: u32,
    /// When.
    due: Duration,
}

// === impl Allocation ===

impl Allocation {
    /// At the start, when the master has been told [`Allocation::initial`].
    pub(crate) fn new(settings: &Settings, request: &ResourceRequest, app: AppId) -> Self {
        let task_cores = settings.task_cores.max(1);
        let allocation = settings.allocation.clone();
        let fits = request.total_cores.map(|total| total / request.executor_cores.unwrap_or(1));
        let max = allocation.max().min(fits.unwrap_or(u32::MAX)).max(allocation.initial());
        let per_executor = request.executor_cores.map_or(1, |cores| cores / task_cores);
        Self {
            max,
            task_cores,
            per_executor: per_executor.max(1),
            is_sized: request.executor_cores.is_some(),
            app,
            held: BTreeMap::new(),
            slots: 0,
            leaving: 0,
            draining: BTreeSet::new(),
            moving: false,
            idle: BTreeSet::new(),
            work: 0,
            target: allocation.initial(),
            told: Self::initial(settings),
            backlog: None,
            falls: None,
            expects: Some(allocation.idle_timeout),
            settings: allocation,
        }
    }

    /// Executors that are wanted from the start; as many as there are if that does not change.
    pub(crate) fn initial(settings: &Settings) -> Option<u32> {
        settings.allocation.enabled.then(|| settings.allocation.initial())
    }

    /// Executors that are wanted; none if that does not change.
    pub(crate) fn target(&self) -> Option<u32> {
        self.settings.enabled.then_some(self.target)
    }

    /// Takes in what happened at `now`.
    pub(crate) fn handle(
        &mut self,
        now: Duration,
        event: Event,
        keeps: Keeps<'_>,
        out: &mut Vec<Action>,
    ) {
        match event {
            Event::Added { executor, cores } => self.on_added(now, executor, cores),
            Event::Gone(executor) => self.on_gone(executor),
            Event::Busy(executor) => self.set_idle(executor, None),
            Event::Idle(executor) => {
                let due = now + self.settings.idle_timeout;
                self.set_idle(executor, Some(Idle { since: now, due }));
            }
            Event::Work(tasks) => self.work = tasks,
            Event::GiveBack(executors) => self.on_give_back(executors, keeps, out),
            Event::Draining(executors) => self.on_draining(executors, out),
            Event::Moving(moving) => self.moving = moving,
            Event::Master(app) => {
                self.app = app;
                self.told = None;
            }
        }
        self.handle_timeout(now, keeps, out);
    }

    /// When [`Allocation::handle_timeout`] is to be called, if nothing happens before.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        if !self.settings.enabled {
            return None;
        }
        let needed = self.needed();
        let backlog = self.backlog.filter(|_| self.target < needed).map(|backlog| backlog.due);
        let expects = self.expects.filter(|_| self.target > needed);
        let idle = self.idle.first().filter(|_| self.is_one_spare()).map(|(due, _)| *due);
        [backlog, self.falls, expects, idle].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Duration,
        keeps: Keeps<'_>,
        out: &mut Vec<Action>,
    ) {
        if !self.settings.enabled {
            return;
        }
        self.rise(now);
        self.fall(now);
        let is_other = |executor: &ExecutorId| executor.app != self.app;
        let others = self.held.keys().filter(|e| is_other(e) && !self.draining.contains(e)).count();
        let draining = self.draining.iter().filter(|executor| !is_other(executor)).count();
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        // Those of an application that the master has forgotten are not known to it.
        let target = self.target.saturating_sub(count(others)).saturating_add(count(draining));
        if self.told.replace(target) != Some(target) {
            out.push(Action::Target(target));
        }
        self.release_idle(now, keeps, out);
    }

    fn on_added(&mut self, now: Duration, executor: ExecutorId, cores: u32) {
        if self.held.contains_key(&executor) {
            return;
        }
        let held = Held { cores, idle: None, leaving: None };
        let slots = self.slots_of(cores);
        self.slots += u64::from(slots);
        if !self.is_sized {
            self.per_executor = self.per_executor.max(slots);
        }
        self.held.insert(executor, held);
        let due = now + self.settings.idle_timeout;
        self.set_idle(executor, Some(Idle { since: now, due }));
    }

    fn on_gone(&mut self, executor: ExecutorId) {
        self.set_idle(executor, None);
        let drains = self.draining.remove(&executor);
        if let Some(held) = self.held.remove(&executor).filter(|_| !drains) {
            self.slots -= u64::from(self.slots_of(held.cores));
            self.leaving -= u32::from(held.leaving.is_some());
        }
    }

    /// As its executor decides it.
    fn slots_of(&self, cores: u32) -> u32 {
        (cores / self.task_cores).max(1)
    }

    fn set_idle(&mut self, executor: ExecutorId, idle: Option<Idle>) {
        let Some(held) = self.held.get_mut(&executor) else {
            return;
        };
        if let Some(Idle { due, .. }) = std::mem::replace(&mut held.idle, idle) {
            self.idle.remove(&(due, executor));
        }
        if let (Some(Idle { due, .. }), None) = (idle, held.leaving) {
            self.idle.insert((due, executor));
        }
    }

    fn on_give_back(&mut self, named: Vec<ExecutorId>, keeps: Keeps<'_>, out: &mut Vec<Action>) {
        let named: BTreeSet<_> = named.into_iter().collect();
        let given = self.held.iter().filter(|(_, held)| held.leaving == Some(Leaving::GivenBack));
        let stay = given.map(|(id, _)| *id).filter(|id| !named.contains(id));
        for executor in stay.collect::<Vec<_>>() {
            self.stay(executor, out);
        }
        for executor in &named {
            let held = self.held.get(executor).filter(|held| held.leaving.is_none());
            let Some(held) = held else {
                continue;
            };
            let cores = held.cores;
            let stands_in = |(_, id): &&(Duration, ExecutorId)| {
                let same_size = self.held.get(id).is_some_and(|held| held.cores == cores);
                same_size && !named.contains(id) && !keeps(*id)
            };
            // An idle one needs no other, and what each of those keeps takes long to find out.
            let instead = match held.idle {
                Some(_) => None,
                None => self.idle.iter().find(stands_in).copied(),
            };
            match instead {
                Some((_, idle)) => self.leave(idle, Leaving::Idle, out),
                None => self.leave(*executor, Leaving::GivenBack, out),
            }
        }
    }

    /// They go, and nobody else instead of them.
    fn on_draining(&mut self, executors: Vec<ExecutorId>, out: &mut Vec<Action>) {
        for executor in executors {
            self.leave(executor, Leaving::Draining, out);
            let Some(held) = self.held.get_mut(&executor) else {
                continue;
            };
            held.leaving = Some(Leaving::Draining);
            let cores = held.cores;
            if self.draining.insert(executor) {
                self.leaving -= 1;
                self.slots -= u64::from(self.slots_of(cores));
            }
        }
    }

    fn leave(&mut self, executor: ExecutorId, why: Leaving, out: &mut Vec<Action>) {
        let Some(held) = self.held.get_mut(&executor) else {
            return;
        };
        if held.leaving.replace(why).is_none() {
            self.leaving += 1;
            self.idle.retain(|(_, id)| *id != executor);
            out.push(Action::Retire(executor));
        }
    }

    fn stay(&mut self, executor: ExecutorId, out: &mut Vec<Action>) {
        let Some(held) = self.held.get_mut(&executor) else {
            return;
        };
        if held.leaving.take().is_some() {
            self.leaving -= 1;
            let idle = held.idle;
            self.set_idle(executor, idle);
            out.push(Action::Unretire(executor));
        }
    }

    /// Those that are held, but on workers that leave.
    fn count(&self) -> u32 {
        u32::try_from(self.held.len() - self.draining.len()).unwrap_or(u32::MAX)
    }

    /// Executors that have a slot for each task, within the bounds. What is held counts with the
    /// slots that it has, what is not with those that one is thought to have.
    fn needed(&self) -> u32 {
        let wanted = self.settings.ratio.of(self.work);
        let per_executor = u64::from(self.per_executor);
        let executors = match wanted.checked_sub(self.slots) {
            Some(more @ 1..) => u64::from(self.count()) + more.div_ceil(per_executor),
            _ => wanted.div_ceil(per_executor),
        };
        let executors = u32::try_from(executors).unwrap_or(u32::MAX);
        executors.max(u32::from(self.moving)).min(self.max).max(self.settings.executors_min)
    }

    /// Wants more, as long as tasks have no slot.
    fn rise(&mut self, now: Duration) {
        let needed = self.needed();
        if self.work > 0 {
            self.expects = None;
        }
        let in_use = (self.count() - self.leaving).min(needed);
        self.target = self.target.max(in_use).max(u32::from(self.moving).min(needed));
        if self.work <= self.slots {
            self.backlog = None;
            return;
        }
        let (batch, pause) = match self.backlog {
            None if self.count() >= self.target => (1, self.settings.backlog_timeout),
            // Some are on their way.
            None => {
                let due = now + self.settings.backlog_timeout;
                self.backlog = Some(Backlog { batch: 1, due });
                return;
            }
            Some(Backlog { batch, due }) if due <= now => (batch, self.settings.sustained()),
            Some(_) => return,
        };
        let target = self.target.saturating_add(batch).min(needed).max(self.target);
        let is_full = target - self.target == batch;
        self.target = target;
        let batch = if is_full { batch.saturating_mul(2) } else { 1 };
        self.backlog = Some(Backlog { batch, due: now + pause });
    }

    /// Wants less, when less has been needed for a moment.
    fn fall(&mut self, now: Duration) {
        self.expects.take_if(|until| *until <= now);
        let needed = self.needed();
        if self.target <= needed || self.expects.is_some() {
            self.falls = None;
            return;
        }
        let due = *self.falls.get_or_insert(now + self.settings.backlog_timeout);
        if due <= now {
            self.falls = None;
            self.target = needed;
        }
    }

    /// Whether there is an executor more than are wanted.
    fn is_one_spare(&self) -> bool {
        self.count() - self.leaving > self.target.max(self.settings.executors_min)
    }

    fn release_idle(&mut self, now: Duration, keeps: Keeps<'_>, out: &mut Vec<Action>) {
        while self.is_one_spare() {
            let first = self.idle.first().copied().filter(|(due, _)| *due <= now);
            let Some((_, executor)) = first else {
                return;
            };
            let held = self.held.get(&executor);
            let since = held.and_then(|held| held.idle).map_or(now, |idle| idle.since);
            let patience = self.settings.cached_idle_timeout.map(|timeout| since + timeout);
            if patience.is_none_or(|until| now < until) && keeps(executor) {
                let again = now + self.settings.idle_timeout.max(LOOK_AGAIN);
                let due = patience.map_or(again, |until| until.min(again));
                self.set_idle(executor, Some(Idle { since, due }));
            } else {
                self.leave(executor, Leaving::Idle, out);
            }
        }
    }
}
