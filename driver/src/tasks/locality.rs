//! How long tasks wait for a slot near what they read: delay scheduling.
//!
//! A set whose tasks read blocks that somebody has gives them to that executor. When another one
//! has an idle slot and nothing else to run, the set lets the slot idle, for `locality-wait` at
//! most; then its tasks may go to other executors of the same machine, and after as long again
//! anywhere. A task that is started where its input is takes the set back to the beginning, unless
//! a slot idles. As in Spark since 3.1, what counts is how long a slot has been idle, not how long
//! ago a task was started: a set that goes on near its input may not idle the others for ever.
//!
//! Nobody waits for what cannot help: who is gone or is to go, or who has so much to do for the
//! set that the wait would be over before. How long that takes is known once a task of the set has
//! ended.

use super::Tasks;
use super::executors::Executors;
use super::fresh::{Level, Near, Owner};
use offshoot_proto::id::StageRunId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who waits for how long.
#[derive(Debug)]
pub(super) struct Locality {
    /// `locality-wait`.
    wait: Duration,
    /// Sets that let a slot idle, and since when.
    waits: BTreeMap<StageRunId, Duration>,
    /// Sets whose tasks may go further than to where their input is.
    raised: BTreeMap<StageRunId, Level>,
    /// Sets that have let a slot idle in the dispatch that is under way.
    refused: BTreeSet<StageRunId>,
}

// === impl Locality ===

impl Locality {
    pub(super) fn new(wait: Duration) -> Self {
        let (waits, raised) = (BTreeMap::new(), BTreeMap::new());
        Self { wait, waits, raised, refused: BTreeSet::new() }
    }

    /// How far tasks of a set may go.
    pub(super) fn level(&self, stage: StageRunId) -> Level {
        match self.raised.get(&stage) {
            _ if self.wait.is_zero() => Level::Any,
            Some(level) => *level,
            None => Level::Process,
        }
    }

    /// Whether tasks need not wait for somebody to whom `left` of them are near.
    pub(super) fn is_vain(
        &self,
        executors: &Executors,
        estimate_nanos: Option<u64>,
        owner: &Owner,
        left: usize,
    ) -> bool {
        let slots = match owner {
            Owner::Executor(id) => executors.slots_of(*id),
            Owner::Worker(id) => executors.slots_on(id),
        };
        let work = estimate_nanos.map(|nanos| u128::from(nanos) * left as u128);
        slots == 0 || work.is_some_and(|work| work > self.wait.as_nanos() * u128::from(slots))
    }

    /// A set has tasks and lets a slot idle.
    pub(super) fn refuse(&mut self, stage: StageRunId, now: Duration) {
        self.waits.entry(stage).or_insert(now);
        self.refused.insert(stage);
    }

    /// Sets that have let a slot idle in the dispatch that is under way.
    pub(super) fn refused(&self) -> impl Iterator<Item = StageRunId> {
        self.refused.iter().copied()
    }

    /// All tasks of a set have been given out.
    pub(super) fn unrefuse(&mut self, stage: StageRunId) {
        self.refused.remove(&stage);
    }

    /// A task of a set was started where its input is.
    pub(super) fn started_near(&mut self, stage: StageRunId) {
        if !self.raised.is_empty() && !self.waits.contains_key(&stage) {
            self.raised.remove(&stage);
        }
    }

    /// Every slot has been offered: those who have not refused one do not wait.
    pub(super) fn settle(&mut self) {
        let refused = std::mem::take(&mut self.refused);
        self.waits.retain(|stage, _| refused.contains(stage));
    }

    /// Lets tasks that have waited for long enough go further; says whether there are any. To
    /// another executor of the same machine they may go if `has_siblings` says that there is one.
    pub(super) fn expire(
        &mut self,
        now: Duration,
        has_siblings: impl Fn(StageRunId) -> bool,
    ) -> bool {
        let wait = self.wait;
        let over = self.waits.iter().filter(|(_, since)| **since + wait <= now);
        let over: Vec<StageRunId> = over.map(|(stage, _)| *stage).collect();
        for stage in &over {
            self.waits.remove(stage);
            let next = match self.level(*stage) {
                Level::Process if has_siblings(*stage) => Level::Node,
                _ => Level::Any,
            };
            self.raised.insert(*stage, next);
        }
        !over.is_empty()
    }

    /// When the first wait is over.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.waits.values().min().map(|since| *since + self.wait)
    }

    /// How long tasks of a set wait yet, if they do.
    pub(super) fn left(&self, stage: StageRunId, now: Duration) -> Option<Duration> {
        let since = self.waits.get(&stage)?;
        Some((*since + self.wait).saturating_sub(now))
    }

    /// A set is gone.
    pub(super) fn forget(&mut self, stage: StageRunId) {
        self.waits.remove(&stage);
        self.raised.remove(&stage);
        self.refused.remove(&stage);
    }
}

// === impl Tasks ===

impl Tasks {
    /// Lets tasks that have waited for long enough for a near slot go further; says whether there
    /// are any.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        let (sets, executors) = (&self.sets, &self.executors);
        let has_sibling = |(owner, _): (&Owner, usize)| match owner {
            Owner::Executor(id) => executors
                .worker_of(*id)
                .is_some_and(|worker| executors.slots_on(worker) > executors.slots_of(*id)),
            Owner::Worker(_) => false,
        };
        let has_siblings = |stage| {
            let set = sets.get(&stage);
            set.is_some_and(|set| set.fresh().owners().any(has_sibling))
        };
        self.locality.expire(now, has_siblings)
    }

    /// Who is near to so many tasks, with the machine that most of their input is on, if it counts.
    pub(super) fn settled(&self, mut near: Near, tasks: u32) -> Near {
        let Some(worker) = near.mostly.take() else {
            return near;
        };
        let is_near_nobody = near.executors.is_empty() && near.workers.is_empty();
        if is_near_nobody && tasks <= self.executors.slots_on(&worker) {
            near.workers.insert(worker, (0..tasks).collect());
        }
        near
    }
}
