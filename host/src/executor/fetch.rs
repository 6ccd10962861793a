//! Reading shuffles: what is here by descriptor, the rest over QUIC, in order of map.
//!
//! ```text
//!   worker A (here)   maps 0, 3, 5 ──descriptors──┐
//!   worker B          maps 1, 2    ──one stream───┼──► map 0, 1, 2, 3, 4, 5 ──► slot
//!   executor 7        map 4        ──one stream───┘
//! ```
//!
//! Here is what this worker has in files and this executor in memory. A stream holds the blocks in
//! memory that it is going to read: what makes room meanwhile stays until it is read.
//!
//! Each source sends its maps in order; the reader asks a stream only when its map is due, so a
//! slow slot stops only the streams that it has open. Where there is no room for another stream,
//! the blocks are fetched into a file first: nobody waits for a reader.

mod lines;
mod spool;

pub(super) use lines::{Fetcher, HeldStream};

use spool::Spool;

use super::files::AppFiles;
use super::kept::{InMemory, Kept};
use crate::memory::BlockId;
use offshoot_proto::block::{BlockFrame, Extent, FetchBlocks};
use offshoot_proto::id::{AttemptId, ExecutorId, Partition, WorkerId};
use offshoot_proto::limits::{LINK_CHUNK_BYTES, LINK_DESCRIPTORS_MAX};
use offshoot_proto::link::{BlockFile, Reply};
use offshoot_proto::outcome::TaskFailure;
use offshoot_proto::stage::{ShuffleInput, ShufflePlace, StageRun};
use offshoot_sandbox::shuffle::chunk;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where a stream is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Here {
    pub(super) worker: WorkerId,
    pub(super) executor: ExecutorId,
}

/// One reducer's stream of one shuffle.
pub(super) struct ShuffleStream {
    here: Here,
    stage: Arc<StageRun>,
    input: usize,
    reducer: u32,
    next_map: usize,
    /// After the last one.
    end_map: usize,
    /// By map partition, what this executor has in memory.
    in_memory: BTreeMap<usize, Arc<InMemory>>,
    remote: Option<Remote>,
}

/// What comes from elsewhere.
struct Remote {
    /// By place, streams that are read as the task goes.
    streams: BTreeMap<u32, HeldStream>,
    /// What was fetched before.
    spool: Option<Spool>,
}

/// Why blocks cannot be read.
enum FetchError {
    /// This map's block cannot be had.
    Fetch(usize, String),
    /// They cannot be taken in here.
    Host(String),
}

// === impl Here ===

impl Here {
    /// Whether what somebody serves is here. What left this executor's memory is in a file.
    fn has(&self, place: &ShufflePlace) -> bool {
        let mine = place.executor.is_none_or(|executor| executor == self.executor);
        mine && place.worker == self.worker
    }
}

// === impl FetchError ===

impl FetchError {
    fn of(map: usize) -> impl Fn(String) -> Self {
        move |reason| Self::Fetch(map, reason)
    }
}

// === impl ShuffleStream ===

impl ShuffleStream {
    pub(super) fn new(
        here: Here,
        kept: &Kept,
        stage: Arc<StageRun>,
        input: usize,
        reducer: u32,
        maps: Range<usize>,
    ) -> Self {
        let (next_map, end_map) = (maps.start, maps.end);
        let ShuffleInput { writer, maps: outputs, .. } = &stage.inputs[input];
        let outputs = maps.filter_map(|map| Some((map, outputs.get(map)?.1)));
        let in_memory = kept.find_all(*writer, outputs);
        Self { here, stage, input, reducer, next_map, end_map, in_memory, remote: None }
    }

    fn input(&self) -> &ShuffleInput {
        &self.stage.inputs[self.input]
    }

    fn failure(&self, map: usize, reason: String) -> TaskFailure {
        let input = self.input();
        let map_attempt = input.maps[map].1;
        let ShufflePlace { worker, executor, .. } = self.place(map).1.clone();
        let (writer, map) = (input.writer, Partition(map as u32));
        TaskFailure::FetchFailed { writer, map, map_attempt, worker, executor, reason }
    }

    /// Where a map's output is read: from a copy, if that is here.
    fn place(&self, map: usize) -> (u32, &ShufflePlace) {
        let input = self.input();
        let first = input.maps[map].0;
        let copy = || {
            let copies = &input.copies;
            let found = copies.binary_search_by_key(&(map as u32), |(map, _)| map.0).ok()?;
            Some(copies[found].1).filter(|copy| self.here.has(&input.places[*copy as usize]))
        };
        let index = match self.here.has(&input.places[first as usize]) {
            true => first,
            false => copy().unwrap_or(first),
        };
        (index, &input.places[index as usize])
    }

    fn is_here(&self, map: usize) -> bool {
        let here = self.in_memory.contains_key(&map) || self.here.has(self.place(map).1);
        here || self.spooled(map).is_some()
    }

    fn spooled(&self, map: usize) -> Option<(&Spool, Extent)> {
        let spool = self.remote.as_ref()?.spool.as_ref()?;
        Some((spool, spool.find(map)?))
    }

    /// What comes next.
    pub(super) async fn pull(
        &mut self,
        fetcher: &Fetcher,
        files: &AppFiles,
    ) -> (Reply, Vec<OwnedFd>) {
        if self.next_map == self.end_map {
            return (Reply::BlocksEnd, vec![]);
        }
        match self.open_remote(fetcher, files).await {
            Ok(()) => {}
            Err(FetchError::Fetch(map, reason)) => {
                return (Reply::Failed(self.failure(map, reason)), vec![]);
            }
            Err(FetchError::Host(message)) => {
                return (Reply::Failed(TaskFailure::Host { message }), vec![]);
            }
        }
        while self.next_map < self.end_map {
            let pulled = if self.is_here(self.next_map) {
                self.pull_files(files)
            } else {
                self.pull_blocks().await.map(|bytes| (Reply::Blocks(bytes), vec![]))
            };
            match pulled {
                Ok((Reply::Blocks(bytes), _)) if bytes.is_empty() => {}
                Ok((Reply::BlockFiles(blocks), _)) if blocks.is_empty() => {}
                Ok(answer) => return answer,
                Err(reason) => {
                    return (Reply::Failed(self.failure(self.next_map, reason)), vec![]);
                }
            }
        }
        // Streams and files are for others now.
        self.remote = None;
        self.in_memory.clear();
        (Reply::BlocksEnd, vec![])
    }

    /// Files of this worker, as many as one frame takes.
    fn pull_files(&mut self, files: &AppFiles) -> Result<(Reply, Vec<OwnedFd>), String> {
        let (mut blocks, mut descriptors) = (Vec::new(), Vec::new());
        while self.next_map < self.end_map
            && self.is_here(self.next_map)
            && descriptors.len() < LINK_DESCRIPTORS_MAX
        {
            let map = self.next_map;
            let opened = self.open_here(map, files);
            match opened {
                Ok(None) => {}
                Ok(Some((extents, file))) => {
                    let failure = self.failure(map, String::new());
                    blocks.push(BlockFile { failure, extents });
                    descriptors.push(file.into());
                }
                // What comes before it is still good.
                Err(_) if !blocks.is_empty() => break,
                Err(reason) => return Err(reason),
            }
            self.next_map += 1;
        }
        Ok((Reply::BlockFiles(blocks), descriptors))
    }

    /// What a map here wrote for the reducer; none if that is nothing.
    fn open_here(
        &self,
        map: usize,
        files: &AppFiles,
    ) -> Result<Option<(Vec<Extent>, File)>, String> {
        if let Some((spool, extent)) = self.spooled(map) {
            let file = spool.file().map_err(|error| error.to_string())?;
            return Ok((extent.length > 0).then(|| (vec![extent], file)));
        }
        let input = self.input();
        let attempt = input.maps[map].1;
        let id = BlockId { writer: input.writer, map: Partition(map as u32), attempt };
        let block = self.in_memory.get(&map);
        let index = match block {
            Some(block) => block.index.clone(),
            None => Arc::new(files.index(id).map_err(|error| error.to_string())?),
        };
        let extents = index.reducers.get(self.reducer as usize).ok_or("no such reducer")?;
        if extents.is_empty() {
            return Ok(None);
        }
        let path = files.data_path(id);
        let file = match block {
            Some(block) => block.file.try_clone(),
            None => File::open(&path),
        };
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Some((extents.clone(), file)))
    }

    /// Opens a stream to everybody else who holds maps of this shuffle, or fetches them.
    async fn open_remote(&mut self, fetcher: &Fetcher, files: &AppFiles) -> Result<(), FetchError> {
        if self.remote.is_some() {
            return Ok(());
        }
        let mut wanted: BTreeMap<u32, Vec<(Partition, AttemptId)>> = BTreeMap::new();
        let input = self.input();
        for map in self.next_map..self.end_map {
            if !self.is_here(map) {
                let block = (Partition(map as u32), input.maps[map].1);
                wanted.entry(self.place(map).0).or_default().push(block);
            }
        }
        let mut remote = Remote { streams: BTreeMap::new(), spool: None };
        for (index, maps) in wanted {
            let failed = FetchError::of(maps.first().map_or(0, |(map, _)| map.0 as usize));
            let place = &input.places[index as usize];
            let app = self.here.executor.app;
            let request = FetchBlocks { app, writer: input.writer, reducer: self.reducer, maps };
            if let Some(stream) = fetcher.try_open(place, &request).await.map_err(&failed)? {
                remote.streams.insert(index, stream);
                continue;
            }
            let stream = fetcher.open(place, &request).await.map_err(&failed)?;
            let spool = match &mut remote.spool {
                Some(spool) => spool,
                none => none.insert(Spool::new(files).map_err(|error| {
                    FetchError::Host(format!("opening a file for fetched blocks: {error}"))
                })?),
            };
            spool.fetch(stream, &request.maps).await?;
        }
        self.remote = Some(remote);
        Ok(())
    }

    /// Blocks of the map that is due, from its stream; whole chunks whose sums are right.
    async fn pull_blocks(&mut self) -> Result<Vec<u8>, String> {
        let place = self.place(self.next_map).0;
        let due = Partition(self.next_map as u32);
        let remote = self.remote.as_mut().ok_or("streams are not open")?;
        let held = remote.streams.get_mut(&place).ok_or("no stream to this worker")?;
        let mut bytes = Vec::new();
        while bytes.len() < LINK_CHUNK_BYTES {
            match held.next().await? {
                BlockFrame::Chunks(chunks) => {
                    check_chunks(&chunks)?;
                    bytes.extend_from_slice(&chunks);
                }
                BlockFrame::End { map } if map == due => {
                    self.next_map += 1;
                    break;
                }
                BlockFrame::Failed { map, reason } if map == due => return Err(reason),
                _ => return Err("the worker sent another map than was due".to_owned()),
            }
        }
        Ok(bytes)
    }
}

pub(super) fn check_chunks(mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let (header, _) = chunk(bytes).map_err(|error| error.to_string())?;
        bytes = &bytes[header.total()..];
    }
    Ok(())
}
