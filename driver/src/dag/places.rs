//! Who serves blocks, workers their files and executors their memory, and which executor is where.

use offshoot_proto::id::{ExecutorId, WorkerId};
use offshoot_proto::stage::ShufflePlace;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Who serves blocks, as a number: a million map outputs name theirs. None is given twice.
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

/// Machines that ever served, and executors of which something may still be read.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: BTreeMap<PlaceIndex, ShufflePlace>,
    /// The next number.
    next: u32,
    /// Memories of executors that are gone.
    gone: BTreeSet<PlaceIndex>,
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
        self.gone.remove(&memory);
        self.executors.insert(executor, Seat { files, memory });
    }

    fn add(
        &mut self,
        worker: WorkerId,
        executor: Option<ExecutorId>,
        address: SocketAddr,
    ) -> PlaceIndex {
        let next = PlaceIndex(self.next);
        let index = *self.by_holder.entry((worker.clone(), executor)).or_insert(next);
        match self.places.get_mut(&index) {
            Some(place) => place.address = address,
            None => {
                if self.leaving.contains(&worker) {
                    self.left_behind.insert(index);
                }
                self.next += 1;
                self.places.insert(index, ShufflePlace { worker, executor, address });
            }
        }
        index
    }

    /// Removes an executor; where its memory was.
    pub(super) fn remove_executor(&mut self, executor: ExecutorId) -> Option<PlaceIndex> {
        self.retiring.remove(&executor);
        let memory = self.executors.remove(&executor)?.memory;
        self.gone.insert(memory);
        Some(memory)
    }

    /// Forgets executors that are gone, but for those that somebody may still ask for and those of
    /// machines that are to leave. Nothing that is said to be there may be so any more.
    pub(super) fn forget_gone(&mut self, is_read: impl Fn(PlaceIndex) -> bool) {
        let left_behind = &self.left_behind;
        let forgotten = self.gone.extract_if(.., |i| !left_behind.contains(i) && !is_read(*i));
        for index in forgotten {
            if let Some(ShufflePlace { worker, executor, .. }) = self.places.remove(&index) {
                self.by_holder.remove(&(worker, executor));
            }
        }
    }

    /// How many are known.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Removes the executors of a machine, so that nothing that they report counts any more.
    /// Returns where its files were.
    pub(super) fn lose(&mut self, worker: &WorkerId) -> Option<PlaceIndex> {
        self.set_leaving(worker, false);
        let lost = self.index(worker, None)?;
        let executors = self.executors.extract_if(.., |_, seat| seat.files == lost);
        self.gone.extend(executors.map(|(_, seat)| seat.memory));
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
        let places = self.places.iter().filter(|(_, place)| place.worker == *worker);
        places.map(|(index, _)| *index).collect()
    }

    pub(super) fn place(&self, index: PlaceIndex) -> &ShufflePlace {
        &self.places[&index]
    }

    pub(super) fn index(
        &self,
        worker: &WorkerId,
        executor: Option<ExecutorId>,
    ) -> Option<PlaceIndex> {
        self.by_holder.get(&(worker.clone(), executor)).copied()
    }
}
