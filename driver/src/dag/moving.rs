//! Workers that are to leave: what nobody else has is copied first.
//!
//! ```text
//!   WorkerLeaves ──► only there? ──► pending ──order──► Copy to a worker that stays
//!                        ▲             ▲  failed once        │ Kept(InMemory | OnDisk)
//!   PartitionDone ───────┘             └─────────────────────┤
//!                                                            ▼
//!            needs(worker) is false ──► Emptied ──► the copy is all that is known
//! ```
//!
//! Outputs of shuffles and kept blocks move alike. Readers that are described once there is a copy
//! read that; those that were before may read on until the worker is let go of, and are then
//! described anew. Nobody waits for a copy.

use super::outputs::Output;
use super::places::PlaceIndex;
use super::stage::{Phase, StageKey};
use super::{Action, Dag};
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::executor::{BlockState, CopyBlocks, KeptBlock};
use offshoot_proto::id::{AttemptId, ExecutorId, NodeId, Partition, WorkerId};
use offshoot_proto::stage::StageKind;
use std::collections::{BTreeMap, BTreeSet};

/// Outputs that an executor is told to copy at once: it has that many files open, and a lost one
/// leaves no more to others. The next order follows when all of them are answered.
const MOVES_MAX: usize = 64;

/// Outputs of one order times reducers: an executor holds an extent for each, 2 MiB in all.
const PARTS_MAX: usize = 1 << 16;

/// Executors that try to copy one output before it is left to its fate.
const TRIES_MAX: u32 = 2;

/// One output of a shuffle or dataset.
pub(super) type Move = (NodeId, Partition);

/// What moves.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Only where it is to leave, and nobody was told to copy it.
    pending: BTreeSet<Move>,
    /// What each executor was told to copy and has not answered.
    ordered: BTreeMap<ExecutorId, BTreeSet<Move>>,
    failed: BTreeMap<Move, Failed>,
    /// Copies may have been lost: everything is to be looked at.
    is_stale: bool,
    changes: u64,
}

/// An output that could not be copied.
#[derive(Clone, Copy, Debug)]
struct Failed {
    attempt: AttemptId,
    by: ExecutorId,
    times: u32,
}

// === impl Moves ===

impl Moves {
    /// Outputs may have become the only ones.
    pub(super) fn look_again(&mut self) {
        self.is_stale = true;
        self.changes += 1;
    }

    pub(super) fn lose_executor(&mut self, executor: ExecutorId) {
        self.ordered.remove(&executor);
        self.look_again();
    }

    /// Somebody was told to copy it for another reason.
    pub(super) fn is_copied(&mut self, what: Move) {
        self.pending.remove(&what);
    }

    /// Nobody needs what a node has written.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.pending.retain(|(writer, _)| *writer != node);
        self.failed.retain(|(writer, _), _| *writer != node);
        self.ordered.values_mut().for_each(|moves| moves.retain(|(writer, _)| *writer != node));
        self.changes += 1;
    }

    fn may_try(&self, what: Move, attempt: AttemptId) -> bool {
        let failed = self.failed.get(&what).filter(|failed| failed.attempt == attempt);
        failed.is_none_or(|failed| failed.times < TRIES_MAX)
    }

    /// Whether an executor is not the one that failed to copy it.
    fn may_by(&self, what: &Move, executor: ExecutorId) -> bool {
        self.failed.get(what).is_none_or(|failed| failed.by != executor)
    }

    /// One of those on their way, and one of those that wait.
    fn some(&self) -> impl Iterator<Item = Move> {
        let ordered = self.ordered.values().filter_map(|moves| moves.first());
        ordered.chain(self.pending.first()).copied()
    }
}

// === impl Dag ===

impl Dag {
    /// Whether something is to be copied from a worker that is to leave.
    pub fn is_moving(&self) -> bool {
        !self.moves.pending.is_empty() || self.moves.ordered.values().any(|m| !m.is_empty())
    }

    /// Counts what may change the answers of [`Dag::needs`] and [`Dag::has_only`].
    pub fn move_changes(&self) -> u64 {
        self.moves.changes
    }

    /// Whether something is on a machine that is to leave, and nowhere that stays. As slow as there
    /// are outputs, when the answer is no.
    pub fn needs(&self, worker: &WorkerId) -> bool {
        self.is_only_in(&self.places.of_worker(worker), |_| true)
    }

    /// Whether something is in the memory of an executor, and nowhere that stays. As slow as there
    /// are kept blocks, when the answer is no.
    pub fn has_only(&self, executor: ExecutorId) -> bool {
        let memory = self.places.of(executor).map(|seat| seat.memory);
        let is_kept = |kind: &StageKind| matches!(kind, StageKind::Kept { .. });
        memory.is_some_and(|memory| self.is_only_in(&[memory], is_kept))
    }

    fn is_only_in(&self, places: &[PlaceIndex], of: impl Fn(&StageKind) -> bool) -> bool {
        let is_there = |output: Output| {
            output.places().all(|place| self.places.is_leaving(place) || places.contains(&place))
                && output.places().any(|place| places.contains(&place))
        };
        // Those that are known to move are likely to be there.
        if self.moves.some().filter_map(|what| self.output(what)).any(is_there) {
            return true;
        }
        let shuffles = self.stages.range(..StageKey::Result(Default::default()));
        let mut stages = shuffles.filter(|(_, stage)| of(&stage.kind));
        stages.any(|(_, stage)| stage.outputs.present().any(|(_, output)| is_there(output)))
    }

    fn output(&self, (writer, map): Move) -> Option<Output> {
        self.stages.get(&StageKey::Shuffle(writer))?.outputs.find(map)
    }

    pub(super) fn on_worker_leaves(&mut self, worker: &WorkerId, leaves: bool) {
        self.places.set_leaving(worker, leaves);
        self.moves.look_again();
    }

    /// An output has come, or its places have changed: has it copied if it is to be.
    pub(super) fn look_at(&mut self, writer: NodeId, map: Partition) {
        if !self.places.is_any_leaving() {
            return;
        }
        self.moves.changes += 1;
        let Self { stages, places, .. } = self;
        let stage = stages.get_mut(&StageKey::Shuffle(writer));
        let is_leaving = |place| places.is_leaving(place);
        let output = stage.and_then(|stage| stage.outputs.prefer(map, is_leaving));
        let moves = output.is_some_and(|output| {
            output.places().all(is_leaving)
                && !self.copies.contains_key(&(writer, map))
                && self.moves.may_try((writer, map), output.attempt)
        });
        match moves {
            true => self.moves.pending.insert((writer, map)),
            false => self.moves.pending.remove(&(writer, map)),
        };
    }

    /// Looks at everything.
    fn look_at_all(&mut self) {
        self.moves.pending.clear();
        let mut there = Vec::new();
        for (key, stage) in self.stages.range(..StageKey::Result(Default::default())) {
            let present = stage.outputs.present();
            let leaving = present.filter(|(_, output)| self.places.is_leaving(output.place));
            if let StageKey::Shuffle(writer) = key {
                there.extend(leaving.map(|(map, _)| (*writer, map)));
            }
        }
        for (writer, map) in there {
            self.look_at(writer, map);
        }
    }

    /// An executor says what became of a block, which it may have been told to copy.
    pub(super) fn end_move(&mut self, executor: ExecutorId, block: &KeptBlock) {
        let KeptBlock { writer, map, attempt, state } = *block;
        let ordered = self.moves.ordered.get_mut(&executor);
        if !ordered.is_some_and(|ordered| ordered.remove(&(writer, map))) {
            return;
        }
        if state == BlockState::Gone {
            let before = self.moves.failed.get(&(writer, map)).filter(|f| f.attempt == attempt);
            let times = before.map_or(0, |failed| failed.times) + 1;
            self.moves.failed.insert((writer, map), Failed { attempt, by: executor, times });
        } else {
            self.moves.failed.remove(&(writer, map));
        }
    }

    /// Has what is pending copied by those who have answered their last order.
    pub(super) fn order_moves(&mut self, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.moves.is_stale) {
            self.look_at_all();
        }
        if self.moves.pending.is_empty() {
            return;
        }
        let idle = |id: &ExecutorId| self.moves.ordered.get(id).is_none_or(BTreeSet::is_empty);
        let idle: Vec<_> = self.places.staying().map(|(id, _)| id).filter(idle).collect();
        for (index, executor) in idle.iter().enumerate() {
            // Few outputs are spread, too.
            let share = self.moves.pending.len().div_ceil(idle.len() - index);
            if let Some(copy) = self.next_move(*executor, share.min(MOVES_MAX)) {
                actions.push(Action::Copy { executor: *executor, copy });
            }
        }
    }

    /// Outputs of one writer in one place that an executor is to copy.
    fn next_move(&mut self, executor: ExecutorId, most: usize) -> Option<CopyBlocks> {
        let mut allowed = self.moves.pending.iter().filter(|m| self.moves.may_by(m, executor));
        let first = *allowed.next()?;
        let (writer, place) = (first.0, self.output(first)?.place);
        let (level, reducers) = match self.stages.get(&StageKey::Shuffle(writer))?.kind {
            StageKind::ShuffleWrite { reducers } => (StorageLevel::Disk, reducers),
            StageKind::Kept { level } => (level, 1),
            StageKind::Result | StageKind::Output { .. } => return None,
        };
        let most = most.min((PARTS_MAX / reducers.max(1) as usize).max(1));
        let same = std::iter::once(&first).chain(allowed).take_while(|m| m.0 == writer);
        let same = same.filter_map(|what| Some((what.1, self.output(*what)?)));
        let same = same.filter(|(_, output)| output.place == place).take(most);
        let blocks: Vec<_> = same.map(|(map, output)| (map, output.attempt)).collect();
        let ordered = self.moves.ordered.entry(executor).or_default();
        for (map, _) in &blocks {
            self.moves.pending.remove(&(writer, *map));
            ordered.insert((writer, *map));
            self.copies.insert((writer, *map), executor);
        }
        let from = self.places.place(place).clone();
        Some(CopyBlocks { writer, level, reducers, from, blocks })
    }

    /// All that was on a machine is elsewhere, too, and nobody reads it there any more.
    pub(super) fn on_emptied(&mut self, worker: &WorkerId, actions: &mut Vec<Action>) {
        for place in self.places.of_worker(worker) {
            self.lose_place(place, actions);
        }
        self.describe_anew(worker, actions);
    }

    /// Runs that were told to read on a machine go on where the copies are.
    pub(super) fn describe_anew(&mut self, worker: &WorkerId, actions: &mut Vec<Action>) {
        let gone = self.places.of_worker(worker);
        let runs = self.stages.iter().filter(|(_, stage)| {
            matches!(stage.phase, Phase::Running { .. })
                && gone.iter().any(|place| stage.reads_from.contains(place))
        });
        for key in runs.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.restart(key, actions);
        }
    }
}
