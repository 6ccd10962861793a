//! Who waits for memory, and who need not.
//!
//! Who was there when the first one began to wait has some of what it lacks, and is the sooner
//! done the sooner it has more: it passes. Who has nothing yet passes only if there is enough
//! beside what the first one has asked for, the immune blocks, and what those have who wait or
//! passed before.

use super::{BlockId, Evict, Keeping, Lease, Mapped, Memory};
use std::collections::BTreeSet;

impl Memory {
    /// A slot is to have `bytes` in all. Blocks above the immune share make room.
    pub fn lease(&mut self, slot: usize, bytes: u64, evicted: &mut Vec<BlockId>) -> Lease {
        let passes = self.may_pass(slot, bytes);
        if passes && self.pass(slot, bytes, evicted) {
            return Lease::Granted;
        }
        let refusal = self.refusal_of(slot, bytes);
        if refusal.is_hopeless() {
            return Lease::Refused(refusal);
        }
        if !passes || self.goes_on(Some(slot)) {
            self.waiting.push_back((slot, bytes));
            self.make_way(evicted);
            return Lease::Waits;
        }
        if self.try_lease(slot, bytes, Evict::All, evicted) {
            return Lease::Granted;
        }
        if self.waiting.is_empty() {
            return Lease::Refused(refusal);
        }
        // Of all that wait one is refused, perhaps not this one.
        self.waiting.push_back((slot, bytes));
        Lease::Waits
    }

    /// A slot gives back all but `bytes`, or its process is gone.
    pub fn give_back(&mut self, slot: usize, bytes: u64) {
        if let Some(index) = self.waiting.iter().position(|(other, _)| *other == slot) {
            self.leave_queue(index);
        }
        let has = self.leases.remove(&slot).unwrap_or(0);
        let left = has.min(bytes);
        self.leased -= has - left;
        if left > 0 {
            self.leases.insert(slot, left);
        } else {
            self.late.remove(&slot);
        }
    }

    /// The next waiting slot that need not wait any longer: it has what it asked for, or nobody is
    /// left who could give it back. To be called until there is none, whenever memory may have
    /// become free.
    pub fn decided(&mut self, evicted: &mut Vec<BlockId>) -> Option<(usize, Lease)> {
        let (slot, bytes) = *self.waiting.front()?;
        if self.try_lease(slot, bytes, Evict::Unmapped, evicted) {
            self.leave_queue(0);
            return Some((slot, Lease::Granted));
        }
        for index in 1..self.waiting.len() {
            let (slot, bytes) = self.waiting[index];
            if self.may_pass(slot, bytes) && self.pass(slot, bytes, evicted) {
                self.leave_queue(index);
                return Some((slot, Lease::Granted));
            }
        }
        let refusal = self.refusal_of(slot, bytes);
        if refusal.is_hopeless() {
            self.leave_queue(0);
            return Some((slot, Lease::Refused(refusal)));
        }
        if self.goes_on(None) {
            self.make_way(evicted);
            if !self.waits_for_itself(slot, bytes) {
                return None;
            }
        }
        for index in 0..self.waiting.len() {
            let (slot, bytes) = self.waiting[index];
            let may = index == 0 || self.was_there(slot);
            if may && self.try_lease(slot, bytes, Evict::All, evicted) {
                self.leave_queue(index);
                return Some((slot, Lease::Granted));
            }
        }
        // Of those who have what others lack, the one that asked last has done the least.
        let last = self.waiting.iter().rposition(|(slot, _)| self.has_lease(*slot)).unwrap_or(0);
        let (slot, bytes) = self.leave_queue(last)?;
        Some((slot, Lease::Refused(self.refusal_of(slot, bytes))))
    }

    fn leave_queue(&mut self, index: usize) -> Option<(usize, u64)> {
        if index == 0 {
            self.late.clear();
        }
        self.waiting.remove(index)
    }

    /// Whether a slot need not wait behind others: it has something of what the first one waits
    /// for, and is the sooner done the sooner it has more; or there is enough beside what that one
    /// will have, and what they have who wait behind it or passed it before.
    fn may_pass(&self, slot: usize, bytes: u64) -> bool {
        let Some(&(first, asked)) = self.waiting.front() else { return true };
        let stays = |other: usize| {
            let waits = self.waiting.iter().any(|(waiting, _)| *waiting == other);
            other != slot && other != first && (waits || self.late.contains(&other))
        };
        let others = self.leases.iter().filter(|(other, _)| stays(**other));
        let others: u64 = others.map(|(_, has)| *has).sum();
        let taken = self.snapshots + self.kept.min(self.immune()) + asked + others;
        self.was_there(slot) || bytes <= self.total.saturating_sub(taken)
    }

    /// Grants a slot what it asks for, if it is free, before those who wait.
    fn pass(&mut self, slot: usize, bytes: u64, evicted: &mut Vec<BlockId>) -> bool {
        let is_late = !self.waiting.is_empty() && !self.was_there(slot);
        let granted = self.try_lease(slot, bytes, Evict::Unmapped, evicted);
        if granted && is_late {
            self.late.insert(slot);
        }
        granted
    }

    /// Whether the first one that waits waits for what this slot has, too.
    fn was_there(&self, slot: usize) -> bool {
        let is_gone = |((id, keeping), mapped): (&(BlockId, Keeping), &Mapped)| {
            mapped.slots.contains(&slot) && !self.is_kept(*id, *keeping)
        };
        !self.late.contains(&slot) && (self.has_lease(slot) || self.mapped.iter().any(is_gone))
    }

    /// If blocks are all that the slot lacks whose turn is next, takes them from what is kept:
    /// those that are mapped, too, which nobody maps anew then. Those that somebody maps who waits
    /// go last: they free nothing before the wait has ended.
    fn make_way(&mut self, evicted: &mut Vec<BlockId>) {
        let Some(&(slot, bytes)) = self.waiting.front() else { return };
        if self.lacks_soon(slot, bytes) > self.kept.saturating_sub(self.immune()) {
            return;
        }
        let mapped = self.mapped.iter().filter(|(_, mapped)| self.is_of_waiting(mapped));
        let waiting = mapped.map(|((id, _), _)| *id).collect::<BTreeSet<_>>();
        self.evict(self.lacks_soon(slot, bytes), Evict::Unmapped, |_| true, evicted);
        let may_go = |id: &BlockId| !waiting.contains(id);
        self.evict(self.lacks_soon(slot, bytes), Evict::All, may_go, evicted);
        self.evict(self.lacks_soon(slot, bytes), Evict::All, |_| true, evicted);
    }

    /// Bytes that a slot lacks even when nobody maps any more what is not kept.
    fn lacks_soon(&self, slot: usize, bytes: u64) -> u64 {
        let has = self.leases.get(&slot).copied().unwrap_or(0);
        bytes.saturating_sub(has).saturating_sub(self.soon_free())
    }

    /// Whether all that stands in a waiting slot's way are blocks that it maps itself, or others
    /// that wait: none of them ends before it.
    fn waits_for_itself(&self, slot: usize, bytes: u64) -> bool {
        let ends = |((id, keeping), mapped): (&(BlockId, Keeping), &Mapped)| {
            !self.is_kept(*id, *keeping) && !self.is_of_waiting(mapped)
        };
        self.lacks_soon(slot, bytes) == 0 && !self.mapped.iter().any(ends)
    }

    fn is_of_waiting(&self, mapped: &Mapped) -> bool {
        self.waiting.iter().any(|(slot, _)| mapped.slots.contains(slot))
    }

    /// Whether a slot other than this one has memory, or maps blocks, and does not wait: it will
    /// give it back.
    fn goes_on(&self, but: Option<usize>) -> bool {
        let waits = |slot: usize| self.waiting.iter().any(|(other, _)| *other == slot);
        let holders = self.leases.iter().filter(|(_, has)| **has > 0).map(|(slot, _)| *slot);
        let mappers = self.mapped.values().flat_map(|mapped| mapped.slots.iter().copied());
        holders.chain(mappers).filter(|slot| Some(*slot) != but).any(|slot| !waits(slot))
    }

    fn has_lease(&self, slot: usize) -> bool {
        self.leases.get(&slot).is_some_and(|has| *has > 0)
    }
}
