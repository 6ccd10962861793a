//! The machines that serve shuffle blocks, and which executor writes on which of them.

use offshoot_proto::id::{ExecutorId, WorkerId};
use offshoot_proto::stage::ShufflePlace;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A machine, as an index: a million map outputs name theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceIndex(pub(super) u32);

/// All machines that ever had an executor.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<ShufflePlace>,
    by_worker: BTreeMap<WorkerId, PlaceIndex>,
    executors: BTreeMap<ExecutorId, PlaceIndex>,
}

// === impl Places ===

impl Places {
    /// A machine that comes back keeps its index and may have a new address.
    pub(super) fn add_executor(
        &mut self,
        executor: ExecutorId,
        worker: WorkerId,
        address: SocketAddr,
    ) {
        let index = match self.by_worker.get(&worker) {
            Some(index) => {
                self.places[index.0 as usize].address = address;
                *index
            }
            None => {
                let index = PlaceIndex(self.places.len() as u32);
                self.by_worker.insert(worker.clone(), index);
                self.places.push(ShufflePlace { worker, address });
                index
            }
        };
        self.executors.insert(executor, index);
    }

    pub(super) fn remove_executor(&mut self, executor: ExecutorId) {
        self.executors.remove(&executor);
    }

    /// Removes the executors of a machine, so that nothing that they report counts any more.
    pub(super) fn lose(&mut self, worker: &WorkerId) -> Option<PlaceIndex> {
        let lost = *self.by_worker.get(worker)?;
        self.executors.retain(|_, place| *place != lost);
        Some(lost)
    }

    /// Where an executor writes; `None` if it is gone.
    pub(super) fn of(&self, executor: ExecutorId) -> Option<PlaceIndex> {
        self.executors.get(&executor).copied()
    }

    pub(super) fn place(&self, index: PlaceIndex) -> &ShufflePlace {
        &self.places[index.0 as usize]
    }

    pub(super) fn index(&self, worker: &WorkerId) -> Option<PlaceIndex> {
        self.by_worker.get(worker).copied()
    }
}
