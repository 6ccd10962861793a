//! What a waiting application is told, and when.
//!
//! A request that no worker can serve is told at once, so is a cluster without workers. That others
//! are busy is told after a moment, since most waits are shorter, and not at each change of theirs.

use super::limits::{BUSY_AFTER, BUSY_AGAIN, HOLDERS_MAX, RECOVERY};
use super::placement::unit_of;
use super::{Action, App, Cluster};
use crate::placement::{Offer, shortage};
use offshoot_proto::cluster::ToClient;
use offshoot_proto::id::{AppId, WorkerId};
use offshoot_proto::waiting::{Busy, Holder, Share, Shortage, Size, TooLarge, WaitReason};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a driver knows of its wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// What it was told last.
    told: Option<WaitReason>,
    /// When to look again.
    due: Option<Duration>,
}

// === impl Cluster ===

impl Cluster {
    /// Tells a driver without executors why there are none, if that is new and old enough.
    pub(super) fn tell_waiting(&mut self, id: AppId, out: &mut Vec<Action>) {
        let Some(app) = self.apps.get(&id) else {
            return;
        };
        let served = self.executors_of(id).any(|(_, executor)| executor.life.is_live());
        let waits = self.may_launch(app) && !served && self.is_short(id, app);
        let reason = waits.then(|| self.wait_reason(id, app));
        let (now, app) = (self.now, self.apps.get_mut(&id));
        let Some(app) = app else {
            return;
        };
        if let (true, Some(session)) = (app.waiting.is_to_tell(now, &reason), app.session)
            && let Some(reason) = reason
        {
            out.push(Action::ToClient { session, message: ToClient::Waiting(reason) });
        }
        self.tell_at = self.tell_at.into_iter().chain(app.waiting.due).min();
    }

    /// Whether an application wants more than it has.
    pub(super) fn is_short(&self, id: AppId, app: &App) -> bool {
        self.wanted_of(id, app).executors_left > 0 && self.wanted_of(id, app).cores_left > 0
    }

    /// Tells those for whom something has changed.
    pub(super) fn tell_unjudged(&mut self, out: &mut Vec<Action>) {
        for app in std::mem::take(&mut self.unjudged) {
            self.tell_waiting(app, out);
        }
    }

    /// Tells those whose time has come.
    pub(super) fn tell_due(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        if self.tell_at.is_none_or(|at| at > now) {
            return;
        }
        let due = self.apps.iter().filter(|(_, app)| app.waiting.due.is_some_and(|at| at <= now));
        let due: Vec<_> = due.map(|(id, _)| *id).collect();
        for app in due {
            self.tell_waiting(app, out);
        }
        self.tell_at = self.apps.values().filter_map(|app| app.waiting.due).min();
    }

    /// Why an application that wants another executor has not got it.
    pub(super) fn wait_reason(&self, id: AppId, app: &App) -> WaitReason {
        if !self.may_launch(app) {
            return WaitReason::Unready;
        }
        let asked = unit_of(&app.spec).size;
        let workers = self.workers.iter();
        let workers = workers.filter(|(_, worker)| worker.is_alive() && worker.drain.is_none());
        let sizes: BTreeMap<_, _> = workers.map(|(id, worker)| (id, worker.size())).collect();
        if sizes.is_empty() {
            return WaitReason::NoWorkers;
        }
        if let Some((short, largest)) = shortage(asked, sizes.values().copied()) {
            return match self.is_recovering() {
                true => WaitReason::Recovering,
                false => WaitReason::TooLarge(TooLarge { short, asked, largest }),
            };
        }
        if let Some(quota) = self.shares.quota(id) {
            return WaitReason::Quota(quota);
        }
        let fits = |id: &WorkerId| {
            sizes.get(id).is_some_and(|size: &Size| shortage(asked, [*size]).is_none())
        };
        let offers: Vec<_> = self.free.offers().filter(|it| fits(&it.worker)).collect();
        let free = offers.iter().map(Offer::size);
        match shortage(asked, free) {
            Some((short, free)) if !offers.is_empty() => {
                let on = offers.iter().map(|offer| &offer.worker).collect();
                let (holders, others) = self.holders(&on, short);
                WaitReason::Busy(Busy { short, asked, free, holders, others })
            }
            None => WaitReason::Share(self.share_of(id, app)),
            Some(_) => WaitReason::OutOfReach,
        }
    }

    /// Where an application stands that could be given something, and is not: it is others' turn.
    fn share_of(&self, id: AppId, app: &App) -> Share {
        let owed = self.shares.claims().filter_map(|other| self.apps.get(&other));
        let owed: BTreeSet<&str> = owed.map(|other| other.tenant.as_str()).collect();
        let owed = owed.iter().filter(|tenant| **tenant != app.tenant).count();
        let held_cores = self.shares.used(id).cores;
        Share { held_cores, owed: u32::try_from(owed).unwrap_or(u32::MAX) }
    }

    /// Whether workers of the life before this may still be on their way.
    fn is_recovering(&self) -> bool {
        self.origin.epoch.0 > 1 && self.now < RECOVERY
    }

    /// Who holds most on these workers, and how many others hold something.
    fn holders(&self, workers: &BTreeSet<&WorkerId>, short: Shortage) -> (Vec<Holder>, u32) {
        let mut held: BTreeMap<AppId, Size> = BTreeMap::new();
        for (id, executor) in &self.executors {
            if workers.contains(&executor.worker) {
                let sum = held.entry(id.app).or_default();
                sum.cores += executor.cores;
                sum.memory_bytes += executor.memory_bytes;
            }
        }
        let mut held: Vec<_> = held.into_iter().collect();
        held.sort_by_key(|(app, Size { cores, memory_bytes })| match short {
            Shortage::Memory => (Reverse(*memory_bytes), *app),
            _ => (Reverse(u64::from(*cores)), *app),
        });
        let others = u32::try_from(held.len().saturating_sub(HOLDERS_MAX)).unwrap_or(u32::MAX);
        held.truncate(HOLDERS_MAX);
        let holder = |(app, held)| Holder { app, tenant: self.tenant_of(app), held };
        (held.into_iter().map(holder).collect(), others)
    }

    fn tenant_of(&self, id: AppId) -> Option<String> {
        let ended = || self.ended.iter().find(|app| app.id == id).map(|app| &app.tenant);
        self.apps.get(&id).map(|app| &app.tenant).or_else(ended).cloned()
    }
}

// === impl Waiting ===

impl Waiting {
    /// Takes in the reason of today, none if there is no wait; whether it is to be told now.
    fn is_to_tell(&mut self, now: Duration, reason: &Option<WaitReason>) -> bool {
        let is_new = *reason != self.told;
        match reason {
            None => self.due = None,
            Some(reason) if reason.passes() => {
                let again = self.told.as_ref().is_some_and(WaitReason::passes);
                let pause = if again { BUSY_AGAIN } else { BUSY_AFTER };
                if now < *self.due.get_or_insert(now + pause) {
                    return false;
                }
                self.due = Some(now + BUSY_AGAIN);
            }
            // What the master cannot judge yet it looks at again when it can.
            Some(WaitReason::Recovering) => self.due = Some(RECOVERY),
            Some(_) => self.due = None,
        }
        self.told.clone_from(reason);
        is_new && reason.is_some()
    }
}
