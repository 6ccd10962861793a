//! Who has to give some of its tasks back: for an executor that has nothing to run, and for others
//! that want a share.

use super::attempts::{Attempt, Standing};
use super::dispatch::UNKNOWN_NANOS;
use super::executors::{Executor, QUEUED_NANOS_PER_SLOT};
use super::fresh::Asker;
use super::{Action, Tasks};
use offshoot_proto::id::{AttemptId, ExecutorId, StageRunId};
use std::cmp::Reverse;
use std::time::Duration;

/// Tasks thought to be shorter are not recalled: moving one takes about as long as running it.
const RECALLED_NANOS_MIN: u64 = 1_000_000;

// === impl Tasks ===

impl Tasks {
    /// When an executor has a slot with nothing to run, asks the one with the most work queued
    /// for half of it.
    pub(super) fn rob_for(&mut self, now: Duration, thief: ExecutorId, actions: &mut Vec<Action>) {
        let idle = self.executors.find(thief).is_some_and(|e| e.free() > 0);
        if !idle || self.pending > 0 {
            return;
        }
        let others = self.executors.iter().filter(|(id, _)| *id != thief);
        let mut victims = others
            .filter(|(_, e)| !e.retiring && e.queued() > 0 && e.mean_nanos() >= RECALLED_NANOS_MIN)
            .map(|(id, e)| (Reverse(e.mean_nanos() * u64::from(e.queued())), id))
            .collect::<Vec<_>>();
        victims.sort_unstable();
        let mut refused = Vec::new();
        for (_, victim) in victims {
            let attempts = self.last_half(victim, thief, &mut refused);
            if !attempts.is_empty() {
                return self.recall(&attempts, actions);
            }
        }
        for stage in refused {
            self.locality.refuse(stage, now);
        }
    }

    /// Asks for the long tasks back that are queued: somebody has come who has a share in the
    /// slots, and what is queued would be run before. What comes back is given out by share.
    pub(super) fn make_way(&mut self, actions: &mut Vec<Action>) {
        let queued = self.executors.iter().filter(|(_, executor)| executor.queued() > 0);
        let long = |attempt: &Attempt| self.is_worth_recalling(attempt, QUEUED_NANOS_PER_SLOT);
        let queued = queued.flat_map(|(_, executor)| self.queued(executor));
        let attempts: Vec<_> =
            queued.filter(|(_, attempt)| long(attempt)).map(|(id, _)| id).collect();
        self.recall(&attempts, actions);
    }

    /// The last half of what an executor has queued, without what is not worth recalling, and
    /// what may not go to the thief: the sets of that are added to `refused`.
    fn last_half(
        &self,
        victim: ExecutorId,
        thief: ExecutorId,
        refused: &mut Vec<StageRunId>,
    ) -> Vec<AttemptId> {
        let Some(victim) = self.executors.find(victim) else {
            return Vec::new();
        };
        let worth = self.queued(victim);
        let worth =
            worth.filter(|(_, attempt)| self.is_worth_recalling(attempt, RECALLED_NANOS_MIN));
        let may_go = worth.filter(|(_, attempt)| {
            let may_go = self.may_go_to(attempt, thief);
            if !may_go {
                refused.push(attempt.stage);
            }
            may_go
        });
        let half = victim.queued().div_ceil(2) as usize;
        let mut attempts = may_go.map(|(id, _)| id).take(half).collect::<Vec<_>>();
        attempts.reverse();
        attempts
    }

    /// What an executor has behind what it runs, the last first.
    fn queued<'a>(
        &'a self,
        executor: &'a Executor,
    ) -> impl Iterator<Item = (AttemptId, &'a Attempt)> {
        let live = executor.sent.iter().rev();
        let live = live.filter_map(|id| Some((*id, self.attempts.find(*id)?)));
        // They start in order: before one that has started there is none that has not.
        let unstarted = live.take_while(|(_, attempt)| attempt.standing != Standing::Started);
        unstarted.take(executor.in_flight.saturating_sub(executor.slots) as usize)
    }

    fn is_worth_recalling(&self, attempt: &Attempt, nanos_min: u64) -> bool {
        let set = self.sets.get(&attempt.stage);
        let estimate = set.map(|set| set.estimate_nanos().unwrap_or(UNKNOWN_NANOS));
        attempt.standing == Standing::Sent && estimate >= Some(nanos_min)
    }

    fn may_go_to(&self, attempt: &Attempt, thief: ExecutorId) -> bool {
        let (Some(set), Some(executor)) =
            (self.sets.get(&attempt.stage), self.executors.find(thief))
        else {
            return false;
        };
        let level = self.locality.level(attempt.stage);
        let asker = Asker { executor: thief, worker: &executor.worker, level };
        set.fresh().may_take(
            attempt.task,
            asker,
            |id| self.executors.worker_of(id),
            |owner, left| self.locality.is_vain(&self.executors, set.estimate_nanos(), owner, left),
        )
    }
}
