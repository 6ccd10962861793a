//! What a guest and its host exchange: imports of module `offshoot1`, exports, and their data.
//!
//! `docs/abi.md` is the specification; this file holds its types and numbers. Compound arguments
//! are postcard in guest memory, given as pointer and length. Every import returns a negative
//! [`code`] on failure, after which `error_text` returns the sentence.

use crate::id::{NodeId, Partition};
use serde::{Deserialize, Serialize};

/// The module that all imports come from. A later, different ABI gets another name; this one
/// stays as it is.
pub const IMPORT_MODULE: &str = "offshoot1";

/// Export `offshoot_task(node: i32, partition: i32) -> i64`: computes one partition; 0 is success.
pub const EXPORT_TASK: &str = "offshoot_task";

/// Export `_start()`: the driver's `main`.
pub const EXPORT_START: &str = "_start";

/// Export of the linear memory.
pub const EXPORT_MEMORY: &str = "memory";

/// Bytes of the header before each piece that `job_results` writes: `partition`, `total`,
/// `offset`, `length`, each a little-endian `u32`; `length` bytes of the result follow.
pub const RESULT_PIECE_HEADER_BYTES: usize = 16;

/// Bytes of a page of WebAssembly's memory, the unit of `task_memory`.
pub const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Free heap that the SDK leaves behind before a snapshot, so that small tasks do not grow.
pub const FREE_HEAP_BYTES: usize = 1 << 20;

/// Negative return values of imports.
pub mod code {
    /// The call is not for this place: an action in a task, a task's call in `main`.
    pub const NOT_HERE: i32 = -1;
    /// An argument is out of bounds, malformed or names what does not exist.
    pub const INVALID: i32 = -2;
    /// What was asked for is not granted, or its grant does not allow it.
    pub const DENIED: i32 = -3;
    /// An input or output operation failed.
    pub const IO: i32 = -4;
    /// The job failed; `error_text` names stage, partition and reason.
    pub const JOB_FAILED: i32 = -5;
    /// A limit of the host was reached.
    pub const LIMIT: i32 = -6;
}

/// How a child partition maps to the partitions of a narrow parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NarrowMap {
    /// Child partition `p` reads parent partition `p`.
    OneToOne,
    /// Child partitions `start..start + parent.partitions` read parent partitions `0..`.
    Range {
        /// The first child partition that reads this parent.
        start: u32,
    },
    /// The task decides which partitions of the parent it reads.
    Any,
}

/// An edge of the lineage graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dependency {
    /// Computed in the same task.
    Narrow {
        /// The node read.
        parent: NodeId,
        /// Which of its partitions.
        map: NarrowMap,
    },
    /// Reads what every partition of `writer` wrote for this node's partition.
    Shuffle {
        /// A node of kind [`NodeKind::ShuffleWrite`].
        writer: NodeId,
    },
    /// Reads blocks of `writer` that its tasks choose, with [`Source::Blocks`]: whatever the
    /// number of its partitions.
    Blocks {
        /// A node of kind [`NodeKind::ShuffleWrite`].
        writer: NodeId,
    },
}

/// What the tasks of a node leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// Records: a task of this node returns a result or writes a part of the output.
    Records,
    /// A shuffle's map side: a task of this node writes one stream per reducer.
    ShuffleWrite {
        /// How many reduce partitions its readers have.
        reducers: u32,
    },
    /// A dataset that is computed once and kept: a shuffle's map side with one reducer, of which
    /// readers take map partitions one by one.
    Kept {
        /// Where.
        level: StorageLevel,
        /// On how many executors or machines: 1 or 2.
        replicas: u32,
    },
}

/// Where what is kept lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StorageLevel {
    /// In the memory of the executor that computed it. What has to make room is dropped, and
    /// computed again when it is needed.
    Memory,
    /// In memory. What has to make room is written to a file of the worker.
    MemoryAndDisk,
    /// In a file of the worker.
    Disk,
}

/// A node of the lineage graph, registered with `node_register` before a job names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Chosen by the guest; unique among the nodes that it has registered.
    pub id: NodeId,
    /// What the user called it, or the operation's name.
    pub name: String,
    /// `file:line` of the operation in the job's source.
    pub source: String,
    /// How many partitions it has. For a shuffle writer: those of its parent.
    pub partitions: u32,
    /// What its tasks leave behind.
    pub kind: NodeKind,
    /// Its parents, all registered earlier.
    pub dependencies: Vec<Dependency>,
}

/// The order in which `job_results` returns partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResultOrder {
    /// In the order of [`JobSpec::partitions`].
    Partition,
    /// As they are completed.
    Arrival,
}

/// Where a job commits what its tasks wrote with `output_write`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// A directory that does not exist yet, under a grant to write; `s3://bucket/prefix` likewise.
    pub path: String,
    /// Part files are called `<prefix>00000`; with one `*` in it, the number stands there
    /// ([`crate::part`]).
    pub prefix: String,
}

/// An action: computes partitions of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What to compute; of kind [`NodeKind::Records`].
    pub node: NodeId,
    /// Which partitions, without repetition; empty means all.
    pub partitions: Vec<Partition>,
    /// In which order results come back.
    pub order: ResultOrder,
    /// Whether its tasks write an output instead of returning results.
    pub output: Option<OutputSpec>,
    /// What the user calls it: the action's name.
    pub name: String,
    /// `file:line` of the action in the job's source.
    pub source: String,
}

/// A file as the driver saw it when it listed its inputs. A task that finds another file fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InputFile {
    /// Absolute path; or a URL with the version that was listed, `s3://bucket/key#etag=VERSION`.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// Time of last modification, in nanoseconds since 1970; whole seconds for a URL.
    pub modified_nanos: i64,
}

/// Map partitions `first..first + count` of a shuffle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRange {
    /// The first one.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What `stream_open` opens for reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Bytes `offset..` of a file, to its end; the reader stops when it has what it needs.
    File {
        /// The file as it was listed.
        file: InputFile,
        /// First byte.
        offset: u64,
    },
    /// What every map partition of `writer` wrote for `reducer`, in order of map partition.
    Shuffle {
        /// A node of kind [`NodeKind::ShuffleWrite`].
        writer: NodeId,
        /// The reduce partition.
        reducer: u32,
    },
    /// A run that this task wrote with `spill_write`.
    Spill {
        /// The number of the run.
        run: u32,
    },
    /// The files that match a path: postcard `Vec<InputFile>`, sorted by path. Only in `main`.
    /// A directory stands for the files in it whose names start with neither `.` nor `_`.
    Listing {
        /// A file, a directory or a glob pattern; a URL likewise.
        pattern: String,
    },
    /// What some map partitions of `writer` wrote for `reducer`, in order of map partition.
    Blocks {
        /// A node of kind [`NodeKind::ShuffleWrite`], a [`Dependency::Blocks`] of the task's.
        writer: NodeId,
        /// The reduce partition.
        reducer: u32,
        /// Which map partitions.
        maps: MapRange,
    },
}

// === impl NodeKind ===

impl NodeKind {
    /// How many reducers its tasks write for; none if they write no shuffle.
    pub fn reducers(self) -> Option<u32> {
        match self {
            Self::Records => None,
            Self::ShuffleWrite { reducers } => Some(reducers),
            Self::Kept { .. } => Some(1),
        }
    }
}

// === impl StorageLevel ===

impl StorageLevel {
    /// Whether an executor's memory is tried first.
    pub fn uses_memory(self) -> bool {
        !matches!(self, Self::Disk)
    }
}
