//! Who gets which tasks, and who has to give some back.

use super::attempts::{Attempt, Standing};
use super::executors::QUEUED_NANOS_PER_SLOT;
use super::{Action, Stirred, Tasks};
use offshoot_proto::id::{AttemptId, ExecutorId, StageRunId};
use std::cmp::Reverse;
#[cfg(any(test, debug_assertions))]
use std::collections::BTreeMap;

/// Tasks thought to be shorter are not recalled: moving one takes about as long as running it.
const RECALLED_NANOS_MIN: u64 = 1_000_000;

/// How long a task of a stage of which none has ended is thought to take.
const UNKNOWN_NANOS: u64 = QUEUED_NANOS_PER_SLOT;

/// Ended attempts that an executor's list may hold besides three for each live one.
const SENT_SLACK: usize = 1024;

// === impl Tasks ===

impl Tasks {
    /// Gives out tasks to the executors that can take some, after one or several events.
    pub fn dispatch(&mut self, actions: &mut Vec<Action>) {
        match std::mem::take(&mut self.stirred) {
            Stirred::Nobody => {}
            Stirred::One(executor) => {
                self.fill(executor, actions);
                if self.pending > 0 && self.executors.free() > 0 {
                    self.dispatch_all(actions);
                } else {
                    self.rob_for(executor, actions);
                }
            }
            Stirred::Everybody => self.dispatch_all(actions),
        }
        #[cfg(debug_assertions)]
        self.check_sometimes();
    }

    /// Executors with the most free slots come first, so that work goes to who waits for it.
    fn dispatch_all(&mut self, actions: &mut Vec<Action>) {
        let executors = self.executors.iter();
        let mut order =
            executors.map(|(id, executor)| (Reverse(executor.free()), id)).collect::<Vec<_>>();
        order.sort_unstable();
        for (_, executor) in &order {
            if self.pending == 0 {
                break;
            }
            self.fill(*executor, actions);
        }
        for (_, executor) in &order {
            self.rob_for(*executor, actions);
        }
    }

    /// Sends one executor what it can take, from the first job's first stage on.
    fn fill(&mut self, id: ExecutorId, actions: &mut Vec<Action>) {
        let mut after = None;
        let mut share = self.share(id);
        while share > 0 {
            let next = match after {
                None => self.ready.first(),
                Some(key) => self
                    .ready
                    .range((std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded))
                    .next(),
            };
            let Some(key) = next.copied() else {
                break;
            };
            after = Some(key);
            let sent = self.send(id, key.1, share, actions);
            share -= sent;
        }
    }

    /// The most that an executor gets now, so that all of them hold about equally many a slot.
    fn share(&self, id: ExecutorId) -> u64 {
        let Some(executor) = self.executors.find(id).filter(|executor| !executor.retiring) else {
            return 0;
        };
        let (pending, free) = (self.pending, self.executors.free());
        if pending == 0 {
            return 0;
        }
        if pending <= free {
            return (pending * u64::from(executor.free())).div_ceil(free);
        }
        let level = (self.executors.in_flight() + pending).div_ceil(self.executors.slots());
        (level * u64::from(executor.slots)).saturating_sub(u64::from(executor.in_flight))
    }

    /// Sends an executor tasks of one set, at most `share`; returns how many.
    fn send(
        &mut self,
        id: ExecutorId,
        stage: StageRunId,
        share: u64,
        actions: &mut Vec<Action>,
    ) -> u64 {
        let (Some(set), Some(executor)) = (self.sets.get_mut(&stage), self.executors.find(id))
        else {
            return 0;
        };
        let estimate = set.estimate_nanos();
        let estimate_nanos = estimate.unwrap_or(UNKNOWN_NANOS);
        let room = executor.room(estimate).min(share).min(set.pending());
        let mut tasks = Vec::with_capacity(room as usize);
        while (tasks.len() as u64) < room {
            let Some(task) = set.take(id, |history| self.executors.allows(history, id)) else {
                break;
            };
            let attempt = self.attempts.insert(Attempt {
                stage,
                run: set.run,
                task,
                standing: Standing::Sent,
                executor: id,
                estimate_nanos,
            });
            set.send(task, attempt);
            tasks.push((attempt, set.partition(task)));
        }
        let (job, run, left) = (set.job, set.run, set.pending());
        if left == 0 {
            self.ready.remove(&(job, stage));
        }
        let sent = tasks.len() as u64;
        if sent == 0 {
            return 0;
        }
        self.pending -= sent;
        self.executors.charge(id, &tasks, estimate_nanos);
        self.trim_sent(id);
        let described = self.executors.find_mut(id).map(|e| e.describe(run));
        if described == Some(true) {
            actions.push(Action::SendStage { executor: id, run });
        }
        actions.push(Action::Run { executor: id, run, tasks });
        sent
    }

    /// Forgets ended attempts at the front of an executor's list, and all when they are many.
    fn trim_sent(&mut self, id: ExecutorId) {
        let attempts = &self.attempts;
        let Some(executor) = self.executors.find_mut(id) else {
            return;
        };
        let ended = |id: &AttemptId| attempts.find(*id).is_none();
        while executor.sent.front().is_some_and(ended) {
            executor.sent.pop_front();
        }
        if executor.sent.len() > SENT_SLACK + 4 * executor.in_flight as usize {
            executor.sent.retain(|id| !ended(id));
        }
    }

    /// When an executor has a slot with nothing to run, asks the one with the most work queued
    /// for half of it.
    fn rob_for(&mut self, thief: ExecutorId, actions: &mut Vec<Action>) {
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
        for (_, victim) in victims {
            let attempts = self.last_half(victim);
            if !attempts.is_empty() {
                return self.recall(&attempts, actions);
            }
        }
    }

    /// The last half of what an executor has queued, without what is not worth recalling.
    fn last_half(&self, victim: ExecutorId) -> Vec<AttemptId> {
        let Some(victim) = self.executors.find(victim) else {
            return Vec::new();
        };
        let live = victim.sent.iter().rev();
        let live = live.filter_map(|id| Some((*id, self.attempts.find(*id)?)));
        // They start in order: before one that has started there is none that has not.
        let unstarted = live.take_while(|(_, attempt)| attempt.standing != Standing::Started);
        let mut attempts = unstarted
            .filter(|(_, attempt)| self.is_worth_recalling(attempt))
            .map(|(id, _)| id)
            .take(victim.queued().div_ceil(2) as usize)
            .collect::<Vec<_>>();
        attempts.reverse();
        attempts
    }

    fn is_worth_recalling(&self, attempt: &Attempt) -> bool {
        let set = self.sets.get(&attempt.stage);
        let estimate = set.map(|set| set.estimate_nanos().unwrap_or(UNKNOWN_NANOS));
        attempt.standing == Standing::Sent && estimate >= Some(RECALLED_NANOS_MIN)
    }

    /// The first steps, then one in 1,024: a check costs as much as there are tasks.
    #[cfg(debug_assertions)]
    pub(super) fn check_sometimes(&mut self) {
        self.steps += 1;
        if self.steps < 64 || self.steps.is_multiple_of(1024) {
            self.check();
        }
    }

    /// Panics if what is counted differs from what is there.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        let ready = self.ready.iter().map(|(_, stage)| self.sets[stage].pending());
        assert_eq!(self.pending, ready.sum::<u64>(), "tasks to give out");
        for (stage, set) in &self.sets {
            let is_ready = self.ready.contains(&(set.job, *stage));
            assert_eq!(is_ready, !set.suspended && set.pending() > 0, "{stage}");
            for id in set.in_flight() {
                assert!(self.attempts.find(id).is_some(), "attempt {id} is nowhere");
            }
        }
        let mut held = BTreeMap::<ExecutorId, (u32, u64, u32)>::new();
        for (_, attempt) in self.attempts.iter() {
            let (count, load, asked) = held.entry(attempt.executor).or_default();
            *count += 1;
            *load += attempt.estimate_nanos;
            *asked += u32::from(attempt.standing == Standing::Asked);
        }
        let mut in_flight = 0;
        for (id, executor) in self.executors.iter() {
            let counted = (executor.in_flight, executor.load_nanos, executor.asked);
            let found = held.get(&id).copied().unwrap_or_default();
            assert_eq!(counted, found, "executor {id}");
            in_flight += u64::from(executor.in_flight);
        }
        assert_eq!(self.attempts.len() as u64, in_flight, "attempts of nobody");
        assert_eq!(self.executors.in_flight(), in_flight, "attempts in flight");
        let free = self.executors.iter().map(|(_, e)| u64::from(e.free()));
        assert_eq!(self.executors.free(), free.sum::<u64>(), "free slots");
        let staying = self.executors.iter().filter(|(_, e)| !e.retiring);
        let slots = staying.map(|(_, e)| u64::from(e.slots));
        assert_eq!(self.executors.slots(), slots.sum::<u64>(), "slots");
    }
}
