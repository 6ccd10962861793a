//! One pass over what is free: unit by unit to whoever is owed most.
//!
//! The queues of [`Shares`] are only read. Whoever is given something in this pass goes on in a
//! heap of the pass, with what it would have then; the others are looked at when it is their turn.

use super::{App, Level, Place, Shares, Tenant, minus, plus};
use offshoot_proto::id::AppId;
use offshoot_proto::tenant::TenantPolicy;
use offshoot_proto::waiting::Size;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, btree_set};
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
    again: BinaryHeap<Reverse<(Level, AppId)>>,
}

struct Pass<'a> {
    shares: &'a Shares,
    free: Size,
    given: BTreeMap<AppId, (usize, Size)>,
    allotted: Vec<Allotment>,
}

// === impl Shares ===

impl Shares {
    /// Divides `free`. `fits` says whether some worker has room for a unit of an application;
    /// a pass trusts the sum for the rest, so what it allots may still not fit in the end.
    pub fn allot(&self, free: Size, fits: impl Fn(AppId, Size) -> bool) -> Vec<Allotment> {
        let mut pass = Pass { shares: self, free, given: BTreeMap::new(), allotted: Vec::new() };
        let mut fresh = self.queue.iter().peekable();
        let mut turns: Vec<Turn<'_>> = Vec::new();
        let mut heap: BinaryHeap<Reverse<(Place, &str, usize)>> = BinaryHeap::new();
        while pass.free.cores > 0 && pass.free.memory_bytes > 0 {
            let waits = fresh.peek().map(|(place, name)| (*place, &**name));
            let again = heap.peek().map(|Reverse((place, name, _))| (*place, *name));
            let first = waits.into_iter().chain(again).min();
            let Some((_, name)) = first else {
                break;
            };
            let index = if first == waits {
                fresh.next();
                let Some(tenant) = self.tenants.get(name) else {
                    continue;
                };
                turns.push(Turn::new(tenant));
                turns.len() - 1
            } else {
                let Some(Reverse((.., index))) = heap.pop() else {
                    break;
                };
                index
            };
            if pass.give_one(&mut turns[index], &fits) {
                let turn = &turns[index];
                heap.push(Reverse((turn.tenant.place_with(turn.used, self.total), name, index)));
            }
        }
        pass.allotted
    }

    /// Applications that want more, in the order of their claims.
    pub fn claims(&self) -> impl Iterator<Item = AppId> {
        let tenants = self.queue.iter().filter_map(|(_, name)| self.tenants.get(name));
        tenants.flat_map(|tenant| {
            let mut turn = Turn::new(tenant);
            std::iter::from_fn(move || turn.next())
        })
    }
}

// === impl Pass ===

impl Pass<'_> {
    /// Gives one unit to an application of this tenant; false if none of them can use one.
    fn give_one(&mut self, turn: &mut Turn<'_>, fits: &impl Fn(AppId, Size) -> bool) -> bool {
        while let Some(id) = turn.next() {
            let Some(app) = self.shares.apps.get(&id) else {
                continue;
            };
            let (units, used) = match self.given.get(&id) {
                Some((index, used)) => (self.allotted[*index].units, *used),
                None => (0, app.used),
            };
            let unit = app.next_unit(units);
            let runs = app.runs() || units > 0;
            if !turn.allows(unit, runs)
                || self.free.cores < unit.cores
                || self.free.memory_bytes < unit.memory_bytes
                || (units == 0 && !fits(id, app.unit.size))
            {
                continue;
            }
            self.free = minus(self.free, unit);
            let used = plus(used, unit);
            let index = match self.given.get(&id) {
                Some((index, _)) => *index,
                None => {
                    self.allotted.push(Allotment { app: id, units: 0 });
                    self.allotted.len() - 1
                }
            };
            self.given.insert(id, (index, used));
            self.allotted[index].units += 1;
            turn.used = plus(turn.used, unit);
            turn.running += u32::from(!runs);
            if self.allotted[index].units < app.wants {
                let level = match turn.tenant.rules.policy {
                    TenantPolicy::Fair => Level::new(used, self.shares.total, 1),
                    TenantPolicy::Fifo => Level::default(),
                };
                turn.again.push(Reverse((level, id)));
            }
            return true;
        }
        false
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
            again: BinaryHeap::new(),
        }
    }

    /// The application whose turn it is.
    fn next(&mut self) -> Option<AppId> {
        let full = self.tenant.rules.running_max.is_some_and(|max| self.running >= max);
        let [running, idle] = &mut self.queues;
        let idle = if full { None } else { idle.peek().map(|key| (**key, 1)) };
        let running = running.peek().map(|key| (**key, 0));
        let again = self.again.peek().map(|Reverse(key)| (*key, 2));
        let ((_, id), from) = [running, idle, again].into_iter().flatten().min()?;
        match from {
            2 => drop(self.again.pop()),
            queue => drop(self.queues[queue].next()),
        }
        Some(id)
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
    /// What the next unit takes after so many: executors of any size take memory once.
    fn next_unit(&self, units: u32) -> Size {
        let memory_bytes = match self.unit.elastic && units > 0 {
            true => 0,
            false => self.unit.size.memory_bytes,
        };
        Size { cores: self.unit.size.cores, memory_bytes }
    }
}
