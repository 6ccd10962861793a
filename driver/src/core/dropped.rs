//! Shuffles that were dropped while nobody on a worker could be told: its executor is gone, its
//! files are not. The next executor there is told.

use super::Core;
use offshoot_proto::executor::ToExecutor;
use offshoot_proto::id::{ExecutorId, NodeId, WorkerId};
use std::collections::BTreeMap;

/// Shuffles that are remembered for a worker; the files of those beyond wait for the end of the
/// application. As many as datasets may be alive at once.
const OWED_MAX: usize = 65_536;

/// By worker that has lost its executor, what was dropped since.
#[derive(Debug, Default)]
pub(super) struct Dropped(BTreeMap<WorkerId, Vec<NodeId>>);

// === impl Dropped ===

impl Dropped {
    /// The last executor on this worker is gone.
    fn lost(&mut self, worker: WorkerId) {
        self.0.entry(worker).or_default();
    }

    fn dropped(&mut self, node: NodeId) {
        for owed in self.0.values_mut().filter(|owed| owed.len() < OWED_MAX) {
            owed.push(node);
        }
    }

    /// There is an executor again; what it must be told.
    fn settle(&mut self, worker: &WorkerId) -> Vec<NodeId> {
        self.0.remove(worker).unwrap_or_default()
    }
}

// === impl Core ===

impl Core {
    /// Has the files of a shuffle go, now or when there is somebody to tell.
    pub(super) fn drop_shuffle(&mut self, node: NodeId) {
        for link in self.executors.values() {
            link.send(ToExecutor::DropShuffle(node));
        }
        self.dropped.dropped(node);
    }

    pub(super) fn note_lost(&mut self, worker: WorkerId) {
        let mut others = self.executors.values().filter(|link| link.ready);
        if !others.any(|link| link.info.worker == worker) {
            self.dropped.lost(worker);
        }
    }

    pub(super) fn settle_drops(&mut self, executor: ExecutorId) {
        let Some(link) = self.executors.get(&executor) else { return };
        for node in self.dropped.settle(&link.info.worker) {
            link.send(ToExecutor::DropShuffle(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dropped, OWED_MAX};
    use offshoot_proto::id::{NodeId, WorkerId};

    #[test]
    fn a_worker_hears_what_was_dropped_while_it_had_no_executor() {
        let [one, two] = ["one", "two"].map(|name| WorkerId(name.into()));
        let mut dropped = Dropped::default();
        dropped.dropped(NodeId(1));
        dropped.lost(one.clone());
        dropped.dropped(NodeId(2));
        dropped.lost(two.clone());
        dropped.dropped(NodeId(3));
        assert_eq!(dropped.settle(&one), [NodeId(2), NodeId(3)]);
        assert_eq!(dropped.settle(&one), []);
        assert_eq!(dropped.settle(&two), [NodeId(3)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut dropped = Dropped::default();
        dropped.lost(WorkerId("one".into()));
        (0..OWED_MAX as u32 + 9).for_each(|node| dropped.dropped(NodeId(node)));
        assert_eq!(dropped.settle(&WorkerId("one".into())).len(), OWED_MAX);
    }
}
