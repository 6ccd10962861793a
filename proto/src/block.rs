//! Shuffle blocks: how they lie in files and how they are fetched from a worker.
//!
//! A map attempt leaves `<map>-<attempt>.data` and `<map>-<attempt>.index`. The data file is a
//! sequence of chunks, those of one reducer together; the index says where each reducer's chunks
//! are. A chunk is a header of [`CHUNK_HEADER_BYTES`] and a body:
//!
//! ```text
//! u32 raw length | u32 body length (top bit: lz4 block) | u32 CRC-32 of the body | body
//! ```
//!
//! A block that is to be kept in memory is *flat*: the bodies of its chunks, as they are, come
//! first, one after the other, and their headers behind them. Its extents are those of a header and
//! a body in turn, so that whoever follows them reads the same chunks.

use crate::id::{AppId, AttemptId, NodeId, Partition};
use serde::{Deserialize, Serialize};

/// Bytes before the body of a chunk.
pub const CHUNK_HEADER_BYTES: usize = 12;

/// Set in a chunk's body length when the body is an lz4 block.
pub const CHUNK_COMPRESSED: u32 = 1 << 31;

/// What an index file starts with: name and version of the format.
pub const INDEX_MAGIC: [u8; 8] = *b"offidx\x00\x01";

/// Where a part of a reducer's chunks lies in a data file. All of them in order are whole chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// The index of one map attempt: for each reducer its extents, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShuffleIndex {
    /// By reducer.
    pub reducers: Vec<Vec<Extent>>,
    /// Length of the data file.
    pub data_bytes: u64,
}

/// The first frame of a stream that an executor opens on its data connection to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchBlocks {
    /// The application; must be that of the executor's certificate.
    pub app: AppId,
    /// The shuffle.
    pub writer: NodeId,
    /// The reduce partition.
    pub reducer: u32,
    /// Whose output, ascending.
    pub maps: Vec<(Partition, AttemptId)>,
}

/// The answer: for each map in order `Chunk`s and then `End`, or `Failed`, which ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockFrame {
    /// One or more whole chunks as they lie in the file.
    Chunks(#[serde(with = "crate::raw_bytes")] Vec<u8>),
    /// All chunks of this map have been sent.
    End {
        /// Which.
        map: Partition,
    },
    /// This map's output cannot be read.
    Failed {
        /// Which.
        map: Partition,
        /// Why.
        reason: String,
    },
}
