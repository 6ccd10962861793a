//! Whose tasks are next: jobs in order, or pools that share the slots fairly.
//!
//! ```text
//!   scheduler.mode=fifo:   job 0, job 1, job 2 ...
//!   scheduler.mode=fair:   pool etl (weight 2, min-share 4)   fifo: job 0, job 3
//!                          pool default                       fair: job 1 | job 2
//! ```
//!
//! The order between pools, and between the jobs of a fair pool, is that of Spark's
//! `FairSchedulingAlgorithm`. Where Spark counts tasks that run, this counts slots that are kept
//! busy ([`slot_nanos`]): an executor here is sent many short tasks ahead, which take one slot for
//! a few milliseconds and not hundreds of slots.
//!
//! What only one asks for is not divided: then, and in fifo mode, nothing is counted here.

use super::executors::QUEUED_NANOS_PER_SLOT;
use offshoot_proto::id::{JobId, StageRunId};
use offshoot_proto::scheduling::{PoolName, PoolSettings, Scheduling, SharingMode};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The sets that have tasks to give out, and in which order they are served.
#[derive(Debug)]
pub(super) struct Pools {
    scheduling: Scheduling,
    /// Those that are not suspended and have tasks to give out, in the order of first in, first
    /// out.
    ready: BTreeSet<(JobId, StageRunId)>,
    /// Jobs that have sets.
    jobs: BTreeMap<JobId, Job>,
    /// Pools that have jobs.
    pools: BTreeMap<PoolName, Pool>,
}

#[derive(Debug)]
struct Job {
    pool: PoolName,
    sets: u32,
    load_nanos: u64,
}

#[derive(Debug)]
struct Pool {
    settings: PoolSettings,
    jobs: u32,
    load_nanos: u64,
}

/// What somebody has, and what it should have.
#[derive(Clone, Copy, Debug)]
struct Claim {
    load_nanos: u64,
    min_share: u32,
    weight: u32,
}

/// How much of a slot's time an attempt that is thought to take so long keeps: that which is queued
/// at a slot at most, so that a long one counts as one slot.
pub(super) fn slot_nanos(estimate_nanos: u64) -> u64 {
    estimate_nanos.clamp(1, QUEUED_NANOS_PER_SLOT)
}

// === impl Claim ===

impl Claim {
    fn is_needy(self) -> bool {
        self.load_nanos < self.min_nanos()
    }

    fn min_nanos(self) -> u64 {
        u64::from(self.min_share) * QUEUED_NANOS_PER_SLOT
    }

    /// Who is served first: who lacks most of the least that it should have, then who has least
    /// for its weight.
    fn compare(self, other: Self) -> Ordering {
        match (self.is_needy(), other.is_needy()) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (true, true) => self.compare_by(other, Self::min_nanos),
            (false, false) => self.compare_by(other, |claim| u64::from(claim.weight)),
        }
    }

    /// Compares the quotients of load and `part`, which is not 0.
    fn compare_by(self, other: Self, part: impl Fn(Self) -> u64) -> Ordering {
        let left = u128::from(self.load_nanos) * u128::from(part(other));
        let right = u128::from(other.load_nanos) * u128::from(part(self));
        left.cmp(&right)
    }
}

// === impl Pools ===

impl Pools {
    pub(super) fn new(scheduling: Scheduling) -> Self {
        Self { scheduling, ready: BTreeSet::new(), jobs: BTreeMap::new(), pools: BTreeMap::new() }
    }

    /// A set has come.
    pub(super) fn enter(&mut self, job: JobId, pool: &PoolName) {
        if self.scheduling.mode == SharingMode::Fifo {
            return;
        }
        let (scheduling, pools) = (&self.scheduling, &mut self.pools);
        let entry = self.jobs.entry(job).or_insert_with(|| {
            let settings = scheduling.pool(pool);
            let new = || Pool { settings, jobs: 0, load_nanos: 0 };
            pools.entry(pool.clone()).or_insert_with(new).jobs += 1;
            Job { pool: pool.clone(), sets: 0, load_nanos: 0 }
        });
        entry.sets += 1;
    }

    /// A set is gone, with what was counted of it.
    pub(super) fn leave(&mut self, job: JobId, load_nanos: u64) {
        self.unload(job, load_nanos);
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        entry.sets -= 1;
        if entry.sets > 0 {
            return;
        }
        let Some(Job { pool: name, .. }) = self.jobs.remove(&job) else {
            return;
        };
        if let Some(pool) = self.pools.get_mut(&name) {
            pool.jobs -= 1;
            if pool.jobs == 0 {
                self.pools.remove(&name);
            }
        }
    }

    /// Whether anybody needs to know what jobs have.
    pub(super) fn counts(&self) -> bool {
        self.scheduling.mode == SharingMode::Fair
    }

    /// Attempts of a job were sent.
    pub(super) fn load(&mut self, job: JobId, nanos: u64) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.load_nanos += nanos;
            if let Some(pool) = self.pools.get_mut(&entry.pool) {
                pool.load_nanos += nanos;
            }
        }
    }

    /// Attempts of a job have ended.
    pub(super) fn unload(&mut self, job: JobId, nanos: u64) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.load_nanos -= nanos;
            if let Some(pool) = self.pools.get_mut(&entry.pool) {
                pool.load_nanos -= nanos;
            }
        }
    }

    /// Whether several share the slots now: pools, or jobs of a fair pool.
    pub(super) fn are_contended(&self) -> bool {
        let sharers = |pool: &Pool| match pool.settings.mode {
            SharingMode::Fifo => 1,
            SharingMode::Fair => pool.jobs,
        };
        self.pools.values().map(sharers).sum::<u32>() > 1
    }

    /// The first set after this one, in the order of first in, first out.
    pub(super) fn next(&self, after: Option<(JobId, StageRunId)>) -> Option<(JobId, StageRunId)> {
        match after {
            None => self.ready.first().copied(),
            Some(key) => self.ready.range((Bound::Excluded(key), Bound::Unbounded)).next().copied(),
        }
    }

    /// The set whose pool and job have least of what they should have, without these.
    pub(super) fn neediest(&self, without: &BTreeSet<StageRunId>) -> Option<(JobId, StageRunId)> {
        let candidates = self.ready.iter().filter(|(_, stage)| !without.contains(stage));
        candidates.min_by(|a, b| self.compare(**a, **b)).copied()
    }

    /// Slot time that the pool of a job lacks of its least share, if it does: it is served before
    /// others for so much, and by weight for the rest.
    pub(super) fn lacks(&self, job: JobId) -> Option<u64> {
        let pool = self.pools.get(&self.jobs.get(&job)?.pool)?;
        let least = u64::from(pool.settings.min_share) * QUEUED_NANOS_PER_SLOT;
        least.checked_sub(pool.load_nanos).filter(|lacks| *lacks > 0)
    }

    fn compare(&self, a: (JobId, StageRunId), b: (JobId, StageRunId)) -> Ordering {
        let (Some(job), Some(other)) = (self.jobs.get(&a.0), self.jobs.get(&b.0)) else {
            return a.cmp(&b);
        };
        let claim = |name| {
            let pool = &self.pools[name];
            let PoolSettings { weight, min_share, .. } = pool.settings;
            Claim { load_nanos: pool.load_nanos, min_share, weight }
        };
        if job.pool != other.pool {
            let by_claim = claim(&job.pool).compare(claim(&other.pool));
            return by_claim.then_with(|| job.pool.cmp(&other.pool));
        }
        let by_load = match self.pools[&job.pool].settings.mode {
            SharingMode::Fifo => Ordering::Equal,
            SharingMode::Fair => job.load_nanos.cmp(&other.load_nanos),
        };
        by_load.then(a.cmp(&b))
    }

    pub(super) fn insert(&mut self, job: JobId, stage: StageRunId) {
        self.ready.insert((job, stage));
    }

    pub(super) fn remove(&mut self, job: JobId, stage: StageRunId) {
        self.ready.remove(&(job, stage));
    }

    #[cfg(any(test, debug_assertions))]
    pub(super) fn ready(&self) -> &BTreeSet<(JobId, StageRunId)> {
        &self.ready
    }

    /// Panics if what is counted differs from what the sets say that they have.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn check(&self, sets: impl Iterator<Item = (JobId, u64)>) {
        if !self.counts() {
            return;
        }
        let mut loads = BTreeMap::<JobId, (u32, u64)>::new();
        for (job, nanos) in sets {
            let (count, load) = loads.entry(job).or_default();
            *count += 1;
            *load += nanos;
        }
        let counted = self.jobs.iter().map(|(id, job)| (*id, (job.sets, job.load_nanos)));
        assert!(counted.eq(loads), "what jobs have");
        for (name, pool) in &self.pools {
            let jobs = self.jobs.values().filter(|job| job.pool == *name);
            let load: u64 = jobs.clone().map(|job| job.load_nanos).sum();
            assert_eq!((pool.jobs as usize, pool.load_nanos), (jobs.count(), load), "pool {name}");
        }
    }
}

#[cfg(test)]
mod tests;
