//! The workers: by id, by seat, and what those give together that can be given work.

use super::Worker;
use crate::free::Seat;
use crate::share::{minus, plus};
use offshoot_proto::id::WorkerId;
use offshoot_proto::waiting::Size;
use std::collections::BTreeMap;

/// All workers, lost ones too.
#[derive(Debug, Default)]
pub(super) struct Roster {
    seats: BTreeMap<WorkerId, Seat>,
    workers: Vec<Option<Worker>>,
    vacant: Vec<Seat>,
    /// Those that are to leave.
    draining: BTreeMap<WorkerId, Seat>,
    /// The sizes of those that can be given work, and how many have each.
    sizes: BTreeMap<(u32, u64), u32>,
    total: Size,
}

/// A set of workers.
#[derive(Clone, Debug, Default)]
pub(super) struct SeatSet {
    words: Vec<u64>,
}

// === impl Roster ===

impl Roster {
    pub(super) fn seat(&self, id: &WorkerId) -> Option<Seat> {
        self.seats.get(id).copied()
    }

    pub(super) fn get(&self, seat: Seat) -> Option<&Worker> {
        self.workers.get(seat.index())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, seat: Seat) -> Option<&mut Worker> {
        self.workers.get_mut(seat.index())?.as_mut()
    }

    /// One more than the highest seat that there ever was.
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// All by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Seat, &Worker)> {
        self.seats.values().filter_map(|seat| Some((*seat, self.get(*seat)?)))
    }

    /// A worker that has no seat yet gets one, and hears who sits before and behind it.
    pub(super) fn add(&mut self, worker: Worker) -> (Seat, [Option<Seat>; 2]) {
        let id = worker.id.clone();
        let beside = [self.seats.range(..&id).next_back(), self.seats.range(&id..).next()];
        let beside = beside.map(|it| it.map(|(_, seat)| *seat));
        let end = Seat(u32::try_from(self.workers.len()).unwrap_or(u32::MAX));
        let seat = self.vacant.pop().unwrap_or(end);
        if seat == end {
            self.workers.push(None);
        }
        self.workers[seat.index()] = Some(worker);
        self.seats.insert(id, seat);
        self.count(seat, true);
        (seat, beside)
    }

    pub(super) fn remove(&mut self, seat: Seat) -> Option<Worker> {
        self.count(seat, false);
        let worker = self.workers.get_mut(seat.index())?.take()?;
        self.seats.remove(&worker.id);
        self.vacant.push(seat);
        Some(worker)
    }

    /// Changes a worker's size, or whether it can be given work.
    pub(super) fn change<R>(
        &mut self,
        seat: Seat,
        change: impl FnOnce(&mut Worker) -> R,
    ) -> Option<R> {
        self.count(seat, false);
        let result = self.get_mut(seat).map(change);
        self.count(seat, true);
        result
    }

    fn count(&mut self, seat: Seat, add: bool) {
        let Some(worker) = self.workers.get(seat.index()).and_then(Option::as_ref) else {
            return;
        };
        match (worker.drain.is_some(), add) {
            (true, true) => drop(self.draining.insert(worker.id.clone(), seat)),
            (true, false) => drop(self.draining.remove(&worker.id)),
            (false, _) => {}
        }
        if !worker.is_alive() || worker.drain.is_some() {
            return;
        }
        let size = worker.size();
        let key = (size.cores, size.memory_bytes);
        let count = self.sizes.entry(key).or_default();
        if add {
            *count += 1;
            self.total = plus(self.total, size);
        } else {
            *count -= 1;
            self.total = minus(self.total, size);
            if *count == 0 {
                self.sizes.remove(&key);
            }
        }
    }

    /// Those that are to leave, by id.
    pub(super) fn draining(&self) -> impl Iterator<Item = Seat> {
        self.draining.values().copied()
    }

    pub(super) fn is_any_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// What those have together that can be given work.
    pub(super) fn total(&self) -> Size {
        self.total
    }

    /// Their sizes, each once.
    pub(super) fn sizes(&self) -> impl Iterator<Item = Size> {
        self.sizes
            .keys()
            .map(|(cores, memory_bytes)| Size { cores: *cores, memory_bytes: *memory_bytes })
    }

    /// The most cores that one of them has, and the most memory.
    pub(super) fn largest(&self) -> Size {
        self.sizes().fold(Size::default(), |most, size| Size {
            cores: most.cores.max(size.cores),
            memory_bytes: most.memory_bytes.max(size.memory_bytes),
        })
    }
}

// === impl SeatSet ===

impl SeatSet {
    pub(super) fn insert(&mut self, seat: Seat) {
        let word = seat.index() / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit(seat);
    }

    pub(super) fn remove(&mut self, seat: Seat) {
        if let Some(word) = self.words.get_mut(seat.index() / 64) {
            *word &= !bit(seat);
        }
    }

    pub(super) fn contains(&self, seat: Seat) -> bool {
        self.words.get(seat.index() / 64).is_some_and(|word| word & bit(seat) != 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Seat> {
        let bits = self.words.iter().zip(0..).filter(|(word, _)| **word != 0);
        bits.flat_map(|(word, index): (&u64, u32)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| Seat(index * 64 + bit))
        })
    }
}

fn bit(seat: Seat) -> u64 {
    1 << (seat.0 % 64)
}
