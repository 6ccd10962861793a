//! What an executor must know to run tasks of a stage; sent once, before the tasks that name it.

use crate::abi::StorageLevel;
use crate::id::{
    AttemptId, ExecutorId, JobId, NodeId, Partition, SnapshotId, StageRunId, WorkerId,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One attempt to run a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRun {
    /// Its id, which tasks name.
    pub id: StageRunId,
    /// The job on whose behalf it runs first.
    pub job: JobId,
    /// The memory that its tasks are forks of.
    pub snapshot: SnapshotId,
    /// The node that its tasks compute.
    pub node: NodeId,
    /// What its tasks leave behind.
    pub kind: StageKind,
    /// The shuffles that its tasks may read.
    pub inputs: Vec<ShuffleInput>,
}

/// What the tasks of a stage leave behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageKind {
    /// Bytes for the driver.
    Result,
    /// One stream per reduce partition, in the worker's directory of the application.
    ShuffleWrite {
        /// How many reduce partitions there are.
        reducers: u32,
    },
    /// A part file each, staged in this directory: `<staging>/<prefix><partition>.<attempt>`. In an
    /// object store, an upload each that waits to be completed: `<staging>/<prefix><partition>`.
    Output {
        /// Absolute path of the staging directory, or the URL of the output.
        staging: String,
        /// How part files begin, or are called ([`crate::part`]).
        prefix: String,
    },
    /// One stream, in the executor's memory or the worker's directory of the application.
    Kept {
        /// Which of them.
        level: StorageLevel,
    },
}

/// Where the complete output of a shuffle is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShuffleInput {
    /// The node that wrote it.
    pub writer: NodeId,
    /// Who holds it.
    pub places: Vec<ShufflePlace>,
    /// By map partition: an index into `places`, and the attempt whose output is accepted.
    pub maps: Vec<(u32, AttemptId)>,
    /// Map partitions of which there is a second copy, ascending: an index into `places`.
    pub copies: Vec<(Partition, u32)>,
}

/// Who serves blocks: a worker its files, or an executor what it keeps in memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShufflePlace {
    /// The worker.
    pub worker: WorkerId,
    /// The executor on it, if it has them in memory.
    pub executor: Option<ExecutorId>,
    /// Where it listens.
    pub address: SocketAddr,
}
