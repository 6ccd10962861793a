//! Which worker gives how many cores to one application: a pure function, Spark standalone's rule.
//!
//! ```text
//!   Request (what is asked, what is left of it) ─┐
//!   Rule    (spread or fill, which first)        ├─► plan ─► [Grant: worker, cores]
//!   Offer   (what each worker has free)          ┘
//! ```
//!
//! The rule, in units of `executor-cores`, or of a task's cores where that is unset:
//! 1. A worker is usable if its free cores hold a unit and its free memory holds an executor. The
//!    usable ones stand in the order that the rule names, equal ones by id.
//! 2. Units go out whole and one at a time, until less than a unit of the application's cores is
//!    left: round after round, one to each worker that can take it; or to the first worker for as
//!    long as it can, then to the next.
//! 3. With `executor-cores` set each unit is an executor. Unset, all units of a worker are one: at
//!    most one executor on each worker comes of one pass. A later pass may add another there.
//! 4. Memory and the limit of executors are looked at where an executor is opened, and not where
//!    it grows. An executor is never split between workers.
//!
//! [`plan`] does not deal units out one by one: it finds how high they would stack up, so that
//! thousands of workers cost no more than their sorting.
//!
//! Not here: which application comes first, and what becomes of a grant ([`crate::cluster`]).

#[cfg(test)]
mod tests;

use crate::share::covers;
use offshoot_proto::id::WorkerId;
use offshoot_proto::waiting::{Shortage, Size};
use std::time::Duration;

/// How a cluster places executors: what its operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How workers share an application.
    pub rule: Rule,
    /// Cores of an application that names no total of its own: Spark's
    /// `spark.deploy.defaultCores`. All that are free if unset.
    pub default_cores: Option<u32>,
    /// How long an application that has at least half of what it is owed waits until others are
    /// asked to give back: most waits end before. One that has less does not wait.
    pub share_release_timeout: Duration,
    /// After how long what was asked back is taken in the middle of a task; never if unset.
    pub preemption: Option<Duration>,
}

/// How workers share an application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Over many workers, or few.
    pub sharing: Sharing,
    /// Which of them come first.
    pub selection: Selection,
}

/// Over how many workers an application is placed: Spark's `spark.deploy.spreadOut`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// As many as can be: more disks and networks for each.
    #[default]
    Spread,
    /// As few as can be: whole workers stay free for large executors.
    Consolidate,
}

/// Which workers come first: Spark's `spark.deploy.workerSelectionPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// Those with the most free cores.
    #[default]
    CoresFreeDesc,
    /// Those with the fewest free cores.
    CoresFreeAsc,
    /// Those with the most free memory.
    MemoryFreeDesc,
    /// Those with the least free memory.
    MemoryFreeAsc,
    /// By id.
    WorkerId,
}

/// What an application asks of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Cores of one executor, at least 1; unset, one executor a worker of any size.
    pub executor_cores: Option<u32>,
    /// Cores of one task, at least 1: what an executor of any size has a multiple of.
    pub task_cores: u32,
    /// Memory of one executor, at least 1 byte.
    pub executor_memory_bytes: u64,
    /// Cores that the application may still be given.
    pub cores_left: u32,
    /// Executors that it may still be given.
    pub executors_left: u32,
}

/// What a worker has free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<W = WorkerId> {
    /// Which, by its id or otherwise.
    pub worker: W,
    /// Its free cores.
    pub cores: u32,
    /// Its free memory.
    pub memory_bytes: u64,
}

/// One executor to launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<W = WorkerId> {
    /// Where.
    pub worker: W,
    /// With so many cores.
    pub cores: u32,
}

/// Chooses executors for one application: worker by worker, in the order of the rule.
pub fn plan<W: Clone + Ord>(request: &Request, rule: Rule, offers: Vec<Offer<W>>) -> Vec<Grant<W>> {
    let mut offers = offers;
    rule.selection.sort(&mut offers);
    plan_in_order(request, rule.sharing, offers)
}

/// The same from offers that stand in the order of the rule. It looks at no more of them than it
/// takes, and at those on the way that are of no use.
pub fn plan_in_order<W: Clone>(
    request: &Request,
    sharing: Sharing,
    offers: impl IntoIterator<Item = Offer<W>>,
) -> Vec<Grant<W>> {
    let usable = request.usable(sharing, offers);
    let left = request.units_left();
    if sharing == Sharing::Spread && usable.len() as u64 >= u64::from(left) {
        // Most plans are no higher than this.
        return usable.into_iter().flat_map(|offer| request.executors(offer.worker, 1)).collect();
    }
    let room: Vec<u32> = usable.iter().map(|offer| request.units_of(offer)).collect();
    let units = match sharing {
        Sharing::Spread => spread(&room, left),
        Sharing::Consolidate => fill(&room, left),
    };
    let mut grants = Vec::with_capacity(usable.len());
    for (offer, units) in usable.into_iter().zip(units).filter(|(_, units)| *units > 0) {
        grants.extend(request.executors(offer.worker, units));
    }
    grants
}

/// What none of these workers has enough of for one executor, and the most of each that one has;
/// none if one of them could hold it.
pub fn shortage(asked: Size, have: impl IntoIterator<Item = Size>) -> Option<(Shortage, Size)> {
    let (mut most, mut fits) = (Size::default(), false);
    for Size { cores, memory_bytes } in have {
        fits |= cores >= asked.cores && memory_bytes >= asked.memory_bytes;
        most.cores = most.cores.max(cores);
        most.memory_bytes = most.memory_bytes.max(memory_bytes);
    }
    let short = match (most.cores < asked.cores, most.memory_bytes < asked.memory_bytes) {
        _ if fits => return None,
        (true, false) => Shortage::Cores,
        (false, true) => Shortage::Memory,
        (true, true) => Shortage::Both,
        (false, false) => Shortage::Together,
    };
    Some((short, most))
}

/// One unit to each in turn, until `left` are dealt out or nobody has room: how many each has.
fn spread(room: &[u32], left: u32) -> Vec<u32> {
    let below = |level: u32| -> u64 { room.iter().map(|room| u64::from(*room.min(&level))).sum() };
    // The number of whole rounds: the highest level up to which there are units for everybody.
    let (mut rounds, mut too_many) =
        (0, room.iter().max().map_or(1, |most| most.saturating_add(1)));
    while too_many - rounds > 1 {
        let middle = rounds + (too_many - rounds) / 2;
        if below(middle) <= u64::from(left) {
            rounds = middle;
        } else {
            too_many = middle;
        }
    }
    let mut rest = u64::from(left).saturating_sub(below(rounds));
    let share = |room: &u32| {
        let one_more = u32::from(rest > 0 && *room > rounds);
        rest -= u64::from(one_more);
        (*room).min(rounds) + one_more
    };
    room.iter().map(share).collect()
}

/// All that the first has room for, then the next, until `left` are dealt out.
fn fill(room: &[u32], mut left: u32) -> Vec<u32> {
    let share = |room: &u32| {
        let units = (*room).min(left);
        left -= units;
        units
    };
    room.iter().map(share).collect()
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            rule: Rule::default(),
            default_cores: None,
            share_release_timeout: Duration::from_secs(1),
            preemption: None,
        }
    }
}

// === impl Offer ===

impl<W> Offer<W> {
    /// What is free.
    pub fn size(&self) -> Size {
        Size { cores: self.cores, memory_bytes: self.memory_bytes }
    }
}

// === impl Request ===

impl Request {
    /// What a worker needs to be of use.
    pub fn unit(&self) -> Size {
        Size {
            cores: self.executor_cores.unwrap_or(self.task_cores),
            memory_bytes: self.executor_memory_bytes,
        }
    }

    /// Units that it takes if it may have `cores_most` in one executor of any size.
    pub(crate) fn units(&self, cores_most: u32) -> u32 {
        match self.executor_cores {
            Some(_) => self.units_left(),
            None => {
                let units = cores_most / self.task_cores.max(1);
                self.units_left().min(self.executors_left.saturating_mul(units))
            }
        }
    }

    /// Units that a worker has room for.
    fn units_of<W>(&self, offer: &Offer<W>) -> u32 {
        let executors = offer.memory_bytes / self.executor_memory_bytes.max(1);
        let executors = u32::try_from(executors).unwrap_or(u32::MAX);
        match self.executor_cores {
            Some(cores) => (offer.cores / cores.max(1)).min(executors),
            None if executors > 0 => offer.cores / self.task_cores.max(1),
            None => 0,
        }
    }

    /// The workers that units may go to, no more than can matter.
    fn usable<W>(
        &self,
        sharing: Sharing,
        offers: impl IntoIterator<Item = Offer<W>>,
    ) -> Vec<Offer<W>> {
        let most = match self.executor_cores {
            Some(_) => u32::MAX,
            None => self.executors_left,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (unit, left) = (self.unit(), u64::from(self.units_left()));
        let (mut usable, mut room) = (Vec::new(), 0_u64);
        for offer in offers {
            if usable.len() >= most || room >= left {
                break;
            }
            if !covers(offer.size(), unit) {
                continue;
            }
            // In turn, the first unit of each comes before anybody's second.
            room += match sharing {
                Sharing::Spread => 1,
                Sharing::Consolidate => u64::from(self.units_of(&offer)),
            };
            usable.push(offer);
        }
        usable
    }

    /// Units that the application may still be given.
    fn units_left(&self) -> u32 {
        match self.executor_cores {
            Some(cores) => (self.cores_left / cores.max(1)).min(self.executors_left),
            None => self.cores_left / self.task_cores.max(1),
        }
    }

    /// The executors that so many units on one worker are.
    fn executors<W: Clone>(
        &self,
        worker: W,
        units: u32,
    ) -> impl Iterator<Item = Grant<W>> + use<W> {
        let (count, cores) = match self.executor_cores {
            Some(cores) => (units, cores),
            None => (1, units * self.task_cores.max(1)),
        };
        let grant = Grant { worker, cores };
        (0..count).map(move |_| grant.clone())
    }
}

// === impl Selection ===

impl Selection {
    /// What orders workers before their id does.
    pub(crate) fn key(self, free: Size) -> u64 {
        match self {
            Self::CoresFreeDesc => u64::MAX - u64::from(free.cores),
            Self::CoresFreeAsc => free.cores.into(),
            Self::MemoryFreeDesc => u64::MAX - free.memory_bytes,
            Self::MemoryFreeAsc => free.memory_bytes,
            Self::WorkerId => 0,
        }
    }

    fn sort<W: Ord>(self, offers: &mut [Offer<W>]) {
        offers.sort_by(|a, b| {
            let keys = self.key(a.size()).cmp(&self.key(b.size()));
            keys.then_with(|| a.worker.cmp(&b.worker))
        });
    }
}
