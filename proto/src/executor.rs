//! Between a driver and its executors.
//!
//! Control connection: one bidirectional stream of these frames each way. Data connection: the
//! driver opens a stream per [`DriverData`] request.

use crate::abi::StorageLevel;
use crate::id::{AttemptId, ExecutorId, NodeId, Partition, SnapshotId, StageRunId, WorkerId};
use crate::outcome::TaskReport;
use crate::snapshot::SnapshotHeader;
use crate::stage::{ShufflePlace, StageRun};
use core::fmt;
use serde::{Deserialize, Serialize};

/// From the driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToExecutor {
    /// Still here. An executor that hears nothing for its lease stops its tasks.
    Heartbeat,
    /// A snapshot whose pages fit this frame.
    Snapshot {
        /// Its description.
        header: SnapshotHeader,
        /// The newest snapshot that the executor has by then, to which these pages are the
        /// changes; none if it has none, and these are all pages.
        after: Option<SnapshotId>,
        /// Whether `pages` are their difference from what they were in `after`: the exclusive or.
        difference: bool,
        /// The changed pages, one after the other.
        pages: DataChunk,
    },
    /// No job, shuffle or block needs this snapshot any more.
    DropSnapshot(SnapshotId),
    /// Tasks of this stage may follow.
    Stage(StageRun),
    /// No more tasks of this stage will follow.
    DropStage(StageRunId),
    /// Run these. Those of one frame are of one stage.
    Run {
        /// The stage, sent before.
        stage: StageRunId,
        /// Attempts in the order in which they are to start.
        tasks: Vec<(AttemptId, Partition)>,
    },
    /// Give back those of these attempts that have not started.
    Recall(Vec<AttemptId>),
    /// Stop these attempts; nobody needs them.
    Kill(Vec<AttemptId>),
    /// The results of these attempts are not wanted.
    DropResults(Vec<AttemptId>),
    /// The output of this shuffle is not needed any more.
    DropShuffle(NodeId),
    /// Keep copies of these blocks; each is answered by a [`KeptBlock`], unless the dataset is
    /// dropped meanwhile.
    Copy(CopyBlocks),
    /// The application has ended.
    Stop,
}

/// From the executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromExecutor {
    /// The first frame.
    Ready {
        /// Who it is.
        executor: ExecutorId,
        /// The worker that launched it and serves its shuffle files.
        worker: WorkerId,
        /// How many tasks it runs at once.
        slots: u32,
        /// Where it takes what needs no copy, from a driver on the same machine.
        door: Option<Door>,
    },
    /// Still here.
    Heartbeat,
    /// Attempts that ended.
    Reports(Vec<TaskReport>),
    /// The answer to a recall: these had not started and never will.
    Recalled(Vec<AttemptId>),
    /// What has become of blocks of kept datasets.
    Kept(Vec<KeptBlock>),
    /// What guests wrote to standard output and error, escaped and capped, for the log.
    Log {
        /// Lines.
        text: String,
    },
}

/// Blocks of a kept dataset, or outputs of the map tasks of a shuffle, that an executor is to fetch
/// and keep, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyBlocks {
    /// The dataset.
    pub writer: NodeId,
    /// Where to keep them; outputs of a shuffle are kept on disk.
    pub level: StorageLevel,
    /// For how many reducers each was written; one for a kept dataset.
    pub reducers: u32,
    /// Who has them.
    pub from: ShufflePlace,
    /// Which.
    pub blocks: Vec<(Partition, AttemptId)>,
}

/// A block of a kept dataset that has come, moved or gone, other than by its attempt's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBlock {
    /// The dataset.
    pub writer: NodeId,
    /// The partition.
    pub map: Partition,
    /// The attempt that computed it.
    pub attempt: AttemptId,
    /// Where it is now.
    pub state: BlockState,
}

/// Where a block of a kept dataset is, as its executor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockState {
    /// In the executor's memory.
    InMemory,
    /// In a file of its worker.
    OnDisk,
    /// Not there: it made room, or could not be fetched or kept.
    Gone,
}

/// A socket of an executor that only its own machine reaches.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// Its name, random: another machine has none of this name.
    pub name: [u8; 16],
    /// What whoever comes must know.
    pub secret: [u8; 16],
}

/// The first frame of a stream that a driver opens on its data connection to an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DriverData {
    /// A snapshot whose pages follow, one after the other.
    Snapshot {
        /// Its description.
        header: SnapshotHeader,
        /// As in [`ToExecutor::Snapshot`].
        after: Option<SnapshotId>,
        /// Whether they come in [`DataChunk`] frames, or as they are.
        packed: bool,
    },
    /// Send the held result of this attempt, in [`DataChunk`] frames.
    Result(AttemptId),
}

/// A piece of bulk data: lz4 block when that is shorter, raw otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataChunk {
    /// Bytes before compression, at most [`crate::limits::LINK_CHUNK_BYTES`] times 4.
    pub length: u32,
    /// Whether `bytes` is an lz4 block.
    pub compressed: bool,
    /// The bytes.
    #[serde(with = "crate::raw_bytes")]
    pub bytes: Vec<u8>,
}

// === impl ToExecutor ===

impl ToExecutor {
    /// Whether it only frees something, and may wait for the next frame or heartbeat.
    pub fn may_wait(&self) -> bool {
        matches!(
            self,
            Self::DropSnapshot(_)
                | Self::DropStage(_)
                | Self::DropResults(_)
                | Self::DropShuffle(_)
        )
    }
}

// === impl Door ===

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("name", &self.name).finish_non_exhaustive()
    }
}
