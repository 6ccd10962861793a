//! Who serves blocks, workers their files and executors their memory, and which executor is where.

use offshoot_proto::id::{ExecutorId, WorkerId};
use offshoot_proto::stage::ShufflePlace;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Who serves blocks, as an index: a million map outputs name theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceIndex(pub(super) u32);

/// Where an executor leaves what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// Files of its worker, which outlive it.
    pub(super) files: PlaceIndex,
    /// Its own memory.
    pub(super) memory: PlaceIndex,
}

/// Everybody who ever served.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<ShufflePlace>,
    by_holder: BTreeMap<(WorkerId, Option<ExecutorId>), PlaceIndex>,
    executors: BTreeMap<ExecutorId, Seat>,
}

// === impl Places ===

impl Places {
    /// A machine that comes back keeps its index and may have a new address.
    pub(super) fn add_executor(
        &mut self,
        executor: ExecutorId,
        address: SocketAddr,
        worker: WorkerId,
        worker_address: SocketAddr,
    ) {
        let files = self.add(worker.clone(), None, worker_address);
        let memory = self.add(worker, Some(executor), address);
        self.executors.insert(executor, Seat { files, memory });
    }

    fn add(
        &mut self,
        worker: WorkerId,
        executor: Option<ExecutorId>,
        address: SocketAddr,
    ) -> PlaceIndex {
        let next = PlaceIndex(self.places.len() as u32);
        let index = *self.by_holder.entry((worker.clone(), executor)).or_insert(next);
        match self.places.get_mut(index.0 as usize) {
            Some(place) => place.address = address,
            None => self.places.push(ShufflePlace { worker, executor, address }),
        }
        index
    }

    /// Removes an executor; where its memory was.
    pub(super) fn remove_executor(&mut self, executor: ExecutorId) -> Option<PlaceIndex> {
        self.executors.remove(&executor).map(|seat| seat.memory)
    }

    /// Removes the executors of a machine, so that nothing that they report counts any more.
    /// Returns where its files were.
    pub(super) fn lose(&mut self, worker: &WorkerId) -> Option<PlaceIndex> {
        let lost = self.index(worker, None)?;
        self.executors.retain(|_, seat| seat.files != lost);
        Some(lost)
    }

    /// Where an executor writes; `None` if it is gone.
    pub(super) fn of(&self, executor: ExecutorId) -> Option<Seat> {
        self.executors.get(&executor).copied()
    }

    /// The executors that are here, in order.
    pub(super) fn executors(&self) -> impl Iterator<Item = (ExecutorId, Seat)> {
        self.executors.iter().map(|(id, seat)| (*id, *seat))
    }

    pub(super) fn place(&self, index: PlaceIndex) -> &ShufflePlace {
        &self.places[index.0 as usize]
    }

    pub(super) fn index(
        &self,
        worker: &WorkerId,
        executor: Option<ExecutorId>,
    ) -> Option<PlaceIndex> {
        self.by_holder.get(&(worker.clone(), executor)).copied()
    }
}
