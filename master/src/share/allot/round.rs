//! Many units at once: a tenant's applications climb to one level together.
//!
//! ```text
//!   level │ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─  bar      The tenant whose turn it is gives each application
//!         │  █     █        █            that is below the bar all units that begin below it.
//!         │  █     █  ░     █            One by one they would have come in another order, but
//!         │  ░  ░  ░  ░     ░            to the same end. Others catch up when it is their turn.
//!         └──a──b──c──d─────e──
//! ```
//!
//! That is what one unit at a time would have given as long as nobody misses what a round has
//! taken: until all other tenants stand where rounds have brought somebody, everybody who can use
//! a unit must find one. So the rounds of all tenants together take a third of what is free, and
//! none brings its tenant much higher than they would all stand then. Should somebody miss
//! something all the same, the pass is made anew without rounds.
//!
//! Near the end, at a quota and at a guarantee rounds get small; then units are given one by one.

use super::{Given, Pass, Turn};
use crate::share::level::{Bar, least_part, part};
use crate::share::{Place, covers, plus};
use offshoot_proto::id::AppId;
use offshoot_proto::tenant::TenantPolicy;
use offshoot_proto::waiting::Size;

/// A round of each tenant in play takes about a third of what is free: the rest is for those who
/// catch up. With half of it passes in which all are alike had to be made anew, if rarely.
const PART: u64 = 3;

/// What rounds have done in a pass.
#[derive(Default)]
pub(super) struct Rounds {
    /// There are none.
    none: bool,
    /// Of all tenants in play.
    pub(super) weights: u64,
    /// The highest place that a round has brought a tenant to.
    ahead: Option<Place>,
    /// What rounds have given, at least those to tenants that are ahead of others.
    taken: Size,
    /// Somebody misses what a round has given to somebody else.
    pub(super) failed: bool,
}

// === impl Rounds ===

impl Rounds {
    pub(super) fn none() -> Self {
        Self { none: true, ..Self::default() }
    }
}

// === impl Pass ===

impl<F: Fn(AppId, Size) -> bool> Pass<'_, F> {
    /// Somebody could use so much, which is not free. It may be that rounds have taken it, unless
    /// everybody stands as high as they have brought anybody.
    pub(super) fn lacks(&mut self, unit: Size) {
        let is_behind = Some(self.now) <= self.rounds.ahead;
        self.rounds.failed |= is_behind && covers(plus(self.free, self.rounds.taken), unit);
    }

    /// Gives a round to the tenant whose turn it is, which begins with this application. Returns
    /// whether it did.
    pub(super) fn give_round(&mut self, tenant: usize, first: usize) -> bool {
        let turn = &mut self.turns[tenant];
        if self.rounds.none || turn.singly > 0 {
            turn.singly = turn.singly.saturating_sub(1);
            return false;
        }
        let Some((climb, place_max)) = self.climb(tenant, first) else {
            self.turns[tenant].singly = self.turns[tenant].apps();
            return false;
        };
        let running = self.turns[tenant].running;
        let (round, sum) = self.round(tenant, first, climb);
        self.turns[tenant].running = running;
        let turn = &mut self.turns[tenant];
        let used = plus(turn.used, sum);
        let place = turn.tenant.place_with(used, self.shares.total);
        // Nothing: who has very much more than all there is stands where levels end.
        let is_wrong = sum == Size::default() || !covers(self.free, plus(sum, sum));
        if is_wrong || !turn.allows(sum, true) || place > place_max {
            turn.singly = round.len();
            round[1..].iter().for_each(|(index, _)| self.wait(tenant, *index));
            return false;
        }
        round.into_iter().for_each(|(index, units)| self.give(tenant, index, units));
        let rounds = &mut self.rounds;
        if Some(self.now) > rounds.ahead {
            // All others have caught up.
            rounds.taken = Size::default();
        }
        rounds.taken = plus(rounds.taken, sum);
        rounds.ahead = rounds.ahead.max(Some(place));
        true
    }

    /// How far each application of a tenant may climb, if that is as much as a unit, and the place
    /// that the tenant may have then. Tenants that stand in between come into play.
    fn climb(&mut self, tenant: usize, first: usize) -> Option<(u64, Place)> {
        let total = self.shares.total;
        let unit = self.given[first].size_of(1);
        let has_memory = unit.memory_bytes > 0;
        let unit = part(unit, total).max(1);
        let free = least_part(self.free, total, has_memory) / PART;
        let turn = &self.turns[tenant];
        let room = turn.climb_max(total, has_memory);
        let (weight, apps) = (turn.weight(), turn.apps() as u64);
        loop {
            let climb = (free * weight / self.rounds.weights).min(room) / apps;
            if climb < unit {
                return None;
            }
            let step = (free << 10) / self.rounds.weights;
            match self.fresh.peek() {
                Some((place, _)) if place.0 < self.now.0 + step => {
                    let ticket = self.enter()?;
                    self.again.push(ticket);
                }
                _ => return Some((climb, Place(self.now.0 + step + step / 2))),
            }
        }
    }

    /// How many units which applications are given that climb so far, and the size of all.
    fn round(&mut self, tenant: usize, first: usize, climb: u64) -> (Vec<(usize, u32)>, Size) {
        let total = self.shares.total;
        let to = part(self.given[first].used, total) + climb;
        let bar = Bar::at(to, total);
        // With `Fifo` nobody else has a turn before the first has all that it wants.
        let below = match self.turns[tenant].tenant.rules.policy {
            TenantPolicy::Fair => to << 10,
            TenantPolicy::Fifo => 0,
        };
        let (mut round, mut sum, mut next) = (Vec::new(), Size::default(), Some(first));
        while let Some(index) = next {
            let given = &self.given[index];
            let units = given.units_below(&bar);
            self.turns[tenant].running += u32::from(!given.runs());
            sum = plus(sum, given.size_of(units));
            round.push((index, units));
            next = self.next_app(tenant, below);
        }
        (round, sum)
    }
}

// === impl Turn ===

impl Turn<'_> {
    pub(super) fn weight(&self) -> u64 {
        self.tenant.rules.weight.max(1).into()
    }

    /// Applications that a round may be for, at most.
    fn apps(&self) -> usize {
        match self.tenant.rules.policy {
            TenantPolicy::Fair => self.tenant.queues.iter().map(|queue| queue.len()).sum(),
            TenantPolicy::Fifo => 1,
        }
    }

    /// Half the way to the next thing that changes what it is given: a quota or its guarantee.
    fn climb_max(&self, total: Size, has_memory: bool) -> u64 {
        let room = self.tenant.room_with(self.used);
        let below = self.tenant.guaranteed.checked_sub(part(self.used, total));
        let below = below.filter(|below| *below > 0).unwrap_or(u64::MAX);
        below.min(least_part(room, total, has_memory)) / 2
    }
}

// === impl Given ===

impl Given<'_> {
    /// Units that it wants and that begin below the bar.
    fn units_below(&self, bar: &Bar) -> u32 {
        let first = self.size_of(1);
        let next = self.size_of(2).memory_bytes - first.memory_bytes;
        let to = |used: u64, unit: u64, bar: u64| bar.saturating_sub(used).div_ceil(unit.max(1));
        let cores = to(self.used.cores.into(), first.cores.into(), bar.cores);
        let memory = match (first.memory_bytes, next) {
            (0, _) => u64::MAX,
            (once, 0) if self.used.memory_bytes + once >= bar.memory_bytes => 1,
            (_, 0) => u64::MAX,
            (_, each) => to(self.used.memory_bytes, each, bar.memory_bytes),
        };
        let left = u64::from(self.app.wants - self.units);
        u32::try_from(cores.min(memory).min(left)).unwrap_or(u32::MAX)
    }
}
