//! What a waiting application is told, and when.
//!
//! A request that no worker can serve is told at once, so is a cluster without workers. That others
//! are busy is told after a moment, since most waits are shorter, and not at each change of theirs.

use super::limits::{BUSY_AFTER, BUSY_AGAIN, HOLDERS_MAX, RECOVERY};
use super::{Action, App, Cluster, Worker};
use crate::placement::{Offer, shortage};
use offshoot_proto::cluster::{AppSpec, ToClient};
use offshoot_proto::id::{AppId, WorkerId};
use offshoot_proto::waiting::{Busy, Holder, Shortage, Size, TooLarge, WaitReason};
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
        let waits = self.may_launch(app) && !served && app.wanted != Some(0);
        let reason = waits.then(|| self.wait_reason(app));
        let (now, app) = (self.now, self.apps.get_mut(&id));
        if let Some(app) = app
            && let (true, Some(session)) = (app.waiting.is_to_tell(now, &reason), app.session)
            && let Some(reason) = reason
        {
            out.push(Action::ToClient { session, message: ToClient::Waiting(reason) });
        }
    }

    /// When a driver is to be told at the latest.
    pub(super) fn next_told(&self) -> Option<Duration> {
        self.apps.values().filter_map(|app| app.waiting.due).min()
    }

    /// Tells those whose time has come.
    pub(super) fn tell_due(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let due = self.apps.iter().filter(|(_, app)| app.waiting.due.is_some_and(|at| at <= now));
        let due: Vec<_> = due.map(|(id, _)| *id).collect();
        for app in due {
            self.tell_waiting(app, out);
        }
    }

    /// Why an application with no executor has none.
    fn wait_reason(&self, app: &App) -> WaitReason {
        let AppSpec { request, settings, .. } = &*app.spec;
        let asked = Size {
            cores: request.executor_cores.unwrap_or(settings.task_cores),
            memory_bytes: request.executor_memory_bytes,
        };
        let workers = self.workers.iter().filter(|(_, worker)| worker.is_alive());
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
        let fits = |id: &WorkerId| {
            sizes.get(id).is_some_and(|size: &Size| shortage(asked, [*size]).is_none())
        };
        let offers: Vec<_> = self.offers().into_iter().filter(|it| fits(&it.worker)).collect();
        let free = offers.iter().map(Offer::size);
        match shortage(asked, free) {
            Some((short, free)) if !offers.is_empty() => {
                let on = offers.iter().map(|offer| &offer.worker).collect();
                let (holders, others) = self.holders(&on, short);
                WaitReason::Busy(Busy { short, asked, free, holders, others })
            }
            _ => WaitReason::OutOfReach,
        }
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
        if *reason == self.told {
            // What the master cannot judge yet it looks at again when it can.
            self.due = self.due.filter(|_| *reason == Some(WaitReason::Recovering));
            return false;
        }
        match reason {
            None => self.due = None,
            Some(reason) if reason.passes() => {
                let again = self.told.as_ref().is_some_and(WaitReason::passes);
                let pause = if again { BUSY_AGAIN } else { BUSY_AFTER };
                if now < *self.due.get_or_insert(now + pause) {
                    return false;
                }
                self.due = None;
            }
            Some(WaitReason::Recovering) => self.due = Some(RECOVERY),
            Some(_) => self.due = None,
        }
        self.told.clone_from(reason);
        reason.is_some()
    }
}

// === impl Worker ===

impl Worker {
    fn size(&self) -> Size {
        Size { cores: self.cores, memory_bytes: self.memory_bytes }
    }
}
