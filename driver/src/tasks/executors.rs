//! The executors: how much each holds, how much it can take, and where a failed task may go.

use super::attempts::{Attempt, Standing};
use super::failures::History;
use super::pools::slot_nanos;
use offshoot_proto::id::{AttemptId, ExecutorId, StageRunId, WorkerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Work that is kept queued at each slot: several times a round trip and the driver's own pauses,
/// so that a slot never waits, and short enough that what is queued is still easily moved.
pub(super) const QUEUED_NANOS_PER_SLOT: u64 = 5_000_000;

/// Tasks that a slot holds however long they are: one runs, one waits.
const TASKS_PER_SLOT_MIN: u32 = 2;

/// Tasks that a slot holds however short they are: bounds what a lost executor takes with it.
const TASKS_PER_SLOT_MAX: u32 = 512;

/// An executor.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) worker: WorkerId,
    pub(super) slots: u32,
    /// Attempts that it was sent and that have not ended.
    pub(super) in_flight: u32,
    /// Sum of their estimates.
    pub(super) load_nanos: u64,
    /// Sum of the slot time that they keep busy (`slot_nanos`).
    pub(super) busy_nanos: u64,
    /// How many of them have been recalled without an answer yet.
    pub(super) asked: u32,
    /// What it was sent, in order; those that have ended are removed now and then.
    pub(super) sent: VecDeque<AttemptId>,
    /// Recalls that it has not answered, in order.
    recalls: VecDeque<Vec<AttemptId>>,
    /// The runs that were described to it.
    runs: BTreeSet<StageRunId>,
    /// It is to go: it counts with nobody who can be given tasks.
    pub(super) retiring: bool,
    /// It is not let go of when it is idle.
    pub(super) held: bool,
}

/// The executors of one machine.
#[derive(Debug, Default)]
struct Machine {
    executors: u32,
    slots: u32,
}

/// All executors.
#[derive(Debug, Default)]
pub(super) struct Executors {
    by_id: BTreeMap<ExecutorId, Executor>,
    /// Of those that stay, how many there are on each machine.
    per_worker: BTreeMap<WorkerId, Machine>,
    /// How many stay.
    staying: usize,
    /// Slots of those that stay.
    slots: u64,
    in_flight: u64,
    /// Slots that have nothing to run.
    free: u64,
    /// Those whose first attempt came or whose last one ended, since somebody looked.
    turned: BTreeSet<ExecutorId>,
}

/// How many tasks of an estimate keep one slot busy for the time that is queued at it.
pub(super) fn fair_batch(estimate_nanos: u64) -> u64 {
    (QUEUED_NANOS_PER_SLOT / slot_nanos(estimate_nanos)).min(u64::from(TASKS_PER_SLOT_MAX))
}

// === impl Executor ===

impl Executor {
    /// Whether it is to go and has ended all that it was sent.
    pub(super) fn is_done(&self) -> bool {
        self.retiring && self.in_flight == 0
    }

    pub(super) fn free(&self) -> u32 {
        if self.retiring { 0 } else { self.slots.saturating_sub(self.in_flight) }
    }

    /// Attempts that wait behind those that run and have not been recalled.
    pub(super) fn queued(&self) -> u32 {
        (self.in_flight - self.asked.min(self.in_flight)).saturating_sub(self.slots)
    }

    /// How long what it holds is thought to take, on average.
    pub(super) fn mean_nanos(&self) -> u64 {
        self.load_nanos / u64::from(self.in_flight.max(1))
    }

    /// How many tasks of a set it can take: up to the queue that is kept, once that is half empty.
    pub(super) fn room(&self, estimate_nanos: Option<u64>) -> u64 {
        let least = (TASKS_PER_SLOT_MIN * self.slots).saturating_sub(self.in_flight);
        let full = u64::from(self.slots) * QUEUED_NANOS_PER_SLOT;
        let most = TASKS_PER_SLOT_MAX * self.slots;
        let half_empty = self.load_nanos < full / 2 && self.in_flight <= most / 2;
        let by_work = match estimate_nanos {
            Some(nanos) if half_empty => (full - self.load_nanos) / nanos.max(1),
            _ => 0,
        };
        u64::from(least).max(by_work).min(u64::from(most.saturating_sub(self.in_flight)))
    }

    /// How many tasks of a set it can take while others want its slots, too: as many as keep idle
    /// slots busy for the time that is queued otherwise, or one for each. What is queued behind
    /// long tasks would wait for them, whoever is first by then.
    pub(super) fn fair_room(&self, estimate_nanos: u64) -> u64 {
        let full = u64::from(self.slots) * QUEUED_NANOS_PER_SLOT;
        let each = slot_nanos(estimate_nanos);
        let most = (TASKS_PER_SLOT_MAX * self.slots).saturating_sub(self.in_flight);
        let room = (full.saturating_sub(self.busy_nanos) / each).min(u64::from(most));
        // Few at a time would be many frames: short tasks are sent when there is room for half of
        // what a slot may have.
        if 2 * room < fair_batch(estimate_nanos) { 0 } else { room }
    }

    /// Notes that a run was described to it; false if it had been already.
    pub(super) fn describe(&mut self, run: StageRunId) -> bool {
        self.runs.insert(run)
    }
}

// === impl Executors ===

impl Executors {
    /// Adds one. Numbers are never reused, so an id that is known says nothing new.
    pub(super) fn add(&mut self, id: ExecutorId, worker: WorkerId, slots: u32) {
        if self.by_id.contains_key(&id) {
            return;
        }
        let slots = slots.max(1);
        let executor = Executor {
            worker,
            slots,
            in_flight: 0,
            load_nanos: 0,
            busy_nanos: 0,
            asked: 0,
            sent: VecDeque::new(),
            recalls: VecDeque::new(),
            runs: BTreeSet::new(),
            retiring: false,
            held: false,
        };
        self.count_in(&executor);
        self.by_id.insert(id, executor);
    }

    pub(super) fn remove(&mut self, id: ExecutorId) -> Option<Executor> {
        let executor = self.by_id.remove(&id)?;
        self.in_flight -= u64::from(executor.in_flight);
        self.turned.remove(&id);
        if !executor.retiring {
            self.count_out(&executor);
        }
        Some(executor)
    }

    /// An executor is to go, or to stay after all; whether that is new.
    pub(super) fn set_retiring(&mut self, id: ExecutorId, retiring: bool) -> bool {
        let found = self.by_id.remove(&id);
        let Some(mut executor) = found else {
            return false;
        };
        let new = executor.retiring != retiring;
        if new && retiring {
            self.count_out(&executor);
        }
        executor.retiring = retiring;
        if new && !retiring {
            self.count_in(&executor);
        }
        self.by_id.insert(id, executor);
        new
    }

    /// It can be given tasks.
    fn count_in(&mut self, executor: &Executor) {
        self.staying += 1;
        self.slots += u64::from(executor.slots);
        self.free += u64::from(executor.free());
        let machine = self.per_worker.entry(executor.worker.clone()).or_default();
        machine.executors += 1;
        machine.slots += executor.slots;
    }

    /// It can be given none any more.
    fn count_out(&mut self, executor: &Executor) {
        self.staying -= 1;
        self.slots -= u64::from(executor.slots);
        self.free -= u64::from(executor.free());
        if let Some(machine) = self.per_worker.get_mut(&executor.worker) {
            machine.executors -= 1;
            machine.slots -= executor.slots;
            if machine.executors == 0 {
                self.per_worker.remove(&executor.worker);
            }
        }
    }

    /// Those that have turned busy or idle since the last call, and whether they are idle now.
    pub(super) fn take_turned(&mut self) -> Vec<(ExecutorId, bool)> {
        let turned = std::mem::take(&mut self.turned).into_iter();
        turned.filter_map(|id| Some((id, self.by_id.get(&id)?.in_flight == 0))).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ExecutorId, &Executor)> {
        self.by_id.iter().map(|(id, executor)| (*id, executor))
    }

    pub(super) fn find(&self, id: ExecutorId) -> Option<&Executor> {
        self.by_id.get(&id)
    }

    pub(super) fn find_mut(&mut self, id: ExecutorId) -> Option<&mut Executor> {
        self.by_id.get_mut(&id)
    }

    /// The machine of an executor, if it is here.
    pub(super) fn worker_of(&self, id: ExecutorId) -> Option<&WorkerId> {
        self.by_id.get(&id).map(|executor| &executor.worker)
    }

    /// The machine of an executor that is here.
    pub(super) fn worker(&self, id: ExecutorId) -> &WorkerId {
        &self.by_id[&id].worker
    }

    /// Slots of an executor, if it is here and stays.
    pub(super) fn slots_of(&self, id: ExecutorId) -> u32 {
        self.by_id.get(&id).filter(|executor| !executor.retiring).map_or(0, |e| e.slots)
    }

    /// Slots of all executors of a machine that stay.
    pub(super) fn slots_on(&self, worker: &WorkerId) -> u32 {
        self.per_worker.get(worker).map_or(0, |machine| machine.slots)
    }

    pub(super) fn slots(&self) -> u64 {
        self.slots
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// An executor was sent attempts of one estimate.
    pub(super) fn charge(
        &mut self,
        id: ExecutorId,
        tasks: &[(AttemptId, offshoot_proto::id::Partition)],
        estimate_nanos: u64,
    ) {
        let Some(executor) = self.by_id.get_mut(&id) else {
            return;
        };
        let free = executor.free();
        if executor.in_flight == 0 {
            self.turned.insert(id);
        }
        executor.in_flight += tasks.len() as u32;
        executor.load_nanos += estimate_nanos * tasks.len() as u64;
        executor.busy_nanos += slot_nanos(estimate_nanos) * tasks.len() as u64;
        executor.sent.extend(tasks.iter().map(|(id, _)| *id));
        self.in_flight += tasks.len() as u64;
        self.free -= u64::from(free - executor.free());
    }

    /// An attempt of an executor has ended.
    pub(super) fn release(&mut self, id: ExecutorId, attempt: &Attempt) {
        let Some(executor) = self.by_id.get_mut(&id) else {
            return;
        };
        let free = executor.free();
        executor.in_flight -= 1;
        executor.load_nanos -= attempt.estimate_nanos;
        executor.busy_nanos -= slot_nanos(attempt.estimate_nanos);
        executor.asked -= u32::from(attempt.standing == Standing::Asked);
        if executor.in_flight == 0 {
            self.turned.insert(id);
        }
        self.in_flight -= 1;
        self.free += u64::from(executor.free() - free);
    }

    /// A recall was sent.
    pub(super) fn ask(&mut self, id: ExecutorId, attempts: Vec<AttemptId>) {
        if let Some(executor) = self.by_id.get_mut(&id) {
            executor.asked += attempts.len() as u32;
            executor.recalls.push_back(attempts);
        }
    }

    /// A recall was answered: what it had asked for. Answers come in the order of recalls.
    pub(super) fn answered(&mut self, id: ExecutorId) -> Vec<AttemptId> {
        let executor = self.by_id.get_mut(&id);
        executor.and_then(|executor| executor.recalls.pop_front()).unwrap_or_default()
    }

    /// An attempt that was recalled has not been given back.
    pub(super) fn unask(&mut self, id: ExecutorId) {
        if let Some(executor) = self.by_id.get_mut(&id) {
            executor.asked -= 1;
        }
    }

    /// Forgets a run; returns who knew it.
    pub(super) fn forget_run(&mut self, run: StageRunId) -> Vec<ExecutorId> {
        let knew = self
            .by_id
            .iter_mut()
            .filter_map(|(id, executor)| executor.runs.remove(&run).then_some(*id));
        knew.collect()
    }

    /// Whether a task may go to an executor: to a machine where it has not failed; if there is
    /// none, to an executor where it has not failed; if there is none, anywhere.
    pub(super) fn allows(&self, history: &History, id: ExecutorId) -> bool {
        let Some(executor) = self.by_id.get(&id) else {
            return false;
        };
        let failed = &history.failed;
        let workers = failed.iter().map(|f| &f.worker).collect::<BTreeSet<_>>();
        let on_workers = workers.iter().filter_map(|w| self.per_worker.get(*w));
        if self.staying > on_workers.map(|machine| machine.executors as usize).sum() {
            return !workers.contains(&executor.worker);
        }
        let executors = failed.iter().map(|f| f.executor).collect::<BTreeSet<_>>();
        let stays = |id: &&ExecutorId| self.by_id.get(id).is_some_and(|e| !e.retiring);
        let here = executors.iter().filter(stays);
        self.staying == here.count() || !executors.contains(&id)
    }
}
