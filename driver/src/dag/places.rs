//! Who serves blocks, workers their files and executors their memory, and which executor is where.

use offshoot_proto::id::{ExecutorId, WorkerId};
use offshoot_proto::stage::ShufflePlace;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Machines that are to leave.
    leaving: BTreeSet<WorkerId>,
    /// Their files, and the memory of their executors.
    left_behind: BTreeSet<PlaceIndex>,
    /// Executors that are to go, whatever becomes of their machines.
    retiring: BTreeSet<ExecutorId>,
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
            None => {
                if self.leaving.contains(&worker) {
                    self.left_behind.insert(index);
                }
                self.places.push(ShufflePlace { worker, executor, address });
            }
        }
        index
    }

    /// Removes an executor; where its memory was.
    pub(super) fn remove_executor(&mut self, executor: ExecutorId) -> Option<PlaceIndex> {
        self.retiring.remove(&executor);
        self.executors.remove(&executor).map(|seat| seat.memory)
    }

    /// Removes the executors of a machine, so that nothing that they report counts any more.
    /// Returns where its files were.
    pub(super) fn lose(&mut self, worker: &WorkerId) -> Option<PlaceIndex> {
        self.set_leaving(worker, false);
        let lost = self.index(worker, None)?;
        self.executors.retain(|_, seat| seat.files != lost);
        Some(lost)
    }

    /// Where an executor writes; `None` if it is gone.
    pub(super) fn of(&self, executor: ExecutorId) -> Option<Seat> {
        self.executors.get(&executor).copied()
    }

    /// The executors that are here and are not to go, in order.
    pub(super) fn staying(&self) -> impl Iterator<Item = (ExecutorId, Seat)> {
        let all = self.executors.iter().map(|(id, seat)| (*id, *seat));
        all.filter(|(id, seat)| !self.is_leaving(seat.files) && !self.retiring.contains(id))
    }

    pub(super) fn set_retiring(&mut self, executor: ExecutorId, retiring: bool) {
        match retiring && self.executors.contains_key(&executor) {
            true => self.retiring.insert(executor),
            false => self.retiring.remove(&executor),
        };
    }

    /// A machine is to leave, or to stay after all.
    pub(super) fn set_leaving(&mut self, worker: &WorkerId, leaving: bool) {
        if !leaving && !self.leaving.remove(worker) {
            return;
        }
        if leaving {
            self.leaving.insert(worker.clone());
        }
        for index in self.of_worker(worker) {
            match leaving {
                true => self.left_behind.insert(index),
                false => self.left_behind.remove(&index),
            };
        }
    }

    pub(super) fn is_any_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether what is there is to be copied elsewhere.
    pub(super) fn is_leaving(&self, place: PlaceIndex) -> bool {
        self.left_behind.contains(&place)
    }

    /// Everybody who ever served on a machine.
    pub(super) fn of_worker(&self, worker: &WorkerId) -> Vec<PlaceIndex> {
        let places = (0..).map(PlaceIndex).zip(&self.places);
        places.filter(|(_, place)| place.worker == *worker).map(|(index, _)| index).collect()
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
