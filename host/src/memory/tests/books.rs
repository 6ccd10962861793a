//! The region against a plain account of it.

use super::block;
use crate::memory::{BlockId, Lease, Memory};
use offshoot_proto::id::NodeId;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Slots of an executor.
const SLOTS: usize = 3;

/// What may happen, with small numbers.
#[derive(Clone, Debug)]
enum Step {
    Keep(u32, u32, u64),
    Touch(u32, u32),
    Forget(u32, u32),
    Lease(usize, u64),
    GiveBack(usize, u64),
    Map(usize, u32, u32),
    Unmap(usize),
    Snapshots(u64),
    Readers(Vec<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u32, 0..6u32, 0..40u64).prop_map(|(w, m, b)| Step::Keep(w, m, b)),
        2 => (0..4u32, 0..6u32).prop_map(|(w, m)| Step::Touch(w, m)),
        1 => (0..4u32, 0..6u32).prop_map(|(w, m)| Step::Forget(w, m)),
        3 => (0..SLOTS, 0..60u64).prop_map(|(s, b)| Step::Lease(s, b)),
        3 => (0..SLOTS, 0..30u64).prop_map(|(s, b)| Step::GiveBack(s, b)),
        2 => (0..SLOTS, 0..4u32, 0..6u32).prop_map(|(s, w, m)| Step::Map(s, w, m)),
        1 => (0..SLOTS).prop_map(Step::Unmap),
        1 => (0..30u64).prop_map(Step::Snapshots),
        1 => proptest::collection::vec(0..4u32, 0..3).prop_map(Step::Readers),
    ]
}

/// A plain account of what has happened.
struct Books {
    memory: Memory,
    /// Bytes, and how often anything was kept before.
    blocks: BTreeMap<BlockId, (u64, u64)>,
    keeps: u64,
    leases: BTreeMap<usize, u64>,
    /// Who waits for how much, and how often anybody had waited before.
    wanted: BTreeMap<usize, (u64, u64)>,
    waits: u64,
    mapped: BTreeMap<(BlockId, u64), (u64, BTreeSet<usize>)>,
    snapshots: u64,
    readers: BTreeSet<NodeId>,
}

impl Books {
    fn new() -> Self {
        Self {
            memory: Memory::new(100),
            blocks: BTreeMap::new(),
            keeps: 0,
            leases: BTreeMap::new(),
            wanted: BTreeMap::new(),
            waits: 0,
            mapped: BTreeMap::new(),
            snapshots: 0,
            readers: BTreeSet::new(),
        }
    }

    /// Does it, and then what may be done because of it.
    fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
        let mut evicted = Vec::new();
        match step {
            Step::Keep(writer, map, bytes) => {
                self.keep(block(writer, map), bytes, &mut evicted)?;
            }
            Step::Touch(writer, map) => self.memory.touch(block(writer, map)),
            Step::Forget(writer, map) => {
                self.memory.forget(block(writer, map));
                self.blocks.remove(&block(writer, map));
            }
            Step::Lease(slot, bytes) => self.lease(slot, bytes, &mut evicted)?,
            Step::GiveBack(slot, bytes) => {
                self.memory.give_back(slot, bytes);
                self.wanted.remove(&slot);
                self.leases.entry(slot).and_modify(|has| *has = bytes.min(*has));
            }
            Step::Map(slot, writer, map) => self.map(slot, block(writer, map))?,
            Step::Unmap(slot) => self.unmap(slot),
            Step::Snapshots(bytes) => {
                self.snapshots = bytes;
                self.memory.set_snapshots(bytes, &mut evicted);
            }
            Step::Readers(writers) => {
                self.readers = writers.into_iter().map(NodeId).collect();
                self.memory.set_readers(self.readers.clone());
            }
        }
        self.settle(evicted)
    }

    fn keep(
        &mut self,
        id: BlockId,
        bytes: u64,
        evicted: &mut Vec<BlockId>,
    ) -> Result<(), TestCaseError> {
        self.blocks.remove(&id);
        if self.memory.keep(id, bytes, evicted).is_err() {
            prop_assert!(evicted.is_empty());
            return Ok(());
        }
        let must_stay =
            |other: &&BlockId| other.writer == id.writer || self.readers.contains(&other.writer);
        prop_assert_eq!(evicted.iter().find(must_stay), None);
        self.blocks.insert(id, (bytes, self.keeps));
        self.keeps += 1;
        Ok(())
    }

    /// Whoever waits asks for nothing.
    fn lease(
        &mut self,
        slot: usize,
        bytes: u64,
        evicted: &mut Vec<BlockId>,
    ) -> Result<(), TestCaseError> {
        if self.wanted.contains_key(&slot) {
            return Ok(());
        }
        match self.memory.lease(slot, bytes, evicted) {
            Lease::Granted => self.grant(slot, bytes),
            Lease::Waits => {
                self.wanted.insert(slot, (bytes, self.waits));
                self.waits += 1;
            }
            Lease::Refused(refusal) => prop_assert_eq!(refusal.asked, bytes),
        }
        Ok(())
    }

    fn grant(&mut self, slot: usize, bytes: u64) {
        let has = self.leases.entry(slot).or_default();
        *has = bytes.max(*has);
    }

    fn map(&mut self, slot: usize, id: BlockId) -> Result<(), TestCaseError> {
        let kept = self.blocks.get(&id).copied();
        prop_assert_eq!(self.memory.map(slot, id), kept.is_some());
        if let Some((bytes, which)) = kept {
            let new = || (bytes, BTreeSet::new());
            self.mapped.entry((id, which)).or_insert_with(new).1.insert(slot);
        }
        Ok(())
    }

    fn unmap(&mut self, slot: usize) {
        self.memory.unmap(slot);
        self.mapped.retain(|_, (_, slots)| {
            slots.remove(&slot);
            !slots.is_empty()
        });
    }

    fn settle(&mut self, mut evicted: Vec<BlockId>) -> Result<(), TestCaseError> {
        while let Some((slot, lease)) = self.memory.decided(&mut evicted) {
            let wanted = self.wanted.remove(&slot);
            prop_assert!(wanted.is_some(), "slot {} waited for nothing", slot);
            if lease == Lease::Granted {
                self.grant(slot, wanted.map_or(0, |(bytes, _)| bytes));
            }
        }
        for id in evicted {
            prop_assert!(self.blocks.remove(&id).is_some());
        }
        Ok(())
    }

    /// Nothing is given twice, nothing is lost, and whoever waits waits for somebody.
    fn check(&self) -> Result<(), TestCaseError> {
        let kept = self.blocks.values().map(|(bytes, _)| bytes).sum::<u64>();
        prop_assert_eq!(self.memory.kept(), kept);
        let is_kept = |id, which| self.blocks.get(id).is_some_and(|(_, now)| now == which);
        let gone = self.mapped.iter().filter(|((id, which), _)| !is_kept(id, which));
        let gone = gone.map(|(_, (bytes, _))| bytes).sum::<u64>();
        let taken = self.snapshots + kept + self.leases.values().sum::<u64>() + gone;
        prop_assert_eq!(self.memory.free(), 100u64.saturating_sub(taken));
        let holds = self.leases.iter().filter(|(_, has)| **has > 0).map(|(slot, _)| slot);
        let maps = self.mapped.values().flat_map(|(_, slots)| slots);
        let helps = holds.chain(maps).any(|slot| !self.wanted.contains_key(slot));
        prop_assert!(self.wanted.is_empty() || helps, "{:?} wait for nobody", self.wanted);
        Ok(())
    }

    /// The tasks that do not wait end, one after the other, and in each one's place another one
    /// comes at once that asks to map every block, and for a little memory.
    fn turn_over(&mut self) -> Result<(), TestCaseError> {
        for slot in (0..SLOTS).filter(|slot| !self.wanted.contains_key(slot)).collect::<Vec<_>>() {
            self.run(Step::GiveBack(slot, 0))?;
            self.run(Step::Unmap(slot))?;
            for (writer, map) in (0..4).flat_map(|writer| (0..6).map(move |map| (writer, map))) {
                self.run(Step::Map(slot, writer, map))?;
            }
            self.run(Step::Lease(slot, 7))?;
            self.check()?;
        }
        Ok(())
    }

    /// Whose wait began first, as a number that grows.
    fn longest_wait(&self) -> Option<u64> {
        self.wanted.values().map(|(_, wait)| *wait).min()
    }
}

proptest! {
    /// Against a plain account: nothing is given twice, nothing is lost, and only what may go goes.
    #[test]
    fn the_books_balance(steps in proptest::collection::vec(step(), 1..200)) {
        let mut books = Books::new();
        for step in steps {
            books.run(step)?;
            books.check()?;
        }
    }

    /// New tasks keep coming, and take whatever they may; nobody waits for them.
    #[test]
    fn a_wait_ends(steps in proptest::collection::vec(step(), 1..100)) {
        let mut books = Books::new();
        for step in steps {
            books.run(step)?;
        }
        let waits = books.waits;
        while let Some(wait) = books.longest_wait().filter(|wait| *wait < waits) {
            // Once until nobody waits who has what others lack, once for the memory of those who
            // did, and once for the blocks that were mapped until then.
            for _ in 0..3 {
                books.turn_over()?;
            }
            prop_assert_ne!(books.longest_wait(), Some(wait), "{:?}", books.wanted);
        }
    }
}
