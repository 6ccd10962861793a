//! One pass over what is free: unit by unit to whoever is owed most.
//!
//! The queues of [`Shares`] are only read. Whoever is given something in this pass goes on in a
//! heap of the pass, with what it would have then; the others are looked at when it is their turn.

mod soonest;

use super::{App, Level, Place, Shares, Tenant, covers, minus, plus};
use offshoot_proto::id::AppId;
use offshoot_proto::waiting::Size;
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

type Queue<'a> = Peekable<btree_set::Iter<'a, (Level, AppId)>>;

/// A tenant that has had its turn in this pass.
struct Turn<'a> {
    tenant: &'a Tenant,
    used: Size,
    running: u32,
    /// Those that have not been looked at: with executors, and without.
    queues: [Queue<'a>; 2],
    /// Those that were given something and want more.
    again: Soonest,
}

/// An application that was given something.
struct Given<'a> {
    app: &'a App,
    used: Size,
}

struct Pass<'a> {
    shares: &'a Shares,
    free: Size,
    /// Beside each other.
    given: Vec<Given<'a>>,
    allotted: Vec<Allotment>,
}

// === impl Shares ===

impl Shares {
    /// Divides `free`. `fits` says whether some worker has room for a unit of an application;
    /// a pass trusts the sum for the rest, so what it allots may still not fit in the end.
    pub fn allot(&self, free: Size, fits: impl Fn(AppId, Size) -> bool) -> Vec<Allotment> {
        let mut pass = Pass { shares: self, free, given: Vec::new(), allotted: Vec::new() };
        let mut fresh = self.queue.iter().copied().peekable();
        let mut turns: Vec<Turn<'_>> = Vec::new();
        let mut again = Soonest::default();
        // Without memory executors of any size still grow.
        while pass.free.cores > 0 {
            let waits = fresh.peek().map(|(place, tenant)| key(place.0, *tenant as u64));
            let ticket = match again.pop_before(waits) {
                Some(ticket) => ticket,
                None => {
                    let Some((place, tenant)) = fresh.next() else {
                        break;
                    };
                    turns.push(Turn::new(&self.tenants[tenant]));
                    Ticket { key: key(place.0, tenant as u64), index: turns.len() - 1 }
                }
            };
            if let Some(place) = pass.give_one(&mut turns[ticket.index], &fits) {
                again.push(Ticket { key: key(place.0, ticket.key as u64), ..ticket });
            }
        }
        pass.allotted
    }

    /// Applications that want more, in the order of their claims.
    pub fn claims(&self) -> impl Iterator<Item = AppId> {
        let tenants = self.queue.iter().map(|(_, index)| &self.tenants[*index]);
        tenants.flat_map(|tenant| {
            let mut turn = Turn::new(tenant);
            std::iter::from_fn(move || turn.next().map(|(id, _)| id))
        })
    }
}

// === impl Pass ===

impl<'a> Pass<'a> {
    /// Gives one unit to an application of this tenant. Returns where the tenant stands then; none
    /// if none of its applications can use a unit.
    fn give_one(
        &mut self,
        turn: &mut Turn<'a>,
        fits: &impl Fn(AppId, Size) -> bool,
    ) -> Option<Place> {
        while let Some((id, before)) = turn.next() {
            let app = match before {
                Some(index) => self.given[index].app,
                None => match self.shares.apps.get(&id) {
                    Some(app) => app,
                    None => continue,
                },
            };
            let unit = app.next_unit(before.is_some());
            let runs = app.runs() || before.is_some();
            if !turn.allows(unit, runs)
                || !covers(self.free, unit)
                || (before.is_none() && !fits(id, app.unit.size))
            {
                continue;
            }
            let index = before.unwrap_or_else(|| {
                self.given.push(Given { app, used: app.used });
                self.allotted.push(Allotment { app: id, units: 0 });
                self.given.len() - 1
            });
            self.free = minus(self.free, unit);
            let given = &mut self.given[index];
            given.used = plus(given.used, unit);
            turn.used = plus(turn.used, unit);
            turn.running += u32::from(!runs);
            let allotment = &mut self.allotted[index];
            allotment.units += 1;
            if allotment.units < app.wants {
                let level = turn.tenant.level_with(given.used, self.shares.total);
                turn.again.push(Ticket { key: key(level.number(), id.0), index });
            }
            return Some(turn.tenant.place_with(turn.used, self.shares.total));
        }
        None
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
        }
    }

    /// The application whose turn it is, and where its part of the pass is if it has one.
    fn next(&mut self) -> Option<(AppId, Option<usize>)> {
        let full = self.tenant.rules.running_max.is_some_and(|max| self.running >= max);
        let [running, idle] = &mut self.queues;
        let idle = if full { None } else { idle.peek().map(|key| (**key, 1)) };
        let running = running.peek().map(|key| (**key, 0));
        let fresh = running.into_iter().chain(idle).min();
        let waits = fresh.map(|((level, id), _)| key(level.number(), id.0));
        if let Some(ticket) = self.again.pop_before(waits) {
            return Some((AppId(ticket.key as u64), Some(ticket.index)));
        }
        let ((_, id), queue) = fresh?;
        self.queues[queue].next();
        Some((id, None))
    }

    fn allows(&self, unit: Size, runs: bool) -> bool {
        let rules = &self.tenant.rules;
        let used = plus(self.used, unit);
        rules.cores_max.is_none_or(|max| used.cores <= max)
            && rules.memory_bytes_max.is_none_or(|max| used.memory_bytes <= max)
            && (runs || rules.running_max.is_none_or(|max| self.running < max))
    }
}

// === impl App ===

impl App {
    /// What the next unit takes: executors of any size take memory once.
    fn next_unit(&self, has_one: bool) -> Size {
        let memory_bytes = match self.unit.elastic && has_one {
            true => 0,
            false => self.unit.size.memory_bytes,
        };
        Size { cores: self.unit.size.cores, memory_bytes }
    }
}
