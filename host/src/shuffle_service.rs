//! Serves shuffle blocks: what map tasks of this machine wrote, to the executors that reduce it.
//!
//! ```text
//!   executor ── FetchBlocks { app, writer, reducer, maps } ──►
//!            ◄── Chunks.. End(map) Chunks.. End(map) .. or Failed(map, why)
//!                  ▲
//!   <apps>/app-1/shuffle/<writer>/<map>-<attempt>.{index,data}
//! ```
//!
//! A worker serves them, so losing or releasing an executor loses no output. An executor gets the
//! blocks of its own application; of others it learns nothing, not even that they exist. Every
//! chunk's sum is checked before it is sent: a damaged file is a failed fetch, never wrong data.

mod cache;
pub mod index;
mod pieces;
#[cfg(test)]
mod tests;

pub use cache::BlockKey;
use cache::IndexCache;
use index::{IndexError, read_index};
use offshoot_net::{CloseCode, Complaints, Connection, FrameSender, FrameStream, StreamError};
use offshoot_proto::block::{BlockFrame, FetchBlocks, ShuffleIndex};
use offshoot_proto::id::{AppId, AttemptId, NodeId, Partition};
use offshoot_proto::limits::HANDSHAKE_DEADLINE;
use offshoot_sandbox::shuffle::ChunkError;
use pieces::{PIECE_BYTES_MAX, Pieces};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

/// Memory for indexes that were read lately: 1,000 maps of 1,000 reducers with one extent each.
const INDEX_CACHE_BYTES_MAX: usize = 64 << 20;

/// Serves the blocks of a source.
#[derive(Debug)]
pub struct ShuffleService<S> {
    source: S,
    complaints: Complaints,
}

/// Who has blocks.
pub trait BlockSource: Send + Sync + 'static {
    /// Where each reducer's part of a block is.
    fn index(&self, key: BlockKey) -> Result<Arc<ShuffleIndex>, BlockError>;

    /// The data of a block, and what to call it.
    fn open(&self, key: BlockKey) -> Result<(File, PathBuf), BlockError>;
}

impl<S: BlockSource> BlockSource for Arc<S> {
    fn index(&self, key: BlockKey) -> Result<Arc<ShuffleIndex>, BlockError> {
        (**self).index(key)
    }

    fn open(&self, key: BlockKey) -> Result<(File, PathBuf), BlockError> {
        (**self).open(key)
    }
}

/// The shuffle output of all applications of one worker.
#[derive(Debug)]
pub struct WorkerFiles {
    apps: PathBuf,
    indexes: Mutex<IndexCache>,
}

/// Why a block cannot be had. What a peer is told.
#[derive(Debug, Error)]
pub enum BlockError {
    /// There is no such output, or it is not for this peer to know.
    #[error("no such block")]
    NotFound,
    /// The output is for fewer reducers.
    #[error("the output is for {reducers} reducers, reducer {reducer} was asked for")]
    NoReducer {
        /// Which was asked for.
        reducer: u32,
        /// How many there are.
        reducers: usize,
    },
    /// The index cannot be used.
    #[error(transparent)]
    Index(IndexError),
    /// The data file cannot be read.
    #[error("{}: {source}", path.display())]
    Data {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The data file is damaged.
    #[error("{} at byte {offset}: {error}", path.display())]
    Chunk {
        /// Which file.
        path: PathBuf,
        /// Where the bad chunk begins.
        offset: u64,
        /// What is wrong with it.
        error: ChunkError,
    },
}

/// Why a map's output was not sent whole.
enum SendError {
    Block(BlockError),
    Stream(StreamError),
}

/// The index of a map attempt's output, beneath an application's directory. The data lies beside
/// it, with the ending `data`.
pub fn index_path(
    app_directory: &Path,
    writer: NodeId,
    map: Partition,
    attempt: AttemptId,
) -> PathBuf {
    app_directory.join(format!("shuffle/{writer}/{map}-{attempt}.index"))
}

// === impl ShuffleService ===

impl<S: BlockSource> ShuffleService<S> {
    /// Serves what is in `source`.
    pub fn new(source: S) -> Self {
        Self { source, complaints: Complaints::default() }
    }

    /// Where the blocks are.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Serves the streams that an executor of `app` opens, until its connection ends.
    pub async fn serve(self: &Arc<Self>, connection: &Connection, app: AppId) {
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = streams.join_next(), if !streams.is_empty() => {}
                stream = connection.accept() => match stream {
                    Ok(stream) => {
                        let peer = connection.peer().to_string();
                        streams.spawn(self.clone().serve_stream(stream, app, peer));
                    }
                    Err(_) => return,
                },
            }
        }
    }

    async fn serve_stream(self: Arc<Self>, mut stream: FrameStream, app: AppId, peer: String) {
        let request = timeout(HANDSHAKE_DEADLINE, stream.receiver.recv::<FetchBlocks>()).await;
        let done = match request {
            Ok(Ok(Some(request))) => self.answer(&mut stream.sender, app, request, &peer).await,
            Ok(Ok(None)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                stream.sender.abandon(CloseCode::Protocol);
                stream.receiver.stop(CloseCode::Protocol);
                self.complaints.warn(format_args!("{peer}: too slow with its request"));
                Ok(())
            }
        };
        match done {
            // A reader that has what it needs, or is gone, may leave at any time.
            Ok(()) | Err(StreamError::Closed(_) | StreamError::Stopped { .. }) => {}
            Err(error) => self.complaints.warn(format_args!("{peer}: {error}")),
        }
    }

    async fn answer(
        &self,
        sender: &mut FrameSender,
        app: AppId,
        request: FetchBlocks,
        peer: &str,
    ) -> Result<(), StreamError> {
        let foreign = request.app != app;
        if foreign {
            let asked = request.app;
            self.complaints.warn(format_args!("{peer}: permission denied to blocks of {asked}"));
        }
        for (map, attempt) in request.maps {
            let key = BlockKey { app, writer: request.writer, map, attempt };
            let sent = if foreign {
                Err(SendError::Block(BlockError::NotFound))
            } else {
                self.send_block(sender, key, request.reducer).await
            };
            match sent {
                Ok(()) => sender.queue(&BlockFrame::End { map })?,
                Err(SendError::Stream(error)) => return Err(error),
                Err(SendError::Block(error)) => {
                    self.report_damage(&error);
                    let reason = error.to_string();
                    sender.queue(&BlockFrame::Failed { map, reason })?;
                    break;
                }
            }
            if sender.queued() >= PIECE_BYTES_MAX {
                sender.flush().await?;
            }
            yield_now().await;
        }
        sender.finish().await?;
        sender.acknowledged().await
    }

    async fn send_block(
        &self,
        sender: &mut FrameSender,
        key: BlockKey,
        reducer: u32,
    ) -> Result<(), SendError> {
        let index = self.source.index(key)?;
        let Some(extents) = index.reducers.get(reducer as usize) else {
            let reducers = index.reducers.len();
            if reducers == 0 {
                // A map that wrote nothing at all.
                return Ok(());
            }
            return Err(BlockError::NoReducer { reducer, reducers }.into());
        };
        if extents.is_empty() {
            return Ok(());
        }
        let (file, path) = self.source.open(key)?;
        let mut pieces = Pieces::new(&path, &file, extents);
        while let Some(piece) = pieces.next()? {
            if sender.queued() + piece.len() > PIECE_BYTES_MAX {
                sender.flush().await?;
            }
            sender.queue(&BlockFrame::Chunks(piece))?;
            // Many small ones fit the queue.
            yield_now().await;
        }
        Ok(())
    }

    /// A disk that changes or loses bytes is something that an operator must know.
    fn report_damage(&self, error: &BlockError) {
        match error {
            BlockError::NotFound | BlockError::NoReducer { .. } => {}
            BlockError::Index(_) | BlockError::Data { .. } | BlockError::Chunk { .. } => {
                self.complaints.warn(format_args!("shuffle output cannot be served: {error}"));
            }
        }
    }
}

// === impl WorkerFiles ===

impl WorkerFiles {
    /// What lies in `apps`, which has a directory for each application.
    pub fn new(apps: PathBuf) -> Self {
        Self { apps, indexes: Mutex::new(IndexCache::new(INDEX_CACHE_BYTES_MAX)) }
    }

    /// Forgets what is remembered of an application whose files are gone.
    pub fn forget(&self, app: AppId) {
        self.indexes().forget(app);
    }

    fn path(&self, key: BlockKey) -> PathBuf {
        let app_directory = self.apps.join(key.app.to_string());
        index_path(&app_directory, key.writer, key.map, key.attempt)
    }

    fn indexes(&self) -> MutexGuard<'_, IndexCache> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockSource for WorkerFiles {
    fn index(&self, key: BlockKey) -> Result<Arc<ShuffleIndex>, BlockError> {
        if let Some(index) = self.indexes().find(key) {
            return Ok(index);
        }
        let index = Arc::new(read_index(&self.path(key))?);
        self.indexes().keep(key, index.clone());
        Ok(index)
    }

    fn open(&self, key: BlockKey) -> Result<(File, PathBuf), BlockError> {
        let path = self.path(key).with_extension("data");
        match File::open(&path) {
            Ok(file) => Ok((file, path)),
            Err(source) => {
                self.indexes().remove(key);
                Err(match source.kind() {
                    io::ErrorKind::NotFound => BlockError::NotFound,
                    _ => BlockError::Data { path, source },
                })
            }
        }
    }
}

// === impl BlockError ===

impl From<IndexError> for BlockError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Missing { .. } => Self::NotFound,
            other => Self::Index(other),
        }
    }
}

// === impl SendError ===

impl From<BlockError> for SendError {
    fn from(error: BlockError) -> Self {
        Self::Block(error)
    }
}

impl From<StreamError> for SendError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}
