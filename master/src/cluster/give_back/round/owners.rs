//! The executors that could be asked for, those of whoever stands highest first.

use super::{Candidate, Claim, Round};
use crate::cluster::{Executor, ids_of};
use crate::free::Seat;
use crate::share::{Level, covers, plus};
use offshoot_proto::id::ExecutorId;
use offshoot_proto::waiting::Size;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::collections::btree_map::Range;
use std::iter::Rev;

/// Applications that have more than the claim's would: who stands highest comes first.
pub(super) struct Owners<'a> {
    heap: BinaryHeap<(Level, Level, usize)>,
    /// The version of the books by which the first in the heap is known to be the first.
    seen: Option<u64>,
    /// The executors that each has left, newest first.
    lists: Vec<Option<List<'a>>>,
    /// What was found on each worker, as chains of links: the newest link, and the sum.
    found: Vec<(Option<usize>, Size)>,
    links: Vec<(Candidate, Option<usize>)>,
    /// Links that are of no chain any more.
    unused: Vec<usize>,
    looks: usize,
}

struct List<'a> {
    left: Rev<Range<'a, ExecutorId, Executor>>,
    /// Those that are marked already, the newest last.
    marked: Vec<ExecutorId>,
    /// One of this size could be taken by this version of the books.
    could: Option<(u64, Size)>,
}

/// An executor was found on a worker.
pub(super) struct Found {
    pub(super) seat: Seat,
    /// With what else was found there and is free there it is enough for a unit.
    pub(super) is_enough: bool,
}

// === impl Owners ===

impl<'a> Owners<'a> {
    pub(super) fn new(round: &Round<'a>, claim: &Claim<'_>) -> Self {
        let books = &round.books;
        let owners = (0..books.len()).filter(|owner| {
            let more = || books.may_lose(claim, *owner, Size::default(), false);
            *owner != claim.owner && books.used(*owner).cores > 0 && more()
        });
        Self {
            heap: owners.map(|owner| books.standing(owner)).collect(),
            seen: None,
            lists: (0..books.len()).map(|_| None).collect(),
            found: vec![(None, Size::default()); round.cluster.workers.len()],
            links: Vec::new(),
            unused: Vec::new(),
            looks: 0,
        }
    }

    /// How many executors it has looked at.
    pub(super) fn looks(&self) -> usize {
        self.looks
    }

    /// Finds the next executor of whoever stands highest now.
    pub(super) fn next(&mut self, round: &Round<'a>, claim: &Claim<'_>) -> Option<Found> {
        let books = &round.books;
        loop {
            let mut top = self.heap.peek_mut()?;
            let owner = top.2;
            if self.seen != Some(books.version()) {
                let now = books.standing(owner);
                if now < *top {
                    *top = now;
                    continue;
                }
                if !books.may_lose(claim, owner, Size::default(), false) {
                    PeekMut::pop(top);
                    continue;
                }
                self.seen = Some(books.version());
            }
            let list = self.lists[owner].get_or_insert_with(|| List::new(round, owner));
            let Some((id, executor)) = list.next() else {
                PeekMut::pop(top);
                self.seen = None;
                continue;
            };
            self.looks += 1;
            let candidate = Candidate { id, owner, size: executor.size() };
            if !executor.life.is_live() || !books.could_hold(executor.worker, claim.unit.size) {
                continue;
            }
            let could = Some((books.version(), candidate.size));
            if list.could != could && !books.may_take(claim, &candidate) {
                // Its others are as large. In this claim nobody gets more that could be taken.
                if !books.is_elastic(owner) {
                    PeekMut::pop(top);
                    self.seen = None;
                }
                continue;
            }
            list.could = could;
            drop(top);
            let sum = self.link(executor.worker, candidate);
            let together = plus(books.free(executor.worker), sum);
            let is_enough = covers(together, claim.unit.size);
            return Some(Found { seat: executor.worker, is_enough });
        }
    }

    /// All that was found on a worker, in the order in which it was found.
    pub(super) fn take(&mut self, seat: Seat) -> Vec<Candidate> {
        let (mut last, _) = std::mem::take(&mut self.found[seat.index()]);
        let links = std::iter::from_fn(|| {
            let (candidate, before) = self.links[last?];
            self.unused.extend(std::mem::replace(&mut last, before));
            Some(candidate)
        });
        let mut candidates: Vec<_> = links.collect();
        candidates.reverse();
        candidates
    }

    /// What was found on a worker and is not needed yet.
    pub(super) fn put_back(&mut self, seat: Seat, candidates: &[Candidate]) {
        for candidate in candidates {
            self.link(seat, *candidate);
        }
    }

    /// Adds to what was found on a worker. Returns the sum.
    fn link(&mut self, seat: Seat, candidate: Candidate) -> Size {
        let (last, sum) = &mut self.found[seat.index()];
        let link = (candidate, *last);
        *last = match self.unused.pop() {
            Some(index) => {
                self.links[index] = link;
                Some(index)
            }
            None => {
                self.links.push(link);
                Some(self.links.len() - 1)
            }
        };
        *sum = plus(*sum, candidate.size);
        *sum
    }
}

// === impl List ===

impl<'a> List<'a> {
    fn new(round: &Round<'a>, owner: usize) -> Self {
        let app = round.books.id(owner);
        let left = round.cluster.executor_range(app);
        let marked = round.marks.range(ids_of(app)).map(|(id, _)| *id).collect();
        Self { left: left.rev(), marked, could: None }
    }

    fn next(&mut self) -> Option<(ExecutorId, &'a Executor)> {
        loop {
            let (id, executor) = self.left.next()?;
            if self.marked.last() == Some(id) {
                self.marked.pop();
                continue;
            }
            return Some((*id, executor));
        }
    }
}
