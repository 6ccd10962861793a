//! Blocks of kept datasets in this executor's memory, and how they leave it.
//!
//! ```text
//!            commit                     make room
//!   file ──► memory ─────────────────► MEMORY: gone             ──► Kept(Gone)
//!     │        │                       MEMORY_AND_DISK: a file  ──► Kept(OnDisk)
//!     │        └─► tasks of this executor, by descriptor; other executors, over QUIC
//!     └──────► stays a file of the worker, when there is no room
//! ```
//!
//! A task writes a block to a file, as it does with shuffle output; memory is taken when its length
//! is known and [`Memory`] has said yes. In memory it has chunks as in a shuffle file, which were
//! not compressed.

use super::files::AppFiles;
use super::slot_task::SlotEvent;
use super::writers::Writers;
use crate::memory::{BlockId, Lease, Memory};
use crate::shuffle_service::{BlockError, BlockKey, BlockSource};
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::block::ShuffleIndex;
use offshoot_proto::executor::{BlockState, KeptBlock};
use offshoot_proto::id::{AttemptId, NodeId, Partition, StageRunId};
use offshoot_proto::stage::StageRun;
use offshoot_sandbox::memory::memory_file;
use rustix::fs::{SealFlags, fcntl_add_seals};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio::task::yield_now;

/// How much of a block is copied before others have their turn.
const PIECE_BYTES: u64 = 1 << 20;

/// The kept blocks of an executor.
#[derive(Debug)]
pub(super) struct Kept {
    files: AppFiles,
    state: Mutex<State>,
    events: mpsc::UnboundedSender<(usize, SlotEvent)>,
    /// Blocks on their way to files: as many as there were in memory, at most.
    leaving: mpsc::UnboundedSender<(BlockId, Arc<InMemory>, Ticket)>,
}

#[derive(Debug)]
struct State {
    memory: Memory,
    blocks: BTreeMap<BlockId, Arc<InMemory>>,
    /// Those that are being written to files, and are read from memory until then.
    leaving: BTreeMap<BlockId, Arc<InMemory>>,
    /// Partitions that made room and were dropped: they go to files the next time, or a dataset
    /// that is larger than the memory would never be complete.
    driven_out: BTreeSet<(NodeId, Partition)>,
    /// Slots whose tasks wait for memory.
    waiting: BTreeMap<usize, oneshot::Sender<Lease>>,
    /// Runs of stages that write what was dropped.
    writers: Writers,
    work: u32,
    /// How often a dataset was dropped, and when each was last, while there is work.
    drops: u64,
    dropped: BTreeMap<NodeId, u64>,
}

/// When work on blocks began that are on the way to memory or files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

/// Work that ends when this goes, as an attempt that is killed does.
struct Working<'a>(&'a Kept);

/// Room for a block that may not come.
struct Room<'a> {
    kept: &'a Kept,
    id: BlockId,
}

/// A block in memory.
#[derive(Debug)]
pub(super) struct InMemory {
    pub(super) file: File,
    pub(super) index: Arc<ShuffleIndex>,
    level: StorageLevel,
    /// Bytes of what was written, if the file begins with them; looked at when somebody asks.
    pub(super) flat: OnceCell<Option<u64>>,
}

// === impl Kept ===

impl Kept {
    pub(super) fn start(
        memory_bytes: u64,
        files: AppFiles,
        events: mpsc::UnboundedSender<(usize, SlotEvent)>,
    ) -> Arc<Self> {
        let (leaving, mut to_write) = mpsc::unbounded_channel();
        let state = Mutex::new(State::new(memory_bytes));
        let kept = Arc::new(Self { files, state, events, leaving });
        let writer = Arc::downgrade(&kept);
        tokio::spawn(async move {
            while let Some((id, block, ticket)) = to_write.recv().await {
                let Some(kept) = writer.upgrade() else { return };
                kept.write_out(id, &block, ticket).await;
            }
        });
        kept
    }

    /// Keeps what an attempt wrote to its file; whether in memory.
    pub(super) async fn commit(
        &self,
        id: BlockId,
        level: StorageLevel,
        index: &ShuffleIndex,
    ) -> io::Result<bool> {
        let ticket = self.begin_work();
        let _working = Working(self);
        let committed = self.commit_block(id, level, index).await;
        if self.is_dropped(id.writer, ticket) {
            self.forget(id);
        }
        committed
    }

    async fn commit_block(
        &self,
        id: BlockId,
        level: StorageLevel,
        index: &ShuffleIndex,
    ) -> io::Result<bool> {
        if level.uses_memory() && self.reserve(id, index.data_bytes) {
            let _room = Room { kept: self, id };
            let block = self.load(id, level, index).await?;
            if self.insert(id, block) {
                self.files.discard_staged(id);
                return Ok(true);
            }
            // Somebody else has the room by now.
        }
        self.files.commit_shuffle(id.writer, id.map, id.attempt, index)?;
        Ok(false)
    }

    /// Takes room in memory, if there is any.
    fn reserve(&self, id: BlockId, bytes: u64) -> bool {
        let mut evicted = Vec::new();
        let mut state = self.state();
        if state.driven_out.contains(&(id.writer, id.map)) {
            return false;
        }
        // What another attempt left was not accepted, or was taken for lost.
        let attempts = BlockId::range(id.writer, id.map.0..=id.map.0);
        let others = state.blocks.range(attempts).map(|(other, _)| *other);
        for other in others.filter(|other| *other != id).collect::<Vec<_>>() {
            state.blocks.remove(&other);
            state.memory.forget(other);
        }
        let kept = state.memory.keep(id, bytes, &mut evicted);
        if let Err(refusal) = &kept {
            tracing::debug!(%refusal, "partition {} of {} goes to disk", id.map, id.writer);
        }
        self.leave(state, &evicted);
        // What is forgotten may be more than what is kept.
        self.settle(self.state());
        kept.is_ok()
    }

    /// Reads an attempt's file into memory.
    async fn load(
        &self,
        id: BlockId,
        level: StorageLevel,
        index: &ShuffleIndex,
    ) -> io::Result<InMemory> {
        let mut file = File::from(memory_file("kept block")?);
        if let Some(staged) = self.files.open_staged(id, index)? {
            copy(&staged, index.data_bytes, &mut file).await?;
        }
        // Slots that read it have the file, too, and could change what others read.
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
        Ok(InMemory { file, index: Arc::new(index.clone()), level, flat: OnceCell::new() })
    }

    fn insert(&self, id: BlockId, block: InMemory) -> bool {
        let mut state = self.state();
        let has_room = state.memory.contains(id);
        if has_room {
            state.blocks.insert(id, Arc::new(block));
        }
        has_room
    }

    /// The block of a dataset, if it is in memory.
    pub(super) fn find(&self, id: BlockId) -> Option<Arc<InMemory>> {
        self.state().find(id)
    }

    /// Those of these outputs that are in memory, by map partition: of a shuffle, none, which costs
    /// the same for a million.
    pub(super) fn find_all(
        &self,
        writer: NodeId,
        outputs: impl Iterator<Item = (usize, AttemptId)>,
    ) -> BTreeMap<usize, Arc<InMemory>> {
        let mut state = self.state();
        let all = BlockId::range(writer, 0..=u32::MAX);
        let is_here = state.blocks.range(all.clone()).next().is_some();
        if !is_here && state.leaving.range(all).next().is_none() {
            return BTreeMap::new();
        }
        let found = outputs.filter_map(|(map, attempt)| {
            let id = BlockId { writer, map: Partition(map as u32), attempt };
            Some((map, state.find(id)?))
        });
        found.collect()
    }

    /// Tasks of this stage may follow.
    pub(super) fn note_writer(&self, stage: &Arc<StageRun>) {
        self.state().writers.note(stage);
    }

    /// Whether what a stage writes was dropped since it began.
    pub(super) fn is_unwanted(&self, run: StageRunId) -> bool {
        self.state().writers.is_unwanted(run)
    }

    /// Forgets a shuffle or dataset, and what is on its way when it has come.
    pub(super) fn drop_dataset(&self, writer: NodeId) {
        self.files.drop_shuffle(writer);
        let mut state = self.state();
        state.writers.drop_output(writer);
        if state.work > 0 {
            state.drops += 1;
            let now = state.drops;
            state.dropped.insert(writer, now);
        }
        let ids = state.blocks.range(BlockId::range(writer, 0..=u32::MAX)).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            state.blocks.remove(&id);
            state.memory.forget(id);
        }
        state.leaving.retain(|id, _| id.writer != writer);
        state.driven_out.retain(|(other, _)| *other != writer);
        self.settle(state);
    }

    /// Forgets a block, wherever it is.
    pub(super) fn forget(&self, id: BlockId) {
        self.files.remove_block(id);
        let mut state = self.state();
        state.blocks.remove(&id);
        state.memory.forget(id);
        self.settle(state);
    }

    /// Blocks are going to come or to be written to files.
    pub(super) fn begin_work(&self) -> Ticket {
        let mut state = self.state();
        state.work += 1;
        Ticket(state.drops)
    }

    /// They have.
    pub(super) fn end_work(&self) {
        let mut state = self.state();
        state.work -= 1;
        if state.work == 0 {
            state.dropped.clear();
        }
    }

    /// Whether a dataset was dropped since some work on it began.
    pub(super) fn is_dropped(&self, writer: NodeId, Ticket(began): Ticket) -> bool {
        self.state().dropped.get(&writer).is_some_and(|when| *when > began)
    }

    /// Which datasets stages here read.
    pub(super) fn set_readers(&self, readers: BTreeSet<NodeId>) {
        self.state().memory.set_readers(readers);
    }

    /// What snapshots take of the memory now.
    pub(super) fn set_snapshots(&self, bytes: u64) {
        let mut evicted = Vec::new();
        let mut state = self.state();
        state.memory.set_snapshots(bytes, &mut evicted);
        self.leave(state, &evicted);
        self.settle(self.state());
    }

    /// Gives a slot so many bytes in all. Waits while others have them that will give them back.
    pub(super) async fn lease(&self, slot: usize, bytes: u64) -> Lease {
        let waiting = {
            let mut evicted = Vec::new();
            let mut state = self.state();
            let lease = state.memory.lease(slot, bytes, &mut evicted);
            let (sender, waiting) = oneshot::channel();
            if lease == Lease::Waits {
                state.waiting.insert(slot, sender);
            }
            self.leave(state, &evicted);
            self.settle(self.state());
            if lease != Lease::Waits {
                return lease;
            }
            waiting
        };
        // Its slot is gone if nobody answers.
        waiting.await.unwrap_or(Lease::Waits)
    }

    /// A slot's task maps a block from now on, until it gives its memory back. False if the block
    /// is on its way out by now, or is another one than was found: then it is read.
    pub(super) fn map(&self, slot: usize, id: BlockId, block: &Arc<InMemory>) -> bool {
        let mut state = self.state();
        let is_kept = state.blocks.get(&id).is_some_and(|kept| Arc::ptr_eq(kept, block));
        is_kept && state.memory.map(slot, id)
    }

    /// A slot's task has ended, or its process has.
    pub(super) fn give_back(&self, slot: usize) {
        let mut state = self.state();
        state.memory.give_back(slot, 0);
        state.memory.unmap(slot);
        state.waiting.remove(&slot);
        self.settle(state);
    }

    /// Memory may have become free: whoever waits for it and need not wait longer goes on.
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let mut evicted = Vec::new();
        while let Some((slot, lease)) = state.memory.decided(&mut evicted) {
            if let Some(waiting) = state.waiting.remove(&slot) {
                // A slot that is gone gives back what it has.
                let _ = waiting.send(lease);
            }
        }
        self.leave(state, &evicted);
    }

    /// Tells the driver.
    pub(super) fn tell(&self, id: BlockId, state: BlockState) {
        let BlockId { writer, map, attempt } = id;
        let block = KeptBlock { writer, map, attempt, state };
        // The core outlives whoever keeps blocks.
        let _ = self.events.send((0, SlotEvent::Kept(vec![block])));
    }

    /// Blocks that have made room are dropped, or go to files.
    fn leave(&self, mut state: MutexGuard<'_, State>, evicted: &[BlockId]) {
        for id in evicted {
            // One that has not come yet goes to its file when it does.
            let Some(block) = state.blocks.remove(id) else { continue };
            if block.level == StorageLevel::Memory {
                state.driven_out.insert((id.writer, id.map));
                self.tell(*id, BlockState::Gone);
                continue;
            }
            state.leaving.insert(*id, block.clone());
            state.work += 1;
            let ticket = Ticket(state.drops);
            // Whoever writes lives as long as this.
            let _ = self.leaving.send((*id, block, ticket));
        }
    }

    /// Writes a block that has made room to a file.
    async fn write_out(&self, id: BlockId, block: &InMemory, ticket: Ticket) {
        let written = if self.is_dropped(id.writer, ticket) {
            Ok(())
        } else {
            self.write_file(id, block).await
        };
        let state = match written {
            Ok(()) => BlockState::OnDisk,
            Err(error) => {
                tracing::warn!(%error, "a kept block could not be written to disk");
                self.files.discard_staged(id);
                BlockState::Gone
            }
        };
        self.state().leaving.remove(&id);
        if self.is_dropped(id.writer, ticket) {
            self.files.remove_block(id);
        } else {
            self.tell(id, state);
        }
        self.end_work();
    }

    async fn write_file(&self, id: BlockId, block: &InMemory) -> io::Result<()> {
        let mut sink = File::from(self.files.shuffle_sink(id.writer, id.map, id.attempt)?);
        copy(&block.file, block.index.data_bytes, &mut sink).await?;
        self.files.commit_shuffle(id.writer, id.map, id.attempt, &block.index)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies the beginning of a file, in turns with whatever else is to be done.
async fn copy(from: &File, length: u64, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES.min(length) as usize];
    let mut at = 0;
    while at < length {
        let count = PIECE_BYTES.min(length - at) as usize;
        from.read_exact_at(&mut buffer[..count], at)?;
        to.write_all(&buffer[..count])?;
        at += count as u64;
        yield_now().await;
    }
    Ok(())
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.end_work();
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut state = self.kept.state();
        if !state.blocks.contains_key(&self.id) {
            state.memory.forget(self.id);
            self.kept.settle(state);
        }
    }
}

// === impl State ===

impl State {
    fn new(memory_bytes: u64) -> Self {
        Self {
            memory: Memory::new(memory_bytes),
            blocks: BTreeMap::new(),
            leaving: BTreeMap::new(),
            driven_out: BTreeSet::new(),
            waiting: BTreeMap::new(),
            writers: Writers::default(),
            work: 0,
            drops: 0,
            dropped: BTreeMap::new(),
        }
    }

    fn find(&mut self, id: BlockId) -> Option<Arc<InMemory>> {
        if let Some(leaving) = self.leaving.get(&id) {
            return Some(leaving.clone());
        }
        let block = self.blocks.get(&id)?.clone();
        self.memory.touch(id);
        Some(block)
    }
}

// === impl BlockSource ===

impl BlockSource for Kept {
    fn index(&self, key: BlockKey) -> Result<Arc<ShuffleIndex>, BlockError> {
        match self.find(key.id()) {
            Some(block) => Ok(block.index.clone()),
            // It may have moved since the driver said where it is.
            None => self.files.index(key.id()).map(Arc::new).map_err(BlockError::from),
        }
    }

    fn open(&self, key: BlockKey) -> Result<(File, PathBuf), BlockError> {
        let path = self.files.data_path(key.id());
        let opened = match self.find(key.id()) {
            Some(block) => block.file.try_clone(),
            None => File::open(&path),
        };
        opened.map(|file| (file, path.clone())).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BlockError::NotFound,
            _ => BlockError::Data { path, source },
        })
    }
}
