//! Blocks of kept datasets in this executor's memory, and how they leave it.
//!
//! ```text
//!            commit                     make room
//!   sink ──► in memory ──────────────► MEMORY: gone             ──► Kept(Gone)
//!      │         │                     MEMORY_AND_DISK: a file  ──► Kept(OnDisk)
//!      │         └─► tasks of this executor, by descriptor; other executors, over QUIC
//!      └───────► a file of the worker, when there is no room
//! ```
//!
//! A block is a memory file with chunks as in a shuffle file, not compressed. [`Memory`] decides
//! which stay; this moves the bytes.

use super::files::{AppFiles, check_index};
use super::slot_task::SlotEvent;
use super::writers::Writers;
use crate::memory::{BlockId, Lease, Memory};
use crate::shuffle_service::{BlockError, BlockKey, BlockSource};
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::block::ShuffleIndex;
use offshoot_proto::executor::{BlockState, KeptBlock};
use offshoot_proto::id::{NodeId, StageRunId};
use offshoot_proto::stage::StageRun;
use offshoot_sandbox::memory::memory_file;
use rustix::fs::{SealFlags, fcntl_add_seals};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

/// How much of a block is copied to a file before others have their turn.
const PIECE_BYTES: u64 = 4 << 20;

/// The kept blocks of an executor.
#[derive(Debug)]
pub(super) struct Kept {
    files: AppFiles,
    state: Mutex<State>,
    events: mpsc::UnboundedSender<(usize, SlotEvent)>,
}

#[derive(Debug)]
struct State {
    memory: Memory,
    blocks: BTreeMap<BlockId, Arc<InMemory>>,
    /// The largest block of each dataset so far: what its next one may need.
    largest: BTreeMap<NodeId, u64>,
    /// Slots whose tasks wait for memory.
    waiting: BTreeMap<usize, oneshot::Sender<Lease>>,
    /// Datasets of which blocks are on the way to here or to files.
    work: BTreeMap<NodeId, Work>,
    writers: Writers,
}

/// How much of it, and whether the dataset was dropped meanwhile.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    left: u32,
    dropped: bool,
}

/// Ends work on a dataset when it goes, as an attempt that is killed does, too.
struct Working<'a> {
    kept: &'a Arc<Kept>,
    writer: NodeId,
}

/// A block in memory.
#[derive(Debug)]
pub(super) struct InMemory {
    pub(super) file: File,
    pub(super) index: Arc<ShuffleIndex>,
    level: StorageLevel,
}

// === impl Kept ===

impl Kept {
    pub(super) fn new(
        memory_bytes: u64,
        files: AppFiles,
        events: mpsc::UnboundedSender<(usize, SlotEvent)>,
    ) -> Self {
        let memory = Memory::new(memory_bytes);
        let (blocks, largest, waiting, work, writers) = Default::default();
        let state = State { memory, blocks, largest, waiting, work, writers };
        Self { files, state: Mutex::new(state), events }
    }

    /// Where an attempt writes a block, if that is memory and there may be room for it.
    pub(super) fn sink(&self, level: StorageLevel, writer: NodeId) -> io::Result<Option<File>> {
        let state = self.state();
        let expected = state.largest.get(&writer).copied().unwrap_or(1);
        let has_room = state.memory.free() >= expected || state.memory.kept() >= expected;
        if level.uses_memory() && has_room {
            return Ok(Some(memory_file("kept block")?.into()));
        }
        Ok(None)
    }

    /// Keeps what an attempt wrote to a [`sink`](Self::sink); whether in memory.
    pub(super) async fn commit(
        self: &Arc<Self>,
        id: BlockId,
        level: StorageLevel,
        file: File,
        index: &ShuffleIndex,
    ) -> io::Result<bool> {
        // Its slot has the file, too, and could change what others read.
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
        let bytes = file.metadata()?.len();
        check_index(index, bytes)?;
        let block = Arc::new(InMemory { file, index: Arc::new(index.clone()), level });
        if self.keep(id, bytes, &block) {
            return Ok(true);
        }
        let _working = Working::new(self, id.writer);
        write(&self.files, id, &block).await?;
        Ok(false)
    }

    /// Keeps a block in memory, if there is room.
    fn keep(self: &Arc<Self>, id: BlockId, bytes: u64, block: &Arc<InMemory>) -> bool {
        let mut evicted = Vec::new();
        let mut state = self.state();
        let largest = state.largest.entry(id.writer).or_default();
        *largest = bytes.max(*largest);
        if let Err(refusal) = state.memory.keep(id, bytes, &mut evicted) {
            tracing::debug!(%refusal, "partition {} of {} goes to disk", id.map, id.writer);
            return false;
        }
        let leaving = state.take(&evicted);
        state.blocks.insert(id, block.clone());
        drop(state);
        self.leave(leaving);
        true
    }

    /// The block of a dataset, if it is in memory.
    pub(super) fn find(&self, id: BlockId) -> Option<Arc<InMemory>> {
        let mut state = self.state();
        let block = state.blocks.get(&id)?.clone();
        state.memory.touch(id);
        Some(block)
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
    pub(super) fn drop_dataset(self: &Arc<Self>, writer: NodeId) {
        self.state().writers.drop_output(writer);
        self.remove(writer);
    }

    fn remove(self: &Arc<Self>, writer: NodeId) {
        self.files.drop_shuffle(writer);
        let mut state = self.state();
        if let Some(work) = state.work.get_mut(&writer) {
            work.dropped = true;
        }
        let ids = state.blocks.keys().filter(|id| id.writer == writer).copied();
        let ids = ids.collect::<Vec<_>>();
        state.take(&ids);
        for id in ids {
            state.memory.forget(id);
        }
        state.largest.remove(&writer);
        self.settle(state);
    }

    /// Blocks of a dataset are going to be copied to here or written to files.
    pub(super) fn begin_work(&self, writer: NodeId) {
        self.state().work.entry(writer).or_default().left += 1;
    }

    /// They are, or the dataset was dropped meanwhile: then what has come goes.
    pub(super) fn end_work(self: &Arc<Self>, writer: NodeId) {
        let mut state = self.state();
        let Some(work) = state.work.get_mut(&writer) else { return };
        work.left -= 1;
        if work.left > 0 {
            return;
        }
        let dropped = work.dropped;
        state.work.remove(&writer);
        drop(state);
        if dropped {
            self.remove(writer);
        }
    }

    /// Whether a dataset was dropped while it is worked on.
    pub(super) fn is_dropped(&self, writer: NodeId) -> bool {
        self.state().work.get(&writer).is_some_and(|work| work.dropped)
    }

    /// Which datasets stages here read.
    pub(super) fn set_readers(&self, readers: BTreeSet<NodeId>) {
        self.state().memory.set_readers(readers);
    }

    /// What snapshots take of the memory now.
    pub(super) fn set_snapshots(self: &Arc<Self>, bytes: u64) {
        let mut evicted = Vec::new();
        let mut state = self.state();
        state.memory.set_snapshots(bytes, &mut evicted);
        let leaving = state.take(&evicted);
        self.settle(state);
        self.leave(leaving);
    }

    /// Gives a slot so many bytes in all. Waits while others have them that will give them back.
    pub(super) async fn lease(self: &Arc<Self>, slot: usize, bytes: u64) -> Lease {
        let waiting = {
            let mut evicted = Vec::new();
            let mut state = self.state();
            let lease = state.memory.lease(slot, bytes, &mut evicted);
            let leaving = state.take(&evicted);
            let waiting = (lease == Lease::Waits).then(|| {
                let (sender, receiver) = oneshot::channel();
                state.waiting.insert(slot, sender);
                receiver
            });
            self.settle(state);
            self.leave(leaving);
            match waiting {
                Some(waiting) => waiting,
                None => return lease,
            }
        };
        // Its slot is gone if nobody answers.
        waiting.await.unwrap_or(Lease::Waits)
    }

    /// A slot's task has ended, or its process has.
    pub(super) fn give_back(self: &Arc<Self>, slot: usize) {
        let mut state = self.state();
        state.memory.give_back(slot, 0);
        state.waiting.remove(&slot);
        self.settle(state);
    }

    /// Memory may have become free: whoever waits for it and need not wait longer goes on.
    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut evicted = Vec::new();
        while let Some((slot, lease)) = state.memory.decided(&mut evicted) {
            if let Some(waiting) = state.waiting.remove(&slot) {
                // A slot that is gone gives back what it has.
                let _ = waiting.send(lease);
            }
        }
        let leaving = state.take(&evicted);
        drop(state);
        self.leave(leaving);
    }

    /// Tells the driver.
    pub(super) fn tell(&self, id: BlockId, state: BlockState) {
        let BlockId { writer, map, attempt } = id;
        let block = KeptBlock { writer, map, attempt, state };
        // The core outlives whoever keeps blocks.
        let _ = self.events.send((0, SlotEvent::Kept(vec![block])));
    }

    /// Blocks that have made room are dropped, or go to files.
    fn leave(self: &Arc<Self>, leaving: Vec<(BlockId, Arc<InMemory>)>) {
        for (id, block) in leaving {
            if block.level == StorageLevel::Memory {
                self.tell(id, BlockState::Gone);
                continue;
            }
            self.begin_work(id.writer);
            let kept = self.clone();
            tokio::spawn(async move {
                let written = write(&kept.files, id, &block).await;
                let state = match written {
                    Ok(()) => BlockState::OnDisk,
                    Err(error) => {
                        tracing::warn!(%error, "a kept block could not be written to disk");
                        BlockState::Gone
                    }
                };
                kept.tell(id, state);
                kept.end_work(id.writer);
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a block to a file of the worker, in turns with whatever else is to be done.
async fn write(files: &AppFiles, id: BlockId, block: &InMemory) -> io::Result<()> {
    let BlockId { writer, map, attempt } = id;
    let mut sink = File::from(files.shuffle_sink(writer, map, attempt)?);
    let length = block.index.data_bytes;
    let mut buffer = vec![0; PIECE_BYTES.min(length) as usize];
    let mut at = 0;
    while at < length {
        let count = PIECE_BYTES.min(length - at) as usize;
        block.file.read_exact_at(&mut buffer[..count], at)?;
        sink.write_all(&buffer[..count])?;
        at += count as u64;
        yield_now().await;
    }
    files.commit_shuffle(writer, map, attempt, &block.index)
}

// === impl Working ===

impl<'a> Working<'a> {
    fn new(kept: &'a Arc<Kept>, writer: NodeId) -> Self {
        kept.begin_work(writer);
        Self { kept, writer }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.kept.end_work(self.writer);
    }
}

// === impl State ===

impl State {
    fn take(&mut self, ids: &[BlockId]) -> Vec<(BlockId, Arc<InMemory>)> {
        ids.iter().filter_map(|id| Some((*id, self.blocks.remove(id)?))).collect()
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
        match opened {
            Ok(file) => Ok((file, path)),
            Err(source) => Err(BlockError::Data { path, source }),
        }
    }
}
