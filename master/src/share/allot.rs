//! One pass over what is free: unit by unit to whoever is owed most, and most of it in rounds.
//!
//! The queues of [`Shares`] are only read. Whoever has come into play in this pass goes on in a
//! queue of the pass, with what it would have then; the others are looked at when it is their turn.

mod round;
mod soonest;

use super::{App, Level, Place, Shares, Tenant, TenantIndex, covers, minus, plus};
use offshoot_proto::id::AppId;
use offshoot_proto::waiting::Size;
use round::Rounds;
use soonest::{Soonest, Ticket, key};
use std::collections::btree_set;
use std::iter::Peekable;

/// Units of one application: what a pass gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allotment {
    /// Whose.
    pub app: AppId,
    /// How many units.
    pub units: u32,
}

type Queue<'a, T> = Peekable<btree_set::Iter<'a, T>>;

/// A tenant that has come into play.
struct Turn<'a> {
    tenant: &'a Tenant,
    used: Size,
    running: u32,
    /// Those that have not been looked at: with executors, and without.
    queues: [Queue<'a, (Level, AppId)>; 2],
    /// Those that have come into play and want more.
    again: Soonest,
    /// Units that it is given one by one before it is given a round.
    singly: usize,
}

/// An application that has come into play.
struct Given<'a> {
    id: AppId,
    app: &'a App,
    used: Size,
    units: u32,
}

struct Pass<'a, F> {
    shares: &'a Shares,
    fits: F,
    free: Size,
    given: Vec<Given<'a>>,
    turns: Vec<Turn<'a>>,
    /// Tenants that have not come into play, and those that have and want more.
    fresh: Queue<'a, (Place, TenantIndex)>,
    again: Soonest,
    /// The place of the tenant whose turn it is: nobody who wants more has a lower one.
    now: Place,
    rounds: Rounds,
}

// === impl Shares ===

impl Shares {
    /// Divides `free`. `fits` says whether some worker has room for a unit of an application;
    /// a pass trusts the sum for the rest, so what it allots may still not fit in the end. The
    /// units are those that one at a time would give; who comes first in the list has come into
    /// play first, which is not always who was given the first unit.
    pub fn allot(&self, free: Size, fits: impl Fn(AppId, Size) -> bool) -> Vec<Allotment> {
        let in_rounds = self.allot_in_rounds(free, &fits);
        in_rounds.unwrap_or_else(|| self.allot_singly(free, fits))
    }

    /// None if that gave somebody what is somebody else's.
    pub(super) fn allot_in_rounds(
        &self,
        free: Size,
        fits: impl Fn(AppId, Size) -> bool,
    ) -> Option<Vec<Allotment>> {
        let pass = Pass::new(self, free, fits, Rounds::default()).run();
        (!pass.rounds.failed).then(|| pass.allotted())
    }

    pub(super) fn allot_singly(
        &self,
        free: Size,
        fits: impl Fn(AppId, Size) -> bool,
    ) -> Vec<Allotment> {
        Pass::new(self, free, fits, Rounds::none()).run().allotted()
    }

    /// Applications that want more, in the order of their claims.
    pub fn claims(&self) -> impl Iterator<Item = AppId> {
        let tenants = self.queue.iter().map(|(_, index)| &self.tenants[*index]);
        tenants.flat_map(|tenant| {
            let mut turn = Turn::new(tenant);
            std::iter::from_fn(move || turn.next(u64::MAX).map(|(id, _)| id))
        })
    }
}

// === impl Pass ===

impl<'a, F: Fn(AppId, Size) -> bool> Pass<'a, F> {
    fn new(shares: &'a Shares, free: Size, fits: F, rounds: Rounds) -> Self {
        Self {
            shares,
            fits,
            free,
            given: Vec::new(),
            turns: Vec::new(),
            fresh: shares.queue.iter().peekable(),
            again: Soonest::default(),
            now: Place(0),
            rounds,
        }
    }

    /// Gives away all that somebody can use.
    fn run(mut self) -> Self {
        // Without memory executors of any size still grow.
        while self.free.cores > 0 && !self.rounds.failed {
            let Some(ticket) = self.next_tenant() else {
                break;
            };
            self.now = Place(ticket.level());
            let Some(first) = self.next_app(ticket.index, u64::MAX) else {
                continue;
            };
            if !self.give_round(ticket.index, first) {
                self.give(ticket.index, first, 1);
            }
            let turn = &self.turns[ticket.index];
            let place = turn.tenant.place_with(turn.used, self.shares.total);
            self.again.push(Ticket { key: key(place.0, ticket.name()), ..ticket });
        }
        if let Some(next) = self.next_tenant() {
            self.now = Place(next.level());
            self.lacks(Size { cores: 1, memory_bytes: 0 });
        }
        self
    }

    /// Who comes first in a list has come into play first.
    fn allotted(&self) -> Vec<Allotment> {
        let given = self.given.iter().filter(|given| given.units > 0);
        given.map(|given| Allotment { app: given.id, units: given.units }).collect()
    }

    /// Who is owed most of those that may still be able to use something.
    fn next_tenant(&mut self) -> Option<Ticket> {
        let waits = self.fresh.peek().map(|(place, tenant)| key(place.0, *tenant as u64));
        self.again.pop_before(waits).or_else(|| self.enter())
    }

    /// The next tenant comes into play.
    fn enter(&mut self) -> Option<Ticket> {
        let (place, tenant) = *self.fresh.next()?;
        let turn = Turn::new(&self.shares.tenants[tenant]);
        self.rounds.weights += turn.weight();
        self.turns.push(turn);
        Some(Ticket { key: key(place.0, tenant as u64), index: self.turns.len() - 1 })
    }

    /// The application of this tenant whose turn it is, of those below a level that can use a unit.
    /// Who cannot now cannot later.
    fn next_app(&mut self, tenant: usize, below: u64) -> Option<usize> {
        while let Some((id, before)) = self.turns[tenant].next(below) {
            let fresh = match before {
                Some(_) => None,
                None => self.shares.apps.get(&id).map(|app| Given::new(id, app)),
            };
            let Some(given) = fresh.as_ref().or(before.map(|index| &self.given[index])) else {
                continue;
            };
            let unit = given.size_of(1);
            if !self.turns[tenant].allows(unit, given.runs()) {
                continue;
            }
            if !covers(self.free, unit) {
                self.lacks(unit);
                continue;
            }
            let Some(fresh) = fresh else {
                return before;
            };
            if (self.fits)(id, fresh.app.unit.size) {
                self.given.push(fresh);
                return Some(self.given.len() - 1);
            }
        }
        None
    }

    /// Gives units that there are to an application that may have them.
    fn give(&mut self, tenant: usize, index: usize, units: u32) {
        let (turn, given) = (&mut self.turns[tenant], &mut self.given[index]);
        let size = given.size_of(units);
        turn.running += u32::from(!given.runs());
        self.free = minus(self.free, size);
        turn.used = plus(turn.used, size);
        given.used = plus(given.used, size);
        given.units += units;
        if given.units < given.app.wants {
            self.wait(tenant, index);
        }
    }

    /// An application waits for its next turn.
    fn wait(&mut self, tenant: usize, index: usize) {
        let (turn, given) = (&mut self.turns[tenant], &self.given[index]);
        let level = turn.tenant.level_with(given.used, self.shares.total);
        turn.again.push(Ticket { key: key(level.number(), given.id.0), index });
    }
}

// === impl Turn ===

impl<'a> Turn<'a> {
    fn new(tenant: &'a Tenant) -> Self {
        let [running, idle] = &tenant.queues;
        Self {
            tenant,
            used: tenant.used,
            running: tenant.running,
            queues: [running.iter().peekable(), idle.iter().peekable()],
            again: Soonest::default(),
            singly: 0,
        }
    }

    /// The application whose turn it is, if it is below a level, and where it is in the pass if it
    /// has come into play.
    fn next(&mut self, below: u64) -> Option<(AppId, Option<usize>)> {
        let full = self.tenant.rules.running_max.is_some_and(|max| self.running >= max);
        let [running, idle] = &mut self.queues;
        let idle = if full { None } else { idle.peek().map(|key| (**key, 1)) };
        let running = running.peek().map(|key| (**key, 0));
        let fresh = running.into_iter().chain(idle).min();
        let fresh = fresh.filter(|((level, _), _)| level.number() < below);
        let waits = fresh.map_or(key(below, 0), |((level, id), _)| key(level.number(), id.0));
        if let Some(ticket) = self.again.pop_before(Some(waits)) {
            return Some((AppId(ticket.name()), Some(ticket.index)));
        }
        let ((_, id), queue) = fresh?;
        self.queues[queue].next();
        Some((id, None))
    }

    fn allows(&self, size: Size, runs: bool) -> bool {
        let rules = &self.tenant.rules;
        let used = plus(self.used, size);
        rules.cores_max.is_none_or(|max| used.cores <= max)
            && rules.memory_bytes_max.is_none_or(|max| used.memory_bytes <= max)
            && (runs || rules.running_max.is_none_or(|max| self.running < max))
    }
}

// === impl Given ===

impl<'a> Given<'a> {
    fn new(id: AppId, app: &'a App) -> Self {
        Self { id, app, used: app.used, units: 0 }
    }

    fn runs(&self) -> bool {
        self.units > 0 || self.app.runs()
    }

    /// What the next units take: executors of any size take memory once.
    fn size_of(&self, units: u32) -> Size {
        let Size { cores, memory_bytes } = self.app.unit.size;
        let executors = match (self.app.unit.elastic, self.units) {
            (true, 0) => units.min(1),
            (true, _) => 0,
            (false, _) => units,
        };
        Size {
            cores: cores.saturating_mul(units),
            memory_bytes: memory_bytes.saturating_mul(executors.into()),
        }
    }
}
