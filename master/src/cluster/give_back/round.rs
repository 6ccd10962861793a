//! One round: which executors would bring those who are owed more nearer to their share.
//!
//! An executor is asked for only if its tenant, without it, would still stand at least as high as
//! the one that gets it will: so nothing goes back and forth. Nobody is brought below what it is
//! guaranteed; who is below that itself comes before the rule.
//!
//! Costs: a step a worker and a step an application, these for each claim; then a step an executor
//! that is looked at, at most [`super::LOOKS_MAX`] in all and less than a claim more, and one for
//! each that is asked for, at most [`super::MARKS_MAX`].

mod books;
mod owners;

use super::{CLAIMS_MAX, CLAIMS_OF_TENANT_MAX, GiveBack, LOOKS_MAX, MARKS_MAX, Mark};
use crate::cluster::placement::unit_of;
use crate::cluster::{App, Cluster};
use crate::free::Seat;
use crate::share::{TenantIndex, Unit, covers, minus, plus};
use books::Books;
use offshoot_proto::id::{AppId, ExecutorId};
use offshoot_proto::waiting::Size;
use owners::{Found, Owners};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What comes of a round.
#[derive(Default)]
pub(super) struct Outcome {
    /// What is to be asked back.
    pub(super) marks: BTreeMap<ExecutorId, Mark>,
    /// Workers on which something is to become free, and for whom.
    pub(super) reserved: BTreeMap<Seat, AppId>,
    /// When to look again.
    pub(super) again: Option<Duration>,
    /// Who was searched for while others had no turn: the next is theirs.
    pub(super) searched: BTreeSet<AppId>,
}

/// What everybody has and what is free if all that stops, and all that is marked, is gone.
struct Round<'a> {
    cluster: &'a Cluster,
    books: Books<'a>,
    marks: BTreeMap<ExecutorId, Mark>,
    /// Those of this claim.
    added: Vec<ExecutorId>,
    /// Workers where something stops.
    stopping: Vec<Seat>,
    /// What was asked for before, by heir and worker.
    known: BTreeMap<(AppId, Seat), Vec<ExecutorId>>,
    /// Executors more that may be looked at.
    looks_left: usize,
    /// Executors that were not asked for before this round, and how many may be.
    fresh: usize,
    fresh_max: usize,
}

/// Who is owed.
struct Claim<'a> {
    id: AppId,
    app: &'a App,
    tenant: TenantIndex,
    owner: usize,
    unit: Unit,
    units_left: u32,
}

/// An executor that could be asked for.
#[derive(Clone, Copy)]
struct Candidate {
    id: ExecutorId,
    /// Whose: where its application is in the books.
    owner: usize,
    size: Size,
}

/// Judges what everybody has and wants now.
pub(super) fn run(cluster: &Cluster) -> Outcome {
    let mut round = Round::new(cluster);
    let mut outcome = Outcome::default();
    let mut is_cut = false;
    for mut claim in round.claims() {
        claim.units_left = claim.units_left.min(round.books.units_in_quota(&claim));
        let before = round.books.used(claim.owner);
        let waited = claim.app.hungry.unwrap_or(cluster.now) + cluster.policy.share_release_timeout;
        // What was asked for is not taken back because a part of it has come.
        let goes_on = round.known_of(claim.id).next().is_some();
        let is_due = goes_on || waited <= cluster.now;
        let kept = (!is_due).then(|| round.books.clone());
        round.added.clear();
        round.serve_known(&mut claim);
        if claim.units_left > 0 && !cluster.give_back.searched.contains(&claim.id) {
            is_cut |= round.looks_left == 0;
            if round.looks_left > 0 {
                round.search(&mut claim);
                outcome.searched.insert(claim.id);
            }
        }
        if round.added.is_empty() {
            continue;
        }
        let after = round.books.used(claim.owner);
        let is_starved = before.cores < after.cores.div_ceil(2);
        if let Some(kept) = kept.filter(|_| !is_starved) {
            round.undo(kept);
            outcome.again = Some(outcome.again.map_or(waited, |other| other.min(waited)));
        }
    }
    if is_cut {
        outcome.searched.extend(&cluster.give_back.searched);
        outcome.again = Some(cluster.now + super::ROUND);
    } else {
        outcome.searched.clear();
    }
    outcome.reserved = round.books.reserved();
    outcome.marks = round.marks;
    outcome
}

/// Takes out what stands at these places, which are in order.
fn remove_all(candidates: &mut Vec<Candidate>, places: &[usize]) {
    let (mut index, mut places) = (0, places.iter());
    let mut next = places.next();
    candidates.retain(|_| {
        let is_next = next == Some(&index);
        if is_next {
            next = places.next();
        }
        index += 1;
        !is_next
    });
}

// === impl Round ===

impl<'a> Round<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let mut known: BTreeMap<(AppId, Seat), Vec<ExecutorId>> = BTreeMap::new();
        let old = &cluster.give_back.marks;
        for (id, mark) in old.iter().chain(&cluster.give_back.lifted) {
            known.entry((mark.heir, mark.worker)).or_default().push(*id);
        }
        let stop = cluster.workers.iter();
        let stop = stop.filter(|(_, worker)| worker.stopping.cores > 0 && worker.drain.is_none());
        Self {
            cluster,
            books: Books::new(cluster),
            marks: BTreeMap::new(),
            added: Vec::new(),
            stopping: stop.map(|(seat, _)| seat).collect(),
            known,
            looks_left: LOOKS_MAX,
            fresh: 0,
            fresh_max: MARKS_MAX.saturating_sub(old.len()),
        }
    }

    /// Who is owed most. Those whom nobody can help are no reason not to help others.
    fn claims(&self) -> Vec<Claim<'a>> {
        let cluster = self.cluster;
        let mut of_tenant: BTreeMap<TenantIndex, usize> = BTreeMap::new();
        let claims = cluster.shares.claims().filter_map(|id| {
            let app = cluster.apps.get(&id)?;
            let (unit, tenant) = (unit_of(&app.spec), cluster.shares.tenant_of(id)?);
            let can_be = covers(cluster.largest, unit.size) && cluster.shares.quota(id).is_none();
            let before = of_tenant.entry(tenant).or_default();
            *before += usize::from(can_be);
            let owner = self.books.find(id)?;
            let units_left = cluster.shares.wants(id);
            let claim = Claim { id, app, tenant, owner, unit, units_left };
            (can_be && *before <= CLAIMS_OF_TENANT_MAX).then_some(claim)
        });
        claims.take(CLAIMS_MAX).collect()
    }

    /// Takes back what was done for a claim.
    fn undo(&mut self, books: Books<'a>) {
        self.books = books;
        for id in std::mem::take(&mut self.added) {
            self.lift(id);
        }
    }

    /// Finds units for one application where something stops or was asked for it already.
    fn serve_known(&mut self, claim: &mut Claim<'a>) {
        for seat in std::mem::take(&mut self.stopping) {
            self.serve_all(seat, claim, &mut Vec::new());
            self.stopping.push(seat);
        }
        let known: Vec<_> = self.known_of(claim.id).collect();
        for (seat, ids) in known {
            let mut candidates = ids.iter().filter_map(|id| self.known(*id, claim)).collect();
            self.serve_all(seat, claim, &mut candidates);
        }
    }

    /// What was asked for before for an application, by worker.
    fn known_of(&self, heir: AppId) -> impl Iterator<Item = (Seat, Vec<ExecutorId>)> {
        let all = self.known.range((heir, Seat(0))..=(heir, Seat(u32::MAX)));
        all.map(|((_, seat), ids)| (*seat, ids.clone()))
    }

    /// An executor that was asked for before, if the claim's application could still be given its
    /// place.
    fn known(&self, id: ExecutorId, claim: &Claim<'_>) -> Option<Candidate> {
        let executor = self.cluster.executors.get(&id)?;
        let fits = self.books.could_hold(executor.worker, claim.unit.size);
        let asked = executor.life.is_live() && !self.marks.contains_key(&id);
        let owner = self.books.find(id.app)?;
        (fits && asked).then_some(Candidate { id, owner, size: executor.size() })
    }

    /// Finds units for one application of whoever stands highest. A search that has begun looks at
    /// all: what helps may be what it looks at last.
    fn search(&mut self, claim: &mut Claim<'a>) {
        let mut owners = Owners::new(self, claim);
        while claim.units_left > 0 && self.fresh < self.fresh_max {
            let Some(Found { seat, is_enough }) = owners.next(self, claim) else {
                break;
            };
            if is_enough {
                let mut candidates = owners.take(seat);
                self.serve_all(seat, claim, &mut candidates);
                owners.put_back(seat, &candidates);
            }
        }
        self.looks_left = self.looks_left.saturating_sub(owners.looks());
    }

    fn serve_all(&mut self, worker: Seat, claim: &mut Claim<'a>, candidates: &mut Vec<Candidate>) {
        while claim.units_left > 0 && self.serve_on(worker, claim, candidates) {}
    }

    /// Finds one unit on a worker, or several if what is given back there is larger.
    fn serve_on(
        &mut self,
        worker: Seat,
        claim: &mut Claim<'a>,
        candidates: &mut Vec<Candidate>,
    ) -> bool {
        if self.books.heir(worker).is_some_and(|heir| heir != claim.id) {
            return false;
        }
        let free = self.books.free(worker);
        // Where they stand. Who could not be taken before cannot after others were.
        let (mut taken, mut from) = (Vec::new(), 0);
        while !covers(self.books.free(worker), claim.unit.size) {
            let next = candidates[from..].iter().position(|it| self.books.may_take(claim, it));
            let Some(index) = next.map(|skipped| from + skipped) else {
                // What is left here is not enough: nothing is asked for in vain.
                for candidate in taken.iter().rev().map(|index: &usize| candidates[*index]) {
                    self.unmark(&candidate);
                    self.books.win(candidate.owner, candidate.size);
                }
                self.books.set_free(worker, free);
                return false;
            };
            let next = candidates[index];
            taken.push(index);
            from = index + 1;
            if self.take(worker, claim, &next) {
                remove_all(candidates, &taken);
                self.books.reserve(worker, claim.id);
                return true;
            }
        }
        remove_all(candidates, &taken);
        self.books.set_free(worker, minus(self.books.free(worker), claim.unit.size));
        self.books.win(claim.owner, claim.unit.size);
        claim.units_left -= 1;
        self.books.reserve(worker, claim.id);
        true
    }

    /// Marks an executor. Of one of any size only as many cores go over as are owed: its
    /// application is given the rest again. Returns whether it is of that kind.
    fn take(&mut self, worker: Seat, claim: &mut Claim<'a>, taken: &Candidate) -> bool {
        self.mark(worker, claim.id, taken);
        if !self.books.is_elastic(taken.owner) || taken.size.cores < claim.unit.size.cores {
            self.books.lose(taken.owner, taken.size);
            self.books.set_free(worker, plus(self.books.free(worker), taken.size));
            return false;
        }
        let unit = Size { cores: claim.unit.size.cores, memory_bytes: 0 };
        let mut left = taken.size.cores;
        while left >= unit.cores && claim.units_left > 0 {
            if !self.books.may_lose(claim, taken.owner, unit, true) {
                break;
            }
            self.books.lose(taken.owner, unit);
            self.books.win(claim.owner, unit);
            claim.units_left -= 1;
            left -= unit.cores;
        }
        true
    }

    fn mark(&mut self, worker: Seat, heir: AppId, taken: &Candidate) {
        let id = taken.id;
        let GiveBack { marks: old, lifted, .. } = &self.cluster.give_back;
        let since = old.get(&id).or(lifted.get(&id)).map(|mark| mark.since);
        let since = since.unwrap_or(self.cluster.now);
        let is_new = self.marks.insert(id, Mark { since, worker, heir }).is_none();
        self.fresh += usize::from(is_new && !old.contains_key(&id));
        self.added.push(id);
        self.books.count_lost(taken.owner, |lost| plus(lost, taken.size));
    }

    fn unmark(&mut self, taken: &Candidate) {
        self.lift(taken.id);
        if let Some(last) = self.added.iter().rposition(|id| *id == taken.id) {
            self.added.remove(last);
        }
        self.books.count_lost(taken.owner, |lost| minus(lost, taken.size));
    }

    /// What is not asked for after all is no part of how many may be.
    fn lift(&mut self, id: ExecutorId) {
        let was_marked = self.marks.remove(&id).is_some();
        self.fresh -= usize::from(was_marked && !self.cluster.give_back.marks.contains_key(&id));
    }
}
