//! Which stages write what nobody needs any more.
//!
//! An attempt may end after the shuffle or dataset that it writes was dropped. Its files would have
//! nobody who removes them before the application ends. The same node may be computed again in
//! another run of its stage, so it is the runs which are remembered, as long as somebody here holds
//! them: a slot holds that of each attempt it has.

use offshoot_proto::id::{NodeId, StageRunId};
use offshoot_proto::stage::{StageKind, StageRun};
use std::sync::{Arc, Weak};

/// Runs of stages that write shuffles and kept blocks.
#[derive(Debug, Default)]
pub(super) struct Writers(Vec<Writer>);

#[derive(Debug)]
struct Writer {
    held: Weak<StageRun>,
    run: StageRunId,
    node: NodeId,
    unwanted: bool,
}

// === impl Writers ===

impl Writers {
    /// Tasks of this run may follow.
    pub(super) fn note(&mut self, stage: &Arc<StageRun>) {
        self.0.retain(|writer| writer.held.strong_count() > 0);
        if matches!(stage.kind, StageKind::ShuffleWrite { .. } | StageKind::Kept { .. }) {
            let (run, node) = (stage.id, stage.node);
            self.0.push(Writer { held: Arc::downgrade(stage), run, node, unwanted: false });
        }
    }

    /// What the runs so far write for this node is dropped.
    pub(super) fn drop_output(&mut self, node: NodeId) {
        for writer in self.0.iter_mut().filter(|writer| writer.node == node) {
            writer.unwanted = true;
        }
    }

    /// Whether nobody needs what this run writes.
    pub(super) fn is_unwanted(&self, run: StageRunId) -> bool {
        self.0.iter().any(|writer| writer.run == run && writer.unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::Writers;
    use offshoot_proto::id::{JobId, NodeId, SnapshotId, StageRunId};
    use offshoot_proto::stage::{StageKind, StageRun};
    use std::sync::Arc;

    fn stage(id: u32, node: u32, kind: StageKind) -> Arc<StageRun> {
        let (id, node) = (StageRunId(id), NodeId(node));
        let (job, snapshot) = (JobId(1), SnapshotId(1));
        Arc::new(StageRun { id, job, snapshot, node, kind, inputs: vec![] })
    }

    #[test]
    fn runs_from_before_the_drop_are_unwanted_until_nobody_holds_them() {
        let mut writers = Writers::default();
        let shuffle = || StageKind::ShuffleWrite { reducers: 1 };
        let (before, other) = (stage(1, 7, shuffle()), stage(2, 8, shuffle()));
        let result = stage(3, 7, StageKind::Result);
        [&before, &other, &result].into_iter().for_each(|stage| writers.note(stage));
        writers.drop_output(NodeId(7));
        let again = stage(4, 7, shuffle());
        writers.note(&again);
        let unwanted =
            |writers: &Writers| [1, 2, 3, 4].map(|id| writers.is_unwanted(StageRunId(id)));
        assert_eq!(unwanted(&writers), [true, false, false, false]);
        assert_eq!(writers.0.len(), 3);
        drop((before, other));
        writers.note(&again);
        assert_eq!(unwanted(&writers), [false; 4]);
        assert_eq!(writers.0.len(), 2);
    }
}
