//! Every bound on what a peer or a guest can make a process hold, with the reason for its number.

use core::time::Duration;

/// Bytes of one frame on a control stream. A stage description of 10,000 map outputs takes
/// 300 KiB; anything larger travels on a data stream.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1 << 20;

/// Bytes of one frame on a data stream: one compressed block chunk, page run or result piece.
pub const DATA_FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes of one frame between a trusted process and its slot. A guest's largest single buffer
/// (result, shuffle chunk, standard output) is cut to [`LINK_CHUNK_BYTES`] before it gets here.
pub const LINK_FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes that one task may say with `update_write`; they travel in its report.
pub const UPDATES_BYTES_MAX: usize = 64 << 10;

/// How much of a stream or buffer crosses the link in one frame.
pub const LINK_CHUNK_BYTES: usize = 256 << 10;

/// Descriptors that may come with one frame of the link.
pub const LINK_DESCRIPTORS_MAX: usize = 16;

/// Uncompressed bytes of one shuffle chunk: large enough for lz4, small enough for a core's cache.
pub const SHUFFLE_CHUNK_BYTES: usize = 256 << 10;

/// Bytes of a module as submitted.
pub const MODULE_BYTES_MAX: u64 = 32 << 20;

/// Bytes of a message that a guest attaches to a failure; the rest is cut with a mark.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// A result of at most this size travels inside the report of its task.
pub const INLINE_RESULT_BYTES_MAX: usize = 32 << 10;

/// Partitions of one node: a description per partition must fit the driver's memory.
pub const PARTITIONS_MAX: u32 = 1 << 20;

/// Nodes that one driver may have registered at a time.
pub const NODES_MAX: usize = 1 << 16;

/// Dependencies of one node (`union` has one a parent).
pub const DEPENDENCIES_MAX: usize = 4096;

/// Bytes of a name or source location that a guest gives to a node.
pub const NODE_NAME_BYTES_MAX: usize = 256;

/// Arguments and environment of an application, together.
pub const ARGUMENTS_BYTES_MAX: usize = 256 << 10;

/// Snapshots of one application that may be alive at once; one more `submit()` waits.
pub const SNAPSHOTS_LIVE_MAX: usize = 16;

/// Bytes of WebAssembly page.
pub const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Bytes of a page of the machine, the unit of dirty tracking.
pub const PAGE_BYTES: usize = 4096;

/// Handshakes and first frames that take longer are cut.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Executors or machines that may keep a block of a kept dataset: the loss of one loses nothing,
/// and a third copy has nobody to pay for it.
pub const REPLICAS_MAX: u32 = 2;
