//! What a waiting application is told, and when.
//!
//! A request that no worker can serve is told at once, so is a cluster without workers. That others
//! are busy is told after a moment, since most waits are shorter, and not at each change of theirs.

use super::limits::{BUSY_AFTER, BUSY_AGAIN, HOLDERS_MAX, RECOVERY};
use super::placement::unit_of;
use super::roster::SeatSet;
use super::{Action, App, Cluster};
use crate::free::Seat;
use crate::placement::shortage;
use crate::share::{TenantIndex, covers};
use offshoot_proto::cluster::ToClient;
use offshoot_proto::id::AppId;
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

/// Looks around of one step, each a step a worker and a step an executor: who asks for yet another
/// size is told in the next step, which comes at once.
const SURVEYS_MAX: usize = 4;

/// What waiting applications see of the cluster. What was worked out for one holds for all that
/// ask for as much, as long as nothing happens.
#[derive(Debug, Default)]
pub(super) struct Survey {
    by_size: BTreeMap<(u32, u64), Option<WaitReason>>,
    /// Tenants that are owed something.
    owed: Option<BTreeSet<TenantIndex>>,
}

// === impl Cluster ===

impl Cluster {
    /// Tells a driver without executors why there are none, if that is new and old enough.
    fn tell_waiting(&mut self, id: AppId, survey: &mut Survey, out: &mut Vec<Action>) {
        let Some(app) = self.apps.get(&id) else {
            return;
        };
        let waits = self.may_launch(app) && !self.shares.runs(id) && self.is_short(id, app);
        let lasting = waits.then(|| self.lasting_reason(app)).flatten();
        let is_full = survey.by_size.len() >= SURVEYS_MAX && !survey.knows(app);
        let (now, told) = (self.now, &app.waiting.told);
        let passes = waits && lasting.is_none();
        let due = passes.then(|| app.waiting.due.unwrap_or(now + pause(told.as_ref())));
        let reason = match due {
            None => lasting,
            // Nothing needs to be known of it yet, or there is no time for that.
            Some(due) if now < due || is_full => {
                self.tell_at = Some(self.tell_at.map_or(due, |at| at.min(due)));
                if let Some(app) = self.apps.get_mut(&id) {
                    app.waiting.due = Some(due);
                }
                return;
            }
            Some(_) => Some(self.passing_reason(id, app, survey)),
        };
        let Some(app) = self.apps.get_mut(&id) else {
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
        let wanted = self.wanted_of(id, app);
        wanted.executors_left > 0 && wanted.cores_left > 0
    }

    /// Tells those for whom something has changed.
    pub(super) fn tell_unjudged(&mut self, out: &mut Vec<Action>) {
        let mut survey = Survey::default();
        for app in std::mem::take(&mut self.unjudged) {
            self.tell_waiting(app, &mut survey, out);
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
        let mut survey = Survey::default();
        for app in due {
            self.tell_waiting(app, &mut survey, out);
        }
        self.tell_at = self.apps.values().filter_map(|app| app.waiting.due).min();
    }

    /// Why an application that wants another executor has not got it.
    pub(super) fn wait_reason(&self, id: AppId, app: &App) -> WaitReason {
        let lasting = self.lasting_reason(app);
        lasting.unwrap_or_else(|| self.passing_reason(id, app, &mut Survey::default()))
    }

    /// What keeps an application from being served that others cannot change by giving back.
    fn lasting_reason(&self, app: &App) -> Option<WaitReason> {
        if !self.may_launch(app) {
            return Some(WaitReason::Unready);
        }
        let asked = unit_of(&app.spec).size;
        if self.workers.sizes().next().is_none() {
            return Some(WaitReason::NoWorkers);
        }
        let (short, largest) = shortage(asked, self.workers.sizes())?;
        Some(match self.is_recovering() {
            true => WaitReason::Recovering,
            false => WaitReason::TooLarge(TooLarge { short, asked, largest }),
        })
    }

    /// What an application waits for that some worker is large enough for.
    fn passing_reason(&self, id: AppId, app: &App, survey: &mut Survey) -> WaitReason {
        if let Some(quota) = self.shares.quota(id) {
            return WaitReason::Quota(quota);
        }
        let asked = unit_of(&app.spec).size;
        let key = (asked.cores, asked.memory_bytes);
        let reason = survey.by_size.entry(key).or_insert_with(|| self.look_around(asked));
        let owed = &mut survey.owed;
        reason.clone().unwrap_or_else(|| WaitReason::Share(self.share_of(id, owed)))
    }

    /// What keeps everybody from so much; none if there is a worker that has it free.
    fn look_around(&self, asked: Size) -> Option<WaitReason> {
        let workers = self.workers.iter().filter(|(_, worker)| covers(worker.size(), asked));
        let free = workers.filter_map(|(seat, worker)| Some((seat, worker.usable()?)));
        let free: Vec<(Seat, Size)> = free.collect();
        let (short, most) = shortage(asked, free.iter().map(|(_, free)| *free))?;
        if free.is_empty() {
            return Some(WaitReason::OutOfReach);
        }
        let mut on = SeatSet::default();
        free.iter().for_each(|(seat, _)| on.insert(*seat));
        let (holders, others) = self.holders(&on, short);
        Some(WaitReason::Busy(Busy { short, asked, free: most, holders, others }))
    }

    /// Where an application stands that could be given something, and is not: it is others' turn.
    fn share_of(&self, id: AppId, owed: &mut Option<BTreeSet<TenantIndex>>) -> Share {
        let shares = &self.shares;
        let all = || shares.claims().filter_map(|other| shares.tenant_of(other)).collect();
        let owed = owed.get_or_insert_with(all);
        let own = shares.tenant_of(id).is_some_and(|tenant| owed.contains(&tenant));
        let others = owed.len() - usize::from(own);
        let held_cores = shares.used(id).cores;
        Share { held_cores, owed: u32::try_from(others).unwrap_or(u32::MAX) }
    }

    /// Whether workers of the life before this may still be on their way.
    fn is_recovering(&self) -> bool {
        self.origin.epoch.0 > 1 && self.now < RECOVERY
    }

    /// Who holds most on these workers, and how many others hold something.
    fn holders(&self, workers: &SeatSet, short: Shortage) -> (Vec<Holder>, u32) {
        let mut held: BTreeMap<AppId, Size> = BTreeMap::new();
        for (id, executor) in &self.executors {
            if workers.contains(executor.worker) {
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

/// How long until who was told this hears of others again.
fn pause(told: Option<&WaitReason>) -> Duration {
    match told.is_some_and(WaitReason::passes) {
        true => BUSY_AGAIN,
        false => BUSY_AFTER,
    }
}

// === impl Survey ===

impl Survey {
    fn knows(&self, app: &App) -> bool {
        let asked = unit_of(&app.spec).size;
        self.by_size.contains_key(&(asked.cores, asked.memory_bytes))
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
