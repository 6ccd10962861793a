//! Who gets which tasks.

use super::attempts::{Attempt, Standing};
use super::executors::{QUEUED_NANOS_PER_SLOT, fair_batch};
use super::fresh::{Asker, Level};
use super::pools::slot_nanos;
use super::{Action, Stirred, Tasks};
use offshoot_proto::id::{AttemptId, ExecutorId, Partition, StageRunId};
use std::cmp::Reverse;
#[cfg(any(test, debug_assertions))]
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a task of a stage of which none has ended is thought to take.
pub(super) const UNKNOWN_NANOS: u64 = QUEUED_NANOS_PER_SLOT;

/// Ended attempts that an executor's list may hold besides three for each live one.
const SENT_SLACK: usize = 1024;

/// How many tasks an executor is sent of one set, and which.
#[derive(Clone, Copy, Debug)]
enum Portion {
    /// As many as the executor has room for, or this many.
    UpTo(u64),
    /// As many as this; how much room there is has been found out.
    Fair(u64),
    /// What it is near to, as far as it has room.
    Near,
}

// === impl Tasks ===

impl Tasks {
    /// Gives out tasks to the executors that can take some, after one or several events.
    pub fn dispatch(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.expire(now) {
            self.stirred = Stirred::Everybody;
        }
        match std::mem::take(&mut self.stirred) {
            Stirred::Nobody => {}
            Stirred::One(executor) => {
                self.fill(now, executor, actions);
                if self.pending > 0 && self.executors.free() > 0 {
                    self.dispatch_all(now, actions);
                } else {
                    self.rob_for(now, executor, actions);
                }
            }
            Stirred::Everybody => self.dispatch_all(now, actions),
        }
        #[cfg(debug_assertions)]
        self.check_sometimes();
    }

    /// When [`Tasks::dispatch`] wants to be called, if nothing happens before.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.locality.next_timeout()
    }

    /// Executors with the most free slots come first, so that work goes to who waits for it.
    fn dispatch_all(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let executors = self.executors.iter();
        let mut order =
            executors.map(|(id, executor)| (Reverse(executor.free()), id)).collect::<Vec<_>>();
        order.sort_unstable();
        for (_, executor) in &order {
            if self.pending == 0 {
                break;
            }
            self.fill(now, *executor, actions);
        }
        self.send_refused(now, &order, actions);
        for (_, executor) in &order {
            self.rob_for(now, *executor, actions);
        }
        self.locality.settle();
    }

    /// What some had to refuse is not shared among all: who is near to it may have all of it.
    fn send_refused(
        &mut self,
        now: Duration,
        order: &[(Reverse<u32>, ExecutorId)],
        actions: &mut Vec<Action>,
    ) {
        for stage in self.locality.refused().collect::<Vec<_>>() {
            for (_, executor) in order {
                if self.executors.find(*executor).is_some_and(|e| e.free() > 0) {
                    self.send(now, *executor, stage, Portion::Near, actions);
                }
            }
            if self.sets.get(&stage).is_none_or(|set| set.pending() == 0) {
                self.locality.unrefuse(stage);
            }
        }
    }

    /// Sends one executor what it can take, from the first job's first stage on, or from whoever
    /// has least.
    fn fill(&mut self, now: Duration, id: ExecutorId, actions: &mut Vec<Action>) {
        let mut share = self.share(id);
        if self.pools.are_contended() {
            return self.fill_fairly(now, id, share, actions);
        }
        let mut after = None;
        while share > 0 {
            let Some(key) = self.pools.next(after) else {
                break;
            };
            after = Some(key);
            share -= self.send(now, id, key.1, Portion::UpTo(share), actions);
        }
    }

    /// Sends one executor tasks a slot's worth at a time, each of the set that has least by then.
    fn fill_fairly(
        &mut self,
        now: Duration,
        id: ExecutorId,
        mut share: u64,
        actions: &mut Vec<Action>,
    ) {
        let mut without = BTreeSet::new();
        while share > 0 {
            let Some((job, stage)) = self.pools.neediest(&without) else {
                return;
            };
            let estimate_nanos =
                self.sets.get(&stage).and_then(|set| set.estimate_nanos()).unwrap_or(UNKNOWN_NANOS);
            let room = self.executors.find(id).map_or(0, |e| e.fair_room(estimate_nanos));
            if room == 0 {
                // Others would fit, and go on fitting, and the neediest would never be served.
                return;
            }
            let mut batch = room.min(share).min(fair_batch(estimate_nanos));
            if let Some(lacks) = self.pools.lacks(job) {
                // An eighth of a batch at least, so that there are not many small frames.
                let least = fair_batch(estimate_nanos).div_ceil(8);
                batch = batch.min(lacks.div_ceil(slot_nanos(estimate_nanos)).max(least));
            }
            let sent = self.send(now, id, stage, Portion::Fair(batch), actions);
            if sent < batch {
                without.insert(stage);
            }
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

    /// Sends an executor tasks of one set; returns how many.
    fn send(
        &mut self,
        now: Duration,
        id: ExecutorId,
        stage: StageRunId,
        portion: Portion,
        actions: &mut Vec<Action>,
    ) -> u64 {
        let (Some(set), Some(executor)) = (self.sets.get_mut(&stage), self.executors.find(id))
        else {
            return 0;
        };
        let estimate = set.estimate_nanos();
        let estimate_nanos = estimate.unwrap_or(UNKNOWN_NANOS);
        let wanted = match portion {
            Portion::UpTo(share) => executor.room(estimate).min(share),
            Portion::Fair(batch) => batch,
            Portion::Near => executor.room(estimate),
        };
        let room = wanted.min(set.pending());
        let (executors, locality) = (&self.executors, &mut self.locality);
        let asker = Asker { executor: id, worker: &executor.worker, level: locality.level(stage) };
        let mut near = false;
        let mut tasks = Vec::with_capacity(room as usize);
        while (tasks.len() as u64) < room {
            let taken = match portion {
                Portion::Near => set.take_near(asker),
                Portion::UpTo(_) | Portion::Fair(_) => set.take(
                    asker,
                    |history| executors.allows(history, id),
                    |other| executors.worker_of(other),
                    |owner, left| locality.is_vain(executors, estimate, owner, left),
                ),
            };
            let Some((task, level)) = taken else {
                break;
            };
            near |= level == Level::Process;
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
        let sent = tasks.len() as u64;
        let idles = u64::from(executor.free()) > sent && set.pending() > 0;
        if near {
            locality.started_near(stage);
        }
        if sent < room && idles && set.waits_for_near(asker) {
            locality.refuse(stage, now);
        }
        self.sent(id, stage, tasks, estimate_nanos, actions);
        sent
    }

    /// Counts what was sent to an executor, and sends it.
    fn sent(
        &mut self,
        id: ExecutorId,
        stage: StageRunId,
        tasks: Vec<(AttemptId, Partition)>,
        estimate_nanos: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(set) = self.sets.get_mut(&stage) else {
            return;
        };
        let (job, run, left) = (set.job, set.run, set.pending());
        if left == 0 {
            self.pools.remove(job, stage);
        }
        let sent = tasks.len() as u64;
        if sent == 0 {
            return;
        }
        if self.pools.counts() {
            let nanos = slot_nanos(estimate_nanos) * sent;
            set.load_nanos += nanos;
            self.pools.load(job, nanos);
        }
        self.pending -= sent;
        self.executors.charge(id, &tasks, estimate_nanos);
        self.trim_sent(id);
        let described = self.executors.find_mut(id).map(|e| e.describe(run));
        if described == Some(true) {
            actions.push(Action::SendStage { executor: id, run });
        }
        actions.push(Action::Run { executor: id, run, tasks });
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
        let ready = self.pools.ready().iter().map(|(_, stage)| self.sets[stage].pending());
        assert_eq!(self.pending, ready.sum::<u64>(), "tasks to give out");
        for (stage, set) in &self.sets {
            let is_ready = self.pools.ready().contains(&(set.job, *stage));
            assert_eq!(is_ready, !set.suspended && set.pending() > 0, "{stage}");
            for id in set.in_flight() {
                assert!(self.attempts.find(id).is_some(), "attempt {id} is nowhere");
            }
        }
        let loads = self.sets.values().map(|set| (set.job, set.load_nanos));
        self.pools.check(loads);
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
