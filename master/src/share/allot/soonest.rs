//! A queue for turns: whoever has the least key comes first.
//!
//! Who has had a turn mostly comes after all others who have the same weight and take as much. So
//! the queue is a few rows that are in order by themselves, and a heap for what fits none.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Rows: with more of them a look at each would cost more than the heap.
const ROWS_MAX: usize = 6;

/// Somebody's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    /// When: [`key`].
    pub(super) key: u128,
    /// Whose, in a list of the pass.
    pub(super) index: usize,
}

/// Tickets by key.
#[derive(Debug, Default)]
pub(super) struct Soonest {
    rows: Vec<VecDeque<Ticket>>,
    /// The key at the front of each row, the greatest there is if it is empty.
    fronts: Vec<u128>,
    rest: BinaryHeap<Reverse<Ticket>>,
}

/// A turn by its level, then by a name, as one number: most of what a pass does is to compare them.
pub(super) fn key(level: u64, name: u64) -> u128 {
    u128::from(level) << 64 | u128::from(name)
}

// === impl Ticket ===

impl Ticket {
    /// What [`key`] was made of.
    pub(super) fn level(self) -> u64 {
        (self.key >> 64) as u64
    }

    /// See [`Self::level`].
    pub(super) fn name(self) -> u64 {
        self.key as u64
    }
}

// === impl Soonest ===

impl Soonest {
    pub(super) fn push(&mut self, ticket: Ticket) {
        for (row, front) in self.rows.iter_mut().zip(&mut self.fronts) {
            match row.back() {
                Some(last) if *last > ticket => continue,
                Some(_) => {}
                None => *front = ticket.key,
            }
            return row.push_back(ticket);
        }
        if self.rows.len() < ROWS_MAX {
            self.rows.push(VecDeque::from([ticket]));
            self.fronts.push(ticket.key);
        } else {
            self.rest.push(Reverse(ticket));
        }
    }

    /// Takes the first, unless `other` comes before it.
    pub(super) fn pop_before(&mut self, other: Option<u128>) -> Option<Ticket> {
        let other = other.unwrap_or(u128::MAX);
        let (mut least, mut at) = (u128::MAX, usize::MAX);
        for (index, front) in self.fronts.iter().enumerate() {
            let is_less = *front < least;
            least = if is_less { *front } else { least };
            at = if is_less { index } else { at };
        }
        if let Some(Reverse(ticket)) = self.rest.peek()
            && ticket.key < least
        {
            return if ticket.key < other { self.rest.pop().map(|it| it.0) } else { None };
        }
        if least >= other {
            return None;
        }
        let row = self.rows.get_mut(at)?;
        let ticket = row.pop_front();
        self.fronts[at] = row.front().map_or(u128::MAX, |next| next.key);
        ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_is_the_least_of_all(steps in vec((0..4_u8, 0..30_u64), 0..200)) {
            let (mut queue, mut all) = (Soonest::default(), Vec::new());
            for (index, (kind, level)) in steps.into_iter().enumerate() {
                if kind > 0 {
                    let ticket = Ticket { key: key(level, index as u64), index };
                    queue.push(ticket);
                    all.push(ticket);
                    continue;
                }
                all.sort_unstable();
                let other = (level < 20).then(|| key(level, 0));
                let first = all.first().copied();
                let first = first.filter(|first| other.is_none_or(|other| first.key < other));
                prop_assert_eq!(queue.pop_before(other), first);
                all.retain(|ticket| Some(*ticket) != first);
            }
        }
    }
}
