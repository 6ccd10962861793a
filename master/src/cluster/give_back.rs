//! Takes back from those above their share what others are owed.
//!
//! ```text
//!   somebody wants more ─► round ─► marks ─► GiveBack to the driver ─► Release, or the end of the
//!   and nothing is free              │                                 worker's executor
//!                                    └─ preemption, after its deadline: killed
//! ```
//!
//! A round finds out which executors to ask for, from nothing but today's books, so that a list
//! that was sent is replaced when others gave back in between. It looks at no more than
//! [`CLAIMS_MAX`] applications that want more, and comes at most every [`ROUND`].

mod round;

use super::{Action, Cluster, ids_of};
use crate::free::Seat;
use crate::share::covers;
use offshoot_proto::cluster::ToClient;
use offshoot_proto::id::{AppId, ExecutorId};
use offshoot_proto::waiting::Size;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Rounds are at least this far apart: executors come and go in bursts.
const ROUND: Duration = Duration::from_millis(100);

/// Applications that one round helps, and of one tenant.
const CLAIMS_MAX: usize = 16;
const CLAIMS_OF_TENANT_MAX: usize = 4;

/// Executors that are asked back at a time. Others are asked for when these have come: to make the
/// credentials of as many new ones takes a master about half a second.
const MARKS_MAX: usize = 4096;

/// Executors that a round looks at. Who has no turn for that has it in the next round.
const LOOKS_MAX: usize = 50_000;

/// While something is asked back it is looked at this often, whether something happens or not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is free beside executors that are asked back is kept for so long at most: a task may take
/// for ever, and others could use it.
const KEPT: Duration = Duration::from_secs(10);

/// What is asked back.
#[derive(Debug, Default)]
pub(super) struct GiveBack {
    marks: BTreeMap<ExecutorId, Mark>,
    /// What was asked for until another was given back instead, since the last round: if it is
    /// asked for again, it has been all the time.
    lifted: BTreeMap<ExecutorId, Mark>,
    /// Who was searched for in the last rounds, while others had no turn.
    searched: BTreeSet<AppId>,
    /// How many executors of each worker are marked, and when the last was.
    on: BTreeMap<Seat, (u32, Duration)>,
    /// When the first of them was marked, or before.
    first: Option<Duration>,
    /// Workers on which something is to become free, and for whom.
    reserved: BTreeMap<Seat, AppId>,
    last: Option<Duration>,
    again: Option<Duration>,
}

/// An executor that is asked back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    since: Duration,
    worker: Seat,
    /// Who is owed it.
    heir: AppId,
}

// === impl GiveBack ===

impl GiveBack {
    /// An executor is gone.
    pub(super) fn forget(&mut self, executor: ExecutorId) {
        self.take(executor);
        self.lifted.remove(&executor);
    }

    fn take(&mut self, executor: ExecutorId) -> Option<Mark> {
        let mark = self.marks.remove(&executor)?;
        if let Some((count, _)) = self.on.get_mut(&mark.worker) {
            *count -= 1;
        }
        Some(mark)
    }

    /// Somebody lost what it had: what was asked of it may be too much now.
    pub(super) fn reconsider(&mut self) {
        if !(self.marks.is_empty() && self.lifted.is_empty()) {
            self.last = None;
        }
    }

    /// When something is to be looked at again.
    pub(super) fn due(&self, preemption: Option<Duration>) -> Option<Duration> {
        let preempt = preemption.and_then(|after| Some(self.first? + after));
        self.again.into_iter().chain(preempt).min()
    }

    fn count(&mut self) {
        self.on.clear();
        for mark in self.marks.values() {
            let (count, last) = self.on.entry(mark.worker).or_default();
            (*count, *last) = (*count + 1, mark.since.max(*last));
        }
        self.first = self.marks.values().map(|mark| mark.since).min();
    }

    /// Whether an executor is asked back.
    pub(super) fn is_asked(&self, executor: ExecutorId) -> bool {
        self.marks.contains_key(&executor)
    }

    /// What an application is asked to give back.
    pub(super) fn list(&self, app: AppId) -> impl Iterator<Item = ExecutorId> {
        self.marks.range(ids_of(app)).map(|(id, _)| *id)
    }

    /// A seat is nobody's any more.
    pub(super) fn leave(&mut self, seat: Seat) {
        self.reserved.remove(&seat);
        self.on.remove(&seat);
    }
}

// === impl Cluster ===

impl Cluster {
    /// Finds out what is to be asked back, unless that was done a moment ago. Returns whether
    /// something is kept for another than before: then others may use what was kept.
    pub(super) fn ask_back(&mut self, out: &mut Vec<Action>) -> bool {
        let mut outcome = round::Outcome::default();
        self.give_back.again = None;
        if self.shares.any_wants() && self.apps.len() > 1 {
            let next = self.give_back.last.map(|last| last + ROUND);
            if let Some(next) = next.filter(|next| self.now < *next) {
                self.give_back.again = Some(next);
                return false;
            }
            outcome = round::run(self);
            self.give_back.last = Some(self.now);
            let open = (!outcome.marks.is_empty()).then_some(self.now + LOOK_AGAIN);
            self.give_back.again = outcome.again.into_iter().chain(open).min();
        }
        let is_other = self.give_back.reserved != outcome.reserved;
        self.mark(outcome, out);
        is_other
    }

    /// What is to become free on a worker for one application is not given to another.
    pub(super) fn may_use(&self, app: AppId, worker: Seat) -> bool {
        let heir = self.give_back.reserved.get(&worker).filter(|heir| **heir != app);
        heir.is_none() || !self.is_awaited(worker)
    }

    /// Whether executors on a worker stop, or are asked back.
    fn is_awaited(&self, seat: Seat) -> bool {
        let stopping = self.workers.get(seat).is_some_and(|worker| worker.stopping.cores > 0);
        let kept = |(count, last): &(u32, Duration)| *count > 0 && self.now < *last + KEPT;
        stopping || self.give_back.on.get(&seat).is_some_and(kept)
    }

    /// Replaces what is asked back, and tells the drivers whose part of it is another.
    fn mark(&mut self, outcome: round::Outcome, out: &mut Vec<Action>) {
        self.give_back.reserved = outcome.reserved;
        self.give_back.searched = outcome.searched;
        self.give_back.lifted.clear();
        let old = std::mem::replace(&mut self.give_back.marks, outcome.marks);
        self.give_back.count();
        let new = &self.give_back.marks;
        let only = |a: &BTreeMap<ExecutorId, Mark>, b: &BTreeMap<ExecutorId, Mark>| {
            let apps = a.keys().filter(|id| !b.contains_key(id)).map(|id| id.app);
            apps.collect::<BTreeSet<_>>()
        };
        let changed: BTreeSet<AppId> = &only(&old, new) | &only(new, &old);
        for app in changed {
            self.tell_give_back(app, out);
        }
    }

    /// Tells a driver, if it is there, all that it is asked to give back.
    pub(super) fn tell_give_back(&self, app: AppId, out: &mut Vec<Action>) {
        if let Some(session) = self.apps.get(&app).and_then(|app| app.session) {
            let mut executors: Vec<_> = self.give_back.list(app).collect();
            if self.workers.is_any_draining() {
                let leaves = self.executors_of(app).filter(|(id, executor)| {
                    self.is_draining(executor.worker)
                        && executor.life.is_live()
                        && !self.give_back.is_asked(*id)
                });
                executors.extend(leaves.map(|(id, _)| id));
            }
            let message = ToClient::GiveBack { executors };
            out.push(Action::ToClient { session, message });
        }
    }

    /// A driver is done with executors: those that were asked for, or others instead.
    pub(super) fn on_release(
        &mut self,
        app: AppId,
        executors: Vec<ExecutorId>,
        out: &mut Vec<Action>,
    ) {
        let mut instead = false;
        for id in executors {
            let live = self.executors.get(&id).filter(|executor| executor.life.is_live());
            let Some(executor) = live.filter(|_| id.app == app) else {
                self.rejected += u64::from(id.app != app);
                continue;
            };
            let (size, leaves) = (executor.size(), self.is_draining(executor.worker));
            if self.give_back.take(id).is_none() {
                // Where a worker leaves it was asked for, too, and no other may stay for it.
                instead |= !leaves && self.instead(app, size);
                self.give_back.reconsider();
            }
            self.stop(id, out);
        }
        if instead {
            self.tell_give_back(app, out);
        }
        self.refresh(app);
        self.place(out);
    }

    /// An executor of this size comes back that was not asked for: another may stay.
    fn instead(&mut self, app: AppId, size: Size) -> bool {
        let smaller = |id: &ExecutorId| {
            let executor = self.executors.get(id);
            executor.is_some_and(|executor| covers(size, executor.size()))
        };
        let stays = self.give_back.list(app).find(smaller);
        let mark = stays.and_then(|stays| Some((stays, self.give_back.take(stays)?)));
        self.give_back.lifted.extend(mark);
        mark.is_some()
    }

    /// Looks again at what is to be asked back, and takes what was asked for too long ago.
    pub(super) fn take_back_due(&mut self, out: &mut Vec<Action>) {
        let Some(due) = self.give_back.due(self.policy.preemption) else {
            return;
        };
        // When a pass is over it is found out what is still asked for.
        if due > self.now || self.pass.is_open() {
            return;
        }
        if let Some(after) = self.policy.preemption {
            let late =
                self.give_back.marks.iter().filter(|(_, mark)| mark.since + after <= self.now);
            for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.preempt(id, after, out);
            }
            self.give_back.count();
        }
        self.place(out);
    }

    fn preempt(&mut self, id: ExecutorId, after: Duration, out: &mut Vec<Action>) {
        let heir = self.give_back.take(id).map(|mark| mark.heir);
        let whose = heir.and_then(|heir| self.apps.get(&heir)).map(|app| app.tenant.as_str());
        let reason = format!(
            "preempted: tenant {} is owed it, and it was not given back within {} s",
            whose.unwrap_or("?").escape_debug(),
            after.as_secs_f64()
        );
        self.stop(id, out);
        self.tell_gone(id, reason, out);
    }
}
