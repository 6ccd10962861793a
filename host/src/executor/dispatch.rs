//! Which slot runs what: the executor's decisions, as a pure state machine.
//!
//! ```text
//!   driver ── Run, Recall, Kill ──► queue ──► slot 0 │ running, a little ahead
//!                                        └──► slot 1 │
//! ```
//!
//! A slot is kept about a millisecond ahead, so that it never waits and nearly everything can
//! still be recalled. The queue is in the order of the driver, who decides what comes first.

use offshoot_proto::id::{AttemptId, Partition, SnapshotId, StageRunId};
use offshoot_proto::outcome::{TaskFailure, TaskOutcome, TaskReport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Work that a slot is kept ahead.
const AHEAD_NANOS: u64 = 1_000_000;

/// Tasks that a slot is kept ahead at most.
const AHEAD_TASKS_MAX: u64 = 256;

/// A slot that ends so often in a row without a report is not started again at once: the
/// executor gives up, and its driver gets another one.
const BARREN_STARTS_MAX: u32 = 5;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver described a stage.
    Stage {
        /// Which.
        id: StageRunId,
        /// The snapshot that it needs.
        snapshot: SnapshotId,
    },
    /// No more tasks of a stage follow.
    DropStage(StageRunId),
    /// A snapshot is here.
    SnapshotReady(SnapshotId),
    /// The driver wants these run.
    Run {
        /// Their stage.
        stage: StageRunId,
        /// In this order.
        tasks: Vec<(AttemptId, Partition)>,
    },
    /// The driver wants those back that no slot has.
    Recall(Vec<AttemptId>),
    /// Nobody needs these.
    Kill(Vec<AttemptId>),
    /// A slot process is loaded.
    SlotReady(usize),
    /// A slot has ended these.
    Reports {
        /// Which slot.
        slot: usize,
        /// What it said, checked and committed.
        reports: Vec<TaskReport>,
    },
    /// A slot process is gone.
    SlotLost {
        /// Which slot.
        slot: usize,
        /// How it ended.
        how: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process for this slot.
    StartSlot(usize),
    /// Describe a stage to a slot.
    SendStage {
        /// To which.
        slot: usize,
        /// The stage.
        stage: StageRunId,
    },
    /// A slot needs a stage no more.
    DropStage {
        /// Which slot.
        slot: usize,
        /// The stage.
        stage: StageRunId,
    },
    /// Let a slot's tasks start from another snapshot.
    Fork {
        /// Which slot.
        slot: usize,
        /// What it has mapped.
        from: Option<SnapshotId>,
        /// What it shall have mapped.
        to: SnapshotId,
    },
    /// Let a slot run these.
    Run {
        /// Which slot.
        slot: usize,
        /// Their stage.
        stage: StageRunId,
        /// In this order.
        tasks: Vec<(AttemptId, Partition)>,
    },
    /// End a slot process at once.
    KillSlot(usize),
    /// Tell the driver.
    Report(Vec<TaskReport>),
    /// Answer a recall.
    Recalled(Vec<AttemptId>),
    /// The executor cannot work: it ends, with this reason.
    GiveUp(String),
}

/// The executor's slots and queue.
#[derive(Debug)]
pub struct Dispatch {
    slots: Vec<Slot>,
    stages: BTreeMap<StageRunId, Stage>,
    snapshots: BTreeSet<SnapshotId>,
    queue: VecDeque<Task>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task {
    stage: StageRunId,
    attempt: AttemptId,
    partition: Partition,
}

#[derive(Debug)]
struct Stage {
    snapshot: SnapshotId,
    /// Moving average of run times; none before the first report.
    run_nanos: Option<u64>,
}

#[derive(Debug, Default)]
struct Slot {
    ready: bool,
    /// It was told to die; what it has is decided when it is gone.
    dying: bool,
    mapped: Option<SnapshotId>,
    stages: BTreeSet<StageRunId>,
    /// What it has, in the order in which it runs them.
    tasks: VecDeque<Task>,
    killed: BTreeSet<AttemptId>,
    barren_starts: u32,
}

// === impl Dispatch ===

impl Dispatch {
    /// An executor of so many slots. Their processes are started at once.
    pub fn new(slots: usize, actions: &mut Vec<Action>) -> Self {
        actions.extend((0..slots).map(Action::StartSlot));
        Self {
            slots: std::iter::repeat_with(Slot::default).take(slots).collect(),
            stages: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            queue: VecDeque::new(),
        }
    }

    /// Tasks that are queued or with a slot.
    pub fn tasks(&self) -> usize {
        self.queue.len() + self.slots.iter().map(|slot| slot.tasks.len()).sum::<usize>()
    }

    /// Takes in one event.
    pub fn handle(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Stage { id, snapshot } => {
                self.stages.insert(id, Stage { snapshot, run_nanos: None });
            }
            Event::DropStage(id) => self.on_drop_stage(id, actions),
            Event::SnapshotReady(id) => {
                self.snapshots.insert(id);
            }
            Event::Run { stage, tasks } => self.on_run(stage, tasks, actions),
            Event::Recall(attempts) => self.on_recall(&attempts, actions),
            Event::Kill(attempts) => self.on_kill(&attempts, actions),
            Event::SlotReady(slot) => self.slots[slot].ready = true,
            Event::Reports { slot, reports } => self.on_reports(slot, reports, actions),
            Event::SlotLost { slot, how } => self.on_slot_lost(slot, &how, actions),
        }
        self.fill(actions);
    }

    fn on_drop_stage(&mut self, id: StageRunId, actions: &mut Vec<Action>) {
        self.stages.remove(&id);
        // Whoever sent them still counts on an answer to each.
        let queued = self.queue.iter().filter(|task| task.stage == id).map(|task| task.attempt);
        let dropped = failed(queued, &TaskFailure::Killed);
        self.queue.retain(|task| task.stage != id);
        if !dropped.is_empty() {
            actions.push(Action::Report(dropped));
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.stages.remove(&id) {
                actions.push(Action::DropStage { slot: index, stage: id });
            }
        }
    }

    fn on_run(
        &mut self,
        stage: StageRunId,
        tasks: Vec<(AttemptId, Partition)>,
        actions: &mut Vec<Action>,
    ) {
        if self.stages.contains_key(&stage) {
            let task = |(attempt, partition)| Task { stage, attempt, partition };
            self.queue.extend(tasks.into_iter().map(task));
            return;
        }
        let message = format!("tasks of stage run {stage} came without its description");
        let failure = TaskFailure::Host { message };
        actions.push(Action::Report(failed(tasks.into_iter().map(|task| task.0), &failure)));
    }

    fn on_recall(&mut self, attempts: &[AttemptId], actions: &mut Vec<Action>) {
        let wanted: BTreeSet<AttemptId> = attempts.iter().copied().collect();
        let mut given = Vec::new();
        self.queue.retain(|task| {
            let recalled = wanted.contains(&task.attempt);
            if recalled {
                given.push(task.attempt);
            }
            !recalled
        });
        actions.push(Action::Recalled(given));
    }

    fn on_kill(&mut self, attempts: &[AttemptId], actions: &mut Vec<Action>) {
        let wanted: BTreeSet<AttemptId> = attempts.iter().copied().collect();
        let mut gone = Vec::new();
        self.queue.retain(|task| {
            let killed = wanted.contains(&task.attempt);
            if killed {
                gone.push(task.attempt);
            }
            !killed
        });
        if !gone.is_empty() {
            actions.push(Action::Report(failed(gone.into_iter(), &TaskFailure::Killed)));
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let hit = slot.tasks.iter().map(|task| task.attempt).filter(|a| wanted.contains(a));
            slot.killed.extend(hit);
            if !slot.killed.is_empty() && !slot.dying {
                slot.dying = true;
                actions.push(Action::KillSlot(index));
            }
        }
    }

    fn on_reports(&mut self, slot: usize, reports: Vec<TaskReport>, actions: &mut Vec<Action>) {
        let state = &mut self.slots[slot];
        let mut known = Vec::with_capacity(reports.len());
        for report in reports {
            // Slots run in order; a report out of turn is a lie, and the slot is replaced.
            if state.tasks.front().is_none_or(|task| task.attempt != report.attempt) {
                if !state.dying {
                    state.dying = true;
                    actions.push(Action::KillSlot(slot));
                }
                break;
            }
            let task = state.tasks.pop_front().expect("looked at just above");
            state.killed.remove(&task.attempt);
            state.barren_starts = 0;
            if let Some(stage) = self.stages.get_mut(&task.stage) {
                let old = stage.run_nanos.unwrap_or(report.run_nanos);
                stage.run_nanos = Some((old * 7 + report.run_nanos) / 8);
            }
            known.push(report);
        }
        if !known.is_empty() {
            actions.push(Action::Report(known));
        }
    }

    fn on_slot_lost(&mut self, slot: usize, how: &str, actions: &mut Vec<Action>) {
        let lost = std::mem::take(&mut self.slots[slot]);
        let barren_starts = lost.barren_starts + u32::from(!lost.ready);
        self.slots[slot].barren_starts = barren_starts;
        let mut reports = Vec::new();
        let mut back = Vec::new();
        for (index, task) in lost.tasks.into_iter().enumerate() {
            let failure = if lost.killed.contains(&task.attempt) {
                TaskFailure::Killed
            } else if index == 0 && lost.killed.is_empty() {
                // Tasks run in order: the first one without a report was running.
                TaskFailure::SlotCrashed { message: how.to_owned() }
            } else if self.stages.contains_key(&task.stage) {
                back.push(task);
                continue;
            } else {
                TaskFailure::Killed
            };
            reports.extend(failed(std::iter::once(task.attempt), &failure));
        }
        for task in back.into_iter().rev() {
            self.queue.push_front(task);
        }
        if !reports.is_empty() {
            actions.push(Action::Report(reports));
        }
        if barren_starts >= BARREN_STARTS_MAX {
            let text =
                format!("slot {slot} ended {barren_starts} times before it was ready: {how}");
            actions.push(Action::GiveUp(text));
        } else {
            actions.push(Action::StartSlot(slot));
        }
    }

    /// Gives slots work until each is as far ahead as it should be.
    fn fill(&mut self, actions: &mut Vec<Action>) {
        for _ in 0..self.slots.len() {
            // The one with the least work first, so that a short queue is shared.
            let free = |slot: &&usize| {
                let state = &self.slots[**slot];
                state.ready && !state.dying
            };
            let indices: Vec<usize> = (0..self.slots.len()).collect();
            let Some(&slot) =
                indices.iter().filter(free).min_by_key(|slot| self.slots[**slot].tasks.len())
            else {
                return;
            };
            if !self.fill_slot(slot, actions) {
                return;
            }
        }
    }

    fn fill_slot(&mut self, index: usize, actions: &mut Vec<Action>) -> bool {
        let runnable = |task: &Task| {
            self.stages.get(&task.stage).is_some_and(|s| self.snapshots.contains(&s.snapshot))
        };
        let Some(first) = self.queue.iter().position(runnable) else {
            return false;
        };
        let stage_id = self.queue[first].stage;
        let stage = &self.stages[&stage_id];
        let ahead = match stage.run_nanos {
            None => 1,
            Some(nanos) => (AHEAD_NANOS / nanos.max(1)).clamp(1, AHEAD_TASKS_MAX) as usize,
        };
        let slots = self.slots.iter().filter(|slot| slot.ready && !slot.dying).count();
        let slot = &mut self.slots[index];
        if slot.tasks.len() > ahead / 2 {
            return false;
        }
        let room = ahead - slot.tasks.len();
        let share = room.min(self.queue.len().div_ceil(slots)).max(1);
        let mut tasks = Vec::with_capacity(share);
        while tasks.len() < share
            && self.queue.get(first).is_some_and(|task| task.stage == stage_id)
        {
            let task = self.queue.remove(first).expect("looked at just above");
            slot.tasks.push_back(task);
            tasks.push((task.attempt, task.partition));
        }
        if slot.stages.insert(stage_id) {
            actions.push(Action::SendStage { slot: index, stage: stage_id });
        }
        if slot.mapped != Some(stage.snapshot) {
            let (from, to) = (slot.mapped, stage.snapshot);
            slot.mapped = Some(to);
            actions.push(Action::Fork { slot: index, from, to });
        }
        actions.push(Action::Run { slot: index, stage: stage_id, tasks });
        true
    }
}

fn failed(attempts: impl Iterator<Item = AttemptId>, failure: &TaskFailure) -> Vec<TaskReport> {
    let outcome = TaskOutcome::Failed(failure.clone());
    attempts.map(|attempt| TaskReport { attempt, run_nanos: 0, outcome: outcome.clone() }).collect()
}

#[cfg(test)]
mod tests;
