//! Kept datasets: where their blocks are, who should read them, and second copies.
//!
//! ```text
//!   attempt's report ──► one home ──complete──► Copy to another executor ──► two homes
//!                          │  ▲                        Kept(InMemory | OnDisk)
//!          Kept(Gone), ────┘  └──── computed again, when an active stage reads it
//!          executor lost
//! ```
//!
//! Copies are made by whoever is to have them, which fetches the blocks. Nobody waits for them.

use super::outputs::{Loss, Output};
use super::places::Seat;
use super::stage::StageKey;
use super::{Action, Dag};
use offshoot_proto::abi::{NodeKind, StorageLevel};
use offshoot_proto::executor::{BlockState, CopyBlocks, KeptBlock};
use offshoot_proto::id::{AttemptId, ExecutorId, NodeId, Partition};
use std::collections::BTreeMap;

/// Blocks that are named in one order: a frame has room for many more.
const COPIES_MAX: usize = 4096;

/// Copies that are being made: of which blocks, and by whom.
pub(super) type Copies = BTreeMap<(NodeId, Partition), ExecutorId>;

// === impl Dag ===

impl Dag {
    /// Whether an executor has the only copy of a block. As slow as there are blocks.
    pub fn keeps_only_copy(&self, executor: ExecutorId) -> bool {
        let Some(Seat { memory, .. }) = self.places.of(executor) else {
            return false;
        };
        self.stages.values().any(|stage| stage.outputs.is_only_place(memory))
    }

    /// Blocks have come, moved or gone, or outputs of shuffles been copied.
    pub(super) fn on_kept(
        &mut self,
        executor: ExecutorId,
        blocks: &[KeptBlock],
        actions: &mut Vec<Action>,
    ) {
        let Some(Seat { files, memory }) = self.places.of(executor) else {
            return;
        };
        for block in blocks {
            let KeptBlock { writer, map, attempt, state } = *block;
            if self.copies.get(&(writer, map)) == Some(&executor) {
                self.copies.remove(&(writer, map));
            }
            self.end_move(executor, block);
            let Some(stage) = self.stages.get_mut(&StageKey::Shuffle(writer)) else {
                continue;
            };
            let outputs = &mut stage.outputs;
            let loss = match state {
                BlockState::InMemory => {
                    outputs.add_copy(map, attempt, memory);
                    Loss::Nothing
                }
                BlockState::OnDisk => {
                    outputs.move_to(map, attempt, memory, files);
                    Loss::Nothing
                }
                BlockState::Gone => outputs.lose_at(map, attempt, memory),
            };
            if loss == Loss::Output {
                self.on_output_lost(writer, actions);
            }
            self.look_at(writer, map);
        }
    }

    pub(super) fn on_executor_lost(&mut self, executor: ExecutorId, actions: &mut Vec<Action>) {
        self.copies.retain(|_, by| *by != executor);
        self.moves.lose_executor(executor);
        if let Some(memory) = self.places.remove_executor(executor) {
            self.lose_place(memory, actions);
            self.forget_gone();
        }
    }

    /// Has second copies made of whatever lacks one.
    pub(super) fn copy_all(&mut self, actions: &mut Vec<Action>) {
        let shuffles = self.stages.keys().filter_map(|key| match key {
            StageKey::Shuffle(node) => Some(*node),
            StageKey::Result(_) => None,
        });
        let kept = |node: &NodeId| self.copied_level(*node).is_some();
        for node in shuffles.filter(kept).collect::<Vec<_>>() {
            self.copy(node, actions);
        }
    }

    /// The level of a dataset of which two copies are wanted.
    fn copied_level(&self, node: NodeId) -> Option<StorageLevel> {
        match self.graph.spec(node)?.kind {
            NodeKind::Kept { level, replicas: 2 } => Some(level),
            _ => None,
        }
    }

    /// Has second copies made of the blocks of one dataset, when all of them are there.
    pub(super) fn copy(&mut self, writer: NodeId, actions: &mut Vec<Action>) {
        let (Some(level), Some(stage)) =
            (self.copied_level(writer), self.stages.get(&StageKey::Shuffle(writer)))
        else {
            return;
        };
        if !stage.outputs.is_complete() {
            return;
        }
        let mut wanted = BTreeMap::<_, Vec<(Partition, AttemptId)>>::new();
        for (map, output) in stage.outputs.without_copy() {
            if self.copies.contains_key(&(writer, map)) {
                continue;
            }
            if let Some(executor) = self.copier(map, output) {
                wanted.entry((output.place, executor)).or_default().push((map, output.attempt));
            }
        }
        for ((place, executor), blocks) in wanted {
            for (map, _) in &blocks {
                self.copies.insert((writer, *map), executor);
                self.moves.is_copied((writer, *map));
            }
            for blocks in blocks.chunks(COPIES_MAX).map(<[_]>::to_vec) {
                let from = self.places.place(place).clone();
                let copy = CopyBlocks { writer, level, from, reducers: 1, blocks };
                actions.push(Action::Copy { executor, copy });
            }
        }
    }

    /// Nobody waits for copies of this dataset any more.
    pub(super) fn forget_copies(&mut self, node: NodeId) {
        self.copies.retain(|(writer, _), _| *writer != node);
        self.moves.forget(node);
    }

    /// Who is to have the second copy of a block: an executor on another machine. Blocks in memory
    /// may go to another executor of the same machine, if there is no other.
    fn copier(&self, map: Partition, output: Output) -> Option<ExecutorId> {
        let home = self.places.place(output.place);
        let seats =
            self.places.staying().map(|(id, seat)| (id, &self.places.place(seat.files).worker));
        let (elsewhere, here) = seats.partition::<Vec<_>, _>(|(_, worker)| **worker != home.worker);
        let other = |(id, _): &&(ExecutorId, _)| home.executor.is_some_and(|home| home != *id);
        let candidates = match elsewhere.is_empty() {
            false => elsewhere,
            true => here.iter().filter(other).copied().collect(),
        };
        // Spread by partition: neighbours in a dataset go to different executors.
        let index = (map.0 as usize).checked_rem(candidates.len())?;
        Some(candidates[index].0)
    }
}
