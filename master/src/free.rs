//! What workers have free, in the order in which a rule looks at them.
//!
//! ```text
//!   Seat ──► label, free        key of the rule ──► 512 labels a row ──► Seat
//!   (a small number)            (shelf)             (as many bits)
//! ```
//!
//! A worker is a [`Seat`] here. Seats whose rule's key is the same stand on one shelf, in the
//! order of their labels, which is that of the workers' ids; who has no core left stands on none.
//! Labels leave gaps: a worker that comes gets one between those of its neighbours. If there is
//! none between them, all are labelled anew before the next look. Each shelf and each row knows
//! the most that one of its workers has: those that have too little are passed over together.
//!
//! Costs: a change O(log n) of workers and a look at those of its row; for the workers of a
//! [`Free::set_all`] that stand beside each other little more than for one. [`Free::offers`] a step
//! for each worker that is taken, and for each row or shelf that is passed over; [`Free::fits`]
//! the same up to the first. A labelling is O(n): ids in order bring none about, random ones few.

#[cfg(test)]
mod tests;

use crate::placement::{Offer, Selection};
use crate::share::{covers, minus, plus};
use offshoot_proto::waiting::Size;
use std::collections::BTreeMap;

/// Words of 64 labels in a row.
const WORDS: usize = 8;

/// Labels of one row. With fewer most of a pass is to take rows from shelves and put them on
/// others.
const ROW: u32 = 64 * WORDS as u32;

/// Room between the labels of neighbours after a labelling.
const GAP: u32 = 4;

/// Labels that are no one's, for each worker there is: more are given up for a new labelling.
const WASTE: usize = 64;

/// A worker as a small number, which is given anew when it is nobody's any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(pub u32);

/// The free cores and memory of all workers that can be given work.
#[derive(Debug)]
pub struct Free {
    desks: Desks,
    /// Somebody has no label yet.
    stale: bool,
    /// By the key of the operator's rule.
    order: Shelves,
    /// By cores, the most first; none if that is the operator's rule.
    roomy: Option<Shelves>,
    total: Size,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    label: Option<u32>,
    /// It can be given work; if not it has nothing free.
    is_usable: bool,
    free: Size,
}

/// Workers by seat and by label. It is small, so that a pass finds it in the cache.
#[derive(Debug, Default)]
struct Desks {
    places: Vec<Place>,
    /// Whose a label is.
    by_label: Vec<Seat>,
}

/// Whose a label is that is nobody's.
const NOBODY: Seat = Seat(u32::MAX);

#[derive(Debug)]
struct Shelves {
    selection: Selection,
    shelves: BTreeMap<u64, Shelf>,
    /// What is to be done to one row.
    pending: Move,
}

/// Workers with the same key.
#[derive(Debug, Default)]
struct Shelf {
    /// By the label's multiple of [`ROW`].
    rows: BTreeMap<u32, Row>,
    /// The most that a row has.
    most: Size,
}

/// Labels as bits.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    bits: Bits,
    /// The most cores that one of these workers has free, and the most memory.
    most: Size,
}

type Bits = [u64; WORDS];

/// Labels of one row that go from shelf to shelf.
#[derive(Clone, Copy, Debug, Default)]
struct Move {
    from: Option<u64>,
    to: Option<u64>,
    row: u32,
    bits: Bits,
    /// The most that one of them has from now on.
    most: Size,
}

// === impl Seat ===

impl Seat {
    /// Where it is in a list of all.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

// === impl Free ===

impl Free {
    /// No workers yet; `selection` is the order of [`Self::offers`].
    pub fn new(selection: Selection) -> Self {
        let most_first = Selection::CoresFreeDesc;
        Self {
            desks: Desks::default(),
            stale: false,
            order: Shelves::new(selection),
            roomy: (selection != most_first).then(|| Shelves::new(most_first)),
            total: Size::default(),
        }
    }

    /// A worker comes to stand between these two, the nearest by id on each side. It has nothing
    /// free yet.
    pub fn join(&mut self, seat: Seat, before: Option<Seat>, after: Option<Seat>) {
        if self.desks.places.len() <= seat.index() {
            self.desks.places.resize(seat.index() + 1, Place::default());
        }
        let label = |seat: Option<Seat>| seat.map(|seat| self.desks.places[seat.index()].label);
        let label = match (label(before), label(after)) {
            (Some(None), _) | (_, Some(None)) => None,
            (Some(Some(before)), None) => before.checked_add(GAP),
            (before, Some(Some(after))) => {
                let before = before.flatten().map_or(0, |label| label + 1);
                (before < after).then(|| before + (after - before) / 2)
            }
            (None, None) => Some(GAP),
        };
        let limit = (self.desks.places.len() + GAP as usize) * WASTE;
        let label = label.filter(|label| (*label as usize) < limit);
        self.desks.places[seat.index()] = Place { label, ..Place::default() };
        match label {
            Some(label) => self.name(label, seat),
            None => self.stale = true,
        }
    }

    /// A worker is no more.
    pub fn leave(&mut self, seat: Seat) {
        self.set(seat, None);
        if let Some(label) = self.desks.places[seat.index()].label.take() {
            self.desks.by_label[label as usize] = NOBODY;
        }
    }

    /// Whether [`Self::settle`] must be called before anything is looked for.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Labels all workers anew: all there are, by id.
    pub fn settle(&mut self, seats: impl Iterator<Item = Seat>) {
        self.stale = false;
        self.desks.by_label.clear();
        self.order.shelves.clear();
        if let Some(roomy) = &mut self.roomy {
            roomy.shelves.clear();
        }
        let mut next = GAP;
        let mut all = Vec::new();
        for seat in seats {
            self.name(next, seat);
            let place = &mut self.desks.places[seat.index()];
            place.label = Some(next);
            next += GAP;
            if std::mem::take(&mut place.is_usable) {
                let free = std::mem::take(&mut place.free);
                self.total = minus(self.total, free);
                all.push((seat, Some(free)));
            }
        }
        self.set_all(all);
    }

    fn name(&mut self, label: u32, seat: Seat) {
        if self.desks.by_label.len() <= label as usize {
            self.desks.by_label.resize(label as usize + 1, NOBODY);
        }
        self.desks.by_label[label as usize] = seat;
    }

    /// What a worker has free from now on; none if it cannot be given work.
    pub fn set(&mut self, seat: Seat, free: Option<Size>) {
        self.set_all([(seat, free)]);
    }

    /// The same for many. Those that stand beside each other are best named after each other.
    pub fn set_all(&mut self, changes: impl IntoIterator<Item = (Seat, Option<Size>)>) {
        for (seat, free) in changes {
            let place = &mut self.desks.places[seat.index()];
            place.is_usable = free.is_some();
            let (old, free) = (place.free, free.unwrap_or_default());
            place.free = free;
            self.total = plus(minus(self.total, old), free);
            if let Some(label) = place.label {
                self.order.shift(label, old, free, &self.desks);
                if let Some(roomy) = &mut self.roomy {
                    roomy.shift(label, old, free, &self.desks);
                }
            }
        }
        self.order.flush(&self.desks);
        if let Some(roomy) = &mut self.roomy {
            roomy.flush(&self.desks);
        }
    }

    /// All that is free.
    pub fn total(&self) -> Size {
        self.total
    }

    /// What a worker has free, if it can be given work.
    pub fn of(&self, seat: Seat) -> Option<Size> {
        let place = self.desks.places.get(seat.index())?;
        place.is_usable.then_some(place.free)
    }

    /// Whether one worker that `may` be used has so much.
    pub fn fits(&self, size: Size, may: impl Fn(Seat) -> bool) -> bool {
        // From the most cores down: where anything fits at all, it mostly fits there.
        let roomy = self.roomy.as_ref().unwrap_or(&self.order);
        self.offers_of(roomy, size).any(|offer| may(offer.worker))
    }

    /// Every worker that has a core to give and all of this free, in the rule's order.
    pub fn offers(&self, least: Size) -> impl Iterator<Item = Offer<Seat>> {
        self.offers_of(&self.order, least)
    }

    fn offers_of<'a>(
        &'a self,
        shelves: &'a Shelves,
        least: Size,
    ) -> impl Iterator<Item = Offer<Seat>> + 'a {
        debug_assert!(!self.stale, "somebody has no label");
        let mut labels = shelves.labels(least);
        // A loop of its own: adapters move an offer about in memory, which is most of the cost.
        std::iter::from_fn(move || {
            loop {
                let worker = *self.desks.by_label.get(labels.next()? as usize)?;
                let Size { cores, memory_bytes } = self.desks.places.get(worker.index())?.free;
                if cores >= least.cores && memory_bytes >= least.memory_bytes {
                    return Some(Offer { worker, cores, memory_bytes });
                }
            }
        })
    }
}

// === impl Desks ===

impl Desks {
    fn free(&self, label: u32) -> Size {
        let place = self.by_label.get(label as usize).and_then(|it| self.places.get(it.index()));
        place.map_or(Size::default(), |place| place.free)
    }
}

// === impl Shelves ===

impl Shelves {
    fn new(selection: Selection) -> Self {
        Self { selection, shelves: BTreeMap::new(), pending: Move::default() }
    }

    /// A label goes from shelf to shelf, as soon as the next is of another row or way.
    fn shift(&mut self, label: u32, old: Size, new: Size, desks: &Desks) {
        let key = |size: Size| (size.cores > 0).then(|| self.selection.key(size));
        let next = (key(old), key(new), label / ROW);
        if next != (self.pending.from, self.pending.to, self.pending.row) {
            self.flush(desks);
            (self.pending.from, self.pending.to, self.pending.row) = next;
        }
        self.pending.bits[(label % ROW / 64) as usize] |= 1 << (label % 64);
        self.pending.most = most(self.pending.most, new);
    }

    fn flush(&mut self, desks: &Desks) {
        let Move { from, to, row, bits, most } = std::mem::take(&mut self.pending);
        if let Some(key) = from.filter(|_| from != to)
            && let Some(shelf) = self.shelves.get_mut(&key)
        {
            let without = |old: u64, gone: u64| old & !gone;
            shelf.change(row, bits, without, Size::default(), desks);
            if shelf.rows.is_empty() {
                self.shelves.remove(&key);
            }
        }
        if let Some(key) = to {
            let with = |old: u64, new: u64| old | new;
            self.shelves.entry(key).or_default().change(row, bits, with, most, desks);
        }
    }

    /// Those that may have so much.
    fn labels(&self, least: Size) -> impl Iterator<Item = u32> {
        let shelves = self.shelves.values().filter(move |shelf| covers(shelf.most, least));
        let rows = shelves.flat_map(|shelf| &shelf.rows);
        let rows = rows.filter(move |(_, row)| covers(row.most, least));
        rows.flat_map(|(index, row)| row.labels(*index))
    }
}

// === impl Shelf ===

impl Shelf {
    /// Changes which labels of a row are on the shelf. Who comes has no more than `comes`.
    fn change(
        &mut self,
        index: u32,
        bits: Bits,
        change: impl Fn(u64, u64) -> u64,
        comes: Size,
        desks: &Desks,
    ) {
        let row = self.rows.entry(index).or_default();
        let old = row.most;
        row.bits = std::array::from_fn(|word| change(row.bits[word], bits[word]));
        let all = row.labels(index).map(|label| desks.free(label));
        row.most = most_of(all, most(old, comes));
        let new = row.most;
        if row.bits == Bits::default() {
            self.rows.remove(&index);
        }
        let all = self.most;
        self.most = most(all, new);
        if !covers(new, old) && (old.cores == all.cores || old.memory_bytes == all.memory_bytes) {
            self.most = most_of(self.rows.values().map(|row| row.most), self.most);
        }
    }
}

/// The most cores, and the most memory.
fn most(a: Size, b: Size) -> Size {
    Size { cores: a.cores.max(b.cores), memory_bytes: a.memory_bytes.max(b.memory_bytes) }
}

/// The same of many, which have no more than `limit`: it is mostly found early.
fn most_of(sizes: impl IntoIterator<Item = Size>, limit: Size) -> Size {
    let mut found = Size::default();
    for size in sizes {
        found = most(found, size);
        if found == limit {
            break;
        }
    }
    found
}

// === impl Row ===

impl Row {
    fn labels(self, index: u32) -> impl Iterator<Item = u32> {
        let words = (index * ROW..).step_by(64).zip(self.bits);
        words.flat_map(|(first, mut left)| {
            std::iter::from_fn(move || {
                let lowest = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(first + lowest)
            })
        })
    }
}
