//! What workers have free, in the order in which a rule looks at them.
//!
//! ```text
//!   Seat ──► label, free        key of the rule ──► 64 labels a word ──► Seat
//!   (a small number)            (shelf)             (as many bits)
//! ```
//!
//! A worker is a [`Seat`] here. Seats whose rule's key is the same stand on one shelf, in the
//! order of their labels, which is that of the workers' ids; who has no core left stands on none.
//! Labels leave gaps: a worker that comes gets one between those of its neighbours. If there is
//! none between them, all are labelled anew before the next look.
//!
//! Costs: a change O(log n) of workers, and a few machine instructions for each worker of a
//! [`Free::set_all`] that stands beside the one before; [`Free::offers`] a step a worker that is
//! looked at; [`Free::fits`] one step unless many workers have the cores and not the memory. A
//! labelling is O(n): ids in order bring none about, random ones few.

#[cfg(test)]
mod tests;

use crate::placement::{Offer, Selection};
use crate::share::{covers, minus, plus};
use offshoot_proto::waiting::Size;
use std::collections::BTreeMap;

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
    places: Vec<Place>,
    /// Whose a label is.
    by_label: Vec<Option<Seat>>,
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
    free: Option<Size>,
}

#[derive(Debug)]
struct Shelves {
    selection: Selection,
    shelves: BTreeMap<u64, Shelf>,
    /// What is to be done to one word.
    pending: Move,
}

/// Bits of labels, by the label's multiple of 64.
type Shelf = BTreeMap<u32, u64>;

/// Labels of one word that go from shelf to shelf.
#[derive(Clone, Copy, Debug, Default)]
struct Move {
    from: Option<u64>,
    to: Option<u64>,
    word: u32,
    bits: u64,
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
            places: Vec::new(),
            by_label: Vec::new(),
            stale: false,
            order: Shelves::new(selection),
            roomy: (selection != most_first).then(|| Shelves::new(most_first)),
            total: Size::default(),
        }
    }

    /// A worker comes to stand between these two, the nearest by id on each side. It has nothing
    /// free yet.
    pub fn join(&mut self, seat: Seat, before: Option<Seat>, after: Option<Seat>) {
        if self.places.len() <= seat.index() {
            self.places.resize(seat.index() + 1, Place::default());
        }
        let label = |seat: Option<Seat>| seat.map(|seat| self.places[seat.index()].label);
        let label = match (label(before), label(after)) {
            (Some(None), _) | (_, Some(None)) => None,
            (Some(Some(before)), None) => before.checked_add(GAP),
            (before, Some(Some(after))) => {
                let before = before.flatten().map_or(0, |label| label + 1);
                (before < after).then(|| before + (after - before) / 2)
            }
            (None, None) => Some(GAP),
        };
        let limit = (self.places.len() + GAP as usize) * WASTE;
        let label = label.filter(|label| (*label as usize) < limit);
        self.places[seat.index()] = Place { label, free: None };
        match label {
            Some(label) => self.name(label, seat),
            None => self.stale = true,
        }
    }

    /// A worker is no more.
    pub fn leave(&mut self, seat: Seat) {
        self.set(seat, None);
        if let Some(label) = self.places[seat.index()].label.take() {
            self.by_label[label as usize] = None;
        }
    }

    /// Whether [`Self::settle`] must be called before anything is looked for.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Labels all workers anew: all there are, by id.
    pub fn settle(&mut self, seats: impl Iterator<Item = Seat>) {
        self.stale = false;
        self.by_label.clear();
        self.order.shelves.clear();
        if let Some(roomy) = &mut self.roomy {
            roomy.shelves.clear();
        }
        let mut next = GAP;
        let mut all = Vec::new();
        for seat in seats {
            self.name(next, seat);
            let place = &mut self.places[seat.index()];
            place.label = Some(next);
            next += GAP;
            if let Some(free) = place.free.take() {
                self.total = minus(self.total, free);
                all.push((seat, Some(free)));
            }
        }
        self.set_all(all);
    }

    fn name(&mut self, label: u32, seat: Seat) {
        if self.by_label.len() <= label as usize {
            self.by_label.resize(label as usize + 1, None);
        }
        self.by_label[label as usize] = Some(seat);
    }

    /// What a worker has free from now on; none if it cannot be given work.
    pub fn set(&mut self, seat: Seat, free: Option<Size>) {
        self.set_all([(seat, free)]);
    }

    /// The same for many. Those that stand beside each other are best named after each other.
    pub fn set_all(&mut self, changes: impl IntoIterator<Item = (Seat, Option<Size>)>) {
        for (seat, free) in changes {
            let place = &mut self.places[seat.index()];
            let old = std::mem::replace(&mut place.free, free);
            self.total = minus(self.total, old.unwrap_or_default());
            self.total = plus(self.total, free.unwrap_or_default());
            if let Some(label) = place.label {
                self.order.shift(label, old, free);
                if let Some(roomy) = &mut self.roomy {
                    roomy.shift(label, old, free);
                }
            }
        }
        self.order.flush();
        if let Some(roomy) = &mut self.roomy {
            roomy.flush();
        }
    }

    /// All that is free.
    pub fn total(&self) -> Size {
        self.total
    }

    /// What a worker has free, if it can be given work.
    pub fn of(&self, seat: Seat) -> Option<Size> {
        self.places.get(seat.index())?.free
    }

    /// Whether one worker that `may` be used has so much.
    pub fn fits(&self, size: Size, may: impl Fn(Seat) -> bool) -> bool {
        // From the most cores down: where anything fits at all, it mostly fits there.
        let roomy = self.roomy.as_ref().unwrap_or(&self.order);
        let mut offers = self.offers_of(roomy).take_while(|offer| offer.cores >= size.cores);
        offers.any(|offer| covers(offer.size(), size) && may(offer.worker))
    }

    /// Every worker that has a core to give, in the rule's order.
    pub fn offers(&self) -> impl Iterator<Item = Offer<Seat>> {
        self.offers_of(&self.order)
    }

    fn offers_of<'a>(&'a self, shelves: &'a Shelves) -> impl Iterator<Item = Offer<Seat>> + 'a {
        debug_assert!(!self.stale, "somebody has no label");
        shelves.labels().filter_map(|label| {
            let worker = (*self.by_label.get(label as usize)?)?;
            let Size { cores, memory_bytes } = self.of(worker)?;
            Some(Offer { worker, cores, memory_bytes })
        })
    }
}

// === impl Shelves ===

impl Shelves {
    fn new(selection: Selection) -> Self {
        Self { selection, shelves: BTreeMap::new(), pending: Move::default() }
    }

    /// A label goes from shelf to shelf, as soon as the next is of another word or way.
    fn shift(&mut self, label: u32, old: Option<Size>, new: Option<Size>) {
        let key = |size: Option<Size>| {
            let some = size.filter(|size| size.cores > 0);
            some.map(|size| self.selection.key(size))
        };
        let next = Move { from: key(old), to: key(new), word: label / 64, bits: 1 << (label % 64) };
        let Move { from, to, word, .. } = self.pending;
        if (from, to, word) != (next.from, next.to, next.word) {
            self.flush();
            self.pending = next;
        }
        self.pending.bits |= next.bits;
    }

    fn flush(&mut self) {
        let Move { from, to, word, bits } = std::mem::take(&mut self.pending);
        if from == to || bits == 0 {
            return;
        }
        if let Some(key) = from
            && let Some(shelf) = self.shelves.get_mut(&key)
            && let Some(labels) = shelf.get_mut(&word)
        {
            *labels &= !bits;
            if *labels == 0 {
                shelf.remove(&word);
            }
            if shelf.is_empty() {
                self.shelves.remove(&key);
            }
        }
        if let Some(key) = to {
            *self.shelves.entry(key).or_default().entry(word).or_default() |= bits;
        }
    }

    fn labels(&self) -> impl Iterator<Item = u32> {
        let words = self.shelves.values().flatten();
        words.flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let lowest = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(word * 64 + lowest)
            })
        })
    }
}
