//! Who makes room for whom.
#![allow(clippy::unwrap_used)]

use super::{BlockId, Lease, Memory};
use offshoot_proto::id::{AttemptId, NodeId, Partition};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Slots of an executor.
const SLOTS: usize = 3;

fn block(writer: u32, map: u32) -> BlockId {
    BlockId { writer: NodeId(writer), map: Partition(map), attempt: AttemptId(0) }
}

fn kept(memory: &mut Memory, id: BlockId, bytes: u64) -> Option<Vec<BlockId>> {
    let mut evicted = Vec::new();
    memory.keep(id, bytes, &mut evicted).ok().map(|()| evicted)
}

fn leased(memory: &mut Memory, slot: usize, bytes: u64) -> (Lease, Vec<BlockId>) {
    let mut evicted = Vec::new();
    (memory.lease(slot, bytes, &mut evicted), evicted)
}

#[test]
fn what_was_not_used_for_longest_makes_room_for_another_dataset() {
    let mut memory = Memory::new(100);
    for map in 0..3 {
        assert_eq!(kept(&mut memory, block(1, map), 30), Some(vec![]));
    }
    memory.touch(block(1, 0));
    assert_eq!(kept(&mut memory, block(2, 0), 50), Some(vec![block(1, 1), block(1, 2)]));
    assert_eq!(memory.free(), 20);
}

#[test]
fn blocks_that_are_read_go_in_the_order_of_their_last_use() {
    let mut memory = Memory::new(100);
    for map in 0..4 {
        kept(&mut memory, block(1, map), 20);
    }
    for map in [2, 0, 3, 0] {
        memory.touch(block(1, map));
    }
    assert_eq!(kept(&mut memory, block(2, 0), 20), Some(vec![]));
    let mut evicted = Vec::new();
    memory.set_snapshots(100, &mut evicted);
    let order = [block(1, 1), block(1, 2), block(1, 3), block(1, 0), block(2, 0)];
    assert_eq!(evicted, order);
    assert_eq!(memory.kept(), 0);
}

#[test]
fn a_dataset_does_not_drive_out_its_own_blocks_nor_those_that_are_read() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 60);
    assert_eq!(kept(&mut memory, block(1, 1), 60), None, "its own");
    memory.set_readers(BTreeSet::from([NodeId(1)]));
    assert_eq!(kept(&mut memory, block(2, 0), 60), None, "read");
    memory.set_readers(BTreeSet::new());
    assert_eq!(kept(&mut memory, block(2, 0), 60), Some(vec![block(1, 0)]));
    let refusal = memory.keep(block(3, 0), 1 << 30, &mut Vec::new()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "no room for 1 GiB in the executor's memory of 100 bytes: snapshots take 0 bytes, other \
         tasks 0 bytes, kept blocks 0 bytes (raise --executor-memory, or use fewer cores an \
         executor)"
    );
    assert_eq!(memory.kept(), 60, "nothing went for nothing");
}

#[test]
fn tasks_drive_blocks_out_down_to_the_immune_share() {
    let mut memory = Memory::new(100);
    memory.set_snapshots(20, &mut Vec::new());
    for map in 0..8 {
        kept(&mut memory, block(1, map), 10);
    }
    let (lease, evicted) = leased(&mut memory, 0, 40);
    assert_eq!((lease, evicted.len()), (Lease::Granted, 4));
    assert_eq!((memory.kept(), memory.immune(), memory.free()), (40, 40, 0));
    let (lease, _) = leased(&mut memory, 0, 50);
    assert!(matches!(lease, Lease::Refused(refusal) if refusal.blocks == 40), "{lease:?}");
    memory.give_back(0, 10);
    assert_eq!(kept(&mut memory, block(1, 8), 30), Some(vec![]), "blocks borrow what is free");
}

#[test]
fn a_slot_waits_for_others_and_is_refused_when_all_wait() {
    let mut memory = Memory::new(100);
    assert_eq!(leased(&mut memory, 0, 50).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 40).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 0, 70).0, Lease::Waits);
    let (lease, _) = leased(&mut memory, 1, 80);
    assert!(matches!(lease, Lease::Refused(refusal) if refusal.tasks == 50), "{lease:?}");
    assert_eq!(memory.decided(&mut Vec::new()), None);
    memory.give_back(1, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
    assert_eq!((memory.decided(&mut Vec::new()), memory.free()), (None, 30));
}

#[test]
fn when_the_last_who_could_give_back_has_ended_the_youngest_is_refused() {
    let mut memory = Memory::new(100);
    for slot in 0..3 {
        assert_eq!(leased(&mut memory, slot, 33).0, Lease::Granted);
    }
    assert_eq!(leased(&mut memory, 0, 90).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 1, 80).0, Lease::Waits);
    memory.give_back(2, 0);
    let (slot, lease) = memory.decided(&mut Vec::new()).unwrap();
    assert!(slot == 1 && matches!(lease, Lease::Refused(_)), "{slot}: {lease:?}");
    memory.give_back(1, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
}

#[test]
fn what_would_never_fit_is_refused_at_once() {
    let mut memory = Memory::new(100);
    assert_eq!(leased(&mut memory, 1, 40).0, Lease::Granted);
    let (lease, _) = leased(&mut memory, 0, 101);
    assert!(matches!(lease, Lease::Refused(refusal) if refusal.asked == 101), "{lease:?}");
}

#[test]
fn snapshots_have_what_they_need() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 50);
    kept(&mut memory, block(1, 1), 50);
    let mut evicted = Vec::new();
    memory.set_snapshots(60, &mut evicted);
    assert_eq!(evicted, [block(1, 0), block(1, 1)]);
    memory.set_snapshots(200, &mut evicted);
    assert_eq!((memory.free(), memory.immune()), (0, 0));
}

#[test]
fn a_block_that_is_gone_counts_until_nobody_maps_it() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 40);
    kept(&mut memory, block(1, 1), 30);
    for slot in [0, 1] {
        assert!(memory.map(slot, block(1, 0)));
    }
    assert_eq!(memory.free(), 30, "it counts once");
    memory.forget(block(1, 0));
    assert_eq!((memory.kept(), memory.free()), (30, 30));
    memory.unmap(0);
    assert_eq!(memory.free(), 30, "one maps it yet");
    memory.unmap(0);
    memory.unmap(1);
    assert_eq!(memory.free(), 70);
    assert!(!memory.map(0, block(1, 0)), "it is on its way to a file");
    assert_eq!(memory.free(), 70);
}

#[test]
fn a_block_that_is_kept_again_while_it_is_mapped_counts_twice() {
    let mut memory = Memory::new(100);
    let id = block(1, 0);
    kept(&mut memory, id, 30);
    assert!(memory.map(0, id));
    assert_eq!(kept(&mut memory, id, 30), Some(vec![]));
    assert_eq!((memory.kept(), memory.free()), (30, 40), "the old one is there yet");
    assert!(memory.map(1, id));
    assert_eq!(memory.free(), 40, "that is the new one");
    memory.forget(id);
    assert_eq!((memory.kept(), memory.free()), (0, 40));
    memory.unmap(0);
    assert_eq!(memory.free(), 70);
    memory.unmap(1);
    assert_eq!(memory.free(), 100);
}

#[test]
fn blocks_that_nobody_maps_make_room_first() {
    let mut memory = Memory::new(100);
    for map in 0..4 {
        kept(&mut memory, block(1, map), 25);
    }
    assert!(memory.map(0, block(1, 0)));
    assert_eq!(kept(&mut memory, block(2, 0), 25), Some(vec![block(1, 1)]));
    assert_eq!(leased(&mut memory, 1, 25), (Lease::Granted, vec![block(1, 2)]));
    assert_eq!(kept(&mut memory, block(3, 0), 75), None, "what is mapped is no room");
    let mut evicted = Vec::new();
    memory.set_snapshots(75, &mut evicted);
    assert_eq!(evicted, [block(1, 3), block(2, 0), block(1, 0)], "snapshots have what they need");
    assert_eq!(memory.free(), 0);
}

#[test]
fn a_task_waits_for_who_maps_what_made_room_and_is_not_refused_for_it() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 80);
    assert!(memory.map(0, block(1, 0)));
    assert_eq!(leased(&mut memory, 1, 45), (Lease::Waits, vec![block(1, 0)]), "slot 0 ends");
    assert!(!memory.map(2, block(1, 0)), "one who comes now is not waited for");
    assert_eq!(memory.decided(&mut Vec::new()), None);
    memory.unmap(0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
    memory.give_back(1, 0);

    // Who maps it itself does not wait for itself, nor do two for one another.
    kept(&mut memory, block(1, 0), 80);
    assert!(memory.map(0, block(1, 0)) && memory.map(1, block(1, 0)));
    assert_eq!(leased(&mut memory, 0, 30), (Lease::Waits, vec![block(1, 0)]));
    assert_eq!(leased(&mut memory, 1, 30), (Lease::Granted, vec![]));
    memory.give_back(1, 0);
    memory.unmap(1);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
}

#[test]
fn blocks_go_as_soon_as_nothing_else_is_lacking_and_not_before() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 60);
    for slot in [0, 2] {
        assert!(memory.map(slot, block(1, 0)));
        assert_eq!(leased(&mut memory, slot, 15).0, Lease::Granted);
    }
    assert_eq!(leased(&mut memory, 1, 30), (Lease::Waits, vec![]), "leases are lacking, too");
    memory.give_back(0, 0);
    memory.unmap(0);
    let mut evicted = Vec::new();
    assert_eq!(memory.decided(&mut evicted), None);
    assert_eq!(evicted, [block(1, 0)]);
    assert_eq!(leased(&mut memory, 0, 15).0, Lease::Granted);
    assert!(!memory.map(0, block(1, 0)));
    memory.give_back(2, 0);
    memory.unmap(2);
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
}

#[test]
fn a_slot_does_not_wait_for_what_it_maps_itself_while_others_go_on() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 80);
    assert!(memory.map(1, block(1, 0)) && memory.map(2, block(1, 0)));
    assert_eq!(leased(&mut memory, 0, 5).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 30), (Lease::Waits, vec![block(1, 0)]));
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
}

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
    wanted: BTreeMap<usize, u64>,
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
                self.wanted.insert(slot, bytes);
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
            let bytes = self.wanted.remove(&slot);
            prop_assert!(bytes.is_some(), "slot {} waited for nothing", slot);
            if lease == Lease::Granted {
                self.grant(slot, bytes.unwrap_or(0));
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
    /// comes at once that asks to map every block.
    fn turn_over(&mut self) -> Result<(), TestCaseError> {
        for slot in (0..SLOTS).filter(|slot| !self.wanted.contains_key(slot)).collect::<Vec<_>>() {
            self.run(Step::GiveBack(slot, 0))?;
            self.run(Step::Unmap(slot))?;
            for (writer, map) in (0..4).flat_map(|writer| (0..6).map(move |map| (writer, map))) {
                self.run(Step::Map(slot, writer, map))?;
            }
            self.check()?;
        }
        Ok(())
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

    /// New tasks keep coming, and map whatever they may; nobody waits for them.
    #[test]
    fn a_wait_ends(steps in proptest::collection::vec(step(), 1..100)) {
        let mut books = Books::new();
        for step in steps {
            books.run(step)?;
        }
        while !books.wanted.is_empty() {
            let waited = books.wanted.len();
            // Once for the memory that they have, and once for the blocks that they map.
            books.turn_over()?;
            books.turn_over()?;
            prop_assert!(books.wanted.len() < waited, "{:?} wait on", books.wanted);
        }
    }
}
