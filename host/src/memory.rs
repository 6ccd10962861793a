//! The memory of an executor, as one region that running tasks and kept blocks borrow from.
//!
//! ```text
//!   total = executor-memory
//!   ├── snapshots   what forks start from: whatever they need
//!   ├── tasks       leases of the slots, up to all that is left but the immune share of blocks
//!   └── blocks      up to all that is free; above the immune share they make room for tasks
//! ```
//!
//! Blocks make room in the order in which they were used last. A block never drives out another of
//! its own dataset, nor of one that a task here reads: a dataset that is larger than the memory
//! would only drive out what is about to be read.
//!
//! A block that is gone counts until the last task that maps it has ended. To drive out what is
//! mapped therefore frees nothing for now: blocks that are not go first, and a task waits for
//! those that map the others; but none is refused because of them. What it waits for is gone from
//! the moment on in which nothing else is lacking: if tasks to come mapped it too, the wait could
//! last as long as there are any. For the same reason what the first one that waits has asked for
//! is kept for it: tasks to come get what is left beside that, those before it all that is free.
//!
//! This decides what is kept and when a task waits, never what a task may use: that is fixed by its
//! job, so that every attempt computes the same.

mod queue;
mod refusal;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;

use core::ops::RangeInclusive;
use offshoot_proto::id::{AttemptId, NodeId, Partition};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One part in so many of what snapshots leave is the blocks' own: tasks do not drive them out
/// below it. Half, as Spark's `spark.memory.storageFraction` has it.
const IMMUNE_PART: u64 = 2;

/// A block of a kept dataset, as an attempt computed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockId {
    /// The dataset.
    pub writer: NodeId,
    /// Which partition.
    pub map: Partition,
    /// Who computed it.
    pub attempt: AttemptId,
}

/// Who has how much of the region.
#[derive(Debug)]
pub struct Memory {
    total: u64,
    snapshots: u64,
    /// By slot.
    leases: BTreeMap<usize, u64>,
    leased: u64,
    /// Slots whose tasks stand still until there is room, the first one first.
    waiting: VecDeque<(usize, u64)>,
    /// Slots that had nothing when the first one began to wait, and have something now.
    late: BTreeSet<usize>,
    blocks: BTreeMap<BlockId, Block>,
    kept: u64,
    /// By when they were used last.
    uses: BTreeMap<u64, BlockId>,
    next_use: u64,
    /// Datasets that stages here read.
    readers: BTreeSet<NodeId>,
    /// Blocks that tasks map, kept or not any more.
    mapped: BTreeMap<(BlockId, Keeping), Mapped>,
    /// Of them, bytes of those that are not kept any more.
    lingering: u64,
}

/// One time that a block was kept. If it is kept again, that is other memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Keeping(u64);

#[derive(Debug)]
struct Mapped {
    bytes: u64,
    slots: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    bytes: u64,
    used: u64,
    keeping: Keeping,
}

/// Which blocks make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evict {
    /// Those that nobody maps: there is room at once.
    Unmapped,
    /// Those that are mapped, too: there is room when who maps them has ended.
    All,
}

/// The answer to a slot that asks for memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It has as much as it asked for.
    Granted,
    /// It has to wait; [`Memory::decided`] says how long.
    Waits,
    /// Waiting would not help.
    Refused(Refusal),
}

// === impl BlockId ===

impl BlockId {
    /// Of every attempt at these partitions of a dataset.
    pub fn range(writer: NodeId, maps: RangeInclusive<u32>) -> RangeInclusive<Self> {
        let id = |map, attempt| Self { writer, map: Partition(map), attempt: AttemptId(attempt) };
        id(*maps.start(), 0)..=id(*maps.end(), u64::MAX)
    }
}

// === impl Memory ===

impl Memory {
    /// A region of so many bytes.
    pub fn new(total: u64) -> Self {
        Self {
            total,
            snapshots: 0,
            leases: BTreeMap::new(),
            leased: 0,
            waiting: VecDeque::new(),
            late: BTreeSet::new(),
            blocks: BTreeMap::new(),
            kept: 0,
            uses: BTreeMap::new(),
            next_use: 0,
            readers: BTreeSet::new(),
            mapped: BTreeMap::new(),
            lingering: 0,
        }
    }

    /// Bytes that nobody has.
    fn free(&self) -> u64 {
        self.total.saturating_sub(self.snapshots + self.leased + self.kept + self.lingering)
    }

    /// Bytes that nobody is to have for long.
    fn soon_free(&self) -> u64 {
        self.total.saturating_sub(self.snapshots + self.leased + self.kept)
    }

    /// Bytes of all blocks.
    #[cfg(test)]
    fn kept(&self) -> u64 {
        self.kept
    }

    /// The most that blocks have for themselves.
    fn immune(&self) -> u64 {
        self.total.saturating_sub(self.snapshots) / IMMUNE_PART
    }

    /// Notes what snapshots take now. Blocks make room for them, the immune ones too.
    pub fn set_snapshots(&mut self, bytes: u64, evicted: &mut Vec<BlockId>) {
        self.snapshots = bytes;
        let taken = self.snapshots + self.leased + self.kept + self.lingering;
        self.evict(taken.saturating_sub(self.total), Evict::Unmapped, |_| true, evicted);
        let taken = self.snapshots + self.leased + self.kept;
        self.evict(taken.saturating_sub(self.total), Evict::All, |_| true, evicted);
    }

    /// Keeps a block, if there is room or others make it, and if it takes nothing that somebody
    /// waits for. On a refusal nothing has changed.
    pub fn keep(
        &mut self,
        id: BlockId,
        bytes: u64,
        evicted: &mut Vec<BlockId>,
    ) -> Result<(), Refusal> {
        self.forget(id);
        let asked = self.waiting.iter().map(|(_, asked)| *asked).max().unwrap_or(0);
        let blocks = (self.kept + bytes).min(self.immune());
        if asked > self.total.saturating_sub(self.snapshots + blocks) {
            return Err(self.refusal(bytes, 0, self.kept));
        }
        let lacking = bytes.saturating_sub(self.free());
        if lacking > 0 {
            let readers = self.readers.clone();
            let may_go =
                |other: &BlockId| other.writer != id.writer && !readers.contains(&other.writer);
            let movable = self.unmapped(may_go);
            if lacking > movable {
                return Err(self.refusal(bytes, 0, self.kept - movable));
            }
            self.evict(lacking, Evict::Unmapped, may_go, evicted);
        }
        let used = self.next_use;
        self.next_use += 1;
        self.blocks.insert(id, Block { bytes, used, keeping: Keeping(used) });
        self.uses.insert(used, id);
        self.kept += bytes;
        Ok(())
    }

    /// A block is read.
    pub fn touch(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.get_mut(&id) {
            self.uses.remove(&block.used);
            block.used = self.next_use;
            self.uses.insert(block.used, id);
            self.next_use += 1;
        }
    }

    /// Whether there is room for a block that was kept.
    pub fn contains(&self, id: BlockId) -> bool {
        self.blocks.contains_key(&id)
    }

    /// A block is not there any more.
    pub fn forget(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.remove(&id) {
            self.uses.remove(&block.used);
            self.kept -= block.bytes;
            let mapped = self.mapped.get(&(id, block.keeping));
            self.lingering += mapped.map_or(0, |mapped| mapped.bytes);
        }
    }

    /// The task of a slot maps a block, until [`unmap`](Self::unmap). False if it may not, because
    /// the block is not kept any more: somebody may wait for those who have mapped it.
    #[must_use]
    pub fn map(&mut self, slot: usize, id: BlockId) -> bool {
        let Some(&Block { bytes, keeping, .. }) = self.blocks.get(&id) else { return false };
        let new = || Mapped { bytes, slots: BTreeSet::new() };
        self.mapped.entry((id, keeping)).or_insert_with(new).slots.insert(slot);
        true
    }

    /// The task of a slot has ended, or its process is gone.
    pub fn unmap(&mut self, slot: usize) {
        let Self { mapped, blocks, lingering, .. } = self;
        mapped.retain(|(id, keeping), Mapped { bytes, slots }| {
            let is_last = slots.remove(&slot) && slots.is_empty();
            if is_last && blocks.get(id).is_none_or(|block| block.keeping != *keeping) {
                *lingering -= *bytes;
            }
            !is_last
        });
    }

    fn is_kept(&self, id: BlockId, keeping: Keeping) -> bool {
        self.blocks.get(&id).is_some_and(|block| block.keeping == keeping)
    }

    fn is_mapped(&self, id: BlockId, block: &Block) -> bool {
        self.mapped.contains_key(&(id, block.keeping))
    }

    /// Bytes of blocks that may go and that nobody maps.
    fn unmapped(&self, may_go: impl Fn(&BlockId) -> bool) -> u64 {
        let all = self.blocks.iter();
        let movable = all.filter(|(id, block)| may_go(id) && !self.is_mapped(**id, block));
        movable.map(|(_, block)| block.bytes).sum()
    }

    /// Stages here read these datasets from now on, and no others.
    pub fn set_readers(&mut self, readers: BTreeSet<NodeId>) {
        self.readers = readers;
    }

    fn try_lease(
        &mut self,
        slot: usize,
        bytes: u64,
        evict: Evict,
        evicted: &mut Vec<BlockId>,
    ) -> bool {
        let has = self.leases.get(&slot).copied().unwrap_or(0);
        let more = bytes.saturating_sub(has);
        let borrowed = self.kept.saturating_sub(self.immune());
        let (lacking, movable) = match evict {
            Evict::Unmapped => {
                let lacking = more.saturating_sub(self.free());
                // To add them up takes a look at each.
                let unmapped = if lacking > 0 { self.unmapped(|_| true) } else { 0 };
                (lacking, borrowed.min(unmapped))
            }
            Evict::All => (more.saturating_sub(self.soon_free()), borrowed),
        };
        if lacking > movable {
            return false;
        }
        self.evict(lacking, evict, |_| true, evicted);
        self.leases.insert(slot, has + more);
        self.leased += more;
        true
    }

    fn evict(
        &mut self,
        bytes: u64,
        evict: Evict,
        may_go: impl Fn(&BlockId) -> bool,
        evicted: &mut Vec<BlockId>,
    ) {
        let mut freed = 0;
        let mut going = Vec::new();
        let goes = |id: &&BlockId| {
            may_go(id) && (evict == Evict::All || !self.is_mapped(**id, &self.blocks[*id]))
        };
        for id in self.uses.values().filter(goes) {
            if freed >= bytes {
                break;
            }
            freed += self.blocks[id].bytes;
            going.push(*id);
        }
        for id in going {
            self.forget(id);
            evicted.push(id);
        }
    }

    fn refusal_of(&self, slot: usize, bytes: u64) -> Refusal {
        let has = self.leases.get(&slot).copied().unwrap_or(0);
        self.refusal(bytes, has, self.kept.min(self.immune()))
    }

    fn refusal(&self, asked: u64, has: u64, blocks: u64) -> Refusal {
        let (total, snapshots) = (self.total, self.snapshots);
        Refusal { asked, total, snapshots, tasks: self.leased - has, blocks }
    }
}
