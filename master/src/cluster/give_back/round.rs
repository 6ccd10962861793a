//! One round: which executors would bring those who are owed more nearer to their share.
//!
//! An executor is asked for only if its tenant, without it, would still stand at least as high as
//! the one that gets it will: so nothing goes back and forth. Nobody is brought below what it is
//! guaranteed; who is below that itself comes before the rule.

use super::{CLAIMS_MAX, Mark};
use crate::cluster::{App, Cluster};
use crate::share::{Level, Unit, covers, minus, plus};
use offshoot_proto::id::{AppId, ExecutorId, WorkerId};
use offshoot_proto::tenant::TenantPolicy;
use offshoot_proto::waiting::Size;
use std::collections::BTreeMap;
use std::time::Duration;

/// What everybody has and what is free if all that stops, and all that is marked, is gone.
#[derive(Clone)]
struct Round<'a> {
    cluster: &'a Cluster,
    tenants: BTreeMap<&'a str, Size>,
    apps: BTreeMap<AppId, Size>,
    free: BTreeMap<&'a WorkerId, Size>,
    marks: BTreeMap<ExecutorId, Mark>,
    reserved: BTreeMap<WorkerId, AppId>,
}

/// What comes of a round.
#[derive(Default)]
pub(super) struct Outcome {
    /// What is to be asked back.
    pub(super) marks: BTreeMap<ExecutorId, Mark>,
    /// Workers on which something is to become free, and for whom.
    pub(super) reserved: BTreeMap<WorkerId, AppId>,
    /// When to look again.
    pub(super) again: Option<Duration>,
}

/// Who is owed.
struct Claim<'a> {
    id: AppId,
    app: &'a App,
    unit: Unit,
    units_left: u32,
}

/// An executor that could be asked for.
struct Candidate {
    id: ExecutorId,
    size: Size,
    marked: bool,
}

/// Judges what everybody has and wants now.
pub(super) fn run(cluster: &Cluster) -> Outcome {
    let mut round = Round {
        cluster,
        tenants: BTreeMap::new(),
        apps: BTreeMap::new(),
        free: BTreeMap::new(),
        marks: BTreeMap::new(),
        reserved: BTreeMap::new(),
    };
    let mut again: Option<Duration> = None;
    for id in cluster.shares.claims().take(CLAIMS_MAX) {
        let Some(app) = cluster.apps.get(&id) else {
            continue;
        };
        if cluster.shares.quota(id).is_some() {
            continue;
        }
        let unit = crate::cluster::placement::unit_of(&app.spec);
        let units_left = cluster.shares.wants(id);
        let before = round.used(id);
        let mut tried = round.clone();
        tried.serve(Claim { id, app, unit, units_left });
        if tried.marks.len() == round.marks.len() {
            round = tried;
            continue;
        }
        let after = tried.used(id);
        let waited = app.hungry.unwrap_or(cluster.now) + cluster.policy.share_release_timeout;
        let is_starved = before.cores < after.cores.div_ceil(2);
        if is_starved || waited <= cluster.now {
            round = tried;
        } else {
            again = Some(again.map_or(waited, |other| other.min(waited)));
        }
    }
    Outcome { marks: round.marks, reserved: round.reserved, again }
}

// === impl Round ===

impl<'a> Round<'a> {
    /// Finds units for one application: on workers where something was asked for it already, then
    /// on the others.
    fn serve(&mut self, mut claim: Claim<'a>) {
        let mut workers = self.candidates(&claim);
        let known = |worker: &WorkerId| self.cluster.give_back.reserved.get(worker);
        workers.sort_by_key(|(worker, _)| (known(worker) != Some(&claim.id), *worker));
        for (worker, mut candidates) in workers {
            candidates.sort_by_key(|candidate| !candidate.marked);
            while claim.units_left > 0 && self.serve_on(worker, &mut claim, &mut candidates) {}
        }
    }

    /// Workers where something stops, and executors of those who have more, newest first.
    fn candidates(&self, claim: &Claim<'a>) -> Vec<(&'a WorkerId, Vec<Candidate>)> {
        let cluster = self.cluster;
        let stop = cluster.workers.iter().filter(|(_, worker)| worker.stopping.cores > 0);
        let mut workers: BTreeMap<&WorkerId, Vec<Candidate>> =
            stop.map(|(id, _)| (id, Vec::new())).collect();
        for (id, app) in &cluster.apps {
            if *id == claim.id || !self.may_lose(claim, *id, app, Size::default(), false) {
                continue;
            }
            let held: Vec<_> = cluster.executors_of(*id).collect();
            for (id, executor) in held.into_iter().rev() {
                let reachable = cluster.workers.get(&executor.worker);
                let reachable = reachable.is_some_and(|worker| {
                    worker.session().is_some() && covers(worker.size(), claim.unit.size)
                });
                if reachable && executor.life.is_live() && !self.marks.contains_key(&id) {
                    let marked = cluster.give_back.marks.contains_key(&id);
                    let candidate = Candidate { id, size: executor.size(), marked };
                    workers.entry(&executor.worker).or_default().push(candidate);
                }
            }
        }
        workers.into_iter().collect()
    }

    /// Finds one unit on a worker, or several if what is given back there is larger.
    fn serve_on(
        &mut self,
        worker: &'a WorkerId,
        claim: &mut Claim<'a>,
        candidates: &mut Vec<Candidate>,
    ) -> bool {
        if self.reserved.get(worker).is_some_and(|heir| *heir != claim.id) {
            return false;
        }
        let free = self.free_on(worker);
        let mut taken: Vec<Candidate> = Vec::new();
        while !covers(self.free_on(worker), claim.unit.size) {
            let next = candidates.iter().position(|candidate| self.may_take(claim, candidate));
            let Some(next) = next.map(|index| candidates.remove(index)) else {
                // What is left here is not enough: nothing is asked for in vain.
                for candidate in taken {
                    self.marks.remove(&candidate.id);
                    self.win(candidate.id.app, candidate.size);
                }
                self.free.insert(worker, free);
                return false;
            };
            if self.take(worker, claim, &next) {
                self.reserved.insert(worker.clone(), claim.id);
                return true;
            }
            taken.push(next);
        }
        self.gain(worker, claim);
        self.reserved.insert(worker.clone(), claim.id);
        true
    }

    /// Marks an executor. Of one of any size only as many cores go over as are owed: its
    /// application is given the rest again. Returns whether it is of that kind.
    fn take(&mut self, worker: &'a WorkerId, claim: &mut Claim<'a>, taken: &Candidate) -> bool {
        let (id, heir) = (taken.id, claim.id);
        let since = self.cluster.give_back.marks.get(&id).map(|mark| mark.since);
        let since = since.unwrap_or(self.cluster.now);
        self.marks.insert(id, Mark { since, worker: worker.clone(), heir });
        if !self.is_elastic(id.app) {
            self.lose(id.app, taken.size);
            let free = plus(self.free_on(worker), taken.size);
            self.free.insert(worker, free);
            return false;
        }
        let unit = Size { cores: claim.unit.size.cores, memory_bytes: 0 };
        let mut left = taken.size.cores;
        while left >= unit.cores && claim.units_left > 0 {
            let Some(app) = self.cluster.apps.get(&id.app) else {
                break;
            };
            if !self.may_lose(claim, id.app, app, unit, true) {
                break;
            }
            self.lose(id.app, unit);
            self.win(claim.id, unit);
            claim.units_left -= 1;
            left -= unit.cores;
        }
        true
    }

    fn gain(&mut self, worker: &'a WorkerId, claim: &mut Claim<'a>) {
        let free = minus(self.free_on(worker), claim.unit.size);
        self.free.insert(worker, free);
        self.win(claim.id, claim.unit.size);
        claim.units_left -= 1;
    }

    fn may_take(&self, claim: &Claim<'_>, candidate: &Candidate) -> bool {
        let owner = candidate.id.app;
        let Some(app) = self.cluster.apps.get(&owner) else {
            return false;
        };
        let (loss, elastic) = match self.is_elastic(owner) {
            true => (claim.unit.size, true),
            false => (candidate.size, false),
        };
        self.may_lose(claim, owner, app, loss, elastic)
            && self.keeps_guarantee(&app.tenant, candidate.size, &claim.app.tenant)
    }

    /// Whether `owner` would stand at least as high as the claim's application after the change.
    /// With no loss: whether it is worth a look.
    fn may_lose(
        &self,
        claim: &Claim<'_>,
        owner: AppId,
        app: &App,
        loss: Size,
        elastic: bool,
    ) -> bool {
        let (total, shares) = (self.cluster.shares.total(), &self.cluster.shares);
        let gain = match elastic {
            true => Size { cores: claim.unit.size.cores, memory_bytes: 0 },
            false => claim.unit.size,
        };
        let loss = match elastic {
            true => gain,
            false => loss,
        };
        let level = |used: Size, weight: u32| Level::new(used, total, weight);
        if app.tenant == claim.app.tenant {
            let fair = shares.rules(&app.tenant).map(|rules| rules.policy);
            return fair == Some(TenantPolicy::Fair)
                && level(minus(self.used(owner), loss), 1)
                    >= level(plus(self.used(claim.id), gain), 1);
        }
        let (Some(from), Some(to)) = (shares.rules(&app.tenant), shares.rules(&claim.app.tenant))
        else {
            return false;
        };
        let has = self.tenant_used(&claim.app.tenant);
        if has.cores < to.cores_guaranteed || has.memory_bytes < to.memory_bytes_guaranteed {
            return true;
        }
        let left = minus(self.tenant_used(&app.tenant), loss);
        level(left, from.weight) >= level(plus(has, gain), to.weight)
    }

    /// What is taken from a tenant for another leaves it what it is guaranteed.
    fn keeps_guarantee(&self, tenant: &str, loss: Size, heir: &str) -> bool {
        let Some(rules) = self.cluster.shares.rules(tenant).filter(|_| tenant != heir) else {
            return tenant == heir;
        };
        // What it may be given in this round does not count: that is not there yet.
        let marked = self.marks.keys().filter_map(|id| self.cluster.executors.get_key_value(id));
        let marked = marked.filter(|(id, _)| {
            self.cluster.apps.get(&id.app).is_some_and(|app| app.tenant == tenant)
        });
        let lost = marked.fold(loss, |sum, (_, executor)| plus(sum, executor.size()));
        let left = minus(self.cluster.shares.tenant_kept(tenant), lost);
        left.cores >= rules.cores_guaranteed && left.memory_bytes >= rules.memory_bytes_guaranteed
    }

    fn is_elastic(&self, app: AppId) -> bool {
        let app = self.cluster.apps.get(&app);
        app.is_some_and(|app| app.spec.request.executor_cores.is_none())
    }

    fn free_on(&self, worker: &WorkerId) -> Size {
        let free = || {
            let worker = self.cluster.workers.get(worker);
            worker.map_or(Size::default(), |worker| plus(worker.free(), worker.stopping))
        };
        self.free.get(worker).copied().unwrap_or_else(free)
    }

    /// What an application has, without what stops or is marked.
    fn used(&self, id: AppId) -> Size {
        let kept = || self.cluster.shares.kept(id);
        self.apps.get(&id).copied().unwrap_or_else(kept)
    }

    fn tenant_used(&self, name: &str) -> Size {
        let kept = || self.cluster.shares.tenant_kept(name);
        self.tenants.get(name).copied().unwrap_or_else(kept)
    }

    fn lose(&mut self, id: AppId, size: Size) {
        self.set(id, minus(self.used(id), size), |used| minus(used, size));
    }

    fn win(&mut self, id: AppId, size: Size) {
        self.set(id, plus(self.used(id), size), |used| plus(used, size));
    }

    fn set(&mut self, id: AppId, used: Size, tenant: impl FnOnce(Size) -> Size) {
        self.apps.insert(id, used);
        if let Some(app) = self.cluster.apps.get(&id) {
            let used = tenant(self.tenant_used(&app.tenant));
            self.tenants.insert(&app.tenant, used);
        }
    }
}
