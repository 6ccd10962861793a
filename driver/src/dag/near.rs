//! Who is near to what the tasks of a stage read.

use super::Dag;
use super::outputs::Output;
use super::places::PlaceIndex;
use super::stage::StageKey;
use crate::tasks::Near;
use offshoot_proto::id::{NodeId, Partition, WorkerId};
use std::collections::BTreeMap;

// === impl Dag ===

impl Dag {
    /// Who is near to what these tasks of a node read: kept blocks, else shuffle output.
    pub(super) fn near(
        &mut self,
        node: NodeId,
        inputs: &[NodeId],
        partitions: &[Partition],
    ) -> Near {
        let mut near = Near::default();
        let kept = self.graph.kept_of(node);
        if kept.is_empty() {
            near.mostly = self.mostly(inputs);
            return near;
        }
        for (index, partition) in (0..).zip(partitions) {
            for input in &kept {
                let map = partition.0.checked_sub(input.first);
                let Some(map) = map.filter(|map| *map < input.partitions) else {
                    continue;
                };
                let stage = self.stages.get(&StageKey::Shuffle(input.writer));
                let output = stage.and_then(|stage| stage.outputs.find(Partition(map)));
                for place in output.into_iter().flat_map(Output::places) {
                    let place = self.places.place(place);
                    let tasks = match place.executor {
                        Some(executor) => near.executors.entry(executor).or_default(),
                        None => near.workers.entry(place.worker.clone()).or_default(),
                    };
                    if tasks.last() != Some(&index) {
                        tasks.push(index);
                    }
                }
            }
        }
        near
    }

    /// The machine that has more than half of the output of these shuffles, by map partitions.
    /// Every reducer gets about as much of each: how much is not known here.
    fn mostly(&self, inputs: &[NodeId]) -> Option<WorkerId> {
        let mut counts = BTreeMap::<PlaceIndex, u64>::new();
        let mut total = 0;
        for writer in inputs {
            let stage = self.stages.get(&StageKey::Shuffle(*writer));
            for output in stage.into_iter().flat_map(|stage| stage.outputs.complete()) {
                *counts.entry(output.place).or_default() += 1;
                total += 1;
            }
        }
        let most = counts.into_iter().find(|(_, count)| *count * 2 > total);
        most.map(|(place, _)| self.places.place(place).worker.clone())
    }
}
