//! What everybody has in a round, in lists that are quick to read and to copy.

use super::{Candidate, Claim};
use crate::cluster::Cluster;
use crate::free::Seat;
use crate::share::{Level, TenantIndex, covers, guarantee, is_guaranteed, minus, plus};
use offshoot_proto::id::AppId;
use offshoot_proto::tenant::{TenantPolicy, TenantRules};
use offshoot_proto::waiting::Size;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everybody's books if all that stops, and all that is marked, is gone.
#[derive(Clone)]
pub(super) struct Books<'a> {
    known: Arc<Known<'a>>,
    tenants: Vec<Holding>,
    /// What applications have, by id.
    apps: Vec<Size>,
    /// By seat.
    workers: Vec<Place>,
    /// How often something went over.
    version: u64,
}

/// What does not change in a round.
struct Known<'a> {
    total: Size,
    tenants: Vec<Rules<'a>>,
    owners: Vec<Owner>,
    /// The sizes of workers that can be given work, by seat.
    sizes: Vec<Size>,
}

struct Rules<'a> {
    rules: &'a TenantRules,
    guaranteed: u64,
    /// What it had before the round.
    kept: Size,
}

struct Owner {
    id: AppId,
    tenant: TenantIndex,
    is_elastic: bool,
}

/// What a tenant has, and what it has lost by marks.
#[derive(Clone, Copy)]
struct Holding {
    used: Size,
    lost: Size,
}

/// What a worker has free, and who is to have it.
#[derive(Clone, Copy, Default)]
struct Place {
    free: Size,
    heir: Option<AppId>,
}

// === impl Books ===

impl<'a> Books<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        let (total, count) = (cluster.shares.total(), cluster.workers.len());
        let mut sizes = vec![Size::default(); count];
        let mut workers = vec![Place::default(); count];
        for (seat, worker) in cluster.workers.iter() {
            if worker.usable().is_some() {
                sizes[seat.index()] = worker.size();
            }
            workers[seat.index()].free = plus(worker.free(), worker.stopping);
        }
        let tenants = cluster.shares.standings();
        let tenants = tenants.map(|(rules, kept)| {
            let guaranteed = guarantee(rules, total);
            Rules { rules, guaranteed, kept }
        });
        let tenants: Vec<_> = tenants.collect();
        let owners = cluster.apps.iter().map(|(id, app)| Owner {
            id: *id,
            tenant: cluster.shares.tenant_of(*id).unwrap_or(usize::MAX),
            is_elastic: app.spec.request.executor_cores.is_none(),
        });
        let holding = |it: &Rules<'_>| Holding { used: it.kept, lost: Size::default() };
        Self {
            tenants: tenants.iter().map(holding).collect(),
            apps: cluster.apps.keys().map(|id| cluster.shares.kept(*id)).collect(),
            workers,
            version: 0,
            known: Arc::new(Known { total, tenants, owners: owners.collect(), sizes }),
        }
    }

    /// Where an application is in the books.
    pub(super) fn find(&self, id: AppId) -> Option<usize> {
        self.known.owners.binary_search_by_key(&id, |owner| owner.id).ok()
    }

    /// How many applications there are.
    pub(super) fn len(&self) -> usize {
        self.apps.len()
    }

    pub(super) fn id(&self, owner: usize) -> AppId {
        self.known.owners[owner].id
    }

    pub(super) fn is_elastic(&self, owner: usize) -> bool {
        self.known.owners[owner].is_elastic
    }

    /// It is another as soon as something has gone over.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What an application has, without what stops or is marked.
    pub(super) fn used(&self, owner: usize) -> Size {
        self.apps[owner]
    }

    /// Where an application stands: its tenant first.
    pub(super) fn standing(&self, owner: usize) -> (Level, Level, usize) {
        let (total, tenant) = (self.known.total, self.known.owners[owner].tenant);
        let weight = self.known.tenants[tenant].rules.weight;
        let level = Level::new(self.tenants[tenant].used, total, weight);
        (level, Level::new(self.apps[owner], total, 1), owner)
    }

    pub(super) fn lose(&mut self, owner: usize, size: Size) {
        let tenant = self.known.owners[owner].tenant;
        self.apps[owner] = minus(self.apps[owner], size);
        self.tenants[tenant].used = minus(self.tenants[tenant].used, size);
        self.version += 1;
    }

    pub(super) fn win(&mut self, owner: usize, size: Size) {
        let tenant = self.known.owners[owner].tenant;
        self.apps[owner] = plus(self.apps[owner], size);
        self.tenants[tenant].used = plus(self.tenants[tenant].used, size);
        self.version += 1;
    }

    pub(super) fn count_lost(&mut self, owner: usize, change: impl FnOnce(Size) -> Size) {
        let lost = &mut self.tenants[self.known.owners[owner].tenant].lost;
        *lost = change(*lost);
        self.version += 1;
    }

    pub(super) fn free(&self, worker: Seat) -> Size {
        self.workers[worker.index()].free
    }

    pub(super) fn set_free(&mut self, worker: Seat, free: Size) {
        self.workers[worker.index()].free = free;
    }

    /// Who is to have what becomes free on a worker.
    pub(super) fn heir(&self, worker: Seat) -> Option<AppId> {
        self.workers[worker.index()].heir
    }

    pub(super) fn reserve(&mut self, worker: Seat, heir: AppId) {
        self.workers[worker.index()].heir = Some(heir);
    }

    /// All workers that are kept for somebody.
    pub(super) fn reserved(&self) -> BTreeMap<Seat, AppId> {
        let workers = (0..).map(Seat).zip(&self.workers);
        workers.filter_map(|(seat, place)| Some((seat, place.heir?))).collect()
    }

    /// Whether a worker can be given work and is so large.
    pub(super) fn could_hold(&self, worker: Seat, size: Size) -> bool {
        covers(self.known.sizes[worker.index()], size)
    }

    /// Units that the quotas of its tenant leave room for.
    pub(super) fn units_in_quota(&self, claim: &Claim<'_>) -> u32 {
        let rules = self.known.tenants[claim.tenant].rules;
        let (used, unit) = (self.tenants[claim.tenant].used, claim.unit.size);
        let cores = rules.cores_max.map(|max| max.saturating_sub(used.cores) / unit.cores.max(1));
        let memory = rules.memory_bytes_max.map(|max| {
            let executors = max.saturating_sub(used.memory_bytes) / unit.memory_bytes.max(1);
            u32::try_from(executors).unwrap_or(u32::MAX)
        });
        cores.into_iter().chain(memory).min().unwrap_or(u32::MAX)
    }

    pub(super) fn may_take(&self, claim: &Claim<'_>, candidate: &Candidate) -> bool {
        let unit = claim.unit.size;
        let elastic = self.is_elastic(candidate.owner) && candidate.size.cores >= unit.cores;
        let loss = if elastic { unit } else { candidate.size };
        self.may_lose(claim, candidate.owner, loss, elastic)
            && self.keeps_guarantee(claim, candidate)
    }

    /// Whether `owner` would stand at least as high as the claim's application after the change.
    /// With no loss: whether it is worth a look.
    pub(super) fn may_lose(
        &self,
        claim: &Claim<'_>,
        owner: usize,
        loss: Size,
        elastic: bool,
    ) -> bool {
        let total = self.known.total;
        let gain = match elastic {
            true => Size { cores: claim.unit.size.cores, memory_bytes: 0 },
            false => claim.unit.size,
        };
        let loss = if elastic { gain } else { loss };
        let tenant = self.known.owners[owner].tenant;
        if tenant == claim.tenant {
            return self.known.tenants[tenant].rules.policy == TenantPolicy::Fair
                && Level::new(minus(self.apps[owner], loss), total, 1)
                    >= Level::new(plus(self.apps[claim.owner], gain), total, 1);
        }
        let (from, to) = (&self.known.tenants[tenant], &self.known.tenants[claim.tenant]);
        let has = self.tenants[claim.tenant].used;
        if !is_guaranteed(to.guaranteed, has, total) {
            return true;
        }
        Level::new(minus(self.tenants[tenant].used, loss), total, from.rules.weight)
            >= Level::new(plus(has, gain), total, to.rules.weight)
    }

    /// What is taken from a tenant for another leaves it what it is guaranteed.
    fn keeps_guarantee(&self, claim: &Claim<'_>, candidate: &Candidate) -> bool {
        let tenant = self.known.owners[candidate.owner].tenant;
        let Rules { guaranteed, kept, .. } = self.known.tenants[tenant];
        if tenant == claim.tenant || guaranteed == 0 {
            return true;
        }
        // What it may be given in this round does not count: that is not there yet.
        let lost = plus(self.tenants[tenant].lost, candidate.size);
        is_guaranteed(guaranteed, minus(kept, lost), self.known.total)
    }
}
