//! Reading shuffles: files of this worker by descriptor, others over QUIC, in order of map.
//!
//! ```text
//!   worker A (here)   maps 0, 3, 5 ──descriptors──┐
//!   worker B          maps 1, 2    ──one stream───┼──► map 0, 1, 2, 3, 4, 5 ──► slot
//!   worker C          map 4        ──one stream───┘
//! ```
//!
//! Each source sends its maps in order; the reader asks a stream only when its map is due, so a
//! slow slot stops only the streams that it has open. Streams of one reader are opened in order
//! of address, so that readers that wait for each other's places never wait in a circle.

use super::files::AppFiles;
use crate::shuffle_service::index;
use offshoot_net::{Connection, Endpoint, FrameStream, RoleKind};
use offshoot_proto::block::{BlockFrame, FetchBlocks};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::{AppId, AttemptId, Partition, WorkerId};
use offshoot_proto::limits::{LINK_CHUNK_BYTES, LINK_DESCRIPTORS_MAX};
use offshoot_proto::link::{BlockFile, Reply};
use offshoot_proto::outcome::TaskFailure;
use offshoot_proto::stage::{ShuffleInput, StageRun};
use offshoot_sandbox::shuffle::chunk;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Data connections to workers, shared by all slots.
pub(super) struct Fetcher {
    endpoint: Arc<Endpoint>,
    connections: Mutex<BTreeMap<SocketAddr, Arc<Connection>>>,
}

/// One reducer's stream of one shuffle.
pub(super) struct ShuffleStream {
    app: AppId,
    here: WorkerId,
    stage: Arc<StageRun>,
    input: usize,
    reducer: u32,
    next_map: usize,
    /// After the last one.
    end_map: usize,
    remote: Option<BTreeMap<u32, FrameStream>>,
}

// === impl Fetcher ===

impl Fetcher {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, connections: Mutex::new(BTreeMap::new()) }
    }

    /// Opens a stream to a worker, on a connection that is dialled once.
    async fn open(&self, address: SocketAddr) -> Result<FrameStream, String> {
        let connection = {
            let mut connections = self.connections.lock().await;
            match connections.get(&address) {
                Some(connection) if connection.close_reason().is_none() => connection.clone(),
                _ => {
                    let dialled =
                        self.endpoint.connect(address, RoleKind::Worker, Purpose::Data).await;
                    let connection = Arc::new(dialled.map_err(|error| error.to_string())?);
                    connections.insert(address, connection.clone());
                    connection
                }
            }
        };
        connection.open().await.map_err(|error| error.to_string())
    }
}

// === impl ShuffleStream ===

impl ShuffleStream {
    pub(super) fn new(
        app: AppId,
        here: WorkerId,
        stage: Arc<StageRun>,
        input: usize,
        reducer: u32,
        maps: Range<usize>,
    ) -> Self {
        let (next_map, end_map) = (maps.start, maps.end);
        Self { app, here, stage, input, reducer, next_map, end_map, remote: None }
    }

    fn input(&self) -> &ShuffleInput {
        &self.stage.inputs[self.input]
    }

    fn failure(&self, map: usize, reason: String) -> TaskFailure {
        let input = self.input();
        let (place, map_attempt) = input.maps[map];
        let worker = input.places[place as usize].worker.clone();
        let map = Partition(map as u32);
        TaskFailure::FetchFailed { writer: input.writer, map, map_attempt, worker, reason }
    }

    fn is_here(&self, map: usize) -> bool {
        let input = self.input();
        input.places[input.maps[map].0 as usize].worker == self.here
    }

    /// What comes next.
    pub(super) async fn pull(
        &mut self,
        fetcher: &Fetcher,
        files: &AppFiles,
    ) -> (Reply, Vec<OwnedFd>) {
        if let Err((map, reason)) = self.open_remote(fetcher).await {
            return (Reply::Failed(self.failure(map, reason)), vec![]);
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
            let input = self.input();
            let path = files.map_path(input.writer, Partition(map as u32), input.maps[map].1);
            let opened = index::read_index(&path.with_added_extension("index"))
                .map_err(|error| error.to_string());
            let opened = opened.and_then(|index| {
                let extents = index.reducers.get(self.reducer as usize);
                Ok(extents.ok_or("no such reducer")?.clone())
            });
            let opened = opened.and_then(|extents| {
                if extents.is_empty() {
                    return Ok(None);
                }
                let path = path.with_added_extension("data");
                let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                Ok(Some((extents, file)))
            });
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

    /// Opens a stream to every other worker that holds maps of this shuffle.
    async fn open_remote(&mut self, fetcher: &Fetcher) -> Result<(), (usize, String)> {
        if self.remote.is_some() {
            return Ok(());
        }
        let mut wanted: BTreeMap<SocketAddr, (u32, Vec<(Partition, AttemptId)>)> = BTreeMap::new();
        let input = self.input();
        for map in self.next_map..self.end_map {
            let (place, attempt) = &input.maps[map];
            if !self.is_here(map) {
                let address = input.places[*place as usize].address;
                let entry = wanted.entry(address).or_insert_with(|| (*place, Vec::new()));
                entry.1.push((Partition(map as u32), *attempt));
            }
        }
        let mut streams = BTreeMap::new();
        for (address, (place, maps)) in wanted {
            let first = maps.first().map_or(0, |(map, _)| map.0 as usize);
            let request =
                FetchBlocks { app: self.app, writer: input.writer, reducer: self.reducer, maps };
            let mut stream = fetcher.open(address).await.map_err(|reason| (first, reason))?;
            let sent = stream.sender.send(&request).await;
            sent.map_err(|error| (first, error.to_string()))?;
            streams.insert(place, stream);
        }
        self.remote = Some(streams);
        Ok(())
    }

    /// Blocks of the map that is due, from its stream; whole chunks whose sums are right.
    async fn pull_blocks(&mut self) -> Result<Vec<u8>, String> {
        let place = self.input().maps[self.next_map].0;
        let due = Partition(self.next_map as u32);
        let streams = self.remote.as_mut().ok_or("streams are not open")?;
        let stream = streams.get_mut(&place).ok_or("no stream to this worker")?;
        let mut bytes = Vec::new();
        while bytes.len() < LINK_CHUNK_BYTES {
            let frame = stream.receiver.recv::<BlockFrame>().await;
            match frame.map_err(|error| error.to_string())? {
                Some(BlockFrame::Chunks(chunks)) => {
                    check_chunks(&chunks)?;
                    bytes.extend_from_slice(&chunks);
                }
                Some(BlockFrame::End { map }) if map == due => {
                    self.next_map += 1;
                    break;
                }
                Some(BlockFrame::Failed { map, reason }) if map == due => return Err(reason),
                Some(_) => return Err("the worker sent another map than was due".to_owned()),
                None => return Err("the worker ended the stream early".to_owned()),
            }
        }
        Ok(bytes)
    }
}

fn check_chunks(mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let (header, _) = chunk(bytes).map_err(|error| error.to_string())?;
        bytes = &bytes[header.total()..];
    }
    Ok(())
}
