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

use offshoot_proto::id::WorkerId;
use offshoot_proto::waiting::{Shortage, Size};
use std::cmp::Reverse;

/// How a cluster places executors: what its operator sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How workers share an application.
    pub rule: Rule,
    /// Cores of an application that names no total of its own: Spark's
    /// `spark.deploy.defaultCores`. All that are free if unset.
    pub default_cores: Option<u32>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which.
    pub worker: WorkerId,
    /// Its free cores.
    pub cores: u32,
    /// Its free memory.
    pub memory_bytes: u64,
}

/// One executor to launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Where.
    pub worker: WorkerId,
    /// With so many cores.
    pub cores: u32,
}

/// Chooses executors for one application: worker by worker, in the order of the rule.
pub fn plan(request: &Request, rule: Rule, offers: Vec<Offer>) -> Vec<Grant> {
    let mut usable = offers;
    usable.retain(|offer| request.units_of(offer) > 0);
    rule.selection.sort(&mut usable);
    if request.executor_cores.is_none() {
        usable.truncate(usize::try_from(request.executors_left).unwrap_or(usize::MAX));
    }
    let room: Vec<u32> = usable.iter().map(|offer| request.units_of(offer)).collect();
    let units = match rule.sharing {
        Sharing::Spread => spread(&room, request.units_left()),
        Sharing::Consolidate => fill(&room, request.units_left()),
    };
    let shares = usable.into_iter().zip(units).filter(|(_, units)| *units > 0);
    shares.flat_map(|(offer, units)| request.executors(offer.worker, units)).collect()
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

// === impl Offer ===

impl Offer {
    /// What is free.
    pub fn size(&self) -> Size {
        Size { cores: self.cores, memory_bytes: self.memory_bytes }
    }
}

// === impl Request ===

impl Request {
    /// Units that a worker has room for.
    fn units_of(&self, offer: &Offer) -> u32 {
        let executors = offer.memory_bytes / self.executor_memory_bytes.max(1);
        let executors = u32::try_from(executors).unwrap_or(u32::MAX);
        match self.executor_cores {
            Some(cores) => (offer.cores / cores.max(1)).min(executors),
            None if executors > 0 => offer.cores / self.task_cores.max(1),
            None => 0,
        }
    }

    /// Units that the application may still be given.
    fn units_left(&self) -> u32 {
        match self.executor_cores {
            Some(cores) => (self.cores_left / cores.max(1)).min(self.executors_left),
            None => self.cores_left / self.task_cores.max(1),
        }
    }

    /// The executors that so many units on one worker are.
    fn executors(&self, worker: WorkerId, units: u32) -> impl Iterator<Item = Grant> + use<> {
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
    fn sort(self, offers: &mut [Offer]) {
        // By id first: the sort by size is stable, so equal ones stay in that order.
        offers.sort_by(|a, b| a.worker.cmp(&b.worker));
        match self {
            Self::CoresFreeDesc => offers.sort_by_key(|offer| Reverse(offer.cores)),
            Self::CoresFreeAsc => offers.sort_by_key(|offer| offer.cores),
            Self::MemoryFreeDesc => offers.sort_by_key(|offer| Reverse(offer.memory_bytes)),
            Self::MemoryFreeAsc => offers.sort_by_key(|offer| offer.memory_bytes),
            Self::WorkerId => {}
        }
    }
}
