//! Between a slot process and the trusted process that owns it, over a socket pair.
//!
//! ```text
//!  owner                                slot
//!    │ Start + module descriptor          │
//!    │ ─────────────────────────────────► │
//!    │            Ready                   │
//!    │ ◄───────────────────────────────── │
//!    │ Fork, Stage, Run                   │   (executor's slot)
//!    │ ─────────────────────────────────► │
//!    │   Request ◄──────► Reply + fds     │   (one at a time; the guest stands still)
//!    │            Reports                 │
//!    │ ◄───────────────────────────────── │
//! ```
//!
//! A frame is [`HEADER_BYTES`]: payload length and descriptor count, each a little-endian `u32`,
//! then postcard. **All that a slot says is as untrusted as its guest.**

use crate::abi::{InputFile, JobSpec, MapRange, NodeSpec};
use crate::block::{Extent, ShuffleIndex};
use crate::id::{AttemptId, JobId, NodeId, Partition, SnapshotId, StageRunId};
use crate::outcome::{TaskFailure, TaskReport};
use crate::snapshot::{PageRun, SnapshotHeader};
use serde::{Deserialize, Serialize};

/// Bytes before the payload of a frame.
pub const HEADER_BYTES: usize = 8;

/// From the owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToSlot {
    /// The first frame; two descriptors, the compiled module and its description. A driver's has
    /// a third, an empty memory file, which becomes the first snapshot.
    Start(SlotStart),
    /// Make the memory that tasks start from that of another snapshot. One descriptor for each
    /// distinct [`PageSource::Descriptor`], in order of their numbers.
    Fork(ForkImage),
    /// Tasks of this stage may follow.
    Stage(SlotStage),
    /// No more tasks of this stage follow.
    DropStage(StageRunId),
    /// Run these, in order, and report.
    Run {
        /// The stage, sent before.
        stage: StageRunId,
        /// What to run.
        tasks: Vec<(AttemptId, Partition)>,
    },
    /// The answer to the [`Request`] that the slot waits on.
    Reply(Reply),
}

/// How a slot starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotStart {
    /// Driver or executor.
    pub role: SlotRole,
    /// Arguments of `main`, the program's name first.
    pub arguments: Vec<String>,
    /// Environment, as granted.
    pub environment: Vec<(String, String)>,
    /// Guest paths of the directories that appear as preopened descriptors, with whether they
    /// may be written.
    pub preopens: Vec<(String, bool)>,
    /// Bytes that linear memory may have: for a driver in all, for a task beyond its snapshot.
    pub memory_bytes_max: u64,
    /// Bytes that one result may have.
    pub result_bytes_max: u64,
    /// Bytes that one task may write to disk. A driver writes to what is granted, without limit.
    pub disk_bytes_max: u64,
}

/// Whose guest it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotRole {
    /// `main`, once.
    Driver,
    /// Tasks, until the socket closes.
    Tasks,
}

/// A change of the memory that tasks start from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForkImage {
    /// What it becomes. Its `runs` are those of `changes`.
    pub header: SnapshotHeader,
    /// Whether to start from nothing (descriptor 0 is mapped whole) or from what is there.
    pub base: bool,
    /// Pages that differ from what is there, ascending.
    pub changes: Vec<PageChange>,
}

/// Where changed pages come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageChange {
    /// Which pages.
    pub run: PageRun,
    /// Where their bytes are.
    pub source: PageSource,
}

/// Where the bytes of a page run are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PageSource {
    /// In this frame.
    Inline(#[serde(with = "crate::raw_bytes")] Vec<u8>),
    /// In a descriptor that came with this frame.
    Descriptor {
        /// Which, counted from 0.
        index: u32,
        /// First byte, a multiple of the page size.
        offset: u64,
    },
}

/// What a slot must know of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStage {
    /// Its id.
    pub id: StageRunId,
    /// The snapshot that must be mapped while its tasks run.
    pub snapshot: SnapshotId,
    /// The node that its tasks compute.
    pub node: NodeId,
    /// Reduce partitions, if its tasks write a shuffle.
    pub reducers: Option<u32>,
    /// Whether its tasks write an output.
    pub output: bool,
    /// Whether what its tasks write is compressed: not what is kept in memory.
    pub packed: bool,
}

/// From the slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromSlot {
    /// The module is loaded.
    Ready,
    /// Ended attempts, in the order in which they ran.
    Reports(Vec<SlotReport>),
    /// The guest stands still until the [`Reply`].
    Request(Request),
    /// A piece of the running attempt's result; pieces precede its report.
    ResultPiece(#[serde(with = "crate::raw_bytes")] Vec<u8>),
    /// What the guest wrote to standard output or error.
    Output {
        /// 1 or 2.
        stream: u8,
        /// Bytes, any.
        #[serde(with = "crate::raw_bytes")]
        bytes: Vec<u8>,
    },
    /// `main` ended; the driver's slot exits after this frame.
    MainEnded(MainEnd),
}

/// What a slot says of an ended attempt. Shuffle and output files are committed by the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotReport {
    /// The report as the driver will see it, without what the owner adds.
    pub report: TaskReport,
    /// Where the chunks of each reducer lie in the shuffle file.
    pub shuffle: Option<ShuffleIndex>,
    /// Length and CRC-32 of the staged output.
    pub staged: Option<(u64, u32)>,
    /// Bytes of runs that it spilled.
    pub spilled_bytes: u64,
    /// Pages that were writable at its end: what the fork cost, for the metrics.
    pub pages_written: u32,
    /// How many forks the slot had made by then. Every attempt is one.
    pub forks: u64,
}

/// How `main` ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MainEnd {
    /// Returned, or called `exit`.
    Exit {
        /// With this.
        code: i32,
    },
    /// Panicked, trapped, or ran out of memory.
    Failed(TaskFailure),
}

/// What a guest needs from the trusted side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    // -- a driver's
    /// `node_register`. Not answered: an error is that of the next job.
    RegisterNode(NodeSpec),
    /// `node_drop`. Not answered.
    DropNode(NodeId),
    /// `job_submit`. Not answered: jobs are numbered from 0 in the order of these frames, and an
    /// error comes with the results. The pages of the first snapshot are in the memory descriptor
    /// of [`ToSlot::Start`], at their own offsets. Changed pages of a later one come one after the
    /// other: in a descriptor if there is one, else in `pages`.
    SubmitJob {
        /// The job.
        job: JobSpec,
        /// The snapshot that it runs on; `id` is the one after the last.
        snapshot: SnapshotHeader,
        /// Changed pages.
        #[serde(with = "crate::raw_bytes")]
        pages: Vec<u8>,
    },
    /// `job_results`: at most this many bytes of pieces with headers.
    JobResults {
        /// The job.
        job: JobId,
        /// Room in the guest's buffer.
        capacity: u32,
    },
    /// `job_drop`. Not answered.
    DropJob(JobId),
    /// `stream_open` of a listing.
    ListInputs {
        /// A file, a directory or a glob pattern.
        pattern: String,
    },
    /// `parallelism`.
    Parallelism,
    // -- a task's
    /// `stream_open` of a file; answered with its descriptor, or, if it is no file of this machine,
    /// with the number of a stream of the bytes from `offset` on.
    OpenInput {
        /// The file as it was listed.
        file: InputFile,
        /// First byte that is wanted.
        offset: u64,
    },
    /// More of the stream that `OpenInput` opened; answered by [`Reply::Input`].
    PullInput {
        /// From the reply to `OpenInput`.
        stream: u32,
    },
    /// The stream is not needed any more. Not answered.
    CloseInput {
        /// From the reply to `OpenInput`.
        stream: u32,
    },
    /// `stream_open` of a shuffle.
    OpenShuffle {
        /// The running attempt.
        attempt: AttemptId,
        /// The shuffle's writer.
        writer: NodeId,
        /// The reduce partition.
        reducer: u32,
        /// Which map partitions; none for all.
        maps: Option<MapRange>,
    },
    /// More of the stream that `OpenShuffle` opened; answered by [`Reply::Blocks`] or its like.
    PullShuffle {
        /// From the reply to `OpenShuffle`.
        stream: u32,
    },
    /// The stream is not needed any more. Not answered.
    CloseShuffle {
        /// From the reply to `OpenShuffle`.
        stream: u32,
    },
    /// A file to write shuffle data to; answered with its descriptor.
    OpenShuffleSink(AttemptId),
    /// A file to write the output to; answered with its descriptor.
    OpenOutputSink(AttemptId, Partition),
    /// A file to write and read back one run; answered with its descriptor.
    OpenSpill(AttemptId),
    // -- either's
    /// A path operation of preview-1.
    Path(PathRequest),
    // -- a driver's again: later than the others
    /// `updates_read`: at most this many bytes of accepted updates.
    Updates {
        /// Room in the guest's buffer.
        capacity: u32,
    },
    /// A task's again: to write more to its files; answered with the number of KiB.
    Disk {
        /// The running attempt.
        attempt: AttemptId,
        /// How many bytes more at least.
        bytes: u64,
    },
    /// To have so many bytes of the executor's memory beyond the snapshot; answered with
    /// [`Reply::Ok`] when it may.
    Memory {
        /// How many in all.
        bytes: u64,
    },
    /// They are not needed any more. Not answered.
    GiveBackMemory,
    // -- a driver's again
    /// `job_pool`: the pool of the jobs that are submitted from now on. Not answered: a name that
    /// is none is the error of the next job.
    JobPool {
        /// Empty for the default one.
        name: String,
    },
    // -- a task's again
    /// `block_map`; answered with [`Reply::Flat`], or with [`Reply::Ok`] if the block must be read.
    MapBlock {
        /// The running attempt.
        attempt: AttemptId,
        /// The kept dataset's writer.
        writer: NodeId,
        /// The map partition.
        map: Partition,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Ok,
    /// A number: a job, a stream, cores, KiB.
    Number(u32),
    /// One descriptor comes with this frame.
    Descriptor,
    /// Results of the job, or updates.
    Results {
        /// Pieces with headers for the guest's buffer; empty at the end of the job.
        #[serde(with = "crate::raw_bytes")]
        bytes: Vec<u8>,
        /// Whether these are the last ones.
        last: bool,
    },
    /// The files of a listing.
    Inputs(Vec<InputFile>),
    /// The next blocks lie in files: one descriptor for each entry.
    BlockFiles(Vec<BlockFile>),
    /// The next blocks: whole chunks with headers, checked by the owner.
    Blocks(#[serde(with = "crate::raw_bytes")] Vec<u8>),
    /// Every map partition has been read.
    BlocksEnd,
    /// The next bytes of an input; none at its end.
    Input(#[serde(with = "crate::raw_bytes")] Vec<u8>),
    /// The answer to a path operation.
    Path(PathReply),
    /// It failed: a code of the ABI and a sentence.
    Error {
        /// A value of [`crate::abi::code`].
        code: i32,
        /// For `error_text`.
        message: String,
    },
    /// It failed in a way that ends the attempt with this.
    Failed(TaskFailure),
    /// What was written is the beginning of the memory file that comes with this frame, checked by
    /// the owner.
    Flat {
        /// How much of it.
        bytes: u64,
    },
}

/// Blocks of one map partition in a file of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockFile {
    /// Whose output, for the failure that a bad checksum makes.
    pub failure: TaskFailure,
    /// Where the chunks lie.
    pub extents: Vec<Extent>,
}

/// A path operation of preview-1, relative to a preopened directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRequest {
    /// Index into [`SlotStart::preopens`].
    pub preopen: u32,
    /// Path beneath it as the guest gave it, at most 4 KiB; never trusted.
    pub path: String,
    /// What to do.
    pub operation: PathOperation,
}

/// What to do with a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathOperation {
    /// `path_open`.
    Open {
        /// Read.
        read: bool,
        /// Write.
        write: bool,
        /// Create it if it is missing.
        create: bool,
        /// Fail if it is there.
        exclusive: bool,
        /// Cut it to nothing.
        truncate: bool,
        /// Append.
        append: bool,
        /// It must be a directory.
        directory: bool,
        /// Follow a link in the last component.
        follow: bool,
    },
    /// `path_filestat_get`.
    Stat {
        /// Follow a link in the last component.
        follow: bool,
    },
    /// The entries of a directory, for `fd_readdir`.
    List,
    /// `path_create_directory`.
    CreateDirectory,
    /// `path_unlink_file`.
    RemoveFile,
    /// `path_remove_directory`.
    RemoveDirectory,
    /// `path_rename`.
    Rename {
        /// The other preopen.
        to_preopen: u32,
        /// The other path.
        to_path: String,
    },
    /// `path_readlink`.
    ReadLink,
    /// `path_filestat_set_times`, in nanoseconds since 1970; none leaves it as it is.
    SetTimes {
        /// Access.
        accessed_nanos: Option<u64>,
        /// Modification.
        modified_nanos: Option<u64>,
    },
}

/// The answer to a path operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathReply {
    /// Done.
    Done,
    /// One descriptor comes with this frame.
    Opened(PathStat),
    /// What is there.
    Stat(PathStat),
    /// Names, sorted, without `.` and `..`.
    Entries(Vec<(String, PathStat)>),
    /// Where the link points.
    Link(String),
    /// It failed with this preview-1 error number.
    Errno {
        /// A value of preview-1's `errno`.
        errno: u16,
        /// For the log and the guest's error text: which flag would allow it, and so on.
        message: String,
    },
}

/// What preview-1's `filestat` needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// Number of the file.
    pub inode: u64,
    /// Kind of the file.
    pub kind: PathKind,
    /// Links to it.
    pub links: u64,
    /// Length in bytes.
    pub length: u64,
    /// Access, nanoseconds since 1970.
    pub accessed_nanos: u64,
    /// Modification, nanoseconds since 1970.
    pub modified_nanos: u64,
    /// Change, nanoseconds since 1970.
    pub changed_nanos: u64,
}

/// What a path names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathKind {
    /// Something else.
    #[default]
    Other,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
}
