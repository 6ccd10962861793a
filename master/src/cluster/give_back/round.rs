//! One round: which executors would bring those who are owed more nearer to their share.
//!
//! An executor is asked for only if its tenant, without it, would still stand at least as high as
//! the one that gets it will: so nothing goes back and forth. Nobody is brought below what it is
//! guaranteed; who is below that itself comes before the rule.

use super::{CLAIMS_MAX, CLAIMS_OF_TENANT_MAX, Mark};
use crate::cluster::placement::unit_of;
use crate::cluster::{App, Cluster, Executor};
use crate::share::{Guarantee, Level, Unit, covers, minus, plus};
use offshoot_proto::id::{AppId, ExecutorId, WorkerId};
use offshoot_proto::tenant::TenantPolicy;
use offshoot_proto::waiting::Size;
use std::collections::btree_map::Range;
use std::collections::{BTreeMap, BinaryHeap};
use std::iter::Rev;
use std::time::Duration;

/// What everybody has and what is free if all that stops, and all that is marked, is gone.
#[derive(Clone)]
struct Round<'a> {
    cluster: &'a Cluster,
    tenants: BTreeMap<&'a str, Size>,
    apps: BTreeMap<AppId, Size>,
    free: BTreeMap<&'a WorkerId, Size>,
    marks: BTreeMap<ExecutorId, Mark>,
    /// What tenants have lost by marks.
    lost: BTreeMap<&'a str, Size>,
    reserved: BTreeMap<WorkerId, AppId>,
    /// Workers where something stops.
    stopping: Vec<&'a WorkerId>,
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
}

/// Applications that have more than the claim's would: who stands highest comes first.
struct Owners<'a> {
    heap: BinaryHeap<(Level, Level, AppId)>,
    /// The executors that each has left, newest first.
    executors: BTreeMap<AppId, Rev<Range<'a, ExecutorId, Executor>>>,
}

/// Judges what everybody has and wants now.
pub(super) fn run(cluster: &Cluster) -> Outcome {
    let stop = cluster.workers.iter();
    let stop = stop.filter(|(_, worker)| worker.stopping.cores > 0 && worker.drain.is_none());
    let mut round = Round {
        cluster,
        lost: BTreeMap::new(),
        stopping: stop.map(|(id, _)| id).collect(),
        tenants: BTreeMap::new(),
        apps: BTreeMap::new(),
        free: BTreeMap::new(),
        marks: BTreeMap::new(),
        reserved: BTreeMap::new(),
    };
    let mut again: Option<Duration> = None;
    let mut of_tenant: BTreeMap<&str, usize> = BTreeMap::new();
    // Those whom nobody can help are no reason not to help others.
    let claims = cluster.shares.claims().filter_map(|id| {
        let app = cluster.apps.get(&id)?;
        let unit = unit_of(&app.spec);
        let can_be = covers(cluster.largest, unit.size) && cluster.shares.quota(id).is_none();
        let before = of_tenant.entry(&app.tenant).or_default();
        *before += usize::from(can_be);
        (can_be && *before <= CLAIMS_OF_TENANT_MAX).then_some((id, app, unit))
    });
    for (id, app, unit) in claims.take(CLAIMS_MAX) {
        let units_left = cluster.shares.wants(id).min(round.units_in_quota(app, unit));
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
        // What was asked for is not taken back because a part of it has come.
        let goes_on = cluster.give_back.marks.values().any(|mark| mark.heir == id);
        if is_starved || goes_on || waited <= cluster.now {
            round = tried;
        } else {
            again = Some(again.map_or(waited, |other| other.min(waited)));
        }
    }
    Outcome { marks: round.marks, reserved: round.reserved, again }
}

// === impl Round ===

impl<'a> Round<'a> {
    /// Finds units for one application: where something stops or was asked for it already, then of
    /// whoever stands highest.
    fn serve(&mut self, mut claim: Claim<'a>) {
        for worker in self.stopping.clone() {
            self.serve_all(worker, &mut claim, &mut Vec::new());
        }
        let old = self.cluster.give_back.marks.iter();
        let mut known: BTreeMap<&WorkerId, Vec<Candidate>> = BTreeMap::new();
        for (id, mark) in old.filter(|(_, mark)| mark.heir == claim.id) {
            let candidate = self.candidate(*id, &claim);
            known.entry(&mark.worker).or_default().extend(candidate.map(|(_, it)| it));
        }
        for (worker, mut candidates) in known {
            self.serve_all(worker, &mut claim, &mut candidates);
        }
        let mut owners = Owners::new(self, &claim);
        let mut partly: BTreeMap<&WorkerId, Vec<Candidate>> = BTreeMap::new();
        while claim.units_left > 0 {
            let Some(id) = owners.next(self, &claim) else {
                break;
            };
            let Some((worker, candidate)) = self.candidate(id, &claim) else {
                continue;
            };
            let candidates = partly.entry(worker).or_default();
            candidates.push(candidate);
            let sizes = candidates.iter().map(|candidate| candidate.size);
            if covers(sizes.fold(self.free_on(worker), plus), claim.unit.size) {
                self.serve_all(worker, &mut claim, candidates);
            }
        }
    }

    /// An executor with its worker, if the claim's application could be given its place.
    fn candidate(&self, id: ExecutorId, claim: &Claim<'_>) -> Option<(&'a WorkerId, Candidate)> {
        let executor = self.cluster.executors.get(&id)?;
        let worker = self.cluster.workers.get(&executor.worker)?;
        let usable = worker.session().is_some() && worker.drain.is_none();
        let fits = usable && covers(worker.size(), claim.unit.size);
        let asked = executor.life.is_live() && !self.marks.contains_key(&id);
        let candidate = Candidate { id, size: executor.size() };
        (fits && asked).then_some((&executor.worker, candidate))
    }

    fn serve_all(
        &mut self,
        worker: &'a WorkerId,
        claim: &mut Claim<'a>,
        candidates: &mut Vec<Candidate>,
    ) {
        while claim.units_left > 0 && self.serve_on(worker, claim, candidates) {}
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
                    self.count_lost(candidate.id.app, |lost| minus(lost, candidate.size));
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
        self.count_lost(id.app, |lost| plus(lost, taken.size));
        if !self.is_elastic(id.app) || taken.size.cores < claim.unit.size.cores {
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
        let elastic = self.is_elastic(owner) && candidate.size.cores >= claim.unit.size.cores;
        let loss = if elastic { claim.unit.size } else { candidate.size };
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
        if !to.is_guaranteed(has, total) {
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
        let lost = plus(self.lost.get(tenant).copied().unwrap_or_default(), loss);
        let left = minus(self.cluster.shares.tenant_kept(tenant), lost);
        rules.is_guaranteed(left, self.cluster.shares.total())
    }

    fn count_lost(&mut self, owner: AppId, change: impl FnOnce(Size) -> Size) {
        if let Some(app) = self.cluster.apps.get(&owner) {
            let lost = self.lost.entry(&app.tenant).or_default();
            *lost = change(*lost);
        }
    }

    /// Units that the quotas of its tenant leave room for.
    fn units_in_quota(&self, app: &App, unit: Unit) -> u32 {
        let Some(rules) = self.cluster.shares.rules(&app.tenant) else {
            return 0;
        };
        let used = self.tenant_used(&app.tenant);
        let cores =
            rules.cores_max.map(|max| max.saturating_sub(used.cores) / unit.size.cores.max(1));
        let memory = rules.memory_bytes_max.map(|max| {
            let executors = max.saturating_sub(used.memory_bytes) / unit.size.memory_bytes.max(1);
            u32::try_from(executors).unwrap_or(u32::MAX)
        });
        cores.into_iter().chain(memory).min().unwrap_or(u32::MAX)
    }

    fn is_elastic(&self, app: AppId) -> bool {
        let app = self.cluster.apps.get(&app);
        app.is_some_and(|app| app.spec.request.executor_cores.is_none())
    }

    /// Where an application stands: its tenant first.
    fn standing(&self, id: AppId, app: &App) -> (Level, Level, AppId) {
        let total = self.cluster.shares.total();
        let weight = self.cluster.shares.rules(&app.tenant).map_or(1, |rules| rules.weight);
        let tenant = Level::new(self.tenant_used(&app.tenant), total, weight);
        (tenant, Level::new(self.used(id), total, 1), id)
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

// === impl Owners ===

impl<'a> Owners<'a> {
    fn new(round: &Round<'a>, claim: &Claim<'_>) -> Self {
        let mut owners = Self { heap: BinaryHeap::new(), executors: BTreeMap::new() };
        for (id, app) in &round.cluster.apps {
            let more = |it: &Round<'_>| it.may_lose(claim, *id, app, Size::default(), false);
            if *id != claim.id && round.used(*id).cores > 0 && more(round) {
                owners.heap.push(round.standing(*id, app));
            }
        }
        owners
    }

    /// The next executor of whoever stands highest now.
    fn next(&mut self, round: &Round<'a>, claim: &Claim<'_>) -> Option<ExecutorId> {
        while let Some((tenant, own, id)) = self.heap.pop() {
            let Some(app) = round.cluster.apps.get(&id) else {
                continue;
            };
            let now = round.standing(id, app);
            if now < (tenant, own, id) {
                self.heap.push(now);
                continue;
            }
            if !round.may_lose(claim, id, app, Size::default(), false) {
                continue;
            }
            let all = |id| round.cluster.executor_range(id);
            let left = self.executors.entry(id).or_insert_with(|| all(id).rev());
            if let Some((executor, _)) = left.next() {
                self.heap.push(now);
                return Some(*executor);
            }
        }
        None
    }
}
