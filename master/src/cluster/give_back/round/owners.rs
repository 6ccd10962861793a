//! The executors that could be asked for, those of whoever stands highest first.

use super::{Candidate, Claim, Round};
use crate::cluster::{Executor, ids_of};
use crate::free::Seat;
use crate::share::{Level, covers, plus};
use offshoot_proto::id::ExecutorId;
use offshoot_proto::waiting::Size;
use std::collections::binary_heap::PeekMut;
use std::collections::btree_map::Range;
use std::collections::{BTreeSet, BinaryHeap};
use std::iter::Rev;

/// Applications that have more than the claim's would: who stands highest comes first.
pub(super) struct Owners<'a> {
    heap: BinaryHeap<(Level, Level, usize)>,
    /// The version of the books by which the first in the heap is known to be the first.
    seen: Option<u64>,
    /// The executors that each has left, newest first.
    lists: Vec<Option<List<'a>>>,
    /// What was found on each worker.
    found: Vec<Chain>,
    /// Workers that are looked at again when all has been found.
    put_off: BTreeSet<Seat>,
    links: Vec<(Candidate, Option<usize>)>,
    /// Links that are of no chain any more.
    unused: Vec<usize>,
    looks: usize,
}

/// What was found on a worker, as a chain of links.
#[derive(Clone, Default)]
struct Chain {
    /// The newest link.
    last: Option<usize>,
    sum: Size,
    /// How many were not enough, or too many, when it was tried last; and how many came since.
    tried: usize,
    fresh: usize,
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
            found: vec![Chain::default(); round.cluster.workers.len()],
            put_off: BTreeSet::new(),
            links: Vec::new(),
            unused: Vec::new(),
            looks: 0,
        }
    }

    /// How many executors it has looked at.
    pub(super) fn looks(&self) -> usize {
        self.looks
    }

    /// Finds the next executor of whoever stands highest now. When all are found, what was put off
    /// has its turn.
    pub(super) fn next(&mut self, round: &Round<'a>, claim: &Claim<'_>) -> Option<Found> {
        let found = self.find(round, claim);
        found.or_else(|| {
            let seat = self.put_off.pop_first()?;
            Some(Found { seat, is_enough: true })
        })
    }

    fn find(&mut self, round: &Round<'a>, claim: &Claim<'_>) -> Option<Found> {
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
            let seat = executor.worker;
            self.link(seat, candidate);
            return Some(Found { seat, is_enough: self.is_enough(round, seat, claim) });
        }
    }

    /// Whether a worker is worth a try: each costs as much as there is to be tried, so after one
    /// in vain half as much is to be new.
    fn is_enough(&mut self, round: &Round<'a>, seat: Seat, claim: &Claim<'_>) -> bool {
        let chain = &mut self.found[seat.index()];
        chain.fresh += 1;
        let together = plus(round.books.free(seat), chain.sum);
        let is_enough = covers(together, claim.unit.size);
        let is_worth = chain.fresh >= chain.tried / 2;
        if is_enough && !is_worth {
            self.put_off.insert(seat);
        }
        is_enough && is_worth
    }

    /// All that was found on a worker, in the order in which it was found.
    pub(super) fn take(&mut self, seat: Seat) -> Vec<Candidate> {
        self.put_off.remove(&seat);
        let Chain { mut last, .. } = std::mem::take(&mut self.found[seat.index()]);
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
        self.found[seat.index()].tried = candidates.len();
    }

    /// Adds to what was found on a worker.
    fn link(&mut self, seat: Seat, candidate: Candidate) {
        let chain = &mut self.found[seat.index()];
        chain.sum = plus(chain.sum, candidate.size);
        let link = (candidate, chain.last);
        let index = self.unused.pop().unwrap_or(self.links.len());
        match self.links.get_mut(index) {
            Some(unused) => *unused = link,
            None => self.links.push(link),
        }
        chain.last = Some(index);
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
