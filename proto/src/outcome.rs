//! How an attempt ended, as a value from slot to scheduler. Nothing here is a string to be parsed.

use crate::id::{AttemptId, ExecutorId, NodeId, Partition, WorkerId};
use core::fmt;
use serde::{Deserialize, Serialize};

/// What one attempt of a task reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Time from the fork to the end of the task, in nanoseconds.
    pub run_nanos: u64,
    /// How it ended.
    pub outcome: TaskOutcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskOutcome {
    /// It computed its partition.
    Done(TaskDone),
    /// It did not.
    Failed(TaskFailure),
}

/// What a successful attempt left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDone {
    /// CRC-32 over everything that the task wrote: every attempt of a partition has the same.
    pub digest: u32,
    /// What it returned.
    pub result: ResultPlace,
    /// What it staged, if its job has an output.
    pub staged: Option<StagedPart>,
    /// Bytes that it wrote to its shuffle files, compressed.
    pub shuffle_bytes: u64,
    /// What it said with `update_write`, for `main`.
    #[serde(with = "crate::raw_bytes")]
    pub updates: Vec<u8>,
    /// Whether what it wrote is in the memory of its executor, and not in a file of the worker.
    pub in_memory: bool,
}

/// Where a result is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResultPlace {
    /// Here.
    Inline(#[serde(with = "crate::raw_bytes")] Vec<u8>),
    /// With the executor, until it is asked for on a data stream or dropped.
    Held {
        /// Length in bytes.
        length: u64,
    },
}

/// A part of an output that waits to be committed by the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedPart {
    /// Absolute path of the staged file; of an upload, the URL of the object that it will be.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// CRC-32 of the whole file.
    pub checksum: u32,
    /// What has been uploaded, if the output is not a directory.
    pub upload: Option<StagedUpload>,
}

/// A multipart upload that is whole and not completed: nobody can see it until the driver
/// completes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedUpload {
    /// The store's name for it.
    pub id: String,
    /// The store's names for its parts, in order.
    pub parts: Vec<String>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskFailure {
    /// The guest panicked, or called `task_fail` otherwise.
    Panic {
        /// Message with file and line.
        message: String,
    },
    /// The guest trapped.
    Trap {
        /// wasmtime's name of the trap, with the guest's frames.
        message: String,
    },
    /// The guest called `exit`.
    Exit {
        /// With this.
        code: i32,
    },
    /// The guest asked for more memory than its job allows.
    OutOfMemory {
        /// Bytes that it would have had.
        asked: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// A block of a shuffle could not be read.
    FetchFailed {
        /// The shuffle's writer.
        writer: NodeId,
        /// Whose output.
        map: Partition,
        /// The attempt that wrote it.
        map_attempt: AttemptId,
        /// Where it was said to be.
        worker: WorkerId,
        /// In the memory of which executor there, if not in a file.
        executor: Option<ExecutorId>,
        /// What happened.
        reason: String,
    },
    /// An input is not what the driver listed, or cannot be read.
    Input {
        /// Path, and both values where there are two.
        message: String,
    },
    /// The host could not do its part: disk full, no memory, a descriptor that failed.
    Host {
        /// What, where, and the system's word for it.
        message: String,
    },
    /// The guest broke the ABI.
    GuestAbi {
        /// The call and the argument.
        message: String,
    },
    /// The result is larger than `max-result-size`.
    ResultTooLarge {
        /// Bytes so far.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// The slot process ended while the task ran.
    SlotCrashed {
        /// Exit status or signal.
        message: String,
    },
    /// The executor ended or was cut off while the task was with it. Not counted against the task.
    ExecutorLost {
        /// What is known of it.
        message: String,
    },
    /// The attempt was killed because nobody needs it any more. Not counted against the task.
    Killed,
    /// The guest wrote more to disk than its job allows.
    DiskLimit {
        /// Bytes that it would have written.
        asked: u64,
        /// `task-disk-max`.
        limit: u64,
    },
    /// The guest may have the memory, but its executor has none left.
    NoMemory {
        /// Who has it.
        message: String,
        /// Whether it would be there if no other task were: then this one goes when others have
        /// ended.
        others: bool,
    },
}

/// How a failure counts (`ARCHITECTURE.md`, failure model).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The guest's own: the same bytes would fail again, so it is tried once more, elsewhere.
    Guest,
    /// Could differ next time: counts against `task-max-failures`.
    Transient,
    /// A lost block: the map stage runs again, the task does not count.
    Fetch,
    /// A crash of the process around the task: counted apart.
    Crash,
    /// Nobody's fault: does not count.
    Innocent,
}

// === impl ResultPlace ===

impl Default for ResultPlace {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

impl ResultPlace {
    /// Length of the result in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Held { length } => *length,
        }
    }
}

// === impl TaskFailure ===

impl TaskFailure {
    /// How it counts.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Panic { .. }
            | Self::Trap { .. }
            | Self::Exit { .. }
            | Self::OutOfMemory { .. }
            | Self::GuestAbi { .. }
            | Self::ResultTooLarge { .. }
            | Self::DiskLimit { .. } => FailureClass::Guest,
            Self::NoMemory { others: true, .. } => FailureClass::Innocent,
            Self::Input { .. } | Self::Host { .. } | Self::NoMemory { .. } => {
                FailureClass::Transient
            }
            Self::FetchFailed { .. } => FailureClass::Fetch,
            Self::SlotCrashed { .. } => FailureClass::Crash,
            Self::ExecutorLost { .. } | Self::Killed => FailureClass::Innocent,
        }
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap { message } => write!(f, "trapped: {message}"),
            Self::Exit { code } => write!(
                f,
                "task called exit({code}); only main may end the application, a task returns \
                 or panics"
            ),
            Self::OutOfMemory { asked, limit } => write!(
                f,
                "out of memory: asked for {asked} bytes, limit {limit} (raise it with --conf \
                 task-memory=SIZE, or use more partitions)"
            ),
            Self::FetchFailed { writer, map, worker, reason, .. } => write!(
                f,
                "could not fetch the output of map partition {map} of shuffle {writer} from \
                 worker {worker}: {reason}"
            ),
            Self::Panic { message }
            | Self::Input { message }
            | Self::Host { message }
            | Self::GuestAbi { message }
            | Self::SlotCrashed { message }
            | Self::NoMemory { message, .. }
            | Self::ExecutorLost { message } => f.write_str(message),
            Self::ResultTooLarge { length, limit } => write!(
                f,
                "result too large: {length} bytes, limit {limit} (raise it with --conf \
                 max-result-size=SIZE, or save the dataset instead of collecting it)"
            ),
            Self::DiskLimit { asked, limit } => write!(
                f,
                "wrote too much to disk: {asked} bytes of runs, shuffle data and output, limit \
                 {limit} (raise it with --conf task-disk-max=SIZE, or use more partitions)"
            ),
            Self::Killed => f.write_str("killed, because its job no longer needs it"),
        }
    }
}
